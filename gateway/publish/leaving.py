"""Clearing what has left the configuration: retained topics of equipment, tags and connections that are gone,
or that are said elsewhere now.

After every connect what is remembered of this broker (`holdings`) is held against what is configured. What is
left over is looked at before it is cleared, with a second connection: only what is certainly ours goes
(`ownership`), the state of an equipment last, because it is what the rest is known by. What is not there any
more is forgotten. A crash in between leaves something to look at again, and nothing that is not remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import structlog

from connectors.base import Clock
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.link import Link
from gateway.publish.holdings import Held, Holdings
from gateway.publish.ownership import Ownership
from gateway.publish.voice import Voice

#: Gives what a broker has retained on some topics.
Read = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]

#: Topics looked at at once.
LOOK_MAX = 300
#: Pause before the next try when the broker does not give what it holds, in seconds: doubled up to the other.
AGAIN_S, AGAIN_S_MAX = 5.0, 600.0

log = structlog.get_logger(__name__)


class Leaving:
    """What one broker still holds of what is gone. `unproven` are topics that may be ours or another's."""

    def __init__(
        self, voice: Voice, holdings: Holdings, ownership: Ownership | None, read: Read, clock: Clock
    ) -> None:
        self._voice, self._holdings, self._ownership = voice, holdings, ownership
        self._read, self._clock = read, clock
        self.unproven: tuple[str, ...] = ()
        self._told: frozenset[str] = frozenset()

    def left(self) -> dict[str, Held]:
        """What is remembered and no longer configured."""
        own, kept = self._voice.held, self._voice.elsewhere
        remembered = self._holdings.topics.items()
        return {topic: held for topic, held in remembered if topic not in own and topic not in kept}

    async def clear(self, link: Link) -> None:
        """Clear what is left over and certainly ours. Returns when there is nothing more to be done.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over.
        """
        pause_s = AGAIN_S
        await link.taken()  # so that the broker holds what shows whether it lets us look
        while self._ownership is not None and (left := self.left()):
            try:
                held = await self._look_twice(list(left))
            except SinkRefused as refused:
                self._tell_unread(
                    left, f"{refused.reason}; {refused.hint}" if refused.hint else refused.reason
                )
                return
            except SinkUnavailable as away:
                log.debug("what is left over could not be looked at", reason=away.reason)
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_S_MAX)
                continue
            if held is None:
                self._tell_unread(left, "the broker does not give this client what it has retained")
                return
            await self._holdings.forget(topic for topic in left if topic not in held)
            ours = await self._ours(self._ownership, left, held)
            await self._clear(link, ours)
            self._tell([topic for topic in left if topic in held and topic not in ours], ours)
            return

    async def _look_twice(self, left: Sequence[str]) -> Mapping[str, bytes] | None:
        """The same as `_look`; what a slow broker did not give in time is asked for once more."""
        held = await self._look(left)
        if held is None:
            held = await self._look(left)
        missing = [topic for topic in left if held is not None and topic not in held]
        more = await self._look(missing) if missing else {}
        if held is None or (more is None and self._probe):
            return None
        return {**held, **(more or {})}

    @property
    def _probe(self) -> str:
        """A topic of our own that is certainly retained now; empty where nothing is any more."""
        states = (topic for topic, it in self._voice.held.items() if it.kind == "state")
        return self._voice.topics.status if self._voice.kinds.status.retain else next(states, "")

    async def _look(self, left: Sequence[str]) -> Mapping[str, bytes] | None:
        """What the broker holds there; None where it lets nobody see, which a topic of our own shows.

        Where nothing of our own is retained any more, whatever is found shows that we may look.
        """
        own, held, probe = self._voice.held, dict[str, bytes](), self._probe
        for at in range(0, len(left), LOOK_MAX):
            found = await self._read([*([probe] if probe else ()), *left[at : at + LOOK_MAX]])
            if probe and probe not in found:
                return None
            held.update(found)
        if not probe and not held:
            return None
        return {topic: payload for topic, payload in held.items() if topic not in own}

    async def _ours(
        self, ownership: Ownership, left: Mapping[str, Held], held: Mapping[str, bytes]
    ) -> list[str]:
        """The topics that are certainly ours, states last."""
        paths = {held.path for held in self._voice.held.values() if held.kind == "state"}
        anchors = {held.path: topic for topic, held in left.items() if held.kind == "state"}
        judged: dict[str, bool | None] = {}

        async def owns_path(path: str) -> bool:
            if path in paths:
                return True
            topic = anchors.get(path)
            return topic is not None and topic in held and await judge(topic) is True

        async def judge(topic: str) -> bool | None:
            if topic not in judged:
                judged[topic] = await ownership.proof(topic, left[topic], held[topic], owns_path=owns_path)
            return judged[topic]

        ours = [topic for topic in left if topic in held and await judge(topic)]
        return sorted(ours, key=lambda topic: left[topic].kind == "state")

    async def _clear(self, link: Link, topics: Sequence[str]) -> None:
        waiting, cleared, done = set(topics), set[str](), asyncio.Event()

        def over(topic: str, *, gone: bool) -> None:
            waiting.discard(topic)
            if gone:
                cleared.add(topic)
            if not waiting:
                done.set()

        for topic in topics:
            if link.full:
                await link.room()
            if not self._voice.clear(
                link, topic, partial(over, topic, gone=True), partial(over, topic, gone=False)
            ):
                over(topic, gone=False)
        if topics:
            await done.wait()
            await self._holdings.forget(cleared)

    def _tell(self, unproven: Sequence[str], cleared: Sequence[str]) -> None:
        if cleared:
            log.info("retained topics of what is gone were cleared", topics=len(cleared), first=cleared[0])
        self.unproven = tuple(unproven)
        if unproven and frozenset(unproven) != self._told:
            log.warning(
                "retained topics of what is gone may be another gateway's by now; they are left alone",
                topics=len(unproven),
                first=unproven[0],
                hint="clear them by hand if nobody publishes them: publish an empty retained message",
            )
            self._told = frozenset(unproven)

    def _tell_unread(self, left: Mapping[str, Held], reason: str) -> None:
        self.unproven = tuple(left)
        if frozenset(left) != self._told:
            log.warning(
                "retained topics of what is gone are not cleared: they cannot be looked at before",
                topics=len(left),
                first=next(iter(left)),
                reason=reason,
                hint="let this client read its topics in the broker's access rules, or clear them by hand",
            )
            self._told = frozenset(left)
