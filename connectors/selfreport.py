"""What a connector may say of itself besides its samples; each is optional, so each has a default here.

A connector that has something to say carries an attribute of that name. These functions are how the rest of
the gateway asks, so that a connector without one needs no empty methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from connectors.base import Connector


class Warns(Protocol):
    """Has something to warn of that does not stop it yet, such as a certificate that expires soon."""

    warnings: Mapping[str, str]
    """Short snake_case key -> one sentence for people. Entries come and go with what they warn of."""


class Counts(Protocol):
    """Counts what happens on its wire."""

    def figures(self) -> Mapping[str, float]:
        """Snake_case name -> total since the process began. The names are few and always the same."""
        ...


class Ranged(Protocol):
    """Knows ranges of its tags from the device itself, once a session is up."""

    ranges: Mapping[str, tuple[float, float]]
    """Full tag id -> lowest and highest value. Complete before `Link.up` is called."""


class TakesUp(Protocol):
    """Can go on with a lost session, so that the device tells what happened in between."""

    taken_up: bool
    """Whether the session that stands does so, for every tag. Known before `Link.up` is called."""


class Refuses(Protocol):
    """Knows more of a tag it cannot read than the substatus of its sample."""

    refusals: Mapping[str, str]
    """Full tag id -> one sentence for people, of the last `Connector.read_once`."""


def warnings_of(connector: Connector) -> Mapping[str, str]:
    """What it warns of at present."""
    found: Mapping[str, str] = getattr(connector, "warnings", {})
    return dict(found)


def figures_of(connector: Connector) -> Mapping[str, float]:
    """Its counts since the process began."""
    figures: Callable[[], Mapping[str, Any]] | None = getattr(connector, "figures", None)
    return {} if figures is None else {name: float(value) for name, value in figures().items()}


def ranges_of(connector: Connector) -> Mapping[str, tuple[float, float]]:
    """The ranges the device gave."""
    found: Mapping[str, tuple[float, float]] = getattr(connector, "ranges", {})
    return dict(found)


def was_taken_up(connector: Connector) -> bool:
    """Whether the session that stands goes on where the lost one stopped."""
    found: bool = getattr(connector, "taken_up", False)
    return found


def refusals_of(connector: Connector) -> Mapping[str, str]:
    """Why tags could not be read by the last `read_once`."""
    found: Mapping[str, str] = getattr(connector, "refusals", {})
    return dict(found)
