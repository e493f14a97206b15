"""From the journal to one broker, for ever: what is true, retained, and events that all arrive.

After every connect: who is there and the current state of all equipment (whatever the broker kept or lost),
`online`, then the events the broker has not acknowledged yet, in order, to event topics only. What has left
the configuration is cleared. Each part of that is a file of its own; this one connects, keeps them together,
and says goodbye. Knows nothing of MQTT packets, nor of where states come from. Several brokers are several of
these: nothing is shared but the journal, so none waits for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from connectors.base import Clock
from gateway.config.brokers import host_and_port
from gateway.config.schema import GatewaySettings, MqttSettings
from gateway.control.mqtt_listening import Ear
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.certificates import CHECK_S, CertificateWatch
from gateway.mqtt.handover import Handover
from gateway.mqtt.link import Link, MessageRefused, listens
from gateway.mqtt.options import LinkOptions, link_options
from gateway.mqtt.reasons import OWN_ID, PROBABLY_TAKEN, ClosedByBroker, Renewed, TakenOver, at
from gateway.mqtt.retained import read_retained
from gateway.mqtt.retry import Failure, Retry
from gateway.publish.availability import Availability, Links
from gateway.publish.events import REPEAT_S as REPEAT_S
from gateway.publish.events import Events
from gateway.publish.holdings import Held, Holdings
from gateway.publish.leaving import Leaving
from gateway.publish.ownership import Ownership
from gateway.publish.presence import Presence
from gateway.publish.source import EventSource
from gateway.publish.states import StateOf, States
from gateway.publish.status import SinkStatus
from gateway.publish.tags import PublishedTag, Tags
from gateway.publish.topics import Place, Topics
from gateway.publish.truth import Truth
from gateway.publish.voice import Voice
from gateway.publish.wants import Wants
from gateway.together import together
from statemodel.types import TagSample

__all__ = ["REPEAT_S", "SINK", "MqttPublisher", "PublishedTag", "StateOf", "introduce"]

#: Name of the cursor in the journal of a broker without a name.
SINK = "mqtt"

#: Longest leave: for what is in flight and the last words.
STOP_S = 3.0
#: A message the broker refused is said again this often, in seconds; then its refusal is forgotten.
REFUSED_AGAIN_S = 60.0
#: Of STOP_S, what saying `offline` for every connection and equipment may take.
STOP_EACH_S = 1.5

#: What to do about messages the broker finds too large.
_LARGER = "raise the largest packet it allows; REST and the database have them"

log = structlog.get_logger(__name__)


@dataclass
class _Counts:
    """Figures of the connections that are over."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    too_large: int = 0
    connects: int = 0


class MqttPublisher:
    """One broker, fed for ever.

    `equipment` maps names to path and current state, `models` names to those of their models, `tags` full tag
    ids to what is published of them. `links` knows which connections are up, `feeds` on which of them each
    equipment depends; without `links` availability is not told. `holdings` remembers what the broker has
    retained, and `ownership` judges whether what has left the configuration is still ours: without it nothing
    is cleared. `embedded_port` is the port of the embedded broker where the settings ask for it.
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
        models: Mapping[str, str] | None = None,
        links: Links | None = None,
        feeds: Mapping[str, Sequence[str]] | None = None,
        holdings: Holdings | None = None,
        ownership: Ownership | None = None,
        embedded_port: int | None = None,
        random01: Callable[[], float] = random.random,
        certificates_s: float = CHECK_S,
    ) -> None:
        self.sink = settings.sink
        self.settings = settings
        self._options: LinkOptions = link_options(settings, gateway, embedded_port=embedded_port)
        self._clock = clock
        self._random01 = random01
        self._retry = Retry()
        self._certificates = CertificateWatch(self._options, clock, check_s=certificates_s)
        places = {
            name: Place(name, path, (models or {}).get(name, "")) for name, (path, _) in equipment.items()
        }
        self._voice = voice = Voice(
            settings,
            gateway,
            stream=journal.position.stream,
            equipment=places,
            tags={id_: (tag.unit, tag.paths) for id_, tag in (tags or {}).items()},
            feeds={} if links is None else feeds or {},
            connections=() if links is None else links.connections,
        )
        voice.on_refused(self._note_refused)
        voice.on_too_large(self._note_too_large)
        self._states = States({name: state_of for name, (_, state_of) in equipment.items()}, voice)
        self._events = Events(self.sink, journal, self._states, voice, clock, self._note_refused)
        self._tags = Tags(tags or {}, voice)
        availability = Availability(links or Links(), voice.depends)
        self._truth = Truth(voice, self._states, self._tags, availability)
        self._wants = Wants(voice, self._truth.say)
        self._presence = Presence(
            voice,
            clock,
            self._lost_store,
            self._note_refused,
            looks=voice.kinds.status.retain and not settings.embedded,
        )
        self._holdings = holdings or Holdings(None)
        self._reading = asyncio.Lock()
        self._leaving = Leaving(voice, self._holdings, ownership, self.read, clock)
        #: Whether another gateway with our id is known to run: then it is the one that takes our place.
        self.twin_known: Callable[[], bool] = lambda: False
        #: Commands that come over this broker, on a connection of their own.
        self.ear = Ear()
        self._handover = Handover()
        #: How things are said, and what the broker has of them when the connection is handed over.
        self._says = (
            settings.model_copy(update={"commands": None}),
            gateway.id,
            gateway.enterprise,
            gateway.site,
        )
        self._standing: Mapping[str, bytes] = {}
        self._link: Link | None = None
        self._last_error: str | None = None
        self._refusal: str | None = None
        self._refused: set[str] = set()
        self._refused_told: set[str] = set()
        #: Where the newest message was left out that is larger than the broker takes, and what it takes.
        self._too_large: tuple[str, int | None] | None = None
        self._retry_at: datetime | None = None
        self._counts = _Counts()

    # --- for the rest of the gateway

    async def run(self) -> None:
        """Publish until cancelled; then leave cleanly: `offline`, and the cursor where the broker stands.

        Raises:
            GatewayError: the journal failed. Failures of the broker never end this.
        """
        self._handover.begin()
        try:
            await self._events.begin()
            await together(self._events.keep_cursor(), self._stay_connected(), self.ear.run())
        finally:
            if not self._handover.is_wanted:
                await self.let_go()
            await self._holdings.add(self._truth.marked())

    def connects_like(self, other: object) -> bool:
        """Whether it can go on with the connection of another: both say the same in their CONNECT."""
        return (
            isinstance(other, MqttPublisher)
            and self._options == other._options
            and self._voice.will == other._voice.will
        )

    def keep_link(self) -> None:
        """From now on, when `run` is cancelled, keep the connection as it stands instead of leaving."""
        self._handover.ask()

    def take_link(self, before: object) -> None:
        """Before `run`: go on with the connection another one has kept, and with its figures."""
        assert isinstance(before, MqttPublisher)
        if self._handover.take(before._handover) and before is not self:
            self._events.follow(before._events)
            self._counts, self._too_large = before._counts, before._too_large
            stands = before._standing if self._says == before._says else {}
            self._truth.follow(before._truth, stands)
            self._presence.follow(before._presence)

    async def let_go(self) -> None:
        """Leave the broker, if a connection to it is kept that nobody goes on with."""
        if (link := self._handover.use()) is not None:
            await self._leave(link)

    def retire(self) -> None:
        """Once it does not run any more and another takes its place: let go of what is shared with others."""
        self._truth.retire()

    def publish_tag(self, sample: TagSample) -> None:
        """Say the newest value of a tag as soon as there is room; tags that are not published are ignored.

        Bounded by the number of tags: a value that could not be sent yet makes way for a newer one.
        """
        self._tags.take(sample)

    @property
    def options(self) -> LinkOptions:
        """The broker and how it is spoken to."""
        return self._options

    @property
    def topics(self) -> Topics:
        """Where things are said."""
        return self._voice.topics

    @property
    def holdings(self) -> Holdings:
        """What the broker has retained of us."""
        return self._holdings

    def own_topics(self) -> Mapping[str, Held]:
        """Every retained topic this configuration has, and what it is about."""
        return self._voice.held

    @property
    def elsewhere(self) -> Collection[str]:
        """Retained topics that another section of this gateway says at this very broker: never cleared."""
        return self._voice.elsewhere

    @elsewhere.setter
    def elsewhere(self, topics: Collection[str]) -> None:
        self._voice.elsewhere = topics

    def retained(self) -> dict[str, bytes]:
        """What the broker should hold now: each topic said on the present connection, or due there."""
        return {} if self._link is None else self._truth.payloads()

    def is_heard(self) -> bool:
        """Whether the broker lets us listen to our own status; True also where that is not retained."""
        return self._presence.heard or not self._voice.kinds.status.retain

    async def read(self, topics: Sequence[str]) -> Mapping[str, bytes]:
        """What the broker has retained on these topics, over a second connection; one at a time.

        Raises:
            SinkUnavailable: it does not answer.
            SinkRefused: it does not let us read.
        """
        async with self._reading:
            return await read_retained(self._options, topics)

    def say_again(self, topics: Iterable[str]) -> None:
        """Say the newest of these retained topics once more; what is not ours to say is ignored."""
        self._wants.again(topics)

    def clear(self, topics: Iterable[str]) -> None:
        """Let the broker forget these retained topics; one that this configuration has is never cleared."""
        self._wants.clear(topics)

    def status(self) -> SinkStatus:
        """How it goes, now. Cheap."""
        link, counts, events = self._link, self._counts, self._events
        return SinkStatus(
            connected=link is not None,
            last_error=self._last_error or self._refusal,
            alarm=self._retry.alarm or ("refused" if self._refusal else ""),
            retry_at=self._retry_at,
            lag_events=events.lag,
            oldest_unsent_at=events.oldest_unsent_at,
            in_flight=link.in_flight if link else 0,
            sent=counts.sent + (link.sent if link else 0),
            acknowledged=counts.acknowledged + (link.acknowledged if link else 0),
            events=events.told,
            too_large=counts.too_large + (link.too_large if link else 0),
            tags_merged=self._tags.merged,
            connects=counts.connects,
            refused=counts.refused,
            backlog=events.backlog(connected=link is not None),
            unproven=len(self._leaving.unproven),
            warnings=(*self._left_out(), *self._certificates.warnings(), *self.ear.warnings()),
            orders=self.ear.figures(),
            certificate_days_left=self._certificates.own_days_left,
            broker_certificate_days_left=self._certificates.broker_days_left,
        )

    # --- connections

    async def _stay_connected(self) -> None:
        while True:
            since = self._clock.monotonic()
            connects = self._counts.connects
            pause_s = 0.0
            try:
                await self._session()
            except (SinkUnavailable, SinkRefused) as failure:
                accepted = self._counts.connects > connects
                up_for_s = max(self._clock.monotonic() - since, 1e-9) if accepted else 0.0
                # A broker that closes and goes on listening meant us; one that died did not.
                meant = isinstance(failure, ClosedByBroker) and await listens(self._options)
                if meant and self.twin_known():
                    failure = TakenOver(PROBABLY_TAKEN, hint=at(OWN_ID, self._options.section))
                pause_s = self._retry.failed(
                    failure, up_for_s=up_for_s, random01=self._random01(), listens=meant
                )
                self._note(failure, pause_s)
            await self._events.wait_out(pause_s)

    async def _session(self) -> None:
        link, kept = self._handover.use(), False
        if goes_on := link is not None:
            link.aim(self._presence.take)
        else:
            link = await Link.open(
                self._options, self._clock, will=self._voice.will, on_message=self._presence.take
            )
            self._counts.connects += 1
        self._link, self._last_error, self._refusal, self._retry_at = link, None, None, None
        self._refused.clear()  # here: the first refusals come while states are still being said
        if self._too_large is not None and self._too_large[1] != link.limits.packet_max:
            self._too_large = None  # it takes others now; what was left out is in the counts
        log.info("broker connected", broker=self._options.address, goes_on=goes_on)
        try:
            await together(
                link.ended(),
                self._say_everything(link, goes_on=goes_on),
                self._settle(),
                self._certificates.watch(link),
            )
        except Renewed:
            # If the new certificate is of no use there, the broker has said that we are gone.
            await link.stop(STOP_S, with_will=True)
            raise
        except asyncio.CancelledError:
            kept = await self._handover.keep(link)
            raise
        finally:
            if not kept:
                await self._leave(link)
            self._link = None
            if kept:
                stands = self._truth.standing() if self._handover.all_arrived else {}
                self._standing = {topic: stands[topic] for topic in stands if topic not in self._refused}
                await self._events.handed_over()
            else:
                await self._events.connection_over()
                self._counts.sent += link.sent
                self._counts.acknowledged += link.acknowledged
                self._counts.too_large += link.too_large

    async def _say_everything(self, link: Link, *, goes_on: bool) -> None:
        """First what is true, then that we are there, then what happened; and clear what has left."""
        # Remembered before it is said, so that whatever leaves later is known.
        await self._holdings.add(self._truth.marked())
        await self._truth.say_first(link)
        lanes = [
            self._presence.keep(link, goes_on=goes_on),
            self._events.say(link),
            self._events.watch(link),
            self._tags.say(link),
            self._truth.keep_availability(link),
            self._wants.say(link),
            self._try_refused_again(),
        ]
        for kind, rule in (("state", self._voice.kinds.state), ("tag", self._voice.kinds.tag)):
            if rule.refresh_s is not None:
                lanes.append(self._refresh(kind, rule.refresh_s))
        if self.settings.clear_removed:
            lanes.append(self._leaving.clear(link))
        await together(*lanes)

    async def _leave(self, link: Link) -> None:
        """Say `offline` of everything, of the gateway last; all of it within `STOP_S`."""
        with contextlib.suppress(TimeoutError, SinkUnavailable, SinkRefused):
            async with asyncio.timeout(STOP_EACH_S):
                await self._truth.say_all_offline(link)
        await link.stop(STOP_S - STOP_EACH_S, last=(self._voice.will,))

    async def _settle(self) -> None:
        """Once the connection has lasted there is no alarm any longer."""
        await self._clock.sleep(self._retry.backoff.settled_s)
        self._retry.settled()

    def _note(self, failure: Failure, pause_s: float) -> None:
        if isinstance(failure, Renewed):
            log.info("connecting anew", broker=self._options.address, reason=failure.reason)
            return
        reason, hint = failure.reason, failure.hint
        if isinstance(failure, ClosedByBroker) and self._retry.alarm == "client_id_taken":
            reason, hint = PROBABLY_TAKEN, at(OWN_ID, self._options.section)
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

    def _note_refused(self, refused: MessageRefused) -> None:
        """The broker will not have one message, and goes on taking others: they go on."""
        self._counts.refused += 1
        told = f'{refused.reason} (topic "{refused.topic}"); {refused.hint}'
        if refused.topic not in self._refused_told:  # once, not at every try
            self._refused_told.add(refused.topic)
            log.warning(
                "the broker refuses a message",
                broker=self._options.address,
                topic=refused.topic,
                reason=refused.reason,
                hint=refused.hint,
            )
        self._refusal = told
        self._refused.add(refused.topic)

    def _note_too_large(self, topic: str) -> None:
        """A message was left out, because this broker takes none of its size: people hear of it once."""
        first = self._too_large is None
        most_bytes = self._link.limits.packet_max if self._link else None
        self._too_large = topic, most_bytes
        if first:
            log.warning(
                "messages larger than the broker takes are left out",
                broker=self._options.address,
                topic=topic,
                bytes_max=most_bytes,
                hint=_LARGER,
            )

    def _left_out(self) -> tuple[str, ...]:
        if self._too_large is None:
            return ()
        topic, most_bytes = self._too_large
        return (
            f"messages of more than the {most_bytes} bytes that the broker at {self._options.address} takes "
            f'are left out, the latest on "{topic}"; {_LARGER}',
        )

    async def _try_refused_again(self) -> None:
        while True:
            await self._clock.sleep(REFUSED_AGAIN_S)
            again, self._refused = self._refused, set()
            if not again:
                self._refusal = None
                self._refused_told.clear()
            self._wants.again(again)

    # --- what is to be said again

    async def _refresh(self, kind: str, every_s: float) -> None:
        """What would expire is said again before it does."""
        while True:
            await self._clock.sleep(every_s)
            self._wants.again(self._truth.topics_of(kind))

    def _lost_store(self) -> None:
        self._wants.again(self._truth.topics)


def introduce(publishers: Sequence[MqttPublisher]) -> None:
    """Tell those at one broker what the others say there, so that none clears what another has taken over."""
    for publisher in publishers:
        place = host_and_port(publisher.settings.broker)
        others = (it for it in publishers if it is not publisher)
        publisher.elsewhere = frozenset(
            topic for it in others if host_and_port(it.settings.broker) == place for topic in it.own_topics()
        )
