"""A configuration that is read: what its words are taken for."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused


def test_files_a_connection_or_the_broker_names_count_from_the_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "plant"
    folder.mkdir()
    (folder / "andon.toml").write_text(
        """
        [gateway]
        id = "line-1"
        enterprise = "acme"
        site = "berlin"

        [mqtt]
        broker = "mqtts://broker:8883"
        ca_file = "ca.pem"

        [[connections]]
        name = "drive"
        protocol = "modbus"
        endpoint = "tls://10.0.0.6"
        tls = { ca = "certs/ca.pem", certificate = "/etc/andon/own.pem" }
        groups = [{ name = "all", interval = "1s", tags = [{ name = "on", address = "coil:1" }] }]
        """
    )
    configuration = load(folder / "andon.toml").configuration
    assert configuration.mqtt[0].ca_file == str(folder / "ca.pem")
    tls = configuration.connections[0].model_dump()["tls"]
    assert (tls["ca"], tls["certificate"]) == (str(folder / "certs" / "ca.pem"), "/etc/andon/own.pem")


STRICT = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
[mqtt]
broker = "mqtt://broker:1883"
{mqtt}
[[connections]]
name = "drive"
protocol = "modbus"
endpoint = "tcp://10.0.0.6"
{connection}
[[connections.groups]]
name = "all"
interval = "1s"
tags_csv = "tags.csv"
tags = [{{ name = "on", address = "coil:1"{tag} }}]
"""
TAGS = "name,address,type,scale,publish\nspeed,holding:1,int16,0.5,yes\n"


def plant(folder: Path, **more: str) -> Path:
    (folder / "tags.csv").write_text(TAGS)
    (folder / "andon.toml").write_text(STRICT.format(**{"mqtt": "", "connection": "", "tag": "", **more}))
    return folder / "andon.toml"


@pytest.mark.parametrize(
    ("section", "written", "reason", "hint"),
    [
        ("mqtt", 'inflight_max = "200"', "must be a whole number", "without quotes"),
        ("mqtt", 'clear_removed = "no"', "must be true or false", "without quotes"),
        ("mqtt", "clear_removed = 1", "must be true or false", ""),
        ("mqtt", "inflight_max = true", "must be a whole number", ""),
        ("mqtt", 'topics.state.qos = "1"', "must be a whole number", "without quotes"),
        (
            "mqtt",
            '[sparkplug]\ngroup = "g"\nbroker = ["mqtt://a:1", "b:2"]',
            "address 2 of the list does not begin with mqtt:// or mqtts://",
            'write "mqtt://host:1883"',
        ),
        ("connection", 'unit = "1"', "must be a whole number", "without quotes"),
        ("tag", ', publish = "true"', "must be true or false", "without quotes"),
    ],
)
def test_what_is_not_what_it_is_meant_for_is_refused(
    tmp_path: Path, section: str, written: str, reason: str, hint: str
) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        load(plant(tmp_path, **{section: written}))
    (problem,) = refused.value.problems
    assert problem.reason == reason
    assert hint in problem.hint


def test_cells_of_a_tag_list_and_what_a_variable_holds_are_texts_by_nature(tmp_path: Path) -> None:
    path = plant(tmp_path, mqtt='inflight_max = "env:MANY"\nuser = "env:WHO"')
    configuration = load(path, environment={"MANY": "20", "WHO": "andon"}).configuration
    assert configuration.mqtt[0].inflight_max == 20
    assert type(configuration.mqtt[0].user) is str
    tag = configuration.connections[0].tags()[1].model_dump()
    assert (tag["scale"], tag["publish"], type(tag["name"])) == (0.5, True, str)


@pytest.mark.parametrize(
    ("key", "value"),
    [("endpoint", '"env:HIDDEN"'), ("unit", '"env:HIDDEN"'), ("protocol", '"env:HIDDEN"')],
)
@pytest.mark.parametrize("hidden", ["hunter2-of-the-plant", "x7"])
def test_what_is_wrong_with_a_value_that_is_kept_elsewhere_is_told_without_it(
    tmp_path: Path, key: str, value: str, hidden: str
) -> None:
    lines = {"protocol": '"modbus"', "endpoint": '"tcp://10.0.0.6"', key: value}
    path = tmp_path / "andon.toml"
    path.write_text(
        '[gateway]\nid = "line-1"\nenterprise = "acme"\nsite = "berlin"\n[[connections]]\nname = "drive"\n'
        + "".join(f"{name} = {text}\n" for name, text in lines.items())
    )
    with pytest.raises(ConfigurationRefused) as refused:
        load(path, environment={"HIDDEN": hidden})
    told = "\n".join(map(str, refused.value.problems))
    assert f"connections[0].{key}" in told
    assert hidden not in told
