"""A tag may be about a part of a value; and what happens when the value is not what was expected."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.opcua.config import OpcuaConnection, OpcuaTag
from connectors.opcua.decode import Answer, decode_publish
from connectors.opcua.picks import Picks, PickSyntaxError, Tags, parse_pick, picks_of
from connectors.opcua.structures import Definition, Field, Structures
from connectors.opcua.values import Body
from statemodel.types import Quality, TagSample
from tests.connectors.opcua.test_opcua_decode import NOW, SOURCE_AT, TAGS, TICKS, data_change, publish_bytes

MOTOR = Definition("ns=2;i=8", 0, (Field("speed", "i=11"), Field("name", "i=12")))
PUMP = Definition("ns=2;i=7", 0, (Field("id", "i=8"), Field("motor", "ns=2;i=2"), Field("runs", "i=6", 1)))


def tags(*picks: tuple[tuple[int, ...], str]) -> Tags:
    """Tags with picks from the first on, of a server with a Pump that has a Motor."""
    parsed = {handle: parse_pick(*pick) for handle, pick in enumerate(picks, 1)}
    made = Picks(TAGS, {handle: pick for handle, pick in parsed.items() if pick is not None})
    made.structures.definitions |= {"ns=2;i=1": PUMP, "ns=2;i=2": MOTOR}
    made.structures.by_encoding["ns=2;i=7"] = "ns=2;i=1"
    return Tags(TAGS, made)


def pump(id_: int = 2**60 + 1, speed: float = 1.5, name: bytes = b"M1", *, more: bytes = b"") -> bytes:
    """A Pump as a variant: an ExtensionObject (OPC 10000-6 section 5.2.2.15) around its fields in order."""
    motor = struct.pack("<d", speed) + struct.pack("<i", len(name)) + name
    fields = struct.pack("<q", id_) + motor + struct.pack("<iii", 2, 3, 4) + more
    return b"\x16\x01\x02" + struct.pack("<H", 7) + b"\x01" + struct.pack("<i", len(fields)) + fields


def change(handle: int, variant: bytes, code: int = 0) -> bytes:
    return struct.pack("<IB", handle, 0x07) + variant + struct.pack("<Iq", code, TICKS)


def answer_to(whom: Tags, *items: bytes) -> Answer:
    return decode_publish(publish_bytes(data_change(*items)), 0, whom, NOW)


def int32(value: int) -> bytes:
    return b"\x06" + struct.pack("<i", value)


def int32s(*values: int) -> bytes:
    return b"\x86" + struct.pack(f"<i{len(values)}i", len(values), *values)


def test_an_element_and_a_field_are_values_of_their_own_types() -> None:
    whom = tags(((1,), ""), ((), "motor.speed"), ((), "id"), ((), "runs[1]"))
    answer = answer_to(whom, change(1, int32s(7, 8, 9)), *(change(handle, pump()) for handle in (2, 3, 4)))
    assert [(s.tag, s.value, s.quality) for s in answer.samples] == [
        ("plc/a", 8, Quality.GOOD),
        ("plc/b", 1.5, Quality.GOOD),
        ("plc/c", 2**60 + 1, Quality.GOOD),
        ("plc/d", 4, Quality.GOOD),
    ]
    assert [s.source_at for s in answer.samples] == [SOURCE_AT] * 4
    assert not answer.complaints


def test_a_structure_within_a_structure_is_one_text() -> None:
    (sample,) = answer_to(tags(((), "motor")), change(1, pump())).samples
    assert sample.value == '{"speed":1.5,"name":"M1"}'


def test_an_element_of_an_array_of_structures() -> None:
    one = pump(speed=2.5)[1:]
    variant = b"\x96" + struct.pack("<i", 2) + pump()[1:] + one
    (sample,) = answer_to(tags(((1,), "motor.speed")), change(1, variant)).samples
    assert sample.value == 2.5


@pytest.mark.parametrize(
    ("pick", "variant", "substatus", "words"),
    [
        (((3,), ""), int32s(7, 8, 9), "no_such_element", "no such element"),
        (((0, 1), ""), int32s(7, 8, 9), "no_such_element", "no such element"),
        (((0,), ""), int32(7), "no_such_element", "no such element"),
        (((), "motor.torque"), pump(), "no_such_element", "no such element"),
        (((), "speed"), int32(7), "no_such_element", "no such element"),
        (
            ((), "id"),
            b"\x16\x01\x02\x09\x00\x01" + struct.pack("<i", 0),
            "unsupported_type",
            "does not define",
        ),
        (((), "id"), pump(more=b"\x00"), "unsupported_type", "does not fit"),
        (((), ""), pump(), "unsupported_type", 'name one of its fields with "field"'),
        (
            ((), ""),
            b"\x83" + struct.pack("<i", 3000) + bytes(3000),
            "too_long",
            'name one element with "index"',
        ),
    ],
)
def test_what_is_not_there_is_bad_and_says_why(
    pick: tuple[tuple[int, ...], str], variant: bytes, substatus: str, words: str
) -> None:
    answer = answer_to(tags(pick), change(1, variant), change(2, int32(5)))
    bad, good = answer.samples
    assert (bad.value, bad.quality, bad.substatus) == (None, Quality.BAD, substatus)
    assert (good.tag, good.value) == ("plc/b", 5)
    assert words in answer.complaints["plc/a"]
    assert "plc/b" not in answer.complaints


def test_a_run_of_scalars_gives_a_tag_of_an_element_nothing() -> None:
    """Scalars take the fast way through the code; the tag must not get the scalar for its element."""
    rows = [change(1 + place % 4, int32(place)) for place in range(8)]
    answer = answer_to(tags(((0,), "")), *rows)
    assert [s.value for s in answer.samples] == [None, 1, 2, 3, None, 5, 6, 7]
    assert answer.samples[0].substatus == "no_such_element"


def test_bad_and_null_values_stay_what_they_are_whatever_is_picked() -> None:
    whom = tags(((0,), ""), ((), "id"))
    answer = answer_to(
        whom, change(1, int32s(1), 0x80310000), change(2, pump(), 0x808B0000), change(1, int32s())
    )
    assert [s.substatus for s in answer.samples] == ["no_communication", "device_failure", "no_such_element"]
    (null,) = answer_to(whom, change(1, b"\x86" + struct.pack("<i", -1))).samples
    assert (null.value, null.substatus) == (None, "no_value")
    (uncertain,) = answer_to(whom, change(1, int32s(4), 0x40910000)).samples
    assert (uncertain.value, uncertain.quality, uncertain.substatus) == (
        4,
        Quality.UNCERTAIN,
        "substitute_value",
    )


def test_optional_fields_and_unions() -> None:
    known = Structures()
    optional = Definition(
        "e1", 1, (Field("a", "i=6", -1, True), Field("b", "i=6"), Field("c", "i=12", -1, True))
    )
    known.definitions |= {"t1": optional, "t2": Definition("e2", 2, (Field("n", "i=6"), Field("s", "i=12")))}
    known.by_encoding |= {"e1": "t1", "e2": "t2"}
    second = struct.pack("<Iii", 0b10, 5, 2) + b"hi"
    assert known.take_apart(Body("e1", second)) == {"a": None, "b": 5, "c": "hi"}
    assert known.take_apart(Body("e1", struct.pack("<Iii", 0b01, 1, 5))) == {"a": 1, "b": 5, "c": None}
    assert known.take_apart(Body("e2", struct.pack("<Ii", 1, 7))) == {"n": 7}
    assert known.take_apart(Body("e2", struct.pack("<I", 0))) == {}
    assert known.take_apart(Body("e2", struct.pack("<I", 3))) is None
    assert known.take_apart(Body("e3", b"")) is None


def test_types_that_hold_themselves_end() -> None:
    known = Structures()
    known.definitions["t"] = Definition("e", 0, (Field("t", "t"),))
    known.by_encoding["e"] = "t"
    assert known.unknown("t") == ""
    assert known.take_apart(Body("e", b"")) is None
    assert list(known.paths("t")) == []
    known.definitions["u"] = Definition("f", 0, (Field("v", "nobody"),))
    assert known.unknown("u") == "the server does not define its data type nobody"


@pytest.mark.parametrize(
    ("written", "steps"),
    [
        ({"index": 3}, (3,)),
        ({"index": "3"}, (3,)),
        ({"index": [1, 2]}, (1, 2)),
        ({"index": "1,2"}, (1, 2)),
        ({"field": "motors[2].speed"}, ("motors", 2, "speed")),
        ({"index": 1, "field": "speed"}, (1, "speed")),
        ({}, None),
    ],
)
def test_what_people_write(written: dict[str, Any], steps: tuple[int | str, ...] | None) -> None:
    tag = OpcuaTag.model_validate({"name": "a", "node": "i=1"} | written)
    settings = OpcuaConnection.model_validate(
        {
            "name": "plc",
            "protocol": "opcua",
            "endpoint": "opc.tcp://127.0.0.1",
            "groups": [
                {"name": "g", "interval": "1s", "tags": [{"name": "z", "node": "i=2"}, tag.model_dump()]}
            ],
        }
    )
    picks = picks_of(settings)
    assert {handle: pick.steps for handle, pick in picks.by_handle.items()} == ({2: steps} if steps else {})


@pytest.mark.parametrize(
    "written",
    [
        {"index": -1},
        {"index": 65_536},
        {"index": True},
        {"index": 1.5},
        {"index": []},
        {"field": "a..b"},
        {"field": "[1]"},
    ],
)
def test_what_is_no_element_or_field_is_refused(written: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OpcuaTag.model_validate({"name": "a", "node": "i=1"} | written)
    with pytest.raises(PickSyntaxError):
        parse_pick(None, "a.")


def _one(variant: bytes, code: int = 0, ticks: int = TICKS) -> TagSample:
    item = struct.pack("<IB", 1, 0x07) + variant + struct.pack("<Iq", code, ticks)
    (sample,) = decode_publish(publish_bytes(data_change(item)), 0, TAGS, NOW).samples
    return sample


_NAN = b"\x0b" + struct.pack("<d", math.nan)


@pytest.mark.parametrize(
    ("variant", "code", "quality", "substatus"),
    [
        (int32(6), 0x80000000, Quality.BAD, ""),
        (int32(6), 0x808C0000, Quality.BAD, "sensor_failure"),
        (int32(6), 0xC0000000, Quality.BAD, "status_c0000000"),
        (b"\x00", 0, Quality.BAD, "no_value"),
        (_NAN, 0, Quality.BAD, "not_a_number"),
        (_NAN, 0x40910000, Quality.BAD, "not_a_number"),
        (b"\x0b" + struct.pack("<d", math.inf), 0, Quality.BAD, "infinite"),
        (pump(), 0, Quality.BAD, "unsupported_type"),
    ],
)
def test_fault_29_no_value_under_a_quality_that_is_bad(
    variant: bytes, code: int, quality: Quality, substatus: str
) -> None:
    """Fault 29: a status, null, NaN or type nobody can use gives no value a state could be read from."""
    sample = _one(variant, code)
    assert (sample.value, sample.quality, sample.substatus) == (None, quality, substatus)


def test_fault_29_an_uncertain_value_is_passed_on_as_uncertain() -> None:
    sample = _one(int32(6), 0x408F0000)
    assert (sample.value, sample.quality) == (6, Quality.UNCERTAIN)
    assert sample.substatus == "no_communication_last_usable_value"


def test_fault_29_a_change_of_type_is_told_as_it_comes() -> None:
    """No number is made from a text, and none from a truth value: what the engine cannot read it says."""
    values = [
        _one(variant).value for variant in (int32(6), b"\x0c" + struct.pack("<i", 1) + b"6", b"\x01\x01")
    ]
    assert values == [6, "6", True]
    assert [type(value) for value in values] == [int, str, bool]


def test_fault_29_an_array_for_a_scalar_is_text_and_no_number() -> None:
    assert _one(int32s(6)).value == "[6]"


def test_fault_29_a_source_time_from_the_future_or_from_1601_is_dropped_or_kept_as_data() -> None:
    """A stamp that cannot be meant is dropped; one merely ahead stays data, for the engine to judge."""
    for at in (
        datetime(1601, 1, 1, tzinfo=UTC),
        datetime(1980, 1, 1, tzinfo=UTC),
        datetime(9999, 1, 1, tzinfo=UTC),
    ):
        ticks = 116_444_736_000_000_000 + round(at.timestamp()) * 10**7
        sample = _one(int32(6), ticks=ticks)
        assert (sample.value, sample.quality, sample.source_at) == (6, Quality.GOOD, None)
    ahead = datetime(2027, 1, 1, tzinfo=UTC)
    sample = _one(int32(6), ticks=116_444_736_000_000_000 + round(ahead.timestamp()) * 10**7)
    assert (sample.value, sample.source_at) == (6, ahead)
