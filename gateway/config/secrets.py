"""References to secrets: `env:NAME` and `file:PATH`, wherever a text may stand; never secrets in the clear.

A resolved secret is kept only in the settings that need it. Messages name the reference, not the value.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from connectors.settings import Bare
from gateway.config.lines import KeyPath

#: Keys whose value is a secret and must be a reference.
SECRET_KEYS = frozenset({"password", "secret", "token", "key_password", "encryption_key"})

#: Most bytes of a secret; a chain of certificates is the longest that is one.
SECRET_BYTES_MAX = 65_536

_URL_WITH_PASSWORD = re.compile(r"^[a-z0-9+]+://[^/@\s]*:[^/@\s]+@")


#: Says why the reference at a place must not be followed, as reason and hint; None when it may.
Allowed = Callable[[KeyPath, str], tuple[str, str] | None]


class Unresolved(Exception):
    """A reference leads nowhere, or a secret stands in the clear; `reason` and `hint` are for people."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def is_reference(value: object) -> bool:
    """Whether a value stands for a secret that lies elsewhere."""
    return isinstance(value, str) and value.startswith(("env:", "file:"))


def resolve_all(
    value: Any,
    path: KeyPath,
    environment: Mapping[str, str],
    directory: Path,
    allowed: Allowed | None = None,
) -> tuple[Any, list[tuple[KeyPath, str, str]]]:
    """A copy of parsed TOML with every reference resolved, and what was wrong with any of them.

    A reference that leads nowhere stands in the copy as it was written.
    """
    found: list[tuple[KeyPath, str, str]] = []

    def walk(value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: walk(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        try:
            if is_reference(value):
                if allowed is not None and (refusal := allowed(path, value)) is not None:
                    raise Unresolved(*refusal)
                return Bare(resolve(value, environment, directory))
            if (path and path[-1] in SECRET_KEYS) or _URL_WITH_PASSWORD.match(value):
                raise Unresolved(
                    "is a secret written in the clear",
                    'write "env:NAME" or "file:PATH" and put the secret there',
                )
        except Unresolved as problem:
            found.append((path, problem.reason, problem.hint))
        return value

    return walk(value, path), found


def resolve(reference: str, environment: Mapping[str, str], directory: Path) -> str:
    """The text a reference stands for.

    Raises:
        Unresolved: there is no such variable or readable file, or the file is no plain one of at most 64 kB.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        if name in environment:
            return environment[name]
        raise Unresolved(
            f"the environment variable {name} is not set", f"set it before the start: export {name}=..."
        )
    path = directory / name
    try:
        return _read(path).decode("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text file"
        raise Unresolved(
            f'the file "{path}" cannot be read: {why}', "check the path and who may read it"
        ) from error


def _read(path: Path) -> bytes:
    """All bytes of a plain file of bounded size: a pipe would be waited for, a device never ends."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
        data = b""
        while len(data) <= SECRET_BYTES_MAX and (part := os.read(fd, SECRET_BYTES_MAX + 1)):
            data += part
    finally:
        os.close(fd)
    if len(data) > SECRET_BYTES_MAX:
        reason = f"it is larger than {SECRET_BYTES_MAX // 1024} kB, and no secret"
        raise OSError(errno.EFBIG, reason, str(path))
    return data


#: A value shorter than this may stand in a sentence by accident; it is hidden only where it is quoted.
_PLAIN_CHARS_MIN = 6


def hidden(text: str, told_as: Mapping[str, str]) -> str:
    """A message with every resolved value (`told_as`: value -> reference) replaced by its reference."""
    for value in sorted(told_as, key=len, reverse=True):
        for quoted in (f'"{value}"', f"'{value}'"):
            text = text.replace(quoted, f'"{told_as[value]}"')
        if len(value) >= _PLAIN_CHARS_MIN:
            text = text.replace(value, told_as[value])
    return text
