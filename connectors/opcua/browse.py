"""Looks around in a server for `andon browse`: walks the hierarchy, describes what it meets, offers PackML.

Nodes are followed in the order of the tree but asked for in batches, those next in line together, so a server
is asked hundreds of times and not tens of thousands, and only the way ahead is kept in memory. A node that
can be reached on several ways is told once, which ends every loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field, replace

from asyncua import ua

from connectors.browsing import Finding, Found, Kind, Matcher, Offer, Query, Remark
from connectors.opcua.address_space import (
    DATA_TYPE,
    DESCRIPTION,
    HAS_PROPERTY,
    METHOD,
    OBJECT,
    USER_ACCESS_LEVEL,
    VALUE,
    VALUE_RANK,
    VARIABLE,
    VIEW,
    Reference,
    lasting_text,
    local_node,
    local_text,
)
from connectors.opcua.binary import Malformed
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.datatypes import DataTypes, enumeration_of
from connectors.opcua.offers import NESTED, PackmlSpotter, Sighting
from connectors.opcua.opening import open_session
from connectors.opcua.picks import parse_pick
from connectors.opcua.quality import is_bad, name_of
from connectors.opcua.services import Services
from connectors.opcua.session import Session
from connectors.opcua.structures import ENGINEERING_UNITS, RANGE, engineering_unit, range_of
from connectors.opcua.values import Body, Raw, Reading, judge
from connectors.protocol import Environment
from statemodel.types import Quality, TagValue

_ROOT, _OBJECTS = "i=84", "i=85"
#: What describes the server itself, not the plant: Server, Aliases, Locations (OPC 10000-5, -17 and -100).
_OF_THE_SERVER = frozenset({"i=2253", "i=23470", "i=31915"})
_FOLDER_TYPE = "i=61"
#: Nodes described together: their attributes are read in one go.
_TOGETHER = 200
#: Nodes met at most, told or not; a server without end has an end here.
NODES_MAX = 1_000_000
LEVELS_MAX = 64
#: Fields of one structure told at most.
_FIELDS_MAX = 200
#: Longest text of a value or a description shown.
_TEXT_MAX = 200
_READ, _WRITE = 0x01, 0x02

#: Properties of a variable that are told with it and not as things of their own.
_TOLD_WITH = frozenset(
    {"EngineeringUnits", "EURange", "EnumStrings", "EnumValues", "TrueState", "FalseState"}
)
_KINDS: dict[int, Kind] = {OBJECT: "object", VARIABLE: "variable", METHOD: "method", VIEW: "view"}


@dataclass(slots=True)
class _Node:
    text: str
    id: ua.NodeId
    path: tuple[str, ...]
    kind: Kind
    children: list[_Node] | None = None
    told_with: dict[str, ua.NodeId] = field(default_factory=dict)


async def look_around(
    settings: OpcuaConnection, query: Query, environment: Environment
) -> AsyncGenerator[Finding, None]:
    """What a server holds; see `connectors.protocol.Browse`."""
    session = await open_session(settings, environment)
    try:
        services = Services(session)
        await services.prepare()
        async for finding in _Looking(session, services, query).findings():
            yield finding
    finally:
        await session.close(polite=True)


class _Looking:
    """One look through one server."""

    def __init__(self, session: Session, services: Services, query: Query) -> None:
        self._session = session
        self._services = services
        self._query = query
        self._matches = query.matcher()
        self._types = DataTypes(services)
        self._spotter = PackmlSpotter()
        self._seen: set[str] = set()
        self._refused: dict[int, tuple[int, str]] = {}
        self._ended_early = ""
        self._depth_max = min(LEVELS_MAX, query.depth or LEVELS_MAX)

    async def findings(self) -> AsyncGenerator[Finding, None]:
        """Everything the query wants, then what was recognised, then what is to be said about it all."""
        told = 0
        waiting: list[_Node] = []
        async for node in self._walk():
            if node.kind in ("variable", "property"):
                self._spotter.see(node.path, node.text)
            if self._matches.possible(node.path, node.kind):
                waiting.append(node)
            if len(waiting) >= _TOGETHER:
                for found in await self._described(waiting):
                    told += 1
                    yield found
                waiting = []
            if told >= self._query.limit:
                self._ended_early = f"there is more: only the first {told} are told"
                break
        for found in await self._described(waiting):
            yield found
        for sighting in self._spotter.sightings():
            offer = await self._offer(sighting)
            tags = (*offer.states, *([offer.mode] if offer.mode else []), *offer.others)
            if any(self._matches(tag) for tag in tags):
                yield offer
        for remark in self._remarks():
            yield remark

    async def _walk(self) -> AsyncGenerator[_Node, None]:
        """Every node once, each after the one it lies in."""
        top = _ROOT if self._query.everything else _OBJECTS
        stack: list[_Node] = []
        start = local_node(top, self._session.namespaces)
        assert start is not None
        self._seen.update({top} if self._query.everything else {top, *_OF_THE_SERVER})
        first = _Node(top, start, (), "folder")
        await self._look_into([first])
        stack.extend(reversed(first.children or []))
        while stack:
            if stack[-1].children is None:
                ahead = (node for node in reversed(stack[-4 * self._services.browse_part :]))
                batch = [node for node in ahead if node.children is None][: self._services.browse_part]
                await self._look_into(batch)
            node = stack.pop()
            stack.extend(reversed(node.children or []))
            node.children = []
            yield node

    async def _look_into(self, nodes: Sequence[_Node]) -> None:
        """Find the children of nodes; at the lowest level wanted only what is told with a variable."""
        asked = [node for node in nodes if self._leads_on(node)]
        for node in nodes:
            node.children = []
        for node, (code, references) in zip(
            asked, await self._services.browse([node.id for node in asked]), strict=True
        ):
            if is_bad(code):
                count, first = self._refused.get(code, (0, "/".join(node.path) or node.text))
                self._refused[code] = (count + 1, first)
            for reference in references:
                self._child(node, reference)

    def _leads_on(self, node: _Node) -> bool:
        if node.kind == "variable":
            return True
        return node.kind != "method" and len(node.path) < self._depth_max and not self._ended_early

    def _child(self, parent: _Node, reference: Reference) -> None:
        namespaces = self._session.namespaces
        text = local_text(reference.node, namespaces)
        if not reference.forward or text in self._seen:
            return
        id_ = local_node(text, namespaces)
        if id_ is None:
            return
        if parent.kind == "variable" and reference.namespace == 0 and reference.name in _TOLD_WITH:
            parent.told_with[reference.name] = id_
            return
        if len(parent.path) >= self._depth_max:
            return
        if len(self._seen) >= NODES_MAX:
            self._ended_early = f"the server has more than {NODES_MAX:,} nodes; the rest was not looked at"
            return
        self._seen.add(text)
        path = (*parent.path, reference.name or reference.shown or text)
        assert parent.children is not None
        parent.children.append(_Node(text, id_, path, _kind(reference)))

    async def _described(self, nodes: Sequence[_Node]) -> list[Found]:
        """Nodes with everything people want to know of them, and the fields of structures after each."""
        wanted: list[tuple[ua.NodeId, int]] = []
        attributes = [DATA_TYPE, VALUE_RANK, USER_ACCESS_LEVEL, DESCRIPTION]
        if self._query.values:
            attributes.append(VALUE)
        variables = [node for node in nodes if node.kind in ("variable", "property")]
        for node in variables:
            wanted.extend((node.id, attribute) for attribute in attributes)
            wanted.extend((id_, VALUE) for id_ in node.told_with.values())
        told = iter(await self._services.attributes(wanted))
        facts: dict[str, _Facts] = {}
        for node in variables:
            data_type, rank, access, description, *value = [next(told) for _ in attributes]
            facts[node.text] = _Facts(
                local_text(data_type.value, self._session.namespaces)
                if isinstance(data_type.value, str)
                else "",
                rank.value if isinstance(rank.value, int) else -1,
                access,
                description.value if isinstance(description.value, str) else "",
                value[0] if value else None,
                {name: next(told).value for name in node.told_with},
            )
        await self._types.learn(one.data_type for one in facts.values() if one.data_type)
        found: list[Found] = []
        for node in nodes:
            fact = facts.get(node.text)
            address = lasting_text(node.text, self._session.namespaces)
            if fact is None:
                found.append(Found(address, node.path, node.kind, readable=False))
            else:
                found.extend(self._variable(node, address, fact))
        return [one for one in found if self._matches(one)]

    def _variable(self, node: _Node, address: str, fact: _Facts) -> Iterable[Found]:
        readable = is_bad(fact.access.code) or bool(_bits(fact.access) & _READ)
        writable = bool(_bits(fact.access) & _WRITE)
        low, high = _range(fact.told_with.get("EURange"))
        whole = Found(
            address,
            node.path,
            node.kind,
            type=self._type_words(fact),
            unit=_unit(fact.told_with.get("EngineeringUnits")),
            low=low,
            high=high,
            readable=readable,
            writable=writable,
            description=_short(self._description(fact, node)),
        )
        structure = fact.data_type in self._types.structures.definitions
        if not readable:
            yield replace(whole, problem="this user may not read it")
            return
        if structure:
            unknown = self._types.structures.unknown(fact.data_type)
            parts = "an array of structures: a field of one is a tag, by `index` and `field`"
            parts = "a structure: its fields are tags, by `field`" if fact.rank < 0 else parts
            yield replace(whole, problem=unknown or parts)
            if fact.rank < 0 and not unknown:
                yield from self._fields(node, whole, fact)
            return
        if fact.data_type == "i=22" and fact.rank < 0:
            yield replace(whole, problem="a structure of a type the server does not tell")
            return
        yield self._with_value(whole, fact.value, None)

    def _fields(self, node: _Node, whole: Found, fact: _Facts) -> Iterable[Found]:
        for told, (path, data_type) in enumerate(self._types.structures.paths(fact.data_type)):
            if told >= _FIELDS_MAX:
                return
            element, array = data_type.removesuffix("[]"), "[]" if data_type.endswith("[]") else ""
            enumeration = self._types.structures.enumerations.get(element)
            one = replace(
                whole,
                path=(*node.path, *path.split(".")),
                type=self._types.described(element) + array,
                unit="",
                low=None,
                high=None,
                description=_short(enumeration.text()) if enumeration else "",
                settings=(("field", path),),
                name=f"{node.path[-1]}.{path}",
            )
            yield self._with_value(one, fact.value, path)

    def _with_value(self, found: Found, reading: Reading | None, path: str | None) -> Found:
        if reading is None:
            return found
        value = reading.value
        pick = parse_pick(None, path) if path else None
        if pick is not None:
            value = pick.of(value, self._types.structures)
        carried, quality, substatus = judge(value, reading.code)
        if quality is Quality.BAD and is_bad(reading.code) and not found.type:
            return replace(found, problem=f"cannot be read ({name_of(reading.code)})")
        trouble = (
            "" if quality is Quality.GOOD else f"{quality.value}{f' ({substatus})' if substatus else ''}"
        )
        return replace(found, value=_short_value(carried), quality=trouble)

    def _type_words(self, fact: _Facts) -> str:
        words = self._types.described(fact.data_type) if fact.data_type else ""
        return words + ("[]" if fact.rank in (0, 1) else "[,]" if fact.rank > 1 else "")

    def _description(self, fact: _Facts, node: _Node) -> str:
        """What the server says of it beside its name, and what its numbers mean."""
        own_words = "" if fact.description == node.path[-1] else fact.description
        texts = self._types.structures.enumerations.get(fact.data_type)
        own = fact.told_with.get("EnumStrings") or fact.told_with.get("EnumValues")
        texts = enumeration_of(own) or texts
        if "TrueState" in fact.told_with:
            states = f"true {fact.told_with['TrueState']}, false {fact.told_with.get('FalseState')}"
            return "; ".join(part for part in (states, own_words) if part)
        return "; ".join(part for part in (texts.text() if texts else "", own_words) if part)

    async def _offer(self, sighting: Sighting) -> Offer:
        wanted = [*sighting.states, *([sighting.mode] if sighting.mode else []), *sighting.others]
        nodes = []
        for tag in wanted:
            text, path = sighting.tags[tag]
            id_ = local_node(text, self._session.namespaces)
            assert id_ is not None
            nodes.append(_Node(text, id_, path, "variable"))
        matches, self._matches = self._matches, Matcher(Query())
        described = {one.path: one for one in await self._described(nodes)}
        self._matches = matches
        found = {
            tag: replace(
                described[node.path],
                name=f"{sighting.name}.{tag if tag in NESTED else node.path[-1].rpartition('.')[2]}",
            )
            for tag, node in zip(wanted, nodes, strict=True)
        }
        return Offer(
            sighting.name,
            "packml",
            tuple(found[tag] for tag in sighting.states),
            found[sighting.mode] if sighting.mode else None,
            tuple(found[tag] for tag in sighting.others),
            sighting.reason,
        )

    def _remarks(self) -> Iterable[Remark]:
        if self._ended_early:
            yield Remark(self._ended_early)
        for code, (count, first) in self._refused.items():
            more = f" and {count - 1} more" if count > 1 else ""
            yield Remark(f"{first}{more} could not be looked into ({name_of(code)})")
        if self._services.cut:
            first = min(self._services.cut)
            yield Remark(f"not everything below {first} was told by the server")


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the attributes of a variable say."""

    data_type: str
    rank: int
    access: Reading
    description: str
    value: Reading | None
    told_with: dict[str, Raw]


def _kind(reference: Reference) -> Kind:
    if reference.node_class == OBJECT and reference.type_definition == _FOLDER_TYPE:
        return "folder"
    if reference.node_class == VARIABLE and reference.type_id == HAS_PROPERTY:
        return "property"
    return _KINDS.get(reference.node_class, "type" if reference.node_class in (8, 16, 32, 64) else "other")


def _bits(access: Reading) -> int:
    return access.value if isinstance(access.value, int) and not is_bad(access.code) else 0


def _unit(value: Raw) -> str:
    try:
        return (
            engineering_unit(value) if isinstance(value, Body) and value.type_id == ENGINEERING_UNITS else ""
        )
    except Malformed:
        return ""


def _range(value: Raw) -> tuple[float | None, float | None]:
    try:
        low, high = range_of(value) if isinstance(value, Body) and value.type_id == RANGE else (0.0, 0.0)
    except Malformed:
        return None, None
    return (low, high) if low < high else (None, None)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_MAX else line[: _TEXT_MAX - 1] + "…"


def _short_value(value: TagValue) -> TagValue:
    return _short(value) if isinstance(value, str) and len(value) > _TEXT_MAX else value
