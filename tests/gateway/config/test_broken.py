"""Broken configurations, each refused with file, place, reason and hint, and never one problem at a time.

Every case is the sound configuration below with one thing put wrong. `place` is what `andon check` prints
before the reason; `reason` and `hint` are parts of what it says.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused

SOUND = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"

[historian]
dsn = "env:ANDON_DATABASE"

[mqtt]
broker = "mqtt://127.0.0.1:1883"

[api]
listen = "127.0.0.1:8420"

[[connections]]
name = "filler-plc"
protocol = "opcua"
endpoint = "opc.tcp://127.0.0.1:4840"
security = { policy = "None", mode = "None" }
[[connections.groups]]
name = "fast"
interval = "250ms"
tags = [
  { name = "state", node = "nsu=urn:plant;s=Filler.StateCurrent" },
]

[[connections]]
name = "oven-plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:502"
unit = 1
[[connections.groups]]
name = "all"
interval = "1s"
tags_csv = "oven.csv"

[[equipment]]
name = "filler-1"
path = "filling/line-1/filler-1"
model = "packml"
state = "filler-plc/state"

[[equipment]]
name = "oven-1"
path = "baking/line-2/oven-1"
model = "oven.toml"
bind = { temp = "oven-plc/temp", run = "oven-plc/run" }
"""

CSV = """name,address,type,order,scale,unit
temp,holding:0,int16,,0.1,degC
run,holding:7.0,bool,,,
"""

MODEL = """
name = "oven"
initial = "Off"
states = [
  { name = "Off", category = "non-scheduled" },
  { name = "Heating", category = "standby" },
  { name = "Baking", category = "productive" },
]
transitions = [
  { from = "Off", to = "Heating" },
  { from = "Heating", to = "Baking" },
  { from = "Baking", to = "Heating" },
  { from = "*", to = "Off" },
]
rules = [
  { state = "Off", when = "not run" },
  { state = "Baking", when = "temp >= 180" },
  { state = "Heating", when = "True" },
]
"""

ENVIRONMENT = {"ANDON_DATABASE": "postgresql://127.0.0.1/plant"}


@dataclass(frozen=True)
class Broken:
    """`old` in the named file becomes `new`; the problem has these words."""

    id: str
    old: str
    new: str
    place: str
    reason: str
    hint: str = ""
    file: str = "andon.toml"


CASES = [
    Broken(
        "unknown key",
        'site = "berlin"',
        'site = "berlin"\nsitte = "x"',
        "gateway.sitte",
        "unknown key",
        '"site"',
    ),
    Broken("unknown section", "[api]", "[apis]", "apis", "unknown section", 'did you mean "api"?'),
    Broken(
        "one connection, not a list of them",
        "[[equipment]]",
        "[[equipments]]",
        "andon.toml:38: equipments",
        "",
    ),
    Broken("a word of other tools", "unit = 1", "slave = 1", ".slave", "unknown key", 'did you mean "unit"?'),
    Broken("a node by another name", "node = ", "address = ", ".address", "unknown key", '"node"'),
    Broken(
        "quotes in quotes",
        '"nsu=urn:plant;s=Filler.StateCurrent"',
        '"ns=3;s="DB"."State""',
        "andon.toml:25",
        "not valid TOML",
        "single quotes",
    ),
    Broken("text without quotes", '"modbus"', "modbus", "andon.toml:30", "not valid TOML", "quotes"),
    Broken(
        "one link wanted in two ways",
        "[[equipment]]",
        """[[connections]]
name = "dryer-plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1"
unit = 2
pipeline = 2
[[connections.groups]]
name = "all"
interval = "1s"
tags = [{ name = "run", address = "coil:1" }]

[[equipment]]""",
        "connections[2].endpoint",
        '"oven-plc" too, which wants the link otherwise (pipeline)',
        "same settings",
    ),
    Broken("missing key", 'enterprise = "acme"', "", "gateway.enterprise", "is required"),
    Broken("not TOML", 'id = "line-1"', 'id = "line-1', "andon.toml:3", "is not valid TOML"),
    Broken(
        "duration without a unit",
        '"250ms"',
        '"250"',
        "connections[0].groups[0].interval",
        "not a duration",
        '"250ms"',
    ),
    Broken(
        "duration as a number",
        '"250ms"',
        "250",
        "connections[0].groups[0].interval",
        "not a duration",
        '"250ms"',
    ),
    Broken(
        "tag that is stale between two polls",
        'tags_csv = "oven.csv"',
        'tags_csv = "oven.csv"\nstale = "1500ms"',
        "connections[1].groups[0].stale",
        'shorter than two readings of the group "all"',
        '"2s"',
    ),
    Broken(
        "tags that are stale between two keep-alives",
        'security = { policy = "None", mode = "None" }',
        'security = { policy = "None", mode = "None" }\nstale = "3s"',
        "connections[0].stale",
        'shorter than two readings of the group "fast"',
        '"4s"',
    ),
    Broken(
        "nested state with a level that is not there",
        'state = "filler-plc/state"',
        'state = ["filler-plc/state", "filler-plc/machin"]',
        "equipment[0].state[1]",
        'no tag "filler-plc/machin"',
    ),
    Broken(
        "nested state of one level",
        'state = "filler-plc/state"',
        'state = ["filler-plc/state"]',
        "equipment[0].state",
        "at least 2",
    ),
    Broken(
        "mode without modes",
        'model = "oven.toml"',
        'model = "oven.toml"\nmode = "oven-plc/run"',
        "equipment[1].mode",
        'the model "oven" has no modes',
    ),
    Broken(
        "guard that compares a number with a text",
        "temp >= 180",
        "temp >= '180'",
        "oven.toml:17: rules[1].when",
        "column 1: temp is a number and '180' is a text: >= between them is never decided (in oven-1, temp",
        "180 without quotes",
        file="oven.toml",
    ),
    Broken(
        "guard that takes a measured number for a truth",
        "temp >= 180",
        "run and not temp",
        "oven.toml:17: rules[1].when",
        "column 13: temp is a measured number",
        "limit",
        file="oven.toml",
    ),
    Broken("no such protocol", '"modbus"', '"modbuss"', "connections[1].protocol", "no protocol", '"modbus"'),
    Broken(
        "connection twice",
        'name = "oven-plc"',
        'name = "filler-plc"',
        "connections[1].name",
        "used twice",
        "connections[0]",
    ),
    Broken(
        "percent of nothing",
        'Filler.StateCurrent"',
        'Filler.StateCurrent", swing = "200%"',
        "connections[0].groups[0].tags[0].swing",
        "at most 100%",
    ),
    Broken(
        "percent in a list without a range",
        "unit\ntemp,holding:0,int16,,0.1,degC",
        "unit,deadband\ntemp,holding:0,int16,,0.1,degC,2%",
        "oven.csv:2: deadband",
        "2% of what is not said",
        "range = [0, 400]",
        file="oven.csv",
    ),
    Broken(
        "report times that contradict each other",
        'tags_csv = "oven.csv"',
        'tags_csv = "oven.csv"\nreport_min = "5s"\nheartbeat = "2s"',
        "connections[1].groups[0].report_min",
        "longer than heartbeat",
        "5s and 2s",
    ),
    Broken(
        "report times of tag and group",
        'interval = "250ms"\ntags = [\n  { name = "state",',
        'interval = "250ms"\nreport_min = "5s"\ntags = [\n  { name = "state", heartbeat = "1s",',
        "connections[0].groups[0].tags[0].heartbeat",
        "longer than heartbeat",
    ),
    Broken(
        "nothing to hold back",
        'Filler.StateCurrent"',
        'Filler.StateCurrent", report_max = "5s"',
        "tags[0].report_max",
        "holds nothing back",
        "heartbeat",
    ),
    Broken(
        "swing of a switch",
        "unit\ntemp,holding:0,int16,,0.1,degC\nrun,holding:7.0,bool,,,",
        "unit,swing\ntemp,holding:0,int16,,0.1,degC,\nrun,holding:7.0,bool,,,,1",
        "oven.csv:3: swing",
        "run is a bool",
        "take it out",
        file="oven.csv",
    ),
    Broken("tag twice", "run,holding:7.0", "temp,holding:7.0", "oven.csv:3: name", "there twice", "tags[0]"),
    Broken(
        "equipment twice",
        'name = "oven-1"',
        'name = "filler-1"',
        "equipment[1].name",
        "used twice",
        "equipment[0]",
    ),
    Broken(
        "no such tag",
        '"filler-plc/state"',
        '"filler-plc/stat"',
        "equipment[0].state",
        "no tag",
        '"filler-plc/state"',
    ),
    Broken(
        "no such model",
        'model = "packml"',
        'model = "packlm"',
        "equipment[0].model",
        "no built-in",
        '"packml"',
    ),
    Broken("no such model file", '"oven.toml"', '"oben.toml"', "equipment[1].model", "no such file"),
    Broken(
        "name with a slash",
        'name = "filler-1"',
        'name = "filler/1"',
        "equipment[0].name",
        "characters",
        "letters",
    ),
    Broken("path with a wildcard", '"filling/line-1', '"filling/+', "equipment[0].path", "no topic may have"),
    Broken(
        "secret in the clear",
        "127.0.0.1:1883",
        "u:hunter2@127.0.0.1:1883",
        "mqtt.broker",
        "in the clear",
        "env:",
    ),
    Broken(
        "unset variable",
        "env:ANDON_DATABASE",
        "env:ANDON_DB",
        "historian.dsn",
        "ANDON_DB is not set",
        "export",
    ),
    Broken(
        "bad database address",
        "env:ANDON_DATABASE",
        "mysql://x",
        "historian.dsn",
        "not a database",
        "embedded",
    ),
    Broken(
        "bad broker address", "mqtt://127.0.0.1:1883", "127.0.0.1", "mqtt.broker", "does not begin", "mqtt://"
    ),
    Broken("bad listen address", '"127.0.0.1:8420"', '"8420"', "api.listen", "listen on", "127.0.0.1:8420"),
    Broken(
        "bad node",
        '"nsu=urn:plant;s=Filler.StateCurrent"',
        '"Filler"',
        "connections[0].groups[0].tags[0].node",
        "",
    ),
    Broken(
        "bad register", "holding:0,int16", "holding:70000,int16", "oven.csv:2", "address", file="oven.csv"
    ),
    Broken("bad register type", "holding:0,int16", "holding:0,int17", "oven.csv:2", "type", file="oven.csv"),
    Broken(
        "unknown column", "scale,unit", "scalee,unit", "oven.csv:1", "unknown key", '"scale"', file="oven.csv"
    ),
    Broken("no CSV file", '"oven.csv"', '"ofen.csv"', "groups[0].tags_csv", "cannot be read", "relative"),
    Broken(
        "state without tag",
        'state = "filler-plc/state"',
        "",
        "equipment[0].state",
        "reads its state from a tag",
    ),
    Broken("rule input not bound", ', run = "oven-plc/run"', "", "equipment[1].bind", '"run"', "bind"),
    Broken(
        "bound but unused",
        '"oven-plc/run" }',
        '"oven-plc/run", x = "oven-plc/run" }',
        "equipment[1].bind.x",
        "no rule",
    ),
    Broken(
        "insecure by omission",
        'security = { policy = "None", mode = "None" }',
        'security = "no"',
        "connections[0]",
        "",
    ),
    Broken("bad guard", "temp >= 180", "temp >=", "rules[1].when", "", file="oven.toml"),
    Broken(
        "guard that reaches out", "temp >= 180", "__import__('os')", "rules[1].when", "", file="oven.toml"
    ),
    Broken(
        "rule to nowhere",
        'state = "Baking", when',
        'state = "Bakin", when',
        "rules[1].state",
        "",
        '"Baking"',
        "oven.toml",
    ),
    Broken(
        "model key", 'initial = "Off"', 'initiall = "Off"', "initiall", "not known", '"initial"', "oven.toml"
    ),
    Broken(
        "unreachable state", '  { from = "Heating", to = "Baking" },\n', "", "states[2]", "", file="oven.toml"
    ),
]


def write(directory: Path, broken: Broken | None = None) -> Path:
    files = {"andon.toml": SOUND, "oven.csv": CSV, "oven.toml": MODEL}
    if broken is not None:
        name = broken.file if broken.old in files[broken.file] else "oven.csv"
        assert files[name].count(broken.old) >= 1, "the case does not fit the sound configuration"
        files[name] = files[name].replace(broken.old, broken.new, 1)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory / "andon.toml"


def test_the_sound_configuration_is_accepted(tmp_path: Path) -> None:
    loaded = load(write(tmp_path), environment=ENVIRONMENT)

    assert [spec.name for spec in loaded.equipment] == ["filler-1", "oven-1"]
    assert [tag.name for tag in loaded.configuration.connections[1].tags()] == ["temp", "run"]
    assert loaded.data_dir == tmp_path / "data"


@pytest.mark.parametrize("broken", CASES, ids=lambda case: case.id)
def test_a_broken_configuration_is_refused(broken: Broken, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused) as caught:
        load(write(tmp_path, broken), environment=ENVIRONMENT)

    texts = [str(problem) for problem in caught.value.problems]
    fitting = [
        text for text in texts if broken.place in text and broken.reason in text and broken.hint in text
    ]
    assert fitting, texts
    assert "hunter2" not in "".join(texts)


def test_every_problem_is_said_at_once(tmp_path: Path) -> None:
    path = write(tmp_path)
    text = path.read_text(encoding="utf-8")
    text = (
        text.replace('"250ms"', '"soon"')
        .replace('site = "berlin"', "")
        .replace('model = "packml"', 'model = "x"')
    )
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigurationRefused) as caught:
        load(path, environment=ENVIRONMENT)

    places = [problem.path for problem in caught.value.problems]
    assert {"gateway.site", "connections[0].groups[0].interval", "equipment[0].model"} <= set(places)


def test_a_model_may_not_take_the_name_of_another(tmp_path: Path) -> None:
    path = write(tmp_path)
    model = tmp_path / "oven.toml"
    model.write_text(model.read_text(encoding="utf-8").replace('"oven"', '"packml"'), encoding="utf-8")

    with pytest.raises(ConfigurationRefused) as caught:
        load(path, environment=ENVIRONMENT)

    [problem] = caught.value.problems
    assert problem.path == "equipment[1].model"
    assert "built-in" in problem.reason


def test_a_model_that_is_odd_but_sound_is_accepted_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path)
    model = tmp_path / "oven.toml"
    text = model.read_text(encoding="utf-8")
    late = '  { state = "Heating", when = "True" },\n'
    model.write_text(text.replace(late, late + '  { state = "Off", when = "temp < 5" },\n'), encoding="utf-8")

    loaded = load(path, environment=ENVIRONMENT)

    assert [warning.path for warning in loaded.warnings] == ["rules[3]"]


OPEN = ("127.0.0.1:8420", "0.0.0.0:8420")


def opened(tmp_path: Path, more: str) -> Path:
    """A configuration whose API the network can reach."""
    path = write(tmp_path)
    text = path.read_text(encoding="utf-8").replace(*OPEN)
    path.write_text(
        text.replace('listen = "0.0.0.0:8420"', f'listen = "0.0.0.0:8420"\n{more}'), encoding="utf-8"
    )
    return path


def test_an_api_that_the_network_can_reach_without_tls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused) as caught:
        load(opened(tmp_path, ""), environment=ENVIRONMENT)

    [problem] = caught.value.problems
    assert problem.path == "api.listen"
    assert "without TLS" in problem.reason
    assert "insecure = true" in problem.hint


@pytest.mark.parametrize("more", ["insecure = true", 'tls = { cert_file = "c.pem", key_file = "k.pem" }'])
def test_an_api_that_lets_the_network_read_is_warned_of(tmp_path: Path, more: str) -> None:
    assert load(opened(tmp_path, more), environment=ENVIRONMENT).warnings == ()

    [warning] = load(opened(tmp_path, f'{more}\nanonymous = "viewer"'), environment=ENVIRONMENT).warnings

    assert warning.path == "api.anonymous"
    assert "network" in warning.reason


def test_problems_name_the_line(tmp_path: Path) -> None:
    broken = next(case for case in CASES if case.id == "no such tag")
    path = write(tmp_path, broken)
    expected = path.read_text(encoding="utf-8").splitlines().index('state = "filler-plc/stat"') + 1

    with pytest.raises(ConfigurationRefused) as caught:
        load(path, environment=ENVIRONMENT)

    assert [problem.line for problem in caught.value.problems] == [expected]


@pytest.mark.parametrize("json_wanted", [False, True])
def test_the_command_ends_with_2_and_says_why(tmp_path: Path, json_wanted: bool) -> None:
    path = write(tmp_path, next(case for case in CASES if case.id == "no such model"))
    command = [sys.executable, "-m", "gateway", "check", str(path), *(["--json"] if json_wanted else [])]

    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=110, check=False)

    assert done.returncode == 2
    if json_wanted:
        [problem] = json.loads(done.stdout)["problems"]
        assert problem["path"] == "equipment[0].model"
        assert problem["hint"] == 'did you mean "packml"?'
    else:
        assert "equipment[0].model" in done.stderr
        assert 'did you mean "packml"?' in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"",
        b"[" * 2000,
        b"a = " + b"[" * 5000 + b"]" * 5000,
        b"[gateway]\nid = 1e400\n",
        b"\x00",
    ],
    ids=["utf-16", "empty", "brackets", "deep", "infinite", "nul"],
)
def test_garbage_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "andon.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigurationRefused) as caught:
        load(path, environment={})

    assert caught.value.problems


def test_what_a_replay_would_not_see_is_said_and_not_refused(tmp_path: Path) -> None:
    (tmp_path / "andon.toml").write_text(SOUND, encoding="utf-8")
    thinned = CSV.replace("unit\n", "unit,swing\n").replace("degC", "degC,0.5")
    (tmp_path / "oven.csv").write_text(thinned, encoding="utf-8")
    (tmp_path / "oven.toml").write_text(MODEL, encoding="utf-8")

    loaded = load(tmp_path / "andon.toml", environment=ENVIRONMENT)

    [warning] = loaded.warnings
    assert warning.path == "equipment[1].bind.temp"
    assert "history of oven-plc/temp is thinned out by swing" in warning.reason
