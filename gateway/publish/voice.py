"""How each kind of thing is said to one broker: topic, bytes, quality of service, whether it is retained.

The one place where states, events, tags and who is there become messages. Whoever calls has seen to it that
there is room; nothing here waits, remembers what was said, or knows whether it may be said now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from gateway.config.schema import GatewaySettings, MqttSettings
from gateway.mqtt.link import Link, MessageRefused, OnAck, Will
from gateway.publish import payloads
from gateway.publish.holdings import Held
from gateway.publish.kinds import Kinds, Rule
from gateway.publish.marks import Marks
from gateway.publish.topics import Place, Topics
from statemodel.records import EquipmentState, Recorded
from statemodel.types import TagSample

#: Told when the broker refuses a message that says what is true; events have their own.
Refused = Callable[[MessageRefused], None]


class Voice:
    """One gateway at one broker. `stream` is that of the journal.

    `equipment` maps names to places; `tags` full tag ids to unit and paths of the equipment bound to them;
    `feeds` equipment to the connections it depends on, `connections` are those that are told of.
    """

    def __init__(
        self,
        settings: MqttSettings,
        gateway: GatewaySettings,
        *,
        stream: str,
        equipment: Mapping[str, Place],
        tags: Mapping[str, tuple[str, Sequence[str]]],
        feeds: Mapping[str, Sequence[str]],
        connections: Sequence[str],
    ) -> None:
        self.kinds = kinds = Kinds(settings)
        self.topics = topics = Topics(gateway.enterprise, gateway.site, gateway.id, kinds.templates)
        self._marks = Marks(settings, kinds, gateway, stream)
        self._refused: Refused = lambda _: None
        self._too_large: Callable[[str], None] = lambda _: None
        self._units = {tag: unit for tag, (unit, _) in tags.items()}
        self._states = {name: topics.state(place) for name, place in equipment.items()}
        by_path = {place.path: place for place in equipment.values()}
        places = {
            tag: [by_path.get(path, Place("", path)) for path in paths] for tag, (_, paths) in tags.items()
        }
        self._tags = {tag: topics.tags(tag, places[tag]) for tag in tags}
        of_connections = {topics.connection(name): name for name in connections}
        of_equipment = {topics.availability(equipment[name]): name for name in feeds if name in equipment}
        self.depends: dict[str, Sequence[str]] = {
            **{topic: (name,) for topic, name in of_connections.items()},
            **{topic: feeds[name] for topic, name in of_equipment.items()},
        }
        self.held: dict[str, Held] = {}
        """Every topic that is retained, and what it is about."""
        self.elsewhere: Collection[str] = frozenset()
        """What others of this gateway retain at this very broker."""
        self._connections = frozenset(of_connections)
        if kinds.status.retain:
            self.held[topics.status] = Held("status", "")
        if kinds.connection.retain:
            self.held |= {topic: Held("connection", name) for topic, name in of_connections.items()}
        if kinds.state.retain:
            self.held |= {
                topic: Held("state", name, equipment[name].path) for name, topic in self._states.items()
            }
        if kinds.availability.retain:
            self.held |= {
                topic: Held("availability", name, equipment[name].path)
                for topic, name in of_equipment.items()
            }
        if kinds.tag.retain:
            for tag, bound in places.items():
                for place in bound or (None,):
                    held = Held("tag", tag, place.path if place else "")
                    self.held.setdefault(topics.tag(tag, place), held)

    def on_refused(self, refused: Refused) -> None:
        """Tell somebody what the broker will not have."""
        self._refused = refused

    def on_too_large(self, too_large: Callable[[str], None]) -> None:
        """Tell somebody on which topic a message was left out, because the broker takes none of its size."""
        self._too_large = too_large

    @property
    def will(self) -> Will:
        """What the broker says for us when we die; also our last words."""
        rule = self.kinds.status
        return Will(self.topics.status, payloads.OFFLINE, qos=rule.qos, retain=rule.retain)

    def status(self, link: Link, on_ack: OnAck | None = None) -> None:
        """The gateway is there."""
        self._say(link, self.topics.status, payloads.ONLINE, self.kinds.status, on_ack=on_ack)

    def state_topic(self, name: str) -> str:
        """Where the state of an equipment is said."""
        return self._states[name]

    def state(self, link: Link, name: str, state: EquipmentState) -> None:
        """The state of an equipment."""
        self._say(link, self._states[name], payloads.state(state), self.kinds.state, self._marks.state(state))

    def event(self, link: Link, event: Recorded, on_ack: OnAck, on_refused: Refused) -> bool:
        """An event, as the bytes the journal holds. False: too large for this broker."""
        topic = self.topics.event(event)
        sent = link.publish(
            topic,
            event.json,
            qos=self.kinds.event(event.type).qos,
            properties=self._marks.event(event, late=event.recorded_at < link.connected_at),
            on_ack=on_ack,
            on_refused=on_refused,
        )
        if not sent:
            self._too_large(topic)
        return sent

    def tag_topics(self, tag: str) -> Sequence[str]:
        """Where a tag is said."""
        return self._tags[tag]

    def tag_payload(self, sample: TagSample) -> bytes:
        """What is said of a tag."""
        return payloads.tag(sample, self._units[sample.tag])

    def tag(self, link: Link, topic: str, sample: TagSample) -> None:
        """The value of a tag, on one of its topics."""
        self._say(link, topic, self.tag_payload(sample), self.kinds.tag, self._marks.tag(sample))

    def availability(self, link: Link, topic: str, *, online: bool) -> None:
        """Whether a connection or an equipment is there."""
        rule = self.kinds.connection if topic in self._connections else self.kinds.availability
        self._say(link, topic, payloads.ONLINE if online else payloads.OFFLINE, rule)

    def clear(
        self,
        link: Link,
        topic: str,
        on_ack: OnAck | None = None,
        on_refused: Callable[[], None] = lambda: None,
    ) -> bool:
        """Let the broker forget what it has retained on a topic. False: too large for this broker."""

        def refused(why: MessageRefused) -> None:
            self._refused(why)
            on_refused()

        return link.publish(topic, b"", retain=True, on_ack=on_ack, on_refused=refused)

    def _say(
        self,
        link: Link,
        topic: str,
        payload: bytes,
        rule: Rule,
        properties: bytes | None = None,
        on_ack: OnAck | None = None,
    ) -> None:
        sent = link.publish(
            topic,
            payload,
            qos=rule.qos,
            retain=rule.retain,
            properties=properties,
            on_ack=on_ack,
            on_refused=self._refused,
        )
        if not sent:
            self._too_large(topic)
