"""Where a tag lives in a server's address space: the text people write, and what it means in one session.

Namespace *indexes* belong to one session of one server and move when the PLC is downloaded; namespace *URIs*
stay. So a node is parsed once, when the configuration is read, and resolved again in every session against
the namespace array of that session. Pure: no session, no socket.

Text forms (OPC 10000-6 section 5.3.1.10 for node ids, OPC 10000-4 annex A.2 for `/` and the `&` escape):

    nsu=urn:plant;s=Filler.StateCurrent     namespace by URI (preferred)
    ns=2;s=Filler.StateCurrent              namespace by index
    i=2258                                  namespace 0
    /Objects/2:Plant/2:Filler               browse path from the root folder
    /Objects/nsu=urn:plant;Plant            the same with a URI
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from asyncua import ua

_NODE_ID = re.compile(r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<index>\d+);)?(?P<kind>[isgb])=(?P<id>.*)", re.DOTALL)
_STEP_SPLIT = re.compile(r"(?<!&)/")
_ESCAPED = re.compile(r"&(.)")
_STEP_INDEX = re.compile(r"(\d+):(.+)", re.DOTALL)
_STEP_URI = re.compile(r"nsu=([^;]+);(.+)", re.DOTALL)
_FORMS = '"nsu=URI;s=NAME", "ns=2;s=NAME", "i=2258" or a browse path such as "/Objects/2:Plant/2:Speed"'

_INDEX_MAX = 0xFFFF
_NUMBER_MAX = 0xFFFF_FFFF

#: HierarchicalReferences, the reference a `/` follows.
_HIERARCHICAL = 33


class NodeSyntaxError(ValueError):
    """A node text that cannot be read; the message says where and what would be right."""


class NodeUnresolved(LookupError):
    """A node that means nothing, or more than one thing, in this session; the message says why."""


@dataclass(frozen=True)
class NodeName:
    """A node id whose namespace is still a URI or an index."""

    namespace: str | int
    identifier: int | str | uuid.UUID | bytes


@dataclass(frozen=True)
class BrowsePath:
    """Browse names to follow from the root folder, each with its namespace."""

    steps: tuple[tuple[str | int, str], ...]


Node = NodeName | BrowsePath


def parse_node(text: str) -> Node:
    """Read a node as people write it.

    Raises:
        NodeSyntaxError: the text is none of the forms.
    """
    if text.startswith("/"):
        return _parse_path(text)
    if text.startswith("svr="):
        raise NodeSyntaxError(f'"{text}" points at another server; connect to that server directly')
    match = _NODE_ID.fullmatch(text)
    if match is None:
        raise NodeSyntaxError(f'"{text}" is not an OPC UA node; write {_FORMS}')
    namespace: str | int = 0
    if match["uri"] is not None:
        namespace = unquote(match["uri"])
    elif match["index"] is not None:
        namespace = _index(match["index"], text)
    return NodeName(namespace, _identifier(match["kind"], match["id"], text))


def _identifier(kind: str, written: str, text: str) -> int | str | uuid.UUID | bytes:
    if not written:
        raise NodeSyntaxError(f'"{text}" has nothing after "{kind}="')
    if kind == "s":
        return written
    if kind == "i":
        if not written.isascii() or not written.isdigit() or int(written) > _NUMBER_MAX:
            raise NodeSyntaxError(f'"{text}": after "i=" comes a number from 0 to {_NUMBER_MAX}')
        return int(written)
    if kind == "g":
        try:
            return uuid.UUID(written)
        except ValueError:
            raise NodeSyntaxError(f'"{text}": after "g=" comes a GUID such as {uuid.UUID(int=1)}') from None
    try:
        return base64.b64decode(written, validate=True)
    except binascii.Error:
        raise NodeSyntaxError(f'"{text}": after "b=" come bytes in Base64') from None


def _index(written: str, text: str) -> int:
    index = int(written)
    if index > _INDEX_MAX:
        raise NodeSyntaxError(f'"{text}": a namespace index is at most {_INDEX_MAX}')
    return index


def _parse_path(text: str) -> BrowsePath:
    steps: list[tuple[str | int, str]] = []
    for written in _STEP_SPLIT.split(text[1:]):
        if not written:
            raise NodeSyntaxError(
                f'"{text}" has an empty step; write names between single slashes, "&/" for a slash'
            )
        step = _ESCAPED.sub(r"\1", written)
        namespace: str | int = 0
        if by_uri := _STEP_URI.fullmatch(step):
            namespace, step = unquote(by_uri[1]), by_uri[2]
        elif by_index := _STEP_INDEX.fullmatch(step):
            namespace, step = _index(by_index[1], text), by_index[2]
        steps.append((namespace, step))
    if steps[0] == (0, "Root"):
        steps = steps[1:]
    if not steps:
        raise NodeSyntaxError(f'"{text}" names no node below the root folder')
    return BrowsePath(tuple(steps))


def namespace_index(namespace: str | int, namespaces: Sequence[str]) -> int:
    """The index of a namespace in this session, `namespaces` being the server's NamespaceArray (i=2255).

    Raises:
        NodeUnresolved: the server does not have it, or has it twice.
    """
    if isinstance(namespace, int):
        if namespace >= len(namespaces):
            raise NodeUnresolved(
                f"the server has no namespace {namespace}; its last is {len(namespaces) - 1}"
            )
        return namespace
    found = [index for index, uri in enumerate(namespaces) if uri == namespace]
    if not found:
        raise NodeUnresolved(f'the server has no namespace "{namespace}"')
    if len(found) > 1:
        raise NodeUnresolved(
            f'the server has the namespace "{namespace}" twice, as {found[0]} and {found[1]}'
        )
    return found[0]


def node_id(node: NodeName, namespaces: Sequence[str]) -> ua.NodeId:
    """The node id to use in this session.

    Raises:
        NodeUnresolved: see `namespace_index`.
    """
    return numbered(node.identifier, namespace_index(node.namespace, namespaces))


def numbered(identifier: int | str | uuid.UUID | bytes, index: int = 0) -> ua.NodeId:
    """The library's node id for an identifier in a namespace of this session."""
    # The library's annotations ask for its own integer types, its code for plain ones.
    loose: Any = ua.NodeId
    made: ua.NodeId = loose(identifier, index)
    return made


def relative_path(path: BrowsePath, namespaces: Sequence[str]) -> ua.RelativePath:
    """The path to hand to TranslateBrowsePathsToNodeIds, starting at the root folder (i=84).

    Raises:
        NodeUnresolved: see `namespace_index`.
    """
    loose: Any = ua.RelativePathElement
    return ua.RelativePath(
        [
            loose(
                ReferenceTypeId=numbered(_HIERARCHICAL),
                IsInverse=False,
                IncludeSubtypes=True,
                TargetName=ua.QualifiedName(name, namespace_index(namespace, namespaces)),
            )
            for namespace, name in path.steps
        ]
    )


def identifier_text(identifier: int | str | uuid.UUID | bytes) -> str:
    """An identifier as the standard writes it: `i=85`, `s=Speed`, `g=...`, `b=...` (Base64)."""
    if isinstance(identifier, int):
        return f"i={identifier}"
    if isinstance(identifier, str):
        return f"s={identifier}"
    if isinstance(identifier, uuid.UUID):
        return f"g={identifier}"
    return f"b={base64.b64encode(identifier).decode('ascii')}"


def full_node_text(identifier: str, index: int, uri: str | None = None, server: int | None = None) -> str:
    """A whole node id as text; a namespace URI, where there is one, stands for the index."""
    if uri is not None:
        identifier = f"nsu={quote(uri, safe=':/?#[]@!$&()*+,=~')};{identifier}"
    elif index:
        identifier = f"ns={index};{identifier}"
    return f"svr={server};{identifier}" if server else identifier
