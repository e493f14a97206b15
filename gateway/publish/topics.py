"""Where things are said: the topic tree of one gateway at one broker. Pure; knows no payloads and no brokers.

    {enterprise}/{site}/{path}/_state                       the state of an equipment, retained
    {enterprise}/{site}/{path}/_availability                whether it can be believed, retained
    {enterprise}/{site}/{path}/_event/{type}                what happened to it
    {enterprise}/{site}/{path}/_tag/{connection}/{tag}      a tag it is bound to, retained
    {enterprise}/{site}/_tag/{connection}/{tag}             a tag no equipment is bound to, retained
    andon/{gateway}/status                                  online or offline, retained
    andon/{gateway}/_connection/{connection}                the same of one connection, retained
    andon/{gateway}/_event/{type}                           what happened to a connection, or to the gateway

Levels of places begin with a letter or digit (configuration sees to that), so the levels that begin with an
underscore can never be mistaken for a place. Where the settings have templates of their own, those hold; what
happened to equipment of long ago that a template does not fit is said where it is said without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.publish.templates import OF_EQUIPMENT, OF_SITE, NotATemplate, Unfilled, template, wrong
from statemodel.records import TYPE_OF, Recorded
from statemodel.types import AuditAnchor, DeviceEvent, Gap, SourceLost, SourceRestored

#: Types of event that are about a connection.
CONNECTION_TYPES = frozenset(TYPE_OF[kind] for kind in (SourceLost, SourceRestored, Gap, DeviceEvent))
#: Types of event that are about the gateway itself; all others are about an equipment.
GATEWAY_TYPES = frozenset((TYPE_OF[AuditAnchor],))

#: Where events go that are about no equipment.
_OF_GATEWAY = "andon/{gateway}/_event/{type}"

#: The tree without any settings, by key of `[mqtt.topics]`.
DEFAULTS: Mapping[str, str] = {
    "state": "{enterprise}/{site}/{path}/_state",
    "event": "{enterprise}/{site}/{path}/_event/{type}",
    "tag": "{enterprise}/{site}/{path}/_tag/{connection}/{tag}",
    "status": "andon/{gateway}/status",
    "availability": "{enterprise}/{site}/{path}/_availability",
    "connection": "andon/{gateway}/_connection/{connection}",
    **{f"event/{type_}": _OF_GATEWAY for type_ in CONNECTION_TYPES | GATEWAY_TYPES},
}


def _about(type_: str) -> frozenset[str]:
    if type_ in CONNECTION_TYPES:
        return frozenset(("connection",))
    return frozenset() if type_ in GATEWAY_TYPES else OF_EQUIPMENT


#: What there is to fill a template of each kind with.
OFFERS: Mapping[str, frozenset[str]] = {
    "state": OF_SITE | OF_EQUIPMENT,
    "event": OF_SITE | OF_EQUIPMENT | {"type"},
    "tag": OF_SITE | OF_EQUIPMENT | {"connection", "tag"},
    "status": OF_SITE,
    "availability": OF_SITE | OF_EQUIPMENT,
    "connection": OF_SITE | {"connection"},
    **{f"event/{type_}": OF_SITE | {"type"} | _about(type_) for type_ in TYPE_OF.values()},
}

#: Topics kept so that they need not be made again; beyond it they are.
_KEPT_MAX = 50_000


class Place(NamedTuple):
    """An equipment as topics name it; `model` is the model's name."""

    equipment: str
    path: str
    model: str = ""


class Topics:
    """The topics of one gateway. `templates` are those of the settings, by key of `[mqtt.topics]`."""

    def __init__(
        self, enterprise: str, site: str, gateway: str, templates: Mapping[str, str] | None = None
    ) -> None:
        self._site = {"enterprise": enterprise, "site": site, "gateway": gateway}
        self._templates = {**DEFAULTS, **(templates or {})}
        for type_ in TYPE_OF.values():  # `event` is about equipment; connections keep their own place
            self._templates.setdefault(f"event/{type_}", self._templates["event"])
        self._kept: dict[tuple[str, ...], str] = {}
        #: Types whose topic depends on more than type, path and name of the equipment.
        self._by_more = {
            type_
            for type_ in TYPE_OF.values()
            if _names(self._templates[f"event/{type_}"]) & {"model", "connection"}
        }
        self._events: dict[tuple[str, str, str], str] = {}

    @property
    def status(self) -> str:
        """Whether the gateway is there; also the topic of its will."""
        return self._kept_or_filled("status")

    def state(self, place: Place) -> str:
        """The newest state of an equipment."""
        return self._kept_or_filled("state", place)

    def availability(self, place: Place) -> str:
        """Whether all connections that feed an equipment are up."""
        return self._kept_or_filled("availability", place)

    def connection(self, connection: str) -> str:
        """Whether a connection is up."""
        return self._kept_or_filled("connection", connection=connection)

    def tag(self, tag: str, place: Place | None = None) -> str:
        """The newest value of a tag (full id, `connection/name`), of an equipment or of the site."""
        connection, _, name = tag.partition("/")
        return self._kept_or_filled("tag", place, connection=connection, tag=name)

    def tags(self, tag: str, places: Sequence[Place]) -> tuple[str, ...]:
        """All topics of a tag: of each equipment bound to it, or of the site. Each once."""
        return tuple(dict.fromkeys(self.tag(tag, place) for place in places or (None,)))

    def event(self, event: Recorded) -> str:
        """Where an event goes. The hot path: made once for each equipment and type."""
        topic = self._events.get((event.type, event.path, event.equipment))
        return self._new_event(event) if topic is None else topic

    def _new_event(self, event: Recorded) -> str:
        about = event.event
        if event.type in CONNECTION_TYPES:
            connection = getattr(about, "connection", "")
            topic = self._kept_or_filled(f"event/{event.type}", connection=connection, type=event.type)
        elif event.type in GATEWAY_TYPES:
            topic = self._kept_or_filled(f"event/{event.type}", type=event.type)
        elif not event.path:  # a command for nothing that is configured
            topic = self._fill(_OF_GATEWAY, None, {"type": event.type})
        else:
            place = Place(event.equipment, event.path, getattr(about, "model", ""))
            topic = self._kept_or_filled(f"event/{event.type}", place, type=event.type)
        if event.type not in self._by_more:
            if len(self._events) >= _KEPT_MAX:
                self._events.clear()
            self._events[event.type, event.path, event.equipment] = topic
        return topic

    def filled(self, key: str, place: Place | None = None, **values: str) -> str:
        """The topic by the template of a key of `[mqtt.topics]`, whether or not it is a fit one.

        Raises:
            Unfilled: the thing lacks something the template names.
        """
        return self._fill(self._templates[key], place, values)

    def _fill(self, text: str, place: Place | None, values: Mapping[str, str]) -> str:
        about = place._asdict() if place is not None else {}
        return template(text).fill({**self._site, **about, **values})

    def _kept_or_filled(self, key: str, place: Place | None = None, **values: str) -> str:
        name = (key, *(place or ()), *values.values())
        topic = self._kept.get(name)
        if topic is None:
            topic = self._fit(key, place, values)
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            self._kept[name] = topic
        return topic

    def _fit(self, key: str, place: Place | None, values: Mapping[str, str]) -> str:
        """By the template; where that gives no topic (of equipment that is gone) as without settings."""
        try:
            topic = self._fill(self._templates[key], place, values)
        except Unfilled:
            topic = ""
        if wrong(topic) is None:
            return topic
        return self._fill(DEFAULTS.get(key, DEFAULTS[key.partition("/")[0]]), place, values)


def _names(text: str) -> frozenset[str]:
    try:
        return template(text).names
    except NotATemplate:
        return frozenset()
