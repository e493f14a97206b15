"""Settings of `[mqtt]`: the broker, and where and how each kind of thing is said there.

What a template or a rule may be in view of the whole configuration is judged elsewhere (`lint_brokers`).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from connectors.settings import LastingDuration, Settings, refuse
from gateway.config.brokers import BrokerSettings, broker_address
from gateway.config.callers import CallerSettings
from gateway.config.problems import did_you_mean
from statemodel.records import TYPE_OF

#: What is said on topics of its own.
KINDS = ("state", "event", "tag", "status", "availability", "connection")
#: The same, with events of one type.
TOPIC_KEYS = (*KINDS, *(f"event/{type_}" for type_ in TYPE_OF.values()))


def _topic_key(key: str) -> str:
    if key in TOPIC_KEYS:
        return key
    hint = did_you_mean(key, TOPIC_KEYS) or f'known: {", ".join(KINDS)}, and "event/TYPE"'
    raise ValueError(f"unknown kind; {hint}")


class TopicSettings(Settings):
    """Where one kind of thing is said, and how. What is not given here is as it is without this table."""

    topic: str | None = None
    """Template of the topic: levels with placeholders, such as `{site}/{level1}/{equipment}/state`."""
    qos: Annotated[int, Field(ge=0, le=2)] | None = None
    """Quality of service."""
    retain: bool | None = None
    """Whether the broker keeps the newest for those who come later."""
    expiry: LastingDuration | None = None
    """Time after which the broker forgets a message nobody has fetched (MQTT 5)."""


def _a_table(value: Any) -> Any:
    if isinstance(value, dict | TopicSettings):
        return value
    raise refuse("table", 'must be a table; write [mqtt.topics.state], with topic = "..." below it')


class MqttSettings(BrokerSettings):
    """One broker for the JSON tree. `broker = "embedded"` starts one on loopback inside the process."""

    section: ClassVar[str] = "mqtt"

    broker: str
    """`mqtt://host:port`, `mqtts://host:port`, `embedded`, or a reference such as `env:ANDON_MQTT`."""
    clear_removed: bool = True
    """Clear the retained topics of what was removed or renamed, at the next connect, where they are ours."""
    cloudevents: bool = False
    """Say in the properties of each message what it is, as CloudEvents 1.0 has it (MQTT 5)."""
    commands: CallerSettings | None = None
    """Take commands from this broker, as this caller. Unset: none. What may be done is for `[commands]`."""
    topics: dict[
        Annotated[str, AfterValidator(_topic_key)], Annotated[TopicSettings, BeforeValidator(_a_table)]
    ] = Field(default_factory=dict)
    """Topics of the plant's own, by kind."""

    @field_validator("topics", mode="before")
    @classmethod
    def _types_have_tables(cls, tables: Any) -> Any:
        events = tables.get("event") if isinstance(tables, dict) else None
        inner = [type_ for type_ in TYPE_OF.values() if isinstance(events, dict) and type_ in events]
        if inner:
            raise ValueError(
                f'a type of event has a table of its own; write [mqtt.topics."event/{inner[0]}"]'
            )
        return tables

    @field_validator("broker", mode="before")
    @classmethod
    def _one_broker(cls, broker: Any) -> Any:
        if isinstance(broker, list):
            raise refuse("brokers", "must be one address; write one [[mqtt]] for each broker, with a name")
        return broker

    @field_validator("broker")
    @classmethod
    def _known_form(cls, broker: str) -> str:
        return broker_address(broker)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The one address there is."""
        return (self.broker,)
