"""One link and the connections that share it: who asks next, and whose silence is whose.

Opened by the first connection that joins, closed when the last one leaves. Writes go first, then the poll
groups of all connections by the time they have left. A unit that is silent loses its own connection and none
but that: while a unit has not proved that it answers, its questions are extra ones where transaction ids tell
answers apart, so that nobody waits for them; on a serial line, where one question can be open, it is asked
once an interval at most.

Everything happens in callbacks of the event loop; tasks are woken only when there is something to tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from connectors import standstill
from connectors.base import Clock
from connectors.errors import ConnectionLost, DeviceRefused
from connectors.modbus.client import Client, Exchange, no_answer
from connectors.modbus.config import Place
from connectors.modbus.debts import Debts
from connectors.modbus.frame import BadReply
from connectors.modbus.framing import Ascii, Rtu, SerialFraming
from connectors.modbus.member import Member
from connectors.modbus.opening import open_link
from connectors.modbus.schedule import Schedule
from connectors.modbus.serial_client import Pace, SerialClient
from connectors.modbus.tcp_client import TcpClient
from connectors.modbus.turns import GroupTurn, Lane
from connectors.modbus.writing import WriteJob

#: Units that have not proved that they answer and are asked at the same time, beside the others.
PROBED_AT_ONCE_MAX = 4
#: Event loops keep time in milliseconds and some round down: half of one more, and nobody wakes too early
#: only to lie down again many times over.
_TIMER_ROUNDING_S = 0.0005
_FRAMINGS: dict[str, Callable[[], SerialFraming]] = {"rtu": Rtu, "ascii": Ascii}


class Line:
    """A link, made anew whenever somebody wants it and it is not there. One for each place, for ever."""

    def __init__(self, place: Place, name: str, clock: Clock) -> None:
        self.place = place
        self._founder = name
        self._clock = clock
        self._debts = Debts()
        self._client: Client | None = None
        self._opening: asyncio.Task[Client] | None = None
        self._waiting = 0
        self._members: list[Member] = []
        self._units: set[int] = set()
        self._has_ids = place.framing == "tcp"
        self._window = place.pipeline
        #: Those whose units answer, and those whose do not yet or no more (only with transaction ids).
        self._trusted: Schedule[GroupTurn] = Schedule()
        self._probed: Schedule[GroupTurn] = Schedule()
        self._writers: list[Member] = []
        self.open_count = 0
        """Questions open to units that answer."""
        self._open_probes = 0
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        """When it calls. What uvloop hands out for a call that is due at once cannot be asked."""
        self._grace_s = standstill.STANDSTILL_S_MAX
        self.expected_by = float("inf")
        """When something must have happened at the latest, if this process ran."""

    @property
    def shared(self) -> bool:
        """Whether there is more than one connection on it."""
        return len(self._members) > 1

    @property
    def lively(self) -> bool:
        """Whether a unit on it answers."""
        return any(member.proven for member in self._members)

    # What connections do.

    async def join(self, member: Member, place: Place, name: str, connect_timeout_s: float) -> None:
        """Take part from now on.

        Raises:
            ConnectionLost: there is no link.
            DeviceRefused: the connection wants another link at the same place.
        """
        if place != self.place:
            raise DeviceRefused(
                f'"{name}" and "{self._founder}" share the link to {self.place} and do not agree on it '
                f"({', '.join(_differences(place, self.place))})",
                hint="give connections with the same endpoint the same settings of the link",
            )
        await self._opened(connect_timeout_s)
        member.line = self
        self._members.append(member)
        self._units.add(member.settings.unit)
        now = self._clock.monotonic()
        for turn in member.turns:
            turn.due = now
        self.sort(member)
        self.pump(now)

    async def leave(self, member: Member) -> None:
        """Take part no longer; the last one closes the link, and waits until it is."""
        member.leave()
        for job in member.writes:
            job.drop("the connection was lost")
        member.writes.clear()
        if member in self._members:
            self._members.remove(member)
        if member in self._writers:
            self._writers.remove(member)
        self._remove(member)
        if not self._members and not self._waiting:
            client, self._client = self._client, None
            self._stop_timer()
            if client is not None:
                await client.close()
        else:
            self.pump()

    def write(self, member: Member, job: WriteJob) -> None:
        """Send a write before any poll that waits."""
        member.writes.append(job)
        if member not in self._writers:
            self._writers.append(member)
        self.pump()

    def sort(self, member: Member) -> None:
        """Put a connection where it belongs, after its unit has answered or has not."""
        self._remove(member)
        apart = self._has_ids and not member.proven
        (self._probed if apart else self._trusted).turns.extend(member.turns)

    def freed(self, exchange: Lane | WriteJob) -> None:
        """A question is open no longer."""
        if exchange.probing:
            exchange.probing = False
            self._open_probes -= 1
            if isinstance(exchange, Lane):
                exchange.group.member.release()
        else:
            self.open_count -= 1

    def look(self, now: float) -> None:
        """Something happened. If nobody looked for too long before, what is known is old."""
        if now > self.expected_by:
            for member in self._members:
                member.overslept(now - self.expected_by + self._grace_s)
            self.expected_by = float("inf")

    def pump(self, now: float | None = None) -> None:
        """Ask what may be asked now, and see to being called when there is more."""
        client = self._client
        if client is None:
            return
        if now is None:
            now = self._clock.monotonic()
            self.look(now)
        while client.loss is None:
            lane: Lane | None = None
            if self.open_count < self._window and not self._writers:
                turn = self._trusted.next(now)
                if turn is not None and (lane := turn.take(now)) is None:
                    continue  # a group with nothing to ask at present
            if lane is not None:
                self.open_count += 1
                exchange: Exchange = lane
            elif (other := self._next_other(now)) is not None:
                exchange = other
            else:
                break
            client.ask(exchange)
            self.expected_by = now + exchange.timeout_s + self._grace_s
            if not self._has_ids:
                self.expected_by += client.slack_s
            if self.open_count >= self._window and not self._probed.turns:
                return  # nothing fits beside it; its answer calls again, or its time-out
        self._wait(now)

    # What the client calls.

    def lost(self, error: Exception) -> None:
        """The link is gone, and with it every connection."""
        self._client = None
        self.open_count = self._open_probes = 0
        self._stop_timer()
        for member in self._members:
            if isinstance(error, ConnectionLost):
                member.fail(ConnectionLost(error.reason, hint=error.hint))
            else:
                member.fail(error)

    def unasked(self, unit: int | None, error: BadReply) -> None:
        """Somebody answered what was not asked: the unit it says, or else all are in doubt."""
        if unit in self._units:
            # It may have left meanwhile; then there is nobody to tell, and no reason to blame the others.
            for member in self._members:
                if member.settings.unit == unit:
                    member.unfit(error)
            return
        for member in self._members:
            member.unfit(error)
        if self._client is not None:
            self._client.lose(no_answer(error))

    # Inner works.

    async def _opened(self, connect_timeout_s: float) -> None:
        """Have a link. Who wants one at the same time waits for the same attempt, and shares its failure."""
        self._waiting += 1
        try:
            if self._client is None:
                if self._opening is None:
                    self._opening = asyncio.ensure_future(self._open_now(connect_timeout_s))
                opening = self._opening
                await asyncio.shield(opening)
        except ConnectionLost as lost:  # each who waited has one of his own
            raise ConnectionLost(lost.reason, hint=lost.hint) from lost
        finally:
            self._waiting -= 1
            if not self._waiting and self._opening is not None and not self._opening.done():
                self._opening.cancel()
                self._opening = None
        if self._client is None:
            raise ConnectionLost("the device closed the connection")

    async def _open_now(self, connect_timeout_s: float) -> Client:
        try:
            client = await open_link(self.place, connect_timeout_s, self._make)
            self._client = client
            if client.loss is not None:
                raise ConnectionLost(client.loss.reason, hint=client.loss.hint)
            self.expected_by = float("inf")
            return client
        finally:
            if self._opening is asyncio.current_task():  # and not one begun after this was given up
                self._opening = None

    def _make(self) -> Client:
        self.open_count = self._open_probes = 0
        if self._has_ids:
            return TcpClient(self, self._clock.now)
        serial = self.place.serial
        pace = Pace.of(serial.baud) if serial is not None else Pace()
        framing = _FRAMINGS[self.place.framing]()
        return SerialClient(self, self._clock.now, framing, self._debts, pace)

    def _remove(self, member: Member) -> None:
        for schedule in (self._trusted, self._probed):
            schedule.turns = [turn for turn in schedule.turns if turn.member is not member]

    def _next_other(self, now: float) -> Exchange | None:
        """What there is besides polls of units that answer: writes, which go before those, and probes."""
        if self._writers and self.open_count < self._window:
            if (job := self._next_write()) is not None:
                self.open_count += 1
                return job
            if (lane := _take(self._trusted, now)) is not None:
                self.open_count += 1
                return lane
        if self._probed.turns and self._open_probes < PROBED_AT_ONCE_MAX:
            lane = _take(self._probed, now)
            if lane is not None:
                self._open_probes += 1
                lane.probing = True
                lane.group.member.hold()
                return lane
        return None

    def _next_write(self) -> WriteJob | None:
        for member in tuple(self._writers):
            while member.writes and not member.writes[0].wanted:
                member.writes.popleft()
            if not member.writes:
                self._writers.remove(member)
            elif not member.resting:
                # To the end of the line: connections take turns.
                self._writers.remove(member)
                job = member.writes.popleft()
                if member.writes:
                    self._writers.append(member)
                return job
        return None

    def _wait(self, now: float) -> None:
        """Be called when the next group is due, where there is room for it; an answer calls anyway."""
        wait_s = float("inf")
        if self.open_count < self._window:
            wait_s = self._trusted.wait_s(now)
        if self._probed.turns and self._open_probes < PROBED_AT_ONCE_MAX:
            wait_s = min(wait_s, self._probed.wait_s(now))
        if not self.open_count and not self._open_probes:
            self.expected_by = now + wait_s + self._grace_s
        if wait_s == float("inf"):
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + wait_s + _TIMER_ROUNDING_S
        if self._timer is not None:
            if abs(self._timer_at - when) < _TIMER_ROUNDING_S:
                return
            self._timer.cancel()
        self._timer, self._timer_at = loop.call_at(when, self._on_time), when

    def _on_time(self) -> None:
        self._timer = None
        try:
            self.pump()
        except Exception as error:  # noqa: BLE001 - an error of ours: every `run` ends with it
            if self._client is not None:
                self._client.connection_lost(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _take(schedule: Schedule[GroupTurn], now: float) -> Lane | None:
    """The lane that asks next, if any; groups that have nothing to ask are passed over."""
    while (turn := schedule.next(now)) is not None:
        if (lane := turn.take(now)) is not None:
            return lane
    return None


def _differences(one: Place, other: Place) -> list[str]:
    """The settings in which they differ."""
    names = ("framing", "serial", "tls", "pipeline", "host", "port")
    return [name for name in names if getattr(one, name) != getattr(other, name)]
