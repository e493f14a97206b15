"""How each kind of thing is said: quality of service, retained or not, how long it holds. Pure.

What may not be asked for is refused here with the reason; where things are said is in `topics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gateway.config.lines import KeyPath
from gateway.config.mqtt import KINDS, TOPIC_KEYS, MqttSettings, TopicSettings

#: Shortest expiry of what is retained: it is said again at half of it, and all of it in turn.
REFRESHED_EXPIRY_S_MIN = 10
#: MQTT 5.0 section 3.3.2.3.3: the expiry is a number of 32 bits.
EXPIRY_S_MAX = 0xFFFF_FFFF


class Rule(NamedTuple):
    """How one kind of thing is said. `expiry_s` is in whole seconds, None for ever."""

    qos: int
    retain: bool
    expiry_s: int | None = None

    @property
    def refresh_s(self) -> float | None:
        """After this long a retained message has to be said again, lest it expires; None: never."""
        return self.expiry_s / 2 if self.retain and self.expiry_s is not None else None


class Kinds:
    """The rules of one broker, by key of `[mqtt.topics]`; `templates` are those the settings have."""

    def __init__(self, settings: MqttSettings) -> None:
        given = settings.topics
        self._rules = {key: _rule(key, given) for key in TOPIC_KEYS}
        self.templates: Mapping[str, str] = {
            key: rule.topic for key, rule in given.items() if rule.topic is not None
        }
        self._events = {
            key.removeprefix("event/"): rule for key, rule in self._rules.items() if key.startswith("event/")
        }
        self.state = self._rules["state"]
        self.tag = self._rules["tag"]
        self.status = self._rules["status"]
        self.availability = self._rules["availability"]
        self.connection = self._rules["connection"]

    def of(self, key: str) -> Rule:
        """The rule of a key of `[mqtt.topics]`, such as `state` or `event/transition`."""
        return self._rules[key]

    def event(self, type_: str) -> Rule:
        """The rule of events of one type."""
        return self._events[type_]


def _rule(key: str, given: Mapping[str, TopicSettings]) -> Rule:
    """What is said for the type, else for the kind, else what holds without settings."""
    kind = key.partition("/")[0]
    rule = Rule(1, kind != "event")
    for settings in (given.get(kind), given.get(key)):
        if settings is None:
            continue
        qos = rule.qos if settings.qos is None else settings.qos
        retain = rule.retain if settings.retain is None else settings.retain
        expiry_s = rule.expiry_s
        if settings.expiry is not None:
            expiry_s = math.ceil(settings.expiry.total_seconds())
        rule = Rule(qos, retain, expiry_s)
    return rule


def refusals(settings: MqttSettings) -> Iterator[tuple[KeyPath, str, str]]:
    """What may not be asked for: keys below the section, reason, hint."""
    if settings.cloudevents and settings.speaks != "5":
        yield ("cloudevents",), "needs the properties of MQTT 5", _other_version(settings)
    for key, rule in settings.topics.items():
        place: KeyPath = ("topics", key)
        for name, reason, hint in _refused(key, rule):
            yield (*place, name), reason, hint
        if rule.expiry is not None and settings.speaks != "5":
            yield (*place, "expiry"), "is known to MQTT 5 only", _other_version(settings)


def _other_version(settings: MqttSettings) -> str:
    if settings.embedded:
        return "the embedded broker speaks 3.1.1: take this out, or use another broker"
    return 'take this out, or write protocol = "5"'


def _refused(key: str, rule: TopicSettings) -> Iterator[tuple[str, str, str]]:
    kind = key.partition("/")[0]
    if kind == "event":
        if rule.qos == 0:
            reason = "events cannot have 0: no broker says what of it has arrived, so some would be missing"
            yield "qos", reason, "write 1, or 2"
        if rule.retain:
            reason = "events cannot be retained: one that is repeated would put an older one back"
            yield "retain", reason, "what holds now is the state, which is retained"
    if rule.expiry is None:
        return
    seconds = rule.expiry.total_seconds()
    if kind in ("status", "availability", "connection"):
        reason = f"a {kind} cannot expire: nobody would find the offline of a gateway that is gone"
        yield "expiry", reason, "take it out"
    elif kind != "event" and rule.retain is not False and seconds < REFRESHED_EXPIRY_S_MIN:
        reason = f"must be at least {REFRESHED_EXPIRY_S_MIN}s for what is retained"
        yield "expiry", reason, "it is said again at half of its expiry"
    elif seconds > EXPIRY_S_MAX:
        yield "expiry", "is longer than MQTT can say", f"at most {EXPIRY_S_MAX // 86_400}d"


assert all(kind in TOPIC_KEYS for kind in KINDS), "each kind has a rule"
