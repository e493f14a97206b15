"""The stream of publish responses of one session: requests out, samples through, losses counted.

Several Publish requests always wait at the server. When an answer comes, a plain callback takes its time and
puts it in a queue, and asks again as long as the queue has room; one task takes the queue apart in order and
waits for the gateway to take each batch. So the order is the server's, one response is one batch, and a
gateway that cannot keep up makes the server hold its values back instead of piling them up here.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from operator import attrgetter

from asyncua import ua
from asyncua.common.utils import Buffer

from connectors.base import Clock, Link
from connectors.errors import ConnectionLost
from connectors.opcua.decode import Answer, decode_publish, decode_republish
from connectors.opcua.events import Events
from connectors.opcua.failures import TROUBLE, SubscriptionGone, explain, explain_code
from connectors.opcua.losses import Losses
from connectors.opcua.plan import QUEUE_MIN, Item, SubscriptionPlan, publish_requests
from connectors.opcua.quality import MEANING, is_bad, name_of
from connectors.opcua.sequence import Arrival, SequenceCount, is_behind, next_number
from connectors.opcua.session import Session
from statemodel.types import SampleBatch, TagSample

#: Answers that wait for the gateway before no more are asked for.
QUEUE_MAX = 16
#: Keep-alive periods of silence after which a subscription, or the whole server, counts as lost.
SILENT_PERIODS = 3

#: Messages in a row that were delivered before, after which the server must have begun to count anew.
REPEATS_MAX = 16

_TOO_MANY_REQUESTS, _REQUEST_TIMEOUT = 0x8078_0000, 0x800A_0000

_Decoder = Callable[[bytes, int, Sequence[str], datetime], Answer]


@dataclass
class Stream:
    """One subscription: its place in the numbering and how long it has been silent."""

    subscription: int
    plan: SubscriptionPlan
    publishing_s: float
    """Publishing interval as the server granted it."""
    keep_alive_s: float
    sequence: SequenceCount = field(default_factory=SequenceCount)
    silent_s: float = 0.0
    heard_at: datetime | None = None
    nodes: dict[Item, ua.NodeId] = field(default_factory=dict)
    """The items the server monitors, with their nodes."""
    queues: dict[str, int] = field(default_factory=dict)
    """Values of each tag the server keeps."""
    wanted: int = 1
    """Number of the first message that has not been passed on: where to go on in another session."""
    proved: bool = False
    """Whether it has said anything in this session."""
    tries: int = 0
    """How often it has been taken up again without a word from it."""
    repeats: int = 0
    resumed: bool = False
    """Whether it was taken up and has not published since: fetching again what it kept proves nothing."""

    @property
    def silent_s_max(self) -> float:
        """Silence after which it is gone. One that goes on owes a word within one keep-alive period."""
        return (1 if self.resumed else SILENT_PERIODS) * self.keep_alive_s

    @property
    def group(self) -> str:
        """The configured group it serves."""
        return self.plan.group

    def take_up(self) -> None:
        """Go on in another session with the first message that has not been passed on."""
        self.sequence = SequenceCount(self.wanted)
        self.silent_s, self.repeats = 0.0, 0
        self.tries += 1
        self.proved, self.resumed = False, True

    def spoke(self) -> None:
        """It has said something."""
        self.proved, self.tries = True, 0


@dataclass(frozen=True)
class _Arrived:
    answer: asyncio.Future[Buffer]
    at: datetime


@dataclass(frozen=True)
class _Unseen:
    samples: tuple[TagSample, ...]


class Feed:
    """Runs the publish exchange of one session. Start with `ask`, then let `run` go on."""

    def __init__(
        self,
        connection: str,
        endpoint: str,
        session: Session,
        link: Link,
        clock: Clock,
        tags: Sequence[str],
        losses: Losses,
        *,
        source_time: bool,
        events: Events | None = None,
    ) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._session = session
        self._link = link
        self._clock = clock
        self._tags = tags
        self._complaints: dict[str, str] = {}
        self._losses = losses
        self._source_time = source_time
        self._events = events
        self._streams: dict[int, Stream] = {}
        self._behind: list[Stream] = []
        self.caught_up = asyncio.Event()
        """Set once all that the server kept of an earlier session has been passed on."""
        self._waiting: deque[_Arrived | _Unseen | tuple[TagSample, ...]] = deque()
        self._news = asyncio.Event()
        self._acknowledge: list[tuple[int, int]] = []
        self._requests_max = 0
        self._outstanding: set[asyncio.Future[Buffer]] = set()
        self._unseen = set(tags) - {""}
        self._up = False
        self._ended = False
        self.last_seen_at: datetime | None = None
        self.silent_s = 0.0

    def end(self) -> None:
        """Ask no more and tell no more; what still arrives belongs to nobody."""
        self._ended = True
        self._requests_max = 0

    def add(self, stream: Stream) -> None:
        """Follow a subscription that has just been created."""
        stream.heard_at = self._clock.now()
        self._streams[stream.subscription] = stream
        self._requests_max = publish_requests(len(self._streams))

    def take_up(self, streams: Sequence[Stream], acknowledge: Sequence[tuple[int, int]]) -> None:
        """Follow subscriptions of an earlier session; `run` begins with what they said meanwhile."""
        self._behind = list(streams)
        self._streams.update((one.subscription, one) for one in streams)
        self._requests_max = publish_requests(len(self._streams))
        self._acknowledge.extend(pair for pair in acknowledge if pair[0] in self._streams)

    def streams(self) -> tuple[Stream, ...]:
        """The subscriptions that are followed."""
        return tuple(self._streams.values())

    def unacknowledged(self) -> tuple[tuple[int, int], ...]:
        """Messages that were passed on and of which the server has not been told so."""
        return tuple(self._acknowledge)

    def put(self, samples: tuple[TagSample, ...]) -> None:
        """Pass on samples that no publish response brought, in their turn. Called rarely and with few."""
        if samples:
            self._waiting.append(samples)
            self._news.set()

    def put_unseen(self, samples: tuple[TagSample, ...]) -> None:
        """Pass on those whose tag has said nothing in this session by the time it is their turn."""
        if samples:
            self._waiting.append(_Unseen(samples))
            self._news.set()

    def heard(self, at: datetime) -> None:
        """The server has said something."""
        if self._ended:
            return
        self.silent_s = 0.0
        self.last_seen_at = at
        if self._up:
            self._link.seen(at)

    def up(self) -> None:
        """The link has been told that the session stands; from now on it hears of every proof of life."""
        self._up = True
        self.heard(self._clock.now())

    def unseen(self) -> frozenset[str]:
        """Tags of which nothing has been said yet."""
        return frozenset(self._unseen)

    def ask(self) -> None:
        """Have as many Publish requests waiting at the server as there should be.

        Raises:
            ConnectionLost: the connection is gone.
        """
        while len(self._outstanding) < self._requests_max and len(self._waiting) < QUEUE_MAX:
            sent, self._acknowledge = self._acknowledge, []
            answer = self._session.publish(sent)
            self._outstanding.add(answer)
            answer.add_done_callback(self._arrived)

    def _arrived(self, answer: asyncio.Future[Buffer]) -> None:
        self._outstanding.discard(answer)
        if answer.cancelled() or (answer.exception() is not None and self._ended):
            return
        now = self._clock.now()
        if answer.exception() is None:
            self.heard(now)
        self._waiting.append(_Arrived(answer, now))
        self._news.set()
        if answer.exception() is None:
            try:
                self.ask()
            except ConnectionLost:
                # The task that takes the queue apart meets the same soon, and is the one to say so.
                return

    async def run(self) -> None:
        """Take answers in order and pass their samples on, for ever.

        Raises:
            ConnectionLost: the link or the subscription is gone.
        """
        for stream in self._behind:
            await self._catch_up(stream)
        self.caught_up.set()
        self.ask()
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            first = self._waiting.popleft()
            self.ask()
            if isinstance(first, _Arrived):
                await self._handle(first)
            elif isinstance(first, _Unseen):
                if left := [sample for sample in first.samples if sample.tag in self._unseen]:
                    await self._emit(left, self._clock.now())
            else:
                await self._emit(list(first), self._clock.now())

    def tick(self, elapsed_s: float) -> None:
        """Count silence. A tick counts with its nominal length, so that our own pauses are one tick.

        Raises:
            ConnectionLost: a subscription has been silent for too long although requests wait at the server.
        """
        self.silent_s += elapsed_s
        for stream in self._streams.values():
            if self._outstanding:
                stream.silent_s += elapsed_s
            if stream.silent_s > stream.silent_s_max + elapsed_s:
                if stream.resumed:
                    why = f"the subscription of {stream.group} was taken up and stayed silent"
                    self._losses.outage(stream.heard_at, self._clock.now(), why)
                raise SubscriptionGone(
                    f'{self._endpoint}: the subscription of group "{stream.group}" has been silent '
                    f"for {stream.silent_s:.1f} s",
                    last_seen_at=stream.heard_at,
                    hint="the server answers but does not publish; it may be overloaded",
                )

    async def _handle(self, arrived: _Arrived) -> None:
        started_s = self._clock.monotonic()
        answer = self._decoded(arrived, decode_publish)
        if is_bad(answer.status):
            self._troubled(answer.status)
            return
        stream = self._streams.get(answer.subscription)
        if stream is None:
            if answer.has_data:
                self._losses.strangers += 1
            return
        since = stream.heard_at
        stream.silent_s, stream.heard_at = 0.0, arrived.at
        if answer.number and not stream.proved:
            # What a lost connection took along of our acknowledgements is said again.
            done = (number for number in answer.available or () if is_behind(number, stream.wanted))
            self._acknowledge.extend((stream.subscription, number) for number in done)
            stream.spoke()
        arrival = stream.sequence.arrived(answer.number, has_data=answer.has_data, available=answer.available)
        lost_count = arrival.lost_count
        if arrival.lost_count or arrival.republish:
            lost_count = await self._fill(stream, arrival, answer.number, since, arrived.at)
        if arrival.deliver:
            await self._deliver(answer, stream, since, arrived.at)
        if answer.has_data:
            self._acknowledge.append((answer.subscription, answer.number))
            self._check_repeats(stream, arrival, since, arrived.at)
        stream.resumed = False
        # Only now: what is cut off before this is fetched again by the next session.
        stream.wanted = stream.sequence.expected
        duration_s = self._clock.monotonic() - started_s
        self._link.cycle(stream.group, duration_s, 0.0, lost_count)

    def _check_repeats(self, stream: Stream, arrival: Arrival, since: datetime | None, at: datetime) -> None:
        stream.repeats = 0 if arrival.deliver else stream.repeats + 1
        if stream.repeats > REPEATS_MAX:
            self._losses.messages(stream.group, stream.repeats, since, at)
            raise SubscriptionGone(
                f'{self._endpoint}: the server has begun to count the messages of group "{stream.group}" anew'
            )

    async def _fill(
        self, stream: Stream, arrival: Arrival, number: int, since: datetime | None, at: datetime
    ) -> int:
        """Fetch what is missing before message `number`; how many were not to be had."""
        lost_count = arrival.lost_count
        stream.wanted = arrival.republish[0] if arrival.republish else number
        try:
            for missing in arrival.republish:
                lost_count += not await self._republish(stream, missing, at)
                stream.wanted = next_number(missing)
        finally:
            if lost_count:
                self._losses.messages(stream.group, lost_count, since, at)
        return lost_count

    async def _catch_up(self, stream: Stream) -> None:
        """Fetch what the server sent, or would have sent, while nobody listened; until it has no more.

        Where it has lost a message in between, the next number that arrives says so.
        """
        while await self._republish(stream, stream.wanted, self._clock.now()):
            stream.wanted = next_number(stream.wanted)
            stream.sequence.expected = stream.wanted
            stream.spoke()

    async def _republish(self, stream: Stream, number: int, at: datetime) -> bool:
        """Fetch a message that went missing and pass it on; false when the server no longer has it."""
        body = await self._session.republish(stream.subscription, number)
        if body is None:
            return False
        again = _Arrived(_done(body), at)
        answer = self._decoded(again, decode_republish)
        if is_bad(answer.status) or answer.number != number or not answer.has_data:
            return False
        self._losses.republished += 1
        await self._deliver(answer, stream, stream.heard_at, at)
        self._acknowledge.append((stream.subscription, number))
        return True

    async def _deliver(self, answer: Answer, stream: Stream, since: datetime | None, at: datetime) -> None:
        if answer.status_change is not None:
            raise SubscriptionGone(
                f'{self._endpoint}: the server has ended the subscription of group "{stream.group}" '
                f"({name_of(answer.status_change)})"
            )
        if answer.overflowed:
            self._losses.overflowed(answer.overflowed, since, at)
        elif full := _full(answer.samples, stream):
            self._losses.full(full, since, at)
        self._losses.strangers += answer.strangers
        if answer.complaints or self._complaints:
            self._complain(answer)
        if answer.samples:
            await self._emit(answer.samples, at)
        if self._events is not None:
            await self._events.deliver(answer.events, since, at)

    def _complain(self, answer: Answer) -> None:
        """Say once of each tag why its values cannot be carried, and take it back when they can."""
        for tag, words in answer.complaints.items():
            if self._complaints.get(tag) != words:
                self._complaints[tag] = words
                self._link.refused(tag, words)
        for sample in answer.samples:
            if sample.value is not None and self._complaints.pop(sample.tag, None) is not None:
                self._link.refused(sample.tag, "")

    async def pass_on(self, samples: list[TagSample]) -> None:
        """Pass on samples that no subscription brought, at once. Waits while the gateway is behind."""
        if not self._ended:
            await self._emit(samples, self._clock.now())

    async def _emit(self, samples: list[TagSample], at: datetime) -> None:
        if self._unseen:
            self._unseen.difference_update(sample.tag for sample in samples)
        ordered = in_order(samples)
        await self._link.emit(SampleBatch(self._connection, at, ordered, self._source_time))

    def _decoded(self, arrived: _Arrived, decoder: _Decoder) -> Answer:
        try:
            return decoder(bytes(arrived.answer.result()), 0, self._tags, arrived.at)
        except TROUBLE as error:
            raise explain(error, self._endpoint) from error

    def _troubled(self, status: int) -> None:
        code = status & MEANING
        if code == _TOO_MANY_REQUESTS and self._requests_max > 1:
            self._requests_max -= 1
        elif code != _REQUEST_TIMEOUT:
            raise explain_code(status, self._endpoint)
        self.ask()


def in_order(samples: list[TagSample]) -> tuple[TagSample, ...]:
    """Samples of one response, oldest first.

    Servers list a response item by item. Where every sample has a source time and each tag's times rise,
    sorting by them restores what happened first; otherwise the server's order is all there is to go by.
    """
    stamps = [sample.source_at for sample in samples]
    if None in stamps or len(samples) < 2:
        return tuple(samples)
    if all(earlier <= later for earlier, later in pairwise(stamps)):  # type: ignore[operator]
        return tuple(samples)
    newest: dict[str, datetime] = {}
    for sample in samples:
        assert sample.source_at is not None
        if newest.get(sample.tag, sample.source_at) > sample.source_at:
            return tuple(samples)
        newest[sample.tag] = sample.source_at
    return tuple(sorted(samples, key=attrgetter("source_at")))


def _done(body: Buffer) -> asyncio.Future[Buffer]:
    future: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
    future.set_result(body)
    return future


def _full(samples: Sequence[TagSample], stream: Stream) -> list[str]:
    """Tags of which the server had as many values as it keeps.

    Not every server has the overflow bit, and none sets it for a queue of one (OPC 10000-4 section 5.13.1.5).
    Queues that people chose to be short are full every day: they count after an outage only.
    """
    if not stream.resumed and len(samples) < QUEUE_MIN:
        return []
    counts = Counter(sample.tag for sample in samples)
    least = 1 if stream.resumed else QUEUE_MIN
    return [tag for tag, count in counts.items() if least <= stream.queues.get(tag, count + 1) <= count]
