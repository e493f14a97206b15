"""Ranges the server knows of its variables (EURange), for tags whose deadband is a percentage of them."""

from __future__ import annotations

import math
import struct
from collections.abc import Container, Sequence
from typing import Any

from asyncua import ua

from connectors.opcua.config import OpcuaConnection
from connectors.opcua.nodes import numbered
from connectors.opcua.plan import Item, items_of
from connectors.opcua.resolve import resolve
from connectors.opcua.session import Session
from connectors.opcua.values import Body, Raw

_HAS_PROPERTY = 46
_RANGE = struct.Struct("<dd")
#: Id of the binary encoding of Range (OPC 10000-6 annex A).
_RANGE_TYPE = "i=886"


def wanting(settings: OpcuaConnection) -> tuple[Item, ...]:
    """The items of tags that speak in percent and say no range of their own."""
    items = (item for group in items_of(settings) for item in group)
    return tuple(
        item
        for tag, item in zip(settings.tags(), items, strict=True)
        if tag.range is None and (isinstance(tag.deadband, str) or isinstance(tag.swing, str))
    )


def missing_ranges(items: Sequence[Item], known: Container[str]) -> str:
    """A warning of tags whose percentages are of nothing, in one sentence; empty when there are none."""
    tags = [item.tag for item in items if item.tag not in known]
    if not tags:
        return ""
    more = f" and {len(tags) - 1} more" if len(tags) > 1 else ""
    return f"the server tells no range of {tags[0]}{more}: its deadband in percent has no effect; set `range`"


async def learn_ranges(session: Session, items: Sequence[Item]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value by tag, for those of which the server says it.

    Raises:
        ConnectionLost: the connection is gone.
    """
    if not items:
        return {}
    found = [(one.item.tag, one.node) for one in await resolve(session, items) if one.node is not None]
    path = ua.RelativePath([_property("EURange")])
    ends = await session.follow([(node, path) for _, node in found])
    named = [
        (tag, end[0]) for (tag, _), end in zip(found, ends, strict=True) if not isinstance(end, int) and end
    ]
    values = await session.read([node for _, node in named])
    ranges = {tag: told(reading.value) for (tag, _), reading in zip(named, values, strict=True)}
    return {tag: ends for tag, ends in ranges.items() if ends is not None}


def told(value: Raw) -> tuple[float, float] | None:
    """A Range as its two ends; None where it is none, or says nothing."""
    if not isinstance(value, Body) or value.type_id != _RANGE_TYPE or len(value.data or b"") != _RANGE.size:
        return None
    low, high = _RANGE.unpack(value.data or b"")
    return (low, high) if math.isfinite(high - low) and low < high else None


def _property(name: str) -> ua.RelativePathElement:
    loose: Any = ua.RelativePathElement
    element: ua.RelativePathElement = loose(
        ReferenceTypeId=numbered(_HAS_PROPERTY),
        IsInverse=False,
        IncludeSubtypes=True,
        TargetName=ua.QualifiedName(name, 0),
    )
    return element
