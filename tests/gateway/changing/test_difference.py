"""What differs between two configurations: all of it, nothing else, and no secret."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.configuring import Change, Difference
from gateway.changing.difference import difference
from gateway.config.load import Loaded, load
from gateway.config.schema import Configuration

SECRETS = {"MQTT": "hush-7f3a", "OTHER": "hush-other", "DSN": "postgresql://andon:hush-dsn@10.0.0.9/andon"}

GATEWAY = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
"""
MQTT = """
[mqtt]
broker = "mqtt://127.0.0.1:1883"
user = "andon"
password = "env:MQTT"
"""
HISTORIAN = """
[historian]
dsn = "env:DSN"
"""
API = """
[api]
listen = "127.0.0.1:8420"
"""
FILLER = """
[[connections]]
name = "filler-plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:502"
[[connections.groups]]
name = "fast"
interval = "1s"
tags = [
  { name = "state", address = "holding:1", type = "uint16" },
  { name = "speed", address = "holding:2", type = "uint16" },
]
[[connections.groups]]
name = "slow"
interval = "10s"
tags_csv = "slow.csv"
"""
OVEN = """
[[connections]]
name = "oven-plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.2:502"
[[connections.groups]]
name = "all"
interval = "1s"
tags = [
  { name = "temp", address = "holding:1", type = "uint16" },
  { name = "run", address = "coil:1", type = "bool" },
]
"""
EQUIPMENT = """
[[equipment]]
name = "filler-1"
path = "filling/line-1/filler-1"
model = "packml"
state = "filler-plc/state"
"""
CAPPER = """
[[equipment]]
name = "capper-1"
path = "filling/line-1/capper-1"
model = "packml"
state = "filler-plc/state"
"""
OVEN_1 = """
[[equipment]]
name = "oven-1"
path = "baking/oven-1"
model = "oven.toml"
bind = { temp = "oven-plc/temp", run = "oven-plc/run" }
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
  { from = "Off", to = "Heating" }, { from = "Heating", to = "Baking" }, { from = "*", to = "Off" },
]
rules = [
  { state = "Off", when = "not run" },
  { state = "Baking", when = "temp >= 180", for = "2s" },
  { state = "Heating", when = "True" },
]
"""
CSV = "name,address,type\ncount,holding:10,uint32\nrejects,holding:12,uint32\n"
SPARKPLUG = """
[sparkplug]
broker = ["mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1884"]
group = "plant"
"""
COMMANDS = """
[commands]
enabled = true
rate = "6/1m"
"""
COMPLIANCE = """
[[compliance]]
name = "downtime-has-a-reason"
kind = "reason_within"
longer_than = "5m"
within = "30m"
"""
PARTS = (
    GATEWAY,
    MQTT,
    SPARKPLUG,
    HISTORIAN,
    API,
    COMMANDS,
    COMPLIANCE,
    FILLER,
    OVEN,
    EQUIPMENT,
    CAPPER,
    OVEN_1,
)

Written = Callable[..., Loaded]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """A configuration of some parts, with its tag list and model, judged."""

    def write(
        *parts: str, csv: str = CSV, model: str = MODEL, environment: dict[str, str] | None = None
    ) -> Loaded:
        (tmp_path / "andon.toml").write_text("".join(parts or PARTS))
        (tmp_path / "slow.csv").write_text(csv)
        (tmp_path / "oven.toml").write_text(model)
        return load(tmp_path / "andon.toml", environment=environment or SECRETS)

    return write


def only(found: Difference) -> Change:
    """The one change there is."""
    assert len(found.changes) == 1, found
    return found.changes[0]


def with_(part: str, old: str, new: str) -> tuple[str, ...]:
    """All parts, one of them changed."""
    assert old in part
    return tuple(one.replace(old, new) if one is part else one for one in PARTS)


def test_the_same_files_give_nothing(written: Written) -> None:
    assert difference(written(), written()) == Difference()
    assert not difference(written(), written())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_tables_means_nothing(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("order")
    (folder / "slow.csv").write_text(CSV)
    (folder / "oven.toml").write_text(MODEL)

    def read(name: str, parts: tuple[str, ...]) -> Loaded:
        (folder / name).write_text("".join(parts))
        return load(folder / name, environment=SECRETS)

    mixed = random.Random(seed).sample(PARTS, len(PARTS))
    assert not difference(read("a.toml", PARTS), read("b.toml", tuple(mixed)))


def test_where_a_tag_is_written_means_nothing_but_that_there_is_a_list(written: Written) -> None:
    tags = 'tags = [{ name = "rejects", address = "holding:12", type = "uint32" }, '
    tags += '{ name = "count", address = "holding:10", type = "uint32" }]'
    change = only(difference(written(), written(*with_(FILLER, 'tags_csv = "slow.csv"', tags))))
    assert [(edit.key, edit.old, edit.new) for edit in change.what] == [
        ("groups.slow.tags_csv", "slow.csv", None)
    ]


def test_a_tag_list_is_told_tag_by_tag(written: Written) -> None:
    csv = "name,address,type,deadband\ncount,holding:10,uint32,2\nwaste,holding:14,uint32,\n"
    found = difference(written(), written(csv=csv))
    told = {
        (change.action, change.name): [(e.key, e.old, e.new) for e in change.what] for change in found.changes
    }
    assert told.keys() == {
        ("change", "filler-plc/count"),
        ("remove", "filler-plc/rejects"),
        ("add", "filler-plc/waste"),
    }
    assert told["change", "filler-plc/count"] == [("deadband", "0.0", "2.0")]
    assert ("address", None, "holding:14") in told["add", "filler-plc/waste"]
    assert found.touches() == ("filler-plc reconnects; filler-1 and capper-1 are Unknown meanwhile",)


def test_a_tag_that_moves_to_another_group(written: Written) -> None:
    moved = FILLER.replace('  { name = "speed", address = "holding:2", type = "uint16" },\n', "").replace(
        'tags_csv = "slow.csv"',
        'tags_csv = "slow.csv"\ntags = [{ name = "speed", address = "holding:2", type = "uint16" }]',
    )
    change = only(difference(written(), written(*(moved if one is FILLER else one for one in PARTS))))
    assert (change.kind, change.name, change.action) == ("tag", "filler-plc/speed", "change")
    assert [(edit.key, edit.old, edit.new) for edit in change.what] == [("group", "fast", "slow")]


def test_a_connection_comes_and_goes(written: Written) -> None:
    without = tuple(one for one in PARTS if one not in (OVEN, OVEN_1))
    gone, came = difference(written(), written(*without)), difference(written(*without), written())
    for found, action, connection in (
        (gone, "remove", "oven-plc is disconnected; oven-1 is Unknown from then on"),
        (came, "add", "oven-plc connects; oven-1 is Unknown until its first values are there"),
    ):
        assert [(c.kind, c.name, c.action) for c in found.changes] == [
            ("connection", "oven-plc", action),
            ("equipment", "oven-1", action),
            ("model", "oven", action),
        ]
        told_anew = "mqtt is told anew on the same connection; what happens meanwhile waits in the journal"
        assert found.of("connection")[0].touches[:2] == (connection, told_anew)


def test_a_model_is_told_by_state_transition_and_rule(written: Written) -> None:
    model = (
        MODEL.replace('"productive" }', '"productive", colour = "blue" }')
        .replace('{ from = "Heating", to = "Baking" }', '{ from = "Off", to = "Baking" }')
        .replace("temp >= 180", "temp >= 200")
        .replace('  { state = "Heating", when = "True" },\n', "")
    )
    change = only(difference(written(), written(model=model)))
    assert (change.kind, change.name, change.action) == ("model", "oven", "change")
    assert [(edit.key, edit.old, edit.new) for edit in change.what] == [
        ("states.Baking.colour", "green", "blue"),
        ("transitions.Heating -> Baking", "any", None),
        ("transitions.Off -> Baking", None, "any"),
        ("rules[1]", "Baking when temp >= 180 for 2s", "Baking when temp >= 200 for 2s"),
        ("rules[2]", "Heating when True", None),
    ]
    assert change.touches == (
        "oven-1 goes on from its state where the model still has it, else from Unknown",
    )


def test_rules_are_tried_in_order_so_their_order_counts(written: Written) -> None:
    first, second = '  { state = "Off", when = "not run" },\n', '  { state = "Heating", when = "True" },\n'
    swapped = MODEL.replace(first, "").replace(second, second + first)
    assert only(difference(written(), written(model=swapped))).what


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({**SECRETS, "MQTT": "hush-new"}, PARTS),
        (SECRETS, with_(MQTT, "env:MQTT", "env:OTHER")),
        ({**SECRETS, "DSN": "postgresql://andon:hush-new@10.0.0.9/andon"}, PARTS),
        ({**SECRETS, "OTHER": SECRETS["DSN"] + "2"}, with_(HISTORIAN, "env:DSN", "env:OTHER")),
    ],
)
def test_of_a_secret_only_the_reference_is_shown(
    written: Written, environment: dict[str, str], parts: tuple[str, ...]
) -> None:
    found = difference(written(), written(*parts, environment=environment))
    (edit,) = only(found).what
    assert edit.secret
    assert str(edit.old).startswith("env:")
    assert str(edit.new).startswith("env:")
    assert "hush" not in repr(found)


def test_another_name_for_the_same_secret_changes_nothing(written: Written) -> None:
    same = {**SECRETS, "OTHER": SECRETS["MQTT"]}
    other = written(*with_(MQTT, "env:MQTT", "env:OTHER"), environment=same)
    assert not difference(written(), other)


@pytest.mark.parametrize("name", ["id", "data_dir"])
def test_what_cannot_change_while_it_runs(written: Written, name: str) -> None:
    new = (
        GATEWAY.replace('id = "line-1"', 'id = "line-2"') if name == "id" else GATEWAY + 'data_dir = "./x"\n'
    )
    found = difference(written(), written(*(new if one is GATEWAY else one for one in PARTS)))
    assert only(found).needs_restart.startswith(f"gateway.{name}: ")
    assert found.needs_restart == found.changes


def test_a_setting_of_the_journal_needs_a_restart(written: Written) -> None:
    new = GATEWAY + '[gateway.journal]\nkeep = "2d"\n'
    found = difference(written(), written(*(new if one is GATEWAY else one for one in PARTS)))
    assert [edit.key for edit in only(found).what] == ["journal.keep"]
    assert found.needs_restart


def test_a_level_of_the_log_disturbs_nothing(written: Written) -> None:
    new = GATEWAY + 'log_level = "debug"\n'
    change = only(difference(written(), written(*(new if one is GATEWAY else one for one in PARTS))))
    assert change.touches == ("nothing is disturbed",)
    assert not change.needs_restart


def test_what_disturbs_nothing_does_not_say_so_beside_what_does(written: Written) -> None:
    quiet, loud = GATEWAY + 'log_level = "debug"\n', FILLER.replace('interval = "1s"', 'interval = "2s"')
    new = {GATEWAY: quiet, FILLER: loud}
    found = difference(written(), written(*(new.get(one, one) for one in PARTS)))
    assert any("filler-plc reconnects" in line for line in found.touches())
    assert "nothing is disturbed" not in found.touches()
    alone = difference(written(), written(*(quiet if one is GATEWAY else one for one in PARTS)))
    assert alone.touches() == ("nothing is disturbed",)


# -- nothing is overlooked, whatever settings there will be ------------------------------------------

#: Every setting that can differ: where it is written, and another value for it.
ANOTHER = [
    *((GATEWAY, f"{line}\n", "gateway") for line in ('late = "keep"', 'log_level = "error"')),
    (GATEWAY, '[gateway.reconcile]\nevery = "2h"\n', "gateway"),
    (GATEWAY, "[gateway.snapshots]\nkeep_count = 7\n", "gateway"),
    (MQTT, "clear_removed = false\n", "mqtt"),
    (MQTT, "[mqtt.topics.tag]\nqos = 0\n", "mqtt"),
    (MQTT, "[mqtt.topics.tag]\n", "mqtt"),
    (HISTORIAN, 'retention = "30d"\n', "historian"),
    (EQUIPMENT, 'counters = { good = "filler-plc/count" }\n', "equipment"),
    (EQUIPMENT, 'mode = "filler-plc/speed"\n', "equipment"),
    (CAPPER, 'tags = ["filler-plc/speed"]\n', "equipment"),
    (OVEN, 'stale = "1m"\n', "connection"),
    (OVEN, 'heartbeat = "1m"\n', "connection"),
]


@pytest.mark.parametrize(("part", "line", "kind"), ANOTHER, ids=[line.strip() for _, line, _ in ANOTHER])
def test_a_setting_that_differs_is_told(written: Written, part: str, line: str, kind: str) -> None:
    if part is OVEN and line.startswith("stale"):
        changed = part.replace('protocol = "modbus"\n', f'protocol = "modbus"\n{line}')
    elif part is OVEN:
        changed = part.replace('interval = "1s"\n', f'interval = "1s"\n{line}')
    else:
        changed = part + line
    new = written(*(changed if one is part else one for one in PARTS))
    change = only(difference(written(), new))
    assert (change.kind, bool(change.what), bool(change.touches)) == (kind, True, True)


def _walk(value: object, at: str = "") -> list[str]:
    """The names of all settings below a value, as they are declared."""
    if hasattr(value, "model_fields_set"):
        fields = type(value).model_fields  # type: ignore[attr-defined]
        return [path for name in fields for path in _walk(getattr(value, name), f"{at}.{name}".lstrip("."))]
    return [at]


@pytest.mark.parametrize(
    "section", [name for name in Configuration.model_fields if name not in ("equipment",)]
)
def test_every_field_of_every_section_takes_part(written: Written, section: str) -> None:
    """Each leaf in turn is made to differ behind the settings' back; the difference names it."""
    loaded = written()
    present = getattr(loaded.configuration, section)
    item = present[0] if isinstance(present, tuple) and present else present
    assert hasattr(item, "model_fields_set"), "every section stands in what is compared"
    for path in _walk(item):
        if path in ("name", "protocol", "groups") and section == "connections":
            continue
        changed = _altered(item, path.split("."))
        whole = (changed, *present[1:]) if isinstance(present, tuple) else changed
        configuration = loaded.configuration.model_copy(update={section: whole})
        other = Loaded(loaded.path, configuration, loaded.models, loaded.equipment, loaded.registry)
        told = [edit.key for change in difference(loaded, other).changes for edit in change.what]
        assert path in told, path


def _altered(item: object, path: list[str]) -> object:
    present = getattr(item, path[0])
    value = _altered(present, path[1:]) if len(path) > 1 else ("other", present)
    return item.model_copy(update={path[0]: value})  # type: ignore[attr-defined]
