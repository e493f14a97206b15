"""Builders for the tests of snapshots and backups: engines with a past, their snapshots, folders of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from gateway.journal.values import Cursor
from gateway.snapshots.form import Content, Header, Kind
from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentSpec
from statemodel.snapshot import SNAPSHOT_VERSION
from statemodel.types import Quality, SampleBatch, TagSample

AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
STREAM = "0b0e7f7e-0c0b-4d6f-9d8c-5a4f3f0f9a11"


def spec(name: str) -> EquipmentSpec:
    return EquipmentSpec(name, f"area/{name}", BUILTIN["packml"], state=f"plc/{name}")


def sample(name: str, code: int, second: int) -> SampleBatch:
    at = AT + timedelta(seconds=second)
    return SampleBatch("plc", at, (TagSample(f"plc/{name}", code, Quality.GOOD, None, at),))


def content(codes: Mapping[str, int], **changed: Any) -> Content:
    """What a snapshot holds of equipment that showed these codes."""
    engine = Engine([spec(name) for name in codes], at=AT)
    for second, (name, code) in enumerate(codes.items(), 1):
        engine.step(sample(name, code, second))
    equipment = {name: msgspec.msgpack.encode(kept) for name, kept in engine.snapshot().equipment.items()}
    made = Content(SNAPSHOT_VERSION, equipment, {}, {"plc": AT}, {"historian": Cursor(7, 9)})
    return msgspec.structs.replace(made, **changed)


def header(name: str, kind: Kind = "full", *, minute: float = 0, **changed: Any) -> Header:
    given: dict[str, Any] = {
        "reason": "every",
        "at": AT + timedelta(minutes=minute),
        "gateway": "line-1",
        "stream": STREAM,
        "seq": 5,
        "batch": 7,
        "version": "0.1.0",
        "configuration": "00" * 32,
        "models": {"packml": "11" * 32},
        "equipment": 2,
    }
    return Header(name=name, kind=kind, **{**given, **changed})
