"""Values and their bits. The vectors are worked out by hand from the standards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connectors.modbus.codec import BlockFormat, CannotEncode, encode, registers_bytes
from connectors.modbus.layout import Address, Kind, Order, Signal, Table, parse_address, parse_type
from connectors.modbus.plan import Limits, plan_reads, request_of
from statemodel.types import TagValue

ABCD, CDAB, BADC, DCBA = Order.ABCD, Order.CDAB, Order.BADC, Order.DCBA


def signal(
    address: str, type_: str = "bool", order: Order = ABCD, scale: float = 1, offset: float = 0
) -> Signal:
    return Signal(f"plc/{address}", parse_address(address), parse_type(type_), order, scale, offset)


def words(*registers: int) -> bytes:
    return b"".join(register.to_bytes(2, "big") for register in registers)


def decode_one(sig: Signal, data: bytes) -> TagValue:
    (value,) = BlockFormat(request_of([sig])).decode(data)
    return value


VECTORS: list[tuple[str, Order, tuple[int, ...], TagValue]] = [
    ("uint16", ABCD, (0x0000,), 0),
    ("uint16", ABCD, (0x1234,), 0x1234),
    ("uint16", ABCD, (0xFFFF,), 65535),
    ("int16", ABCD, (0x7FFF,), 32767),
    ("int16", ABCD, (0x8000,), -32768),
    ("int16", ABCD, (0xFFFF,), -1),
    ("uint32", ABCD, (0x0102, 0x0304), 0x01020304),
    ("uint32", CDAB, (0x0304, 0x0102), 0x01020304),
    ("uint32", BADC, (0x0201, 0x0403), 0x01020304),
    ("uint32", DCBA, (0x0403, 0x0201), 0x01020304),
    ("int32", ABCD, (0xFFFF, 0xFFFE), -2),
    ("int32", CDAB, (0xFFFE, 0xFFFF), -2),
    ("int32", DCBA, (0xFEFF, 0xFFFF), -2),
    ("float32", ABCD, (0x47F1, 0x2000), 123456.0),
    ("float32", CDAB, (0x2000, 0x47F1), 123456.0),
    ("float32", BADC, (0xF147, 0x0020), 123456.0),
    ("float32", DCBA, (0x0020, 0xF147), 123456.0),
    ("float32", ABCD, (0xBF00, 0x0000), -0.5),
    ("float32", ABCD, (0x0000, 0x0000), 0.0),
    ("float32", ABCD, (0x7FC0, 0x0000), None),  # NaN; SunSpec's "not implemented"
    ("float32", ABCD, (0x7F80, 0x0000), None),  # infinity
    ("float32", CDAB, (0x0000, 0xFF80), None),  # minus infinity
    ("float64", ABCD, (0x40FE, 0x2400, 0x0000, 0x0000), 123456.0),
    ("float64", CDAB, (0x0000, 0x0000, 0x2400, 0x40FE), 123456.0),
    ("float64", BADC, (0xFE40, 0x0024, 0x0000, 0x0000), 123456.0),
    ("float64", DCBA, (0x0000, 0x0000, 0x0024, 0xFE40), 123456.0),
    ("float64", ABCD, (0x7FF8, 0x0000, 0x0000, 0x0000), None),
    ("uint64", ABCD, (0x0102, 0x0304, 0x0506, 0x0708), 0x0102030405060708),
    ("uint64", CDAB, (0x0708, 0x0506, 0x0304, 0x0102), 0x0102030405060708),
    ("uint64", BADC, (0x0201, 0x0403, 0x0605, 0x0807), 0x0102030405060708),
    ("uint64", DCBA, (0x0807, 0x0605, 0x0403, 0x0201), 0x0102030405060708),
    ("uint64", ABCD, (0xFFFF,) * 4, 2**64 - 1),
    ("int64", ABCD, (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD), -3),
    ("int64", CDAB, (0xFFFD, 0xFFFF, 0xFFFF, 0xFFFF), -3),
    ("bcd16", ABCD, (0x1234,), 1234),
    ("bcd16", ABCD, (0x0000,), 0),
    ("bcd16", ABCD, (0x9999,), 9999),
    ("bcd16", ABCD, (0x12A4,), None),
    ("bcd16", ABCD, (0x1E05,), None),  # would read as 1000 times ten to the fifth by a careless parser
    ("bcd32", ABCD, (0x1234, 0x5678), 12345678),
    ("bcd32", CDAB, (0x5678, 0x1234), 12345678),
    ("bcd32", BADC, (0x3412, 0x7856), 12345678),
    ("bcd32", DCBA, (0x7856, 0x3412), 12345678),
    ("bcd32", ABCD, (0x1234, 0x567F), None),
    ("string(5)", ABCD, (0x4A75, 0x6963, 0x6500), "Juice"),
    ("string(5)", ABCD, (0x4A75, 0x6963, 0x6558), "Juice"),  # the sixth character is not ours
    ("string(6)", BADC, (0x754A, 0x6369, 0x2065), "Juice"),
    ("string(8)", ABCD, (0x4F4B, 0x2020, 0x2020, 0x2020), "OK"),
    ("string(8)", ABCD, (0x4F4B, 0x0058, 0x5858, 0x5858), "OK"),  # nothing counts after NUL
    ("string(4)", ABCD, (0x0000, 0x0000), ""),
    ("string(2)", ABCD, (0xB043,), "°C"),
]


@pytest.mark.parametrize(("type_", "order", "registers", "expected"), VECTORS)
def test_registers_mean_the_value_of_the_standard(
    type_: str, order: Order, registers: tuple[int, ...], expected: TagValue
) -> None:
    value = decode_one(signal("holding:0", type_, order), words(*registers))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("type_", "order", "registers", "value"),
    [v for v in VECTORS if v[3] is not None and not (v[0] == "string(5)" and v[2][-1] == 0x6558)],
)
def test_the_value_goes_back_to_the_same_registers(
    type_: str, order: Order, registers: tuple[int, ...], value: TagValue
) -> None:
    encoded = encode(signal("holding:0", type_, order), value)
    if not type_.startswith("string"):
        assert encoded == registers
    assert decode_one(signal("holding:0", type_, order), registers_bytes(encoded)) == value


def test_bits_of_a_register_count_from_the_least_significant() -> None:
    sigs = [signal(f"holding:0.{bit}") for bit in range(16)]
    values = BlockFormat(request_of(sigs)).decode(words(0x8005))
    assert values == [True, False, True, *[False] * 12, True]


def test_coils_are_packed_least_significant_first() -> None:
    # From the standard: coils 20-38 read as CD 6B 05; coil 27 is the most significant bit of CD.
    sigs = [signal(f"coil:{address}") for address in range(19, 38)]
    values = BlockFormat(request_of(sigs)).decode(bytes((0xCD, 0x6B, 0x05)))
    expected = "1011 0011 1101 0110 101".replace(" ", "")
    assert values == [digit == "1" for digit in expected]
    assert all(type(value) is bool for value in values)


def test_a_block_of_everything_is_decoded_at_once() -> None:
    sigs = [
        signal("holding:10", "uint16"),
        signal("holding:10.1"),
        signal("holding:10", "int16"),
        signal("holding:11", "float32", CDAB),
        signal("holding:11", "uint32"),
        signal("holding:12", "uint16"),
        signal("holding:20", "int32", DCBA),
        signal("holding:24", "string(4)", BADC),
    ]
    request = request_of(sigs)
    data = words(0xFFFE, 0x2000, 0x47F1, *[7] * 7, 0xFEFF, 0xFFFF, 8, 8, 0x624F, 0x2072)
    assert request.count * 2 == len(data)
    assert BlockFormat(request).decode(data) == [65534, True, -2, 123456.0, 0x200047F1, 0x47F1, -2, "Obr"]


def test_values_that_lie_side_by_side_in_one_order_take_one_struct() -> None:
    sigs = [signal(f"holding:{start}", "float32", CDAB) for start in range(0, 124, 2)]
    assert len(BlockFormat(request_of(sigs)).layers) == 1


@pytest.mark.parametrize(
    ("type_", "scale", "offset", "registers", "expected"),
    [
        ("int16", 0.5, -10, (100,), 40.0),
        ("uint16", 1, 5, (100,), 105.0),
        ("uint16", 10, 0, (100,), 1000.0),
        ("float32", 2, 1, (0xBF00, 0), 0.0),
        ("float32", 2, 1, (0x7FC0, 0), None),
        ("float64", 1e300, 0, (0x7FE0, 0, 0, 0), None),  # overflows to infinity
        ("bcd16", 0.1, 0, (0x0125,), 12.5),
        ("bcd16", 0.1, 0, (0x0F25,), None),
        ("uint64", 2, 0, (0x8000, 0, 0, 0), float(2**64)),
    ],
)
def test_scale_and_offset_make_a_float(
    type_: str, scale: float, offset: float, registers: tuple[int, ...], expected: float | None
) -> None:
    value = decode_one(signal("holding:0", type_, scale=scale, offset=offset), words(*registers))
    assert value == expected
    assert value is None or type(value) is float


def test_integers_beyond_53_bits_stay_exact() -> None:
    assert decode_one(signal("holding:0", "uint64"), words(0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE)) == 2**64 - 2


# Round trips.

orders = st.sampled_from(Order)
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


def round_trip(sig: Signal, value: TagValue) -> TagValue:
    return decode_one(sig, registers_bytes(encode(sig, value)))


@given(st.data(), st.sampled_from(sorted(RANGES)), orders)
def test_every_integer_reads_back_as_written(data: st.DataObject, type_: str, order: Order) -> None:
    value = data.draw(st.integers(*RANGES[type_]))
    assert round_trip(signal("holding:0", type_, order), value) == value


@given(st.data(), st.sampled_from(["int16", "uint16", "int32", "uint32", "bcd16", "bcd32"]))
def test_scaled_integers_read_back_as_written(data: st.DataObject, type_: str) -> None:
    raw = data.draw(st.integers(*RANGES[type_]))
    scale = data.draw(st.sampled_from([0.001, 0.01, 0.1, 0.5, 2.0, 10.0, -1.0]))
    offset = data.draw(st.sampled_from([0.0, -40.0, 273.15]))
    sig = signal("holding:0", type_, scale=scale, offset=offset)
    registers = encode(sig, raw * scale + offset)
    value = decode_one(sig, registers_bytes(registers))
    assert value == pytest.approx(raw * scale + offset, rel=1e-12)
    assert encode(sig, value) == registers


@pytest.mark.parametrize(("raw", "scale", "value"), [(1726, 0.1, 172.6), (3, 0.1, 0.3), (2999, 0.001, 2.999)])
def test_a_decimal_scale_gives_the_decimal_people_expect(raw: int, scale: float, value: float) -> None:
    assert decode_one(signal("holding:0", "int16", scale=scale), registers_bytes([raw])) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), orders)
def test_every_float32_reads_back_as_written(value: float, order: Order) -> None:
    assert round_trip(signal("holding:0", "float32", order), value) == value


@given(st.floats(allow_nan=False, allow_infinity=False), orders)
def test_every_float64_reads_back_as_written(value: float, order: Order) -> None:
    assert round_trip(signal("holding:0", "float64", order), value) == value


@given(
    st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=9),
    st.sampled_from([ABCD, BADC]),
)
def test_every_text_reads_back_as_written(value: str, order: Order) -> None:
    assume(not value.endswith(" "))
    assert round_trip(signal("holding:0", "string(9)", order), value) == value


KINDS = [
    "uint16",
    "int16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
    "bcd16",
    "bcd32",
    "string(3)",
]


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from(KINDS), orders, st.none() | st.integers(0, 15)),
        min_size=1,
    ),
    st.binary(min_size=80, max_size=80),
)
def test_a_block_gives_what_its_tags_give_one_by_one(
    layout: Sequence[tuple[int, str, Order, int | None]], memory: bytes
) -> None:
    sigs = []
    for start, type_, order, bit in layout:
        if bit is not None:
            sigs.append(Signal("t", Address(Table.HOLDING, start, bit), parse_type("bool")))
        else:
            one_register = parse_type(type_).registers == 1
            text = parse_type(type_).kind is Kind.STRING
            fitting = ABCD if one_register or (text and order.words_swapped) else order
            sigs.append(Signal("t", Address(Table.HOLDING, start), parse_type(type_), fitting))
    for request in plan_reads(sigs, Limits(registers_per_request=12, gap_max=3)):
        values = BlockFormat(request).decode(memory[2 * request.start : 2 * request.end])
        for sig, value in zip(request.signals, values, strict=True):
            assert value == decode_one(sig, memory[2 * sig.start : 2 * sig.end])


@pytest.mark.parametrize(
    ("sig", "value", "reason"),
    [
        (signal("holding:0", "uint16"), -1, "not in 0 to 65535"),
        (signal("holding:0", "uint16"), 65536, "not in 0 to 65535"),
        (signal("holding:0", "int16"), 40000, "not in -32768 to 32767"),
        (signal("holding:0", "uint16", scale=0.1), 6553.7, "65537"),
        (signal("holding:0", "uint16"), 1.5, "not whole"),
        (signal("holding:0", "uint16"), True, "no number"),
        (signal("holding:0", "uint16"), "1", "no number"),
        (signal("holding:0", "uint16"), None, "no number"),
        (signal("holding:0", "float32"), float("nan"), "no number a device could use"),
        (signal("holding:0", "float32"), 1e39, "does not fit float32"),
        (signal("holding:0", "bcd16"), 10000, "not in 0 to 9999"),
        (signal("holding:0", "string(2)"), "abc", "3 characters do not fit"),
        (signal("holding:0", "string(2)"), "€", "do not fit one byte"),
        (signal("holding:0", "string(2)"), "a ", "does not read back"),
        (signal("holding:0", "string(2)"), 5, "no text"),
        (signal("coil:0"), 1, "neither true nor false"),
        (signal("holding:0.3"), True, "written whole"),
    ],
)
def test_what_does_not_fit_is_never_written(sig: Signal, value: Any, reason: str) -> None:
    with pytest.raises(CannotEncode, match=reason):
        encode(sig, value)


def test_a_coil_is_one_or_zero() -> None:
    assert encode(signal("coil:0"), True) == (1,)
    assert encode(signal("coil:0"), False) == (0,)
