"""The brokers: the embedded one where it is asked for; publishers and edge nodes, each a sink of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from connectors.base import Clock
from gateway.assembly.record import Record
from gateway.config.brokers import embedded_port
from gateway.config.load import Loaded
from gateway.configured import TagFeed, published_tags
from gateway.live import Live
from gateway.mqtt.embedded_broker import EmbeddedBroker
from gateway.publish.ownership import Record as Known
from gateway.publish.publisher import MqttPublisher
from gateway.publish.wiring import Publishing, publishing
from gateway.sparkplug.edge_node import EdgeNode
from gateway.sparkplug.wiring import edge_nodes


@dataclass
class Brokers:
    """What tells brokers, none of it connected yet; `feeds` are what the newest values have to go to."""

    publishing: Publishing
    nodes: Sequence[EdgeNode]
    feeds: Sequence[TagFeed]

    @property
    def sinks(self) -> Sequence[MqttPublisher | EdgeNode]:
        """All of them, those of `[mqtt]` first."""
        return (*self.publishing.publishers, *self.nodes)

    @property
    def addresses(self) -> str:
        """Of the brokers of `[mqtt]`, for people."""
        return ", ".join(one.options.address for one in self.publishing.publishers)


async def build_brokers(
    loaded: Loaded,
    record: Record,
    clock: Clock,
    *,
    live: Live,
    known: Known,
    version: str,
    stack: AsyncExitStack,
) -> Brokers:
    """Everything that tells brokers. `stack` stops an embedded one.

    Raises:
        StartFailed: the embedded broker does not start.
    """
    port = await _embedded_broker(loaded, stack)
    parts = publishing(
        loaded,
        journal=record.journal,
        live=live,
        clock=clock,
        record=known,
        last=record.last,
        embedded_port=port,
    )
    nodes = edge_nodes(
        loaded, journal=record.journal, live=live, clock=clock, version=version, embedded_port=port
    )
    published = published_tags(loaded)
    feeds = [TagFeed(published, publisher.publish_tag) for publisher in parts.publishers]
    feeds += [TagFeed(node.tags, node.publish_tag) for node in nodes]
    return Brokers(parts, nodes, feeds)


async def _embedded_broker(loaded: Loaded, stack: AsyncExitStack) -> int | None:
    """Start the one that all sections which ask for it share; its port."""
    settings = loaded.configuration
    port = embedded_port((*settings.mqtt, *settings.sparkplug))
    if port is None:
        return None
    broker = EmbeddedBroker(port)
    await broker.start()
    stack.push_async_callback(broker.stop)
    return broker.port
