"""One link to Modbus devices: questions out, their answers back, nothing else let through.

Two kinds: over Modbus TCP several questions may be open, and an answer is known by its transaction id; over
the serial framings there is one, and what comes late is kept apart by `debts`. Whose questions they are, and
when they are asked, is for `line` to say; no task is woken between an answer and the next question.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

from connectors.errors import ConnectionLost
from connectors.modbus.frame import BadReply, Question

#: Hint to what a stream of bytes that is no Modbus leads to.
NO_ANSWER_HINT = "is it a Modbus device of this kind, and does nothing else answer on its address?"


class NoAnswer(Exception):
    """The question was not answered in time. `damaged`: something came, and its check was wrong."""

    def __init__(self, *, damaged: bool = False) -> None:
        super().__init__("no answer")
        self.damaged = damaged


@dataclass(slots=True)
class Counts:
    """What happened on the wire to one connection, over all its sessions."""

    answers: int = 0
    exceptions: int = 0
    timeouts: int = 0
    late: int = 0
    """Answers thrown away because their question had been given up."""
    bad_replies: int = 0
    """Answers that do not fit their question, or came damaged."""
    garbage_bytes: int = 0
    """Bytes on a serial line that belong to no answer."""
    writes: int = 0


class Exchange(ABC):
    """A question and what becomes of it; the same object may be asked again with another question.

    The methods are called by the event loop, and must not block. `answered` or `failed` is called once for
    each asking.
    """

    __slots__ = ("asked_at", "deadline", "question", "sent", "timeout_s")

    question: Question
    timeout_s: float
    deadline: float
    asked_at: float
    sent: bool
    """Whether the question itself has gone out, and not only something before it."""

    @abstractmethod
    def answered(self, answer: bytes | int, at: datetime) -> None:
        """The answer has come: values, or an exception code."""

    @abstractmethod
    def failed(self, why: NoAnswer | BadReply | ConnectionLost) -> None:
        """There is no answer: none in time, one to something else, or the link is gone."""

    @abstractmethod
    def came_late(self) -> None:
        """An answer to an earlier asking was thrown away."""

    @abstractmethod
    def saw_garbage(self, count: int) -> None:
        """Bytes were thrown away while this waited."""


class Owner(Protocol):
    """Who is told what concerns no single question."""

    def lost(self, error: Exception) -> None:
        """The link is gone. Anything but `ConnectionLost` is an error of ours."""
        ...

    def unasked(self, unit: int | None, error: BadReply) -> None:
        """A unit answered what was not asked; None when it is not known which."""
        ...


class Client(asyncio.Protocol, ABC):
    """The protocol object of one link."""

    def __init__(self, owner: Owner, now: Callable[[], datetime]) -> None:
        self._owner = owner
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = float("inf")
        self.slack_s = 0.0
        """How much longer than its timeout a question may take, because the bytes themselves do."""
        self.loss: ConnectionLost | None = None
        """Why the link is gone, once it is."""
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when nothing is left of it."""

    @abstractmethod
    def ask(self, exchange: Exchange) -> None:
        """Send its question, at once or as soon as the line is quiet."""

    @abstractmethod
    def _open(self) -> Iterable[Exchange]:
        """The exchanges that wait for an answer."""

    @abstractmethod
    def _give_up(self, exchange: Exchange) -> None:
        """It has waited long enough."""

    @abstractmethod
    def _forget(self) -> Iterable[Exchange]:
        """Let go of everything; returns what was open."""

    async def close(self) -> None:
        """End the link, and be sure that it is."""
        self.lose(ConnectionLost("the connection was closed here"))
        await self.closed

    def lose(self, loss: ConnectionLost) -> None:
        """Give the link up. Only the first reason counts."""
        self._end(loss)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.loss is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None or isinstance(exc, OSError):
            reason = f"the connection broke: {describe(exc)}" if exc else "the device closed the connection"
            self._end(ConnectionLost(reason))
        else:  # what a callback raised: an error of ours, not of the device
            self._end(exc)
        if not self.closed.done():
            self.closed.set_result(None)

    # Inner works.

    def _end(self, error: Exception) -> None:
        if self.loss is not None:
            return
        self.loss = loss = error if isinstance(error, ConnectionLost) else ConnectionLost("the client failed")
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for exchange in self._forget():
            exchange.failed(loss)
        if self._transport is not None:
            self._transport.abort()
        self._owner.lost(error)

    def _watch_over(self, deadline: float) -> None:
        """One timer watches over all questions: it is moved when it fires, not at every question."""
        if deadline < self._watch_at:
            if self._watch is not None:
                self._watch.cancel()
            self._watch_at = deadline
            self._watch = self._loop.call_at(deadline, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        self._watch, self._watch_at = None, float("inf")
        now = self._loop.time()
        for exchange in tuple(self._open()):
            if exchange.deadline <= now:
                self._give_up(exchange)
        for exchange in self._open():
            self._watch_over(exchange.deadline)


def no_answer(error: BadReply) -> ConnectionLost:
    """What a reply that is no answer means for the link, in words."""
    return ConnectionLost(f"the device sent what is no answer: {error.reason}", hint=NO_ANSWER_HINT)


def describe(error: Exception) -> str:
    """An error of the operating system in words."""
    if isinstance(error, ConnectionResetError) and not error.strerror:
        return "the other side closed it"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
