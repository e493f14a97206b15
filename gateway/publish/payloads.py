"""What is said: the bytes of each kind of message. Pure. Events travel as the bytes the journal holds."""

from __future__ import annotations

from datetime import datetime

import msgspec

from statemodel.records import EquipmentState
from statemodel.types import Quality, TagSample, TagValue

ONLINE = b"online"
OFFLINE = b"offline"


class ToldTag(msgspec.Struct, frozen=True):
    """JSON form of a tag's newest sample. `value` is null when the source gave none, or NaN."""

    tag: str
    value: TagValue
    quality: Quality
    substatus: str
    unit: str
    source_at: datetime | None
    received_at: datetime


_encode = msgspec.json.Encoder().encode


def state(state: EquipmentState) -> bytes:
    """The JSON of a state, the same as REST gives."""
    return _encode(state)


def tag(sample: TagSample, unit: str) -> bytes:
    """The JSON of a tag's newest sample."""
    return _encode(
        ToldTag(
            sample.tag,
            sample.value,
            sample.quality,
            sample.substatus,
            unit,
            sample.source_at,
            sample.received_at,
        )
    )
