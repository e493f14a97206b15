"""Sparkplug B payloads, read with a schema of our own that is made when it is needed: no generated code.

The table is of the field numbers of the specification (Sparkplug 3.0.0, 6.4.1); the gateway's own schema file
has no part in it. Messages are protobuf's own, so whether a field is present can be asked (`HasField`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

_PACKAGE = "conformance.sparkplug"

#: Field number, name, type (`*`: repeated; a capital: a message; in brackets: one of those for the value).
_SCHEMA: dict[str, str] = {
    "PropertyValue": (
        "1 type uint32, 2 is_null bool, 3 int_value (uint32), 4 long_value (uint64), 5 float_value (float), "
        "6 double_value (double), 7 boolean_value (bool), 8 string_value (string), "
        "9 propertyset_value (PropertySet), 10 propertysets_value (PropertySetList)"
    ),
    "PropertySet": "1 keys string*, 2 values PropertyValue*",
    "PropertySetList": "1 propertyset PropertySet*",
    "MetaData": (
        "1 is_multi_part bool, 2 content_type string, 3 size uint64, 4 seq uint64, 5 file_name string, "
        "6 file_type string, 7 md5 string, 8 description string"
    ),
    "DataSetValue": (
        "1 int_value (uint32), 2 long_value (uint64), 3 float_value (float), 4 double_value (double), "
        "5 boolean_value (bool), 6 string_value (string)"
    ),
    "Row": "1 elements DataSetValue*",
    "DataSet": "1 num_of_columns uint64, 2 columns string*, 3 types uint32*, 4 rows Row*",
    "Parameter": (
        "1 name string, 2 type uint32, 3 int_value (uint32), 4 long_value (uint64), 5 float_value (float), "
        "6 double_value (double), 7 boolean_value (bool), 8 string_value (string)"
    ),
    "Template": (
        "1 version string, 2 metrics Metric*, 3 parameters Parameter*, 4 template_ref string, "
        "5 is_definition bool"
    ),
    "Metric": (
        "1 name string, 2 alias uint64, 3 timestamp uint64, 4 datatype uint32, 5 is_historical bool, "
        "6 is_transient bool, 7 is_null bool, 8 metadata MetaData, 9 properties PropertySet, "
        "10 int_value (uint32), 11 long_value (uint64), 12 float_value (float), 13 double_value (double), "
        "14 boolean_value (bool), 15 string_value (string), 16 bytes_value (bytes), "
        "17 dataset_value (DataSet), 18 template_value (Template)"
    ),
    "Payload": "1 timestamp uint64, 2 metrics Metric*, 3 seq uint64, 4 uuid string, 5 body bytes",
}

BOOLEAN, STRING, DATASET, TEMPLATE = 11, 12, 16, 19
INT32, INT64 = 3, 4
#: The property that says how good a value is, and its word for good.
QUALITY, GOOD = "Quality", 192

#: Where the value of each data type lies, by its number (Sparkplug 3.0.0, 6.4.16).
VALUE_FIELDS: dict[int, str] = {
    **dict.fromkeys((1, 2, 3, 5, 6, 7), "int_value"),
    **dict.fromkeys((4, 8, 13), "long_value"),
    9: "float_value",
    10: "double_value",
    BOOLEAN: "boolean_value",
    **dict.fromkeys((STRING, 14, 15), "string_value"),
    DATASET: "dataset_value",
    **dict.fromkeys((17, 18, *range(22, 35)), "bytes_value"),
    TEMPLATE: "template_value",
}
#: Data types a property, a column or a parameter may have: the basic ones.
BASIC_TYPES = range(1, 16)
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}
_UNSIGNED_BITS = {5: 8, 6: 16, 7: 32, 8: 64, 13: 64}
_ARRAYS = dict(zip(range(22, 32), "bhiqBHIQfd", strict=True))


def _field(message: Any, said: str) -> None:
    number, name, kind = said.split()
    kinds = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=int(number), label=kinds.LABEL_OPTIONAL)
    if kind.endswith("*"):
        field.label, kind = kinds.LABEL_REPEATED, kind[:-1]
    if kind.startswith("("):
        if not message.oneof_decl:
            message.oneof_decl.add(name="value")
        field.oneof_index, kind = 0, kind[1:-1]
    if kind[0].isupper():
        field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = getattr(kinds, f"TYPE_{kind.upper()}")


def _payload_class() -> type[Message]:
    file = descriptor_pb2.FileDescriptorProto(name="conformance_sparkplug.proto", package=_PACKAGE)
    file.syntax = "proto2"
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for said in fields.split(", "):
            _field(message, said)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


_PAYLOAD = _payload_class()


class NotSparkplug(Exception):
    """The bytes are no Sparkplug payload."""


def empty() -> Any:
    """A payload with nothing in it, for a host that has something to say."""
    return _PAYLOAD()


def decode(data: bytes) -> Any:
    """The payload in these bytes.

    Raises:
        NotSparkplug: they are none: no protobuf, fields nobody knows, or text that is not UTF-8.
    """
    payload: Any = _PAYLOAD()
    try:
        payload.ParseFromString(data)
        # What is not of the schema would be written out again by protobuf, and is missing after this.
        known = _PAYLOAD()
        known.CopyFrom(payload)
        known.DiscardUnknownFields()
        if known.ByteSize() != payload.ByteSize():
            raise NotSparkplug("there are fields that are not in the schema")
    except DecodeError as error:
        raise NotSparkplug(str(error)) from error
    for text in _texts(payload):
        if not isinstance(text, str):
            raise NotSparkplug(f"a text is not UTF-8: {text!r}")
    return payload


def _texts(message: Any) -> Iterator[str | bytes]:
    """Every text in it; protobuf hands out as bytes what is not UTF-8."""
    for field, value in message.ListFields():
        several = value if field.is_repeated else (value,)
        if field.message_type is not None:
            for one in several:
                yield from _texts(one)
        elif field.type == field.TYPE_STRING:
            yield from several


def wrong_value(holder: Any, datatype: int) -> str | None:
    """What is wrong with the value of a metric (or property) of this data type; None if nothing."""
    field = holder.WhichOneof("value")
    wanted = VALUE_FIELDS.get(datatype)
    if wanted is None:
        return f"there is no data type {datatype}"
    if field != wanted:
        return f"data type {datatype} is in {field}, not in {wanted}"
    value = getattr(holder, field)
    if datatype in _UNSIGNED_BITS and value >> _UNSIGNED_BITS[datatype]:
        return f"{value} is beyond data type {datatype}"
    if datatype in (1, 2):
        bits = _SIGNED_BITS[datatype]
        folded = value - (1 << 32) if value >> 31 else value
        if value >> bits and not -(1 << (bits - 1)) <= folded < 0:
            return f"{value} is beyond data type {datatype}"
    if datatype in _ARRAYS and len(value) % struct.calcsize(_ARRAYS[datatype]):
        return f"{len(value)} bytes are no array of data type {datatype}"
    return None


def value_of(metric: Any, datatype: int) -> Any:
    """The value as a person would write it; None for null. Templates and arrays are given as bytes."""
    if metric.is_null or metric.WhichOneof("value") is None:
        return None
    value = getattr(metric, metric.WhichOneof("value"))
    if datatype in _SIGNED_BITS and isinstance(value, int):
        bits = _SIGNED_BITS[datatype]
        value &= (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    if isinstance(value, Message):
        return value.SerializeToString(deterministic=True)
    return value


def properties_of(metric: Any) -> dict[str, Any]:
    """Property values by their keys; what has no partner is left out."""
    return dict(zip(metric.properties.keys, metric.properties.values, strict=False))


def quality_of(metric: Any) -> int | None:
    """What the metric says of its quality; None when it says nothing."""
    said = properties_of(metric).get(QUALITY)
    return None if said is None else int(said.int_value)
