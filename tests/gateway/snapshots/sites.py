"""A small site on the disk: configuration with all it may name, certificates, a journal with a past."""

from __future__ import annotations

from pathlib import Path

from gateway.journal.values import Cursor
from tests.gateway.journal.builders import ManualClock, batch, opened, transition

KEY = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
CONFIG = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"

[historian]
dsn = "env:ANDON_DATABASE"
password = "file:secrets/database"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:1"
[[connections.groups]]
name = "all"
interval = "1s"
tags_csv = "tags.csv"

[[equipment]]
name = "filler-1"
path = "area/line/filler-1"
model = "models/mixer.toml"
state = "plc/state"
"""
FILES = {
    "andon.toml": CONFIG,
    "tags.csv": "name,address,type\nstate,holding:1,uint16\n",
    "models/mixer.toml": 'name = "mixer"\nextends = "packml"\n',
    "secrets/database": "hush\n",
    "data/opcua/own/private/andon.pem": KEY,
    "data/opcua/own/certs/andon.der": "certificate",
    "data/opcua/trusted/certs/plc.der": "theirs",
    "data/snapshots/20260101T000000.000Z-full.snap": "a snapshot",
    "data/postgres/base": "a database",
}


def lay_out(root: Path, **changed: str) -> Path:
    """The files of a site; its configuration."""
    for name, text in {**FILES, **changed}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "data/opcua/own/private/andon.pem").chmod(0o600)
    return root / "andon.toml"


async def write_journal(root: Path, *, events: int = 30, clock: ManualClock | None = None) -> str:
    """A journal of several segments, which the database has up to event and batch 10; its stream."""
    clock = clock or ManualClock()
    async with opened(root / "data/journal", clock=clock, segment_bytes=40_000) as journal:
        for n in range(1, events + 1):
            await journal.append([transition(n)], [batch(n, 60)], {"plc": clock.now()})
        await journal.advance("historian", Cursor(10, 10))
        return journal.stream
