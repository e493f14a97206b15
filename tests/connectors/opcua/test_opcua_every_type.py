"""Our decoder says what the library says, for every built-in type, arrays of each, and every DataValue flag.

Messages are put together from the standard's layout with the library's encoding of the value inside. The
library has the picoseconds in another place than the standard (after both stamps, OPC 10000-6 table 26 puts
each behind its own), so it is handed a message in its own order.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.opcua.decode import Answer, decode_publish, decode_read
from connectors.opcua.values import UNSUPPORTED, Body, Raw
from tests.connectors.opcua import by_library
from tests.connectors.opcua.test_opcua_decode import NOW, TAGS, data_change, one, publish_bytes, read_bytes

_T = ua.VariantType
_names = st.text(st.characters(codec="utf-8"), max_size=12)
_indexes = st.integers(0, 32767)
_node_ids = st.one_of(
    st.builds(ua.NodeId, st.integers(0, 2**32 - 1), st.integers(0, 65535)),
    st.builds(ua.NodeId, st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), _indexes),
    st.builds(ua.NodeId, st.uuids(), _indexes),
    st.builds(ua.NodeId, st.binary(min_size=1, max_size=12), _indexes),
)
_expanded = st.builds(
    ua.ExpandedNodeId,
    st.integers(0, 2**32 - 1) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=9),
    _indexes,
    NamespaceUri=st.none() | st.just("urn:plant"),
    ServerIndex=st.sampled_from([0, 3]),
)
_structures = st.one_of(
    st.builds(ua.Range, st.floats(), st.floats()),
    st.builds(
        ua.ExtensionObject,
        st.builds(ua.NodeId, st.integers(1, 2**32 - 1), st.integers(1, 9)),
        st.binary(min_size=1, max_size=20),
    ),
)
#: Values of every built-in type (OPC 10000-6 section 5.1.2), those that hold others apart.
SCALARS: dict[ua.VariantType, st.SearchStrategy[Any]] = {
    _T.Boolean: st.booleans(),
    _T.SByte: st.integers(-(2**7), 2**7 - 1),
    _T.Byte: st.integers(0, 2**8 - 1),
    _T.Int16: st.integers(-(2**15), 2**15 - 1),
    _T.UInt16: st.integers(0, 2**16 - 1),
    _T.Int32: st.integers(-(2**31), 2**31 - 1),
    _T.UInt32: st.integers(0, 2**32 - 1),
    _T.Int64: st.integers(-(2**63), 2**63 - 1),
    _T.UInt64: st.integers(0, 2**64 - 1),
    _T.Float: st.floats(width=32),
    _T.Double: st.floats(),
    _T.String: st.none() | _names,
    _T.DateTime: st.datetimes(timezones=st.just(UTC)),
    _T.Guid: st.uuids(),
    _T.ByteString: st.none() | st.binary(max_size=20),
    _T.XmlElement: _names.map(ua.XmlElement),
    _T.NodeId: _node_ids,
    _T.ExpandedNodeId: _expanded,
    _T.StatusCode: st.builds(ua.StatusCode, st.integers(0, 2**32 - 1)),
    _T.QualifiedName: st.builds(ua.QualifiedName, _names, _indexes),
    _T.LocalizedText: st.builds(ua.LocalizedText, st.none() | _names, st.none() | st.just("de")),
    _T.ExtensionObject: _structures,
    _T.DataValue: st.builds(ua.DataValue, st.integers(0, 9).map(lambda n: ua.Variant(n, _T.Int32))),
    _T.DiagnosticInfo: st.builds(
        ua.DiagnosticInfo, SymbolicId=st.none() | st.integers(0, 9), AdditionalInfo=st.none() | _names
    ),
}


@st.composite
def variants(draw: st.DrawFn, depth: int = 2) -> ua.Variant:
    """Scalars, arrays and arrays of several dimensions of every type; arrays of variants too."""
    form = draw(st.sampled_from(["scalar"] * 3 + ["array", "array", "matrix", "variants"]))
    if form == "variants" and depth:
        return ua.Variant(draw(st.lists(variants(depth - 1), max_size=3)), _T.Variant, is_array=True)
    type_ = draw(st.sampled_from(list(SCALARS)))
    values = SCALARS[type_]
    if form == "matrix":
        sizes: Any = draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
        return ua.Variant(_matrix(draw, values, sizes), type_, Dimensions=sizes, is_array=True)
    if form == "array":
        return ua.Variant(draw(st.none() | st.lists(values, max_size=4)), type_, is_array=True)
    return ua.Variant(draw(values), type_)


def _matrix(draw: st.DrawFn, values: st.SearchStrategy[Any], sizes: list[int]) -> list[Any]:
    if len(sizes) == 1:
        return [draw(values) for _ in range(sizes[0])]
    return [_matrix(draw, values, sizes[1:]) for _ in range(sizes[0])]


_ticks = st.integers(-(2**63), 2**63 - 1) | st.integers(13_300_000_000 * 10**7, 13_500_000_000 * 10**7)
#: The library turns stamps into instants at once, which have an end.
_library_ticks = st.integers(0, 250_000_000_000 * 10**7)
_codes = st.sampled_from([0, 0x480, 0x40910000, 0x80310000, 0x408F0480, 0xC0000000, 0x00960000])


@st.composite
def data_values(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A DataValue with any of its six flags, as the standard writes it and as the library reads it."""
    mask = draw(st.integers(0, 0x3F))
    value = variant_to_binary(draw(variants())) if mask & 0x01 else b""
    code = struct.pack("<I", draw(_codes | st.integers(0, 2**32 - 1))) if mask & 0x02 else b""
    source = struct.pack("<q", draw(_library_ticks)) if mask & 0x04 else b""
    server = struct.pack("<q", draw(_library_ticks)) if mask & 0x08 else b""
    source_pico = struct.pack("<H", draw(st.integers(0, 9999))) if mask & 0x10 else b""
    server_pico = struct.pack("<H", draw(st.integers(0, 9999))) if mask & 0x20 else b""
    head = bytes([mask]) + value + code + source
    return head + source_pico + server + server_pico, head + server + source_pico + server_pico


@given(st.lists(st.tuples(st.integers(0, 6), data_values()), max_size=6))
def test_every_type_and_flag_comes_out_as_by_the_library(
    items: list[tuple[int, tuple[bytes, bytes]]],
) -> None:
    ours, theirs = (
        publish_bytes(data_change(*(struct.pack("<I", handle) + value[side] for handle, value in items)))
        for side in (0, 1)
    )
    found = decode_publish(ours, 0, TAGS, NOW)
    found.complaints.clear()
    assert found == by_library.decode_publish(theirs, 0, TAGS, NOW)


_SIZES: Any = [2, 3]
_TWO_BY_THREE = ua.Variant([[1, 2, 3], [4, 5, 6]], _T.Int32, Dimensions=_SIZES, is_array=True)


@given(variants())
@example(_TWO_BY_THREE)
@example(ua.Variant([ua.Variant(1, _T.Int64), ua.Variant([True], _T.Boolean)], _T.Variant, is_array=True))
def test_raw_values_are_the_librarys(variant: ua.Variant) -> None:
    packed = variant_to_binary(variant)
    (reading,) = decode_read(read_bytes(b"\x01" + packed), 0)
    assert _comparable(reading.value) == _comparable(by_library.raw_of(variant))


def _comparable(value: Raw) -> Any:
    """NaN as a word: it equals nothing, itself included."""
    if isinstance(value, list):
        return [_comparable(inner) for inner in value]
    return "nan" if value != value else value


@given(st.lists(st.tuples(st.integers(0, 0x3E), _ticks, _codes), min_size=1, max_size=6))
def test_runs_of_one_layout_and_single_values_come_out_alike(rows: list[tuple[int, int, int]]) -> None:
    """The same values in a run, and with one of another type between each: two ways through the code."""
    items = []
    for number, (mask, ticks, code) in enumerate(rows, 1):
        stamps = struct.pack("<I", code) if mask & 0x02 else b""
        stamps += struct.pack("<q", ticks) if mask & 0x04 else b""
        stamps += b"\x01\x00" if mask & 0x10 else b""
        stamps += struct.pack("<q", ticks) if mask & 0x08 else b""
        stamps += b"\x02\x00" if mask & 0x20 else b""
        items.append(struct.pack("<IBBd", 1 + number % 3, mask | 1, 11, number / 3) + stamps)
    between = struct.pack("<IBB?", 4, 1, 1, True)
    together = decode_publish(publish_bytes(data_change(*items)), 0, TAGS, NOW)
    apart = Answer()
    for item in items:
        answer = decode_publish(publish_bytes(data_change(between, item, between)), 0, TAGS, NOW)
        apart.samples.append(answer.samples[1])
        apart.overflowed.extend(answer.overflowed)
    assert together.samples == apart.samples
    assert together.overflowed == apart.overflowed


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"\x86" + struct.pack("<iii", 2, 1, 2), "[1,2]"),
        (b"\x86" + struct.pack("<i", 0), "[]"),
        (b"\x81" + struct.pack("<i", 2) + b"\x01\x00", "[true,false]"),
        (b"\x89" + struct.pack("<iQ", 1, 2**64 - 1), "[18446744073709551615]"),
        (b"\x8b" + struct.pack("<idd", 2, 0.1, float("nan")), "[0.1,null]"),
        (b"\x8c" + struct.pack("<ii", 2, 2) + "ü".encode() + struct.pack("<i", -1), '["ü",""]'),
        (b"\xc6" + struct.pack("<iiiii", 4, 1, 2, 3, 4) + struct.pack("<iii", 2, 2, 2), "[[1,2],[3,4]]"),
        (b"\x98" + struct.pack("<i", 2) + b"\x01\x01\x03\x07", "[true,7]"),
    ],
)
def test_an_array_as_a_whole_is_one_text(body: bytes, value: str) -> None:
    sample = one(struct.pack("<IB", 1, 0x01) + body)
    assert (sample.value, sample.quality.value) == (value, "good")


def test_dimensions_that_do_not_fit_the_elements_make_the_value_unusable_not_the_message() -> None:
    for sizes in ((3, 2), (2**31 - 1, 2**31 - 1), (-2, -2), (0, 4), (1,) * 40):
        dimensions = struct.pack(f"<i{len(sizes)}i", len(sizes), *sizes)
        body = b"\xc6" + struct.pack("<iiiii", 4, 1, 2, 3, 4) + dimensions
        (reading, after) = decode_read(read_bytes(b"\x01" + body, b"\x01\x03\x07"), 0)
        assert reading.value is UNSUPPORTED
        assert after.value == 7


def test_long_arrays_are_stepped_over() -> None:
    for body in (
        b"\x86" + struct.pack("<i", 70_000) + bytes(4 * 70_000),
        b"\x8c" + struct.pack("<i", 70_000) + struct.pack("<i", -1) * 70_000,
        b"\x8d" + struct.pack("<i", 70_000) + bytes(8 * 70_000),
    ):
        reading, after = decode_read(read_bytes(b"\x01" + body, b"\x01\x03\x07"), 0)
        assert reading.value is UNSUPPORTED
        assert after.value == 7


def test_a_structure_keeps_its_bytes_until_its_type_is_known() -> None:
    body = b"\x16\x01\x02\x07\x00\x01" + struct.pack("<i", 3) + b"xyz"
    (reading,) = decode_read(read_bytes(b"\x01" + body), 0)
    assert reading.value == Body("ns=2;i=7", b"xyz")
    answer = decode_publish(publish_bytes(data_change(struct.pack("<IB", 1, 1) + body)), 0, TAGS, NOW)
    assert answer.complaints == {"plc/a": 'a structure (ns=2;i=7); name one of its fields with "field"'}


def test_times_of_clocks_that_were_never_set_are_no_times() -> None:
    for at, kept in (
        (datetime(1601, 1, 1, tzinfo=UTC), False),
        (datetime(1970, 1, 1, tzinfo=UTC), False),
        (datetime(2000, 1, 1, tzinfo=UTC), True),
        (datetime(2150, 1, 1, tzinfo=UTC), False),
    ):
        ticks = 116_444_736_000_000_000 + round(at.timestamp()) * 10**7
        sample = one(struct.pack("<IBBiq", 1, 0x05, 6, 3, ticks))
        assert (sample.value, sample.source_at) == (3, at if kept else None)
