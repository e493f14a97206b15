"""What tells brokers: publishers and edge nodes, each a sink of its own that can be exchanged by itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from api.commanding import Commands
from connectors.base import Clock
from gateway.assembly.record import Record
from gateway.assembly.telling import told_by_brokers
from gateway.config.load import Loaded
from gateway.configured import TagFeed, published_tags
from gateway.live import Live
from gateway.mqtt.handover import KeepsItsLink
from gateway.publish.availability import Links
from gateway.publish.ownership import Record as Known
from gateway.publish.publisher import MqttPublisher, introduce
from gateway.publish.wiring import (
    PublisherParts,
    listening_of,
    ownership_of,
    publisher_of,
    told_by_listening,
)
from gateway.sparkplug.edge_node import EdgeNode
from gateway.sparkplug.wiring import edge_node_of
from statemodel.records import Recorded

#: What tells one broker.
BrokerSink = MqttPublisher | EdgeNode


class Brokers:
    """All that tells brokers, by the name of the sink. Builds them; whoever owns the tasks runs them."""

    def __init__(self, record: Record, clock: Clock, live: Live, known: Known, version: str) -> None:
        self._record, self._clock, self._live, self._known = record, clock, live, known
        self._version = version
        self.links = Links()
        #: Where commands that come over brokers go; None: nowhere.
        self.desk: Commands | None = None
        self.sinks: dict[str, BrokerSink] = {}
        self.feeds: list[TagFeed] = []
        self._told: dict[str, object] = {}
        #: Those whose successor could go on with their connection, as was tried out last.
        self._alike: Collection[str] = ()
        #: Those that were taken out; what they may have kept was not taken yet.
        self._gone: dict[str, BrokerSink] = {}

    @property
    def publishers(self) -> Sequence[MqttPublisher]:
        """Those of `[mqtt]`."""
        return [sink for sink in self.sinks.values() if isinstance(sink, MqttPublisher)]

    @property
    def addresses(self) -> str:
        """Of the brokers of `[mqtt]`, for people."""
        return ", ".join(one.options.address for one in self.publishers)

    def outdated(self, loaded: Loaded, port: int | None) -> Collection[str]:
        """The present sinks that do not serve this configuration."""
        told = self._all_told(loaded, port)
        return [name for name in self.sinks if told.get(name) != self._told[name]]

    def try_out(self, loaded: Loaded, port: int | None) -> None:
        """Build everything once for nothing, and remember which could go on with the connection of before.

        Raises:
            GatewayError: something cannot be built.
        """
        parts = self._parts(loaded, Links(), {})
        built: list[BrokerSink] = [
            publisher_of(settings, loaded, parts, port) for settings in loaded.configuration.mqtt
        ]
        built += [self._node(node.sink, loaded, port) for node in loaded.configuration.sparkplug]
        self._alike = {
            one.sink
            for one in built
            if isinstance(one, KeepsItsLink) and one.connects_like(self.sinks.get(one.sink))
        }

    def keep_links(self, names: Collection[str]) -> Collection[str]:
        """These are about to be ended: keep the connections that their successors, as tried out, can go on
        with. Gives the names of these."""
        kept = [name for name in names if name in self._alike]
        for name in kept:
            sink = self.sinks[name]
            if isinstance(sink, KeepsItsLink):
                sink.keep_link()
        return kept

    async def let_go(self) -> None:
        """Leave those brokers whose connections were kept for nobody. Every sink that is gone has ended."""
        while self._gone:
            _, gone = self._gone.popitem()
            if isinstance(gone, KeepsItsLink):
                await gone.let_go()

    async def close(self) -> None:
        """Nothing runs any more: leave every broker of which a connection was kept."""
        await self.let_go()
        for sink in self.sinks.values():
            if isinstance(sink, KeepsItsLink):
                await sink.let_go()

    def exchange(
        self, loaded: Loaded, port: int | None, last: Mapping[str, Recorded]
    ) -> Sequence[BrokerSink]:
        """Take out what does not serve this configuration, which must not run any more, and build what is
        missing; gives the new ones, which do not run yet. `last` has the newest transition of each equipment
        of before now. New ones go on with the connections kept for them; for all others see `let_go`."""
        for name in self.outdated(loaded, port):
            self._gone[name] = gone = self.sinks.pop(name)
            if isinstance(gone, MqttPublisher):
                gone.retire()
        told = self._all_told(loaded, port)
        parts = self._parts(loaded, self.links, last)
        come: list[BrokerSink] = []
        sinks: dict[str, BrokerSink] = {}
        for settings in loaded.configuration.mqtt:
            sink: BrokerSink | None = self.sinks.get(settings.sink)
            if sink is None:
                sink = publisher_of(settings, loaded, parts, port)
                come.append(sink)
            sinks[settings.sink] = sink
        for node in loaded.configuration.sparkplug:
            sink = self.sinks.get(node.sink)
            if sink is None:
                sink = self._node(node.sink, loaded, port)
                come.append(sink)
            sinks[node.sink] = sink
        self.sinks, self._told = sinks, told
        self._hand_over(come)  # at once: whatever fails after this, the new ones have the connections
        self.ownership = parts.ownership
        introduce(self.publishers)
        self._listen(loaded, port)
        published = published_tags(loaded) if sinks else {}
        self.feeds = [
            TagFeed(published if isinstance(sink, MqttPublisher) else sink.tags, sink.publish_tag)
            for sink in sinks.values()
        ]
        for sink in come:
            wanted = published if isinstance(sink, MqttPublisher) else sink.tags
            for sample in self._live.latest(wanted).values():
                sink.publish_tag(sample)
        return come

    def _hand_over(self, come: Sequence[BrokerSink]) -> None:
        for sink in come:
            before = self._gone.get(sink.sink)
            if isinstance(sink, KeepsItsLink) and sink.connects_like(before):
                sink.take_link(before)
                del self._gone[sink.sink]

    def _listen(self, loaded: Loaded, port: int | None) -> None:
        """Let every publisher's broker be listened to for commands as this configuration says."""
        of = {settings.sink: settings for settings in loaded.configuration.mqtt}
        for publisher in self.publishers:
            build = partial(
                listening_of,
                of[publisher.sink],
                loaded,
                desk=self._desk,
                clock=self._clock,
                embedded_port=port,
            )
            publisher.ear.use(told_by_listening(of[publisher.sink], loaded, port), build)

    def _desk(self) -> Commands | None:
        return self.desk

    def _all_told(self, loaded: Loaded, port: int | None) -> dict[str, object]:
        stream = self._record.journal.stream
        return told_by_brokers(loaded, port, version=self._version, stream=stream)

    def _parts(self, loaded: Loaded, links: Links, last: Mapping[str, Recorded]) -> PublisherParts:
        ownership = ownership_of(loaded, clock=self._clock, record=self._known, last=last)
        return PublisherParts(self._record.journal, self._live, self._clock, links, ownership)

    def _node(self, sink: str, loaded: Loaded, port: int | None) -> EdgeNode:
        [settings] = [one for one in loaded.configuration.sparkplug if one.sink == sink]
        return edge_node_of(
            settings,
            loaded,
            journal=self._record.journal,
            live=self._live,
            clock=self._clock,
            version=self._version,
            embedded_port=port,
            desk=self._desk,
        )
