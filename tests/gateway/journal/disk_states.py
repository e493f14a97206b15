"""What a disk may hold when a process is killed or the power goes, made from a trace of its system calls.

A model of a disk: the writes of a file count once it is synced, and names once their folder is; of the others
any may be there. Reads what `strace -f -qq -xx -e trace=CALLS` wrote. Knows nothing of journals.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

CALLS = (
    "openat,close,pwrite64,write,ftruncate,truncate,rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync"
)
_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>")


class Call(msgspec.Struct, frozen=True):
    """A call that concerns a file of the folder, by its name in there; `said` is what was printed."""

    kind: str
    name: str
    at: int = 0
    data: bytes = b""
    to: str = ""


class File:
    """The bytes that are safe, and the calls that are not."""

    def __init__(self) -> None:
        self.safe, self.unsafe = b"", list[Call]()

    def with_calls(self, calls: Iterable[Call]) -> bytes:
        """What it holds when these calls have reached the disk."""
        data = bytearray(self.safe)
        for call in calls:
            if call.kind == "cut":
                data[call.at :] = bytes(max(0, call.at - len(data)))
            else:
                at = len(data) if call.at < 0 else call.at
                data.extend(bytes(max(0, at - len(data))))
                data[at : at + len(call.data)] = call.data
        return bytes(data)


class Disk:
    """One folder. `do` every call, and ask in between what may be found there."""

    def __init__(self) -> None:
        self._names, self._safe = dict[str, File](), dict[str, File]()
        self._unsafe = list[tuple[str, str, File | None]]()

    def do(self, call: Call) -> None:
        """Let a call happen."""
        file = self._names.get(call.name)
        if call.kind == "sync" and call.name == ".":
            self._safe, self._unsafe = dict(self._names), []
        elif call.kind == "create" and file is None:
            self._name("", call.name, File())
        elif file is None:
            return
        elif call.kind == "rename":
            self._name(call.name, call.to, file)
        elif call.kind == "unlink":
            self._name(call.name, "", None)
        elif call.kind == "sync":
            file.safe, file.unsafe = file.with_calls(file.unsafe), []
        elif call.kind in ("write", "cut"):
            file.unsafe.append(call)

    def _name(self, before: str, after: str, file: File | None) -> None:
        self._unsafe.append((before, after, file))
        _rename(self._names, before, after, file)

    def killed(self) -> dict[str, bytes]:
        """What the next process finds: everything."""
        return {name: file.with_calls(file.unsafe) for name, file in self._names.items()}

    def dark(self, chance: random.Random) -> dict[str, bytes]:
        """What is there when the power comes back: all that is safe, and of the rest anything."""
        names = dict(self._safe)
        for change in self._unsafe:
            if chance.random() < 0.5:
                _rename(names, *change)
        much = chance.choice((0.0, 0.3, 0.7, 1.0))
        return {
            name: file.with_calls(call for call in file.unsafe if chance.random() < much)
            for name, file in names.items()
        }


def _rename(names: dict[str, File], before: str, after: str, file: File | None) -> None:
    names.pop(before, None)
    if file is not None:
        names[after] = file


def calls_of(trace: Path, folder: Path) -> Iterator[Call]:
    """The calls of a trace that concern the files of a folder, and what was printed."""
    open_: dict[int, str] = {}
    for line in _whole_lines(trace):
        if (match := _LINE.match(line)) is None:
            continue
        name, given, result = match[1], match[2], int(match[3])
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(given)]
        if name in ("openat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "truncate"):
            inside = [os.path.relpath(os.fsdecode(text), folder) for text in texts]
            if name == "openat":
                open_.pop(result, None)
            if inside[0].startswith(".."):
                continue
            if name == "openat":
                open_[result] = inside[0]
                if "O_CREAT" in given:
                    yield Call("create", inside[0])
                if "O_TRUNC" in given:
                    yield Call("cut", inside[0])
            elif name == "truncate":
                yield Call("cut", inside[0], int(given.rsplit(",", 1)[1]))
            elif name.startswith("rename"):
                yield Call("rename", inside[0], to=inside[1])
            else:
                yield Call("unlink", inside[0])
            continue
        fd = int(given.split(",")[0])
        if name == "write" and fd == 1:
            yield Call("said", "", data=texts[0])
        elif name == "close":
            open_.pop(fd, None)
        elif fd in open_ and name in ("fsync", "fdatasync"):
            yield Call("sync", open_[fd])
        elif fd in open_ and name == "ftruncate":
            yield Call("cut", open_[fd], int(given.rsplit(",", 1)[1]))
        elif fd in open_:
            at = int(given.rsplit(",", 1)[1]) if name == "pwrite64" else -1
            yield Call("write", open_[fd], at, texts[0][:result])


def _whole_lines(trace: Path) -> Iterator[str]:
    """The lines of a trace, those of calls that another thread interrupted put together."""
    begun: dict[str, str] = {}
    with trace.open(encoding="ascii") as lines:
        for line in lines:
            thread, _, rest = line.rstrip("\n").partition(" ")
            rest = rest.lstrip()
            if rest.endswith("<unfinished ...>"):
                begun[thread] = rest.removesuffix("<unfinished ...>")
                continue
            if (resumed := _RESUMED.match(rest)) is not None:
                rest = begun.pop(thread, "") + rest[resumed.end() :]
            yield f"{thread} {rest}"
