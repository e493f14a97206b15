"""What is read from payloads of others: all that means something, and nothing that is beyond our bounds."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from gateway.sparkplug import arrays, sparkplug_b_pb2
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.payload import (
    BYTES_MAX,
    DEPTH_MAX,
    DataSet,
    Metric,
    NotSparkplug,
    Payload,
    Property,
    Raw,
    Template,
    WrongValue,
    decode,
    encode,
    resolve,
)
from tests.support.sparkplug_payloads import payloads

AT = datetime(2026, 11, 22, 9, 30, 0, 125_000, tzinfo=UTC)
T = DataType
#: Of work. Far above what any of it takes; a payload that stops the process for longer is an attack.
SECONDS_MAX = 5.0


def sent(**fields: Any) -> bytes:
    """A payload with one metric that has these fields."""
    return sparkplug_b_pb2.Payload(
        metrics=[sparkplug_b_pb2.Metric(**{"name": "speed", **fields})]
    ).SerializeToString()


@given(payload=payloads)
def test_what_is_encoded_is_decoded_again(payload: Payload) -> None:
    assert repr(decode(encode(payload))) == repr(payload)


# ---- what others send, and we take ----


@pytest.mark.parametrize(
    ("datatype", "field", "held", "value"),
    [
        # Negative numbers: in the width of the type, of the field, or of 32 bits in the larger field.
        (T.INT8, "int_value", 0xE9, -23),
        (T.INT8, "int_value", 0xFFFFFFE9, -23),
        (T.INT8, "long_value", 0xE9, -23),
        (T.INT8, "long_value", 0xFFFFFFE9, -23),
        (T.INT8, "long_value", 0xFFFFFFFFFFFFFFE9, -23),
        (T.INT16, "int_value", 0x8AD0, -30_000),
        (T.INT16, "int_value", 0xFFFF8AD0, -30_000),
        (T.INT32, "int_value", 0xFFFFFFFF, -1),
        (T.INT32, "long_value", 0xFFFFFFFF, -1),
        (T.INT32, "long_value", 0xFFFFFFFFFFFFFFFF, -1),
        # Tahu and all that is built on it send UInt32 in the field for 64 bits.
        (T.UINT32, "long_value", 2**32 - 1, 2**32 - 1),
        (T.UINT32, "int_value", 2**32 - 1, 2**32 - 1),
        (T.UINT8, "long_value", 255, 255),
        (T.UINT64, "int_value", 5, 5),
        (T.DOUBLE, "float_value", 1.5, 1.5),
    ],
)
def test_a_number_is_taken_from_wherever_senders_put_it(
    datatype: DataType, field: str, held: Any, value: Any
) -> None:
    (typed,) = decode(sent(datatype=datatype, **{field: held})).metrics
    (bare,) = decode(sent(**{field: held})).metrics

    assert typed.value == value
    assert type(typed.value) is type(value)
    assert bare.value == Raw(field, held)
    assert resolve(bare, datatype).value == value


def test_a_boolean_array_may_have_anything_after_its_last_bit() -> None:
    data = sent(datatype=T.BOOLEAN_ARRAY, bytes_value=bytes.fromhex("0C00000034DF"))

    (found,) = decode(data).metrics

    assert found.value == tuple(bit == "1" for bit in "001101001101")


def test_a_uuid_is_taken_in_other_spellings() -> None:
    (found,) = decode(sent(datatype=T.UUID, string_value="{00000000-0000-0000-0000-0000000000AB}")).metrics

    assert str(found.value) == "00000000-0000-0000-0000-0000000000ab"


def test_what_the_standard_does_not_have_is_passed_over() -> None:
    extra = bytes.fromhex("aa0603616263")  # field 101, three bytes
    inner = b"\x0a\x01m\x20\x03\x50\x05" + extra
    data = b"\x12" + bytes([len(inner)]) + inner + b"\x18\x07" + b"\x22\x02id\x2a\x01b" + extra

    assert decode(data) == Payload(None, 7, (Metric("m", None, T.INT32, 5, None),))


def test_a_payload_of_nothing_is_one() -> None:
    assert decode(b"") == Payload(None, None, ())


def test_a_sender_may_number_its_messages_as_it_likes() -> None:
    """Whether `seq` is in order, and in range, is for whoever follows the sender."""
    assert decode(b"\x18\xac\x02").seq == 300


# ---- types that were not sent ----


def bare(one: Metric) -> Metric:
    (found,) = decode(encode(Payload(AT, 0, (one,), typed=False))).metrics
    return found


def test_a_payload_is_typed_when_every_metric_was() -> None:
    data = encode(Payload(AT, 0, (Metric("a", None, T.INT8, 1, AT),)))
    more = encode(Payload(None, None, (Metric(None, 2, T.INT8, 1, AT),), typed=False))

    assert decode(data).typed
    assert not decode(data + more).typed
    assert len(decode(data + more).metrics) == 2
    assert not decode(
        _template(is_definition=True, metrics=[sparkplug_b_pb2.Metric(name="m", is_null=True)])
    ).typed


def test_null_takes_the_type_it_was_born_with() -> None:
    found = bare(Metric(None, 7, T.INT16, None, AT))

    assert (found.datatype, found.value) == (None, None)
    assert resolve(found, T.STRING) == Metric(None, 7, T.STRING, None, AT)


def test_a_table_and_a_structure_are_read_without_their_type() -> None:
    table = DataSet(("a",), (T.INT8,), ((-1,), (None,)))
    structure = Template((Metric("m", None, T.INT8, -1, AT),), ref="Pump")

    assert bare(Metric(None, 1, T.DATASET, table, AT)).value == Raw("dataset_value", table)
    found = bare(Metric(None, 1, T.TEMPLATE, structure, AT)).value
    assert isinstance(found, Raw)
    assert found.value.metrics[0].value == Raw("int_value", 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("one", "datatype", "said"),
    [
        (Metric(None, 7, T.INT32, 300, AT), T.INT8, "300 is outside the range of Int8"),
        (Metric(None, 7, T.INT32, -1, AT), T.UINT64, None),
        (Metric(None, 7, T.STRING, "5", AT), T.INT32, "Int32 is not sent as string_value"),
        (Metric(None, 7, T.INT32, 1, AT), T.BOOLEAN, "Boolean is not sent as int_value"),
        (Metric(None, 7, T.DOUBLE, 1.0, AT), T.FLOAT, "Float is not sent as double_value"),
        (Metric(None, 7, T.STRING, "5", AT), T.UUID, "'5' is no UUID"),
        (Metric(None, 7, T.UINT64, 2**62, AT), T.DATETIME, "outside the years 1 to 9999"),
        (Metric(None, 7, T.BYTES, b"abc", AT), T.INT16_ARRAY, "no whole number of elements"),
        (Metric(None, 7, T.BYTES, b"abc", AT), T.STRING, "String is not sent as bytes_value"),
        (Metric(None, 7, T.BYTES, b"abc", AT), T.DATASET, "DataSet is not sent as bytes_value"),
        (Metric(None, 7, T.BYTES, b"abc", AT), T.PROPERTY_SET, "PropertySet is not sent as bytes_value"),
        (Metric(None, 7, T.BYTES, b"abc", AT), T.UNKNOWN, "Unknown is not sent as bytes_value"),
    ],
)
def test_a_value_that_is_not_of_its_type_is_refused(
    one: Metric, datatype: DataType, said: str | None
) -> None:
    found = bare(one)
    if said is None:
        assert resolve(found, datatype).value == 2**32 - 1
        return
    with pytest.raises(WrongValue, match=said.replace("(", r"\(")):
        resolve(found, datatype)


def test_a_metric_that_has_a_type_has_to_have_that_one() -> None:
    one = Metric("a", None, T.INT32, 5, AT)

    assert resolve(one, T.INT32) is one
    with pytest.raises(WrongValue, match="sent as Int32, but born as Int16"):
        resolve(one, T.INT16)


# ---- what is refused ----


def _nest(depth: int) -> Metric:
    one = Metric("m", None, T.INT8, 1, None)
    for _ in range(depth):
        one = Metric("m", None, T.TEMPLATE, Template((one,), ref="T"), None)
    return one


def _nest_properties(depth: int) -> Metric:
    one = Property(T.INT8, 1)
    for index in range(depth - 1):
        if index % 2:
            one = Property(T.PROPERTY_SET, {"p": one})
        else:
            one = Property(T.PROPERTY_SET_LIST, ({"p": one},))
    return Metric("m", None, T.INT8, 1, None, properties={"p": one})


def as_deep(one: Metric) -> bytes:
    return encode(Payload(None, None, (one,)))


def _template(**fields: Any) -> bytes:
    return sent(datatype=T.TEMPLATE, template_value=sparkplug_b_pb2.Template(**fields))


def _dataset(**fields: Any) -> bytes:
    return sent(datatype=T.DATASET, dataset_value=sparkplug_b_pb2.DataSet(**fields))


def _properties(*values: sparkplug_b_pb2.PropertyValue, keys: tuple[str, ...] = ("q",)) -> bytes:
    return sent(int_value=1, properties=sparkplug_b_pb2.PropertySet(keys=keys, values=values))


_value = sparkplug_b_pb2.PropertyValue
_parameter = sparkplug_b_pb2.Template.Parameter
_cell = sparkplug_b_pb2.DataSet.DataSetValue
_row = sparkplug_b_pb2.DataSet.Row

REFUSED: dict[str, tuple[bytes, str]] = {
    "no protobuf": (b"\xff\xff\xff", "the bytes are no Sparkplug B payload"),
    "text": (b'{"online":true}', "the bytes are no Sparkplug B payload"),
    "cut off": (sent(datatype=T.STRING, string_value="abcdef")[:-3], "the bytes are no Sparkplug B payload"),
    "nameless": (b"\x12\x02\x50\x05", "a metric has neither name nor alias"),
    "no value": (sent(datatype=T.INT8), "metric 'speed': neither a value nor null"),
    "null and value": (sent(is_null=True, int_value=5), "metric 'speed': null, and yet with a value"),
    "unknown type": (sent(datatype=35, int_value=5), "35 is no data type of Sparkplug B 3.0"),
    "type unknown": (sent(datatype=0, int_value=5), "Unknown is no type for this place"),
    "type of properties": (sent(datatype=20, int_value=5), "PropertySet is no type for this place"),
    "wrong field": (sent(datatype=T.INT8, string_value="5"), "Int8 is not sent as string_value"),
    "too large": (sent(datatype=T.INT8, int_value=300), "300 is outside the range of Int8, -128 to 127"),
    "between the widths": (sent(datatype=T.INT8, int_value=0xFFFF00E9), "outside the range of Int8"),
    "16 bits of 8": (sent(datatype=T.INT8, int_value=0xFFE9), "outside the range of Int8"),
    "too large unsigned": (sent(datatype=T.UINT32, long_value=2**32), "outside the range of UInt32"),
    "double for a float": (sent(datatype=T.FLOAT, double_value=0.1), "Float is not sent as double_value"),
    "no such time": (sent(datatype=T.DATETIME, long_value=2**63), "outside the years 1 to 9999"),
    "no such time of the metric": (
        sent(int_value=1, timestamp=10**17),
        "metric 'speed': 100000000000000000 ms",
    ),
    "no such time of the payload": (
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        "outside the years 1 to 9999",
    ),
    "no uuid": (sent(datatype=T.UUID, string_value="x" * 99), "is no UUID"),
    "name not UTF-8": (b"\x12\x06\x0a\x02\xff\xfe\x38\x01", "is no UTF-8"),
    "text not UTF-8": (b"\x12\x09\x0a\x01m\x20\x0c\x7a\x02\xff\xfe", "metric 'm': b'\\xff\\xfe' is no UTF-8"),
    "bare text not UTF-8": (b"\x12\x07\x0a\x01m\x7a\x02\xff\xfe", "metric 'm': b'\\xff\\xfe' is no UTF-8"),
    "metadata not UTF-8": (
        b"\x12\x0b\x0a\x01m\x38\x01\x42\x04\x12\x02\xff\xfe",
        "metric 'm': b'\\xff\\xfe' is no UTF-8",
    ),
    "extension": (
        sent(extension_value=sparkplug_b_pb2.Metric.MetricValueExtension()),
        "a value of no type of the standard",
    ),
    "odd array": (sent(datatype=T.INT32_ARRAY, bytes_value=b"abcde"), "5 bytes are no whole number"),
    "no count": (sent(datatype=T.BOOLEAN_ARRAY, bytes_value=b"ab"), "2 bytes hold no count"),
    "wrong count": (sent(datatype=T.BOOLEAN_ARRAY, bytes_value=b"\x09\0\0\0\0"), "not those of 9 booleans"),
    "count of all": (
        sent(datatype=T.BOOLEAN_ARRAY, bytes_value=b"\xff\xff\xff\xff\0"),
        "not those of 4294967295",
    ),
    "endless text": (sent(datatype=T.STRING_ARRAY, bytes_value=b"a\0b"), "does not end in NUL"),
    "array not UTF-8": (sent(datatype=T.STRING_ARRAY, bytes_value=b"\xff\0"), "no UTF-8"),
    "time in array": (
        sent(datatype=T.DATETIME_ARRAY, bytes_value=b"\xff" * 7 + b"\x7f"),
        "outside the years",
    ),
    "both template kinds": (_template(is_definition=True, template_ref="a"), "one of the two"),
    "neither template kind": (_template(is_definition=False), "one of the two"),
    "member": (
        _template(is_definition=True, metrics=[sparkplug_b_pb2.Metric(name="m")]),
        "metric 'speed': metric 'm': neither a value nor null",
    ),
    "parameter": (
        _template(is_definition=True, parameters=[_parameter(name="p", type=1, int_value=300)]),
        "metric 'speed': parameter 'p': 300 is outside",
    ),
    "type of a parameter": (
        _template(is_definition=True, parameters=[_parameter(name="p", type=17)]),
        "parameter 'p': Bytes is no type for this place",
    ),
    "columns": (
        _dataset(num_of_columns=2, columns=["a"], types=[1]),
        "1 columns and 1 types, and 2 said to be",
    ),
    "column types": (_dataset(num_of_columns=1, columns=["a"]), "1 columns and 0 types"),
    "type of a column": (_dataset(num_of_columns=1, columns=["a"], types=[16]), "DataSet is no type"),
    "row": (
        _dataset(num_of_columns=1, columns=["a"], types=[1], rows=[_row()]),
        "metric 'speed': row 0: 0 elements in 1 columns",
    ),
    "cell": (
        _dataset(num_of_columns=1, columns=["a"], types=[1], rows=[_row(elements=[_cell(int_value=300)])]),
        "metric 'speed': row 0: 300 is outside",
    ),
    "cell of another type": (
        _dataset(num_of_columns=1, columns=["a"], types=[1], rows=[_row(elements=[_cell(string_value="")])]),
        "Int8 is not sent as string_value",
    ),
    "keys": (_properties(_value(type=1, int_value=1), keys=("a", "b")), "2 properties have 1 values"),
    "key twice": (
        _properties(_value(type=1, int_value=1), _value(type=1, int_value=2), keys=("a", "a")),
        "property 'a': there twice",
    ),
    "property": (_properties(_value(type=1, int_value=300)), "metric 'speed': property 'q': 300 is outside"),
    "property of nothing": (_properties(_value(type=1)), "property 'q': neither a value nor null"),
    "property of null": (
        _properties(_value(type=1, is_null=True, int_value=1)),
        "null, and yet with a value",
    ),
    "type of a property": (_properties(_value(type=17)), "property 'q': Bytes is no type for this place"),
    "property without a type": (_properties(_value(int_value=1)), "property 'q': Unknown is no type"),
    "set that is none": (_properties(_value(type=20, int_value=1)), "PropertySet is not sent as int_value"),
    "deep templates": (as_deep(_nest(DEPTH_MAX + 1)), f"templates lie deeper than {DEPTH_MAX}"),
    "deeper than protobuf goes": (as_deep(_nest(99)), "the bytes are no Sparkplug B payload"),
    "deep properties": (as_deep(_nest_properties(DEPTH_MAX + 1)), f"lie deeper than {DEPTH_MAX}"),
    "long": (b"\0" * (BYTES_MAX + 1), f"{BYTES_MAX + 1} bytes are more than the {BYTES_MAX}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_payload_is_refused_with_the_reason(case: str) -> None:
    data, said = REFUSED[case]

    with pytest.raises(NotSparkplug) as refused:
        decode(data)

    assert said in refused.value.reason
    assert len(refused.value.reason) < 300


def test_what_is_just_within_bounds_is_taken() -> None:
    assert decode(as_deep(_nest(DEPTH_MAX))).metrics
    assert decode(as_deep(_nest_properties(DEPTH_MAX))).metrics
    assert decode(sent(datatype=T.BYTES, bytes_value=bytes(BYTES_MAX - 20))).metrics


@pytest.mark.parametrize(
    "data",
    [
        b"\x12\x04\x10\x00\x38\x01" * 1000,
        sent(datatype=T.BOOLEAN_ARRAY, bytes_value=(1000).to_bytes(4, "little") + bytes(125)),
        sent(datatype=T.STRING_ARRAY, bytes_value=bytes(1000)),
        sent(datatype=T.UINT8_ARRAY, bytes_value=bytes(1000)),
        _dataset(rows=[_row()] * 1000),
        _dataset(num_of_columns=1000, columns=[""] * 1000, types=[1] * 1000),
        _dataset(
            num_of_columns=10, columns=[""] * 10, types=[1] * 10, rows=[_row(elements=[_cell()] * 10)] * 90
        ),
        _template(is_definition=True, parameters=[_parameter(type=1)] * 1000),
        _template(is_definition=True, metrics=[sparkplug_b_pb2.Metric(alias=1, is_null=True)] * 999),
        _properties(*[_value(type=1, is_null=True)] * 1000, keys=tuple(map(str, range(1000)))),
        _properties(
            _value(
                type=21,
                propertysets_value=sparkplug_b_pb2.PropertySetList(
                    propertyset=[sparkplug_b_pb2.PropertySet()] * 1000
                ),
            )
        ),
    ],
)
def test_values_are_counted_wherever_they_are(data: bytes) -> None:
    decode(data, values_max=1100)
    with pytest.raises(NotSparkplug, match=r"more values than are looked at|elements are too many"):
        decode(data, values_max=900)


@pytest.mark.parametrize("datatype", [T.UINT8_ARRAY, T.STRING_ARRAY])
def test_an_array_is_counted_before_it_is_made(datatype: DataType) -> None:
    assert len(arrays.unpack(datatype, bytes(1000), count_max=1000)) == 1000
    with pytest.raises(WrongValue, match="1000 elements are too many"):
        arrays.unpack(datatype, bytes(1000), count_max=999)


@pytest.mark.parametrize(
    "data",
    [
        b"\x12\x00" * (BYTES_MAX // 2),
        b"\x12\x04\x10\x00\x38\x01" * (BYTES_MAX // 6),
        sent(datatype=T.BOOLEAN_ARRAY, bytes_value=(7_000_000).to_bytes(4, "little") + bytes(875_000)),
        sent(datatype=T.STRING_ARRAY, bytes_value=bytes(1_000_000)),
        sent(datatype=T.STRING_ARRAY, bytes_value=b"\xff" * 999_999 + b"\0"),
        sent(datatype=T.DATETIME_ARRAY, bytes_value=bytes(800_000)),
        _dataset(rows=[_row()] * 500_000),
        b"\x12\x80\x80\x40" + b"\x12" * (BYTES_MAX - 4),
    ],
)
def test_the_worst_that_fits_is_over_soon(data: bytes) -> None:
    assert len(data) <= BYTES_MAX
    began = time.thread_time()
    with contextlib.suppress(NotSparkplug):
        decode(data)
    assert time.thread_time() - began < SECONDS_MAX
