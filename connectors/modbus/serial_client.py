"""A link that speaks a serial framing (RTU, ASCII), on a serial port or through TCP: one open question.

Garbage is passed over and counted; it never ends the link. Before each question the line is quiet for the
silent interval. See `debts` for what keeps late answers away from other questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from connectors.modbus.client import Client, Exchange, NoAnswer, Owner
from connectors.modbus.debts import Debts
from connectors.modbus.frame import BadReply, Question, judge
from connectors.modbus.framing import Found, SerialFraming

#: A line that is never quiet is asked all the same after this time, in seconds.
_QUIET_AWAITED_S_MAX = 0.5
#: As many bytes as the answer has, none of them an answer, and then nothing for this long: it came damaged.
_DAMAGED_S = 0.1
#: Characters of silence between two frames (Serial Line V1.02, 2.5.1.1), and the fixed one of fast lines.
_SILENT_CHARACTERS = 3.5
_SILENT_FAST_S = 0.00175
_FAST_ABOVE_BAUD = 19200
_BITS_PER_CHARACTER = 11


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take on the line, in seconds. All 0 when it is not known, as through TCP."""

    character_s: float = 0.0
    silence_s: float = 0.0

    @classmethod
    def of(cls, baud: int) -> Pace:
        """The pace of a serial port."""
        character_s = _BITS_PER_CHARACTER / baud
        return cls(
            character_s, _SILENT_FAST_S if baud > _FAST_ABOVE_BAUD else _SILENT_CHARACTERS * character_s
        )


class SerialClient(Client):
    """Questions and answers of a serial framing. `debts` outlives it: a new link does not change a device."""

    def __init__(
        self, owner: Owner, now: Callable[[], datetime], framing: SerialFraming, debts: Debts, pace: Pace
    ) -> None:
        super().__init__(owner, now)
        self._framing = framing
        self._debts = debts
        self._pace = pace
        self._exchange: Exchange | None = None
        #: What was sent and waits for its answer: the exchange's question, or a probe before it.
        self._asked: Question | None = None
        #: The latest question that has its answer.
        self._answered: Question | None = None
        self._buffer = bytearray()
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._overhead_s = _QUIET_AWAITED_S_MAX + 2 * framing.bytes_max * pace.character_s

    def ask(self, exchange: Exchange) -> None:
        """Send its question as soon as the line is quiet, and after a probe where that is needed."""
        assert self._exchange is None, "one question at a time"
        self._exchange = exchange
        exchange.sent = False
        exchange.asked_at = exchange.deadline = self._loop.time()
        # There may be a probe before it, with a timeout of its own.
        self.slack_s = exchange.timeout_s + 2 * self._overhead_s
        self._send_when_quiet(self._loop.time() + _QUIET_AWAITED_S_MAX)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._buffer += data
        while self._asked is not None and (found := self._framing.find(self._buffer, self._asked)):
            self._take(found)
        if self._asked is None:
            self._look_at_unasked()
            return
        if len(self._buffer) >= self._framing.answer_bytes(self._asked):
            self._set_timer(self._heard_at + _DAMAGED_S, self._came_damaged)
        if (excess := len(self._buffer) - self._framing.bytes_max) > 0:
            self._throw_away(excess)

    # Inner works.

    def _look_at_unasked(self) -> None:
        """An answer while nothing is asked, from a unit that owes none: it has answered once more than asked.

        Without ids nobody can tell since when each of its answers has been that to the question before.
        """
        asked = self._answered
        if asked is None or self._debts.owes(asked.unit):
            return
        found = self._framing.find(self._buffer, asked)
        if found is not None:
            self._answered = None
            del self._buffer[: found.end]
            self._owner.unasked(asked.unit, BadReply("it answered once more than it was asked"))

    def _send_when_quiet(self, latest: float) -> None:
        self._timer = None
        now = self._loop.time()
        quiet_at = min(self._heard_at + self._pace.silence_s, latest)
        if now < quiet_at:
            self._set_timer(quiet_at, lambda: self._send_when_quiet(latest))
        else:
            self._send(now)

    def _send(self, now: float) -> None:
        exchange = self._exchange
        assert exchange is not None, "sent only for an exchange"
        assert self._transport is not None, "a link that was not opened"
        self._throw_away(len(self._buffer))
        probe = self._debts.probe_before(exchange.question, now)
        self._asked = asked = probe or exchange.question
        exchange.sent = exchange.sent or probe is None
        frame = self._framing.frame(asked)
        self._transport.write(frame)
        on_the_wire_s = (len(frame) + self._framing.answer_bytes(asked)) * self._pace.character_s
        self._heard_at = now + len(frame) * self._pace.character_s
        exchange.deadline = now + on_the_wire_s + exchange.timeout_s
        self._watch_over(exchange.deadline)

    def _take(self, found: Found) -> None:
        """A sound frame that looks like the answer to what was asked last."""
        exchange, asked = self._exchange, self._asked
        assert exchange is not None, "looked for only while something is asked"
        assert asked is not None, "looked for only while something is asked"
        self._throw_away(found.start)
        del self._buffer[: found.end - found.start]
        try:
            answer = judge(asked, asked.unit, found.pdu)
        except BadReply:
            exchange.saw_garbage(found.end - found.start)
            return
        if not self._debts.certain(asked, answer):
            exchange.came_late()
            return
        self._stop_timer()
        self._answered, self._asked = asked, None
        if asked is exchange.question:
            self._exchange = None
            exchange.answered(answer, self._now())
        else:  # the probe is answered: now the question itself
            exchange.deadline = self._loop.time() + exchange.timeout_s + _QUIET_AWAITED_S_MAX
            self._send_when_quiet(self._loop.time() + _QUIET_AWAITED_S_MAX)

    def _came_damaged(self) -> None:
        self._timer = None
        if self._exchange is not None and self._asked is not None:
            self._without_answer(self._exchange, NoAnswer(damaged=True))

    def _without_answer(self, exchange: Exchange, why: NoAnswer) -> None:
        self._stop_timer()
        if self._asked is not None:
            self._debts.gave_up(self._asked, self._loop.time())
        self._exchange = self._asked = None
        exchange.failed(why)

    def _throw_away(self, count: int) -> None:
        if count <= 0:
            return
        del self._buffer[:count]
        if self._exchange is not None:
            self._exchange.saw_garbage(count)

    def _set_timer(self, when: float, call: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._loop.call_at(when, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _open(self) -> Iterable[Exchange]:
        # While it waits for quiet its time does not run.
        return () if self._exchange is None or self._asked is None else (self._exchange,)

    def _give_up(self, exchange: Exchange) -> None:
        self._without_answer(exchange, NoAnswer())

    def _forget(self) -> Iterable[Exchange]:
        self._stop_timer()
        exchange, asked = self._exchange, self._asked
        if asked is not None:
            self._debts.gave_up(asked, self._loop.time())
        self._exchange = self._asked = None
        self._buffer.clear()
        return () if exchange is None else (exchange,)
