"""Values on their way to a device: what decoding undoes, and what is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connectors.modbus.codec import BlockFormat, CannotEncode, encode, registers_bytes
from connectors.modbus.layout import Order, Signal, parse_address, parse_type
from connectors.modbus.plan import request_of
from connectors.modbus.values import Decoded, Flaw
from statemodel.types import TagValue

ABCD, BADC = Order.ABCD, Order.BADC
orders = st.sampled_from([order for order in Order if not order.of_64_bits])
orders_64 = st.sampled_from(Order)


def signal(type_: str, order: Order = ABCD, address: str = "holding:0", **more: Any) -> Signal:
    return Signal("plc/t", parse_address(address), parse_type(type_), order, **more)


def decode_one(sig: Signal, data: bytes) -> Decoded:
    (value,) = BlockFormat(request_of([sig])).decode(data)
    return value


# Round trips.

RANGES = {
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
    "bcd16": (0, 9999),
    "bcd32": (0, 99_999_999),
}


def round_trip(sig: Signal, value: TagValue) -> Decoded:
    return decode_one(sig, registers_bytes(encode(sig, value)))


@given(st.data(), st.sampled_from(sorted(RANGES)), orders_64)
def test_every_integer_reads_back_as_written(data: st.DataObject, type_: str, order: Order) -> None:
    assume("64" in type_ or not order.of_64_bits)
    value = data.draw(st.integers(*RANGES[type_]))
    assert round_trip(signal(type_, order), value) == value


@given(st.data(), st.sampled_from(["int16", "uint16", "int32", "uint32", "bcd16", "bcd32"]))
def test_scaled_integers_read_back_as_written(data: st.DataObject, type_: str) -> None:
    raw = data.draw(st.integers(*RANGES[type_]))
    scale = data.draw(st.sampled_from([0.001, 0.01, 0.1, 0.5, 2.0, 10.0, -1.0]))
    offset = data.draw(st.sampled_from([0.0, -40.0, 273.15]))
    sig = signal(type_, scale=scale, offset=offset)
    registers = encode(sig, raw * scale + offset)
    value = decode_one(sig, registers_bytes(registers))
    assert value == pytest.approx(raw * scale + offset, rel=1e-12)
    assert isinstance(value, float | int)
    assert encode(sig, value) == registers


@pytest.mark.parametrize(("raw", "scale", "value"), [(1726, 0.1, 172.6), (3, 0.1, 0.3), (2999, 0.001, 2.999)])
def test_a_decimal_scale_gives_the_decimal_people_expect(raw: int, scale: float, value: float) -> None:
    assert decode_one(signal("int16", scale=scale), registers_bytes([raw])) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), orders)
def test_every_float32_reads_back_as_written(value: float, order: Order) -> None:
    assert round_trip(signal("float32", order), value) == value


@given(st.floats(allow_nan=False, allow_infinity=False), orders_64)
def test_every_float64_reads_back_as_written(value: float, order: Order) -> None:
    assert round_trip(signal("float64", order), value) == value


@given(
    st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=9),
    st.sampled_from([ABCD, BADC]),
)
def test_every_text_reads_back_as_written(value: str, order: Order) -> None:
    assume(not value.endswith(" "))
    assert round_trip(signal("string(9)", order), value) == value


@pytest.mark.parametrize(
    ("sig", "value", "reason"),
    [
        (signal("uint16"), -1, "not in 0 to 65535"),
        (signal("uint16"), 65536, "not in 0 to 65535"),
        (signal("int16"), 40000, "not in -32768 to 32767"),
        (signal("uint16", scale=0.1), 6553.7, "65537"),
        (signal("uint16"), 1.5, "not whole"),
        (signal("uint16"), True, "no number"),
        (signal("uint16"), "1", "no number"),
        (signal("uint16"), None, "no number"),
        (signal("float32"), float("nan"), "no number a device could use"),
        (signal("float32"), 1e39, "does not fit float32"),
        (signal("bcd16"), 10000, "not in 0 to 9999"),
        (signal("string(2)"), "abc", "3 characters do not fit"),
        (signal("string(2)"), "€", "do not fit one byte"),
        (signal("string(2)"), "a ", "does not read back"),
        (signal("string(2)"), 5, "no text"),
        (signal("bool", address="coil:0"), 1, "neither true nor false"),
        (signal("bool", address="holding:0.3"), True, "written whole"),
        (signal("int16", scale=0.1), 12.34, "between two steps of 0.1; it can be 12.3 or 12.4"),
        (signal("int16", scale=10, offset=5), 16, "it can be 15 or 25"),
        (signal("int16", scale=0.1), -0.05, "it can be -0.1 or 0"),
        (signal("uint64", scale=1e-300), 1e300, "does not fit uint64"),
        (signal("int16", clamp=(0, 100)), 101, "beyond the clamp of 0 to 100"),
        (signal("int16", scale=0.1, clamp=(0, 100)), -0.1, "beyond the clamp"),
        (signal("int16", no_value="sunspec"), -32768, "would read back as no value"),
        (signal("uint32", no_value=0), 0, "would read back as no value"),
        (signal("string(4)", no_value="sunspec"), "", "would read back as no value"),
        (signal("uint16", address="input:7"), 1, "input:7 can only be read"),
        (signal("bool", address="discrete:7"), True, "discrete:7 can only be read"),
        (signal("string(250)"), "a", "takes 125 registers, and one request can write 123"),
    ],
)
def test_what_does_not_fit_is_never_written(sig: Signal, value: Any, reason: str) -> None:
    with pytest.raises(CannotEncode, match=reason):
        encode(sig, value)


def test_a_coil_is_one_or_zero() -> None:
    assert encode(signal("bool", address="coil:0"), True) == (1,)
    assert encode(signal("bool", address="coil:0"), False) == (0,)


@pytest.mark.parametrize(
    ("value", "scale", "offset", "raw"),
    [
        (172.6, 0.1, 0, 1726),
        (-0.3, 0.1, 0, -3),
        (20.0, 0.5, -10, 60),
        (373.15, 1, 273.15, 100),
        (25, 10, 5, 2),
        (0.001, 0.001, 0, 1),
    ],
)
def test_what_people_type_is_the_step_they_mean(value: float, scale: float, offset: float, raw: int) -> None:
    assert encode(signal("int16", scale=scale, offset=offset), value) == (raw & 0xFFFF,)


@given(
    st.integers(-(2**15), 2**15 - 1),
    st.sampled_from([1.0, 0.1, 0.01, 3.0, 1 / 3]),
    st.sampled_from([0.0, -40.0]),
)
def test_what_was_read_can_be_written_unless_it_was_no_good_value(
    raw: int, scale: float, offset: float
) -> None:
    sig = signal("int16", scale=scale, offset=offset, clamp=(-500, 500), no_value="sunspec")
    data = registers_bytes([raw & 0xFFFF])
    value = decode_one(sig, data)
    if isinstance(value, Flaw):
        wanted = raw * scale + offset
        assert raw == -(2**15) or not -500 < wanted < 500
        with pytest.raises(CannotEncode):
            encode(sig, wanted)
    else:
        assert registers_bytes(encode(sig, value)) == data
