"""Statements by name, read from `.sql` files, so that people can read the SQL without reading Python.

A statement begins at a line `-- name: some_name` and ends where the next one begins. This module does not
know which database will run it.
"""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)


def read_sql(package: str, path: str) -> str:
    """The text of a `.sql` file beside the code of `package`."""
    return files(package).joinpath(path).read_text(encoding="utf-8")


def read_statements(package: str, path: str) -> dict[str, str]:
    """The statements of a `.sql` file by name.

    Raises:
        ValueError: a name appears twice, or there is none.
    """
    parts = _NAME.split(read_sql(package, path))[1:]
    names, bodies = parts[::2], parts[1::2]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{package}/{path}: every statement needs a name of its own")
    return {name: body.strip().rstrip(";") for name, body in zip(names, bodies, strict=True)}
