"""What reading a configuration will cost, before a device is asked: the words of `andon plan`.

The same for every protocol: a protocol's `plan` (see `connectors.protocol.Protocol`) makes a
`PlannedConnection` of its settings; how connections share a link, and what is too much for it, is worked out
here. Pure: opens nothing, prints nothing. Durations are seconds; a use is a share of 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

#: From the end of a request to the beginning of its answer: network and device, without the bytes on a wire.
#: A PLC on the same switch takes 1 to 10 ms; a gateway to a serial line, and a slow scan, take 20 to 100.
LATENCY_S = 0.005
#: A link used more than this has no room for repeated requests, commands and slow days.
USE_MAX = 0.8
#: What intervals are proposed for.
_USE_WANTED = 0.7


class PlannedRequest(msgspec.Struct, frozen=True):
    """One thing asked of the device: a block that is read, a subscription that is created.

    `count` is in `unit` (registers, bits, items); `needless` of them serve no tag.
    """

    text: str
    count: int
    unit: str
    tags: int
    needless: int = 0
    duration_s: float | None = None
    """From its beginning to its answer, and the rest the device wants after it; None where nobody polls."""


class PlannedGroup(msgspec.Struct, frozen=True):
    """A group and what its tags are read with."""

    name: str
    interval_s: float
    tags: int
    requests: tuple[PlannedRequest, ...]
    cycle_s: float | None = None
    """How long one reading of the group keeps the link; None where the device sends by itself."""
    remedies: tuple[str, ...] = ()
    """What would make it faster, in words, should it be too slow."""

    @property
    def use(self) -> float:
        """Share of the time its readings keep the link."""
        return 0.0 if self.cycle_s is None else self.cycle_s / self.interval_s

    @property
    def needless(self) -> int:
        """What is read without a tag being there."""
        return sum(request.needless for request in self.requests)


class PlannedConnection(msgspec.Struct, frozen=True):
    """One configured connection."""

    name: str
    protocol: str
    endpoint: str
    groups: tuple[PlannedGroup, ...]
    link: str = ""
    """What it shares with every connection that says the same: a socket, a serial line. Empty: nothing."""
    notes: tuple[str, ...] = ()
    """What else is worth knowing, in words."""

    @property
    def tags(self) -> int:
        """Of all groups."""
        return sum(group.tags for group in self.groups)

    @property
    def use(self) -> float:
        """Share of the time it keeps its link."""
        return sum(group.use for group in self.groups)


class PlannedLink(msgspec.Struct, frozen=True):
    """A link, who is on it, and how busy they keep it."""

    name: str
    connections: tuple[str, ...]
    use: float


class Plan(msgspec.Struct, frozen=True):
    """Everything, at an assumed latency."""

    latency_s: float
    connections: tuple[PlannedConnection, ...]
    links: tuple[PlannedLink, ...]
    warnings: tuple[str, ...]


def whole_plan(connections: Iterable[PlannedConnection], latency_s: float) -> Plan:
    """Put connections on their links, and say what will not work."""
    planned = tuple(connections)
    on_link: dict[str, list[PlannedConnection]] = {}
    for connection in planned:
        if connection.link:
            on_link.setdefault(connection.link, []).append(connection)
    links = tuple(
        PlannedLink(name, tuple(c.name for c in shared), sum(c.use for c in shared))
        for name, shared in on_link.items()
    )
    warnings = [warning for link in links for warning in _warnings(link, on_link[link.name])]
    return Plan(latency_s, planned, links, tuple(warnings))


def _warnings(link: PlannedLink, connections: Sequence[PlannedConnection]) -> Iterable[str]:
    """What is too much, with what to change. One warning a thing: a group that is too slow by itself, else
    the link its groups fill together.
    """
    alone = False
    for connection in connections:
        for group in connection.groups:
            if group.cycle_s is not None and group.cycle_s > group.interval_s:
                alone = True
                yield (
                    f"{connection.name}/{group.name} cannot keep its interval: one reading takes "
                    f"{duration_text(group.cycle_s)}, and it is due every {duration_text(group.interval_s)}; "
                    + _remedy(group, f"raise its interval to {_interval_for(group.cycle_s)}")
                )
    if link.use < USE_MAX or alone:
        return
    groups = [(c, g) for c in connections for g in c.groups if g.cycle_s is not None]
    connection, worst = max(groups, key=lambda pair: pair[1].use)
    whose = "" if len(groups) == 1 else f", most of it by {connection.name}/{worst.name}"
    verdict = "its groups cannot all keep their intervals" if link.use > 1 else "nothing may go wrong on it"
    rest = link.use - worst.use
    room = _USE_WANTED - rest
    fix = (
        f"raise the interval of {worst.name} to {_interval_for(worst.cycle_s or 0.0, room)}"
        if room > 0.05
        else "raise the intervals of several groups"
    )
    yield f"{link.name} is busy {percent(link.use)} of the time{whose}, and {verdict}; {_remedy(worst, fix)}"


def _remedy(group: PlannedGroup, first: str) -> str:
    return ", or ".join((first, *group.remedies))


def _interval_for(cycle_s: float, use: float = _USE_WANTED) -> str:
    """The next round interval at which a cycle of this length uses no more than that share."""
    wanted = cycle_s / use
    step = 0.01
    for step in (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0):
        if wanted <= 10 * step:
            break
    return duration_text(math.ceil(wanted / step - 1e-9) * step)


def duration_text(seconds: float) -> str:
    """A duration with three figures: `4.01ms`, `250ms`, `1.35s`, `90s`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g}ms"
    return f"{seconds:.3g}s" if seconds < 999.5 else f"{seconds:.0f}s"


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{share * 100:.0f} %" if share >= 0.0995 or share == 0 else f"{share * 100:.1f} %"
