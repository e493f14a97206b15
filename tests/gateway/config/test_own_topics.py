"""Topics of a plant's own: what is refused before anything runs, where, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused, Problem
from gateway.publish.tree import expand, plant

PLANT = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://10.0.0.6"
[[connections.groups]]
name = "all"
interval = "1s"
tags = [
  { name = "a", address = "holding:1", type = "uint16", publish = true },
  { name = "b", address = "holding:2", type = "uint16" },
  { name = "loose", address = "holding:3", type = "uint16", publish = true },
]

[[equipment]]
name = "filler-1"
path = "filling/line-1/filler-1"
model = "packml"
state = "plc/a"

[[equipment]]
name = "oven-1"
path = "baking/oven-1"
model = "models/oven.toml"
bind = { x = "plc/b" }

[mqtt]
broker = "mqtt://h:1"
"""
OVEN = """
name = "{}"
initial = "On"
states = [{{ name = "On", category = "productive" }}, {{ name = "Off", category = "standby" }}]
transitions = [{{ from = "*", to = ["On", "Off"] }}]
rules = [{{ state = "On", when = "x > 0" }}, {{ state = "Off", when = "True" }}]
"""
#: The line on which what a test adds begins.
LINE = PLANT.count("\n") + 1


def loaded(tmp_path: Path, text: str, model: str = "oven") -> list[tuple[str, str]]:
    (tmp_path / "models").mkdir(exist_ok=True)
    (tmp_path / "models" / "oven.toml").write_text(OVEN.format(model))
    path = tmp_path / "andon.toml"
    path.write_text(PLANT + text)
    found = load(path)
    configuration = found.configuration
    of = plant(configuration.gateway, configuration.connections, found.equipment)
    return [(said.topic, said.key) for said in expand(configuration.mqtt[0], of)]


def refused(tmp_path: Path, text: str, model: str = "oven") -> list[Problem]:
    with pytest.raises(ConfigurationRefused) as caught:
        loaded(tmp_path, text, model)
    return list(caught.value.problems)


def test_all_topics_there_will_be(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == [
        ("andon/line-1/status", "status"),
        ("andon/line-1/_connection/plc", "connection"),
        ("acme/berlin/filling/line-1/filler-1/_state", "state"),
        ("acme/berlin/filling/line-1/filler-1/_availability", "availability"),
        ("acme/berlin/baking/oven-1/_state", "state"),
        ("acme/berlin/baking/oven-1/_availability", "availability"),
        ("acme/berlin/filling/line-1/filler-1/_tag/plc/a", "tag"),
        ("acme/berlin/_tag/plc/loose", "tag"),
        ("acme/berlin/filling/line-1/filler-1/_event/transition", "event/transition"),
        ("acme/berlin/baking/oven-1/_event/transition", "event/transition"),
        ("acme/berlin/filling/line-1/filler-1/_event/rejection", "event/rejection"),
        ("acme/berlin/baking/oven-1/_event/rejection", "event/rejection"),
        ("andon/line-1/_event/source_lost", "event/source_lost"),
        ("andon/line-1/_event/source_restored", "event/source_restored"),
        ("andon/line-1/_event/gap", "event/gap"),
        ("andon/line-1/_event/device_event", "event/device_event"),
        ("acme/berlin/filling/line-1/filler-1/_event/correction", "event/correction"),
        ("acme/berlin/baking/oven-1/_event/correction", "event/correction"),
        ("acme/berlin/filling/line-1/filler-1/_event/command", "event/command"),
        ("acme/berlin/baking/oven-1/_event/command", "event/command"),
        ("andon/line-1/_event/audit_anchor", "event/audit_anchor"),
    ]


def test_a_plant_with_its_own_tree(tmp_path: Path) -> None:
    topics = dict.fromkeys(
        topic
        for topic, _ in loaded(
            tmp_path,
            """
            [mqtt.topics.state]
            topic = "{site}/{level1}/{equipment}/state"
            [mqtt.topics.event]
            topic = "{site}/events/{type}"
            [mqtt.topics."event/gap"]
            topic = "{site}/events/{type}"
            [mqtt.topics.tag]
            topic = "{site}/{path}/{tag}"
            """,
        )
    )
    assert {
        "berlin/filling/filler-1/state",
        "berlin/baking/oven-1/state",
        "berlin/events/transition",
        "berlin/events/gap",
        "berlin/filling/line-1/filler-1/a",
        "berlin/loose",
    } <= set(topics)


@pytest.mark.parametrize(
    ("key", "template", "reason"),
    [
        ("state", "a/{tag}", 'has "{tag}", which states do not have'),
        ("status", "a/{path}", 'has "{path}", which gateways do not have'),
        ("connection", "a/{equipment}", 'has "{equipment}", which connections do not have'),
        ('"event/gap"', "a/{path}", 'has "{path}", which these events do not have'),
        ("event", "a/{connection}", 'has "{connection}", which events of equipment do not have'),
        ("state", "a/{equipmnt}", 'has the placeholder "{equipmnt}", which nothing has'),
        ("state", "a/{path", 'has a "{" that belongs to nothing'),
        ("state", "a//{path}", "has an empty level"),
        ("state", "/{path}", "has an empty level"),
        ("state", "{path}/", "has an empty level"),
        ("state", "", "is empty"),
        ("state", "a/+/{path}", 'has "+" in it, which is for those who subscribe'),
        ("state", "#/{path}", 'has "#" in it, which is for those who subscribe'),
        ("state", "$a/{path}", 'begins with "$", which is for what brokers say themselves'),
        ("state", "spBv1.0/{path}", "lies in spBv1.0/, which is for Sparkplug alone"),
        ("state", "a\\u0000/{path}", "has the character U+0000 in it, which no topic may have"),
        ("state", f"{'x' * 65_536}/{{path}}", "is 65538 bytes long; MQTT takes 65535"),
        ("state", "{level3}/{equipment}", 'has "{level3}", and "oven-1" has 2 levels (baking/oven-1)'),
        ("tag", "{equipment}/{tag}", 'has "{equipment}", and the tag "plc/loose" belongs to no equipment'),
        (
            "state",
            "{site}/state",
            '"berlin/state" would be the topic of the state of "filler-1" and of the state of "oven-1"',
        ),
        (
            "state",
            "andon/{gateway}/status",
            '"andon/line-1/status" would be the topic of the state of "filler-1" '
            "and of the status of the gateway",
        ),
        (
            "availability",
            "{enterprise}/{site}/{path}/_state",
            '"acme/berlin/filling/line-1/filler-1/_state" would be the topic of the availability of '
            '"filler-1" and of the state of "filler-1"',
        ),
    ],
)
def test_a_template_that_will_not_do(tmp_path: Path, key: str, template: str, reason: str) -> None:
    text = f'[mqtt.topics.{key}]\ntopic = "{template}"\n'
    problem = refused(tmp_path, text)[0]
    assert problem.reason == reason
    assert problem.path.startswith("mqtt.topics.")
    assert problem.line is not None
    assert problem.line > LINE
    assert problem.hint


def test_two_kinds_with_one_template_are_both_named(tmp_path: Path) -> None:
    text = '[mqtt.topics.tag]\ntopic = "{site}/{path}"\n[mqtt.topics.event]\ntopic = "{site}/{path}"\n'
    assert refused(tmp_path, text)[0].reason == (
        '"berlin/filling/line-1/filler-1" would be the topic of "transition" of "filler-1" '
        'and of the tag "plc/a" (topics.tag)'
    )


def test_one_problem_for_all_it_concerns(tmp_path: Path) -> None:
    more = "".join(
        f'[[equipment]]\nname = "f-{n}"\npath = "x/f-{n}"\nmodel = "packml"\nstate = "plc/a"\n'
        for n in range(50)
    )
    text = more + '[mqtt.topics.state]\ntopic = "{level3}/{equipment}"\n'
    text += '[mqtt.topics.availability]\ntopic = "{site}"\n'
    assert len(refused(tmp_path, text)) == 2


def test_a_name_that_no_topic_may_have(tmp_path: Path) -> None:
    template = '[mqtt.topics.state]\ntopic = "{model}/{equipment}"\n'
    assert ("oven model/oven-1", "state") in loaded(tmp_path, template, "oven model")
    (problem,) = refused(tmp_path, template, "oven+")
    assert problem.reason.startswith('"oven+/oven-1", for the state of "oven-1", has "+" in it')


def test_rules_are_judged_with_the_rest(tmp_path: Path) -> None:
    text = '[mqtt.topics.event]\nqos = 0\n[mqtt.topics.state]\nexpiry = "1s"\ntopic = "{levle1}"\n'
    assert [(problem.line, problem.path) for problem in refused(tmp_path, text)] == [
        (LINE + 1, "mqtt.topics.event.qos"),
        (LINE + 3, "mqtt.topics.state.expiry"),
        (LINE + 4, "mqtt.topics.state.topic"),
    ]


def test_what_is_named_twice_is_told_as_that(tmp_path: Path) -> None:
    again = PLANT.partition("[[equipment]]")[2].partition("[[equipment]]")[0]
    assert {problem.reason for problem in refused(tmp_path, f"[[equipment]]{again}")} == {
        '"filler-1" is used twice',
        '"filling/line-1/filler-1" is used twice',
    }


def test_a_path_that_is_used_twice_is_told_once(tmp_path: Path) -> None:
    again = (
        PLANT.partition("[[equipment]]")[2].partition("[[equipment]]")[0].replace('"filler-1"', '"filler-2"')
    )
    (problem,) = refused(tmp_path, f"[[equipment]]{again}")
    assert problem.reason == '"filling/line-1/filler-1" is used twice'


def test_events_of_connections_do_not_follow_those_of_equipment(tmp_path: Path) -> None:
    text = '[mqtt.topics.event]\ntopic = "x/{path}/{type}"\n[mqtt.topics.connection]\ntopic = "{}"\n'
    (problem,) = refused(tmp_path, text.replace("{}", "andon/{gateway}/_event/gap"))
    assert problem.path == "mqtt.topics.connection.topic"
    assert problem.reason == (
        '"andon/line-1/_event/gap" would be the topic of the connection "plc" and of "gap" of "plc"'
    )


def test_a_node_for_a_line_that_is_not_there(tmp_path: Path) -> None:
    node = '[sparkplug]\nbroker = "mqtt://h:1"\ngroup = "g"\nunder = "filling/line-2"\n'
    (problem,) = refused(tmp_path, node)
    assert (problem.path, problem.hint) == ("sparkplug.under", 'did you mean "filling/line-1"?')


def test_metrics_that_only_case_tells_apart(tmp_path: Path) -> None:
    path = tmp_path / "andon.toml"
    node = '[sparkplug]\nbroker = "mqtt://h:1"\ngroup = "g"\n'
    path.write_text(PLANT.replace('name = "loose"', 'name = "A"').partition("[[equipment]]")[0] + node)
    with pytest.raises(ConfigurationRefused) as caught:
        load(path)
    assert [problem.path for problem in caught.value.problems] == ["sparkplug"]
