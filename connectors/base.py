"""The port between a protocol and the gateway.

A connector speaks one protocol to one device. It is told nothing of equipment, states, journals or sinks;
it hands sample batches to its `Link` and returns only by raising. Life (start, back-off, restart) belongs
to the supervisor.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from statemodel.types import DeviceEvent, Gap, SampleBatch, TagSample, TagValue


class Clock(Protocol):
    """The only source of time. `now` labels, `monotonic` measures."""

    def now(self) -> datetime:
        """Wall-clock time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never steps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""
        ...


class Link(Protocol):
    """What a connector is given for one session, and the only thing it may call back."""

    async def up(self) -> None:
        """The session stands and the device has answered. Call once, before the first `emit`."""
        ...

    async def emit(self, batch: SampleBatch) -> None:
        """Pass samples on. Waiting here is the back-pressure; never drop samples instead of waiting."""
        ...

    async def event(self, event: DeviceEvent) -> None:
        """Pass on what the device itself says has happened, in order with the samples. Waits as `emit` does.

        One that was told before under the same identity may be told again; it is recorded once.
        """
        ...

    def seen(self, at: datetime) -> None:
        """The device has just proved that it lives, with or without news."""
        ...

    def cycle(self, group: str, duration_s: float, lateness_s: float, skipped: int) -> None:
        """A poll group has been read (or a publish response handled): figures for people and metrics."""
        ...

    def gap(self, gap: Gap) -> None:
        """Samples are known to be lost (overflow, messages gone for good). Recorded with the next batch."""
        ...

    def refused(self, tag: str, reason: str) -> None:
        """The device will not serve this one tag; the others go on. An empty reason takes it back."""
        ...


class Connector(Protocol):
    """One device behind one protocol. Built once per configured connection, run many times."""

    async def run(self, link: Link) -> None:
        """Connect, then emit samples until something fails; never returns normally.

        Each call is a new session with new protocol objects. After `up`, every tag is emitted at least once
        (with bad quality when it cannot be read), then on change. Cancelling closes the session promptly;
        nothing is emitted after that.

        Raises:
            ConnectionLost: the link failed; run again after a pause.
            DeviceRefused: the device will not serve this configuration.
        """
        ...

    async def read_once(self) -> Sequence[TagSample]:
        """Connect, read every tag once, disconnect: `andon read`. Raises as `run` does."""
        ...


class Write(msgspec.Struct, frozen=True):
    """A value for a tag, in the tag's own terms: scaled, as it is read. `tag` is the full id."""

    tag: str
    value: TagValue


class WriteOutcome(StrEnum):
    """What is known of a write afterwards."""

    ACCEPTED = "accepted"
    """The device said yes."""
    REFUSED = "refused"
    """Not carried out: the device said no, or it was never sent."""
    UNKNOWN = "unknown"
    """Sent and not answered: it may have been carried out."""


class Written(msgspec.Struct, frozen=True):
    """The answer to a `Write`, with a reason in words unless it was accepted."""

    tag: str
    outcome: WriteOutcome
    reason: str = ""


class Writer(Protocol):
    """A connector that can write too."""

    async def write(self, writes: Sequence[Write]) -> Sequence[Written]:
        """Write through the session that `run` keeps, ahead of any poll that waits, in order.

        Each value is sent at most once: whether to try again is for the caller to say, who alone knows
        whether it may be done twice. A value that does not fit its tag is refused before anything is sent.

        Raises:
            ConnectionLost: no session stands, and nothing was sent.
        """
        ...
