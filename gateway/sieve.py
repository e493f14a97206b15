"""What a sample has to pass on its way, of all connections: change filter, report rules, stale watch.

Pure. Each connection brings its own rules and takes them along when it goes; nobody else's memory is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from connectors.settings import ConnectionSettings
from gateway.filters import ChangeFilter
from gateway.reporting import Reporter
from statemodel.stale import StaleWatch


class Sieve:
    """The rules of all connections. Its parts are used by the pipeline directly."""

    def __init__(self, connections: Iterable[ConnectionSettings]) -> None:
        self.connections: dict[str, ConnectionSettings] = {}
        #: Tags whose samples go to no history.
        self.unrecorded: frozenset[str] = frozenset()
        self.filter = ChangeFilter(())
        self.reporter = Reporter(())
        self.stale = StaleWatch({})
        self.exchange((), tuple(connections))

    def exchange(self, gone: Collection[str], come: Sequence[ConnectionSettings]) -> None:
        """Some connections go and others come; one that changes does both. All others stay as they are."""
        for name in gone:
            self.filter.drop(name)
            self.reporter.drop(name)
            self.stale.drop(name)
            del self.connections[name]
        for connection in come:
            self.connections[connection.name] = connection
            self.filter.add(connection)
            self.reporter.add(connection)
            self.stale.add(*stale_limits(connection))
        self.unrecorded = frozenset(
            connection.tag_id(tag)
            for connection in self.connections.values()
            for tag in connection.tags()
            if not tag.record
        )

    def set_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Ranges of tags (full ids) the device gave."""
        self.filter.set_ranges(ranges)
        self.reporter.set_ranges(ranges)

    def wake_at(self) -> datetime | None:
        """When one of the parts has to be asked what is due."""
        wakes = (self.stale.wake_at(), self.filter.wake_at(), self.reporter.wake_at())
        return min((at for at in wakes if at is not None), default=None)


def stale_limits(connection: ConnectionSettings) -> tuple[dict[str, timedelta], dict[str, str]]:
    """The tags of a connection that may not go without proof for long, and with which group each is read."""
    limits, groups = {}, {}
    for group in connection.groups:
        for tag in group.tags:
            if (limit := connection.stale_limit(group, tag)) is not None:
                limits[connection.tag_id(tag)] = limit
                groups[connection.tag_id(tag)] = f"{connection.name}/{group.name}"
    return limits, groups
