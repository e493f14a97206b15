"""What sinks tell the books. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.accounts.ranges import Ranges
from statemodel.types import SampleBatch


class Losses(msgspec.Struct, frozen=True):
    """What a sink has noted of one stream instead of taking it.

    `samples` counts rows it refused, by tag, `events` refused events; `missing_batches` and `missing_events`
    count what the journal could not give it.
    """

    samples: Mapping[str, int] = {}
    events: int = 0
    missing_batches: int = 0
    missing_events: int = 0


class Deliveries(Protocol):
    """What a sink of samples tells about its progress."""

    def since_batch(self, sink: str) -> int:
        """The books of a sink count batches beyond this number: losses before it do not concern them."""
        ...

    def handed_over(
        self,
        sink: str,
        first: int,
        last: int,
        batches: Sequence[tuple[int, SampleBatch]],
        losses: Losses | None,
    ) -> None:
        """The sink holds batches `first` to `last` for certain from now on; these are what it got of them.

        `losses` is all it has noted so far, None when nothing was added to it.
        """
        ...

    async def stands_at(self, sink: str, ranges: Ranges, losses: Losses | None) -> None:
        """What the sink itself says it holds, whatever was thought of it: read when it is met.

        Its books may begin anew: when `since_batch` has moved, `losses` did not count: tell them again.
        """
        ...
