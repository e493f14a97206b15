"""What is written for a value, to the byte; and what is refused, naming metric and reason."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import msgspec
import pytest

from gateway.sparkplug import sparkplug_b_pb2
from gateway.sparkplug.datatypes import ELEMENT, INTEGER_RANGE, OF_METRICS, PROPERTY_ONLY, SCALARS, DataType
from gateway.sparkplug.payload import (
    DataSet,
    MetaData,
    Metric,
    Parameter,
    Payload,
    Property,
    Raw,
    Template,
    WrongValue,
    decode,
    encode,
)

AT = datetime(2026, 11, 22, 9, 30, 0, 125_999, tzinfo=UTC)
AT_MS = 1_795_339_800_125
T = DataType


def metric(datatype: DataType | None, value: Any, **more: Any) -> Metric:
    return msgspec.structs.replace(Metric("speed", None, datatype, value, None), **more)


def fields(one: Metric, *, typed: bool = True) -> sparkplug_b_pb2.Metric:
    """The fields of one metric as they are on the wire."""
    message = sparkplug_b_pb2.Payload.FromString(encode(Payload(None, None, (one,), typed=typed)))
    return message.metrics[0]


SCALAR_FIELDS: list[tuple[DataType, Any, str, Any]] = [
    (T.INT8, -23, "int_value", 0xFFFFFFE9),
    (T.INT8, 127, "int_value", 127),
    (T.INT8, -128, "int_value", 0xFFFFFF80),
    (T.INT16, -30_000, "int_value", 0xFFFF8AD0),
    (T.INT32, -(2**31), "int_value", 0x80000000),
    (T.INT32, -1, "int_value", 0xFFFFFFFF),
    (T.INT64, -1, "long_value", 0xFFFFFFFFFFFFFFFF),
    (T.INT64, -(2**63), "long_value", 2**63),
    (T.UINT8, 255, "int_value", 255),
    (T.UINT16, 65_535, "int_value", 65_535),
    (T.UINT32, 2**32 - 1, "int_value", 2**32 - 1),
    (T.UINT64, 2**64 - 1, "long_value", 2**64 - 1),
    (T.FLOAT, 0.1, "float_value", struct.unpack("<f", struct.pack("<f", 0.1))[0]),
    (T.FLOAT, 3, "float_value", 3.0),
    (T.FLOAT, 3.4028235e38, "float_value", float(2**128 - 2**104)),
    (T.FLOAT, float("-inf"), "float_value", float("-inf")),
    (T.FLOAT, 1e-60, "float_value", 0.0),
    (T.DOUBLE, 0.1, "double_value", 0.1),
    (T.DOUBLE, 2**53, "double_value", float(2**53)),
    (T.BOOLEAN, False, "boolean_value", False),
    (T.STRING, "", "string_value", ""),
    (T.STRING, "a\0é", "string_value", "a\0é"),
    (T.STRING, "F\ud800ü", "string_value", "F?ü"),
    (T.TEXT, "Füller 1", "string_value", "Füller 1"),
    (T.TEXT, "\udcff", "string_value", "?"),
    (T.UUID, UUID(int=5), "string_value", "00000000-0000-0000-0000-000000000005"),
    (T.DATETIME, AT, "long_value", AT_MS),
    (T.DATETIME, AT.astimezone(timezone(timedelta(hours=9))), "long_value", AT_MS),
    (T.DATETIME, datetime(1970, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1), "long_value", 2**64 - 1),
    (T.DATETIME, datetime(1970, 1, 1, tzinfo=UTC) - timedelta(microseconds=1), "long_value", 2**64 - 1),
    (T.BYTES, b"\0\xff", "bytes_value", b"\0\xff"),
    (T.FILE, b"", "bytes_value", b""),
]


@pytest.mark.parametrize(("datatype", "value", "field", "held"), SCALAR_FIELDS)
def test_a_value_is_in_its_field(datatype: DataType, value: Any, field: str, held: Any) -> None:
    found = fields(metric(datatype, value))

    assert found.WhichOneof("value") == field
    assert getattr(found, field) == held
    assert found.datatype == datatype
    assert not found.HasField("is_null")


class Mode(IntEnum):
    MANUAL = 3


class Word(StrEnum):
    IDLE = "Idle"


def test_named_numbers_and_texts_are_what_they_stand_for() -> None:
    assert fields(metric(T.INT32, Mode.MANUAL)).int_value == 3
    assert fields(metric(T.STRING, Word.IDLE)).string_value == "Idle"


@pytest.mark.parametrize("datatype", sorted(OF_METRICS))
@pytest.mark.parametrize("typed", [True, False])
def test_null_of_every_type_is_said_and_has_no_value(datatype: DataType, typed: bool) -> None:
    found = fields(metric(datatype, None), typed=typed)

    assert found.is_null
    assert found.WhichOneof("value") is None
    assert found.HasField("datatype") is typed


#: From the standard where its examples are right; by hand from its text where they are misprinted.
ARRAYS: list[tuple[DataType, tuple[Any, ...], str]] = [
    (T.INT8_ARRAY, (-23, 123), "E9 7B"),
    (T.INT16_ARRAY, (-30_000, 30_000), "D08A 3075"),
    (T.INT32_ARRAY, (123_456_789, 987_654_321), "15CD5B07 B168DE3A"),
    (T.INT32_ARRAY, (-1, 315_338_746), "FFFFFFFF FAAFCB12"),
    (T.INT64_ARRAY, (-2, 2**63 - 1), "FEFFFFFFFFFFFFFF FFFFFFFFFFFFFF7F"),
    (T.UINT8_ARRAY, (23, 250), "17 FA"),
    (T.UINT16_ARRAY, (30, 52_360), "1E00 88CC"),
    (T.UINT32_ARRAY, (52, 3_293_969_225), "34000000 49FB55C4"),
    (T.UINT64_ARRAY, (52, 2**64 - 1), "3400000000000000 FFFFFFFFFFFFFFFF"),
    (T.FLOAT_ARRAY, (1.0, -2.5), "0000803F 000020C0"),
    (T.DOUBLE_ARRAY, (1.0, -2.5), "000000000000F03F 00000000000004C0"),
    (
        T.BOOLEAN_ARRAY,
        (False, False, True, True, False, True, False, False, True, True, False, True),
        "0C000000 34 D0",
    ),
    (T.BOOLEAN_ARRAY, (True,) * 8, "08000000 FF"),
    (T.BOOLEAN_ARRAY, (True,) * 9, "09000000 FF80"),
    (T.BOOLEAN_ARRAY, (), "00000000"),
    (T.STRING_ARRAY, ("ABC", "hello"), "41424300 68656C6C6F00"),
    (T.STRING_ARRAY, ("",), "00"),
    (T.STRING_ARRAY, ("ü", ""), "C3BC00 00"),
    (T.STRING_ARRAY, ("\udfff",), "3F00"),
    (
        T.DATETIME_ARRAY,
        (datetime(2009, 10, 21, 5, 27, 55, 335_000, tzinfo=UTC), AT),
        "C7D0907524010000 3D4E9702A2010000",
    ),
    (T.DATETIME_ARRAY, (datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),), "FFFFFFFFFFFFFFFF"),
    (T.INT16_ARRAY, (), ""),
    (T.STRING_ARRAY, (), ""),
]


@pytest.mark.parametrize(("datatype", "values", "octets"), ARRAYS)
def test_an_array_is_packed(datatype: DataType, values: tuple[Any, ...], octets: str) -> None:
    found = fields(metric(datatype, values))

    assert found.WhichOneof("value") == "bytes_value"
    assert found.bytes_value == bytes.fromhex(octets)
    assert fields(metric(datatype, list(values))).bytes_value == found.bytes_value


def test_every_array_type_has_a_vector() -> None:
    assert {datatype for datatype, _, _ in ARRAYS} == ELEMENT.keys()


def test_what_a_payload_and_a_metric_say_besides_the_value() -> None:
    one = Metric(
        "speed",
        2**64 - 1,
        T.DOUBLE,
        1.5,
        AT,
        historical=True,
        transient=True,
        properties={"Quality": Property(T.INT32, 500), "engUnit": Property(T.STRING, None)},
        metadata=MetaData(content_type="text/csv", size=0),
    )
    message = sparkplug_b_pb2.Payload.FromString(encode(Payload(AT, 255, (one,))))
    found = message.metrics[0]

    assert (message.timestamp, message.seq) == (AT_MS, 255)
    assert not message.HasField("uuid")
    assert not message.HasField("body")
    assert (found.name, found.alias, found.timestamp) == ("speed", 2**64 - 1, AT_MS)
    assert found.is_historical
    assert found.is_transient
    assert list(found.properties.keys) == ["Quality", "engUnit"]
    assert [(v.type, v.int_value, v.is_null) for v in found.properties.values] == [
        (3, 500, False),
        (12, 0, True),
    ]
    assert found.metadata.HasField("size")
    assert not found.metadata.HasField("md5")


def test_what_is_not_so_is_not_said() -> None:
    """Absent is smaller than false, and a payload without `seq` or times is one that has none."""
    assert encode(Payload(None, None, ())) == b""
    found = fields(Metric(None, 0, T.BOOLEAN, True, None, properties={}), typed=False)
    assert {field.name for field, _ in found.ListFields()} == {"alias", "boolean_value"}


def test_a_metric_known_by_its_alias_has_no_name_and_no_type() -> None:
    found = fields(Metric(None, 7, T.INT16, -1, AT), typed=False)

    assert not found.HasField("name")
    assert not found.HasField("datatype")
    assert found.int_value == 0xFFFFFFFF


def test_members_of_a_template_leave_their_types_out_as_the_payload_does() -> None:
    template = Template((Metric("m", None, T.INT8, -1, AT),), (Parameter("p", T.INT8, -1),), ref="Pump")

    typed = fields(metric(T.TEMPLATE, template)).template_value
    bare = fields(metric(T.TEMPLATE, template), typed=False).template_value

    assert (typed.metrics[0].datatype, bare.metrics[0].HasField("datatype")) == (1, False)
    assert [one.parameters[0].type for one in (typed, bare)] == [1, 1]
    assert typed.HasField("is_definition")
    assert not typed.is_definition
    assert typed.template_ref == "Pump"


def test_a_definition_says_so_and_refers_to_nothing() -> None:
    template = Template((Metric("m", None, T.INT8, None, None),), version="2")

    found = fields(metric(T.TEMPLATE, template)).template_value

    assert found.is_definition
    assert not found.HasField("template_ref")
    assert found.version == "2"


def test_a_table_says_its_types_and_leaves_nulls_empty() -> None:
    table = DataSet(("a", "b"), (T.INT8, T.DATETIME), ((-1, AT), (None, None)))

    found = fields(metric(T.DATASET, table), typed=False).dataset_value

    assert (found.num_of_columns, list(found.columns), list(found.types)) == (2, ["a", "b"], [1, 13])
    assert [one.WhichOneof("value") for row in found.rows for one in row.elements] == [
        "int_value",
        "long_value",
        None,
        None,
    ]


def _outside() -> list[tuple[DataType, int]]:
    return [
        (datatype, value) for datatype, (low, high) in INTEGER_RANGE.items() for value in (low - 1, high + 1)
    ]


#: Value and a part of what is said of it.
REFUSED: list[tuple[DataType | None, Any, str]] = [
    *[(datatype, value, "outside the range") for datatype, value in _outside()],
    *[(datatype, 1.0, "takes an int, not 1.0 (float)") for datatype in INTEGER_RANGE],
    *[(datatype, True, "takes an int, not True (bool)") for datatype in INTEGER_RANGE],
    *[(datatype, object, "takes") for datatype in OF_METRICS],
    (T.FLOAT, 3.5e38, "too large for Float"),
    (T.FLOAT, -3.5e38, "too large for Float"),
    (T.FLOAT, float(2**128 - 2**103), "too large for Float"),
    (T.FLOAT, 10**400, "too large for Float"),
    (T.FLOAT, True, "takes a float, not True (bool)"),
    (T.FLOAT, "1.5", "takes a float, not '1.5' (str)"),
    (T.DOUBLE, 10**400, "too large for Double"),
    (T.DOUBLE, 2**53 + 1, "cannot hold 9007199254740993 exactly"),
    (T.DOUBLE, False, "takes a float"),
    (T.BOOLEAN, 1, "takes a bool, not 1 (int)"),
    (T.BOOLEAN, "true", "takes a bool"),
    (T.STRING, 5, "takes a str, not 5 (int)"),
    (T.STRING, b"a", "takes a str"),
    (T.DATETIME, AT.replace(tzinfo=None), "no datetime with a time zone"),
    (T.DATETIME, AT_MS, "takes an aware datetime"),
    (T.UUID, "00000000-0000-0000-0000-000000000005", "takes a uuid.UUID"),
    (T.BYTES, "a", "takes bytes, not 'a' (str)"),
    (T.BYTES, bytearray(b"a"), "takes bytes"),
    (T.FILE, [1], "takes bytes"),
    (T.DATASET, {}, "takes a DataSet"),
    (T.TEMPLATE, {}, "takes a Template"),
    (T.INT8_ARRAY, b"ab", "takes a tuple"),
    (T.INT8_ARRAY, (1, 128), "element 1: 128 is outside the range of Int8"),
    (T.INT8_ARRAY, (1, None), "element 1: Int8 takes an int, not None"),
    (T.UINT64_ARRAY, (0, -1), "element 1: -1 is outside"),
    (T.FLOAT_ARRAY, (0.0, 1e39), "element 1: 1e+39 is too large for Float"),
    (T.DOUBLE_ARRAY, (0.0, "1"), "element 1: Double takes a float"),
    (T.BOOLEAN_ARRAY, (True, 1), "element 1: Boolean takes a bool"),
    (T.STRING_ARRAY, ("a", 5), "element 1: String takes a str"),
    (T.STRING_ARRAY, ("a\0b",), "element 0: a NUL ends a text"),
    (T.DATETIME_ARRAY, (AT.replace(tzinfo=None),), "element 0: "),
    (T.DATASET, DataSet(("a",), ()), "1 columns have 0 types"),
    (T.DATASET, DataSet(("a",), (T.BYTES,)), "a column cannot be Bytes"),
    (T.DATASET, DataSet(("a",), (T.INT8,), ((1, 2),)), "row 0: 2 elements in 1 columns"),
    (T.DATASET, DataSet(("a",), (T.INT8,), ((1,), (300,))), "row 1, column 'a': 300 is outside"),
    (T.DATASET, DataSet(("\ud800",), (T.STRING,)), "surrogates not allowed"),
    (T.TEMPLATE, Template((metric(T.INT8, 300, name="m"),)), "metric 'm': 300 is outside"),
    (T.TEMPLATE, Template((), (Parameter("p", T.INT8, 300),)), "parameter 'p': 300 is outside"),
    (T.TEMPLATE, Template((), (Parameter("p", T.BYTES, 5),)), "a parameter cannot be Bytes"),
    *[(datatype, None, "a metric cannot be") for datatype in (T.UNKNOWN, *PROPERTY_ONLY)],
    *[(datatype, {}, "a metric cannot be") for datatype in (T.UNKNOWN, *PROPERTY_ONLY)],
    (None, None, "needs a datatype"),
    (None, 5, "needs a datatype"),
    (None, Raw("int_value", 5), "needs a datatype"),
]


@pytest.mark.parametrize(("datatype", "value", "said"), REFUSED)
def test_what_does_not_fit_its_type_is_refused(datatype: DataType | None, value: Any, said: str) -> None:
    with pytest.raises(WrongValue) as refused:
        encode(Payload(AT, 0, (metric(T.BOOLEAN, True, name="ok"), metric(datatype, value))))

    assert refused.value.place == "metric 'speed'"
    assert refused.value.reason.startswith("metric 'speed': ")
    assert said in refused.value.reason
    assert len(refused.value.reason) < 250


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": None}, "a metric needs a name or an alias"),
        ({"name": 5}, "metric 5: "),
        ({"name": "a\ud800"}, "surrogates not allowed"),
        ({"alias": -1}, "metric 'speed': "),
        ({"alias": 2**64}, "metric 'speed': "),
        ({"at": AT.replace(tzinfo=None)}, "no datetime with a time zone"),
        ({"properties": {"q": Property(T.INT8, 300)}}, "metric 'speed': property 'q': 300 is outside"),
        ({"properties": {"q": Property(T.BYTES, 5)}}, "property 'q': a property cannot be Bytes"),
        ({"properties": {"q": Property(T.PROPERTY_SET, 5)}}, "property 'q': PropertySet takes a mapping"),
        (
            {"properties": {"q": Property(T.PROPERTY_SET_LIST, 5)}},
            "property 'q': PropertySetList takes a tuple",
        ),
        (
            {"properties": {"q": Property(T.PROPERTY_SET_LIST, ({"r": Property(T.INT8, 300)},))}},
            "property 'q': property 'r': 300 is outside",
        ),
        ({"properties": {"\ud800": Property(T.INT8, 3)}}, "surrogates not allowed"),
        ({"metadata": MetaData(size=-1)}, "metric 'speed': "),
        ({"metadata": MetaData(md5="\ud800")}, "surrogates not allowed"),
    ],
)
def test_what_cannot_be_said_of_a_metric_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongValue) as refused:
        encode(Payload(AT, 0, (metric(T.INT32, 5, **changes),)))

    assert said in refused.value.reason


@pytest.mark.parametrize("seq", [-1, 256])
def test_seq_is_one_octet(seq: int) -> None:
    with pytest.raises(WrongValue, match="seq is 0 to 255"):
        encode(Payload(AT, seq, ()))


def test_a_payload_without_a_time_zone_is_refused() -> None:
    with pytest.raises(WrongValue, match="no datetime with a time zone"):
        encode(Payload(AT.replace(tzinfo=None), 0, ()))


def test_times_are_cut_to_whole_milliseconds_towards_the_past() -> None:
    before = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    found = decode(encode(Payload(before, 0, (metric(T.DATETIME, AT, at=before),))))

    assert found.at == found.metrics[0].at == before.replace(microsecond=999_000)
    assert found.metrics[0].value == AT.replace(microsecond=125_000)


def test_the_types_are_complete() -> None:
    assert OF_METRICS | PROPERTY_ONLY | {T.UNKNOWN} == set(DataType)
    assert SCALARS < OF_METRICS
