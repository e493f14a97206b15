"""Settings: every written form of an address, and every mistake with its reason and hint."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import connectors.modbus
from connectors.modbus import PROTOCOL
from connectors.modbus.config import ModbusSettings, Place
from connectors.modbus.layout import (
    Address,
    Kind,
    LayoutError,
    Order,
    Range,
    Table,
    parse_address,
    parse_range,
    parse_type,
)
from connectors.modbus.tags import ModbusTag
from connectors.settings import Bare

FOLDER = Path(connectors.modbus.__file__).parent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("holding:100", Address(Table.HOLDING, 100)),
        ("holding:0", Address(Table.HOLDING, 0)),
        ("holding:65535", Address(Table.HOLDING, 65535)),
        ("input:7", Address(Table.INPUT, 7)),
        ("coil:3", Address(Table.COIL, 3)),
        ("discrete:12", Address(Table.DISCRETE, 12)),
        ("holding:100.4", Address(Table.HOLDING, 100, 4)),
        ("input:7.15", Address(Table.INPUT, 7, 15)),
        (" Holding:100 ", Address(Table.HOLDING, 100)),
        ("40001", Address(Table.HOLDING, 0)),
        ("40101", Address(Table.HOLDING, 100)),
        ("49999", Address(Table.HOLDING, 9998)),
        ("400001", Address(Table.HOLDING, 0)),
        ("400101", Address(Table.HOLDING, 100)),
        ("465536", Address(Table.HOLDING, 65535)),
        ("30001", Address(Table.INPUT, 0)),
        ("300008", Address(Table.INPUT, 7)),
        ("10001", Address(Table.DISCRETE, 0)),
        ("165536", Address(Table.DISCRETE, 65535)),
        ("00001", Address(Table.COIL, 0)),
        ("000004", Address(Table.COIL, 3)),
        ("40101.4", Address(Table.HOLDING, 100, 4)),
    ],
)
def test_addresses_mean_what_the_field_means_by_them(text: str, expected: Address) -> None:
    assert parse_address(text) == expected
    assert parse_address(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a Modbus address"),
        ("100", "not a Modbus address"),
        ("4101", "not a Modbus address"),
        ("4000001", "not a Modbus address"),
        ("holding", "not a Modbus address"),
        ("holding:-1", "not a Modbus address"),
        ("holding:1.", "not a Modbus address"),
        ("holding:٣", "not a Modbus address"),
        ("register:1", 'no table "register"'),
        ("holding:65536", "beyond the end"),
        ("465537", "beyond the end"),
        ("holding:1.16", "no bit 16"),
        ("coil:1.0", "one bit already"),
        ("20001", "no reference number"),
        ("90001", "no reference number"),
        ("00000", "count from 1"),
        ("40000", 'address 40000 on the wire is written "holding:40000"'),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(LayoutError, match="; ") as caught:
        parse_address(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize("kind", [k for k in Kind if k is not Kind.STRING])
def test_types_read_back_as_they_are_written(kind: Kind) -> None:
    assert str(parse_type(kind)) == kind


@pytest.mark.parametrize(
    ("text", "registers"), [("string(1)", 1), ("string(2)", 1), ("string(5)", 3), ("String(250)", 125)]
)
def test_a_string_takes_a_register_for_two_characters(text: str, registers: int) -> None:
    assert parse_type(text).registers == registers


def tag(**settings: Any) -> ModbusTag:
    return ModbusTag.model_validate({"name": "t", **settings})


def problems(settings: dict[str, Any]) -> list[tuple[tuple[int | str, ...], str]]:
    """Place and message of everything wrong with a tag."""
    with pytest.raises(ValidationError) as caught:
        tag(**settings)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("settings", "place", "reason"),
    [
        ({"address": "nowhere", "type": "uint16"}, "address", "not a Modbus address"),
        ({"address": "holding:1"}, "type", "needs a type"),
        ({"address": "holding:1", "type": "real"}, "type", 'no type "real"'),
        ({"address": "holding:1", "type": "string"}, "type", "length of the string"),
        ({"address": "holding:1", "type": "string(0)"}, "type", "0 characters"),
        ({"address": "holding:1", "type": "string(251)"}, "type", "251 characters"),
        ({"address": "coil:1", "type": "float32"}, "type", "a coil is one bit and holds no float32"),
        ({"address": "discrete:1", "type": "uint16"}, "type", "a discrete is one bit and holds no uint16"),
        (
            {"address": "holding:1.2", "type": "int16"},
            "type",
            "bit 2 of a register is one bit and holds no int16",
        ),
        ({"address": "holding:1", "type": "bool"}, "type", "one of the 16 bits"),
        ({"address": "holding:65535", "type": "float32"}, "type", "the last address it fits at is 65534"),
        ({"address": "holding:65533", "type": "int64"}, "type", "the last address it fits at is 65532"),
        ({"address": "holding:65535", "type": "string(3)"}, "type", "takes 2 registers"),
        ({"address": "holding:1", "type": "uint16", "order": "CDAB"}, "order", "uint16 is one register"),
        ({"address": "coil:1", "order": "DCBA"}, "order", "bool is one register"),
        ({"address": "holding:1", "type": "bcd16", "order": "BADC"}, "order", "bcd16 is one register"),
        (
            {"address": "holding:1", "type": "string(4)", "order": "CDAB"},
            "order",
            "characters have no order CDAB",
        ),
        ({"address": "holding:1", "type": "int32", "order": "ACBD"}, "order", 'there is no order "ACBD"'),
        ({"address": "holding:1", "type": "int32", "order": 4321}, "order", "Input should be"),
        (
            {"address": "holding:1", "type": "int32", "order": "CDABGHEF"},
            "order",
            "an order of the eight bytes of a 64-bit value, not of int32; ABCD CDAB BADC DCBA",
        ),
        ({"address": "holding:1", "type": "float32", "order": "GHEFCDAB"}, "order", "write CDAB"),
        ({"address": "holding:1", "type": "string(8)", "order": "BADCFEHG"}, "order", "write BADC"),
        ({"address": "holding:1", "type": "uint16", "clamp": [2, 1]}, "clamp", "must begin below its end"),
        ({"address": "holding:1", "type": "uint16", "clamp": [1]}, "clamp", "must be two numbers"),
        ({"address": "holding:1", "type": "uint16", "clamp": "1-2"}, "clamp", "must be two numbers"),
        ({"address": "holding:1", "type": "string(4)", "clamp": [1, 2]}, "clamp", "is no number"),
        ({"address": "coil:1", "clamp": [0, 1]}, "clamp", "is no number"),
        ({"address": "coil:1", "no_value": 1}, "no_value", "both are values"),
        ({"address": "holding:1", "type": "int16", "no_value": 65536}, "no_value", "not fit the 16 bits"),
        ({"address": "holding:1", "type": "uint16", "no_value": -1}, "no_value", "not fit the 16 bits"),
        (
            {"address": "holding:1", "type": "int16", "no_value": "none"},
            "no_value",
            "no raw value of type int16",
        ),
        ({"address": "holding:1", "type": "float32", "no_value": "nan"}, "no_value", 'write "sunspec"'),
        ({"address": "holding:1", "type": "float32", "no_value": 1e39}, "no_value", 'write "sunspec"'),
        ({"address": "holding:1", "type": "bcd16", "no_value": "sunspec"}, "no_value", "has no bcd16"),
        ({"address": "holding:1", "type": "string(4)", "no_value": 0}, "no_value", "when it is empty"),
        ({"address": "holding:1", "type": "uint16", "scale": 0}, "scale", "a scale of 0"),
        ({"address": "holding:1", "type": "uint16", "scale": float("nan")}, "scale", "finite"),
        ({"address": "holding:1", "type": "string(4)", "scale": 2}, "scale", "is no number"),
        ({"address": "coil:1", "offset": 1}, "offset", "is no number"),
    ],
)
def test_each_mistake_is_named_at_its_place(settings: dict[str, Any], place: str, reason: str) -> None:
    found = problems(settings)
    assert [where for where, _ in found] == [(place,)], "one mistake, one message"
    assert reason in found[0][1]


def test_an_unknown_key_is_refused() -> None:
    assert problems({"address": "coil:1", "adress": "coil:2"})[0][0] == ("adress",)


def test_a_number_without_quotes_is_an_address_too() -> None:
    assert tag(address=40101, type="uint16").address == "holding:100"


def test_everything_may_come_as_text_from_a_csv_file() -> None:
    row = {
        "address": "40101",
        "type": "INT32",
        "order": "cdab",
        "scale": "0.1",
        "offset": "-5",
        "deadband": "0.5",
    }
    signal = tag(**{key: Bare(cell) for key, cell in row.items()}).signal("plc/t")
    assert (signal.tag, signal.address, signal.type.kind) == (
        "plc/t",
        Address(Table.HOLDING, 100),
        Kind.INT32,
    )
    assert (signal.order, signal.scale, signal.offset) == (Order.CDAB, 0.1, -5.0)


@pytest.mark.parametrize(
    ("type_", "written", "meant"),
    [
        ("int64", "ABCDEFGH", Order.ABCD),
        ("int64", "GHEFCDAB", Order.CDAB),
        ("int64", "badcfehg", Order.BADC),
        ("float64", "HGFEDCBA", Order.DCBA),
        ("float64", "CDAB", Order.CDAB),
        ("uint64", "efghabcd", Order.EFGHABCD),
        ("uint64", "CDABGHEF", Order.CDABGHEF),
    ],
)
def test_an_order_of_64_bits_may_be_written_in_full(type_: str, written: str, meant: Order) -> None:
    assert tag(address="holding:0", type=type_, order=written).order is meant
    assert written.upper() in (meant.in_full, str(meant))


@pytest.mark.parametrize(
    ("type_", "written", "meant"),
    [
        ("int16", 0x8000, -32768),
        ("int16", "0x8000", -32768),
        ("int16", "-32768", -32768),
        ("int16", 32767, 32767),
        ("uint16", "0xFFFF", 65535),
        ("int64", 2**63, -(2**63)),
        ("bcd16", "0xFFFF", 0xFFFF),
        ("float32", "-9999", -9999.0),
        ("float32", 0.1, 0.10000000149011612),
        ("float64", 0.1, 0.1),
        ("int16", " SunSpec", "sunspec"),
        ("string(4)", "sunspec", "sunspec"),
    ],
)
def test_no_value_is_kept_as_the_raw_number_of_its_type(type_: str, written: Any, meant: Any) -> None:
    made = tag(address="holding:0", type=type_, no_value=written)
    assert made.signal("t").no_value == meant
    again = ModbusTag.model_validate(made.model_dump(mode="json"))
    assert again.signal("t").no_value == meant


@pytest.mark.parametrize("written", [[-20, 150], (-20.0, 150.0), "-20..150", " -20 .. 150 "])
def test_a_clamp_is_a_list_or_a_cell(written: Any) -> None:
    assert tag(address="holding:0", type="int16", clamp=written).signal("t").clamp == (-20.0, 150.0)


@pytest.mark.parametrize("address", ["coil:1", "discrete:1", "holding:1.0", "input:1.15"])
def test_one_bit_is_a_bool_without_saying_so(address: str) -> None:
    assert tag(address=address).type == "bool"
    assert tag(address=address, type="bool").type == "bool"


@pytest.mark.parametrize("type_", ["bcd16", "bcd32", "float64"])
def test_every_number_may_be_scaled(type_: str) -> None:
    assert tag(address="holding:1", type=type_, scale=2, offset=1).signal("t").scaled


def settings(**more: Any) -> ModbusSettings:
    return ModbusSettings.model_validate(
        {"name": "plc", "protocol": "modbus", "endpoint": "tcp://10.0.0.6:502", **more}
    )


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [
        ("tcp://10.0.0.6:502", "10.0.0.6", 502),
        ("tcp://10.0.0.6", "10.0.0.6", 502),
        ("tcp://plc-7.line:1502", "plc-7.line", 1502),
        ("tcp://[fe80::1]:502", "fe80::1", 502),
    ],
)
def test_endpoints(endpoint: str, host: str, port: int) -> None:
    assert settings(endpoint=endpoint).place() == Place("tcp", host, port)


@pytest.mark.parametrize(
    "endpoint",
    [
        "10.0.0.6:502",
        "opc.tcp://10.0.0.6:4840",
        "tcp://",
        "tcp://:502",
        "tcp://10.0.0.6:99999",
        "tcp://10.0.0.6:0",
        "tcp://10.0.0.6:x",
        "tcp://10.0.0.6/unit",
        "tcp://me@10.0.0.6",
        "tcp://[::1",
        "tcp://" + "a" * 70,
    ],
)
def test_what_is_no_endpoint_is_refused_with_an_example(endpoint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(endpoint=endpoint)
    (error,) = caught.value.errors()
    assert error["loc"] == ("endpoint",)
    assert '; write "tcp://10.0.0.6:502"' in error["msg"]


def test_defaults_are_those_of_the_readme() -> None:
    plain = settings()
    assert plain.unit == 1
    assert plain.timeout == timedelta(seconds=1)
    assert plain.timeouts_max == 2
    assert plain.connect_timeout == timedelta(seconds=5)
    assert plain.refused_retry == timedelta(seconds=30)
    assert plain.limits.for_plan().registers_per_request == 125
    assert plain.limits.for_plan().bits_per_request == 2000
    assert plain.limits.for_plan().gap_max == 8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unit", 256),
        ("unit", -1),
        ("timeout", "0s"),
        ("timeout", 1),
        ("connect_timeout", "0ms"),
        ("timeouts_max", 0),
        ("time", "source"),
        ("limits", {"registers_per_request": 126}),
        ("limits", {"bits_per_request": 2001}),
        ("limits", {"gap_max": -1}),
        ("limits", {"gaps": 1}),
        ("limits", {"forbidden": ["holding"]}),
        ("groups", [{"name": "g", "interval": "0s"}]),
        ("protocol", "opcua"),
    ],
)
def test_settings_out_of_range_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**{key: value})
    assert caught.value.errors()[0]["loc"][0] == key


def test_a_value_that_no_request_may_carry_is_refused() -> None:
    group = {
        "name": "g",
        "interval": "1s",
        "tags": [{"name": "label", "address": "holding:0", "type": "string(20)"}],
    }
    settings(groups=[group], limits={"registers_per_request": 10})
    with pytest.raises(ValidationError, match='"label" takes 10 registers, and one request may read 9'):
        settings(groups=[group], limits={"registers_per_request": 9})


def test_every_tag_that_may_not_be_read_is_named_at_its_place() -> None:
    tags = [
        {"name": "before", "address": "holding:199", "type": "uint16"},
        {"name": "into", "address": "holding:199", "type": "uint32"},
        {"name": "bit", "address": "holding:250.3"},
        {"name": "elsewhere", "address": "input:250", "type": "uint16"},
        {"name": "coil", "address": "coil:7"},
        {"name": "after", "address": "holding:300", "type": "uint16"},
    ]
    groups = [{"name": "g", "interval": "1s", "tags": tags}]
    with pytest.raises(ValidationError) as caught:
        settings(groups=groups, limits={"forbidden": ["40201-40300", "coil:7"]})
    found = {error["loc"]: error["msg"] for error in caught.value.errors()}
    assert list(found) == [("groups", 0, "tags", at, "address") for at in (1, 2, 4)]
    assert "holding:199-200 lies in holding:200-299, which" in found["groups", 0, "tags", 1, "address"]
    assert settings(groups=groups).limits.for_plan().forbidden == ()


def test_quirks_of_a_device_reach_the_planner() -> None:
    limit = settings(limits={"forbidden": "holding:7", "one_request_per_tag": True}).limits.for_plan()
    assert limit.forbidden == (Range(Table.HOLDING, 7, 8),)
    assert limit.one_request_per_tag


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("holding:5-3", "ends before it begins"),
        ("holding:5-coil:7", "begins in one table and ends in another"),
        ("holding:5.2", "a register is read whole"),
        ("holding:1-2-3", "no range of addresses"),
        ("all", "no range of addresses"),
        ("holding:5-99999", "beyond the end"),
    ],
)
def test_what_is_no_range_is_refused(text: str, reason: str) -> None:
    with pytest.raises(LayoutError, match="; ") as caught:
        parse_range(text)
    assert reason in str(caught.value)


def test_the_sample_is_a_connection_that_loads() -> None:
    data = tomllib.loads((FOLDER / "sample.toml").read_text(encoding="utf-8"))
    (connection,) = data["connections"]
    sample = ModbusSettings.model_validate(connection)
    kinds = {tag_.layout()[1].kind for tag_ in sample.tags() if isinstance(tag_, ModbusTag)}
    assert kinds >= {Kind.BOOL, Kind.UINT16, Kind.FLOAT32, Kind.STRING}


def test_the_readme_shows_the_sample_and_names_every_setting() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert (FOLDER / "sample.toml").read_text(encoding="utf-8").strip() in readme
    own = set(ModbusSettings.model_fields) | set(ModbusTag.model_fields)
    own |= set(
        ModbusSettings.model_fields["limits"].default.model_fields_set or type(settings().limits).model_fields
    )
    shared = {"name", "protocol", "groups", "deadband", "record", "publish", "time", "stale"}
    assert not {name for name in own - shared if f"`{name}`" not in readme}


def test_the_protocol_is_known_by_its_name() -> None:
    assert PROTOCOL.name == "modbus"
    assert PROTOCOL.csv_key == "address"
    assert PROTOCOL.settings is ModbusSettings
