"""Whatever templates a plant writes: they are refused, or every topic they make is one that may be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.mqtt import KINDS, MqttSettings
from gateway.config.schema import GatewaySettings
from gateway.publish.judging import judge
from gateway.publish.topics import CONNECTION_TYPES, GATEWAY_TYPES, OFFERS, Place
from gateway.publish.tree import Plant, expand, shared, topics_of
from statemodel.records import TYPE_OF, Recorded, tell
from statemodel.types import AuditAnchor, CommandStatus, CommandTold, Rejection, SourceLost

AT = datetime(2026, 11, 21, tzinfo=UTC)
GATEWAY = GatewaySettings(id="line-1", enterprise="acme", site="berlin")
PLACES = (
    Place("filler-1", "filling/line-1/filler-1", "packml"),
    Place("oven-1", "baking/oven-1", "oven"),
    Place("mill", "mill", "a+b"),
)
TAGS = {"plc/speed": PLACES[:2], "plc/temp": PLACES[1:2], "hall/speed": ()}
KEYS = (*KINDS, "event/rejection", "event/source_lost")
#: What no template may have, or none of these may, or only sometimes.
ODD = (
    "$x",
    "+",
    "#",
    "",
    "spBv1.0",
    "{",
    "{x}",
    "\u0007",
    "{tag}",
    "{type}",
    "{connection}",
    "{path}",
    "{level2}",
)


def tables(key: str) -> st.SearchStrategy[dict[str, str]]:
    """Templates of what there is for a kind, now and then with something else."""
    names = sorted(f"{{{name}}}" for name in OFFERS[key] if not name.startswith("level"))
    piece = st.sampled_from([*names, "{level1}" if "path" in OFFERS[key] else "a", "a", "_state", "status"])
    level = st.lists(piece, min_size=1, max_size=2).map("".join)
    template = st.lists(level, min_size=1, max_size=5).map("/".join)
    odd = st.tuples(template, st.sampled_from(ODD), st.booleans()).map(
        lambda parts: f"{parts[0]}/{parts[1]}" if parts[2] else f"{parts[1]}/{parts[0]}"
    )
    return st.fixed_dictionaries(
        {"topic": st.integers(0, 9).flatmap(lambda one: odd if one == 7 else template)}
    )


TABLES = st.fixed_dictionaries({}, optional={key: tables(key) for key in KEYS})


def plant(places: int) -> Plant:
    known = PLACES[:places]
    tags = {tag: tuple(place for place in of if place in known) for tag, of in TAGS.items()}
    return Plant(GATEWAY, known, ("plc", "hall"), tags)


def may_be(topic: str) -> bool:
    """MQTT 5.0 sections 1.5.4 and 4.7, and what Sparkplug keeps for itself; read for this test alone."""
    return (
        0 < len(topic.encode()) <= 65_535
        and not set(topic) & {"+", "#", "\0"}
        and all(char.isprintable() for char in topic)
        and all(topic.split("/"))
        and topic[0] != "$"
        and topic.split("/")[0] != "spBv1.0"
    )


def recorded(event: SourceLost | Rejection, type_: str) -> Recorded:
    of = (event.equipment, event.path) if isinstance(event, Rejection) else ("", "")
    return Recorded("s", 1, "s-1", type_, *of, AT, AT, event, b"")


@pytest.mark.timeout(600)
@settings(max_examples=400, deadline=None)
@given(TABLES, st.integers(0, 3))
def test_what_is_not_refused_is_fit(given_: dict[str, dict[str, str]], places: int) -> None:
    broker = MqttSettings.model_validate({"broker": "mqtt://h:1", "topics": given_})
    of = plant(places)
    findings = list(judge(broker, of))
    for place, reason, hint in findings:
        assert place[0] == "topics"
        assert reason
        assert hint
    if findings:
        return
    owners: dict[str, set[tuple[str, str]]] = {}
    for said in expand(broker, of):
        assert may_be(said.topic)
        if not said.key.startswith("event/"):
            owners.setdefault(said.topic, set()).add((said.key, said.about))
        else:
            owners.setdefault(said.topic, set()).add(("event", ""))
    assert all(len(who) == 1 for who in owners.values()), owners

    # What is said later is said where it was judged.
    topics, listed = (
        topics_of(broker, GATEWAY),
        {(said.key, said.about): said.topic for said in expand(broker, of)},
    )
    for place in of.equipment:
        assert topics.state(place) == listed["state", place.equipment]
        assert topics.availability(place) == listed["availability", place.equipment]
        refused = Rejection(*place, "Idle", "Held", AT, "", None)  # type: ignore[arg-type]
        assert topics.event(recorded(refused, "rejection")) == listed["event/rejection", place.equipment]
    for connection in of.connections:
        assert topics.connection(connection) == listed["connection", connection]
        lost = recorded(SourceLost(connection, AT, ""), "source_lost")
        assert topics.event(lost) == topics.event(lost) == listed["event/source_lost", connection]
    for tag, bound in of.tags.items():
        assert set(topics.tags(tag, bound)) == {
            s.topic for s in expand(broker, of) if (s.key, s.about) == ("tag", tag)
        }
    assert topics.status == listed["status", ""]


@pytest.mark.timeout(600)
@settings(max_examples=200, deadline=None)
@given(TABLES)
def test_whatever_the_templates_an_event_of_long_ago_has_a_topic(given_: dict[str, dict[str, str]]) -> None:
    broker = MqttSettings.model_validate({"broker": "mqtt://h:1", "topics": given_})
    if list(judge(broker, plant(0))):
        return  # no template in itself, whatever there is
    topics = topics_of(broker, GATEWAY)
    for place in (*PLACES, Place("gone", "a/b/c/d", "x" * 200), Place("gone", "b", "a/b")):
        refused = Rejection(*place, "Idle", "Held", AT, "", None)  # type: ignore[arg-type]
        assert may_be(topics.event(recorded(refused, "rejection")))
        assert may_be(topics.state(place))


def test_what_is_about_nothing_configured_is_told_by_the_gateway() -> None:
    topics = topics_of(MqttSettings(broker="mqtt://h:1"), GATEWAY)
    refused = CommandTold("c", "", "", "plc/sp", "", 9, "anna", "rest", CommandStatus.REFUSED, AT)
    anchor = AuditAnchor(1, "ab", "cd", "k", AT)
    for event, type_ in ((refused, "command"), (anchor, "audit_anchor")):
        told = tell(event, gateway="g-1", stream="s", seq=1, recorded_at=AT)
        assert topics.event(told) == f"andon/{topics.status.split('/')[1]}/_event/{type_}"


def test_every_type_of_event_is_of_equipment_or_of_a_connection() -> None:
    of = plant(1)
    told = {(said.key, said.about) for said in expand(MqttSettings(broker="mqtt://h:1"), of)}
    for type_ in TYPE_OF.values():
        about = {"plc", "hall"} if type_ in CONNECTION_TYPES else {"filler-1"}
        about = {""} if type_ in GATEWAY_TYPES else about
        assert {name for key, name in told if key == f"event/{type_}"} == about


def test_two_brokers_share_what_both_retain_on_one_topic() -> None:
    of, broker = plant(1), MqttSettings(broker="mqtt://h:1")
    both = shared(expand(broker, of), expand(broker, of))
    assert both is not None
    templates = {
        "state": "x/{path}/state",
        "availability": "x/{path}/up",
        "tag": "x/{path}/{connection}/{tag}",
        "status": "x/gateway",
        "connection": "x/links/{connection}",
    }
    own = {key: {"topic": template} for key, template in templates.items()}
    other = MqttSettings.model_validate({"broker": "mqtt://h:1", "topics": own})
    assert shared(expand(broker, of), expand(other, of)) is None  # events alone are on one topic then
