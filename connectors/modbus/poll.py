"""One poll group: what to ask next, and what its answers are worth telling. Does no I/O and reads no clock.

A cycle is a generator: it yields questions and is sent their answers. What is to be told collects in
`samples` and `refusals`, for the caller to take after each answer. A block whose bytes are those of last
time costs one comparison; otherwise only tags that changed become samples.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress
from operator import ne

from connectors.backoff import Backoff
from connectors.modbus.codec import BlockFormat, Raw
from connectors.modbus.exceptions import Meaning, Reaction, meaning_of
from connectors.modbus.frame import Question, question
from connectors.modbus.layout import Signal
from connectors.modbus.plan import Isolation, Limits, ReadRequest, isolate, plan_reads, request_of
from connectors.modbus.values import Flaw
from statemodel.types import Quality, TagSample, TagValue

#: Payload or exception code, and when it was received.
Answer = tuple[bytes | int, datetime]
Asking = Generator[Question, Answer, None]

#: Tags set aside that are tried again in one cycle, at most: a device that refuses much is not asked more.
PROBES_PER_CYCLE_MAX = 4
_REST_FIRST_S = 0.25
_REST_MAX_S = 30.0


_UNTOLD = Flaw(Quality.BAD, "")


@dataclass(slots=True, eq=False)
class Block:
    """A request that is asked again and again, and its latest answer.

    `payload` and `raw` are None until there is one whose every value has been told.
    """

    request: ReadRequest
    question: Question
    format: BlockFormat
    tags: tuple[str, ...]
    payload: bytes | None = None
    raw: tuple[Raw, ...] | None = None
    busy_count: int = 0
    rest: Backoff = field(default_factory=lambda: Backoff(_REST_FIRST_S, _REST_MAX_S))
    rest_until: float = float("-inf")


class GroupPoll:
    """The polling of one group within one session."""

    def __init__(
        self,
        signals: Sequence[Signal],
        *,
        unit: int,
        limits: Limits,
        busy_max: int = 3,
        refused_retry_s: float = 30.0,
    ) -> None:
        self._signals = tuple(signals)
        self._unit = unit
        self._limits = limits
        self._busy_max = busy_max
        self._refused_retry_s = refused_retry_s
        self._told: dict[str, TagValue | Flaw] = {}
        self._refused: set[str] = set()
        self._aside: dict[Signal, float] = {}
        self._blocks: list[Block] = []
        self._lanes_left = 0
        self._plan()
        self.samples: list[TagSample] = []
        self.refusals: list[tuple[str, str]] = []

    @property
    def requests(self) -> tuple[ReadRequest, ...]:
        """What a cycle asks for at present."""
        return tuple(block.request for block in self._blocks)

    def cycle(self, now: float) -> Asking:
        """One reading of the group, begun at monotonic time `now`."""
        (asking,) = self.lanes(now, 1)
        return asking

    def lanes(self, now: float, count: int) -> list[Asking]:
        """One reading of the group in several conversations, which may be held at the same time."""
        blocks = iter(tuple(self._blocks))
        self._lanes_left = count
        return [self._read(blocks, now) for _ in range(count)]

    def _read(self, blocks: Iterator[Block], now: float) -> Asking:
        """Take one block after the other until none is left, then try what was set aside."""
        for block in blocks:
            if block.rest_until <= now:
                answer, at = yield block.question
                if answer == block.payload:
                    if block.busy_count:
                        block.busy_count = block.rest.failures = 0
                    continue
                if isinstance(answer, bytes):
                    self._answered(block, answer, at)
                else:
                    yield from self._excepted(block, answer, at, now)
        self._lanes_left -= 1
        if self._lanes_left:
            return  # the last one to end tries what was set aside
        due = [signal for signal, retry_at in self._aside.items() if retry_at <= now]
        for signal in due[:PROBES_PER_CYCLE_MAX]:
            if (yield from self._probe(signal, now)):
                self._plan()
                return

    def _plan(self) -> None:
        """Begin anew with all tags, those set aside too."""
        self._aside.clear()
        self._blocks = [self._block(request) for request in plan_reads(self._signals, self._limits)]

    def _block(self, request: ReadRequest) -> Block:
        tags = tuple(signal.tag for signal in request.signals)
        return Block(request, question(request, self._unit), BlockFormat(request), tags)

    def _answered(self, block: Block, payload: bytes, at: datetime) -> None:
        raw = block.format.unpack(payload)
        slots = block.format.slots
        if block.raw is None:
            changed = zip(slots, raw, strict=True)
        else:
            changed = compress(zip(slots, raw, strict=True), map(ne, raw, block.raw))  # type: ignore[assignment]
        told, tags, samples = self._told, block.tags, self.samples
        for slot, bits in changed:
            for place, convert in slot.uses:
                value = bits if convert is None else convert(bits)
                tag = tags[place]
                if value.__class__ is Flaw:
                    self._bad(tag, value, at)
                elif told.get(tag, _UNTOLD) != value:
                    told[tag] = value  # type: ignore[assignment]
                    samples.append(TagSample(tag, value, Quality.GOOD, None, at))  # type: ignore[arg-type]
        block.payload, block.raw = payload, raw
        block.busy_count = block.rest.failures = 0
        if self._refused:
            self._take_back(tags)

    def _bad(self, tag: str, flaw: Flaw, at: datetime) -> None:
        if self._told.get(tag, _UNTOLD) != flaw:
            self._told[tag] = flaw
            self.samples.append(TagSample(tag, flaw.value, flaw.quality, None, at, flaw.substatus))

    def _excepted(self, block: Block, code: int, at: datetime, now: float) -> Asking:
        """The device answered with an exception to a block of the plan."""
        reaction = meaning_of(code).reaction
        if reaction in (Reaction.SEARCH, Reaction.SET_ASIDE):
            self._blocks.remove(block)
            signals = block.request.signals
            if reaction is Reaction.SEARCH and len(signals) > 1:
                found = yield from self._search(block.request, now)
                self._blocks.extend(self._block(request) for request in found.served)
                # What the search refused, it has told already.
            else:
                self._set_aside(signals, code, at, now)
        else:
            self._trouble(block, code, at, now)

    def _search(self, request: ReadRequest, now: float) -> Generator[Question, Answer, Isolation]:
        """Find the tags for which a request is refused; what is read on the way is told."""
        search = isolate(request, self._limits)
        part = next(search)
        while True:
            block = self._block(part)
            answer, at = yield block.question
            served = True
            if isinstance(answer, bytes):
                self._answered(block, answer, at)
            elif meaning_of(answer).reaction in (Reaction.SEARCH, Reaction.SET_ASIDE):
                served = False
                if len(part.signals) == 1:
                    self._set_aside(part.signals, answer, at, now)
            else:
                self._trouble(block, answer, at, now)
            try:
                part = search.send(served)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def _trouble(self, block: Block, code: int, at: datetime, now: float) -> None:
        """The request is right, but there are no values now."""
        meaning = meaning_of(code)
        if meaning.reaction is not Reaction.BAD:
            block.rest_until = now + block.rest.failed(0.0, 0.5)
        block.busy_count += 1
        if meaning.reaction is not Reaction.REST or block.busy_count >= self._busy_max:
            # Forget the bytes, so that the same ones are told again when they come back.
            block.payload = block.raw = None
            for tag in block.tags:
                self._bad(tag, Flaw(Quality.BAD, meaning.substatus), at)

    def _set_aside(self, signals: Sequence[Signal], code: int, at: datetime, now: float) -> None:
        meaning: Meaning = meaning_of(code)
        for signal in signals:
            self._aside[signal] = now + self._refused_retry_s
            self._bad(signal.tag, Flaw(Quality.BAD, meaning.substatus), at)
            if signal.tag not in self._refused:
                self._refused.add(signal.tag)
                self.refusals.append(
                    (signal.tag, f"the device refuses {signal.address}: {meaning.name} (exception {code})")
                )

    def _take_back(self, tags: Sequence[str]) -> None:
        for tag in tags:
            if tag in self._refused:
                self._refused.discard(tag)
                self.refusals.append((tag, ""))

    def _probe(self, signal: Signal, now: float) -> Generator[Question, Answer, bool]:
        """Try a tag that was set aside; whether it is served again."""
        block = self._block(request_of((signal,)))
        answer, at = yield block.question
        if isinstance(answer, bytes):
            self._answered(block, answer, at)
            return True
        self._aside.pop(signal)  # goes to the end of the line
        if meaning_of(answer).reaction in (Reaction.SEARCH, Reaction.SET_ASIDE):
            self._set_aside((signal,), answer, at, now)
        else:
            self._aside[signal] = now + self._refused_retry_s
        return False
