"""From a configuration to edge nodes: which equipment, tags and connections each of them shows."""

from __future__ import annotations

from collections.abc import Callable, Collection

from api.commanding import Commands
from connectors.base import Clock
from connectors.settings import ConnectionSettings, TagSettings
from gateway.config.load import Loaded
from gateway.config.published import published
from gateway.config.sparkplug import SparkplugSettings
from gateway.control.over_sparkplug import SparkplugOrders
from gateway.journal.journal import Journal
from gateway.live import Live
from gateway.sparkplug.births import NodeSpec, PublishedTag, device_spec
from gateway.sparkplug.edge_node import EdgeNode, Equipment
from gateway.sparkplug.present import Known
from gateway.sparkplug.typing_tags import declared_type
from statemodel.engine import EquipmentSpec
from statemodel.records import EquipmentState

#: `Properties/Software` of every node.
SOFTWARE = "Andon"
#: What `Supervised.link` says of a connection that is known not to stand.
_LOST = ("down", "refused")


class LivePresent:
    """Keeps `present.Present` with what the gateway shows everywhere else."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def position(self) -> Known:
        """As `Present`."""
        return self._live.position()

    def state(self, equipment: str) -> EquipmentState:
        """As `Present`."""
        return self._live.state(equipment)

    def why(self, equipment: str) -> str:
        """As `Present`."""
        return self._live.why(equipment)

    def is_up(self, connection: str) -> bool:
        """As `Present`."""
        return self._link(connection) == "up"

    def is_lost(self, connection: str) -> bool:
        """As `Present`."""
        return self._link(connection) in _LOST

    def _link(self, connection: str) -> str:
        supervised = self._live.supervised.get(connection)
        return "connecting" if supervised is None else supervised.link


def edge_node_of(
    settings: SparkplugSettings,
    loaded: Loaded,
    *,
    journal: Journal,
    live: Live,
    clock: Clock,
    version: str,
    embedded_port: int | None,
    desk: Callable[[], Commands | None],
) -> EdgeNode:
    """The edge node of one `[sparkplug]`, a sink of its own. What a host writes goes to the desk."""
    return EdgeNode(
        settings,
        journal=journal,
        gateway=loaded.configuration.gateway,
        equipment=equipment_of(settings, loaded, version=version, stream=journal.stream),
        present=LivePresent(live),
        clock=clock,
        commands=SparkplugOrders(settings.sink, settings.caller.principal(), desk),
        embedded_port=embedded_port,
    )


def told_by_node(
    settings: SparkplugSettings, loaded: Loaded, *, version: str, stream: str, embedded_port: int | None
) -> object:
    """Everything of a configuration that the edge node of one `[sparkplug]` depends on."""
    gateway = loaded.configuration.gateway
    return (
        settings,
        (gateway.id, gateway.enterprise, gateway.site),
        embedded_port if settings.embedded else None,
        equipment_of(settings, loaded, version=version, stream=stream),
    )


def equipment_of(settings: SparkplugSettings, loaded: Loaded, *, version: str, stream: str) -> Equipment:
    """What one node shows: the equipment at or below its path, and what belongs to these.

    A node for all equipment also has the published tags that are bound to none, and all connections.
    """
    shown = [spec for spec in loaded.equipment if settings.holds(spec.path)]
    feeds = {spec.name: connections_of(spec) for spec in shown}
    connections = loaded.configuration.connections
    found = published(connections, loaded.equipment)
    tags = {
        id_: published_tag(one.connection, one.tag, writable=settings.commands) for id_, one in found.items()
    }
    of_node = (
        ()
        if settings.under is not None
        else tuple(tag for id_, tag in tags.items() if not found[id_].equipment)
    )
    devices = [device_spec(spec, tags.values()) for spec in shown]
    recorded = {
        connection.tag_id(tag) for connection in connections for tag in connection.tags() if tag.record
    }
    told = {tag.tag for tags in (of_node, *(device.tags for device in devices)) for tag in tags}
    fed_by = {name for names in feeds.values() for name in names}
    node = NodeSpec(
        software=SOFTWARE,
        version=version,
        stream=stream,
        connections=tuple(c.name for c in connections if settings.under is None or c.name in fed_by),
        tags=of_node,
        servers=len(settings.addresses),
    )
    return Equipment(node, devices, feeds, frozenset(told & recorded))


def connections_of(spec: EquipmentSpec) -> Collection[str]:
    """The connections that feed an equipment."""
    return tuple(dict.fromkeys(tag.partition("/")[0] for tag in spec.inputs.values()))


def published_tag(connection: ConnectionSettings, tag: TagSettings, *, writable: bool) -> PublishedTag:
    """A tag as a metric. Which of them a device lets itself be written is known only when it is tried."""
    return PublishedTag(
        tag=connection.tag_id(tag),
        unit=tag.unit,
        datatype=declared_type(tag),
        source_time=getattr(connection, "time", None) == "source",
        writable=writable,
    )
