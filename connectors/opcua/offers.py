"""Recognises PackML in an address space, by names alone: what a server calls its nodes.

Two forms are known: tags after the PackTags list of ISA-TR88.00.02 (`StateCurrent`, `UnitModeCurrent`,
`CurMachSpeed`, flat or under `Status`), and the companion specification OPC 30050, whose state is three
nested machines with a `CurrentState` each. Only the places of what has such a name are kept. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from connectors.browsing import tag_name

#: Levels between an equipment and its PackTags that say nothing of which equipment it is.
_GENERIC = frozenset(
    {
        "status",
        "admin",
        "command",
        "packtags",
        "packml",
        "packmltags",
        "pmls",
        "pmlstatus",
        "packmlstatus",
        "hmi",
    }
)
_STATE, _MODE = "statecurrent", "unitmodecurrent"
_OTHERS = ("curmachspeed", "machspeed")
NESTED = ("basestatemachine", "machinestate", "executestate")
_CURRENT = "currentstate"
#: Equipment offered at most; more are a sign that the names mean something else.
OFFERS_MAX = 500


@dataclass
class Sighting:
    """Where something looks like PackML: the equipment's place, and the node ids of its tags by name."""

    path: tuple[str, ...]
    tags: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """Tag in lower case -> node id as text, path."""

    @property
    def name(self) -> str:
        """A name for the equipment: of the level that tells."""
        return tag_name(self.path[-1]) if self.path else "machine"

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the tags that carry the state, outermost first; empty when there is none."""
        if _STATE in self.tags:
            return (_STATE,)
        return NESTED if all(one in self.tags for one in NESTED) else ()

    @property
    def mode(self) -> str | None:
        """The name of the tag that carries the unit mode."""
        return _MODE if _MODE in self.tags else None

    @property
    def others(self) -> tuple[str, ...]:
        """Names of further tags worth having."""
        return tuple(one for one in _OTHERS if one in self.tags)

    @property
    def reason(self) -> str:
        """What was recognised, and what to look at before believing it."""
        if self.states == (_STATE,):
            return (
                "a StateCurrent as in the PackTags list; check that its codes are those of the model packml"
            )
        return "state machines as in OPC 30050; each tells its state by name"


class PackmlSpotter:
    """Sees every variable of an address space go by, and remembers what looks like PackML."""

    def __init__(self) -> None:
        self._sightings: dict[tuple[str, ...], Sighting] = {}

    def see(self, path: tuple[str, ...], node: str) -> None:
        """A variable at this path."""
        # Flat servers put the whole path into one name: `Filler.Status.StateCurrent`.
        levels = [*path[:-1], *(part.strip('"[] ') for part in path[-1].split("."))]
        last = levels[-1].lower()
        if last == _CURRENT:
            self._nested(levels, path, node)
        elif last in (_STATE, _MODE, *_OTHERS):
            self._keep(_equipment(levels[:-1]), last, node, path)

    def _nested(self, levels: list[str], path: tuple[str, ...], node: str) -> None:
        plain = [level.lower().removeprefix("packml") for level in levels[:-1]]
        for depth, machine in enumerate(NESTED, 1):
            if tuple(plain[-depth:]) == NESTED[:depth]:
                self._keep(_equipment(levels[: -1 - depth]), machine, node, path)

    def _keep(self, where: tuple[str, ...], tag: str, node: str, path: tuple[str, ...]) -> None:
        if where in self._sightings or len(self._sightings) < OFFERS_MAX:
            self._sightings.setdefault(where, Sighting(where)).tags.setdefault(tag, (node, path))

    def sightings(self) -> Iterator[Sighting]:
        """The places that have a state to read."""
        return (one for one in self._sightings.values() if one.states)


def _equipment(levels: list[str]) -> tuple[str, ...]:
    while levels and levels[-1].lower() in _GENERIC:
        levels = levels[:-1]
    return tuple(levels)
