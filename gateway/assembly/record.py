"""The journal, and what it says of before: opened first, closed last, never exchanged in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

from connectors.base import Clock
from gateway.accounts.keeper import Accounts
from gateway.config.load import Loaded
from gateway.errors import StartFailed
from gateway.journal.journal import Journal
from gateway.repeats import Repeats, on_record
from gateway.restart import lost_while_away, memories_from
from gateway.snapshots import wiring as snapshots
from gateway.snapshots.wiring import Snapshots
from statemodel.machine import EquipmentMemory
from statemodel.records import Recorded
from statemodel.types import SourceLost


@dataclass(frozen=True)
class Record:
    """The journal and what was found in it. `last` and `alive` are those of before this start."""

    journal: Journal
    accounts: Accounts
    last: Mapping[str, Recorded]
    alive: Mapping[str, datetime]
    memories: Mapping[str, EquipmentMemory]
    snapshots: Snapshots
    repeats: Repeats

    def lost_while_away(self, loaded: Loaded, now: datetime) -> Sequence[SourceLost]:
        """What a restart has to admit: since its last proof of life nobody looked at a connection."""
        return lost_while_away(self.alive, self.last, loaded, now)


async def open_record(loaded: Loaded, clock: Clock, version: str, stack: AsyncExitStack) -> Record:
    """Open the journal and read what a start goes on from; `stack` closes it.

    Raises:
        StartFailed: the data directory cannot be made.
        JournalFailed, JournalInUse: see `Journal.open`.
    """
    gateway = loaded.configuration.gateway
    try:
        loaded.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartFailed(
            f"the data directory {loaded.data_dir} cannot be made: {error.strerror}",
            hint="choose another [gateway] data_dir, or let this user write there",
        ) from error
    journal = await Journal.open(
        loaded.data_dir / "journal", gateway=gateway.id, settings=gateway.journal, clock=clock
    )
    stack.push_async_callback(journal.close)
    accounts = await Accounts.open(journal, clock)
    stack.push_async_callback(accounts.close)
    last = await journal.last_transitions()
    alive = await journal.alive()
    memories = memories_from(last, loaded)
    found = await snapshots.begin(loaded, journal, memories, clock, version)
    repeats = await on_record(journal, journal.position.last_seq)
    return Record(journal, accounts, last, alive, memories, found, repeats)
