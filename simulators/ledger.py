"""The ledger of the truth: one JSON line per state change, on disk before the change can be read on the wire.

Whoever tests a gateway compares its history with this file. Lines are
`{"n":1,"equipment":"filler-1","from":"Idle",
"to":"Starting","code":3,"at":"...Z","mono":12.5,"plant_s":3.0}`: `n` counts lines from 1, `from` is null in
the first line of each equipment, `at` is wall time (UTC, microseconds), `mono` the monotonic clock in
seconds, `plant_s` the plant clock; `alarm`, where the change touches the machine's alarm, says `raised`,
`acknowledged` or `gone`. The same seed, scenario and speed give the same lines but for `at` and
`mono`.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from simulators.alarms import alarm_of
from simulators.plant import Change


def rfc3339(at: datetime) -> str:
    """A UTC time as text, to the microsecond."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def entry(number: int, change: Change, at: datetime, mono_s: float) -> dict[str, Any]:
    """One ledger line as a value."""
    line: dict[str, Any] = {
        "n": number,
        "equipment": change.equipment,
        "from": change.from_state,
        "to": change.to_state,
        "code": change.code,
        "at": rfc3339(at),
        "mono": round(mono_s, 6),
        "plant_s": round(change.at_s, 6),
    }
    if (alarm := alarm_of(change)) is not None:
        line["alarm"] = alarm.word
    return line


class Ledger:
    """Writes the lines, each flushed to the operating system before `write` returns. No path, no file."""

    def __init__(self, path: Path | None) -> None:
        """Start a new ledger; an old file of that name is replaced.

        Raises:
            OSError: the file cannot be written, or another simulator is writing it.
        """
        self.path = path
        self.lines = 0
        self.transitions = 0
        self._file = _opened(path) if path is not None else None

    def write(self, changes: Sequence[Change], at: datetime, mono_s: float) -> None:
        """Record changes that become visible at this instant.

        Raises:
            OSError: the disk is full or gone; the ledger is no longer the truth.
        """
        text = []
        for change in changes:
            self.lines += 1
            self.transitions += change.from_state is not None
            text.append(json.dumps(entry(self.lines, change, at, mono_s), separators=(",", ":")) + "\n")
        if text and self._file is not None:
            self._file.write("".join(text))
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _opened(path: Path) -> TextIO:
    file = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_file():
            file.truncate(0)
    except BlockingIOError:
        file.close()
        raise OSError(
            f"{path} is the ledger of another simulator that is running; give this one its own"
        ) from None
    except OSError:
        file.close()
        raise
    return file
