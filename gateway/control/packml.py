"""Commands by name for PackML machines: the handshake of `CntrlCmd` and `CmdChangeRequest`, and its end.

The number of the command is written, read back, and only then the request is raised: a request raised over a
number that never arrived would carry out the command of before. It worked when the machine has moved as its
model says, as the engine saw it. The machine takes the request back, or we do, as configured; a request that
still stands when the time is over is withdrawn, so that no machine carries it out when nobody expects it any
more, and where even that fails it is said. One handshake for each equipment at a time. What the model allows
is judged in `moves`; who may command, ledgers and audit are not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

import msgspec

from api.ports import HistoryUnavailable, StreamPosition, TagView, TooOld
from connectors.base import Clock, WriteOutcome, Written
from gateway.config.control import PackmlSettings
from gateway.control.carrying import Carried, Check, Halt, Order, halted
from gateway.control.moves import Way, way_of
from gateway.control.readings import Readings
from gateway.control.tags import WRITE_S_MAX, Write
from gateway.errors import GatewayError
from statemodel.engine import EquipmentSpec
from statemodel.packml import COMMAND_CODES
from statemodel.records import EquipmentState, Recorded
from statemodel.types import UNKNOWN, CommandStatus, Quality, TagSample, TagValue, Transition

#: How often the newest values are looked at while something is awaited.
LOOK_S = 0.02
#: How long a request of before may take to be read as taken back, before a new one is refused.
SETTLE_S_MAX = 2.0
#: How long a stop waits for a request to be taken back.
STOP_S_MAX = 2.0
#: How long it is looked for that our taking back of a request has arrived.
WITHDRAWN_S_MAX = 2.0


#: Wall clock and monotonic.
Instant = tuple[datetime, float]


class Sight(Protocol):
    """What is known of the plant now; `gateway.live.Live`."""

    def state(self, equipment: str) -> EquipmentState:
        """The present state."""
        ...

    def tag(self, tag: str) -> TagView | None:
        """A tag with its newest sample."""
        ...

    def position(self) -> StreamPosition:
        """Where the sequence stands."""
        ...

    def events(self, after: int | None) -> AsyncIterator[Sequence[Recorded]]:
        """What is recorded from now on."""
        ...


class _Moved(msgspec.Struct):
    """The moves of one equipment since its request was raised."""

    moves: list[Transition]
    trouble: str = ""
    """Why they can be followed no longer."""


class _Over(Exception):
    """The handshake ends here; nothing more is sent."""

    def __init__(self, carried: Carried) -> None:
        super().__init__(carried.reason)
        self.carried = carried


class PackmlCarrier:
    """Keeps `gateway.control.carrying.Carrier` for rules with `packml`."""

    def __init__(
        self,
        sight: Sight,
        readings: Readings,
        write: Write,
        clock: Clock,
        specs: Callable[[], Mapping[str, EquipmentSpec]],
    ) -> None:
        """`write` is that of `gateway.writing.Writing`, `specs` the equipment as configured now."""
        self._sight, self._readings, self._write_to = sight, readings, write
        self._clock, self._specs = clock, specs
        self._turns: dict[str, asyncio.Lock] = {}

    def sends(self, order: Order) -> str:
        """See `Carrier.sends`."""
        packml = _packml(order)
        number = COMMAND_CODES.get(order.command, "?")
        who = "the machine" if packml.reset == "machine" else "the gateway"
        return (
            f"{packml.command} = {number} ({order.command}), then {packml.request} = true, "
            f"which {who} takes back"
        )

    def judge(self, order: Order) -> Way | Halt:
        """Whether the command is one in the present state, and where it leads. Memory only."""
        spec = self._specs().get(order.equipment)
        if spec is None:
            return Halt("not_allowed", f'there is no equipment "{order.equipment}" any more')
        shown = None if spec.mode is None else self._sight.tag(spec.mode)
        mode = None if shown is None else shown.latest
        good = mode is not None and mode.quality is Quality.GOOD
        state = self._sight.state(order.equipment)
        return way_of(spec, state.state, order.command, mode.value if mode is not None and good else None)

    def standing(self, rules: Mapping[str, PackmlSettings]) -> Mapping[str, str]:
        """Requests that are raised now although nobody here is at it, by equipment, in words."""
        found = {}
        for equipment, packml in rules.items():
            turn = self._turns.get(equipment)
            sample = self._good(packml.request)
            if sample is not None and sample.value and not (turn is not None and turn.locked()):
                found[equipment] = f"{packml.request} is raised, and no command is under way"
        return found

    async def carry(self, order: Order, check: Check) -> Carried:
        """See `Carrier.carry`."""
        turn = self._turns.setdefault(order.equipment, asyncio.Lock())
        async with turn:
            try:
                return await self._handshake(order, check)
            except _Over as over:
                return over.carried

    def news(self, order: Order, carried: Carried) -> Carried:
        """See `Carrier.news`: a move that was seen stays seen."""
        return carried

    # The handshake, step by step.

    async def _handshake(self, order: Order, check: Check) -> Carried:
        packml = _packml(order)
        until_s = self._clock.monotonic() + packml.within.total_seconds()
        low, high = await self._levels(packml)
        self._judged(order)
        number = COMMAND_CODES[order.command]
        if (halt := check()) is not None:
            return halted(halt)
        written = await self._write(order, packml.command, number)
        if written.outcome is WriteOutcome.REFUSED:
            return _refused(f"{packml.command}: {written.reason}; the machine was not asked for anything")
        await self._command_stands(packml, number, written, until_s)
        way = self._judged(order)  # it may have moved meanwhile, or too much time have passed
        if (halt := check()) is not None:
            return halted(halt)
        async with self._watching(order.equipment) as moved:
            raised_at = self._instant()
            try:
                raised = await self._write(order, packml.request, high)
                if raised.outcome is WriteOutcome.REFUSED:
                    reason = f"{packml.request}: {raised.reason}; the machine was not asked for anything"
                    return _refused(reason)
                await self._taken(packml, way, moved, low, raised_at, until_s)
                stands = await self._withdraw(order, packml, low, raised_at)
            except asyncio.CancelledError:
                # The gateway stops: nobody would be there to take the request back.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_S_MAX):
                        await self._write(order, packml.request, low)
                raise
        return self._told(order, way, moved, raised, stands)

    async def _taken(
        self,
        packml: PackmlSettings,
        way: Way,
        moved: _Moved,
        low: TagValue,
        raised_at: Instant,
        until_s: float,
    ) -> None:
        """Return when the machine has done what it should, or the time is over.

        Another move may be the machine's own, just before it looked; only time tells.
        """
        await self._until(lambda: _hit(way, moved.moves) is not None or bool(moved.trouble), until_s)
        if packml.reset == "machine":
            await self._until(lambda: self._reads(packml.request, low, raised_at), until_s)

    async def _levels(self, packml: PackmlSettings) -> tuple[TagValue, TagValue]:
        """What the request tag is when nothing is asked and when something is; it must be low now."""
        sample = self._good(packml.request)
        if sample is None or not isinstance(sample.value, bool | int | float):
            reason = f"{packml.request} has no good value now, so that nobody knows whether it is raised"
            raise _Over(Carried(CommandStatus.REFUSED, "value_unknown", f"{reason}; nothing was sent"))
        low, high = (False, True) if isinstance(sample.value, bool) else (0, 1)
        settled_s = self._clock.monotonic() + SETTLE_S_MAX
        if not await self._until(lambda: self._reads(packml.request, low), settled_s):
            reason = f"{packml.request} is raised already: another command is under way; nothing was sent"
            raise _Over(Carried(CommandStatus.REFUSED, "busy", reason))
        return low, high

    def _judged(self, order: Order) -> Way:
        way = self.judge(order)
        if isinstance(way, Halt):
            raise _Over(halted(way))
        return way

    async def _command_stands(
        self, packml: PackmlSettings, number: int, written: Written, until_s: float
    ) -> None:
        """Return when the number has been read back."""
        over = self._instant()
        if await self._until(lambda: self._reads(packml.command, number, over), until_s):
            return
        left = f"{packml.request} was not raised, so the machine was not asked for anything"
        sample = self._readings.since(packml.command, *over)
        if written.outcome is WriteOutcome.UNKNOWN or sample is None or sample.quality is not Quality.GOOD:
            why = written.reason or "it has not been read since with good quality"
            raise _Over(
                Carried(CommandStatus.UNKNOWN, "command_not_seen", f"{packml.command}: {why}; {left}")
            )
        reason = f"{packml.command} reads {sample.value}, not {number}; {left}"
        raise _Over(Carried(CommandStatus.MISMATCH, "command_not_seen", reason, sample.value))

    async def _withdraw(self, order: Order, packml: PackmlSettings, low: TagValue, raised_at: Instant) -> str:
        """See that the request stands no longer; in words why it still does, or may."""
        if packml.reset == "machine" and self._reads(packml.request, low, raised_at):
            return ""
        written = await self._write(order, packml.request, low)
        over = self._instant()
        if await self._until(lambda: self._reads(packml.request, low, over), over[1] + WITHDRAWN_S_MAX):
            return ""
        if written.outcome is WriteOutcome.ACCEPTED and self._readings.since(packml.request, *over) is None:
            return f"{packml.request} was taken back and has not been read since"
        return f"{packml.request} may still be raised: {written.reason or 'it is read as raised'}"

    def _told(self, order: Order, way: Way, moved: _Moved, raised: Written, stands: str) -> Carried:
        """What became of it, as far as it was seen."""
        state = self._sight.state(order.equipment).state
        more = f"; {stands}" if stands else ""
        moves = moved.moves
        if (hit := _hit(way, moves)) is not None:
            code = "request_stands" if stands else ""
            return Carried(CommandStatus.VERIFIED, code, stands, hit.to_state)
        others = [move for move in moves if move.to_state != UNKNOWN]
        if others:
            went = " and ".join(move.to_state for move in others[-3:])
            reason = f"it went to {went}, and {order.command} leads to {way.words}{more}"
            return Carried(CommandStatus.MISMATCH, "other_move", reason, state)
        if moved.trouble:
            reason = f"the moves of {order.equipment} cannot be followed: {moved.trouble}{more}"
            return Carried(CommandStatus.UNKNOWN, "moves_unknown", reason, state)
        if raised.outcome is WriteOutcome.UNKNOWN:
            return Carried(CommandStatus.UNKNOWN, "request_unknown", f"{raised.reason}{more}", state)
        if state == UNKNOWN:
            reason = f"the state has not been known since the request was raised{more}"
            return Carried(CommandStatus.UNKNOWN, "state_unknown", reason, state)
        reason = f"it is in {state} as before, and {order.command} leads to {way.words}{more}"
        return Carried(CommandStatus.MISMATCH, "no_move", reason, state)

    # Looking and writing.

    async def _write(self, order: Order, tag: str, value: TagValue) -> Written:
        try:
            async with asyncio.timeout(WRITE_S_MAX):
                return await self._write_to(order.equipment, tag, value, order.source)
        except TimeoutError:
            reason = f"the connector has not answered within {WRITE_S_MAX:g} s"
            return Written(tag, WriteOutcome.UNKNOWN, reason)

    @asynccontextmanager
    async def _watching(self, equipment: str) -> AsyncIterator[_Moved]:
        """The moves of an equipment from now on, as they are recorded."""
        moved = _Moved([])
        after = self._sight.position().last_seq

        async def watch() -> None:
            try:
                async for page in self._sight.events(after):
                    moved.moves += [
                        item.event
                        for item in page
                        if isinstance(item.event, Transition) and item.event.equipment == equipment
                    ]
                moved.trouble = "the sequence has ended"
            except (TooOld, HistoryUnavailable, GatewayError) as error:
                moved.trouble = str(error) or "what is recorded cannot be read"

        watching = asyncio.create_task(watch())
        try:
            yield moved
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _until(self, is_so: Callable[[], bool], until_s: float) -> bool:
        """Wait for something to be so, not beyond a monotonic time."""
        while not is_so():
            left_s = until_s - self._clock.monotonic()
            if left_s <= 0:
                return False
            await self._clock.sleep(min(LOOK_S, left_s))
        return True

    def _instant(self) -> Instant:
        return self._clock.now(), self._clock.monotonic()

    def _good(self, tag: str) -> TagSample | None:
        sample = self._readings.newest(tag)
        return sample if sample is not None and sample.quality is Quality.GOOD else None

    def _reads(self, tag: str, value: TagValue, since: Instant | None = None) -> bool:
        """Whether it reads so, in a reading taken after an instant if one is given."""
        sample = self._readings.newest(tag) if since is None else self._readings.since(tag, *since)
        return sample is not None and sample.quality is Quality.GOOD and sample.value == value


def _packml(order: Order) -> PackmlSettings:
    assert order.rule.packml is not None, "rules of commands by name have it"
    return order.rule.packml


def _hit(way: Way, moves: Sequence[Transition]) -> Transition | None:
    """The move that shows that the command was carried out."""
    return next((move for move in moves if move.to_state in way.states), None)


def _refused(reason: str) -> Carried:
    return Carried(CommandStatus.REFUSED, "device_refused", reason)
