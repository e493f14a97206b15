"""Trails to test with: made quickly, then harmed in one way or another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from api.auditing import AuditEntry
from gateway.audit.folder import segments_of
from gateway.audit.store import AuditStore, Limits

PATIENCE_S = 60.0
"""How long is waited for what has to come some day: it costs nothing when it comes."""
AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def entry(n: int = 0, **changes: object) -> AuditEntry:
    """An entry like any other."""
    told: dict[str, object] = {
        "action": "command",
        "actor": "ada",
        "kind": "user",
        "via": "rest",
        "target": "filler-plc/speed_sp",
        "result": "verified",
        "detail": {"value": n},
        "peer": "10.0.0.9",
    }
    return AuditEntry(**(told | changes))  # type: ignore[arg-type]


def written(directory: Path, count: int, *, segment_bytes: int = 4_000, group: int = 5) -> AuditStore:
    """A closed trail with so many entries after its first record, in several segments."""
    store = AuditStore(directory, "line-1", Limits(segment_bytes, 1_000_000_000))
    store.open(AT)
    for first in range(0, count, group):
        store.append(
            [entry(n) for n in range(first, min(first + group, count))], AT + timedelta(seconds=first)
        )
    store.close()
    return store


def all_lines(directory: Path) -> list[tuple[Path, int, bytes]]:
    """Every line with its file and its place in it."""
    return [
        (segment.path, number, line)
        for segment in segments_of(directory)
        for number, line in enumerate(segment.path.read_bytes().splitlines())
    ]


def with_lines(path: Path, lines: list[bytes]) -> None:
    """A file with other lines."""
    path.write_bytes(b"".join(line + b"\n" for line in lines))
