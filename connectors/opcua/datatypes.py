"""Asks a server for its data types, as far as somebody needs them: what makes its structures and enumerations
readable.

A data type is asked for its name, its DataTypeDefinition (OPC 10000-3 section 5.8.3, since 1.04), its
supertype, its encodings, and for the texts older servers keep as properties of an enumeration. Structures
bring the types of their fields with them. The dictionaries of older servers (before 1.04) are not read.
"""

from __future__ import annotations

from collections.abc import Iterable

from asyncua import ua
from asyncua.ua.object_ids import ObjectIdNames

from connectors.opcua.address_space import (
    BROWSE_NAME,
    DATA_TYPE,
    HAS_ENCODING,
    HAS_SUBTYPE,
    TYPE_DEFINITION,
    VALUE,
    Reference,
    local_node,
    local_text,
)
from connectors.opcua.binary import Malformed
from connectors.opcua.picks import Picks
from connectors.opcua.services import Services
from connectors.opcua.session import Session
from connectors.opcua.structures import (
    BUILT_IN,
    Definition,
    Enumeration,
    Structures,
    enum_value,
    parse_definition,
)
from connectors.opcua.values import Body, Raw

#: Most data types of one server that are looked at.
TYPES_MAX = 5000
#: Rounds of asking: a type, its fields' types, theirs, and so on; supertypes likewise.
_ROUNDS_MAX = 32
_ENUMERATION = "i=29"


class DataTypes:
    """The data types of one session's server, learnt as they are needed, each asked for once."""

    def __init__(self, services: Services, structures: Structures | None = None) -> None:
        self._services = services
        self._super: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._asked: set[str] = set()
        self.structures = structures or Structures()

    async def learn(self, data_types: Iterable[str]) -> None:
        """Find out about these types, and whatever they are made of."""
        namespaces = self._services.session.namespaces
        wanted = {local_text(one, namespaces) for one in data_types}
        for _ in range(_ROUNDS_MAX):
            new = sorted(wanted - self._asked - BUILT_IN.keys())[: max(0, TYPES_MAX - len(self._asked))]
            if not new:
                break
            self._asked.update(new)
            wanted = await self._ask(new)
        self._settle()

    async def learn_of(self, nodes: Iterable[ua.NodeId]) -> list[str]:
        """Find out about the types of variables; the type of each, empty where the server does not say."""
        told = await self._services.attributes([(node, DATA_TYPE) for node in nodes])
        namespaces = self._services.session.namespaces
        types = [local_text(one.value, namespaces) if isinstance(one.value, str) else "" for one in told]
        await self.learn(one for one in types if one)
        return types

    async def _ask(self, data_types: list[str]) -> set[str]:
        """Ask for types; those they lead to."""
        namespaces = self._services.session.namespaces
        nodes = {one: node for one in data_types if (node := local_node(one, namespaces)) is not None}
        attributes = [
            (node, attribute) for node in nodes.values() for attribute in (BROWSE_NAME, TYPE_DEFINITION)
        ]
        told = await self._services.attributes(attributes)
        leads = await self._services.browse(list(nodes.values()), down=False)
        texts: dict[str, str] = {}
        further: set[str] = set()
        for place, (data_type, (_, references)) in enumerate(zip(nodes, leads, strict=True)):
            name, definition = told[2 * place].value, told[2 * place + 1].value
            self._names[data_type] = str(name).partition(":")[2]
            self._take(data_type, _parsed(definition))
            further |= self._follow(data_type, references)
            texts |= {local_text(one.node, namespaces): data_type for one in references if _tells_texts(one)}
        await self._ask_texts(
            {one: of for one, of in texts.items() if of not in self.structures.enumerations}
        )
        for data_type in data_types:
            if data_type in self.structures.definitions:
                parts = self.structures.definitions[data_type].fields
                further |= {local_text(part.data_type, namespaces) for part in parts}
        return further

    def _take(self, data_type: str, found: Definition | Enumeration | None) -> None:
        if isinstance(found, Enumeration):
            self.structures.enumerations[data_type] = found
        elif found is not None:
            self.structures.definitions[data_type] = found
            self.structures.by_encoding[found.encoding] = data_type

    def _follow(self, data_type: str, references: Iterable[Reference]) -> set[str]:
        further: set[str] = set()
        namespaces = self._services.session.namespaces
        for one in references:
            node = local_text(one.node, namespaces)
            if one.type_id == HAS_SUBTYPE and not one.forward:
                self._super[data_type] = node
                further.add(node)
            elif one.type_id == HAS_ENCODING and one.name == "Default Binary":
                self.structures.by_encoding[node] = data_type
        return further

    async def _ask_texts(self, properties: dict[str, str]) -> None:
        """Texts of enumerations that have no definition, from EnumStrings or EnumValues."""
        namespaces = self._services.session.namespaces
        nodes = {one: node for one in properties if (node := local_node(one, namespaces)) is not None}
        told = await self._services.attributes([(node, VALUE) for node in nodes.values()])
        for one, reading in zip(nodes, told, strict=True):
            texts = enumeration_of(reading.value)
            if texts is not None:
                self.structures.enumerations[properties[one]] = texts

    def _settle(self) -> None:
        """Work out which built-in type each type comes down to; structures come down to none."""
        structures = self.structures
        for data_type in self._asked:
            at, steps = data_type, 0
            while at not in BUILT_IN and at in self._super and steps < _ROUNDS_MAX:
                at, steps = self._super[at], steps + 1
            number = BUILT_IN.get(at)
            if data_type in structures.definitions:
                continue
            if number is not None and number != BUILT_IN["i=22"]:
                structures.base[data_type] = number
            elif number is None and data_type in structures.enumerations:
                structures.base[data_type] = BUILT_IN[_ENUMERATION]

    def name(self, data_type: str) -> str:
        """A data type in words."""
        if data_type.startswith("i="):
            known: str | None = ObjectIdNames.get(int(data_type[2:]))
            return known or data_type
        return self._names.get(data_type) or data_type

    def described(self, data_type: str) -> str:
        """A data type in words, with what it comes down to where that says more."""
        name = self.name(data_type)
        number = self.structures.base.get(data_type)
        if data_type in self.structures.enumerations:
            return f"enumeration {name}"
        if data_type in self.structures.definitions:
            return f"structure {name}"
        return name if number is None else f"{name} ({ObjectIdNames[number]})"


def enumeration_of(value: Raw) -> Enumeration | None:
    """The texts of an enumeration from a value of EnumStrings or EnumValues."""
    if not isinstance(value, list) or not value:
        return None
    names: list[tuple[int, str]] = []
    for place, one in enumerate(value[:2000]):
        if isinstance(one, str):
            names.append((place, one))
        elif isinstance(one, Body):
            try:
                names.append(enum_value(one))
            except Malformed:
                return None
        else:
            return None
    return Enumeration(tuple(names))


def _tells_texts(one: Reference) -> bool:
    return one.forward and one.namespace == 0 and one.name in ("EnumStrings", "EnumValues")


def _parsed(value: Raw) -> Definition | Enumeration | None:
    try:
        return parse_definition(value) if isinstance(value, Body) else None
    except Malformed:
        return None


async def learn_picked(session: Session, picks: Picks, items: Iterable[tuple[int, ua.NodeId]]) -> None:
    """Make the structures readable that tags name fields of; `items` are client handles with their nodes.

    What cannot be learnt shows in the quality of the tags.
    """
    through = [node for handle, node in items if picks.through_structure(handle)]
    if not through:
        return
    services = Services(session)
    await services.prepare()
    await DataTypes(services, picks.structures).learn_of(through)
