"""A link that speaks Modbus TCP: any number of open questions, told apart by transaction ids.

An answer that comes after its question was given up is thrown away and counted. Bytes that are no Modbus TCP
end the link, because from then on it is not known where frames begin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from connectors.modbus.client import Client, Exchange, NoAnswer, Owner, no_answer
from connectors.modbus.frame import BadReply, judge
from connectors.modbus.framing import TCP_VALUES_AT, TcpFrame, take_tcp_frame

#: Given-up questions whose answers may still come; older ones are forgotten.
_GIVEN_UP_MAX = 512
_TRANSACTION_MASK = 0xFFFF


class TcpClient(Client):
    """Questions and answers of Modbus TCP, plain or within TLS."""

    def __init__(self, owner: Owner, now: Callable[[], datetime]) -> None:
        super().__init__(owner, now)
        self._transaction = 0
        self._asked: dict[int, Exchange] = {}
        self._given_up: dict[int, Exchange] = {}
        self._buffer = bytearray()

    def ask(self, exchange: Exchange) -> None:
        """Send its question at once."""
        assert self._transport is not None, "a link that was not opened"
        asked = self._asked
        transaction = self._transaction + 1 & _TRANSACTION_MASK
        while transaction in asked:
            transaction = transaction + 1 & _TRANSACTION_MASK
        self._transaction = transaction
        asked[transaction] = exchange
        if self._given_up:
            self._given_up.pop(transaction, None)
        self._transport.write(transaction.to_bytes(2, "big") + exchange.question.tail)
        exchange.sent = True
        exchange.asked_at = now = self._time()
        exchange.deadline = deadline = now + exchange.timeout_s
        if deadline < self._watch_at:
            self._watch_over(deadline)

    def data_received(self, data: bytes) -> None:
        if not self._buffer and len(data) > TCP_VALUES_AT:
            transaction = data[0] << 8 | data[1]
            exchange = self._asked.get(transaction)
            if exchange is not None:
                question = exchange.question
                if len(data) == question.size and data.startswith(question.head, 2):
                    # What nearly always comes: one whole frame, an awaited one.
                    del self._asked[transaction]
                    exchange.answered(data[TCP_VALUES_AT:], self._now())
                    return
        self._buffer += data
        self._take_frames()

    def _take_frames(self) -> None:
        """Match all frames that have come before any is handed on: what an answer gives rise to asking was
        not asked when they were sent."""
        frames: list[TcpFrame] = []
        broken: BadReply | None = None
        try:
            while (frame := take_tcp_frame(self._buffer)) is not None:
                frames.append(frame)
        except BadReply as error:
            broken = error
        at = self._now()
        matched = [(frame, self._asked.pop(frame.transaction, None)) for frame in frames]
        for frame, exchange in matched:
            if exchange is None:
                if self.loss is None:
                    self._unasked(frame)
                continue
            if self.loss is not None:
                exchange.failed(self.loss)
                continue
            try:
                answer = judge(exchange.question, frame.unit, frame.pdu)
            except BadReply as error:
                exchange.failed(error)
                continue
            exchange.answered(answer, at)
        if broken is not None:
            self._buffer.clear()
            self._owner.unasked(None, broken)
            self.lose(no_answer(broken))

    def _unasked(self, frame: TcpFrame) -> None:
        given_up = self._given_up.pop(frame.transaction, None)
        if given_up is not None:
            given_up.came_late()
            return
        open_ids = ", ".join(map(str, self._asked)) or None
        asked = f"{open_ids} was asked" if open_ids else "nothing was asked"
        reason = f"the answer has transaction id {frame.transaction}, and {asked}"
        self._owner.unasked(frame.unit, BadReply(reason))

    def _open(self) -> Iterable[Exchange]:
        return self._asked.values()

    def _give_up(self, exchange: Exchange) -> None:
        transaction = next(key for key, open_ in self._asked.items() if open_ is exchange)
        del self._asked[transaction]
        self._given_up[transaction] = exchange
        if len(self._given_up) > _GIVEN_UP_MAX:
            del self._given_up[next(iter(self._given_up))]
        exchange.failed(NoAnswer())

    def _forget(self) -> Iterable[Exchange]:
        open_ = tuple(self._asked.values())
        self._asked.clear()
        self._given_up.clear()
        self._buffer.clear()
        return open_
