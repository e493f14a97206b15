"""Every reading of a few registers, and which of them look meant."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.layout import (
    Address,
    DataType,
    Kind,
    LayoutError,
    Order,
    Range,
    Table,
    parse_address,
    parse_type,
)
from connectors.modbus.orders import FORMS, Reading, likeliest, readings, shown, twin, window
from connectors.modbus.plan import Limits
from connectors.modbus.tags import ModbusTag
from statemodel.types import TagValue


def read(*registers: int, start: int = 100) -> dict[tuple[str, Order], Reading]:
    known = dict(enumerate(registers, start))
    return {(str(r.type.kind), r.order): r for r in readings(Table.HOLDING, start, known)}


def test_each_type_is_read_in_each_order_it_has() -> None:
    found = read(0x47F1, 0x2000, 0, 0, 0, 0, 0, 0)
    values = {form: reading.value for form, reading in found.items()}
    assert values["float32", Order.ABCD] == 123456.0
    assert values["float32", Order.CDAB] == pytest.approx(1.0867e-19, rel=1e-3)
    assert values["uint16", Order.ABCD] == 0x47F1
    assert values["uint32", Order.CDAB] == 0x200047F1
    assert values["uint64", Order.CDABGHEF] == 0x200047F100000000
    assert len([order for kind, order in found if kind == "int32"]) == 4
    assert len([order for kind, order in found if kind == "int64"]) == 6
    assert len(found) == len(FORMS)


@pytest.mark.parametrize(
    ("registers", "type_", "order"),
    [
        ((0x47F1, 0x2000), "float32", Order.ABCD),  # 123456.0
        ((0x2000, 0x47F1), "float32", Order.CDAB),
        ((0x41AC, 0x0000), "float32", Order.ABCD),  # 21.5
        ((0x0000, 0x41AC), "float32", Order.CDAB),
        ((0xAC41, 0x0000), "float32", Order.BADC),
        ((0x0000, 0xAC41), "float32", Order.DCBA),
        ((0x4035, 0x8000, 0, 0), "float64", Order.ABCD),  # 21.5
        ((0, 0, 0x8000, 0x4035), "float64", Order.CDAB),
        ((0x4A75, 0x6963, 0x6500), "string", Order.ABCD),  # "Juice"
        ((0x754A, 0x6369, 0x0065), "string", Order.BADC),
        ((1726,), "uint16", Order.ABCD),
        ((0xFF38,), "int16", Order.ABCD),  # -200
        ((0x0001, 0x86A0), "int32", Order.ABCD),  # 100,000
    ],
)
def test_what_a_device_means_is_proposed_before_anything_else(
    registers: tuple[int, ...], type_: str, order: Order
) -> None:
    found = read(*registers).values()
    first = likeliest(found, Address(Table.HOLDING, 100))
    if type_ in ("int16", "int32") or (type_, order) == ("string", Order.BADC):  # it could be another as well
        assert (type_, order) in [(str(reading.type.kind), reading.order) for reading in first[:3]]
    else:
        assert (str(first[0].type.kind), first[0].order) == (type_, order)


@pytest.mark.parametrize(
    ("registers", "type_", "order"),
    [
        ((0x7FC0, 0), "float32", Order.ABCD),  # NaN
        ((0x0000, 0x0001), "float32", Order.ABCD),  # denormal
        ((0x7F00, 0), "float32", Order.ABCD),  # 1.7e38
        ((0x12AF,), "bcd16", Order.ABCD),
        ((0x7FFF, 0xFFFF), "int32", Order.ABCD),
        ((0x0005, 0x0000), "uint32", Order.ABCD),  # a 5 in the upper register: the order is another
        ((0x0001, 0xC3C3), "string", Order.ABCD),
    ],
)
def test_what_no_plant_has_is_implausible(registers: tuple[int, ...], type_: str, order: Order) -> None:
    assert not read(*registers)[type_, order].plausible


def test_zeros_say_nothing_and_propose_nothing() -> None:
    assert likeliest(read(0, 0, 0, 0).values(), Address(Table.HOLDING, 100)) == []


def test_a_neighbour_is_proposed_only_when_it_says_more() -> None:
    registers = {100: 0x0000, 101: 0x41AC, 102: 0x0000}
    every = [r for start in (100, 101) for r in readings(Table.HOLDING, start, registers)]
    assert likeliest(every, Address(Table.HOLDING, 100))[0].order is Order.CDAB
    assert all(r.address.start == 100 for r in likeliest(every, Address(Table.HOLDING, 100)))
    registers = {100: 5, 101: 0x41AC, 102: 0x0000}
    every = [r for start in (100, 101) for r in readings(Table.HOLDING, start, registers)]
    last = likeliest(every, Address(Table.HOLDING, 100))[-1]
    assert (last.address.start, last.value) == (101, 21.5)


def test_a_swapped_float_has_a_twin_beside_that_reads_nearly_the_same() -> None:
    registers = {100: 0xB4D0, 101: 0x41D3, 102: 0xCCCD, 103: 0x404C}  # 26.463 and 3.2, registers swapped
    every = [r for start in (100, 101, 102) for r in readings(Table.HOLDING, start, registers)]
    floats = {(r.address.start, r.order): r for r in every if r.type.kind == "float32"}
    right, wrong = floats[100, Order.CDAB], floats[101, Order.ABCD]
    assert (shown(right.type, right.value), shown(wrong.type, wrong.value)) == ("26.463287", "26.475")
    assert (twin(right, every), twin(wrong, every)) == (wrong, right)
    assert twin(floats[100, Order.ABCD], every) is None
    assert twin(next(r for r in every if r.type.kind == "uint16"), every) is None


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=9))
def test_every_proposal_is_a_tag_that_reads_that_value(registers: list[int]) -> None:
    for reading in likeliest(read(*registers).values(), Address(Table.HOLDING, 100)):
        table = {
            "name": "t",
            "address": str(reading.address),
            "type": str(reading.type),
            "order": reading.order,
        }
        tag = ModbusTag.model_validate(table)
        assert (tag.signal("t").type, tag.order) == (reading.type, reading.order)
        assert reading.tag_line("t").startswith('{ name = "t", address = "holding:100", type = "')
        assert reading.value is not None


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        ("float32", struct.unpack(">f", bytes.fromhex("3DCCCCCD"))[0], "0.1"),
        ("float32", 123456.0, "123456"),
        ("float32", 1.5, "1.5"),
        ("float64", 0.1, "0.1"),
        ("float64", 1 / 3, "0.33333333333333331"),
        ("uint64", 2**64 - 1, "18446744073709551615"),
        ("bcd16", None, "-"),
    ],
)
def test_values_are_shown_with_the_digits_they_have(type_: str, value: TagValue, text: str) -> None:
    assert shown(parse_type(type_), value) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_shown_float_is_that_float(value: float) -> None:
    back = struct.unpack(">f", struct.pack(">f", float(shown(DataType(Kind.FLOAT32), value))))[0]
    assert back == value


def test_the_neighbours_are_read_too_but_never_what_is_forbidden() -> None:
    assert window(parse_address("holding:100"), Limits()) == range(99, 109)
    assert window(parse_address("holding:0"), Limits()) == range(9)
    assert window(parse_address("holding:65535"), Limits()) == range(65534, 65536)
    barred = Limits(forbidden=(Range(Table.HOLDING, 102, 104), Range(Table.HOLDING, 99, 100)))
    assert window(parse_address("holding:100"), barred) == range(100, 102)
    with pytest.raises(LayoutError, match="never read"):
        window(parse_address("holding:103"), barred)
    with pytest.raises(LayoutError, match="one bit"):
        window(parse_address("coil:3"), Limits())
