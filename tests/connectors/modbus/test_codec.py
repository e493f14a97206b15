"""Values and their bits. The vectors are worked out by hand from the standards."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.codec import BlockFormat, encode, registers_bytes
from connectors.modbus.layout import Address, Kind, Order, Signal, Table, parse_address, parse_type
from connectors.modbus.plan import Limits, plan_reads, request_of
from connectors.modbus.values import NO_VALUE, NOT_A_NUMBER, Decoded, Flaw
from statemodel.types import Quality, TagValue

ABCD, CDAB, BADC, DCBA = Order.ABCD, Order.CDAB, Order.BADC, Order.DCBA
EFGHABCD, CDABGHEF = Order.EFGHABCD, Order.CDABGHEF
orders = st.sampled_from(Order)


def signal(
    address: str,
    type_: str = "bool",
    order: Order = ABCD,
    scale: float = 1,
    offset: float = 0,
    clamp: tuple[float, float] | None = None,
    no_value: float | str | None = None,
) -> Signal:
    place, type_of = parse_address(address), parse_type(type_)
    return Signal(f"plc/{address}", place, type_of, order, scale, offset, clamp, no_value)


def words(*registers: int) -> bytes:
    return b"".join(register.to_bytes(2, "big") for register in registers)


def decode_one(sig: Signal, data: bytes) -> Decoded:
    (value,) = BlockFormat(request_of([sig])).decode(data)
    return value


VECTORS: list[tuple[str, Order, tuple[int, ...], Decoded]] = [
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
    ("float32", ABCD, (0x7FC0, 0x0000), NOT_A_NUMBER),  # NaN; SunSpec's "not implemented"
    ("float32", ABCD, (0x7F80, 0x0000), NOT_A_NUMBER),  # infinity
    ("float32", CDAB, (0x0000, 0xFF80), NOT_A_NUMBER),  # minus infinity
    ("float64", ABCD, (0x40FE, 0x2400, 0x0000, 0x0000), 123456.0),
    ("float64", CDAB, (0x0000, 0x0000, 0x2400, 0x40FE), 123456.0),
    ("float64", BADC, (0xFE40, 0x0024, 0x0000, 0x0000), 123456.0),
    ("float64", DCBA, (0x0000, 0x0000, 0x0024, 0xFE40), 123456.0),
    ("float64", ABCD, (0x7FF8, 0x0000, 0x0000, 0x0000), NOT_A_NUMBER),
    ("uint64", ABCD, (0x0102, 0x0304, 0x0506, 0x0708), 0x0102030405060708),
    ("uint64", CDAB, (0x0708, 0x0506, 0x0304, 0x0102), 0x0102030405060708),
    ("uint64", BADC, (0x0201, 0x0403, 0x0605, 0x0807), 0x0102030405060708),
    ("uint64", DCBA, (0x0807, 0x0605, 0x0403, 0x0201), 0x0102030405060708),
    # The halves of 64 bits changed places: registers 0102 0304 | 0506 0708 each in its own order.
    ("uint64", EFGHABCD, (0x0506, 0x0708, 0x0102, 0x0304), 0x0102030405060708),
    ("uint64", CDABGHEF, (0x0304, 0x0102, 0x0708, 0x0506), 0x0102030405060708),
    ("float64", EFGHABCD, (0x0000, 0x0000, 0x40FE, 0x2400), 123456.0),
    ("float64", CDABGHEF, (0x2400, 0x40FE, 0x0000, 0x0000), 123456.0),
    ("float64", CDABGHEF, (0x0000, 0x7FF8, 0x0000, 0x0000), NOT_A_NUMBER),
    ("int64", EFGHABCD, (0xFFFF, 0xFFFD, 0xFFFF, 0xFFFF), -3),
    ("uint64", ABCD, (0xFFFF,) * 4, 2**64 - 1),
    ("int64", ABCD, (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD), -3),
    ("int64", CDAB, (0xFFFD, 0xFFFF, 0xFFFF, 0xFFFF), -3),
    ("bcd16", ABCD, (0x1234,), 1234),
    ("bcd16", ABCD, (0x0000,), 0),
    ("bcd16", ABCD, (0x9999,), 9999),
    ("bcd16", ABCD, (0x12A4,), NOT_A_NUMBER),
    (
        "bcd16",
        ABCD,
        (0x1E05,),
        NOT_A_NUMBER,
    ),  # would read as 1000 times ten to the fifth by a careless parser
    ("bcd32", ABCD, (0x1234, 0x5678), 12345678),
    ("bcd32", CDAB, (0x5678, 0x1234), 12345678),
    ("bcd32", BADC, (0x3412, 0x7856), 12345678),
    ("bcd32", DCBA, (0x7856, 0x3412), 12345678),
    ("bcd32", ABCD, (0x1234, 0x567F), NOT_A_NUMBER),
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
    type_: str, order: Order, registers: tuple[int, ...], expected: Decoded
) -> None:
    value = decode_one(signal("holding:0", type_, order), words(*registers))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("type_", "order", "registers", "value"),
    [v for v in VECTORS if v[3] is not NOT_A_NUMBER and not (v[0] == "string(5)" and v[2][-1] == 0x6558)],
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
        ("float32", 2, 1, (0x7FC0, 0), NOT_A_NUMBER),
        ("float64", 1e300, 0, (0x7FE0, 0, 0, 0), NOT_A_NUMBER),  # overflows to infinity
        ("bcd16", 0.1, 0, (0x0125,), 12.5),
        ("bcd16", 0.1, 0, (0x0F25,), NOT_A_NUMBER),
        ("uint64", 2, 0, (0x8000, 0, 0, 0), float(2**64)),
    ],
)
def test_scale_and_offset_make_a_float(
    type_: str, scale: float, offset: float, registers: tuple[int, ...], expected: float | Flaw
) -> None:
    value = decode_one(signal("holding:0", type_, scale=scale, offset=offset), words(*registers))
    assert value == expected
    assert type(value) in (Flaw, float)


def test_integers_beyond_53_bits_stay_exact() -> None:
    assert decode_one(signal("holding:0", "uint64"), words(0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE)) == 2**64 - 2


# What a device says when it has no value: SunSpec's table, by hand from its information model.

ABSENT: list[tuple[str, Order, tuple[int, ...]]] = [
    ("int16", ABCD, (0x8000,)),
    ("uint16", ABCD, (0xFFFF,)),
    ("int32", ABCD, (0x8000, 0x0000)),
    ("int32", CDAB, (0x0000, 0x8000)),
    ("uint32", ABCD, (0xFFFF, 0xFFFF)),
    ("int64", ABCD, (0x8000, 0, 0, 0)),
    ("int64", CDABGHEF, (0, 0x8000, 0, 0)),
    ("uint64", ABCD, (0xFFFF,) * 4),
    ("float32", ABCD, (0x7FC0, 0x0000)),
    ("float32", ABCD, (0xFFC0, 0x0001)),  # any NaN: there is more than one
    ("float64", ABCD, (0x7FF8, 0, 0, 0)),
    ("string(4)", ABCD, (0x0000, 0x0000)),
]


@pytest.mark.parametrize(("type_", "order", "registers"), ABSENT)
def test_not_implemented_is_no_value_and_no_number(
    type_: str, order: Order, registers: tuple[int, ...]
) -> None:
    sig = signal("holding:0", type_, order, no_value="sunspec")
    assert decode_one(sig, words(*registers)) == NO_VALUE
    assert Flaw(Quality.BAD, "no_value", None) == NO_VALUE
    if type_.startswith("string"):
        return
    scaled = signal("holding:0", type_, order, 0.1, 5, no_value="sunspec")
    assert decode_one(scaled, words(*registers)) == NO_VALUE, "told before it is scaled"
    kept = signal("holding:0", type_, order, clamp=(0, 10), no_value="sunspec")
    assert decode_one(kept, words(*registers)) == NO_VALUE, "told before it is clamped"


@pytest.mark.parametrize(("type_", "order", "registers"), ABSENT)
def test_its_neighbours_are_values_and_without_the_setting_so_is_it(
    type_: str, order: Order, registers: tuple[int, ...]
) -> None:
    plain = decode_one(signal("holding:0", type_, order), words(*registers))
    assert plain is NOT_A_NUMBER if type_.startswith("float") else not isinstance(plain, Flaw)
    near = (registers[0] ^ 0x4100, *registers[1:]) if not type_.startswith("float") else (0x3F80, 0, 0, 0)
    sig = signal("holding:0", type_, order, no_value="sunspec")
    value = decode_one(sig, words(*near[: len(registers)]))
    assert value == decode_one(signal("holding:0", type_, order), words(*near[: len(registers)]))
    assert not isinstance(value, Flaw)


@pytest.mark.parametrize(
    ("type_", "no_value", "registers"),
    [
        ("uint32", 0, (0, 0)),  # a SunSpec accumulator
        ("int16", -32768, (0x8000,)),
        ("int16", 0x7FFF, (0x7FFF,)),
        ("float32", -9999.0, (0xC61C, 0x3C00)),
        ("bcd16", 0xFFFF, (0xFFFF,)),
        ("uint64", 2**64 - 1, (0xFFFF,) * 4),
    ],
)
def test_a_device_may_have_its_own_word_for_nothing(
    type_: str, no_value: float, registers: tuple[int, ...]
) -> None:
    assert decode_one(signal("holding:0", type_, no_value=no_value), words(*registers)) == NO_VALUE


def test_infinity_is_no_absence() -> None:
    sig = signal("holding:0", "float32", no_value="sunspec")
    assert decode_one(sig, words(0x7F80, 0)) == NOT_A_NUMBER


def test_bits_of_a_bitfield_that_is_not_there_are_no_values() -> None:
    sig = signal("holding:0.3", no_value="sunspec")
    assert decode_one(sig, words(0xFFFF)) == NO_VALUE
    assert decode_one(sig, words(0xFFF7)) is False
    assert decode_one(sig, words(0x0008)) is True


@pytest.mark.parametrize(
    ("type_", "scale", "registers", "expected"),
    [
        ("int16", 0.1, (1500,), 150.0),
        ("int16", 0.1, (1501,), Flaw(Quality.UNCERTAIN, "engineering_units_exceeded", 150.0)),
        ("int16", 0.1, (0xFF38,), -20.0),
        ("int16", 0.1, (0xFF37,), Flaw(Quality.UNCERTAIN, "engineering_units_exceeded", -20.0)),
        ("int16", 1, (151,), Flaw(Quality.UNCERTAIN, "engineering_units_exceeded", 150)),
        ("float32", 1, (0x7F80, 0), NOT_A_NUMBER),
        ("float32", 1, (0x4316, 0x0001), Flaw(Quality.UNCERTAIN, "engineering_units_exceeded", 150.0)),
    ],
)
def test_a_value_beyond_its_clamp_is_the_limit_and_uncertain(
    type_: str, scale: float, registers: tuple[int, ...], expected: Decoded
) -> None:
    value = decode_one(signal("holding:0", type_, scale=scale, clamp=(-20, 150)), words(*registers))
    assert value == expected
    if isinstance(expected, Flaw) and isinstance(value, Flaw):
        assert type(value.value) is type(expected.value)


# A block is the sum of its tags.

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
            wrong = parse_type(type_).registers == 1 or (order.of_64_bits and "64" not in type_)
            text = parse_type(type_).kind is Kind.STRING
            fitting = ABCD if wrong or (text and order.words_swapped) else order
            sigs.append(Signal("t", Address(Table.HOLDING, start), parse_type(type_), fitting))
    for request in plan_reads(sigs, Limits(registers_per_request=12, gap_max=3)):
        values = BlockFormat(request).decode(memory[2 * request.start : 2 * request.end])
        for sig, value in zip(request.signals, values, strict=True):
            assert value == decode_one(sig, memory[2 * sig.start : 2 * sig.end])
