"""Writes through the session that reads: one after the other, each value at most once.

It finds the node of a tag, has its type told, and sends what fits. It knows nothing of types (`write`) or of
bytes (`session`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from asyncua import ua

from connectors.base import Write, WriteOutcome, Written
from connectors.opcua.plan import Item
from connectors.opcua.resolve import resolve
from connectors.opcua.session import Session
from connectors.opcua.write import DoesNotFit, NodeType, fitted, outcome

_WRONG_TYPE = 0x8074_0000


class Writing:
    """The writes of one session."""

    def __init__(self, session: Session, items: Mapping[str, Item]) -> None:
        self._session = session
        self._items = items
        self._known: dict[str, tuple[ua.NodeId, NodeType]] = {}
        self._turn = asyncio.Lock()

    async def write(self, writes: Sequence[Write]) -> list[Written]:
        """See `connectors.base.Writer.write`."""
        async with self._turn:
            told: dict[int, Written] = {}
            unknown = await self._learn([one.tag for one in writes if one.tag not in self._known])
            values: list[tuple[int, ua.NodeId, ua.Variant]] = []
            for place, one in enumerate(writes):
                if one.tag not in self._known:
                    told[place] = Written(one.tag, WriteOutcome.REFUSED, unknown[one.tag])
                    continue
                node, kind = self._known[one.tag]
                try:
                    values.append((place, node, fitted(one.value, kind)))
                except DoesNotFit as error:
                    told[place] = Written(one.tag, WriteOutcome.REFUSED, str(error))
            codes = await self._session.write([(node, value) for _, node, value in values])
            for (place, _, _), code in zip(values, codes, strict=True):
                tag = writes[place].tag
                told[place] = outcome(tag, code)
                if code == _WRONG_TYPE:
                    del self._known[tag]
            return [told[place] for place in range(len(writes))]

    async def _learn(self, tags: Sequence[str]) -> dict[str, str]:
        """Find the node and type of tags; why there is none of some."""
        reasons = {tag: "there is no such tag in this connection" for tag in tags if tag not in self._items}
        items = [self._items[tag] for tag in dict.fromkeys(tags) if tag in self._items]
        found: list[tuple[Item, ua.NodeId]] = []
        for one in await resolve(self._session, items) if items else ():
            if one.node is None:
                reasons[one.item.tag] = one.reason
            else:
                found.append((one.item, one.node))
        kinds = await self._session.types([node for _, node in found])
        for (item, node), kind in zip(found, kinds, strict=True):
            if kind.refusal:
                # Not remembered: it may be there the next time.
                reasons[item.tag] = kind.refusal
            else:
                self._known[item.tag] = node, kind
        return reasons
