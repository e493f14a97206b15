"""Settings of `[sparkplug]`: an edge node of Sparkplug B 3.0, for a whole gateway or for one line of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator

from connectors.settings import Duration, refuse
from gateway.config.brokers import BrokerSettings, broker_address
from gateway.config.callers import CallerSettings
from gateway.sparkplug.names import fault_of_group, fault_of_id

#: Longest `repeat`: all of it is told again whenever the host was away.
REPEAT_MAX = timedelta(hours=1)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    if not addresses:
        raise ValueError('names no broker; write "mqtt://host:1883"')
    for number, address in enumerate(addresses, 1):
        try:
            broker_address(address)
        except ValueError as error:  # of several, say which; not by its words, there may be a secret in them
            which = f"address {number} of the list " if len(addresses) > 1 else ""
            raise ValueError(f"{which}{error}") from error
    if len(set(addresses)) < len(addresses):
        raise ValueError("names a broker twice; each is tried in turn, so once is enough")
    return addresses


def _level(text: str) -> str:
    if (fault := fault_of_id(text)) is not None:
        raise refuse("sparkplug_id", f"{fault}; an id of Sparkplug is one level of a topic")
    return text


def _group(text: str) -> str:
    if (fault := fault_of_group(text)) is not None:
        raise refuse("sparkplug_id", f"{fault}; an id of Sparkplug is one level of a topic")
    return text


def _repeat(repeat: timedelta) -> timedelta:
    if repeat > REPEAT_MAX:
        raise refuse(
            "duration", 'must be "1h" or less; one and a half times the host\'s keep-alive is enough'
        )
    return repeat


#: Edge node id, host id: one level of a topic.
SparkplugId = Annotated[str, AfterValidator(_level)]


class SparkplugSettings(BrokerSettings):
    """One edge node. Each equipment of it is a device."""

    section: ClassVar[str] = "sparkplug"

    broker: Annotated[
        tuple[str, ...],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
        AfterValidator(_addresses),
    ]
    """The broker, as in `[mqtt]`, or a list of them, which are tried in turn."""
    group: Annotated[str, AfterValidator(_group)]
    """Group id: what the edge nodes of a plant have in common."""
    edge_node: SparkplugId | None = None
    """Id of this edge node in the group. Unset: the gateway's id."""
    under: str | None = None
    """Only equipment at or below this path: an edge node for one line. Unset: all equipment."""
    primary_host: SparkplugId | None = None
    """Id of the host that must be online; while it is not, what happens is kept and told afterwards."""
    repeat: Annotated[Duration, AfterValidator(_repeat)] = timedelta(seconds=90)
    """With a primary host: how much of what was told before it was away is told again, as history. It may
    have been gone for one and a half times its keep-alive before the broker knew. At most an hour."""
    store_tags: bool = True
    """Whether values of tags that gathered meanwhile are told afterwards too, beside events."""
    echo: bool = True
    """Whether the broker is asked for the node's own births, to know that hosts can hear them."""
    commands: bool = False
    """Whether writes of a host are taken. What may be written is for `[commands]` to say."""
    caller: CallerSettings = CallerSettings(name="sparkplug")
    """Whom writes of a host count as."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The brokers, in the order they are tried."""
        return self.broker

    def edge_node_for(self, gateway: str) -> str:
        """The edge node id of this gateway."""
        return self.edge_node if self.edge_node is not None else gateway

    def holds(self, path: str) -> bool:
        """Whether the equipment at `path` is a device of this node."""
        return self.under is None or path == self.under or path.startswith(f"{self.under}/")
