"""What segments that cannot be gone on with can still say: whose they are and what was true last.

Reads finished files as they lie and the newest in a copy, so nothing is changed. Leaves out what is damaged.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import structlog

from gateway.errors import JournalForeign
from gateway.journal.codec import Unreadable
from gateway.journal.files import size_bytes
from gateway.journal.reading import Carried, Reader, SegmentId
from gateway.journal.segment import Segment, check_header
from statemodel.records import Recorded
from statemodel.types import Transition

log = structlog.get_logger(__name__)

#: Segments read back in search of one that tells what it was begun with.
_BACK_MAX = 4


class Salvage(msgspec.Struct, frozen=True):
    """What could be read. `stream` and `gateway` are empty when no file can say."""

    stream: str
    gateway: str
    carried: Carried


def salvage(directory: Path) -> Salvage:
    """The newest readable transition of each equipment, proofs of life and other marks in a folder.

    Raises:
        OSError: no room for the copy, or the disk refuses.
    """
    ids = sorted(
        (id_ for path in directory.iterdir() if (id_ := SegmentId.parse(path.name)) and path.is_file()),
        key=lambda id_: id_.number,
    )
    stream = gateway = ""
    last: dict[str, Recorded] = {}
    with tempfile.TemporaryDirectory(prefix=".salvage-", dir=directory) as scratch:
        for id_ in reversed(ids[-_BACK_MAX:]):
            for opened in _opened(directory / id_.name, Path(scratch), newest=id_ == ids[-1]):
                if not stream:
                    stream, gateway = _whose(opened)
                whole = _carried(opened)
                found = _transitions(opened) if whole is None else whole.last
                last = {**found, **last}  # what later segments said stays
                if whole is not None:
                    return Salvage(stream, gateway, msgspec.structs.replace(whole, last=last))
    return Salvage(stream, gateway, Carried(last=last))


def _opened(path: Path, scratch: Path, *, newest: bool) -> Iterator[Reader]:
    """The segment, when it can be opened at all; the newest, which may have a log beside it, as a copy."""
    log_of_it = path.with_name(path.name + "-wal")
    has_log = newest and size_bytes(log_of_it)
    if has_log:
        shutil.copyfile(path, scratch / path.name)
        shutil.copyfile(log_of_it, scratch / log_of_it.name)
    try:
        check_header(path)
        opened = Segment.open_newest(scratch / path.name) if has_log else Segment.open_finished(path)
    except (sqlite3.Error, JournalForeign) as error:
        log.warning("nothing can be read of a segment", path=str(path), reason=str(error))
        return
    with closing(opened):
        yield opened


def _whose(opened: Reader) -> tuple[str, str]:
    try:
        origin = opened.origin()
    except (sqlite3.Error, Unreadable):
        return "", ""
    return origin.stream, origin.gateway


def _carried(opened: Reader) -> Carried | None:
    try:
        return opened.carried()
    except (sqlite3.Error, Unreadable):
        return None


def _transitions(opened: Reader) -> dict[str, Recorded]:
    found: dict[str, Recorded] = {}
    try:
        for item in opened.events(0, -1):
            if isinstance(item, Recorded) and isinstance(item.event, Transition):
                found[item.equipment] = item
    except (sqlite3.Error, Unreadable):
        pass  # what was read before stays
    return found
