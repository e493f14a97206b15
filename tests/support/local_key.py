"""The right of whoever can read a gateway's files: what tests of a whole gateway send to change something."""

from __future__ import annotations

from pathlib import Path


def local_key(data_dir: Path) -> dict[str, str]:
    """The header that says so, for a gateway that runs."""
    key = (data_dir / "access" / "local.key").read_text(encoding="ascii").strip()
    return {"Authorization": f"Bearer {key}"}
