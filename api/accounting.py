"""What the API tells of where samples and events went: shapes, and the port they come from.

Everywhere `recorded` is the sum of the figures beside it; `difference` is 0, or the books do not add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class Balance(msgspec.Struct, frozen=True):
    """recorded = delivered + buffered + set_aside + missing + difference.

    `buffered` waits in the journal, `set_aside` was refused and is kept with the reason, `missing` the
    journal could not give any more.
    """

    recorded: int
    delivered: int
    buffered: int
    set_aside: int
    missing: int
    difference: int


class SinkAccount(msgspec.Struct, frozen=True):
    """What one sink has of what was recorded. `samples` is null for a sink that takes events only."""

    sink: str
    adds_up: bool
    events: Balance
    samples: Balance | None
    missing_batches: int


class FlowAccount(msgspec.Struct, frozen=True):
    """The way of samples into the journal, since the process began at `since`; all tags together.

    received + made = unchanged + by_rules + not_recorded + recorded + shed + in_hand
    """

    since: datetime
    received: int
    made: int
    unchanged: int
    by_rules: int
    not_recorded: int
    recorded: int
    shed: int
    in_hand: int


class AccountsView(msgspec.Struct, frozen=True):
    """The books of a journal since `since`. `difference` counts samples that are unaccounted for."""

    stream: str
    since: datetime
    adds_up: bool
    difference: int
    recorded: int
    shed: int
    uncounted_batches: int
    flow: FlowAccount
    sinks: Sequence[SinkAccount]


class TagAccount(msgspec.Struct, frozen=True):
    """One tag: what was recorded of it, what there was no room for, and what became of it in each sink."""

    tag: str
    recorded: int
    shed: int
    adds_up: bool
    sinks: Mapping[str, Balance]


class Accounts(Protocol):
    """The books, as they are now. All of it is memory."""

    def view(self) -> AccountsView:
        """All tags together."""
        ...

    def tag(self, tag: str) -> TagAccount:
        """One tag by its full id; of one that was never recorded all figures are 0."""
        ...

    def tags(self) -> Sequence[TagAccount]:
        """Every tag that was ever recorded or shed, by name; some may have left the configuration."""
        ...
