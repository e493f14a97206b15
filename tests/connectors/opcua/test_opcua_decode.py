"""Our decoder against bytes written from the standard, against the library, and against nonsense."""

from __future__ import annotations

import math
import struct
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.opcua import decode
from connectors.opcua.binary import Malformed
from connectors.opcua.decode import decode_publish, decode_read, decode_texts
from connectors.opcua.values import Reading
from statemodel.types import Quality, TagSample
from tests.connectors.opcua import by_library

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
TAGS = ("", "plc/a", "plc/b", "plc/c", "plc/d")
#: 2026-11-21T22:07:03.25Z in 100 ns ticks since 1601.
TICKS = (
    116_444_736_000_000_000
    + round(datetime(2026, 11, 21, 22, 7, 3, tzinfo=UTC).timestamp()) * 10**7
    + 2_500_000
)
SOURCE_AT = datetime(2026, 11, 21, 22, 7, 3, 250_000, tzinfo=UTC)


def publish_bytes(
    *notifications: bytes, number: int = 7, available: tuple[int, ...] | None = (6, 7)
) -> bytes:
    """A PublishResponse (OPC 10000-4 5.14.5, OPC 10000-6 5.2), written field by field."""
    header = b"\x01\x00" + struct.pack("<H", 829) + struct.pack("<qII", TICKS, 4, 0) + b"\x00"
    header += struct.pack("<i", -1) + b"\x00\x00\x00"
    numbers = struct.pack("<i", -1)
    if available is not None:
        numbers = struct.pack(f"<i{len(available)}I", len(available), *available)
    message = (
        struct.pack("<Iq", number, TICKS) + struct.pack("<i", len(notifications)) + b"".join(notifications)
    )
    return header + struct.pack("<I", 3) + numbers + b"\x00" + message + struct.pack("<ii", -1, -1)


def data_change(*items: bytes) -> bytes:
    body = struct.pack("<i", len(items)) + b"".join(items) + struct.pack("<i", -1)
    return b"\x01\x00" + struct.pack("<H", 811) + b"\x01" + struct.pack("<i", len(body)) + body


def one(item: bytes) -> TagSample:
    (sample,) = decode_publish(publish_bytes(data_change(item)), 0, TAGS, NOW).samples
    return sample


def test_the_envelope() -> None:
    answer = decode_publish(publish_bytes(data_change()), 0, TAGS, NOW)
    assert (answer.status, answer.subscription, answer.number) == (0, 3, 7)
    assert answer.available == (6, 7)
    assert answer.has_data
    assert decode_publish(publish_bytes(available=None), 0, TAGS, NOW).available is None


def test_an_empty_array_is_as_much_a_keep_alive_as_a_null_one() -> None:
    empty = publish_bytes()
    null = empty.replace(struct.pack("<Iqi", 7, TICKS, 0), struct.pack("<Iqi", 7, TICKS, -1))
    assert null != empty
    for message in (empty, null):
        assert not decode_publish(message, 0, TAGS, NOW).has_data


@pytest.mark.parametrize(
    ("number", "form", "value"),
    [
        (1, "<?", True),
        (2, "<b", -128),
        (3, "<B", 255),
        (4, "<h", -32768),
        (5, "<H", 65535),
        (6, "<i", -(2**31)),
        (7, "<I", 2**32 - 1),
        (8, "<q", -(2**63)),
        (9, "<Q", 2**64 - 1),
        (10, "<f", 0.5),
        (11, "<d", 0.1),
    ],
)
def test_numbers_are_exact(number: int, form: str, value: Any) -> None:
    item = struct.pack("<IBB", 2, 0x05, number) + struct.pack(form, value) + struct.pack("<q", TICKS)
    sample = one(item)
    assert sample == TagSample("plc/b", value, Quality.GOOD, SOURCE_AT, NOW)
    assert type(sample.value) is type(value)


def test_picoseconds_follow_their_own_stamp() -> None:
    # OPC 10000-6 table 26: source time, source picoseconds, server time, server picoseconds.
    item = struct.pack("<IBB", 1, 0x3D, 6) + struct.pack("<iqHqH", 42, TICKS, 11, TICKS + 5, 12)
    text = (
        struct.pack("<IBB", 2, 0x3D, 12)
        + struct.pack("<i", 2)
        + b"ok"
        + struct.pack("<qHqH", TICKS, 1, TICKS, 2)
    )
    samples = decode_publish(publish_bytes(data_change(item, text, item)), 0, TAGS, NOW).samples
    assert [(s.tag, s.value, s.source_at) for s in samples] == [
        ("plc/a", 42, SOURCE_AT),
        ("plc/b", "ok", SOURCE_AT),
        ("plc/a", 42, SOURCE_AT),
    ]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"\x0c" + struct.pack("<i", 7) + "Füller".encode(), "Füller"),
        (b"\x0c" + struct.pack("<i", -1), ""),
        (b"\x0c" + struct.pack("<i", 2) + b"a\xff", "a\ufffd"),
        (b"\x0d" + struct.pack("<q", TICKS), "2026-11-21T22:07:03.250000Z"),
        (
            b"\x0e" + uuid.UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63").bytes_le,
            "72962b91-fa75-4ae6-8d28-b404dc7daf63",
        ),
        (b"\x0f" + struct.pack("<i", 2) + b"\x0a\xff", "0aff"),
        (b"\x11\x03" + struct.pack("<Hi", 2, 3) + b"Pos", "ns=2;s=Pos"),
        (b"\x13" + struct.pack("<I", 0x80310000), 0x80310000),
        (b"\x14" + struct.pack("<Hi", 2, 3) + b"Pos", "2:Pos"),
        (b"\x15\x03" + struct.pack("<i", 2) + b"de" + struct.pack("<i", 4) + b"Halt", "Halt"),
    ],
)
def test_text_of_every_kind(body: bytes, value: str | int) -> None:
    assert one(struct.pack("<IB", 1, 0x01) + body) == TagSample("plc/a", value, Quality.GOOD, None, NOW)


@pytest.mark.parametrize(
    ("item", "quality", "substatus"),
    [
        (b"\x02" + struct.pack("<I", 0x80310000), Quality.BAD, "no_communication"),
        (b"\x03\x06" + struct.pack("<iI", 5, 0x808B0000), Quality.BAD, "device_failure"),
        (b"\x00", Quality.BAD, "no_value"),
        (b"\x01\x00", Quality.BAD, "no_value"),
        (b"\x01\x0b" + struct.pack("<d", math.nan), Quality.BAD, "not_a_number"),
        (b"\x01\x0a" + struct.pack("<f", -math.inf), Quality.BAD, "infinite"),
        (b"\x01\x96" + struct.pack("<i", 1) + b"\x00\x00\x00", Quality.BAD, "unsupported_type"),
        (b"\x01\x86" + struct.pack("<i", -1), Quality.BAD, "no_value"),
        (b"\x01\x83" + struct.pack("<i", 3000) + bytes(3000), Quality.BAD, "too_long"),
        (b"\x01\x16\x01\x02\x07\x00\x01" + struct.pack("<i", 3) + b"xyz", Quality.BAD, "unsupported_type"),
    ],
)
def test_what_is_no_good_scalar_has_no_value(item: bytes, quality: Quality, substatus: str) -> None:
    after = struct.pack("<IBBi", 2, 0x01, 6, 9)
    message = publish_bytes(data_change(struct.pack("<I", 1) + item, after))
    bad, good = decode_publish(message, 0, TAGS, NOW).samples
    assert (bad.value, bad.quality, bad.substatus) == (None, quality, substatus)
    assert (good.tag, good.value) == ("plc/b", 9), "the next item is read from the right place"


def test_an_uncertain_value_stays_with_its_quality() -> None:
    sample = one(struct.pack("<IBBdI", 1, 0x03, 11, 2.5, 0x40910000))
    assert (sample.value, sample.quality, sample.substatus) == (2.5, Quality.UNCERTAIN, "substitute_value")


def test_the_overflow_bit_names_the_tag_and_leaves_the_value_good() -> None:
    full = struct.pack("<IBBiI", 1, 0x03, 6, 5, 0x00000480)
    other = struct.pack("<IBBiI", 2, 0x03, 6, 6, 0)
    answer = decode_publish(publish_bytes(data_change(full, other)), 0, TAGS, NOW)
    assert answer.overflowed == ["plc/a"]
    assert [s.quality for s in answer.samples] == [Quality.GOOD, Quality.GOOD]


def test_notifications_nobody_asked_for_are_counted_not_believed() -> None:
    items = [struct.pack("<IBBi", handle, 0x01, 6, 5) for handle in (0, 5, 1, 2**32 - 1)]
    text = struct.pack("<IBBi", 9, 0x01, 12, 1) + b"x"
    answer = decode_publish(publish_bytes(data_change(*items, text)), 0, TAGS, NOW)
    assert [s.tag for s in answer.samples] == ["plc/a"]
    assert answer.strangers == 4


def test_a_status_change_is_told() -> None:
    change = b"\x01\x00" + struct.pack("<H", 820) + b"\x01" + struct.pack("<iIB", 5, 0x800A0000, 0)
    assert decode_publish(publish_bytes(change), 0, TAGS, NOW).status_change == 0x800A0000


def test_a_service_fault_is_a_status() -> None:
    fault = (
        b"\x01\x00"
        + struct.pack("<HqII", 397, TICKS, 4, 0x80790000)
        + b"\x00"
        + struct.pack("<i", -1)
        + bytes(3)
    )
    assert decode_publish(fault, 0, TAGS, NOW).status == 0x80790000


DIAGNOSTICS = b"\x7f" + struct.pack("<iiiii", 1, 2, 3, 4, 2) + b"no" + struct.pack("<I", 0x80000000) + b"\x00"


def test_diagnostics_are_stepped_over() -> None:
    inside = struct.pack("<IBB", 1, 0x01, 25) + DIAGNOSTICS
    message = publish_bytes(data_change(inside, struct.pack("<IBBi", 2, 0x01, 6, 9)))
    first, second = decode_publish(message, 0, TAGS, NOW).samples
    assert (first.substatus, second.value) == ("unsupported_type", 9)
    header = struct.pack("<qII", TICKS, 4, 0)
    told = message.replace(header + b"\x00", header + DIAGNOSTICS, 1)
    assert decode_publish(told, 0, TAGS, NOW).samples == [first, second]


def read_bytes(*values: bytes) -> bytes:
    """A ReadResponse (OPC 10000-4 5.11.2)."""
    header = b"\x01\x00" + struct.pack("<HqII", 634, TICKS, 4, 0) + b"\x00" + struct.pack("<i", -1) + bytes(3)
    return header + struct.pack("<i", len(values)) + b"".join(values) + struct.pack("<i", -1)


def test_a_read_response_gives_each_value_with_status_and_time() -> None:
    message = read_bytes(
        b"\x05\x06" + struct.pack("<iq", 42, TICKS),
        b"\x02" + struct.pack("<I", 0x80340000),
        b"\x01\x86" + bytes(4),
    )
    assert decode_read(message, 0) == [
        Reading(42, 0, TICKS),
        Reading(None, 0x80340000, None),
        Reading([], 0, None),
    ]
    texts = b"\x01\x8c" + struct.pack("<ii", 2, 1) + b"a" + struct.pack("<i", 1) + b"b"
    assert decode_texts(read_bytes(texts), 0) == ("a", "b")
    for other in (
        read_bytes(),
        read_bytes(b"\x00"),
        read_bytes(b"\x01\x06" + bytes(4)),
        read_bytes(texts)[:-8],
    ):
        with pytest.raises(Malformed):
            decode_texts(other, 0)


def test_lengths_are_not_believed() -> None:
    for item in (
        struct.pack("<IBBi", 1, 0x01, 12, 2**31 - 1),
        struct.pack("<IBBi", 1, 0x01, 0x86, 2**31 - 1),
        struct.pack("<IBBi", 1, 0x01, 0x8C, 2**31 - 1),
        struct.pack("<IBB", 1, 0x01, 24) + b"\x18" * 1000,
        struct.pack("<IBBi", 1, 0x01, 0x80, 2**31 - 1),
    ):
        with pytest.raises(Malformed):
            decode_publish(publish_bytes(data_change(item)), 0, TAGS, NOW)


_names = st.text(max_size=20)
_node_ids = st.one_of(
    st.builds(ua.NodeId, st.integers(0, 2**32 - 1), st.integers(0, 65535)),
    st.builds(ua.NodeId, st.text(min_size=1, max_size=20), st.integers(0, 65535)),
    st.builds(ua.NodeId, st.uuids(), st.integers(0, 65535)),
    st.builds(ua.NodeId, st.binary(min_size=1, max_size=20), st.integers(0, 65535)),
)
_T = ua.VariantType
_floats = st.floats(width=32)
_scalars: dict[ua.VariantType, st.SearchStrategy[Any]] = {
    _T.Boolean: st.booleans(),
    _T.SByte: st.integers(-(2**7), 2**7 - 1),
    _T.Byte: st.integers(0, 2**8 - 1),
    _T.Int16: st.integers(-(2**15), 2**15 - 1),
    _T.UInt16: st.integers(0, 2**16 - 1),
    _T.Int32: st.integers(-(2**31), 2**31 - 1),
    _T.UInt32: st.integers(0, 2**32 - 1),
    _T.Int64: st.integers(-(2**63), 2**63 - 1),
    _T.UInt64: st.integers(0, 2**64 - 1),
    _T.Float: _floats,
    _T.Double: st.floats(),
    _T.String: st.none() | _names,
    _T.DateTime: st.datetimes(timezones=st.just(UTC)),
    _T.Guid: st.uuids(),
    _T.ByteString: st.none() | st.binary(max_size=20),
    _T.NodeId: _node_ids,
    _T.StatusCode: st.builds(ua.StatusCode, st.integers(0, 2**32 - 1)),
    # The library packs this index as a signed number.
    _T.QualifiedName: st.builds(ua.QualifiedName, _names, st.integers(0, 32767)),
    _T.LocalizedText: st.builds(ua.LocalizedText, st.none() | _names, st.none() | st.just("de")),
}


@st.composite
def _variants(draw: st.DrawFn) -> ua.Variant:
    type_ = draw(st.sampled_from(list(_scalars)))
    if draw(st.integers(0, 9)) == 0:
        return ua.Variant(draw(st.lists(_scalars[type_], max_size=4)), type_, is_array=True)
    return ua.Variant(draw(_scalars[type_]), type_)


_codes = st.none() | st.builds(
    ua.StatusCode,
    st.sampled_from([0, 0x480, 0x40910000, 0x80310000, 0x408F0480, 0xC0000000, 0x00960000])
    | st.integers(0, 2**32 - 1),
)
_stamps = st.none() | st.datetimes(datetime(1601, 1, 2), datetime(2150, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def _items(draw: st.DrawFn) -> ua.MonitoredItemNotification:
    value = ua.DataValue(
        Value=draw(st.none() | _variants()),
        StatusCode=draw(_codes),
        SourceTimestamp=draw(_stamps),
        ServerTimestamp=draw(_stamps),
    )
    return ua.MonitoredItemNotification(ClientHandle=draw(st.integers(0, 6)), Value=value)


def _response(items: list[ua.MonitoredItemNotification]) -> bytes:
    response: Any = ua.PublishResponse()
    response.Parameters.SubscriptionId = 3
    response.Parameters.AvailableSequenceNumbers = [6, 7]
    response.Parameters.NotificationMessage.SequenceNumber = 7
    response.Parameters.NotificationMessage.NotificationData = [
        ua.DataChangeNotification(MonitoredItems=items)
    ]
    return struct_to_binary(response)


@settings(max_examples=400, deadline=None)
@given(st.lists(_items(), max_size=8))
def test_it_says_the_same_as_the_library(items: list[ua.MonitoredItemNotification]) -> None:
    message = _response(items)
    ours = decode_publish(message, 0, TAGS, NOW)
    theirs = by_library.decode_publish(message, 0, TAGS, NOW)
    assert ours == theirs


@settings(max_examples=400, deadline=timedelta(seconds=1))
@given(st.lists(_items(), min_size=1, max_size=4), st.data())
def test_damaged_messages_end_in_words_not_in_a_crash(
    items: list[ua.MonitoredItemNotification], data: st.DataObject
) -> None:
    message = bytearray(_response(items))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(message[: data.draw(st.integers(0, len(message)))])
    for reader in (decode.decode_publish, decode.decode_republish):
        try:
            answer = reader(cut, 0, TAGS, NOW)
        except Malformed:
            continue
        assert all(sample.tag in TAGS[1:] for sample in answer.samples)
