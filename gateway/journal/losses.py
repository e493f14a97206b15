"""What the journal could not record or cannot give back, told once: as `gap` events, and counted by tag.

Samples are shed while there is room for events only; a stretch of them is told when it ends, or every five
minutes. Damage found in what had been recorded is told when its bounds are known. What is told travels as
events through the journal itself, and what is yet to be told is kept with it, so that a crash forgets
neither. Pure: reads no clock and no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog
import zstandard

from statemodel.types import Gap, Recordable, SampleBatch

log = structlog.get_logger(__name__)

#: Under this name the journal keeps what is here, and under the other what was shed since: the counts of all
#: tags are many, and every commit that sheds keeps its own.
KEPT, KEPT_SINCE = "losses", "losses since"
#: A stretch of shed samples that goes on is told in pieces of this length.
PIECE = timedelta(minutes=5)
_BYTES_MAX = 1_000_000_000
#: Losses that wait to be told; more are told as one.
_WAITING_MAX = 200


class Stretch(msgspec.Struct):
    """Samples of a connection that were shed, by the time of their receipt."""

    at: datetime
    until: datetime
    reason: str
    samples: int = 0


class Loss(msgspec.Struct, frozen=True):
    """Something lost between two instants; of every connection when `connection` is empty."""

    connection: str
    at: datetime
    until: datetime
    reason: str


class _Kept(msgspec.Struct, array_like=True):
    shed: dict[str, int]
    stretches: dict[str, Stretch]
    waiting: list[Loss]
    told: list[tuple[str, int, int]]


class Losses:
    """What was lost and who was told. Belongs to the journal's thread; `waiting` may be read by others."""

    def __init__(self, kept: bytes | None = None, since: bytes | None = None) -> None:
        nothing = _Kept({}, {}, [], [])
        counted, changed = _read(kept), _read(since)
        state = changed or counted or nothing
        self._since = Counter((changed or nothing).shed)
        #: Samples shed, by tag, as long as this journal is kept.
        self.shed = Counter((counted or nothing).shed) + self._since
        self._stretches = state.stretches
        #: To be told; replaced as a whole.
        self.waiting: tuple[Loss, ...] = tuple(state.waiting)
        self._told = set(state.told)
        self.changed = False
        self.end_shedding()  # with the process before

    # -- shed samples

    @property
    def shedding(self) -> bool:
        """Whether a stretch is under way."""
        return bool(self._stretches)

    def take_shed(self, batches: Iterable[SampleBatch], reason: str) -> None:
        """Samples for which there was no room."""
        self.changed = True
        for batch in batches:
            tags = [sample.tag for sample in batch.samples]
            self.shed.update(tags)
            self._since.update(tags)
            stretch = self._stretches.get(batch.connection)
            if stretch is None:
                stretch = Stretch(batch.received_at, batch.received_at, reason)
                self._stretches[batch.connection] = stretch
            stretch.at = min(stretch.at, batch.received_at)
            stretch.until = max(stretch.until, batch.received_at)
            stretch.samples += len(batch.samples)
            if stretch.until - stretch.at >= PIECE:
                self._end(batch.connection)

    def end_shedding(self) -> None:
        """There is room again."""
        for connection in list(self._stretches):
            self._end(connection)

    def _end(self, connection: str) -> None:
        stretch = self._stretches.pop(connection)
        reason = f"{stretch.samples} samples were not recorded: {stretch.reason}"
        self._wait(Loss(connection, stretch.at, stretch.until, reason))

    # -- damage

    def is_told(self, what: tuple[str, int, int]) -> bool:
        """Whether somebody heard of this damage (segment, seq, batch) before."""
        return what in self._told

    def take_damage(self, what: tuple[str, int, int], at: datetime, until: datetime, reason: str) -> None:
        """What had been recorded between two instants cannot be read; heard of once."""
        if self.is_told(what):
            return
        self._told.add(what)
        reason = f"a part of the journal cannot be read: {reason}"
        last = self.waiting[-1] if self.waiting else None
        if last is not None and not last.connection and last.reason == reason:
            self.waiting = self.waiting[:-1]
            at, until = min(at, last.at), max(until, last.until)
        self._wait(Loss("", at, until, reason))

    def forget(self, segments: Collection[str]) -> None:
        """Of segments that are gone nothing will be met again; `segments` are those that are left."""
        gone = {item for item in self._told if item[0] not in segments}
        if gone:
            self._told -= gone
            self.changed = True

    # -- telling

    def _wait(self, loss: Loss) -> None:
        self.changed = True
        if len(self.waiting) < _WAITING_MAX:
            self.waiting = (*self.waiting, loss)
            return
        first, second = self.waiting[:2]
        both = Loss(
            "", min(first.at, second.at), max(first.until, second.until), "more was lost than is listed"
        )
        self.waiting = (both, *self.waiting[2:], loss)

    def told(self, events: Sequence[Recordable]) -> bool:
        """These events are being recorded: what they tell waits no longer. Whether anything changes."""
        if not self.waiting:
            return False
        told = {(e.at, e.until, e.reason) for e in events if isinstance(e, Gap)}
        left = tuple(loss for loss in self.waiting if (loss.at, loss.until, loss.reason) not in told)
        if len(left) == len(self.waiting):
            return False
        self.waiting = left
        return True

    def take_back(self, since: bytes) -> None:
        """What was shed and told since `to_keep_since` gave this was not recorded after all."""
        state = msgspec.msgpack.decode(_expand(since), type=_Kept)
        before = Counter(state.shed)
        self.shed -= self._since - before
        self._since = before
        self._stretches, self.waiting, self._told = state.stretches, tuple(state.waiting), set(state.told)

    def to_keep(self) -> bytes:
        """All of it, as bytes for `Losses`; nothing has changed since."""
        self.changed = False
        self._since.clear()
        return self._kept(self.shed)

    def to_keep_since(self) -> bytes:
        """The same, but only what was shed since `to_keep`; compressed, for room is scarce then."""
        return zstandard.ZstdCompressor(level=1).compress(self._kept(self._since))

    def _kept(self, shed: Counter[str]) -> bytes:
        return msgspec.msgpack.encode(
            _Kept(dict(shed), self._stretches, list(self.waiting), sorted(self._told))
        )


def _expand(kept: bytes) -> bytes:
    if not kept.startswith(zstandard.FRAME_HEADER):
        return kept
    return zstandard.ZstdDecompressor().decompress(kept, max_output_size=_BYTES_MAX)


def _read(kept: bytes | None) -> _Kept | None:
    if kept is None:
        return None
    try:
        return msgspec.msgpack.decode(_expand(kept), type=_Kept)
    except (msgspec.MsgspecError, zstandard.ZstdError) as error:
        log.warning("what was shed before cannot be read", reason=str(error))
        return None


def gaps(losses: Iterable[Loss], connections: Collection[str]) -> Sequence[Gap]:
    """The events that tell of losses: one for each connection they are about that is still configured."""
    return [
        Gap(connection, loss.at, loss.until, loss.reason)
        for loss in losses
        for connection in ((loss.connection,) if loss.connection else connections)
    ]
