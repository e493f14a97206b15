"""One text for one configuration, and its hash: the same wherever the files come from.

What differs between two machines without meaning anything does not count: the order of files, the name of the
configuration's own file, a byte-order mark, how lines end. Comments count: somebody wrote them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from api.configuring import MAIN_FILE


def hash_of(files: Mapping[str, str]) -> str:
    """The hash (SHA-256, hexadecimal) of a set of files by name."""
    digest = hashlib.sha256()
    for name in sorted(files):
        for part in (name, canonical(files[name])):
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(raw) + raw)  # with its length, so that no two sets read alike
    return digest.hexdigest()


def canonical(text: str) -> str:
    """A text without what programs add to it by themselves."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def texts(files: Mapping[str, bytes], main_name: str) -> dict[str, str]:
    """Files that were found to be sound as text. The main file comes first, the others by name."""
    named = {
        (MAIN_FILE if name == main_name else name): canonical(raw.decode("utf-8-sig"))
        for name, raw in files.items()
    }
    return dict(sorted(named.items(), key=lambda item: (item[0] != MAIN_FILE, item[0])))


def meaning(raw: bytes) -> str | None:
    """The text of a file; None of one that is none."""
    try:
        return canonical(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None


def on_disk(name: str, main: Path) -> Path:
    """Where a file of the set lies."""
    return main if name == MAIN_FILE else main.parent / name
