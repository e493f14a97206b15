"""Where the verbs about users and keys change something. Imports nothing, so that every call may know it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Where(NamedTuple):
    """The files of a configuration, or a running gateway."""

    config: Path | None
    url: str | None
