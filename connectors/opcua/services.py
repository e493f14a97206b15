"""Reading attributes and following references, in parts a server takes, over one session.

Every part that a server finds too much is asked for again in halves, and from then on parts are no larger
than what it took. It knows nothing of what the answers are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from asyncua import ua

from connectors.errors import ConnectionLost
from connectors.opcua.address_space import (
    BROWSE_NEXT_RESPONSE,
    BROWSE_RESPONSE,
    Browsed,
    Reference,
    browse_next_request,
    browse_request,
    decode_browse,
    read_request,
)
from connectors.opcua.decode import decode_read
from connectors.opcua.nodes import numbered
from connectors.opcua.quality import MEANING
from connectors.opcua.session import Session
from connectors.opcua.values import Reading

#: Nodes per Browse, and references of each per answer, when the server states no limit.
BROWSE_PARTS, REFERENCES_MAX = 100, 1000
READ_PARTS = 1000
#: Most references of one node that are followed.
CHILDREN_MAX = 200_000
_MAX_NODES_PER_BROWSE = 11710
_NO_CONTINUATION_POINTS = 0x804B_0000


@dataclass
class Services:
    """What a session is asked beside values; `browse_part` and `read_part` shrink where a server insists."""

    session: Session
    browse_part: int = BROWSE_PARTS
    read_part: int = READ_PARTS
    cut: set[str] = field(default_factory=set)
    """Node ids, as texts, of which not every reference was taken."""

    async def prepare(self) -> None:
        """Learn the limits of the server."""
        (told,) = await self.session.read([numbered(_MAX_NODES_PER_BROWSE)])
        if isinstance(told.value, int) and told.value > 0:
            self.browse_part = min(told.value, BROWSE_PARTS)
        if self.session.limits.nodes_per_read:
            self.read_part = min(self.session.limits.nodes_per_read, READ_PARTS)

    async def attributes(self, wanted: Sequence[tuple[ua.NodeId, int]]) -> list[Reading]:
        """The values of attributes, one each; a bad status code where there is none."""
        found: list[Reading] = []
        while len(found) < len(wanted):
            part = wanted[len(found) : len(found) + self.read_part]
            answer = await self.session.ask(read_request(part), lambda data: decode_read(data, 0))
            if answer is None:
                self.read_part = _halved(len(part), "read")
            elif len(answer) != len(part):
                raise ConnectionLost(
                    f"the server answers {len(answer)} reads where {len(part)} were asked for"
                )
            else:
                found.extend(answer)
        return found

    async def browse(
        self, nodes: Sequence[ua.NodeId], *, down: bool = True
    ) -> list[tuple[int, list[Reference]]]:
        """Status code and references of each node."""
        found: list[tuple[int, list[Reference]]] = []
        while len(found) < len(nodes):
            part = nodes[len(found) : len(found) + self.browse_part]
            request = browse_request(part, REFERENCES_MAX, down=down)
            answer = await self.session.ask(request, lambda data: decode_browse(data, BROWSE_RESPONSE))
            if answer is None:
                self.browse_part = _halved(len(part), "browse")
                continue
            if len(answer) != len(part):
                raise ConnectionLost(
                    f"the server browses {len(answer)} nodes where {len(part)} were asked for"
                )
            short = any(one.code & MEANING == _NO_CONTINUATION_POINTS for one in answer)
            if short and len(part) > 1:
                # It keeps fewer places than nodes were asked for: give up those it keeps, and ask for fewer.
                await self._release([one.continuation for one in answer if one.continuation])
                self.browse_part = _halved(len(part), "browse")
                continue
            for node, one in zip(part, answer, strict=True):
                found.append((one.code, await self._rest(node, one)))
        return found

    async def _rest(self, node: ua.NodeId, first: Browsed) -> list[Reference]:
        references, continuation = first.references, first.continuation
        while continuation:
            if len(references) >= CHILDREN_MAX:
                self.cut.add(node.to_string())
                await self._release([continuation])
                break
            answer = await self.session.ask(
                browse_next_request([continuation]), lambda data: decode_browse(data, BROWSE_NEXT_RESPONSE)
            )
            if not answer or answer[0].code & 0x8000_0000 or not answer[0].references:
                self.cut.add(node.to_string())
                break
            references.extend(answer[0].references)
            continuation = answer[0].continuation
        return references

    async def _release(self, continuations: Sequence[bytes]) -> None:
        if continuations:
            request = browse_next_request(continuations, release=True)
            await self.session.ask(request, lambda data: decode_browse(data, BROWSE_NEXT_RESPONSE))


def _halved(count: int, what: str) -> int:
    if count <= 1:
        raise ConnectionLost(f"the server finds a {what} of a single node too much")
    return count // 2
