"""From the journal to the broker: states that are true, events that all arrive.

After every connect: `online`, then the current state of all equipment (whatever the broker kept or lost),
then the events the broker has not acknowledged yet, in order, to event topics only. The journal's cursor
moves over an event when its acknowledgement and those of all before it have arrived, so an event can come
twice (same id) but never be missing. For the same reason, what a lost broker acknowledged in its last
moments is said again. Knows nothing of MQTT packets (`mqtt`) nor of where states come from.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from connectors.base import Clock
from gateway.config.schema import GatewaySettings, MqttSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.journal.values import Cursor
from gateway.mqtt.link import Link, Will, listens
from gateway.mqtt.options import LinkOptions, link_options
from gateway.mqtt.properties import pack
from gateway.mqtt.reasons import OWN_ID, PROBABLY_TAKEN, ClosedByBroker, TakenOver
from gateway.mqtt.retry import Failure, Retry
from gateway.publish import payloads
from gateway.publish.order import Acknowledged, Lately, Newest
from gateway.publish.source import EventSource
from gateway.publish.status import SinkStatus
from gateway.publish.topics import Place, Topics
from statemodel.records import EquipmentState, Recorded, state_after
from statemodel.types import TagSample, Transition

#: Name of this sink's cursor in the journal.
SINK = "mqtt"

#: Most events in memory at once.
READ_MAX = 256

#: Least time between two writes of the cursor, in seconds.
SAVE_EVERY_S = 0.25

#: How long a connection has to last after an acknowledgement for that to count for ever, in seconds: a broker
#: that dies may have acknowledged events without having passed them on. They are said again.
REPEAT_S = 2.0

#: Longest wait for acknowledgements when leaving, in seconds.
STOP_S = 3.0

#: Marks news that is older than the connection (a user property, MQTT 5 only).
_LATE = pack(user=[("late", "true")])

#: A batch number no journal reaches: we wait for events only.
NEVER = sys.maxsize

#: Gives the journalled state an equipment is in now, or None while there is none.
StateOf = Callable[[], EquipmentState | None]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PublishedTag:
    """A tag with `publish = true`: its unit, and the paths of equipment bound to it (none: the site)."""

    unit: str = ""
    paths: tuple[str, ...] = ()


@dataclass
class _Counts:
    """Figures of the connections that are over."""

    sent: int = 0
    acknowledged: int = 0
    too_large: int = 0
    events: int = 0
    tags_merged: int = 0
    connects: int = 0


class MqttPublisher:
    """One broker, fed for ever.

    `equipment` maps names to path and current state, `tags` full tag ids to what is published of them.
    `embedded_port` is the port of the embedded broker where the settings ask for it.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        journal: EventSource,
        gateway: GatewaySettings,
        equipment: Mapping[str, tuple[str, StateOf]],
        clock: Clock,
        tags: Mapping[str, PublishedTag] | None = None,
        embedded_port: int | None = None,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self._options: LinkOptions = link_options(settings, gateway, embedded_port=embedded_port)
        self._topics = Topics(gateway.enterprise, gateway.site, gateway.id)
        self._journal = journal
        self._equipment = dict(equipment)
        self._tags = dict(tags or {})
        self._clock = clock
        self._random01 = random01
        self._retry = Retry()
        self._newest = Newest()
        self._acked = Acknowledged()
        self._saved_seq = 0
        self._lately = Lately(REPEAT_S, clock.monotonic(), 0)
        self._moved = asyncio.Event()
        #: Whether another gateway with our id is known to run: then it is the one that takes our place.
        self.twin_known: Callable[[], bool] = lambda: False
        self._link: Link | None = None
        self._last_error: str | None = None
        self._retry_at: datetime | None = None
        self._waiting_since: datetime | None = None
        self._latest: dict[str, TagSample] = {}
        self._tags_due: dict[str, TagSample] = {}
        self._tag_news = asyncio.Event()
        self._wanted: dict[str, bool] = {}
        self._wants = asyncio.Event()
        self._counts = _Counts()

    # --- for the rest of the gateway

    async def run(self) -> None:
        """Publish until cancelled; then leave cleanly: `offline`, and the cursor where the broker stands.

        Raises:
            GatewayError: the journal failed. Failures of the broker never end this.
        """
        self._journal.require(SINK, events=True, batches=False)
        self._saved_seq = (await self._journal.cursor(SINK)).seq
        self._acked = Acknowledged(self._saved_seq)
        self._lately = Lately(REPEAT_S, self._clock.monotonic(), self._saved_seq)
        await _together(self._keep_cursor(), self._stay_connected())

    def publish_tag(self, sample: TagSample) -> None:
        """Say the newest value of a tag as soon as there is room; tags that are not published are ignored.

        Bounded by the number of tags: a value that could not be sent yet makes way for a newer one.
        """
        if sample.tag not in self._tags:
            return
        self._counts.tags_merged += sample.tag in self._tags_due
        self._latest[sample.tag] = self._tags_due[sample.tag] = sample
        self._tag_news.set()

    @property
    def options(self) -> LinkOptions:
        """The broker and how it is spoken to."""
        return self._options

    @property
    def topics(self) -> Topics:
        """Where things are said."""
        return self._topics

    def own_topics(self) -> dict[str, str]:
        """Every retained topic this configuration has, and the equipment or tag it is about."""
        states = {self._topics.state(Place(name, path)): name for name, (path, _) in self._equipment.items()}
        tags = {topic: tag for tag in self._tags for topic in self._topics_of(tag)}
        return {self._topics.status: "", **states, **tags}

    def retained(self) -> dict[str, bytes]:
        """What the broker should hold now: each topic said on the present connection, or due there."""
        if self._link is None:
            return {}
        found = {self._topics.status: payloads.ONLINE}
        for name, (path, state_of) in self._equipment.items():
            if (state := state_of()) is not None:
                found[self._topics.state(Place(name, path))] = payloads.state(state)
        for tag, sample in self._latest.items():
            payload = payloads.tag(sample, self._tags[tag].unit)
            found.update(dict.fromkeys(self._topics_of(tag), payload))
        return found

    def say_again(self, topics: Iterable[str]) -> None:
        """Say the newest of these retained topics once more; what is not ours to say is ignored."""
        own = self.own_topics()
        self._wanted.update(dict.fromkeys((topic for topic in topics if topic in own), True))
        self._wants.set()

    def clear(self, topics: Iterable[str]) -> None:
        """Let the broker forget these retained topics; one that this configuration has is never cleared."""
        own = self.own_topics()
        self._wanted.update(dict.fromkeys((topic for topic in topics if topic not in own), False))
        self._wants.set()

    def status(self) -> SinkStatus:
        """How it goes, now. Cheap."""
        link, counts = self._link, self._counts
        lag = max(0, self._journal.position.last_seq - self._acked.seq)
        return SinkStatus(
            connected=link is not None,
            last_error=self._last_error,
            alarm=self._retry.alarm,
            retry_at=self._retry_at,
            lag_events=lag,
            oldest_unsent_at=(self._acked.oldest_at or self._waiting_since) if lag else None,
            in_flight=link.in_flight if link else 0,
            sent=counts.sent + (link.sent if link else 0),
            acknowledged=counts.acknowledged + (link.acknowledged if link else 0),
            events=counts.events,
            too_large=counts.too_large + (link.too_large if link else 0),
            tags_merged=counts.tags_merged,
            connects=counts.connects,
        )

    # --- connections

    async def _stay_connected(self) -> None:
        while True:
            since = self._clock.monotonic()
            connects = self._counts.connects
            try:
                await self._session()
            except (SinkUnavailable, SinkRefused) as failure:
                accepted = self._counts.connects > connects
                up_for_s = max(self._clock.monotonic() - since, 1e-9) if accepted else 0.0
                # A broker that closes and goes on listening meant us; one that died did not.
                meant = isinstance(failure, ClosedByBroker) and await listens(self._options)
                if meant and self.twin_known():
                    failure = TakenOver(PROBABLY_TAKEN, hint=OWN_ID)
                pause_s = self._retry.failed(
                    failure, up_for_s=up_for_s, random01=self._random01(), listens=meant
                )
                self._note(failure, pause_s)
            self._waiting_since = None
            await self._wait_out(pause_s)

    async def _session(self) -> None:
        offline = Will(self._topics.status, payloads.OFFLINE, retain=True)
        link = await Link.open(self._options, self._clock, will=offline)
        self._counts.connects += 1
        self._link, self._last_error, self._retry_at = link, None, None
        log.info("broker connected", broker=self._options.address)
        try:
            await _together(
                link.ended(),
                self._say_states_and_events(link),
                self._say_tags(link),
                self._say_wanted(link),
                self._settle(link),
            )
        finally:
            await link.stop(STOP_S, last=[offline])
            self._link = None
            await self._save_cursor()
            # What this broker acknowledged in its last moments is as if it had not: it has to last anew.
            now = self._clock.monotonic()
            self._acked = Acknowledged(self._lately.seq(now))
            self._lately = Lately(REPEAT_S, now, self._acked.seq)
            self._counts.sent += link.sent
            self._counts.acknowledged += link.acknowledged
            self._counts.too_large += link.too_large

    async def _settle(self, link: Link) -> None:
        """Once the connection has lasted: no alarm, and `online` again, in case our old will came late."""
        await self._clock.sleep(self._retry.backoff.settled_s)
        self._retry.settled()
        await link.room()
        link.publish(self._topics.status, payloads.ONLINE, retain=True)

    def _note(self, failure: Failure, pause_s: float) -> None:
        reason, hint = failure.reason, failure.hint
        if isinstance(failure, ClosedByBroker) and self._retry.alarm == "client_id_taken":
            reason, hint = PROBABLY_TAKEN, OWN_ID
        told = f"{reason}; {hint}" if hint else reason
        if told != self._last_error:  # once, not at every attempt
            log.warning(
                "broker not available",
                broker=self._options.address,
                reason=reason,
                hint=hint,
                alarm=self._retry.alarm,
                pause_s=round(pause_s, 1),
            )
        self._last_error = told
        self._retry_at = self._clock.now() + timedelta(seconds=pause_s)

    async def _wait_out(self, pause_s: float) -> None:
        """Sleep, and note since when something waits, also when it comes only now."""
        resting = asyncio.create_task(self._clock.sleep(pause_s))
        news = asyncio.create_task(self._journal.wait_beyond(self._acked.seq, NEVER))
        try:
            await asyncio.wait({resting, news}, return_when=asyncio.FIRST_COMPLETED)
            if news.done():
                await news
                waiting = await self._journal.read(self._acked.seq, 1)
                self._waiting_since = waiting[0].recorded_at if waiting else None
            await resting
        finally:
            resting.cancel()
            news.cancel()

    # --- states and events

    async def _say_states_and_events(self, link: Link) -> None:
        link.publish(self._topics.status, payloads.ONLINE, retain=True)
        await self._say_states(link, self._equipment, {}, again=True)
        after = self._acked.seq
        while True:
            last = self._journal.position.last_seq
            events = await self._journal.read(after, READ_MAX)
            if not events and last > after:  # they cannot be read; the journal says so elsewhere
                self._acked.sent(last, link.connected_at)
                self._acknowledge(last, told=False)
                after = last
            if not events:
                await self._journal.wait_beyond(after, NEVER)
                continue
            after = events[-1].seq
            # States do not queue behind a backlog: while there is one, look at all equipment each time.
            newest = {event.equipment: event for event in events if isinstance(event.event, Transition)}
            caught_up = after >= self._journal.position.last_seq
            await self._say_states(link, newest if caught_up else self._equipment, newest)
            await self._say_events(link, events)

    async def _say_states(
        self, link: Link, names: Iterable[str], transitions: Mapping[str, Recorded], *, again: bool = False
    ) -> None:
        for name in names:
            if name not in self._equipment:
                continue  # left the configuration; its events still count
            path, state_of = self._equipment[name]
            state = newer(state_of(), transitions.get(name))
            topic = self._topics.state(Place(name, path))
            if state is None or not self._newest.allow(topic, state.seq, again=again):
                continue
            if link.in_flight >= link.limit:
                await link.room()
            link.publish(topic, payloads.state(state), retain=True)

    async def _say_events(self, link: Link, events: Sequence[Recorded]) -> None:
        for event in events:
            if link.in_flight >= link.limit:
                await link.room()
            self._acked.sent(event.seq, event.recorded_at)
            on_its_way = link.publish(
                self._topics.event(event),
                event.json,
                properties=_LATE if event.recorded_at < link.connected_at else None,
                on_ack=partial(self._acknowledge, event.seq),
            )
            if not on_its_way:
                self._acknowledge(event.seq, told=False)

    def _acknowledge(self, seq: int, *, told: bool = True) -> None:
        self._counts.events += told
        if self._acked.done(seq):
            self._moved.set()

    # --- tags

    async def _say_tags(self, link: Link) -> None:
        self._tags_due = dict(self._latest)  # the broker may have lost them all
        share = max(1, link.limit // 2)  # the rest is for events, however fast tags change
        while True:
            while not self._tags_due:
                self._tag_news.clear()
                await self._tag_news.wait()
            if link.in_flight >= share:
                await link.room(share)
            tag = next(iter(self._tags_due))
            sample = self._tags_due.pop(tag)
            payload = payloads.tag(sample, self._tags[tag].unit)
            for topic in self._topics_of(tag):
                if link.in_flight >= share:
                    await link.room(share)
                link.publish(topic, payload, retain=True)

    def _topics_of(self, tag: str) -> Sequence[str]:
        return self._topics.tags(tag, [Place("", path) for path in self._tags[tag].paths])

    # --- what somebody found missing, or too much

    async def _say_wanted(self, link: Link) -> None:
        names = {self._topics.state(Place(name, path)): name for name, (path, _) in self._equipment.items()}
        self._wanted.clear()  # after a connect everything is said anyway
        while True:
            while not self._wanted:
                self._wants.clear()
                await self._wants.wait()
            if link.in_flight >= link.limit:
                await link.room()
            topic = next(iter(self._wanted))
            if not self._wanted.pop(topic):
                link.publish(topic, b"", retain=True)
            elif topic in names:
                await self._say_states(link, (names[topic],), {}, again=True)
            elif (payload := self.retained().get(topic)) is not None:
                link.publish(topic, payload, retain=True)

    # --- cursor

    async def _keep_cursor(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            await self._save_cursor()
            await self._clock.sleep(SAVE_EVERY_S)

    async def _save_cursor(self) -> None:
        seq = self._acked.seq
        self._lately.note(self._clock.monotonic(), seq)
        if seq > self._saved_seq:
            await self._journal.advance(SINK, Cursor(seq=seq))
            self._saved_seq = seq


def newer(state: EquipmentState | None, transition: Recorded | None) -> EquipmentState | None:
    """The newer of a state and the one a transition led to: either may know first."""
    if transition is None or not isinstance(transition.event, Transition):
        return state
    if state is not None and state.seq >= transition.seq:
        return state
    return state_after(transition.event, transition.seq)


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until the first fails, end the others, and raise that failure by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
