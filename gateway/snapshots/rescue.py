"""Beginning again from a snapshot, when the journal is lost or nobody wants to go on with it.

The journal begins a new stream that carries what the snapshot knew: the newest transition of each equipment,
so that states and counts go on, and proofs of life, so that the time since is told as unknown. What lies in
the journal's folder is set aside unharmed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from connectors.base import Clock
from gateway.journal import files
from gateway.journal.anew import Anew, begin_anew
from gateway.journal.segment import Carried
from gateway.snapshots.failures import FileRefused
from gateway.snapshots.folder import Snapshot
from statemodel.records import Recorded, read_told


def rescue(journal: Path, snapshot: Snapshot, *, gateway: str, clock: Clock) -> Anew:
    """Begin a new stream from a snapshot, in a journal that nobody has open.

    Raises:
        FileRefused: the snapshot is of another gateway, or a transition in it cannot be read.
        JournalInUse: a gateway runs.
        StartFailed: the disk refuses.
    """
    header = snapshot.header
    if header.gateway != gateway:
        raise FileRefused(
            f'the snapshot {header.name} is of gateway "{header.gateway}", the configuration of "{gateway}"',
            hint="name the configuration of that gateway",
        )
    last = {name: _told(name, data, header.name) for name, data in snapshot.content.last.items()}
    files.prepare(journal)
    lock = files.Lock(journal)
    try:
        return begin_anew(
            journal,
            gateway=gateway,
            clock=clock,
            reason=f"begun again from the snapshot {header.name}",
            carried=Carried(last=last, alive=snapshot.content.alive),
        )
    finally:
        lock.release()


def _told(equipment: str, data: bytes, name: str) -> Recorded:
    try:
        return read_told(data, "transition")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FileRefused(
            f"the newest transition of {equipment} in the snapshot {name} cannot be read: {error}",
            hint="use another snapshot",
        ) from error
