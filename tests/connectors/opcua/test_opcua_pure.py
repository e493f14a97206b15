"""Node texts, settings, quality, plans: everything that needs no server."""

from __future__ import annotations

import tomllib
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.status_codes import code_to_name_doc
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import connectors.opcua
from connectors.errors import ConnectionLost, DeviceRefused
from connectors.opcua import PROTOCOL
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.failures import explain, explain_code
from connectors.opcua.feed import in_order
from connectors.opcua.nodes import (
    BrowsePath,
    NodeName,
    NodeSyntaxError,
    NodeUnresolved,
    node_id,
    parse_node,
    relative_path,
)
from connectors.opcua.plan import QUEUE_FASTEST, Limits, Quarantine, chunked, items_of, plan, tag_ids
from connectors.opcua.quality import overflowed, quality_of
from connectors.opcua.values import UNSUPPORTED, Reading, datetime_text, sample_of, source_time
from statemodel.types import Quality, TagSample

NAMESPACES = ("http://opcfoundation.org/UA/", "urn:server", "urn:plant")
NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("nsu=urn:plant;s=Filler.State", NodeName("urn:plant", "Filler.State")),
        ("nsu=http://a/b?c=1;i=7", NodeName("http://a/b?c=1", 7)),
        ("nsu=urn:a%3Bb;s=x", NodeName("urn:a;b", "x")),
        ("ns=2;s=a;b=c", NodeName(2, "a;b=c")),
        ('ns=3;s="DB"."Speed"', NodeName(3, '"DB"."Speed"')),
        ("i=2258", NodeName(0, 2258)),
        (
            "ns=1;g=72962b91-fa75-4ae6-8d28-b404dc7daf63",
            NodeName(1, uuid.UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63")),
        ),
        ("ns=1;b=Cv8=", NodeName(1, b"\x0a\xff")),
        ("/Objects/2:Plant/2:Speed", BrowsePath(((0, "Objects"), (2, "Plant"), (2, "Speed")))),
        ("/Root/Objects", BrowsePath(((0, "Objects"),))),
        ("/Objects/nsu=urn:plant;Plant", BrowsePath(((0, "Objects"), ("urn:plant", "Plant")))),
        ("/Objects/nsu=http:&/&/a&/;Plant", BrowsePath(((0, "Objects"), ("http://a/", "Plant")))),
        ("/Objects/2:in&/out", BrowsePath(((0, "Objects"), (2, "in/out")))),
    ],
)
def test_nodes_are_read_as_people_write_them(text: str, node: NodeName | BrowsePath) -> None:
    assert parse_node(text) == node


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not an OPC UA node"),
        ("Filler.State", "is not an OPC UA node"),
        ("ns=x;s=a", "is not an OPC UA node"),
        ("ns=70000;s=a", "at most 65535"),
        ("ns=2;s=", 'nothing after "s="'),
        ("i=-1", "a number from 0"),
        ("i=4294967296", "a number from 0"),
        ("ns=2;g=123", "a GUID such as"),
        ("ns=2;b=???", "Base64"),
        ("svr=1;ns=2;s=a", "another server"),
        ("/Objects//2:Plant", "empty step"),
        ("/Objects/2:Plant/", "empty step"),
        ("/", "empty step"),
        ("/Root", "no node below"),
    ],
)
def test_a_wrong_node_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(NodeSyntaxError, match=words):
        parse_node(text)


def test_nodes_are_resolved_against_the_namespaces_of_the_session() -> None:
    node = parse_node("nsu=urn:plant;s=Speed")
    assert isinstance(node, NodeName)
    assert node_id(node, NAMESPACES) == ua.NodeId("Speed", 2)
    assert node_id(node, (NAMESPACES[0], "urn:new", "urn:other", "urn:plant")) == ua.NodeId("Speed", 3)
    for namespaces, words in (
        (NAMESPACES[:2], "no namespace"),
        ((*NAMESPACES, "urn:plant"), "twice, as 2 and 3"),
    ):
        with pytest.raises(NodeUnresolved, match=words):
            node_id(node, namespaces)
    with pytest.raises(NodeUnresolved, match="no namespace 9"):
        node_id(NodeName(9, 1), NAMESPACES)


def test_browse_paths_are_resolved_too() -> None:
    path = parse_node("/Objects/nsu=urn:plant;Plant")
    assert isinstance(path, BrowsePath)
    names = [element.TargetName for element in relative_path(path, NAMESPACES).Elements]
    assert names == [ua.QualifiedName("Objects", 0), ua.QualifiedName("Plant", 2)]


@pytest.mark.parametrize(
    ("code", "quality", "substatus"),
    [
        (0x00000000, Quality.GOOD, ""),
        (0x00000480, Quality.GOOD, ""),
        (0x00960000, Quality.GOOD, "local_override"),
        (0x408F0000, Quality.UNCERTAIN, "no_communication_last_usable_value"),
        (0x80310000, Quality.BAD, "no_communication"),
        (0x80310400, Quality.BAD, "no_communication"),
        (0x80890000, Quality.BAD, "configuration_error"),
        (0x80000000, Quality.BAD, ""),
        (0xC0000000, Quality.BAD, "status_c0000000"),
        (0x80FF0000, Quality.BAD, "status_80ff0000"),
    ],
)
def test_status_codes(code: int, quality: Quality, substatus: str) -> None:
    assert quality_of(code) == (quality, substatus)


def test_every_standard_code_has_a_snake_case_substatus() -> None:
    for code in code_to_name_doc:
        assert quality_of(code)[1].replace("_", "a").isalnum() or quality_of(code)[1] == ""
        assert quality_of(code)[1] == quality_of(code)[1].lower()


def test_the_overflow_bit_counts_for_data_values_only() -> None:
    assert overflowed(0x00000480)
    assert not overflowed(0x00000080)
    assert not overflowed(0x00000400)


def test_source_times_nobody_can_mean_are_dropped() -> None:
    def ticks(when: datetime) -> int:
        return ua.datetime_to_win_epoch(when)

    assert source_time(0) is None
    assert source_time(-5) is None
    assert source_time(ticks(datetime(1970, 1, 1, tzinfo=UTC))) is None
    assert source_time(ticks(datetime(1990, 1, 1, tzinfo=UTC)) - 1) is None
    assert source_time(2**63 - 1) is None
    for when in (
        datetime(1990, 1, 1, tzinfo=UTC),
        NOW,
        datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ):
        assert source_time(ticks(when)) == when


@given(st.datetimes(datetime(1601, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001
def test_dates_are_text_to_the_microsecond(when: datetime) -> None:
    text = datetime_text(ua.datetime_to_win_epoch(when))
    assert text is not None
    assert datetime.fromisoformat(text) == when


def test_values_read_one_by_one_follow_the_same_rules() -> None:
    ticks = ua.datetime_to_win_epoch(NOW)
    said = sample_of("t", Reading(UNSUPPORTED, 0, ticks), NOW)
    assert said == TagSample("t", None, Quality.BAD, NOW, NOW, "unsupported_type")
    said = sample_of("t", Reading(5, 0x80310000, None), NOW)
    assert said == TagSample("t", None, Quality.BAD, None, NOW, "no_communication")


def settings_of(**more: Any) -> OpcuaConnection:
    base = {"name": "plc", "protocol": "opcua", "endpoint": "opc.tcp://10.0.0.5", "groups": []}
    return OpcuaConnection.model_validate(base | more)


def group(name: str, interval: str, *tags: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "interval": interval,
        "tags": [{"node": f"ns=2;s={tag['name']}"} | tag for tag in tags],
    }


def test_the_sample_is_a_configuration() -> None:
    text = (Path(connectors.opcua.__file__).parent / "sample.toml").read_text(encoding="utf-8")
    (connection,) = tomllib.loads(text)["connections"]
    settings = OpcuaConnection.model_validate(connection)
    assert settings.model_dump(exclude={"name", "endpoint", "groups"}) == settings_of().model_dump(
        exclude={"name", "endpoint", "groups"}
    ), "the sample shows the defaults"
    assert PROTOCOL.csv_key == "node"


def test_protection_is_the_default_and_its_absence_must_be_said() -> None:
    assert (settings_of().security.policy, settings_of().security.mode) == (
        "Basic256Sha256",
        "SignAndEncrypt",
    )
    assert settings_of(security={"policy": "None", "mode": "None"}).security.mode == "None"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"endpoint": "http://10.0.0.5"}, "not an OPC UA address"),
        ({"endpoint": "opc.tcp://"}, "not an OPC UA address"),
        ({"endpoint": "opc.tcp://host:99999"}, "is not an address"),
        ({"endpoint": "opc.tcp://me:secret@host"}, 'use "user" and "password"'),
        ({"security": {"policy": "None"}}, "go together"),
        ({"security": {"mode": "None"}}, "go together"),
        ({"security": {"policy": "Basic256"}}, "Basic256Sha256"),
        ({"password": "x"}, 'needs a "user"'),
        (
            {"user": "a", "password": "x", "security": {"policy": "None", "mode": "None"}},
            "allow_plain_password",
        ),
        ({"connect_timeout": "5m"}, "from 100ms to 60s"),
        ({"groups": [group("g", "1ms")]}, "from 10ms to 1h"),
        ({"groups": [group("g", "1s", {"name": "a", "node": "nope"})]}, "is not an OPC UA node; write"),
        ({"groups": [group("g", "1s", {"name": "a", "server_deadband": True})]}, '"deadband" above 0'),
    ],
)
def test_wrong_settings_are_refused_with_a_reason(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings_of(**more)
    assert words in str(refused.value)
    assert "secret" not in refused.value.json(include_input=False)


def test_the_port_is_filled_in_and_the_password_kept_quiet() -> None:
    settings = settings_of(user="a", password="geheim")
    assert settings.endpoint == "opc.tcp://10.0.0.5:4840"
    assert settings_of(endpoint="opc.tcp://[::1]:5000/x").host == "::1"
    assert "geheim" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_queues_hold_everything_between_two_publish_responses() -> None:
    settings = settings_of(
        groups=[
            group(
                "g",
                "1s",
                {"name": "same"},
                {"name": "quick", "sampling": "10ms"},
                {"name": "fastest", "sampling": "0s"},
                {"name": "own", "queue_size": 3},
            )
        ]
    )
    ((same, quick, fastest, own),) = items_of(settings)
    assert (same.sampling_s, same.queue_size) == (1.0, 10)
    assert (quick.sampling_s, quick.queue_size) == (0.01, 102)
    assert (fastest.sampling_s, fastest.queue_size) == (0.0, QUEUE_FASTEST)
    assert own.queue_size == 3
    assert [tag_ids(settings)[item.handle] for item in (same, own)] == ["plc/same", "plc/own"]


def test_groups_become_subscriptions_within_the_limits_of_the_server() -> None:
    tags = [{"name": f"t{number}"} for number in range(5)]
    settings = settings_of(
        groups=[group("fast", "100ms", *tags), group("none", "1s"), group("slow", "30s", {"name": "u"})],
        keep_alive="2s",
    )
    fast, rest, slow = plan(settings, Limits(items_per_subscription=3))
    assert [len(part.items) for part in (fast, rest, slow)] == [3, 2, 1]
    assert (fast.group, rest.group, slow.group) == ("fast", "fast", "slow")
    assert (fast.keep_alive_count, fast.lifetime_count) == (20, 600)
    assert (slow.keep_alive_count, slow.lifetime_count) == (1, 3)
    handles = [item.handle for part in (fast, rest, slow) for item in part.items]
    assert handles == [1, 2, 3, 4, 5, 6], "handles are unique over all subscriptions"


def test_chunks_keep_order_and_limit() -> None:
    assert list(chunked("abcde", 2)) == [("a", "b"), ("c", "d"), ("e",)]
    assert [len(part) for part in chunked(range(2500), 0)] == [1000, 1000, 500]
    assert list(chunked((), 3)) == []


def test_quarantine_asks_ever_more_rarely() -> None:
    ((item,),) = items_of(settings_of(groups=[group("g", "1s", {"name": "a"})]))
    quarantine = Quarantine()
    assert quarantine.refused(item, "gone", 0.0), "the first refusal is news"
    assert quarantine.due(29.9) == ()
    assert quarantine.due(30.0) == (item,)
    assert not quarantine.refused(item, "gone", 30.0), "the same again is none"
    assert quarantine.pause_s(30.0) == 60.0
    assert quarantine.refused(item, "denied", 90.0)
    for _ in range(100):
        quarantine.refused(item, "denied", 0.0)
    assert quarantine.pause_s(0.0) == Quarantine.MAX_S
    assert quarantine.accepted(item)
    assert not quarantine.accepted(item)
    assert quarantine.due(1e9) == ()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ua.uaerrors.BadIdentityTokenRejected(), DeviceRefused, "user or password"),
        (ua.uaerrors.BadCertificateUntrusted(), DeviceRefused, "does not trust this gateway"),
        (ua.uaerrors.BadSecurityPolicyRejected(), DeviceRefused, "does not offer"),
        (ua.uaerrors.BadTooManySessions(), ConnectionLost, "no session left"),
        (ConnectionRefusedError(), ConnectionLost, "nothing listens"),
        (TimeoutError(), ConnectionLost, "in time"),
        (ConnectionResetError(), ConnectionLost, "closed by the other side"),
        (ValueError("x"), ConnectionLost, "cannot be understood"),
    ],
)
def test_errors_are_put_into_words(error: Exception, kind: type[Exception], words: str) -> None:
    told = explain(error, "opc.tcp://h:1", "/d/own.der")
    assert type(told) is kind
    assert words in told.reason
    assert told.reason.startswith("opc.tcp://h:1: ")


def test_hints_name_the_file_to_approve() -> None:
    assert "/d/own.der" in explain_code(0x801A0000, "e", "/d/own.der").hint


def sample(tag: str, value: int, after_s: float | None) -> TagSample:
    source_at = None if after_s is None else NOW + timedelta(seconds=after_s)
    return TagSample(tag, value, Quality.GOOD, source_at, NOW)


def test_a_response_is_put_in_the_order_things_happened() -> None:
    a1, a2, b1 = sample("a", 1, 0.0), sample("a", 2, 2.0), sample("b", 1, 1.0)
    assert in_order([a1, a2, b1]) == (a1, b1, a2)


def test_the_order_of_one_tag_is_never_changed() -> None:
    # The clock of the PLC was set back between two values.
    a1, a2, b1 = sample("a", 1, 5.0), sample("a", 2, 0.0), sample("b", 1, 1.0)
    assert in_order([a1, a2, b1]) == (a1, a2, b1)
    c = sample("c", 1, None)
    assert in_order([a1, c, b1]) == (a1, c, b1), "without all times there is nothing to sort by"
