"""What a server tells of its address space: Browse answers from bytes to references, and the questions.

Layouts are those of OPC 10000-4 section 5.8 in the encoding of OPC 10000-6 section 5.2. As everywhere, no
length is believed. Node ids are texts here (`ns=2;s=Speed`), being short-lived names of one session. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from asyncua import ua

from connectors.opcua.binary import DEPTH_MAX, Malformed, Reader
from connectors.opcua.decode import header
from connectors.opcua.nodes import (
    NodeName,
    NodeSyntaxError,
    NodeUnresolved,
    full_node_text,
    namespace_index,
    node_id,
    numbered,
    parse_node,
)

BROWSE_RESPONSE, BROWSE_NEXT_RESPONSE = 530, 536
#: NodeClass (OPC 10000-3 section 8.29).
OBJECT, VARIABLE, METHOD, VIEW = 1, 2, 4, 128
#: Reference types: those that lead down, those that say what a type is made of (OPC 10000-5 annex).
REFERENCES, HIERARCHICAL, HAS_SUBTYPE, HAS_ENCODING, HAS_PROPERTY = 31, 33, "i=45", "i=38", "i=46"
_EVERY_FIELD = 0x3F
#: Attributes (OPC 10000-6 annex A.1).
BROWSE_NAME, DESCRIPTION, VALUE, DATA_TYPE, VALUE_RANK, USER_ACCESS_LEVEL, TYPE_DEFINITION = (
    3,
    5,
    13,
    14,
    15,
    18,
    23,
)


class Reference(NamedTuple):
    """One reference from a node to another."""

    type_id: str
    forward: bool
    node: str
    namespace: int
    name: str
    shown: str
    node_class: int
    type_definition: str


class Browsed(NamedTuple):
    """What one node leads to, as far as this answer goes; `continuation` asks for the rest."""

    code: int
    continuation: bytes
    references: list[Reference]


def decode_browse(data: bytes, wanted: int) -> list[Browsed]:
    """Read a BrowseResponse or BrowseNextResponse. A service fault was told before.

    Raises:
        Malformed: it contradicts itself or the standard.
    """
    reader = Reader(data, 0)
    try:
        header(reader, wanted)
        found = [_browsed(reader) for _ in range(reader.count())]
        for _ in range(reader.count()):
            reader.diagnostic_info(DEPTH_MAX)
    except (struct.error, IndexError) as error:
        raise Malformed("a browse response ends in the middle of a reference") from error
    return found


def _browsed(reader: Reader) -> Browsed:
    code = reader.u32()
    continuation = reader.bytes() or b""
    return Browsed(code, continuation, [_reference(reader) for _ in range(reader.count())])


def _reference(reader: Reader) -> Reference:
    type_id = reader.node_id()[0]
    forward = bool(reader.u8())
    node = reader.node_id()[0]
    namespace, name = reader.u16(), reader.text()
    shown = reader.localized_text()
    node_class = reader.i32()
    return Reference(type_id, forward, node, namespace, name, shown, node_class, reader.node_id()[0])


def local_node(text: str, namespaces: Sequence[str]) -> ua.NodeId | None:
    """The node of a text in this session; None for what lies in another server or has no name here."""
    if text.startswith("svr="):
        return None
    try:
        node = parse_node(text)
        return node_id(node, namespaces) if isinstance(node, NodeName) else None
    except (NodeSyntaxError, NodeUnresolved):
        return None


def local_text(text: str, namespaces: Sequence[str]) -> str:
    """The same node with its namespace by index, so that each node has one text."""
    if not text.startswith("nsu="):
        return text
    try:
        node = parse_node(text)
        index = namespace_index(node.namespace, namespaces) if isinstance(node, NodeName) else 0
    except (NodeSyntaxError, NodeUnresolved):
        return text
    return full_node_text(text.partition(";")[2], index)


def lasting_text(text: str, namespaces: Sequence[str]) -> str:
    """The node as a configuration has it: by the URI of its namespace, which outlives a download."""
    if not text.startswith("ns="):
        return text
    index_text, _, identifier = text.partition(";")
    index = int(index_text.removeprefix("ns="))
    uri = namespaces[index] if index < len(namespaces) else ""
    if not uri or namespaces.count(uri) > 1:
        return text
    return full_node_text(identifier, index, uri)


def browse_request(nodes: Sequence[ua.NodeId], references_max: int, *, down: bool = True) -> Any:
    """Ask where nodes lead: down the hierarchy, or with `down` false in every direction."""
    request: Any = ua.BrowseRequest()
    request.Parameters.RequestedMaxReferencesPerNode = references_max
    for node in nodes:
        one: Any = ua.BrowseDescription()
        one.NodeId = node
        one.BrowseDirection = ua.BrowseDirection.Forward if down else ua.BrowseDirection.Both
        one.ReferenceTypeId = numbered(HIERARCHICAL if down else REFERENCES)
        one.IncludeSubtypes = True
        one.NodeClassMask = 0
        one.ResultMask = _EVERY_FIELD
        request.Parameters.NodesToBrowse.append(one)
    return request


def browse_next_request(continuations: Sequence[bytes], *, release: bool = False) -> Any:
    """Ask for the rest of what nodes lead to, or give it up."""
    request: Any = ua.BrowseNextRequest()
    request.Parameters.ReleaseContinuationPoints = release
    request.Parameters.ContinuationPoints = list(continuations)
    return request


def read_request(attributes: Sequence[tuple[ua.NodeId, int]]) -> Any:
    """Ask for attributes of nodes, without time stamps."""
    request: Any = ua.ReadRequest()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
    request.Parameters.NodesToRead = [
        ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds(attribute)) for node, attribute in attributes
    ]
    return request
