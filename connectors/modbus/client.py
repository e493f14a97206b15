"""One TCP connection to a Modbus device: a question out, its answer back, nothing else let through.

There is one question at a time. An answer that comes after its question was given up is thrown away and
counted; anything that is not the answer to the question ends the connection, because from then on nothing
read from it could be trusted. Knows no tags and no schedule.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from connectors.errors import ConnectionLost
from connectors.modbus.frame import PAYLOAD_AT, BadReply, Question, frame_bytes, read_answer, transaction_of

#: Given-up questions whose answers may still come. More than that many are never open before a connection
#: is given up as well.
_GIVEN_UP_MAX = 128
_TRANSACTION_MASK = 0xFFFF


class NoAnswer(Exception):
    """The question was not answered within the timeout. The connection stands."""


#: Takes an answer (payload or exception code) and gives the next question, or None to end the conversation.
Answered = Callable[[bytes | int], Question | None]


@dataclass(slots=True)
class Counts:
    """What happened on the wire, over all sessions of a connector."""

    answers: int = 0
    exceptions: int = 0
    timeouts: int = 0
    late: int = 0
    bad_replies: int = 0


class Client(asyncio.Protocol):
    """The protocol object of one connection. Made by `connect`.

    Questions and answers follow each other without a task being woken in between: at a few thousand polls a
    second that is most of the cost.
    """

    def __init__(self, timeout_s: float, now: Callable[[], datetime], counts: Counts) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._now = now
        self._counts = counts
        self._transport: asyncio.Transport | None = None
        self._transaction = 0
        self._question: Question | None = None
        self._answered: Answered | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._given_up: deque[int] = deque(maxlen=_GIVEN_UP_MAX)
        self._buffer = bytearray()
        self._loss: ConnectionLost | None = None
        self.received_at = now()
        """When the latest answer came."""
        self.misses = 0
        """Questions without an answer since the latest answer."""
        self.late = 0
        """Answers that came too late since the latest that did not."""
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is gone."""

    async def converse(self, question: Question, answered: Answered) -> None:
        """Ask, hand the answer to `answered`, ask what that gives, and so on until it gives None.

        `answered` is called by the event loop and must not block.

        Raises:
            NoAnswer: a question was not answered in time; another conversation may begin.
            ConnectionLost: the connection is gone.
        """
        assert self._waiter is None, "one conversation at a time"
        if self._loss is not None:
            raise self._loss
        self._waiter, self._answered = self._loop.create_future(), answered
        self._ask(question)
        try:
            await self._waiter
        finally:
            self._waiter = self._answered = self._question = None

    def loss(self) -> ConnectionLost:
        """Why the connection is gone."""
        return self._loss or ConnectionLost("the connection was closed")

    async def close(self) -> None:
        """End the connection, and be sure that it is."""
        self._lose(ConnectionLost("the connection was closed here"))
        await self.closed

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not isinstance(exc, OSError):
            self._end(exc)  # what `answered` raised: an error of ours, not of the device
        reason = f"the connection broke: {describe(exc)}" if exc else "the device closed the connection"
        self._lose(ConnectionLost(reason))
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        question = self._question
        if (
            question is not None
            and not self._buffer
            and len(data) == question.size
            and transaction_of(data) == self._transaction
            and data.startswith(question.head, 2)
        ):  # what nearly always comes: one whole frame, the awaited one
            self._answer(data[PAYLOAD_AT:])
            return
        self._buffer += data
        answers = self._counts.answers
        try:
            while (size := frame_bytes(self._buffer)) is not None and size <= len(self._buffer):
                frame = bytes(self._buffer[:size])
                del self._buffer[:size]
                # What came together with an answer was sent before the next question was.
                self._take(frame, awaited=self._counts.answers == answers)
        except BadReply as error:
            self._refuse(error)

    # Inner works.

    def _ask(self, question: Question) -> None:
        assert self._transport is not None, "a client that was not connected"
        self._transaction = self._transaction + 1 & _TRANSACTION_MASK
        self._question = question
        self._transport.write(question.frame(self._transaction))
        self._deadline = self._loop.time() + self._timeout_s
        if self._watch is None:
            self._watch = self._loop.call_at(self._deadline, self._look_at_the_time)

    def _take(self, frame: bytes, *, awaited: bool) -> None:
        """A whole frame has come; unless `awaited` it cannot be the answer to the open question."""
        transaction, question = transaction_of(frame), self._question if awaited else None
        if question is None or transaction != self._transaction:
            if transaction in self._given_up:
                self._given_up.remove(transaction)
                self._counts.late += 1
                self.late += 1
                return
            asked = "nothing was asked" if question is None else f"{self._transaction} was asked"
            self._refuse(BadReply(f"the answer has transaction id {transaction}, and {asked}"))
            return
        try:
            answer = read_answer(question, frame)
        except BadReply as error:
            self._refuse(error)
            return
        if isinstance(answer, int):
            self._counts.exceptions += 1
        self._answer(answer)

    def _answer(self, answer: bytes | int) -> None:
        """The awaited answer has come, and is one."""
        self.received_at = self._now()
        self._counts.answers += 1
        self.misses = self.late = 0
        self._question = None
        if self._answered is None:
            return
        following = self._answered(answer)
        if following is not None:
            self._ask(following)
        else:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        """The conversation is over, well or not."""
        self._question = self._answered = None
        if self._waiter is None or self._waiter.done():
            return
        if error is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(error)

    def _refuse(self, error: BadReply) -> None:
        self._counts.bad_replies += 1
        self._lose(
            ConnectionLost(
                f"the device sent what is no answer: {error.reason}",
                hint="is it a Modbus TCP device, and does nothing else answer on its address?",
            )
        )

    def _look_at_the_time(self) -> None:
        """One timer watches over all questions: it is moved on when it fires, not at every question."""
        self._watch = None
        if self._question is None:
            return
        if self._loop.time() < self._deadline:
            self._watch = self._loop.call_at(self._deadline, self._look_at_the_time)
            return
        self._counts.timeouts += 1
        self.misses += 1
        self._given_up.append(self._transaction)
        self._end(NoAnswer())

    def _lose(self, loss: ConnectionLost) -> None:
        """Let go of everything; only the first reason counts."""
        if self._loss is not None:
            return
        self._loss = loss
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._buffer.clear()
        self._end(loss)
        if self._transport is not None:
            self._transport.abort()


def describe(error: Exception) -> str:
    """An error of the operating system in words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


async def connect(
    host: str,
    port: int,
    *,
    connect_timeout_s: float,
    timeout_s: float,
    now: Callable[[], datetime],
    counts: Counts,
) -> Client:
    """A connection to a device.

    Raises:
        ConnectionLost: there is none within `connect_timeout_s`.
    """
    try:
        async with asyncio.timeout(connect_timeout_s):
            _, client = await asyncio.get_running_loop().create_connection(
                lambda: Client(timeout_s, now, counts), host, port
            )
    except TimeoutError as error:
        raise ConnectionLost(
            f"{host}:{port} did not take the connection within {connect_timeout_s:g} s",
            hint="is the device on, and the address right?",
        ) from error
    except OSError as error:
        raise ConnectionLost(
            f"no connection to {host}:{port}: {describe(error)}",
            hint="is the device on, and are host and port right?",
        ) from error
    return client
