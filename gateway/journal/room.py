"""How much room there is, and for whom: samples leave off first, events last.

The last tenth of `bytes_max`, and on the disk what equals the reserve and a margin, is for events only. The
reserve lies on the disk as a file, which nobody else can use up; it is shortened as events need it and made
whole when there is ample room. Counts bytes; knows nothing of what they mean.
"""

from __future__ import annotations

from pathlib import Path

from gateway.errors import StartFailed
from gateway.journal import files

#: Room a transaction may need besides its own bytes: pages, log frames, a new segment.
MARGIN_BYTES = 4_000_000
#: The share of `bytes_max` that samples leave to events.
_FOR_EVENTS = 10
#: The share of `bytes_max` that must be free, at most a margin, before samples are taken again.
_AGAIN = 20
#: Below this a disk cannot hold a journal: the reserve, both margins, and something to work with.
DISK_BYTES_MIN = files.BALLAST_BYTES + 4 * MARGIN_BYTES


def check_minimum(directory: Path, held_bytes: int) -> None:
    """Refuse a disk on which no journal could work.

    Raises:
        StartFailed: names the path, what is needed and what is there.
    """
    have = files.free_bytes(directory) + held_bytes
    if have < DISK_BYTES_MIN:
        raise StartFailed(
            f"the disk under {directory} is too small for a journal: it needs {DISK_BYTES_MIN} bytes, "
            f"and has {have}",
            hint="make room there, or choose a gateway.data_dir on another disk",
        )


class Room:
    """Room under one directory for a journal of at most so many bytes."""

    def __init__(self, directory: Path, bytes_max: int) -> None:
        self._directory = directory
        self._reserve = str(directory / "ballast")
        self._bytes_max = bytes_max
        self._samples_max = bytes_max - bytes_max // _FOR_EVENTS

    def lacks_for_samples(self, used: int, wanted: int, *, again: bool = False) -> str:
        """Why samples of so many bytes are not taken; empty when they are.

        `again`: they were left out before. Then there must be a little more room, so that a journal at its
        limit does not take every other batch.
        """
        if again:
            wanted += min(self._bytes_max // _AGAIN, MARGIN_BYTES)
        if used + wanted > self._samples_max:
            return (
                f"the journal takes {used} bytes of the {self._bytes_max} it may, and the rest is for events"
            )
        reserve = max(0, files.BALLAST_BYTES - files.reserve_bytes(self._reserve))
        free = files.free_bytes(self._directory)
        if free < wanted + 2 * MARGIN_BYTES + reserve:
            return f"the disk under {self._directory} has {free} bytes left, which are for events"
        return ""

    def lacks_for_events(self, used: int, wanted: int) -> str:
        """Why events of so many bytes are not taken; the reserve of the disk is spent on them first."""
        if used + wanted > self._bytes_max:
            return f"the journal takes {used} bytes of the {self._bytes_max} it may"
        short = wanted + MARGIN_BYTES - files.free_bytes(self._directory)
        if short > 0:
            files.spend_ballast(self._directory, short + MARGIN_BYTES // 4)
        return self.lacks_disk(wanted)

    def lacks_disk(self, wanted: int) -> str:
        """Why the disk has no room for so many bytes, as it is."""
        if (free := files.free_bytes(self._directory)) < wanted + MARGIN_BYTES:
            return f"the disk under {self._directory} has {free} bytes left"
        return ""
