"""The whole engine as one value: what it needs to go on as if it had never stopped.

More than states: the newest values, what guards remember, refused moves, modes. An engine made with a
snapshot gives, event for event, what the one it was taken of would have given. Where an equipment's model or
tags have changed since, its newest values stay and the rest is asked anew. `encode` and `decode` turn a
snapshot into bytes and back; it knows no file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from statemodel.describe import describe
from statemodel.machine import EquipmentMemory, EquipmentSpec
from statemodel.types import TagSample

#: Raised with every change that makes old snapshots say something else.
SNAPSHOT_VERSION: Final = 1

_INT64_MAX: Final = 2**63 - 1


class SnapshotRefused(ValueError):
    """The bytes are no snapshot, or one of another version: begin with the memories instead."""


class KeptRules(msgspec.Struct, frozen=True):
    """What a machine with rules keeps. `watches` is what its guards remember, in their order."""

    now: datetime
    at: datetime
    due: datetime | None
    fresh: bool
    watches: tuple[Any, ...]
    answers: tuple[Any, ...]


class KeptMode(msgspec.Struct, frozen=True):
    """What the keeper of a unit mode keeps; modes by name."""

    mode: str | None
    waiting: str | None
    left: str
    source_time: bool
    sample: TagSample | None


class KeptPath(msgspec.Struct, frozen=True):
    """What a path of nested machines keeps."""

    levels: tuple[TagSample | None, ...]
    told: TagSample | None
    source_time: bool


class KeptEquipment(msgspec.Struct, frozen=True):
    """One equipment. `identity` is its model and tags; `latest` has the newest sample of each rule's tags."""

    identity: str
    memory: EquipmentMemory
    shown: str
    attempted: tuple[str, ...]
    code_sample: TagSample | None
    latest: dict[str, TagSample]
    rules: KeptRules | None
    mode: KeptMode | None
    path: KeptPath | None

    def samples(self) -> dict[str, TagSample]:
        """The newest sample of every tag, whatever it was to the equipment."""
        others = [self.code_sample, *(self.path.levels if self.path is not None else ())]
        others.append(self.mode.sample if self.mode is not None else None)
        return {**{sample.tag: sample for sample in others if sample is not None}, **self.latest}


class EngineSnapshot(msgspec.Struct, frozen=True):
    """All equipment, by name."""

    version: int
    equipment: dict[str, KeptEquipment]


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(EngineSnapshot)


def encode(snapshot: EngineSnapshot) -> bytes:
    """A snapshot as bytes."""
    return _ENCODER.encode(snapshot)


def decode(data: bytes) -> EngineSnapshot:
    """The snapshot that bytes hold.

    Raises:
        SnapshotRefused: they hold none, or one of another version.
    """
    try:
        snapshot = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotRefused(f"this is no snapshot of an engine: {error}") from error
    if snapshot.version != SNAPSHOT_VERSION:
        raise SnapshotRefused(
            f"this is a snapshot of version {snapshot.version}, and only {SNAPSHOT_VERSION} is understood"
        )
    return snapshot


class Identities:
    """Models and tags as short texts that differ when anything that decides states differs."""

    def __init__(self) -> None:
        self._of_model: dict[int, bytes] = {}

    def of(self, spec: EquipmentSpec) -> str:
        """The identity of one equipment."""
        key = id(spec.model)
        if key not in self._of_model:
            model = spec.model
            told = (describe(model), sorted(map(repr, model.codes.items())), sorted(model.disabled))
            self._of_model[key] = msgspec.json.encode(told)
        digest = hashlib.sha256(self._of_model[key])
        digest.update(repr((sorted(spec.inputs.items()), spec.accept_uncertain)).encode())
        return digest.hexdigest()


def packed(remembered: Any) -> Any:
    """What a watch remembers, in a form that survives bytes: whole numbers may be longer than 64 bits."""
    if isinstance(remembered, tuple):
        return {"all": [packed(part) for part in remembered]}
    if type(remembered) is int and abs(remembered) > _INT64_MAX:
        return {"int": str(remembered)}
    return remembered


def unpacked(kept: Any) -> Any:
    """The reverse of `packed`."""
    if not isinstance(kept, Mapping):
        return kept
    return int(kept["int"]) if "int" in kept else tuple(unpacked(part) for part in kept["all"])
