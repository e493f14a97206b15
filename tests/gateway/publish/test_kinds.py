"""How each kind is said: what holds without settings, what settings change, what may not be asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gateway.config.mqtt import KINDS, MqttSettings
from gateway.publish.kinds import Kinds, Rule, refusals
from statemodel.records import TYPE_OF


def settings(**given: Any) -> MqttSettings:
    """A broker; `event__gap` and the like are tables of `topics`."""
    own = {key: given.pop(key) for key in ("broker", "protocol", "cloudevents") if key in given}
    tables = {key.replace("__", "/"): table for key, table in given.items()}
    return MqttSettings.model_validate({"broker": "mqtt://h:1", **own, "topics": tables})


def test_without_settings_all_is_retained_but_events() -> None:
    kinds = Kinds(settings())
    for kind in KINDS:
        assert kinds.of(kind) == Rule(1, retain=kind != "event")
    assert {kinds.event(type_) for type_ in TYPE_OF.values()} == {Rule(1, retain=False)}
    assert kinds.templates == {}


def test_a_type_of_event_has_what_all_events_have_until_it_says_otherwise() -> None:
    kinds = Kinds(settings(event={"qos": 2, "expiry": "1h"}, event__gap={"qos": 1, "topic": "gaps"}))
    assert kinds.event("transition") == Rule(2, retain=False, expiry_s=3600)
    assert kinds.event("gap") == Rule(1, retain=False, expiry_s=3600)
    assert kinds.templates == {"event/gap": "gaps"}


def test_what_is_retained_is_said_again_before_it_expires() -> None:
    kinds = Kinds(settings(state={"expiry": "10s"}, tag={"expiry": "1.5s", "retain": False}))
    assert kinds.state.refresh_s == 5
    assert kinds.tag == Rule(1, retain=False, expiry_s=2)  # whole seconds, and rather too long than too short
    assert kinds.tag.refresh_s is None
    assert Kinds(settings()).state.refresh_s is None


@pytest.mark.parametrize(
    ("given", "place", "reason"),
    [
        ({"event": {"qos": 0}}, ("topics", "event", "qos"), "events cannot have 0"),
        ({"event__gap": {"qos": 0}}, ("topics", "event/gap", "qos"), "events cannot have 0"),
        ({"event": {"retain": True}}, ("topics", "event", "retain"), "events cannot be retained"),
        ({"status": {"expiry": "1h"}}, ("topics", "status", "expiry"), "a status cannot expire"),
        ({"connection": {"expiry": "1h"}}, ("topics", "connection", "expiry"), "a connection cannot expire"),
        ({"availability": {"expiry": "1h"}}, ("topics", "availability", "expiry"), "cannot expire"),
        ({"state": {"expiry": "9s"}}, ("topics", "state", "expiry"), "must be at least 10s"),
        ({"event": {"expiry": "50000d"}}, ("topics", "event", "expiry"), "longer than MQTT can say"),
        ({"protocol": "3.1.1", "tag": {"expiry": "1h"}}, ("topics", "tag", "expiry"), "MQTT 5 only"),
        ({"broker": "embedded", "tag": {"expiry": "1h"}}, ("topics", "tag", "expiry"), "MQTT 5 only"),
        ({"broker": "embedded", "cloudevents": True}, ("cloudevents",), "needs the properties of MQTT 5"),
        ({"protocol": "3.1.1", "cloudevents": True}, ("cloudevents",), "needs the properties of MQTT 5"),
    ],
)
def test_what_may_not_be_asked_for(given: dict[str, Any], place: tuple[str, ...], reason: str) -> None:
    ((where, why, hint),) = refusals(settings(**given))
    assert where == place
    assert reason in why
    assert hint


def test_what_may_be_asked_for() -> None:
    for key in ("state", "tag", "status", "availability", "connection"):
        assert list(refusals(settings(**{key: {"qos": 0, "retain": False}}))) == []
    asked = settings(
        cloudevents=True, event={"retain": False, "qos": 2, "expiry": "1s"}, tag={"expiry": "1d"}
    )
    assert list(refusals(asked)) == []
    assert list(refusals(settings(tag={"expiry": "1s", "retain": False}))) == []
    assert Kinds(asked).tag.expiry_s == timedelta(days=1).total_seconds()
