"""What comes in on a connection: the primary host's word at once, commands in turn and never too many.

A host, or whoever else may publish there, can ask a thousand times a second: what is too much is counted and
dropped, each kind of complaint is logged once a minute, and the loop always has time for everything else.
Writes go through a queue of their own, since a device takes its time. Judging is `commands.py`'s work.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import structlog

from connectors.base import Clock, WriteOutcome
from gateway.mqtt.terms import Message
from gateway.sparkplug.commands import KINDS, CommandPort, Commands, NextServer, Rebirth, Refused, WriteOrder
from gateway.sparkplug.hearing import Hearing
from gateway.sparkplug.host import PrimaryHost, Word
from gateway.sparkplug.messages import Now
from gateway.sparkplug.ration import Ration
from gateway.together import together

#: Most commands that wait to be judged, and most writes that wait for devices.
COMMANDS_MAX, WRITES_MAX = 1000, 64
#: Writes under way at once: each is over when it has been read back. Those for one tag keep their order.
WRITES_AT_ONCE_MAX = 8
#: Longest command that is looked at, and most bytes of those that wait to be judged.
COMMAND_BYTES_MAX, WAITING_BYTES_MAX = 256 * 1024, 4 * 1024 * 1024
#: A write that came so long ago is refused: what a person wanted then may be wrong now. It waits for those
#: before it, for births on a slow link, and for all the time that the primary host is away.
WRITE_AGE_S_MAX = 5.0
#: So many commands are judged before anything else gets its turn.
TURN_COMMANDS = 25
#: A complaint of one kind is logged once in this time.
COMPLAIN_EVERY_S = 60.0

#: What is counted of commands: what was done with them, and why with others nothing was.
WHAT = ("rebirth", "next_server", "written", "not_written", "unsure", "overrun", "too_late", *KINDS)

log = structlog.get_logger(__name__)


class Leaving(Exception):
    """The connection is to be left, and the next server tried; with `stay` the same one again."""

    def __init__(self, reason: str, *, stay: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.stay = reason, stay


class Writes:
    """Writes on their way to devices, and what became of them. Lives as long as the node."""

    def __init__(self, port: CommandPort | None, clock: Clock, sink: str) -> None:
        self._port, self._clock, self._sink = port, clock, sink
        self._queue: asyncio.Queue[tuple[float, WriteOrder]] = asyncio.Queue(WRITES_MAX)
        self._complaints: dict[str, tuple[Ration, int]] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(WHAT, 0))

    def put(self, order: WriteOrder, asked_s: float) -> None:
        """Write this, which came at monotonic time `asked_s`, as soon as those before it are done.

        Refused when too many wait, or when it has waited too long by then.
        """
        try:
            self._queue.put_nowait((asked_s, order))
        except asyncio.QueueFull:
            self.complain("overrun", "too many commands wait", tag=order.tag)

    def take_over(self, before: Writes) -> None:
        """What waits there waits here; whoever carries writes to devices judges them by what holds now."""
        self.counts.update(before.counts)
        while not before._queue.empty():
            asked_s, order = before._queue.get_nowait()
            if self._port is None:
                self.complain("off", "commands are off by now", tag=order.tag)
            else:
                self.put(order, asked_s)

    async def run(self) -> None:
        """Write, for ever: begun in the order they came, some at once."""
        await together(*(self._work() for _ in range(WRITES_AT_ONCE_MAX)))

    async def _work(self) -> None:
        while True:
            asked_s, order = await self._queue.get()
            if self.is_late(asked_s):
                self.complain("too_late", "a write waited too long before its turn came", tag=order.tag)
            elif self._port is not None:
                await self._write(self._port, order)

    def is_late(self, asked_s: float) -> bool:
        """Whether what came at that time is too old to be carried out."""
        return self._clock.monotonic() - asked_s > WRITE_AGE_S_MAX

    async def _write(self, port: CommandPort, order: WriteOrder) -> None:
        written = await port.write(order.equipment, order.tag, order.value, order.source)
        if written.outcome is WriteOutcome.ACCEPTED:
            self.counts["written"] += 1
        elif written.outcome is WriteOutcome.REFUSED:
            self.complain("not_written", written.reason, tag=order.tag)
        else:
            self.complain("unsure", written.reason, tag=order.tag)

    def complain(self, kind: str, reason: str, **more: str) -> None:
        """Count it; log it unless the same was logged a moment ago."""
        self.counts[kind] += 1
        ration, silent = self._complaints.get(kind, (Ration(COMPLAIN_EVERY_S), 0))
        if ration.ask(self._clock.monotonic()):
            log.warning(
                "a command was not carried out",
                sink=self._sink,
                kind=kind,
                reason=reason,
                alike_before=silent,
                **more,
            )
            silent = -1
        self._complaints[kind] = ration, silent + 1


class Inbox:
    """What one connection hears. `put` is called from the connection and never waits."""

    def __init__(
        self,
        *,
        commands: Commands,
        host: PrimaryHost | None,
        writes: Writes,
        clock: Clock,
        hearing: Hearing | None = None,
    ) -> None:
        self._hearing = hearing
        self._commands, self._host, self._writes, self._clock = commands, host, writes, clock
        self._queue: asyncio.Queue[tuple[float, Message]] = asyncio.Queue(COMMANDS_MAX)
        self._waiting_bytes = 0
        self._word = asyncio.Event()
        self._is_gone = self._heard = False

    def put(self, message: Message) -> None:
        """A message has come in."""
        if self._host is not None and message.topic == self._host.topic:
            was_online = self._host.online
            word = self._host.judge(
                message.topic, message.payload, self._clock.now(), retained=message.retained
            )
            if word is not Word.IGNORED:
                # Once gone is gone, though it may be back a moment later.
                gone = (was_online and word is Word.OFFLINE) or self._host.came_anew
                self._is_gone = self._is_gone or gone
                self._heard = True
                self._word.set()
            return
        if self._hearing is not None and self._hearing.hear(
            message, Now(self._clock.now(), self._clock.monotonic())
        ):
            return
        size = len(message.payload)
        if size > COMMAND_BYTES_MAX:
            reason = f"{size} bytes; of a command at most {COMMAND_BYTES_MAX} are looked at"
            self._writes.complain("too_many", reason)
        elif self._queue.full() or self._waiting_bytes + size > WAITING_BYTES_MAX:
            self._writes.complain("overrun", "commands come faster than they can be judged")
        else:
            self._waiting_bytes += size
            self._queue.put_nowait((self._clock.monotonic(), message))

    def take_over(self, before: Inbox) -> None:
        """What another heard on the same connection and has not dealt with is dealt with here."""
        self._queue, self._waiting_bytes = before._queue, before._waiting_bytes
        self._is_gone, self._heard = before._is_gone, before._heard

    @property
    def host_is_gone(self) -> bool:
        """Whether the primary host has said that it is gone, whatever it said since."""
        return self._is_gone

    async def host_online(self) -> None:
        """Return when the primary host has said that it is there; at once without one."""
        while self._host is not None and not self._host.online:
            self._word.clear()
            await self._word.wait()

    async def host_word(self) -> bool:
        """Whether the primary host is there, as soon as it has said so or otherwise."""
        while self._host is not None and not self._heard:
            self._word.clear()
            await self._word.wait()
        return self._host is None or self._host.online

    async def host_offline(self) -> None:
        """Return when the primary host has said that it is gone; never without one."""
        while not self._is_gone:
            self._word.clear()
            await self._word.wait()

    async def run(self, reborn: Callable[[str], Awaitable[None]]) -> None:
        """Carry out what is asked for, for ever. Call once the births are out.

        Raises:
            Leaving: the next server was asked for.
        """
        judged = 0
        while True:
            heard_s, message = await self._queue.get()
            self._waiting_bytes -= len(message.payload)
            orders = self._commands.judge(
                message.topic, message.payload, self._clock.now(), retained=message.retained
            )
            for order in orders:
                if isinstance(order, Rebirth):
                    self._writes.counts["rebirth"] += 1
                    await reborn(order.device)
                elif isinstance(order, WriteOrder):
                    self._writes.put(order, heard_s)
                elif isinstance(order, Refused):
                    self._writes.complain(order.kind, order.reason)
                elif isinstance(order, NextServer) and self._writes.is_late(heard_s):
                    self._writes.complain("too_late", "the next server was asked for too long ago")
                elif isinstance(order, NextServer):
                    self._writes.counts["next_server"] += 1
                    raise Leaving("a host asked for the next server")
            judged += 1
            if judged % TURN_COMMANDS == 0:
                await asyncio.sleep(0)


def command_figures(writes: Writes) -> Mapping[str, int]:
    """Commands by what became of them; the words are those of `WHAT`."""
    return dict(writes.counts)
