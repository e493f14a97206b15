"""Samples and transitions in the binary COPY format (PostgreSQL manual, COPY, "Binary Format"). Pure.

Most of a row is the same for every sample of a tag or of a batch. A batch of plain numbers received at one
instant, which is nearly every one, is taken apart into columns, judged a column at a time, and packed by one
call. What is not so goes row by row; both make the same bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import astuple

from gateway.historian.rows import EXACT_MAX, QUALITY_CODE, clean, dated, split_value, to_jsonb
from statemodel.machine import SOURCE_AHEAD_MAX, SOURCE_BEHIND_MAX
from statemodel.records import Recorded
from statemodel.types import Quality, TagSample, Transition

SAMPLE_COLUMNS = ("tag_id", "quality", "at", "received_at", "source_at", "value", "text", "substatus")

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"

_pack_prefix = struct.Struct(">hiiih").pack
_pack_time = struct.Struct(">iq").pack
_pack_value = struct.Struct(">id").pack
_pack_length = struct.Struct(">i").pack
_EIGHT = _pack_length(8)
#: Layouts of a row of a good number: prefix, times and the length of the value, value, two nulls. Without a
#: source time, with one, and dated by it.
_PLAIN, _SOURCED, _DATED = "16s32sdq", "16s28sq4sdq", "16s4sq20sdq"
_NULLS = -1
_NOTHING: Mapping[str, bytes] = {}
#: A batch of more samples is packed in pieces, so that the packers of all sizes stay few and small.
_PIECE = 256


class UnknownTag(Exception):
    """A sample's tag has no number yet."""


class SampleEncoder:
    """Packs samples for COPY. Remembers what is the same for all samples of a tag.

    `ids` maps tags to their numbers; `kinds` collects tags whose values are of another kind than was known.
    """

    def __init__(self, ids: Mapping[str, int], kinds: Mapping[str, str]) -> None:
        self._ids = dict(ids)
        self._kinds = dict(kinds)
        self.changed_kinds: dict[str, str] = {}
        #: Prefixes of rows of good samples, of each tag under the kind its last value was of.
        self._plain: dict[type, dict[str, bytes]] = {float: {}, int: {}, bool: {}}
        self._packers: dict[tuple[str, int], Callable[..., bytes]] = {}

    def learn(self, ids: Mapping[str, int], kinds: Mapping[str, str]) -> None:
        """More tags have numbers."""
        self._ids.update(ids)
        self._kinds.update(kinds)

    def kinds_are_kept(self, kinds: Mapping[str, str]) -> None:
        """The database has these of `changed_kinds` now; others may have come meanwhile."""
        for tag, kind in kinds.items():
            if self.changed_kinds.get(tag) == kind:
                del self.changed_kinds[tag]

    def tag_id(self, tag: str) -> int | None:
        """Number of a tag, if it has one."""
        return self._ids.get(tag)

    def encode(self, groups: Iterable[tuple[bool, Sequence[TagSample]]]) -> bytes:
        """Rows of samples, to go between `HEADER` and `TRAILER`.

        Each group says whether its connection asks for source time.

        Raises:
            UnknownTag: one has no number yet; nothing is lost by asking again once it has.
        """
        parts: list[bytes] = []
        for source_time, samples in groups:
            for at in range(0, len(samples), _PIECE):
                piece = samples[at : at + _PIECE]
                parts.append(
                    self._even(piece, source_time)
                    or b"".join([self._row(sample, source_time) for sample in piece])
                )
        return b"".join(parts)

    def _even(self, samples: Sequence[TagSample], source_time: bool) -> bytes | None:
        """Rows of good numbers received at one instant; None when they are not that, or not known yet."""
        count = len(samples)
        columns: tuple[tuple[Any, ...], ...] = tuple(zip(*map(astuple, samples), strict=True))
        tags, values, qualities, sources, receipts, substatuses = columns
        received_at, kinds = receipts[0], list(map(type, values))
        if not (
            substatuses.count("") == qualities.count(Quality.GOOD) == receipts.count(received_at) == count
        ):
            return None
        if kinds.count(kinds[0]) == count:
            prefixes = list(map(self._plain.get(kinds[0], _NOTHING).get, tags))
        else:
            prefixes = [
                self._plain.get(kind, _NOTHING).get(tag) for kind, tag in zip(kinds, tags, strict=True)
            ]
        if None in prefixes or not _all_exact(values, kinds):
            return None
        received = _pack_time(8, _to_us(received_at))
        if sources.count(None) == count:
            return self._packed(_PLAIN, count, prefixes, received + received + _NULL + _EIGHT, values, _NULLS)
        if None in sources:
            return None
        dates = list(map(_to_us, sources))
        if source_time:
            if (
                not received_at - SOURCE_BEHIND_MAX
                <= min(sources)
                <= max(sources)
                <= received_at + SOURCE_AHEAD_MAX
            ):
                return None
            return self._packed(
                _DATED, count, prefixes, _EIGHT, dates, received + _NULL + _EIGHT, values, _NULLS
            )
        if received_at in sources:
            return None
        return self._packed(
            _SOURCED, count, prefixes, received + received + _EIGHT, dates, _EIGHT, values, _NULLS
        )

    def _packed(self, row: str, count: int, *columns: Any) -> bytes:
        """Columns as rows of one layout; a column that is not a sequence of its own is the same in each."""
        pack = self._packers.get((row, count))
        if pack is None:
            pack = self._packers[row, count] = struct.Struct(">" + row * count).pack
        fields: list[Any] = [None] * (len(columns) * count)
        for place, column in enumerate(columns):
            same = type(column) is bytes or type(column) is int
            fields[place :: len(columns)] = [column] * count if same else column
        return pack(*fields)

    def _row(self, sample: TagSample, source_time: bool) -> bytes:
        """Any sample, slowly."""
        tag, value = sample.tag, sample.value
        tag_id = self._ids.get(tag)
        if tag_id is None:
            raise UnknownTag(tag)
        prefix = _pack_prefix(len(SAMPLE_COLUMNS), 4, tag_id, 2, QUALITY_CODE[sample.quality])
        if value is not None:
            self._note_kind(tag, type(value))
            if sample.quality is Quality.GOOD and type(value) in self._plain:
                self._plain[type(value)][tag] = prefix
        at, received_at, source_at = dated(sample, source_time), sample.received_at, sample.source_at
        number, text = split_value(value)
        return b"".join(
            (
                prefix,
                _pack_time(8, _to_us(at)),
                _pack_time(8, _to_us(received_at)),
                _NULL if source_at is None or source_at == at else _pack_time(8, _to_us(source_at)),
                _NULL if number is None else _pack_value(8, number),
                _packed_text(text),
                _packed_text(sample.substatus or None),
            )
        )

    def _note_kind(self, tag: str, kind: type) -> None:
        name = _KINDS.get(kind, "")
        if self._kinds.get(tag) != name:
            self._kinds[tag] = self.changed_kinds[tag] = name
            for known in self._plain.values():
                known.pop(tag, None)


def _to_us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _all_exact(values: Sequence[Any], kinds: Sequence[type]) -> bool:
    """Whether all of some numbers can be a double as they are: finite, and no integer too large."""
    if int in kinds and not -EXACT_MAX <= min(values) <= max(values) <= EXACT_MAX:
        return False
    # One that is not finite makes the sum so. If the sum of finite ones overflows, that costs only time.
    return float not in kinds or math.isfinite(sum(values))


_KINDS = {bool: "bool", int: "int", float: "float", str: "text"}


def _packed_text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    data = clean(text).encode()
    return _pack_length(len(data)) + data


TRANSITION_COLUMNS = (
    *("gateway", "stream", "seq", "equipment", "path", "model", "sequence", "from_state", "to_state", "code"),
    *("category", "at", "recorded_at", "duration_s", "conformance", "cause", "body"),
)
_pack_count = struct.Struct(">h").pack
_pack_seq = struct.Struct(">iq").pack
_pack_times = struct.Struct(">iqiqid").pack
#: Before the JSON of a `jsonb` stands the number of its form.
_JSONB = b"\x01"
#: Words met so often that they are packed once; more than a plant has names.
_WORDS_MAX = 20_000


class TransitionEncoder:
    """Packs the transitions of one stream for COPY, to go between `HEADER` and `TRAILER`."""

    def __init__(self, gateway: str, stream: str) -> None:
        self._begin = (
            _pack_count(len(TRANSITION_COLUMNS))
            + _packed_text(gateway)
            + _pack_length(16)
            + UUID(stream).bytes
        )
        self._words: dict[str, bytes] = {}

    def encode(self, recorded: Iterable[Recorded]) -> bytes:
        """Rows of transitions; other events are passed over."""
        if len(self._words) > _WORDS_MAX:
            self._words.clear()
        return b"".join([self._row(r, r.event) for r in recorded if isinstance(r.event, Transition)])

    def _row(self, recorded: Recorded, event: Transition) -> bytes:
        word, body = self._word, recorded.json
        cause = to_jsonb(event.cause).encode()
        return b"".join(
            (
                self._begin,
                _pack_seq(8, recorded.seq),
                word(event.equipment),
                word(event.path),
                word(event.model),
                _pack_seq(8, event.sequence),
                word(event.from_state),
                word(event.to_state),
                _NULL if event.code is None else _pack_seq(8, event.code),
                _NULL if event.category is None else word(event.category),
                _pack_times(8, _to_us(event.at), 8, _to_us(recorded.recorded_at), 8, event.duration_s),
                word(event.conformance.value),
                _pack_length(1 + len(cause)),
                _JSONB,
                cause,
                _pack_length(len(body)),
                body,
            )
        )

    def _word(self, text: str) -> bytes:
        packed = self._words.get(text)
        if packed is None:
            packed = self._words[text] = _packed_text(text)
        return packed
