"""Groups that are read instead of subscribed to, for servers that cannot do better.

A fixed rate: a cycle that comes too late is skipped and counted, never made up for. Only what changed becomes
a sample. Between two readings nobody looks, so a pulse shorter than the interval may be missed; that is why
this is not the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from asyncua import ua

from connectors.base import Clock, Link
from connectors.errors import ConnectionLost
from connectors.opcua.datatypes import learn_picked
from connectors.opcua.feed import Feed
from connectors.opcua.losses import Losses
from connectors.opcua.picks import Picks
from connectors.opcua.plan import Item, PollPlan
from connectors.opcua.quality import MEANING, name_of
from connectors.opcua.resolve import resolve
from connectors.opcua.session import Session
from connectors.opcua.values import bad_sample
from connectors.standstill import STANDSTILL_S_MAX
from statemodel.types import Quality, TagSample, TagValue

#: Nodes that cannot be read are looked for again this often, in seconds.
LOOK_AGAIN_S = 30.0
#: Results of one node that people have to see to: unknown, not readable, not for this user.
_REFUSALS = frozenset({0x8033_0000, 0x8034_0000, 0x8035_0000, 0x803A_0000, 0x801F_0000})
_REFUSED = "configuration_error"


class Refuse(Protocol):
    """Who tells people of tags the server will not serve."""

    def __call__(self, reasons: Mapping[str, str]) -> None:
        """Reasons by tag; an empty one takes it back."""
        ...


class Poller:
    """Reads one group for ever."""

    def __init__(
        self,
        plan: PollPlan,
        session: Session,
        feed: Feed,
        link: Link,
        clock: Clock,
        losses: Losses,
        picks: Picks,
        refuse: Refuse,
    ) -> None:
        self._plan = plan
        self._session = session
        self._feed = feed
        self._link = link
        self._clock = clock
        self._losses = losses
        self._picks = picks
        self._refuse = refuse
        self._nodes: dict[Item, ua.NodeId] = {}
        self._refused: dict[str, str] = {}
        self._told: dict[str, tuple[TagValue, Quality, str]] = {}

    async def run(self) -> None:
        """Read, pass on what changed, wait for the next cycle.

        Raises:
            ConnectionLost: the connection is gone.
        """
        interval_s = self._plan.interval_s
        await self._find(self._plan.items)
        due_s = look_s = self._clock.monotonic()
        skipped = 0
        while True:
            started_s = self._clock.monotonic()
            if started_s - look_s >= LOOK_AGAIN_S:
                look_s = started_s
                await self._find([item for item in self._plan.items if item not in self._nodes])
            try:
                await self._read()
            except ConnectionLost as lost:
                # One late answer is no loss yet: silence is counted elsewhere, in one place.
                if not isinstance(lost.__cause__, TimeoutError):
                    raise
                skipped += 1
            now_s = self._clock.monotonic()
            self._link.cycle(self._plan.group, now_s - started_s, started_s - due_s, skipped)
            due_s += interval_s
            skipped = max(0, int((now_s - due_s) // interval_s))
            due_s += skipped * interval_s
            await self._clock.sleep(max(0.0, due_s - now_s))
            self._admit(now_s, due_s)

    def _admit(self, before_s: float, due_s: float) -> None:
        """Say so when this process stood still and nobody looked."""
        away_s = self._clock.monotonic() - max(before_s, due_s)
        if away_s > STANDSTILL_S_MAX:
            self._losses.not_read(self._plan.group, away_s)

    async def _find(self, items: list[Item] | tuple[Item, ...]) -> None:
        if not items:
            return
        resolved = await resolve(self._session, items)
        found = {one.item: one.node for one in resolved if one.node is not None}
        await learn_picked(self._session, self._picks, ((item.handle, node) for item, node in found.items()))
        self._nodes.update(found)
        now = self._clock.now()
        lost = {one.item.tag: one.reason for one in resolved if one.node is None}
        self._say_refused(lost)
        await self._pass_on([bad_sample(tag, _REFUSED, now) for tag in lost])

    async def _read(self) -> None:
        items = [item for item in self._plan.items if item in self._nodes]
        data = await self._session.read([self._nodes[item] for item in items])
        now = self._clock.now()
        self._feed.heard(now)
        samples: list[TagSample] = []
        refused: dict[str, str] = {}
        for item, reading in zip(items, data, strict=True):
            if reading.code & MEANING in _REFUSALS:
                refused[item.tag] = f"{name_of(reading.code)} at {self._nodes[item].to_string()}"
                samples.append(bad_sample(item.tag, _REFUSED, now))
            else:
                if item.tag in self._refused:
                    refused[item.tag] = ""
                samples.append(self._picks.sample(item.handle, item.tag, reading, now))
        self._say_refused(refused)
        await self._pass_on(samples)

    def _say_refused(self, reasons: Mapping[str, str]) -> None:
        news = {tag: reason for tag, reason in reasons.items() if self._refused.get(tag, "") != reason}
        for tag, reason in news.items():
            if reason:
                self._refused[tag] = reason
            else:
                del self._refused[tag]
        self._refuse(news)

    async def _pass_on(self, samples: list[TagSample]) -> None:
        """Pass on what differs from what was told last; the same value of another type differs too."""
        changed: list[TagSample] = []
        for sample in samples:
            told = self._told.get(sample.tag)
            news = sample.value, sample.quality, sample.substatus
            if told != news or type(told[0]) is not type(news[0]):
                self._told[sample.tag] = news
                changed.append(sample)
        if changed:
            await self._feed.pass_on(changed)
