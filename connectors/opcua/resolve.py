"""Which node an item means in one session: indexes of namespaces and ends of browse paths, asked for anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncua import ua

from connectors.opcua.nodes import NodeName, NodeUnresolved, node_id, relative_path
from connectors.opcua.plan import Item
from connectors.opcua.quality import name_of
from connectors.opcua.session import Session


@dataclass(frozen=True)
class Resolved:
    """An item with its node in this session, or the reason why it has none."""

    item: Item
    node: ua.NodeId | None
    reason: str = ""


async def resolve(session: Session, items: Sequence[Item]) -> list[Resolved]:
    """The node of each item in this session, or why there is none; in the same order."""
    found: dict[Item, Resolved] = {}
    paths: list[tuple[Item, ua.RelativePath]] = []
    for item in items:
        try:
            if item.events is not None:
                for type_ in item.events.types:
                    node_id(type_, session.namespaces)
            if isinstance(item.node, NodeName):
                found[item] = Resolved(item, node_id(item.node, session.namespaces))
            else:
                paths.append((item, relative_path(item.node, session.namespaces)))
        except NodeUnresolved as error:
            found[item] = Resolved(item, None, str(error))
    targets = await session.translate([path for _, path in paths]) if paths else []
    for (item, _), target in zip(paths, targets, strict=True):
        if isinstance(target, int):
            found[item] = Resolved(item, None, f"no node at the end of the browse path ({name_of(target)})")
        elif len(target) != 1:
            found[item] = Resolved(item, None, f"the browse path leads to {len(target)} nodes; use a node id")
        else:
            found[item] = Resolved(item, target[0])
    return [found[item] for item in items]
