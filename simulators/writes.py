"""What clients wrote to the plant: a line for every write that came in, and the faults that writes can meet.

The ledger of states says what the machines did; this one says what was asked of them over the wire, whether
it was done or refused, and by what. It is filled in at the servers, below everything that could excuse a
write. A line is
`{"n":1,"server":"modbus-a","service":"FC16","address":"holding:120","values":[17194,0],"done":"executed",
"code":0,"at":"...Z","mono":12.5,"pid":71}`: `service` is the Modbus function or the OPC UA service,
`address` the first address or the node, `code` the exception or status code of the answer.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Final

ALSO_TO: Final = "ANDON_SIMULATOR_WRITES"
"""Environment variable: a file to which every simulated server adds its lines, beside its own ledger."""

EXECUTED, REFUSED, IGNORED = "executed", "refused", "ignored"
"""What was done: what was asked; nothing, and the client was told so; nothing, and it was told otherwise."""

ADDRESS_OF: Final[Mapping[int, str]] = {
    5: "coil",
    6: "holding",
    15: "coil",
    16: "holding",
    21: "file",
    22: "holding",
    23: "holding",
}
"""Modbus functions that change something, and the table they name."""


class WriteLedger:
    """Adds lines to its files, each handed to the operating system whole before `note` returns."""

    def __init__(self, path: Path | None = None) -> None:
        """A file of that name is replaced; the one the environment names is added to.

        Raises:
            OSError: a file cannot be written.
        """
        self.count = 0
        self._files: list[int] = []
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        if path is not None:
            self._files.append(os.open(path, flags | os.O_TRUNC, 0o644))
        if also := os.environ.get(ALSO_TO):
            self._files.append(os.open(also, flags, 0o644))

    def note(
        self, server: str, service: str, address: str, values: Sequence[object], done: str, code: int
    ) -> None:
        """Put down one write.

        Raises:
            OSError: the disk is full or gone; the ledger is no longer the truth.
        """
        self.count += 1
        if not self._files:
            return
        line = {
            "n": self.count,
            "server": server,
            "service": service,
            "address": address,
            "values": [_plain(value) for value in values],
            "done": done,
            "code": code,
            "at": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "mono": round(time.monotonic(), 6),
            "pid": os.getpid(),
        }
        data = (json.dumps(line, separators=(",", ":")) + "\n").encode()
        for file in self._files:
            os.write(file, data)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)


class Fate(Enum):
    """What becomes of the answer to a write that was carried out."""

    ANSWERED = "answered"
    LATE = "late"
    LOST = "lost"
    CUT = "cut"


@dataclass
class _Share:
    share: float
    delay_s: float


class Trouble:
    """The faults of one server that concern writes alone; which write they hit is drawn from a seed."""

    def __init__(self, name: str) -> None:
        self._draw = random.Random(f"writes/{name}")  # noqa: S311 - a plant, not a secret
        self._shares: dict[str, _Share] = {}
        self.deaf = False
        """Requests to change state are taken by the server and never looked at by the machine."""
        self.keeps_request = False
        """Machines leave `CmdChangeRequest` as it was written: the client has to take it back."""

    def put_on(self, kind: str, share: float, delay_s: float) -> None:
        """Begin a fault, one of `simulators.orders.WRITE_FAULTS`."""
        if kind == "deaf":
            self.deaf = True
        elif kind == "keep_request":
            self.keeps_request = True
        else:
            self._shares[kind] = _Share(share, delay_s)

    def take_off(self, kind: str) -> None:
        """End it."""
        if kind == "deaf":
            self.deaf = False
        elif kind == "keep_request":
            self.keeps_request = False
        else:
            self._shares.pop(kind, None)

    def ignores(self) -> bool:
        """Whether the write that came in is not carried out, though its client is told that it was."""
        return self._hits("ignored_writes") is not None

    def fate(self) -> tuple[Fate, float]:
        """What becomes of the answer to a write, and by how many seconds it is held back."""
        for kind, fate in (
            ("cut_answers", Fate.CUT),
            ("lost_answers", Fate.LOST),
            ("late_answers", Fate.LATE),
        ):
            if (hit := self._hits(kind)) is not None:
                return fate, hit.delay_s
        return Fate.ANSWERED, 0.0

    def _hits(self, kind: str) -> _Share | None:
        found = self._shares.get(kind)
        return found if found is not None and self._draw.random() < found.share else None
