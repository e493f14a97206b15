"""Snapshots in a gateway that starts: what it goes on from, and what it keeps of what was before a change.

Puts the parts of this folder together from a loaded configuration and an open journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from connectors.base import Clock
from gateway.config.load import Loaded
from gateway.journal.journal import Journal
from gateway.snapshots.folder import Snapshot
from gateway.snapshots.keeper import Identity, Keeper, Reason
from gateway.snapshots.resume import Resumed, resume
from statemodel.describe import describe
from statemodel.engine import EquipmentMemory
from statemodel.model import Model
from statemodel.snapshot import SNAPSHOT_VERSION, EngineSnapshot, KeptEquipment

log = structlog.get_logger(__name__)


class Snapshots:
    """The snapshots of one run. `found` is what the engine begins with; `keeper` takes new ones."""

    def __init__(self, keeper: Keeper, found: EngineSnapshot | None) -> None:
        self.keeper, self.found = keeper, found

    def trouble(self) -> str | None:
        """Why the last attempt came to nothing, for health."""
        failed = self.keeper.status.failed
        return f"no snapshot could be taken: {failed}" if failed else None

    def figures(self, now: datetime) -> Mapping[str, float]:
        """For metrics."""
        status = self.keeper.status
        age_s = 0.0 if status.newest_at is None else (now - status.newest_at).total_seconds()
        return {
            "newest_age_seconds": max(0.0, age_s),
            "bytes": status.bytes,
            "files": status.count,
            "failures": status.failures,
        }


async def begin(
    loaded: Loaded,
    journal: Journal,
    memories: Mapping[str, EquipmentMemory],
    clock: Clock,
    version: str,
) -> Snapshots:
    """Look for the newest snapshot that fits the journal and go on from it.

    Never fails: what cannot be used is told, and the gateway goes on from the journal alone.
    """
    settings = loaded.configuration.gateway.snapshots
    identity = identity_of(loaded, version)
    keeper = Keeper(
        loaded.data_dir,
        identity=identity,
        settings=settings,
        journal=journal,
        clock=clock,
        heartbeat=loaded.configuration.gateway.journal.heartbeat,
    )
    if not settings.enabled:
        return Snapshots(keeper, None)
    position = journal.position
    newest, problems = keeper.folder.newest(
        gateway=identity.gateway,
        stream=position.stream,
        last_seq=position.last_seq,
        last_batch=position.last_batch,
    )
    for problem in problems:
        log.warning("a snapshot cannot be used", reason=problem)
    if newest is None:
        return Snapshots(keeper, None)
    resumed = await resume(newest, loaded.equipment, memories, journal, clock.now())
    _tell(resumed)
    keeper.status = msgspec.structs.replace(keeper.status, resumed="" if resumed.reason else resumed.name)
    was = newest.header
    changed = was.version != identity.version or was.configuration != identity.configuration
    if changed and was.reason not in ("upgrade", "configuration"):  # else it is kept already
        reason: Reason = "upgrade" if was.version != identity.version else "configuration"
        log.info("a snapshot is kept of what was before", change=reason, version=was.version)
        await keeper.keep_what_was(_as_it_was(newest, memories), was, reason)
    return Snapshots(keeper, resumed.engine)


def identity_of(loaded: Loaded, version: str) -> Identity:
    """What snapshots say of the gateway as it is configured."""
    return Identity(
        gateway=loaded.configuration.gateway.id,
        version=version,
        configuration=configuration_sum(loaded),
        models={model.name: model_sum(model) for model in loaded.models.values()},
        sinks=_sinks(loaded),
    )


def _sinks(loaded: Loaded) -> tuple[str, ...]:
    """The cursors worth keeping."""
    return loaded.configuration.sinks


def _tell(resumed: Resumed) -> None:
    if resumed.reason:
        log.warning("the states go on from the journal alone", snapshot=resumed.name, reason=resumed.reason)
        return
    log.info(
        "the states go on from a snapshot",
        snapshot=resumed.name,
        events_after=resumed.events,
        samples_after=resumed.samples,
        from_journal_alone=len(resumed.left) or None,
    )


def _as_it_was(newest: Snapshot, memories: Mapping[str, EquipmentMemory]) -> EngineSnapshot:
    """A snapshot with the states the journal has: what has moved since is asked anew when it is used."""
    decode = msgspec.msgpack.Decoder(KeptEquipment).decode
    kept = {name: decode(data) for name, data in newest.content.equipment.items()}
    return EngineSnapshot(
        SNAPSHOT_VERSION,
        {
            name: one
            if (memory := memories.get(name, one.memory)) == one.memory
            else msgspec.structs.replace(one, identity="", memory=memory, shown=memory.state, attempted=())
            for name, one in kept.items()
        },
    )


def configuration_sum(loaded: Loaded) -> str:
    """SHA-256 of the configuration file and of every file of models and tags that it names."""
    digest = hashlib.sha256()
    for path in _files_of(loaded):
        data = loaded.files.get(path.relative_to(loaded.path.parent).as_posix())
        if data is None:
            try:
                data = path.read_bytes()
            except OSError:
                continue  # it was read a moment ago; gone now, it is another configuration
        digest.update(f"{path.name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _files_of(loaded: Loaded) -> list[Path]:
    folder = loaded.path.parent
    models = {item.model for item in loaded.configuration.equipment if item.model.endswith(".toml")}
    lists = {
        group.tags_csv
        for connection in loaded.configuration.connections
        for group in connection.groups
        if group.tags_csv
    }
    return [loaded.path, *(folder / name for name in sorted(models | lists))]


def model_sum(model: Model) -> str:
    """SHA-256 of a model as it decides."""
    return hashlib.sha256(msgspec.json.encode(describe(model))).hexdigest()
