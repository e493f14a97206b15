"""The stream of publish responses of one session: requests out, samples through, losses counted.

Several Publish requests always wait at the server. When an answer comes, a plain callback takes its time and
puts it in a queue, and asks again as long as the queue has room; one task takes the queue apart in order and
waits for the gateway to take each batch. So the order is the server's, one response is one batch, and a
gateway that cannot keep up makes the server hold its values back instead of piling them up here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from operator import attrgetter

from asyncua.common.utils import Buffer

from connectors.base import Clock, Link
from connectors.errors import ConnectionLost
from connectors.opcua.decode import Answer, decode_publish, decode_republish
from connectors.opcua.failures import TROUBLE, explain, explain_code
from connectors.opcua.losses import Losses
from connectors.opcua.plan import publish_requests
from connectors.opcua.quality import MEANING, is_bad, name_of
from connectors.opcua.sequence import SequenceCount
from connectors.opcua.session import Session
from statemodel.types import SampleBatch, TagSample

#: Answers that wait for the gateway before no more are asked for.
QUEUE_MAX = 16
#: Keep-alive periods of silence after which a subscription, or the whole server, counts as lost.
SILENT_PERIODS = 3

_TOO_MANY_REQUESTS, _REQUEST_TIMEOUT = 0x8078_0000, 0x800A_0000

_Decoder = Callable[[bytes, int, Sequence[str], datetime], Answer]


@dataclass
class Stream:
    """One subscription: its place in the numbering and how long it has been silent."""

    subscription: int
    group: str
    keep_alive_s: float
    sequence: SequenceCount = field(default_factory=SequenceCount)
    silent_s: float = 0.0
    heard_at: datetime | None = None


@dataclass(frozen=True)
class _Arrived:
    answer: asyncio.Future[Buffer]
    at: datetime


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
    ) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._session = session
        self._link = link
        self._clock = clock
        self._tags = tags
        self._losses = losses
        self._source_time = source_time
        self._streams: dict[int, Stream] = {}
        self._waiting: deque[_Arrived | tuple[TagSample, ...]] = deque()
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

    def put(self, samples: tuple[TagSample, ...]) -> None:
        """Pass on samples that no publish response brought, in their turn. Called rarely and with few."""
        if samples:
            self._waiting.append(samples)
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
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            first = self._waiting.popleft()
            self.ask()
            if isinstance(first, _Arrived):
                await self._handle(first)
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
            if stream.silent_s > SILENT_PERIODS * stream.keep_alive_s + elapsed_s:
                raise ConnectionLost(
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
        arrival = stream.sequence.arrived(answer.number, has_data=answer.has_data, available=answer.available)
        lost_count = arrival.lost_count
        for number in arrival.republish:
            lost_count += not await self._republish(stream, number, arrived.at)
        if lost_count:
            self._losses.messages(stream.group, lost_count, since, arrived.at)
        if answer.has_data:
            self._acknowledge.append((answer.subscription, answer.number))
        if arrival.deliver:
            await self._deliver(answer, stream, since, arrived.at)
        duration_s = self._clock.monotonic() - started_s
        self._link.cycle(stream.group, duration_s, 0.0, lost_count)

    async def _republish(self, stream: Stream, number: int, at: datetime) -> bool:
        """Fetch a message that went missing and pass it on; false when the server no longer has it."""
        body = await self._session.republish(stream.subscription, number)
        if body is None:
            return False
        again = _Arrived(_done(body), at)
        answer = self._decoded(again, decode_republish)
        if is_bad(answer.status) or answer.number != number:
            return False
        self._acknowledge.append((stream.subscription, number))
        self._losses.republished += 1
        await self._deliver(answer, stream, stream.heard_at, at)
        return True

    async def _deliver(self, answer: Answer, stream: Stream, since: datetime | None, at: datetime) -> None:
        if answer.status_change is not None:
            raise ConnectionLost(
                f'{self._endpoint}: the server has ended the subscription of group "{stream.group}" '
                f"({name_of(answer.status_change)})"
            )
        if answer.overflowed:
            self._losses.overflowed(answer.overflowed, since, at)
        self._losses.strangers += answer.strangers
        if answer.samples:
            await self._emit(answer.samples, at)

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
