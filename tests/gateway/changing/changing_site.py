"""A gateway to change, without a gateway: files in a folder, parts that note what they were told to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from api.access import Principal, Role
from api.auditing import AuditEntry, AuditUnavailable
from api.configuring import MAIN_FILE, Difference, Outcome, Wish
from gateway.changing.beginning import begin
from gateway.changing.carrying import Carrier
from gateway.changing.desk import ChangeDesk
from gateway.changing.exchanging import ExchangeFailed
from gateway.changing.revisions import Revisions
from gateway.config.load import Loaded

ANNA = Principal("anna", "user", frozenset({Role.ENGINEER}))
ADA = Principal("ada", "user", frozenset({Role.ADMIN}))
LOCAL = Principal("local", "local", frozenset(Role))

MAIN = """# the line in hall 3
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
data_dir = "./data"

[mqtt]
broker = "mqtt://127.0.0.1:1883"
user = "andon"
password = "file:secret/mqtt"

[[connections]]
name = "filler-plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:502"
[[connections.groups]]
name = "fast"
interval = "1s"
tags = [{ name = "state", address = "holding:1", type = "uint16" }]
tags_csv = "lists/slow.csv"

[[equipment]]
name = "filler-1"
path = "filling/line-1/filler-1"
model = "packml"
state = "filler-plc/state"
"""
CSV = "name,address,type\ncount,holding:10,uint32\n"
SECRET = "hush-9c41"


class NotedExchange:
    """Parts that can go on with anything, or with nothing while `fails` says why."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self.told: list[Difference] = []
        self.fails: str = ""
        self.before: Callable[[], object] = lambda: None

    @property
    def loaded(self) -> Loaded:
        """What runs."""
        return self._loaded

    async def apply(self, new: Loaded, difference: Difference) -> None:
        """Run another one."""
        self.before()
        if self.fails:
            raise ExchangeFailed(self.fails, hint="free the address")
        self.told.append(difference)
        self._loaded = new


class NotedAudit:
    """A trail in memory, which can be full."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.full = ""

    async def record(self, entry: AuditEntry) -> int:
        """Keep it."""
        if self.full:
            raise AuditUnavailable(self.full)
        self.entries.append(entry)
        return len(self.entries)

    def results(self) -> list[tuple[str, str, str]]:
        """Action, result and code of each."""
        return [(entry.action, entry.result, entry.code) for entry in self.entries]


class FixedClock:
    """A clock that stands still."""

    def now(self) -> datetime:
        """The instant."""
        return datetime(2026, 11, 21, 22, 7, tzinfo=UTC)

    def monotonic(self) -> float:
        """Seconds."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """At once."""


@dataclass
class Site:
    """A folder with a configuration, and the desk over it."""

    folder: Path
    files: Mapping[str, str] = field(default_factory=lambda: {MAIN_FILE: MAIN, "lists/slow.csv": CSV})

    def __post_init__(self) -> None:
        (self.folder / "secret").mkdir()
        (self.folder / "secret/mqtt").write_text(SECRET)
        for name, text in self.files.items():
            self.write(name, text)
        self.environment = {"DSN": f"postgresql://andon:{SECRET}@127.0.0.1:5432/andon", "OTHER": "hush-2"}
        self.start()

    @property
    def main(self) -> Path:
        """The configuration file; on the disk it has a name of its own."""
        return self.folder / "line-1.toml"

    def start(self) -> None:
        """Start, for the first time or again."""
        loaded = begin(self.main)
        self.exchange, self.audit = NotedExchange(loaded), NotedAudit()
        self.kept = Revisions(loaded.data_dir)
        self.kept.open()
        self.carrier = Carrier(self.exchange, self.kept, FixedClock(), self.main, self.audit)  # type: ignore[arg-type]
        self.desk = ChangeDesk(self.carrier, self.environment)
        self.carrier.note_start()

    def write(self, name: str, text: str | bytes) -> None:
        """Edit a file by hand."""
        place = self.main if name == MAIN_FILE else self.folder / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())

    def on_disk(self) -> dict[str, str]:
        """What lies there now, of the names the site began with."""
        return {
            name: (self.main if name == MAIN_FILE else self.folder / name).read_text() for name in self.files
        }

    def edited(self, old: str, new: str, **more: str) -> dict[str, str]:
        """The files, with one text in the main one replaced."""
        assert old in MAIN
        return {**self.files, MAIN_FILE: MAIN.replace(old, new), **more}

    async def put(
        self, files: Mapping[str, str], by: Principal = ANNA, *, expected: str = "", dry_run: bool = False
    ) -> Outcome:
        """Send files as somebody."""
        wish = Wish(files, "a reason", expected or self.desk.running().hash, dry_run)
        return await self.desk.apply(wish, by, "10.0.0.7")
