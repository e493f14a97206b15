"""The schema says what the standard says, and the generated module says what the schema says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.sparkplug import sparkplug_b_pb2
from gateway.sparkplug.datatypes import DataType, shown

SCHEMA = Path(sparkplug_b_pb2.__file__).with_name("sparkplug_b.proto")

#: Message, field, number: chapter 6 of the standard. Types are held to it by the payloads of another library.
STANDARD: dict[str, str] = {
    "Payload": "timestamp 1, metrics 2, seq 3, uuid 4, body 5",
    "Metric": (
        "name 1, alias 2, timestamp 3, datatype 4, is_historical 5, is_transient 6, is_null 7, metadata 8,"
        " properties 9, int_value 10, long_value 11, float_value 12, double_value 13, boolean_value 14,"
        " string_value 15, bytes_value 16, dataset_value 17, template_value 18, extension_value 19"
    ),
    "MetaData": (
        "is_multi_part 1, content_type 2, size 3, seq 4, file_name 5, file_type 6, md5 7, description 8"
    ),
    "PropertySet": "keys 1, values 2",
    "PropertySetList": "propertyset 1",
    "PropertyValue": (
        "type 1, is_null 2, int_value 3, long_value 4, float_value 5, double_value 6, boolean_value 7,"
        " string_value 8, propertyset_value 9, propertysets_value 10, extension_value 11"
    ),
    "DataSet": "num_of_columns 1, columns 2, types 3, rows 4",
    "DataSet.Row": "elements 1",
    "DataSet.DataSetValue": (
        "int_value 1, long_value 2, float_value 3, double_value 4, boolean_value 5, string_value 6,"
        " extension_value 7"
    ),
    "Template": "version 1, metrics 2, parameters 3, template_ref 4, is_definition 5",
    "Template.Parameter": (
        "name 1, type 2, int_value 3, long_value 4, float_value 5, double_value 6, boolean_value 7,"
        " string_value 8, extension_value 9"
    ),
    "Metric.MetricValueExtension": "",
    "PropertyValue.PropertyValueExtension": "",
    "DataSet.DataSetValue.DataSetValueExtension": "",
    "Template.Parameter.ParameterValueExtension": "",
}

_WORDS = {
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}
#: message, label or "oneof", type, field, number.
Line = tuple[str, str, str, str, int]


def in_text(text: str) -> tuple[set[str], set[Line]]:
    """The messages and fields of a schema as people read it."""
    messages: set[str] = set()
    fields: set[Line] = set()
    inside: list[str] = []
    for raw in text.splitlines():
        line = raw.partition("//")[0].strip()
        if opened := re.fullmatch(r"message (\w+) \{(\})?", line):
            messages.add(".".join([*(one for one in inside if one != "oneof"), opened[1]]))
            if not opened[2]:
                inside.append(opened[1])
        elif line == "oneof value {":
            inside.append("oneof")
        elif line == "}":
            inside.pop()
        elif field := re.fullmatch(r"(?:(optional|repeated) )?(\w+) (\w+) = (\d+);", line):
            label = field[1] or inside[-1]
            path = ".".join(one for one in inside if one != "oneof")
            fields.add((path, label, field[2], field[3], int(field[4])))
        else:
            assert re.fullmatch(r'(syntax = "proto2"|package andon\.sparkplug);|', line), line
    assert inside == []
    return messages, fields


def descriptors() -> Iterator[tuple[str, Descriptor]]:
    def below(prefix: str, found: Descriptor) -> Iterator[tuple[str, Descriptor]]:
        path = f"{prefix}{found.name}"
        yield path, found
        for one in found.nested_types:
            yield from below(f"{path}.", one)

    for one in sparkplug_b_pb2.DESCRIPTOR.message_types_by_name.values():
        yield from below("", one)


def in_module() -> tuple[set[str], set[Line]]:
    """The messages and fields of the generated module."""
    messages: set[str] = set()
    fields: set[Line] = set()
    for path, message in descriptors():
        messages.add(path)
        for field in message.fields:
            label = "repeated" if field.is_repeated else "optional"
            if field.containing_oneof is not None:
                assert field.containing_oneof.name == "value"
                label = "oneof"
            word = field.message_type.name if field.message_type is not None else _WORDS[field.type]
            fields.add((path, label, word, field.name, field.number))
    return messages, fields


def test_the_generated_module_is_that_of_the_schema() -> None:
    assert in_module() == in_text(SCHEMA.read_text(encoding="utf-8"))


def test_the_generated_stub_is_that_of_the_schema() -> None:
    def slots(inside: list[ast.stmt], prefix: str) -> Iterator[tuple[str, list[str]]]:
        for one in inside:
            if isinstance(one, ast.ClassDef):
                (names,) = [ast.literal_eval(each.value) for each in one.body if isinstance(each, ast.Assign)]
                yield f"{prefix}{one.name}", list(names)
                yield from slots(one.body, f"{prefix}{one.name}.")

    stub = ast.parse(SCHEMA.with_name("sparkplug_b_pb2.pyi").read_text(encoding="utf-8"))

    assert dict(slots(stub.body, "")) == {
        path: [field.name for field in message.fields] for path, message in descriptors()
    }


def test_a_changed_schema_is_seen() -> None:
    text = SCHEMA.read_text(encoding="utf-8")
    for old, new in (
        ("optional uint64 seq = 3;", "optional uint64 seq = 6;"),
        ("optional uint64 seq = 3;", "optional uint32 seq = 3;"),
        ("repeated Metric metrics = 2;", "optional Metric metrics = 2;"),
        ("uint32 int_value = 10;", "uint32 long_value = 10;"),
        ("message Row {", "message Line {"),
    ):
        assert old in text
        assert in_module() != in_text(text.replace(old, new, 1))


@pytest.mark.parametrize("path", sorted(STANDARD))
def test_fields_have_the_numbers_of_the_standard(path: str) -> None:
    found = dict(descriptors())[path]

    assert ", ".join(f"{one.name} {one.number}" for one in found.fields) == STANDARD[path]


def test_there_are_no_other_messages() -> None:
    assert {path for path, _ in descriptors()} == STANDARD.keys()


def test_names_in_the_registry_of_the_process_are_our_own() -> None:
    assert {message.full_name.rpartition(".")[0] for message in _top_level()} == {"andon.sparkplug"}
    assert sparkplug_b_pb2.DESCRIPTOR.name == "gateway/sparkplug/sparkplug_b.proto"


def _top_level() -> list[Descriptor]:
    return list(sparkplug_b_pb2.DESCRIPTOR.message_types_by_name.values())


def test_data_types_have_the_names_and_numbers_of_the_standard() -> None:
    names = (
        "Unknown Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float Double Boolean String DateTime Text"
        " UUID DataSet Bytes File Template PropertySet PropertySetList Int8Array Int16Array Int32Array"
        " Int64Array UInt8Array UInt16Array UInt32Array UInt64Array FloatArray DoubleArray BooleanArray"
        " StringArray DateTimeArray"
    )

    assert [shown(DataType(number)) for number in range(35)] == names.split()
    assert len(DataType) == 35
