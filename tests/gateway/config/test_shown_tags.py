"""Tags that an equipment lists: published with it whatever its model uses, refused if they lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigurationRefused
from gateway.configured import feeding_connections, published_tags
from gateway.sparkplug.wiring import equipment_of

SITE = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"

[sparkplug]
broker = "mqtt://h:1"
group = "acme"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://10.0.0.6"
[[connections.groups]]
name = "all"
interval = "1s"
tags = [
  { name = "state", address = "holding:1", type = "uint16" },
  { name = "good", address = "holding:2", type = "uint32" },
  { name = "bad", address = "holding:4", type = "uint32" },
  { name = "speed", address = "holding:6", type = "uint16", unit = "1/min" },
  { name = "quiet", address = "holding:7", type = "uint16" },
]

[[connections]]
name = "meter"
protocol = "modbus"
endpoint = "tcp://10.0.0.7"
[[connections.groups]]
name = "all"
interval = "1s"
tags = [{ name = "power", address = "holding:1", type = "float32", unit = "kW" }]

[[equipment]]
name = "filler-1"
path = "filling/line-1/filler-1"
model = "packml"
state = "plc/state"
"""


def loaded(tmp_path: Path, more: str) -> Loaded:
    path = tmp_path / "andon.toml"
    path.write_text(SITE + more)
    return load(path)


def refused(tmp_path: Path, more: str) -> list[tuple[str, str, str]]:
    with pytest.raises(ConfigurationRefused) as caught:
        loaded(tmp_path, more)
    return [(problem.path, problem.reason, problem.hint) for problem in caught.value.problems]


def test_listed_tags_are_published_with_a_machine_whose_model_uses_none(tmp_path: Path) -> None:
    site = loaded(tmp_path, 'counters = { produced = "plc/good" }\ntags = ["plc/speed", "meter/power"]\n')

    tags = published_tags(site)
    assert {tag: found.paths for tag, found in tags.items()} == dict.fromkeys(
        ("plc/good", "plc/speed", "meter/power"), ("filling/line-1/filler-1",)
    )
    assert tags["plc/speed"].unit == "1/min"
    # They tell nothing of whether the machine's state can be known.
    assert feeding_connections(site) == {"filler-1": ("plc",)}


def test_a_host_finds_them_with_the_device(tmp_path: Path) -> None:
    site = loaded(tmp_path, 'counters = { produced = "plc/good" }\ntags = ["plc/speed"]\n')

    shown = equipment_of(site.configuration.sparkplug[0], site, version="1", stream="s")

    (device,) = shown.devices
    assert {tag.metric: tag.tag for tag in device.tags} == {
        "Counters/produced": "plc/good",
        "Tags/plc/speed": "plc/speed",
    }
    assert shown.node.tags == ()


@pytest.mark.parametrize(
    ("more", "place", "reason"),
    [
        ('tags = ["plc/sped"]', "equipment[0].tags[0]", 'there is no tag "plc/sped"'),
        ('counters = { good = "plc/god" }', "equipment[0].counters.good", 'there is no tag "plc/god"'),
        (
            'counters = { good = "plc/good", Good = "plc/bad" }',
            "equipment[0].counters.Good",
            '"Good" is used twice',
        ),
        (
            'counters = { good = "plc/good", all = "plc/good" }',
            "equipment[0].counters.all",
            '"plc/good" is used twice',
        ),
    ],
)
def test_what_leads_nowhere_is_refused_where_it_stands(
    tmp_path: Path, more: str, place: str, reason: str
) -> None:
    ((found, why, hint),) = refused(tmp_path, more)

    assert (found, why) == (place, reason)
    assert hint


def test_who_binds_a_tag_that_no_rule_uses_is_led_to_the_list(tmp_path: Path) -> None:
    ((_, _, hint),) = refused(tmp_path, 'bind = { speed = "plc/speed" }')

    assert hint == 'to publish it with the equipment: tags = ["plc/speed"]'
