"""What `andon check` says of edge nodes of Sparkplug: what is left out, of no use, or there twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigurationRefused

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
tags = [{ name = "x", address = "holding:1", type = "uint16" }]

[[equipment]]
name = "oven-1"
path = "baking/oven-1"
model = "models/oven.toml"
bind = { x = "plc/x" }

[[equipment]]
name = "oven-2"
path = "filling/oven-2"
model = "models/oven.toml"
bind = { x = "plc/x" }
"""
NODE = '[[sparkplug]]\nname = "{0}"\nbroker = "mqtt://h:1"\ngroup = "g"\nedge_node = "{0}"\n'
OVEN = """
name = "oven"
initial = "{0}"
states = [{{ name = "{0}", category = "productive" }}, {{ name = "{1}", category = "standby" }}]
transitions = [{{ from = "*", to = ["{0}", "{1}"] }}]
rules = [{{ state = "{0}", when = "x > 0" }}, {{ state = "{1}", when = "True" }}]
"""


def loaded(tmp_path: Path, text: str, *, first: str = "On", second: str = "Off") -> Loaded:
    (tmp_path / "models").mkdir(exist_ok=True)
    (tmp_path / "models" / "oven.toml").write_text(OVEN.format(first, second))
    path = tmp_path / "andon.toml"
    path.write_text(PLANT + text)
    return load(path)


def test_equipment_that_no_node_shows_is_warned_of(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").warnings == ()
    assert loaded(tmp_path, NODE.format("all")).warnings == ()
    both = NODE.format("a") + 'under = "baking"\n' + NODE.format("b")
    assert loaded(tmp_path, both + 'under = "filling"\n').warnings == ()
    (warning,) = loaded(tmp_path, NODE.format("a") + 'under = "baking"\n').warnings
    assert warning.path == "sparkplug[0].under"
    assert 'leaves out "filling/oven-2"' in warning.reason


def test_a_repetition_that_nobody_asks_for_is_warned_of(tmp_path: Path) -> None:
    (warning,) = loaded(tmp_path, NODE.format("a") + 'repeat = "60s"\n').warnings
    assert (warning.path, warning.reason) == ("sparkplug[0].repeat", "is of no use without primary_host")
    assert loaded(tmp_path, NODE.format("a") + 'repeat = "1h"\nprimary_host = "s"\n').warnings == ()


def test_a_repetition_has_a_bound(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused) as caught:
        loaded(tmp_path, NODE.format("a") + 'repeat = "61m"\nprimary_host = "s"\n')
    (problem,) = caught.value.problems
    assert problem.path == "sparkplug[0].repeat"
    assert '"1h"' in problem.reason


@pytest.mark.parametrize(("first", "second"), [("On", "ON"), ("On", "UNKNOWN")])
def test_states_that_only_case_tells_apart_are_refused_where_a_node_shows_them(
    tmp_path: Path, first: str, second: str
) -> None:
    assert loaded(tmp_path, "", first=first, second=second).equipment
    with pytest.raises(ConfigurationRefused) as caught:
        loaded(tmp_path, NODE.format("a"), first=first, second=second)
    (problem,) = caught.value.problems
    assert problem.path == "sparkplug[0]"
    assert f'"{second}" of model "oven"' in problem.reason
