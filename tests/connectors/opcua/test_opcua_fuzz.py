"""Damaged messages against every decoder that reads what a server sends.

Sound messages are damaged in the ways that hurt: bits, lengths of two gigabytes and below zero, types, pieces
left out, doubled and swapped. Whatever comes, a decoder gives values that are in the message or raises
`Malformed`, soon and in little memory. `ANDON_TEST_PROFILE=long` damages ten times as many.
"""

from __future__ import annotations

import math
import os
import random
import re
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary, variant_to_binary

from connectors.opcua import decode
from connectors.opcua.address_space import BROWSE_NEXT_RESPONSE, BROWSE_RESPONSE, decode_browse
from connectors.opcua.binary import Malformed
from connectors.opcua.decode import Answer, decode_publish, decode_read, decode_republish, decode_texts
from connectors.opcua.picks import Picks, Tags, complaint, parse_pick
from connectors.opcua.structures import (
    Definition,
    Enumeration,
    Field,
    engineering_unit,
    enum_value,
    parse_definition,
    range_of,
)
from connectors.opcua.values import TEXT_MAX, Body, judge
from statemodel.types import Quality, TagSample
from tests.connectors.opcua import by_library
from tests.connectors.opcua.test_opcua_decode import NOW, TAGS, TICKS, data_change, publish_bytes, read_bytes

MESSAGES = 200_000 if os.environ.get("ANDON_TEST_PROFILE") == "long" else 20_000
#: Longest any one message may take of the processor; a thousand times what a sound one takes.
_SECONDS_MAX = 1.0
_T = ua.VariantType

PUMP = Definition("ns=2;i=7", 0, (Field("id", "i=8"), Field("motor", "ns=2;i=2"), Field("temps", "i=10", 1)))
MOTOR = Definition(
    "ns=2;i=8", 1, (Field("speed", "i=11"), Field("name", "i=12", -1, True), Field("mode", "i=29"))
)
PUMP_BYTES = (
    struct.pack("<qId", 2**60, 1, 1.5) + struct.pack("<i", 2) + b"M1" + struct.pack("<iiff", 1, 2, 1.0, 2.5)
)


def picked_tags() -> Tags:
    """Tags about an element, a field, and whole values."""
    found = {1: parse_pick((1,), ""), 2: parse_pick(None, "motor.speed")}
    picks = Picks(TAGS, {handle: pick for handle, pick in found.items() if pick is not None})
    picks.structures.definitions |= {"ns=2;i=1": PUMP, "ns=2;i=2": MOTOR}
    picks.structures.by_encoding |= {"ns=2;i=7": "ns=2;i=1", "ns=2;i=8": "ns=2;i=2"}
    return Tags(TAGS, picks)


def _variants() -> Iterator[bytes]:
    scalars: list[tuple[Any, ua.VariantType]] = [
        (True, _T.Boolean),
        (-5, _T.SByte),
        (200, _T.Byte),
        (-3000, _T.Int16),
        (60000, _T.UInt16),
        (-(2**31), _T.Int32),
        (2**32 - 1, _T.UInt32),
        (-(2**63), _T.Int64),
        (2**64 - 1, _T.UInt64),
        (0.5, _T.Float),
        (0.1, _T.Double),
        ("Füller", _T.String),
        (NOW, _T.DateTime),
        (b"\x01\xff", _T.ByteString),
        (ua.NodeId("Pos", 2), _T.NodeId),
        (ua.ExpandedNodeId(7, 2, NamespaceUri="urn:x", ServerIndex=1), _T.ExpandedNodeId),
        (ua.StatusCode(0x80310000), _T.StatusCode),
        (ua.QualifiedName("Pos", 2), _T.QualifiedName),
        (ua.LocalizedText("Halt", "de"), _T.LocalizedText),
        (ua.Range(1.0, 2.0), _T.ExtensionObject),
        (ua.DataValue(ua.Variant(1, _T.Int32)), _T.DataValue),
        (ua.DiagnosticInfo(SymbolicId=3, AdditionalInfo="no"), _T.DiagnosticInfo),
    ]
    for value, type_ in scalars:
        yield variant_to_binary(ua.Variant(value, type_))
        yield variant_to_binary(ua.Variant([value, value], type_, is_array=True))
    sizes: Any = [2, 2]
    yield variant_to_binary(ua.Variant([[1, 2], [3, 4]], _T.Int32, Dimensions=sizes, is_array=True))
    yield variant_to_binary(ua.Variant([ua.Variant([True], _T.Boolean)], _T.Variant, is_array=True))
    yield b"\x16\x01\x02\x07\x00\x01" + struct.pack("<i", len(PUMP_BYTES)) + PUMP_BYTES


def _data_values(rng: random.Random) -> Iterator[bytes]:
    for variant in _variants():
        mask = 1 | rng.choice((0, 4, 4, 12, 0x3E, 2, 6))
        code = struct.pack("<I", rng.choice((0, 0x480, 0x40910000, 0x80310000))) if mask & 2 else b""
        rest = struct.pack("<q", TICKS) if mask & 4 else b""
        rest += b"\x01\x00" if mask & 0x10 else b""
        rest += struct.pack("<q", TICKS) if mask & 8 else b""
        rest += b"\x02\x00" if mask & 0x20 else b""
        yield bytes([mask]) + variant + code + rest


def _browse_bytes(number: int) -> bytes:
    response: Any = ua.BrowseResponse() if number == BROWSE_RESPONSE else ua.BrowseNextResponse()
    result: Any = ua.BrowseResult()
    result.ContinuationPoint = b"next"
    for place in range(3):
        one: Any = ua.ReferenceDescription()
        one.ReferenceTypeId = ua.NodeId(35)
        one.NodeId = ua.ExpandedNodeId(f"Plant.{place}", 2)
        one.BrowseName = ua.QualifiedName(f"Tag {place}", 2)
        one.DisplayName = ua.LocalizedText(f"Tag {place}", "en")
        one.NodeClass = ua.NodeClass.Variable
        one.TypeDefinition = ua.ExpandedNodeId(63)
        result.References.append(one)
    if number == BROWSE_RESPONSE:
        response.Results = [result, result]
    else:
        response.Parameters.Results = [result, result]
    return bytes(struct_to_binary(response))


def corpus(rng: random.Random) -> list[tuple[str, bytes]]:
    """Sound messages by what reads them; small, so that most damage hits something that matters."""
    values = list(_data_values(rng))
    found = []
    for start in range(0, len(values), 3):
        part = values[start : start + 3]
        items = [struct.pack("<I", 1 + place % 4) + value for place, value in enumerate(part)]
        found.append(("publish", publish_bytes(data_change(*items))))
        found.append(("read", read_bytes(*part)))
    run = [struct.pack("<IBBdq", 1 + place % 4, 5, 11, place / 3, TICKS) for place in range(6)]
    texts = [struct.pack("<IBBi", 1 + place % 4, 1, 12, place) + b"x" * place for place in range(5)]
    change = b"\x01\x00" + struct.pack("<H", 820) + b"\x01" + struct.pack("<iIB", 5, 0x800A0000, 0)
    found += [("publish", publish_bytes(data_change(*run), data_change(*texts), change))] * 4
    published = publish_bytes(data_change(*run, *texts))
    head = published.index(struct.pack("<I", 3) + struct.pack("<i", 2))
    again = (
        published[:head].replace(struct.pack("<H", 829), struct.pack("<H", 835)) + published[head + 17 : -8]
    )
    found += [("republish", again)] * 2
    found += [("browse", _browse_bytes(BROWSE_RESPONSE))] * 3
    found.append(("browse next", _browse_bytes(BROWSE_NEXT_RESPONSE)))
    names = b"\x01\x8c" + struct.pack("<ii", 2, 1) + b"a" + struct.pack("<i", 1) + b"b"
    found.append(("texts", read_bytes(names)))
    found.append(("structure", PUMP_BYTES))
    definition = ua.StructureDefinition(Fields=[ua.StructureField(Name="speed", DataType=ua.NodeId(11))] * 3)
    found.append(("definition", bytes(struct_to_binary(definition))))
    enumeration = ua.EnumDefinition(
        Fields=[ua.EnumField(Value=1, Name="On", DisplayName=ua.LocalizedText("On"))]
    )
    found.append(("enumeration", bytes(struct_to_binary(enumeration))))
    unit = ua.EUInformation(NamespaceUri="urn:u", UnitId=1, DisplayName=ua.LocalizedText("°C"))
    found.append(("small", bytes(struct_to_binary(unit))))
    return found


_LENGTHS = (2**31 - 1, -1, -(2**31), 2**30, 0, 1, 65_537, -2)


def damaged(rng: random.Random, message: bytes) -> bytes:
    """A message with one to four faults."""
    data = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(8):
            case 0 | 1 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 2 if data:
                data[at] = rng.choice(
                    (0, 0x16, 0x18, 0x19, 0x3F, 0x80, 0x96, 0x98, 0xC6, 0xFF, rng.randrange(256))
                )
            case 3 if len(data) > 4:
                struct.pack_into("<i", data, min(at, len(data) - 4), rng.choice(_LENGTHS))
            case 4:
                del data[at:]
            case 5:
                del data[at : at + rng.randint(1, 8)]
            case 6:
                data[at:at] = data[at : at + rng.randint(1, 40)]
            case _:
                data[at:at] = bytes([rng.choice((0x98, 0x18, 0x19, 0x16, 0))]) * rng.randint(1, 64)
    return bytes(data)


def _check(answer: Answer, message: bytes) -> None:
    for sample in answer.samples:
        assert sample.tag in TAGS[1:]
        assert isinstance(sample.value, bool | int | float | str | None)
        if isinstance(sample.value, float):
            assert math.isfinite(sample.value)
        if isinstance(sample.value, str):
            assert len(sample.value) <= max(TEXT_MAX, 2 * len(message))
        assert (sample.value is None) == (sample.quality is Quality.BAD)


def _structure(message: bytes, tags: Tags) -> None:
    body = Body("ns=2;i=7", message)
    fields = tags.picks.structures.take_apart(body)
    if fields is not None:
        judge(fields, 0)
    complaint(body, body, tags.picks.structures)


def _definition(type_id: str) -> Callable[[bytes], Definition | Enumeration | None]:
    return lambda message: parse_definition(Body(type_id, message))


def _slowly(message: bytes, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """The same by the path that knows no layouts."""
    with monkeypatch.context() as patch:
        patch.setattr(decode, "_LAYOUTS", {})
        return decode_publish(message, 0, TAGS, NOW)


def test_damage_ends_in_values_that_were_sent_or_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(20261122)
    messages = corpus(rng)
    tags = picked_tags()
    for kind, message in messages:
        _read(kind, message, tags, monkeypatch)
    sound = 0
    for number in range(MESSAGES):
        kind, message = messages[number % len(messages)]
        damage = damaged(rng, message)
        begun = time.thread_time()
        try:
            _read(kind, damage, tags, monkeypatch)
            sound += 1
        except Malformed:
            pass
        except Exception as error:
            raise AssertionError(f"{kind} {damage.hex()}") from error
        assert time.thread_time() - begun < _SECONDS_MAX, f"{kind} {damage.hex()}"
    # Damage inside a value leaves a message that can be read; if all were refused, nothing was tried.
    assert MESSAGES // 10 < sound < MESSAGES - MESSAGES // 10


def _read(kind: str, message: bytes, tags: Tags, monkeypatch: pytest.MonkeyPatch) -> None:
    match kind:
        case "publish":
            _check(decode_publish(message, 0, tags, NOW), message)
            answer = decode_publish(message, 0, TAGS, NOW)
            _check(answer, message)
            assert answer == _slowly(message, monkeypatch)
        case "republish":
            _check(decode_republish(message, 0, tags, NOW), message)
        case "read":
            for reading in decode_read(message, 0):
                judge(reading.value, reading.code)
        case "texts":
            decode_texts(message, 0)
        case "browse":
            decode_browse(message, BROWSE_RESPONSE)
        case "browse next":
            decode_browse(message, BROWSE_NEXT_RESPONSE)
        case "structure":
            _structure(message, tags)
        case "definition":
            _definition("i=122")(message)
        case "enumeration":
            _definition("i=123")(message)
        case _:
            engineering_unit(Body("i=889", message))
            enum_value(Body("i=8251", message))
            range_of(Body("i=886", message[:16]))


@pytest.mark.parametrize("number", [12, 6, 22, 24, 23, 25, 0, 14, 15, 20, 21, 17])
def test_lengths_of_two_gigabytes_cost_no_memory(number: int) -> None:
    claims = [struct.pack("<IBBi", 1, 1, 0x80 | number, count) for count in (2**31 - 1, 2**30, 70_000)]
    if number in (12, 15):
        claims.append(struct.pack("<IBBi", 1, 1, number, 2**31 - 1))
    tracemalloc.start()
    try:
        for item in claims:
            with pytest.raises(Malformed):
                decode_publish(publish_bytes(data_change(item)), 0, TAGS, NOW)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_ten_thousand_levels_are_refused_at_the_sixteenth() -> None:
    for deep in (b"\x18" * 10_000, (b"\x98" + struct.pack("<i", 1)) * 10_000, b"\x17\x01" * 10_000):
        with pytest.raises(Malformed, match="nested"):
            decode_publish(publish_bytes(data_change(struct.pack("<IB", 1, 1) + deep)), 0, TAGS, NOW)
    chain = struct.pack("<IBB", 1, 1, 25) + b"\x40" * 10_000
    with pytest.raises(Malformed, match="nested"):
        decode_publish(publish_bytes(data_change(chain)), 0, TAGS, NOW)


def test_a_notification_ends_where_it_says() -> None:
    inside = struct.pack("<i", 1) + struct.pack("<IBBi", 1, 1, 6, 5) + struct.pack("<i", -1)
    head = b"\x01\x00" + struct.pack("<H", 811) + b"\x01"
    (whole,) = decode_publish(
        publish_bytes(head + struct.pack("<i", len(inside)) + inside), 0, TAGS, NOW
    ).samples
    assert whole.value == 5
    with pytest.raises(Malformed, match="goes on"):
        decode_publish(publish_bytes(head + struct.pack("<i", len(inside) - 4) + inside), 0, TAGS, NOW)


def _as_good(ours: TagSample, theirs: TagSample) -> bool:
    """The same, or refused by us alone: lengths below -1 and dimensions that do not fit, which it lets pass.

    The library reads the namespace of a QualifiedName as a signed number.
    """
    if ours == theirs or ours.value is None:
        return True
    return isinstance(theirs.value, str) and re.sub(r"-\d+:", "", theirs.value) != theirs.value


def test_where_the_library_can_read_a_damaged_message_it_reads_the_same() -> None:
    """Only values without fractions of time stamps, which the library has in another place."""
    rng = random.Random(7)
    items = [struct.pack("<IB", 1 + place % 4, 1) + variant for place, variant in enumerate(_variants())]
    messages = [publish_bytes(data_change(*items[start : start + 3])) for start in range(0, len(items), 3)]
    compared = 0
    for number in range(MESSAGES // 20):
        message = bytearray(messages[number % len(messages)])
        for _ in range(rng.randint(1, 2)):
            message[rng.randrange(60, len(message))] ^= 1 << rng.randrange(8)
        damage = bytes(message)
        try:
            ours = decode_publish(damage, 0, TAGS, NOW)
        except Malformed:
            continue
        try:
            theirs = by_library.decode_publish(damage, 0, TAGS, NOW)
        except Exception:
            continue
        compared += 1
        assert len(ours.samples) == len(theirs.samples), damage.hex()
        pairs = zip(ours.samples, theirs.samples, strict=True)
        assert all(_as_good(*pair) for pair in pairs), damage.hex()
    assert compared > MESSAGES // 200
