"""Sends a command that is on record everywhere, once, and brings it to its end.

    ledger (sending) -> last check and write -> read back -> its end

From `sending` on it may have been carried out, whatever dies when. Judges nothing but what has come between
since it was judged; how it is written and read back is the carriers'.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import structlog

from api.commanding import CommandView
from gateway.config.control import AllowSettings
from gateway.control.bench import Bench
from gateway.control.carrying import Carried, Carrier, Check, Halt, Order
from gateway.control.ending import Ends
from gateway.control.facts import Facts
from gateway.control.ledger import Entry, Ledger, LedgerFailed, Stage
from gateway.control.refusing import no_ledger
from statemodel.types import CommandStatus

_log = structlog.get_logger("andon.commands")


class Sending:
    """`carriers` has one for `tag` and one for `packml`."""

    def __init__(self, bench: Bench, ledger: Ledger, carriers: Mapping[str, Carrier], ends: Ends) -> None:
        self._bench, self._ledger, self._carriers, self._ends = bench, ledger, carriers, ends

    async def go(self, entry: Entry, facts: Facts, rule: AllowSettings) -> CommandView:
        """An accepted command: send it, once, and see what came of it.

        Raises:
            CommandRefused: it was not sent.
        """
        view = entry.view
        order = _order(entry, rule)
        carrier = self._carriers["tag" if rule.tag is not None else "packml"]
        entry = msgspec.structs.replace(entry, view=msgspec.structs.replace(view, sends=carrier.sends(order)))

        def check() -> Halt | None:
            return self._bench.last(facts)

        if self._bench.settings.dry_run or view.dry_run:
            dry = msgspec.structs.replace(entry, view=msgspec.structs.replace(entry.view, dry_run=True))
            if (found := check()) is not None:
                return await self._ends.refused(dry, found)
            carried = Carried(CommandStatus.WRITTEN, "dry_run", "dry run: nothing was written")
            return await self._ends.carried(dry, carried)
        entry = msgspec.structs.replace(entry, stage=Stage.SENDING)
        try:
            await self._ledger.put(entry)
        except LedgerFailed as error:
            return await self._ends.refused(entry, no_ledger(error))
        return await self._ends.carried(entry, await _carried(carrier, order, check))


async def _carried(carrier: Carrier, order: Order, check: Check) -> Carried:
    try:
        return carrier.news(order, await carrier.carry(order, check))
    except Exception as error:  # noqa: BLE001 - a command must come to an end, whatever nobody foresaw
        _log.exception("a command failed unexpectedly", id=order.id)
        reason = f"unexpected failure: {type(error).__name__}: {error}"
        return Carried(CommandStatus.UNKNOWN, "failed", reason)


def _order(entry: Entry, rule: AllowSettings) -> Order:
    view = entry.view
    return Order(
        id=view.id,
        rule=rule,
        equipment=rule.equipment,
        tag=view.tag,
        value=view.value,
        command=view.command,
        previous=entry.previous,
        source=f"{view.via} {view.requested_by}",
    )
