"""Every setting of the gateway except those of the protocols and of brokers, declared once.

Types, defaults, descriptions and limits all live here; checks, documentation and defaults follow from
them. Nothing here reads a file or the environment (see `load`), so references to secrets are still text.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from connectors.settings import ConnectionSettings, Duration, Name, Settings
from gateway.config.access import LOOPBACK, AccessSettings
from gateway.config.audit import AuditSettings
from gateway.config.brokers import ADDRESS
from gateway.config.compliance import ComplianceSettings
from gateway.config.control import CommandsSettings as CommandsSettings
from gateway.config.dsn import judge_dsn
from gateway.config.mqtt import MqttSettings as MqttSettings
from gateway.config.serving import ServingSettings
from gateway.config.sparkplug import SparkplugSettings as SparkplugSettings

#: One level of an MQTT topic or an ISA-95 path.
Level = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]


class JournalSettings(Settings):
    """The local durable log."""

    segment_bytes: Annotated[int, Field(ge=1_000_000)] = 64_000_000
    """Size at which a new segment file is begun."""
    segment_age: Duration = timedelta(hours=1)
    """Age at which a new segment file is begun."""
    bytes_max: Annotated[int, Field(ge=10_000_000)] = 10_000_000_000
    """Most disk space the journal may take. The last tenth is for events only, not for samples."""
    keep: Duration = timedelta(days=1)
    """How long segments stay after every sink has read them, for streams that resume."""
    heartbeat: Duration = timedelta(seconds=1)
    """How often a quiet gateway notes that it lives; the start of an outage is known to this precision."""


class ReconcileSettings(Settings):
    """How often memory, journal, database and broker are compared, and what is mended by itself."""

    every: Duration = timedelta(hours=1)
    """Time between two comparisons of what is newest."""
    full_every: Duration = timedelta(days=1)
    """Time between two comparisons of all the journal holds, at half speed."""
    repair: bool = True
    """Mend what can be mended without harm: missing rows and retained topics. Nothing is ever overwritten."""
    settle: Duration = timedelta(seconds=2)
    """How long a difference must last to count; what is on its way is none."""


class SnapshotSettings(Settings):
    """Snapshots of what the state engine knows, under `data_dir/snapshots`."""

    enabled: bool = True
    """Take snapshots, and go on from the newest at the start."""
    every: Duration = timedelta(hours=1)
    """Time between two snapshots."""
    full_every: Annotated[int, Field(ge=1, le=1000)] = 24
    """Every so many of them one is full; the others hold what has changed since it."""
    keep_count: Annotated[int, Field(ge=2)] = 200
    """Most snapshots kept."""
    keep_age: Duration = timedelta(days=14)
    """Age at which one is deleted; the newest sound full one never is."""
    bytes_max: Annotated[int, Field(ge=1_000_000)] = 1_000_000_000
    """Most disk space for all of them."""
    encryption_key: str | None = None
    """Encrypt them: 64 hexadecimal digits or a passphrase, as a reference (`env:NAME`, `file:PATH`)."""


class GatewaySettings(Settings):
    """Who this gateway is and where it keeps its files."""

    id: Name
    """Unique among the gateways that share a database or broker."""
    enterprise: Level
    """First level of every topic."""
    site: Level
    """Second level of every topic."""
    data_dir: str = "./data"
    """Where the journal, certificates and embedded servers live; relative to the configuration file."""
    journal: JournalSettings = JournalSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    audit: AuditSettings = AuditSettings()
    late: Literal["correct", "keep"] = "correct"
    """What samples do that tell of a time already told: correct it, by an event of its own, or nothing."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line written."""
    watch: bool = False
    """Read the files of the configuration again when they have changed, and apply what they say."""


class HistorianSettings(Settings):
    """The database. `dsn = "embedded"` starts a private PostgreSQL under `data_dir`."""

    dsn: str
    """`postgresql://user@host:port/database`, `embedded`, or a reference such as `env:ANDON_DATABASE`."""
    password: str | None = None
    """Password, as a reference (`env:NAME`, `file:PATH`), when it is not in the dsn."""
    retention: Duration | None = None
    """How long samples are kept; transitions are kept for ever. Unset: samples are kept for ever too."""
    rollup_retention: Duration | None = None
    """How long figures by the hour are kept, which outlive the samples. Unset: for ever."""
    chunk: Duration = timedelta(days=1)
    """Time that one chunk of samples spans where the server has TimescaleDB; a change is for new chunks."""
    compress_after: Duration = timedelta(days=7)
    """Age at which chunks are compressed where the licence of TimescaleDB allows it."""
    flush: Duration = timedelta(milliseconds=200)
    """Longest wait before what is there is written."""
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000
    """Most rows in one transaction."""
    backlog_rate: Annotated[int, Field(ge=0)] = 0
    """Rows per second written of what gathered during an outage, beside what comes now. 0: as many as do not
    slow that down."""
    command_timeout: Duration = timedelta(seconds=15)
    """Time after which a database that does not answer counts as lost."""

    @field_validator("chunk")
    @classmethod
    def _sensible_chunk(cls, chunk: timedelta) -> timedelta:
        if timedelta(minutes=10) <= chunk <= timedelta(days=366):
            return chunk
        raise ValueError(
            'must be between "10m" and "366d": a year of shorter ones would be too many to plan with'
        )

    @field_validator("rollup_retention")
    @classmethod
    def _outlives_samples(cls, kept: timedelta | None, info: ValidationInfo) -> timedelta | None:
        samples = info.data.get("retention")
        if kept is not None and (samples is None or kept < samples):
            raise ValueError(
                "is shorter than retention: figures by the hour are kept at least as long as samples"
            )
        return kept

    @field_validator("dsn")
    @classmethod
    def _known_form(cls, dsn: str) -> str:
        if dsn == "embedded" or dsn.startswith(("env:", "file:")):
            return dsn
        if dsn.startswith(("postgresql://", "postgres://")):
            judge_dsn(dsn)
            return dsn
        raise ValueError(
            'is not a database address; write "embedded", "postgresql://user@host:5432/name" or "env:NAME"'
        )


class ApiSettings(AccessSettings, ServingSettings):
    """REST and streams."""

    listen: str = "127.0.0.1:8420"
    """Address and port. Anything but loopback opens the gateway to the network."""

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        match = ADDRESS.match(listen)
        if match is None or int(match["port"]) > 65535:
            raise ValueError('is not an address to listen on; write "127.0.0.1:8420"')
        return listen

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.listen.rpartition(":")[0].strip("[]") in LOOPBACK

    @property
    def lets_in_anybody(self) -> bool:
        """Whether callers without credentials may read."""
        return self.anonymous == "viewer" or (self.anonymous is None and self.loopback)


class EquipmentSettings(Settings):
    """A thing with a state."""

    name: Name
    """Unique in the gateway; the id in URLs."""
    path: str
    """ISA-95 levels below enterprise and site, joined by `/`."""
    model: str
    """Name of a built-in model, or path of a model file relative to the configuration file."""
    state: str | Annotated[tuple[str, ...], Field(min_length=2, max_length=8)] | None = None
    """Tag (`connection/tag`) that carries the state code; or those of nested machines, outermost first."""
    mode: str | None = None
    """Tag (`connection/tag`) that carries the unit mode, by number or name."""
    bind: dict[str, str] = Field(default_factory=dict)
    """Name used in the model's rules = tag (`connection/tag`)."""
    counters: dict[Level, str] = Field(default_factory=dict)
    """Name of a counter = tag (`connection/tag`), published with the equipment."""
    tags: tuple[str, ...] = ()
    """Further tags (`connection/tag`) published with the equipment; they have no part in its state."""

    @field_validator("path")
    @classmethod
    def _levels(cls, path: str) -> str:
        for level in path.split("/"):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", level):
                raise ValueError(
                    f'has the level "{level}", which no topic may have; write letters, digits, ".", "_", "-" '
                    'between slashes, such as "filling/line-1/filler-1"'
                )
        return path


class Configuration(Settings):
    """A whole configuration, judged and complete."""

    gateway: GatewaySettings
    historian: HistorianSettings | None = None
    mqtt: tuple[MqttSettings, ...] = ()
    sparkplug: tuple[SparkplugSettings, ...] = ()
    api: ApiSettings | None = None
    connections: tuple[ConnectionSettings, ...] = ()
    equipment: tuple[EquipmentSettings, ...] = ()
    commands: CommandsSettings = CommandsSettings()
    compliance: tuple[ComplianceSettings, ...] = ()

    @property
    def sinks(self) -> tuple[str, ...]:
        """Names of all that reads the journal: of their cursors, in health, metrics and the log."""
        historian = ("historian",) if self.historian is not None else ()
        return (*historian, *(broker.sink for broker in (*self.mqtt, *self.sparkplug)))
