"""Configurations that are wrong, each in one way: what is written, where that is, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from api.configuring import MAIN_FILE
from tests.gateway.changing.changing_site import CSV, MAIN

LIST, MODEL = "lists/slow.csv", "oven.toml"
OVEN = """
[[equipment]]
name = "oven-1"
path = "baking/oven-1"
model = "oven.toml"
bind = { temp = "filler-plc/count" }
"""
SOUND = """name = "oven"
initial = "Off"
states = [
  { name = "Off" },
  { name = "On" },
]
transitions = [
  { from = "Off", to = "On" },
  { from = "On", to = "Off" },
]
rules = [
  { state = "On", when = "temp > 180" },
  { state = "Off", when = "True" },
]
"""


class Broken(NamedTuple):
    """One way to be wrong. `at` is a part of the line to blame; empty where no line is."""

    name: str
    files: Mapping[str, str | bytes]
    file: str
    code: str
    at: str = ""


def main(name: str, old: str, new: str, code: str, at: str | None = None) -> Broken:
    """The configuration itself, with one text replaced."""
    assert old in MAIN, old
    text = MAIN.replace(old, new, 1)
    return Broken(name, {MAIN_FILE: text, LIST: CSV}, MAIN_FILE, code, new.strip() if at is None else at)


def rows(name: str, csv: str | bytes, code: str, at: str = "") -> Broken:
    """The tag list."""
    return Broken(name, {MAIN_FILE: MAIN, LIST: csv}, LIST, code, at)


def model(name: str, old: str, new: str, code: str, at: str | None = None) -> Broken:
    """A model of the plant's own."""
    assert old in SOUND, old
    files = {MAIN_FILE: MAIN + OVEN, LIST: CSV, MODEL: SOUND.replace(old, new, 1)}
    return Broken(name, files, MODEL, code, new.strip() if at is None else at)


def oven(name: str, old: str, new: str, code: str, at: str | None = None) -> Broken:
    """An equipment with such a model."""
    assert old in OVEN, old
    files = {MAIN_FILE: MAIN + OVEN.replace(old, new, 1), LIST: CSV, MODEL: SOUND}
    return Broken(name, files, MAIN_FILE, code, new.strip() if at is None else at)


_TAG = '{ name = "state", address = "holding:1", type = "uint16" }'
_GROUP_END = 'tags_csv = "lists/slow.csv"\n'
_SECOND = '\n[[connections]]\nname = "{}"\nprotocol = "modbus"\nendpoint = "tcp://127.0.0.2:502"\n'
_SECOND += '[[connections.groups]]\nname = "all"\ninterval = "1s"\n'
_SECOND += 'tags = [{{ name = "t", address = "holding:1", type = "uint16" }}]\n'
_ANOTHER = (
    '[[equipment]]\nname = "{}"\npath = "{}"\nmodel = "packml"\nstate = "filler-plc/state"\n[[equipment]]'
)

BROKEN = (
    # the text itself
    main("no TOML", 'id = "line-1"', "id = line-1", "not_toml"),
    main("a text left open", 'site = "berlin"', 'site = "berlin', "not_toml"),
    main("a bracket left open", "[mqtt]", "[mqtt", "not_toml"),
    main("a section twice", "[mqtt]", '[gateway]\nid = "b"\n[mqtt]', "not_toml", ""),
    main("a key twice", 'id = "line-1"', 'id = "line-1"\nid = "line-2"', "not_toml", 'id = "line-2"'),
    main("tabs of YAML", 'id = "line-1"', "id: line-1", "not_toml"),
    main("nested without end", 'site = "berlin"', "site = " + "[" * 5000, "not_toml", ""),
    Broken("no UTF-8", {MAIN_FILE: MAIN.encode("utf-16"), LIST: CSV}, MAIN_FILE, "not_utf8"),
    Broken("Latin-1", {MAIN_FILE: ("# Möbel\n" + MAIN).encode("latin-1"), LIST: CSV}, MAIN_FILE, "not_utf8"),
    Broken("empty", {MAIN_FILE: "", LIST: CSV}, MAIN_FILE, "missing"),
    Broken("50 MB", {MAIN_FILE: MAIN + "#" * 50_000_000, LIST: CSV}, MAIN_FILE, "too_large"),
    Broken("NUL bytes", {MAIN_FILE: MAIN + "\0", LIST: CSV}, MAIN_FILE, "not_toml", "\0"),
    # sections and keys
    main("an unknown section", "[mqtt]", "[mqqt]", "unknown_key"),
    main("an unknown key", 'site = "berlin"', 'site = "berlin"\ncolour = "red"', "unknown_key", "colour"),
    main(
        "a key of a connection",
        'protocol = "modbus"',
        'protocol = "modbus"\nslave = 3',
        "unknown_key",
        "slave",
    ),
    main("a key of a group", 'interval = "1s"', 'interval = "1s"\nrate = "1s"', "unknown_key", "rate"),
    main(
        "a key of a tag",
        _TAG,
        '{ name = "state", address = "holding:1", typ = "uint16" }',
        "unknown_key",
        "typ",
    ),
    main("a key of an equipment", 'model = "packml"', 'model = "packml"\nstat = "x"', "unknown_key", "stat"),
    main("a key of the broker", 'user = "andon"', 'usr = "andon"', "unknown_key"),
    main("no id", 'id = "line-1"\n', "", "missing", "[gateway]"),
    main("no site", 'site = "berlin"\n', "", "missing", "[gateway]"),
    main("no interval", 'interval = "1s"\n', "", "missing", "[[connections.groups]]"),
    main("no endpoint", 'endpoint = "tcp://127.0.0.1:502"\n', "", "missing", "[[connections]]"),
    main("no protocol", 'protocol = "modbus"\n', "", "missing", "[[connections]]"),
    main("no path", 'path = "filling/line-1/filler-1"\n', "", "missing", "[[equipment]]"),
    main("no broker", 'broker = "mqtt://127.0.0.1:1883"\n', "", "missing", "[mqtt]"),
    main("one bracket", "[[equipment]]", "[equipment]", "wrong_value"),
    main("a number for a table", "# the line in hall 3", "historian = 3", "wrong_value"),
    # values
    main("a unit of time", '"1s"', '"1 fortnight"', "wrong_value"),
    main("a time without unit", 'interval = "1s"', "interval = 5", "wrong_value"),
    main("a time of nothing", '"1s"', '"0s"', "wrong_value"),
    main(
        "a number in quotes", 'protocol = "modbus"', 'protocol = "modbus"\nunit = "1"', "wrong_value", "unit"
    ),
    main(
        "a unit out of range", 'protocol = "modbus"', 'protocol = "modbus"\nunit = 900', "wrong_value", "unit"
    ),
    main("a truth in words", _TAG, _TAG.replace(" }", ', record = "yes" }'), "wrong_value", "record"),
    main("an endpoint", "tcp://127.0.0.1:502", "http//plc", "wrong_value"),
    main("a port", "tcp://127.0.0.1:502", "tcp://127.0.0.1:99999", "wrong_value"),
    main("a broker", "mqtt://127.0.0.1:1883", "127.0.0.1", "wrong_value"),
    main("a name with blanks", 'name = "filler-plc"', 'name = "filler plc"', "wrong_value"),
    main("an id with slashes", 'id = "line-1"', 'id = "a/b"', "wrong_value"),
    main("a path with wildcards", "filling/line-1/filler-1", "filling/#/filler-1", "wrong_value"),
    main("a path with an empty level", "filling/line-1/filler-1", "filling//filler-1", "wrong_value"),
    main("an address", '"holding:1"', '"holding:x"', "wrong_value"),
    main("an address out of range", '"holding:1"', '"holding:70000"', "wrong_value"),
    main("a type", '"uint16"', '"uint17"', "wrong_value"),
    main("a deadband below 0", _TAG, _TAG.replace(" }", ", deadband = -1 }"), "wrong_value", "deadband"),
    main("a percentage of nothing", _TAG, _TAG.replace(" }", ', deadband = "2%" }'), "wrong_value", "2%"),
    main("a range upside down", _TAG, _TAG.replace(" }", ", range = [9, 1] }"), "wrong_value", "range"),
    main(
        "a level of the log", 'site = "berlin"', 'site = "berlin"\nlog_level = "loud"', "wrong_value", "loud"
    ),
    main(
        "a limit shorter than two readings",
        'interval = "1s"',
        'interval = "1s"\nstale = "1s"',
        "wrong_value",
        "stale",
    ),
    # names and references
    main("a connection twice", _GROUP_END, _GROUP_END + _SECOND.format("filler-plc"), "duplicate", ""),
    main(
        "a connection twice but for case",
        _GROUP_END,
        _GROUP_END + _SECOND.format("Filler-PLC"),
        "duplicate",
        "",
    ),
    main("a tag twice", _TAG, f"{_TAG}, {_TAG}", "duplicate", _TAG),
    main(
        "a group twice",
        _GROUP_END,
        f'{_GROUP_END}[[connections.groups]]\nname = "fast"\ninterval = "2s"\n',
        "duplicate",
        'name = "fast"',
    ),
    main(
        "an equipment twice",
        "[[equipment]]",
        _ANOTHER.format("filler-1", "b"),
        "duplicate",
        'name = "filler-1"',
    ),
    main(
        "a path twice",
        "[[equipment]]",
        _ANOTHER.format("b", "filling/line-1/filler-1"),
        "duplicate",
        "filling/line-1/filler-1",
    ),
    main("a protocol that is not there", 'protocol = "modbus"', 'protocol = "profibus"', "no_such_thing"),
    main("a model that is not there", 'model = "packml"', 'model = "packlm"', "no_such_thing"),
    main("a tag that is not there", '"filler-plc/state"', '"filler-plc/stat"', "no_such_thing"),
    main("a tag of no connection", '"filler-plc/state"', '"state"', "no_such_thing"),
    main("no state tag", 'state = "filler-plc/state"\n', "", "missing", "[[equipment]]"),
    main("a list that is not there", "lists/slow.csv", "lists/quick.csv", "no_such_file"),
    main("a model file that is not there", '"packml"', '"gone.toml"', "no_such_file"),
    oven("a name that is not bound", '{ temp = "filler-plc/count" }', "{}", "missing"),
    oven("a name no rule uses", "{ temp = ", '{ tmp = "filler-plc/state", temp = ', "no_such_thing", "tmp"),
    # secrets
    main("a password in the clear", '"file:secret/mqtt"', '"hunter2"', "secret_in_clear"),
    main(
        "a password in an address",
        "mqtt://127.0.0.1:1883",
        "mqtt://a:hunter2@127.0.0.1:1883",
        "secret_in_clear",
    ),
    main("a secret that is not there", "file:secret/mqtt", "file:secret/gone", "secret_not_found"),
    main("a variable that is not set", "file:secret/mqtt", "env:ANDON_NOT_SET", "secret_not_found"),
    # the tag list
    Broken("an empty list", {MAIN_FILE: MAIN, LIST: ""}, MAIN_FILE, "not_a_table", LIST),
    rows("a list without names", "address,type\nholding:1,uint16\n", "missing", "address,type"),
    rows(
        "a column nobody knows", "name,address,type,colour\na,holding:1,uint16,red\n", "unknown_key", "colour"
    ),
    rows(
        "a column twice", "name,address,address,type\na,holding:1,holding:1,uint16\n", "duplicate", "address"
    ),
    rows("too many cells", "name,address,type\na,holding:1,uint16,x,y\n", "not_a_table", "x,y"),
    rows("a quote left open", 'name,address,type\n"a,holding:1,uint16\n', "not_a_table", '"a'),
    rows("text after a quote", 'name,address,type\n"a"b,holding:1,uint16\n', "not_a_table", '"a"b'),
    rows("a decimal comma", "name;address;type;deadband\na;holding:1;uint16;0,5\n", "wrong_value", "0,5"),
    rows("a type in a row", "name,address,type\na,holding:1,uint61\n", "wrong_value", "uint61"),
    rows("a name in a row", "name,address,type\na b,holding:1,uint16\n", "wrong_value", "a b"),
    rows("a name twice in rows", CSV + "count,holding:20,uint16\n", "duplicate", "holding:20"),
    Broken("a list that is no text", {MAIN_FILE: MAIN, LIST: b"a,b\0\xff"}, MAIN_FILE, "not_utf8", LIST),
    rows(
        "a list in Latin-1",
        "name,address,type,unit\na,holding:1,uint16,\u00b0C\n".encode("latin-1"),
        "not_utf8",
        "C",
    ),
    # models
    model("a model that is no TOML", 'initial = "Off"', "initial = Off", "not_toml"),
    model(
        "a state that cannot be reached",
        '{ name = "On" }',
        '{ name = "On" },\n  { name = "Away" }',
        "unreachable",
        "Away",
    ),
    model("a move to nowhere", 'to = "On"', 'to = "Onn"', "no_such_thing"),
    model("a beginning that is no state", 'initial = "Off"', 'initial = "Of"', "no_such_thing"),
    model(
        "a state twice",
        '{ name = "On" }',
        '{ name = "On" },\n  { name = "On" }',
        "duplicate",
        '{ name = "On" }',
    ),
    model("a rule that cannot be read", "temp > 180", "temp >> 180", "bad_expression"),
    model("a rule that calls", "temp > 180", "open(temp)", "bad_expression"),
    model("a rule for no state", '{ state = "On", when', '{ state = "Onn", when', "no_such_thing"),
    model(
        "time limits in a circle",
        '  { name = "Off" },\n  { name = "On" },',
        '  { name = "Off", timeout = "1s", timeout_to = "On" },\n'
        '  { name = "On", timeout = "1s", timeout_to = "Off" },',
        "cycle",
        "timeout",
    ),
    model(
        "an unknown key of a model",
        'initial = "Off"',
        'initial = "Off"\nfinal = "On"',
        "unknown_key",
        "final",
    ),
    model("a rule that cannot be decided", "temp > 180", "temp and 'a' > 3", "bad_expression"),
)
