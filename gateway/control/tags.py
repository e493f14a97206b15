"""Carries a value to a tag: one write, then what the connector's own polling reads afterwards.

A write is never repeated, whatever is read. Where nothing is read in time the answer says `written` and why;
where the device answered nothing it says `unknown`, unless a later reading shows the value.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from datetime import datetime

from connectors.base import Clock, WriteOutcome, Written
from gateway.control.carrying import Carried, Check, Order, halted
from gateway.control.readings import Readings
from statemodel.durations import format_duration
from statemodel.types import CommandStatus, Quality, TagSample, TagValue

#: Longest wait for the answer of a connector; connectors have shorter ones of their own.
WRITE_S_MAX = 30.0

Write = Callable[[str | None, str, TagValue, str], Awaitable[Written]]


class TagCarrier:
    """Implements `gateway.control.carrying.Carrier` for tags."""

    def __init__(
        self, write: Write, readings: Readings, clock: Clock, place: Callable[[str], str] = lambda _: ""
    ) -> None:
        """`write` is that of `gateway.writing.Writing`; `place` says where a tag lies in its device."""
        self._write, self._readings, self._clock, self._place = write, readings, clock, place
        #: From when on readings count for each order, for `news`; an entry lives as long as its order.
        self._over: dict[str, tuple[datetime, float]] = {}

    def sends(self, order: Order) -> str:
        """See `Carrier.sends`."""
        where = self._place(order.tag)
        return f"{order.tag} = {order.value!r}" + (f" to {where}" if where else "")

    async def carry(self, order: Order, check: Check) -> Carried:
        """See `Carrier.carry`."""
        if (halt := check()) is not None:
            return halted(halt)
        try:
            async with asyncio.timeout(WRITE_S_MAX):
                written = await self._write(order.equipment, order.tag, order.value, order.source)
        except TimeoutError:
            reason = f"the connector has not answered within {WRITE_S_MAX:g} s"
            written = Written(order.tag, WriteOutcome.UNKNOWN, reason)
        if written.outcome is WriteOutcome.REFUSED:
            return Carried(CommandStatus.REFUSED, "device_refused", written.reason)
        settle = order.rule.readback.settle
        over = self._clock.now() + settle, self._clock.monotonic() + settle.total_seconds()
        self._over[order.id] = over
        return await self._read_back(order, written, over)

    async def _read_back(self, order: Order, written: Written, over: tuple[datetime, float]) -> Carried:
        settings = order.rule.readback
        tag, within_s = settings.tag or order.tag, (settings.within - settings.settle).total_seconds()
        last: TagSample | None = None
        while True:
            last = self._readings.since(tag, *over) or last
            if last is not None and _is_good(last) and agree(order.value, last.value, settings.tolerance):
                return _verified(written, last)
            left_s = over[1] + within_s - self._clock.monotonic()
            if left_s <= 0 or not await self._readings.news(left_s):
                break
        last = self._readings.since(tag, *over) or last
        return _not_verified(order, written, tag, last)

    def news(self, order: Order, carried: Carried) -> Carried:
        """See `Carrier.news`: a value that has changed since it was read back is told as it is read now."""
        over = self._over.pop(order.id, None)
        if carried.status is not CommandStatus.VERIFIED or over is None:
            return carried
        settings = order.rule.readback
        now = self._readings.since(settings.tag or order.tag, *over)
        if now is None or not _is_good(now) or agree(order.value, now.value, settings.tolerance):
            return carried
        reason = f"it was read back as {carried.read!r}, and right after as {now.value!r}"
        return Carried(CommandStatus.MISMATCH, "changed_after", reason, now.value)


def _verified(written: Written, sample: TagSample) -> Carried:
    if written.outcome is WriteOutcome.UNKNOWN:
        reason = f"the answer is missing ({written.reason}), and it is read back as it was sent"
        return Carried(CommandStatus.VERIFIED, "unanswered", reason, sample.value)
    return Carried(CommandStatus.VERIFIED, "", "", sample.value)


def _not_verified(order: Order, written: Written, tag: str, last: TagSample | None) -> Carried:
    within = format_duration(order.rule.readback.within)
    good = last is not None and _is_good(last)
    read = last.value if last is not None and good else None
    if written.outcome is WriteOutcome.UNKNOWN:
        seen = f"{tag} is read as {read!r}" if good else f"{tag} has not been read since"
        reason = f"it was sent, and nothing says what became of it: {written.reason}; {seen}"
        return Carried(CommandStatus.UNKNOWN, "unanswered", reason, read)
    if good:
        reason = f"{tag} is read as {read!r} {within} after {order.value!r} was written"
        return Carried(CommandStatus.MISMATCH, "read_back", reason, read)
    if last is not None:
        reason = f"the device took it; {tag} is read with bad quality, so that nothing confirms it"
    else:
        reason = f"the device took it; {tag} has not been read within {within}, so that nothing confirms it"
    return Carried(CommandStatus.WRITTEN, "not_read", reason)


def _is_good(sample: TagSample) -> bool:
    return sample.quality is Quality.GOOD


def agree(asked: TagValue, read: TagValue, tolerance: float) -> bool:
    """Whether what is read is what was asked for. Numbers may differ by the tolerance, and by what a device
    loses that keeps them with 32 bits."""
    if isinstance(asked, str) or isinstance(read, str) or asked is None or read is None:
        return asked == read
    if isinstance(asked, bool) != isinstance(read, bool):
        return {int(asked), int(read)} <= {0, 1} and int(asked) == int(read)
    if abs(asked - read) <= tolerance or asked == read:
        return True
    kept = _in_32_bits(float(asked))
    return isinstance(read, float) and kept is not None and kept == _in_32_bits(read)


def _in_32_bits(value: float) -> float | None:
    try:
        kept: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return None
    return kept
