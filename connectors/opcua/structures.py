"""Structures of a server: what its DataTypeDefinitions say, and how a value of one is taken apart.

A structure arrives as bytes without names (OPC 10000-6 section 5.2.6). What the bytes mean is told by the
DataTypeDefinition attribute of its data type (OPC 10000-3 sections 8.48 to 8.51, since 1.04). Fields are of
built-in types, enumerations, or structures again; arrays of any of these. What cannot be read exactly
(fields that may hold subtypes, types of which nothing is told) makes the whole structure unknown: a field
that is off by one byte would be a wrong value. Node ids are texts, as `binary.Reader.node_id` has them. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from connectors.opcua.binary import DEPTH_MAX, ELEMENTS_MAX, Malformed, Reader, shaped
from connectors.opcua.values import Body, Raw

#: Encodings of the two kinds of DataTypeDefinition, and of texts of an enumeration (OPC 10000-6 annex A).
STRUCTURE_DEFINITION, ENUM_DEFINITION = "i=122", "i=123"
ENUM_VALUE, ENGINEERING_UNITS, RANGE = "i=8251", "i=889", "i=886"
#: Most fields of one structure, and most names of one enumeration, that are believed.
FIELDS_MAX = 2000
_STRUCTURE, _OPTIONAL_FIELDS, _UNION = 0, 1, 2

#: Data types that are encoded as a built-in type: those themselves; Structure as an ExtensionObject, numbers
#: of no fixed type as Variants, Enumeration as Int32 (OPC 10000-6 section 5.2).
BUILT_IN = {f"i={number}": number for number in range(1, 26)} | {
    "i=22": 22,
    "i=24": 24,
    "i=26": 24,
    "i=27": 24,
    "i=28": 24,
    "i=29": 6,
}


@dataclass(frozen=True)
class Field:
    """One field of a structure definition, as the server told it."""

    name: str
    data_type: str
    rank: int = -1
    """-1 scalar, 1 array, 2 and more several dimensions."""
    optional: bool = False


@dataclass(frozen=True)
class Definition:
    """A structure. `kind` is that of OPC 10000-3 section 8.49: 0 plain, 1 with optional fields, 2 union."""

    encoding: str
    kind: int
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Enumeration:
    """What the numbers of an enumeration mean."""

    names: tuple[tuple[int, str], ...]

    def text(self) -> str:
        """One line for people: `0 Off, 1 On`."""
        return ", ".join(f"{value} {name}" for value, name in self.names)


def parse_definition(body: Body) -> Definition | Enumeration | None:
    """What a value of the DataTypeDefinition attribute says; None for what is no definition.

    Raises:
        Malformed: it contradicts itself.
    """
    if body.data is None or body.type_id not in (STRUCTURE_DEFINITION, ENUM_DEFINITION):
        return None
    reader = Reader(body.data, 0)
    try:
        return _structure(reader) if body.type_id == STRUCTURE_DEFINITION else _enumeration(reader)
    except (struct.error, IndexError) as error:
        raise Malformed("a data type definition ends in the middle of a field") from error


def _structure(reader: Reader) -> Definition:
    encoding = reader.node_id()[0]
    reader.node_id()
    kind = reader.i32()
    fields = []
    for _ in range(_bounded(reader.count())):
        name = reader.text()
        reader.localized_text()
        data_type = reader.node_id()[0]
        rank = reader.i32()
        reader.skip(4 * reader.count())
        reader.u32()
        fields.append(Field(name, data_type, rank, bool(reader.u8())))
    return Definition(encoding, kind, tuple(fields))


def _enumeration(reader: Reader) -> Enumeration:
    names = []
    for _ in range(_bounded(reader.count())):
        value = reader.i64()
        shown = reader.localized_text()
        reader.localized_text()
        names.append((value, reader.text() or shown))
    return Enumeration(tuple(names))


def _bounded(count: int) -> int:
    if count > FIELDS_MAX:
        raise Malformed(f"a data type of {count} fields")
    return count


def enum_value(body: Body) -> tuple[int, str]:
    """An EnumValueType: its number and its text. Raises `Malformed`."""
    reader = Reader(body.data or b"", 0)
    try:
        return reader.i64(), reader.localized_text()
    except (struct.error, IndexError) as error:
        raise Malformed("a value of an enumeration that ends early") from error


def engineering_unit(body: Body) -> str:
    """An EUInformation: the unit as people write it. Raises `Malformed`."""
    reader = Reader(body.data or b"", 0)
    try:
        reader.text()
        reader.i32()
        return reader.localized_text()
    except (struct.error, IndexError) as error:
        raise Malformed("an engineering unit that ends early") from error


def range_of(body: Body) -> tuple[float, float]:
    """A Range: low and high. Raises `Malformed`."""
    try:
        low, high = struct.unpack("<dd", body.data or b"")
    except struct.error as error:
        raise Malformed("a range that is not two numbers") from error
    return low, high


@dataclass
class Structures:
    """The data types of a server as far as they have been asked for: what makes its structures readable.

    `definitions` and `enumerations` by data type, `base` the built-in type number other types come down to,
    `by_encoding` the data type of an encoding.
    """

    definitions: dict[str, Definition] = field(default_factory=dict)
    enumerations: dict[str, Enumeration] = field(default_factory=dict)
    base: dict[str, int] = field(default_factory=dict)
    by_encoding: dict[str, str] = field(default_factory=dict)

    def built_in(self, data_type: str) -> int | None:
        """The number of the built-in type a value of this type is encoded as; None for a structure's own."""
        number = BUILT_IN.get(data_type)
        return self.base.get(data_type) if number is None else number

    def unknown(self, data_type: str) -> str:
        """Why values of this type cannot be taken apart, in words; empty when they can."""
        return next(self._unknown(data_type, set()), "")

    def _unknown(self, data_type: str, seen: set[str]) -> Iterator[str]:
        if data_type in seen or self.built_in(data_type) is not None:
            return
        seen.add(data_type)
        definition = self.definitions.get(data_type)
        if definition is None:
            yield f"the server does not define its data type {data_type}"
            return
        if definition.kind not in (_STRUCTURE, _OPTIONAL_FIELDS, _UNION):
            yield f"data type {data_type} has fields that may hold subtypes"
            return
        for part in definition.fields:
            yield from self._unknown(part.data_type, seen)

    def take_apart(self, body: Body) -> dict[str, Raw] | None:
        """The fields of a structure by name; None when its type is not known or its bytes do not fit it."""
        data_type = self.by_encoding.get(body.type_id)
        if data_type is None or body.data is None:
            return None
        reader = Reader(body.data, 0)
        try:
            fields = self._fields(reader, data_type, DEPTH_MAX)
        except (struct.error, IndexError, Malformed):
            return None
        # Bytes that are left over mean that the type has changed since it was asked for.
        return fields if reader.at == reader.end else None

    def _fields(self, reader: Reader, data_type: str, depth: int) -> dict[str, Raw]:
        definition = self.definitions.get(data_type)
        if depth == 0 or definition is None or definition.kind > _UNION:
            raise Malformed(f"a structure of type {data_type}")
        if definition.kind == _UNION:
            switch = reader.u32()
            if switch > len(definition.fields):
                raise Malformed(f"field {switch} of a union of {len(definition.fields)}")
            chosen = definition.fields[switch - 1 : switch] if switch else ()
            return {part.name: self._field(reader, part, depth) for part in chosen}
        present = reader.u32() if definition.kind == _OPTIONAL_FIELDS else 0
        found: dict[str, Raw] = {}
        bit = 1
        for part in definition.fields:
            if part.optional and definition.kind == _OPTIONAL_FIELDS:
                there, bit = present & bit, bit << 1
                if not there:
                    found[part.name] = None
                    continue
            found[part.name] = self._field(reader, part, depth)
        return found

    def _field(self, reader: Reader, part: Field, depth: int) -> Raw:
        if part.rank < 0:
            return self._value(reader, part.data_type, depth)
        if part.rank <= 1:
            count = reader.i32()
            return None if count < 0 else self._row(reader, count, part.data_type, depth)
        sizes = tuple(reader.u32_array() or ())
        count = prod(sizes) if len(sizes) <= DEPTH_MAX else -1
        if not 0 <= count <= reader.end - reader.at:
            raise Malformed(f"an array of the dimensions {sizes[:DEPTH_MAX]}")
        return shaped(self._row(reader, count, part.data_type, depth), sizes)

    def _row(self, reader: Reader, count: int, data_type: str, depth: int) -> Raw:
        number = self.built_in(data_type)
        if number is not None:
            return reader.row(count, number, depth)
        if count > min(reader.end - reader.at, ELEMENTS_MAX):
            raise Malformed(f"an array of {count} structures")
        return [self._fields(reader, data_type, depth - 1) for _ in range(count)]

    def _value(self, reader: Reader, data_type: str, depth: int) -> Raw:
        number = self.built_in(data_type)
        if number is None:
            return self._fields(reader, data_type, depth - 1)
        return reader.variant(depth - 1) if number == 24 else reader.scalar(number, depth)

    def paths(self, data_type: str, depth: int = 4) -> Iterator[tuple[str, str]]:
        """The fields a tag may name, as `motor.speed`, each with its data type; not those within arrays."""
        definition = self.definitions.get(data_type)
        if definition is None or depth == 0 or self.unknown(data_type):
            return
        for part in definition.fields:
            if "." in part.name or "[" in part.name:
                continue
            inner = self.definitions.get(part.data_type) if part.rank < 0 else None
            if inner is None:
                yield part.name, part.data_type + ("[]" if part.rank >= 1 else "")
            else:
                for name, data_type_ in self.paths(part.data_type, depth - 1):
                    yield f"{part.name}.{name}", data_type_
