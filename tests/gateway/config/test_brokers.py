"""Sections of brokers: once or several times, told apart, and never in each other's way."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.config.brokers import broker_address, embedded_port, host_and_port
from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused, Problem
from gateway.config.schema import Configuration

GATEWAY = '[gateway]\nid = "line-1"\nenterprise = "acme"\nsite = "berlin"\n'

FILLER = """
[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://10.0.0.6:502"
[[connections.groups]]
name = "all"
interval = "1s"
tags = [{ name = "state", address = "holding:0", type = "uint16" }]
[[equipment]]
name = "filler-1"
path = "filling/line-1/filler-1"
model = "packml"
state = "plc/state"
"""


def configuration(tmp_path: Path, text: str) -> Configuration:
    path = tmp_path / "andon.toml"
    path.write_text(GATEWAY + text)
    return load(path, environment={"BACKUP": "mqtt://backup:1883"}).configuration


def refused(tmp_path: Path, text: str) -> list[Problem]:
    with pytest.raises(ConfigurationRefused) as caught:
        configuration(tmp_path, text)
    return list(caught.value.problems)


def test_without_a_section_there_is_no_broker(tmp_path: Path) -> None:
    found = configuration(tmp_path, "")
    assert (found.mqtt, found.sparkplug, found.sinks) == ((), (), ())


def test_one_broker_needs_no_name(tmp_path: Path) -> None:
    found = configuration(tmp_path, '[mqtt]\nbroker = "mqtt://h:1"\n[historian]\ndsn = "embedded"\n')
    assert found.sinks == ("historian", "mqtt")
    assert found.mqtt[0].client_id_for("line-1") == "andon-line-1"


def test_several_brokers_are_told_apart(tmp_path: Path) -> None:
    found = configuration(
        tmp_path,
        """
        [[mqtt]]
        name = "plant"
        broker = "mqtt://h:1"
        [[mqtt]]
        name = "cloud"
        broker = "mqtts://cloud:1"
        topics.state.qos = 2
        [sparkplug]
        broker = ["mqtt://h:1", "env:BACKUP"]
        group = "acme berlin"
        """,
    )
    assert found.sinks == ("mqtt-plant", "mqtt-cloud", "sparkplug")
    ids = [broker.client_id_for("line-1") for broker in (*found.mqtt, *found.sparkplug)]
    assert ids == ["andon-line-1-plant", "andon-line-1-cloud", "andon-line-1-sparkplug"]
    assert found.mqtt[1].topics["state"].qos == 2
    assert found.sparkplug[0].addresses == ("mqtt://h:1", "mqtt://backup:1883")
    assert found.sparkplug[0].edge_node_for("line-1") == "line-1"


def test_the_place_of_a_problem_is_the_broker_it_is_in(tmp_path: Path) -> None:
    one = refused(
        tmp_path, '[mqtt]\nbroker = "mqtt://h:1"\nkeep_alive = "soon"\n[mqtt.topics.stat]\nqos = 1\n'
    )
    assert [(problem.line, problem.path) for problem in one] == [
        (7, "mqtt.keep_alive"),
        (8, "mqtt.topics.stat"),
    ]
    assert "state" in one[1].hint
    several = refused(
        tmp_path,
        """[[mqtt]]
name = "a"
broker = "mqtt://h:1"
[[mqtt]]
name = "b"
broker = "tcp://h:1"
[mqtt.topics."event/transition"]
qoss = 1
""",
    )
    assert [(problem.line, problem.path) for problem in several] == [
        (10, "mqtt[1].broker"),
        (12, 'mqtt[1].topics."event/transition".qoss'),
    ]
    assert several[1].hint == 'did you mean "qos"?'


MQTT = '[[mqtt]]\nname = "{}"\nbroker = "{}"\n'
NODE = '[[sparkplug]]\nname = "{}"\nbroker = "mqtt://h:{}"\ngroup = "{}"\nedge_node = "{}"\n'


@pytest.mark.parametrize(
    ("text", "line", "path", "reason"),
    [
        pytest.param(
            '[[mqtt]]\nbroker = "mqtt://h:1"\n[[mqtt]]\nname = "b"\nbroker = "mqtt://h:2"\n',
            5,
            "mqtt[0].name",
            "is required when there are several [[mqtt]]",
            id="no name",
        ),
        pytest.param(
            MQTT.format("plant", "mqtt://h:1") + MQTT.format("Plant", "mqtt://h:2"),
            9,
            "mqtt[1].name",
            '"Plant" is used twice',
            id="one name",
        ),
        pytest.param(
            MQTT.format("a", "mqtt://H:1")
            + 'client_id = "x"\n'
            + NODE.format("b", 1, "g", "n")
            + 'client_id = "x"\n',
            14,
            "sparkplug[0].client_id",
            '"x" is that of mqtt[0] too, at h:1',
            id="one client id at one broker",
        ),
        pytest.param(
            '[mqtt]\nbroker = "embedded"\nclient_id = "x"\n'
            '[sparkplug]\ngroup = "g"\nbroker = ["mqtt://h:1", "embedded"]\nclient_id = "x"\n',
            11,
            "sparkplug.client_id",
            '"x" is that of mqtt too, at the embedded broker',
            id="one client id at the embedded broker",
        ),
        pytest.param(
            NODE.format("a", 1, "g", "n") + NODE.format("b", 2, "G", "N"),
            14,
            "sparkplug[1].edge_node",
            '"G/N" is that of sparkplug[0] too',
            id="one edge node",
        ),
        pytest.param(
            MQTT.format("a", "embedded")
            + "embedded_port = 1\n"
            + '[sparkplug]\ngroup = "g"\nbroker = "embedded"\nembedded_port = 2\n',
            12,
            "sparkplug.embedded_port",
            "is not that of mqtt[0], 1",
            id="two ports of the embedded broker",
        ),
        pytest.param(
            '[sparkplug]\nbroker = "mqtt://h:1"\ngroup = "acme/berlin"\n',
            7,
            "sparkplug.group",
            'has "/", which no level of a topic may have',
            id="a group that is no level",
        ),
        pytest.param(
            '[sparkplug]\nbroker = "mqtt://h:1"\ngroup = "STATE"\n',
            7,
            "sparkplug.group",
            "is what host applications have in this place",
            id="a group that is where hosts are",
        ),
        pytest.param(
            '[sparkplug]\nbroker = []\ngroup = "g"\n',
            6,
            "sparkplug.broker",
            "names no broker",
            id="no broker",
        ),
        pytest.param(
            '[mqtt]\nbroker = "mqtt://h:1"\n[mqtt.topics.event.gap]\nqos = 1\n',
            7,
            "mqtt.topics",
            "a type of event has a table of its own",
            id="a table in a table",
        ),
        pytest.param(
            '[sparkplug]\nbroker = ["mqtt://h:1", "mqtt://h:1"]\ngroup = "g"\n',
            6,
            "sparkplug.broker",
            "names a broker twice",
            id="a server twice",
        ),
        pytest.param(
            '[sparkplug]\nbroker = "mqtt://h:99999"\ngroup = "g"\n',
            6,
            "sparkplug.broker",
            "is not a broker address",
            id="a port that is none",
        ),
        pytest.param(
            MQTT.format("a", "mqtt://h:1") + MQTT.format("b", "mqtts://H:1"),
            8,
            "mqtt[1]",
            "the status of the gateway is said on andon/line-1/status by mqtt[0] already",
            id="one topic by two at one broker",
        ),
    ],
)
def test_brokers_that_would_be_in_each_others_way(
    tmp_path: Path, text: str, line: int, path: str, reason: str
) -> None:
    (problem,) = refused(tmp_path, text)
    assert (problem.line, problem.path, problem.reason) == (line, path, reason)
    assert problem.hint


def test_one_client_id_at_two_brokers_is_fine(tmp_path: Path) -> None:
    same = (
        MQTT.format("a", "mqtt://h:1")
        + 'client_id = "x"\n'
        + MQTT.format("b", "mqtt://h:2")
        + 'client_id = "x"\n'
    )
    assert len(configuration(tmp_path, same).mqtt) == 2


def test_all_that_say_embedded_share_one_port(tmp_path: Path) -> None:
    found = configuration(
        tmp_path,
        '[mqtt]\nbroker = "embedded"\n[sparkplug]\nbroker = "embedded"\ngroup = "g"\nembedded_port = 0\n',
    )
    sections = (*found.mqtt, *found.sparkplug)
    assert embedded_port(sections) == 0
    assert embedded_port(found.mqtt) == 1883
    assert embedded_port(()) is None
    assert {section.speaks for section in sections} == {"3.1.1"}


def test_an_address_is_host_and_port() -> None:
    assert host_and_port("mqtts://u:p@[::1]:8883") == "::1:8883"
    assert host_and_port("embedded") == "embedded"


ODD = st.one_of(
    st.from_regex(r"\Amqtts?://([a-z@/?#%:]{0,4}@)?(\[[0-9a-f:.]{0,6}\]|[^ ]{0,5}):[0-9]{0,6}\Z"),
    st.text(max_size=12),
)


@given(ODD)
@example("mqtt://[:::]:1")
@example("mqtt://h\u2100:1")
@example("mqtt://a/b@h:1")
@example("mqtt://h:0")
def test_an_address_is_refused_or_has_a_host_and_a_port(text: str) -> None:
    try:
        broker_address(text)
    except ValueError as error:
        reason, _, hint = str(error).partition("; ")
        assert reason
        assert hint
    else:
        if text not in ("embedded",) and not text.startswith(("env:", "file:")):
            host, _, port = host_and_port(text).rpartition(":")
            written, _, number = text.lower().rpartition("@")[2].removeprefix("mqtt://").rpartition(":")
            assert host == written.removeprefix("mqtts://").strip("[]")
            assert int(port) == int(number) > 0


WORDS = (
    *(
        "broker",
        "name",
        "topics",
        "state",
        "event",
        "event/gap",
        "topic",
        "qos",
        "retain",
        "expiry",
        "protocol",
    ),
    *("cloudevents", "group", "edge_node", "under", "embedded_port", "client_id", "primary_host", "commands"),
)


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text("ab/{}+#x", max_size=5)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.sampled_from(["mqtt", "sparkplug"]), values)
def test_whatever_a_section_holds_is_read_or_refused_in_words(
    tmp_path: Path, name: str, value: object
) -> None:
    lines = toml(name, value)
    if lines is None:
        return
    path = tmp_path / "andon.toml"
    path.write_text(f"{lines}\n{GATEWAY}", encoding="utf-8")
    try:
        load(path, environment={})
    except ConfigurationRefused as error:
        problems = error.problems
    else:
        return
    assert all(problem.reason for problem in problems)


def toml(name: str, value: object) -> str | None:
    """`name = value`; None for what TOML cannot say."""

    def said(value: object) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f'"{key}" = {said(inner)}' for key, inner in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(said, value)) + "]"
        return json.dumps(value)

    text = f"{name} = {said(value)}"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
    return text


def test_a_node_for_a_line_holds_what_is_below_its_path(tmp_path: Path) -> None:
    text = '[sparkplug]\nbroker = "mqtt://h:1"\ngroup = "g"\nunder = "filling/line-1"\n'
    node = configuration(tmp_path, text).sparkplug[0]
    assert node.holds("filling/line-1/filler-1")
    assert node.holds("filling/line-1")
    assert not node.holds("filling/line-10/filler-1")


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [
        ("mqtt", "host", 'did you mean "broker"?'),
        ("mqtt", "url", 'did you mean "broker"?'),
        ("mqtt", "username", 'did you mean "user"?'),
        ("mqtt", "state", "known: "),
        ("sparkplug", "server", 'did you mean "broker"?'),
        ("sparkplug", "group_id", 'did you mean "group"?'),
        ("sparkplug", "topics", "known: "),
    ],
)
def test_a_key_that_is_unknown_to_a_broker_leads_to_those_that_are(
    tmp_path: Path, section: str, key: str, hint: str
) -> None:
    needed = 'broker = "mqtt://h:1"\n' + 'group = "g"\n' * (section == "sparkplug")
    (problem,) = refused(tmp_path, f'[{section}]\n{needed}{key} = "x"\n')
    assert (problem.path, problem.reason) == (f"{section}.{key}", "unknown key")
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize("under", ["filing", "/filling/", "filling/"])
def test_a_path_that_holds_nothing_is_told_the_nearest_that_does(tmp_path: Path, under: str) -> None:
    text = f'[sparkplug]\nbroker = "mqtt://h:1"\ngroup = "g"\nunder = "{under}"\n' + FILLER
    (problem,) = refused(tmp_path, text)
    assert (problem.path, problem.hint) == ("sparkplug.under", 'did you mean "filling"?')


def test_whoever_lets_hosts_write_is_told_who_else_may(tmp_path: Path) -> None:
    path = tmp_path / "andon.toml"
    node = '[sparkplug]\nbroker = "mqtt://h:1"\ngroup = "acme"\n'
    path.write_text(GATEWAY + node)
    assert load(path).warnings == ()
    path.write_text(GATEWAY + node + "commands = true\n")
    warning, of_no_use = load(path).warnings
    assert (of_no_use.path, of_no_use.reason[:15]) == ("sparkplug.commands", "is of no use: n")
    assert (warning.path, warning.line) == ("sparkplug.commands", 8)
    # Tags that no equipment is bound to are metrics of the node, and written by NCMD.
    assert "spBv1.0/acme/NCMD/# and spBv1.0/acme/DCMD/#" in warning.hint


@pytest.mark.parametrize(
    ("text", "line", "path", "reason"),
    [
        pytest.param(
            '[mqtt]\nbroker = "mqtt://h:1"\nca_file = "ca.pem"\n',
            7,
            "mqtt.ca_file",
            "is of no use: mqtt:// goes without TLS",
            id="an authority without TLS",
        ),
        pytest.param(
            '[sparkplug]\nbroker = ["mqtt://h:1", "embedded"]\ngroup = "g"\ncert_file = "own.pem"\n',
            8,
            "sparkplug.cert_file",
            "is of no use: mqtt:// goes without TLS",
            id="a certificate without TLS",
        ),
        pytest.param(
            '[mqtt]\nbroker = "embedded"\nca_file = "ca.pem"\n',
            7,
            "mqtt.ca_file",
            "is of no use: the embedded broker knows no TLS",
            id="an authority for the embedded broker",
        ),
        pytest.param(
            '[mqtt]\nbroker = "mqtts://h:1"\nkey_file = "own.key"\n',
            7,
            "mqtt.key_file",
            "is of no use without its certificate",
            id="a key without its certificate",
        ),
        pytest.param(
            '[mqtt]\nbroker = "mqtt://h:1"\nclient_id = ""\n',
            7,
            "mqtt.client_id",
            "is empty",
            id="no client id",
        ),
        *(
            pytest.param(
                f'[mqtt]\nbroker = "mqtt://h:1"\nkeep_alive = "{words}"\n',
                7,
                "mqtt.keep_alive",
                "must be from 1s to 65535s",
                id=f"keep alive {words}",
            )
            for words in ("0s", "400ms", "1d")
        ),
        *(
            pytest.param(f'[mqtt]\nbroker = "{words}"\n', 6, "mqtt.broker", reason, id=words)
            for words, reason in (
                ("mqtt://h", "has no port"),
                ("mqtts://h", "has no port"),
                ("h:1883", "does not begin with mqtt:// or mqtts://"),
                ("tcp://h:1883", "does not begin with mqtt:// or mqtts://"),
                ("wss://h:443/mqtt", "does not begin with mqtt:// or mqtts://"),
                ("mqtt://h:1883/", "goes on after the port"),
                ("mqtt://:1883", "is not a broker address"),
            )
        ),
    ],
)
def test_what_would_do_other_than_it_says_is_refused(
    tmp_path: Path, text: str, line: int, path: str, reason: str
) -> None:
    (problem,) = refused(tmp_path, text)
    assert (problem.line, problem.path, problem.reason) == (line, path, reason)
    assert problem.hint


def test_files_for_tls_go_with_a_broker_that_has_it(tmp_path: Path) -> None:
    files = 'ca_file = "ca.pem"\ncert_file = "own.pem"\n'  # the key may be in the file of the certificate
    assert configuration(tmp_path, f'[mqtt]\nbroker = "mqtts://h:1"\n{files}').mqtt
    mixed = f'[sparkplug]\nbroker = ["mqtts://h:1", "mqtt://h:2"]\ngroup = "g"\n{files}'
    assert configuration(tmp_path, mixed).sparkplug


@pytest.mark.parametrize(
    ("broker", "warned"),
    [
        ('"mqtt://10.0.0.9:1883"', True),
        ('"mqtt://broker.plant:1883"', True),
        ('"mqtts://broker.plant:8883"', False),
        ('"mqtt://127.0.0.1:1883"', False),
        ('"mqtt://[::1]:1883"', False),
        ('"mqtt://localhost:1883"', False),
        ('"embedded"', False),
    ],
)
def test_a_password_that_others_on_the_network_could_read_is_warned_of(
    tmp_path: Path, broker: str, warned: bool
) -> None:
    path = tmp_path / "andon.toml"
    path.write_text(f'{GATEWAY}[mqtt]\nbroker = {broker}\nuser = "andon"\npassword = "env:WORD"\n')
    warnings = load(path, environment={"WORD": "x"}).warnings
    assert [(warning.path, warning.line) for warning in warnings] == [("mqtt.password", 8)] * warned
    assert all("mqtts://" in warning.hint for warning in warnings)


def test_files_for_tls_that_cannot_be_read_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "andon.toml"
    (tmp_path / "ca.pem").write_text("an authority")
    text = '[mqtt]\nbroker = "mqtts://h:1"\nca_file = "ca.pem"\ncert_file = "own.pem"\nkey_file = "keys"\n'
    (tmp_path / "keys").mkdir()
    path.write_text(GATEWAY + text)
    assert [(warning.path, warning.line, warning.reason) for warning in load(path).warnings] == [
        ("mqtt.cert_file", 8, f'the file "{tmp_path / "own.pem"}" cannot be read: No such file or directory'),
        ("mqtt.key_file", 9, f'the file "{tmp_path / "keys"}" cannot be read: Is a directory'),
    ]


@pytest.mark.parametrize(
    ("text", "line", "path", "hint"),
    [
        (
            '[mqtt]\nbroker = "mqtt://h:1"\n[mqtt.topics]\nstate = "{site}/{equipment}"\n',
            8,
            "mqtt.topics.state",
            'write [mqtt.topics.state], with topic = "..." below it',
        ),
        (
            '[[mqtt]]\nbroker = "mqtt://h:1"\n[[mqtt.topics.state]]\nqos = 1\n',
            7,
            "mqtt[0].topics.state",
            'write [mqtt.topics.state], with topic = "..." below it',
        ),
        (
            '[mqtt]\nbroker = ["mqtt://h:1", "mqtt://h:2"]\n',
            6,
            "mqtt.broker",
            "write one [[mqtt]] for each broker, with a name",
        ),
        (
            '[mqtt]\nbroker = "mqtt://h:1"\n[[mqtt]]\nbroker = "mqtt://h:2"\n',
            7,
            "",
            "a key stands once in its section; a section is either [one] or [[each]] of several, never both",
        ),
    ],
)
def test_what_stands_in_the_wrong_form_is_led_to_the_right_one(
    tmp_path: Path, text: str, line: int, path: str, hint: str
) -> None:
    (problem,) = refused(tmp_path, text)
    assert (problem.line, problem.path, problem.hint) == (line, path, hint)


@pytest.mark.parametrize("host", ["plant..example", ".example", "x" * 64 + ".example"])
def test_a_host_that_cannot_even_be_asked_for_is_refused(host: str) -> None:
    """Asking the system for its address fails in a way that is no failure of a network."""
    with pytest.raises(ValueError, match="; check the host"):
        broker_address(f"mqtt://{host}:1883")


def test_hosts_of_all_forms_can_be_asked_for() -> None:
    for host in ("plc", "plc.", "br\u00fccke.example", "10.0.0.1", "[::1]", "a_b", "x" * 63):
        assert broker_address(f"mqtt://{host}:1883")
