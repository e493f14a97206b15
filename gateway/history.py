"""What was true: the journal for what is recent, the database for what is long ago, joined without a seam.

The journal is asked first, because it is here. The database is asked only for what the journal no longer
holds, and only then can an answer fail because the database is away. Implements `api.ports.History` and the
source that streams read from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from api.ports import HistoryUnavailable, Interval, StreamPosition, Surroundings, TooOld
from gateway.corrections import CorrectionBook
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.historian.historian import Historian
from gateway.historian.lanes import NO_END
from gateway.journal import Journal
from statemodel.corrected import Stretch, in_force, lengthen, overlay, painted, told
from statemodel.records import EquipmentState, Recorded, state_after
from statemodel.types import UNKNOWN, Correction, Transition

#: Questions asked anew because the journal freed what was asked for meanwhile.
_TRIES = 5
_END = datetime(9999, 1, 1, tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)

#: Refused moves told around one transition.
REFUSALS_MAX = 200
#: Events of the journal looked through for them; beyond it the database is asked, where there is one.
SCAN_EVENTS_MAX = 5_000
_PAGE_EVENTS = 500
#: Most transitions read at once where a correction lies over many; more only where more are asked for.
_TIMELINE_EVENTS = 1_000
#: Why a question that had begun with a database cannot be answered without it.
TAKEN_OUT = "the database has just been taken out of the configuration: ask again"


class JoinedHistory:
    """Journal and, where there is one, database as one history, with the corrections of `book` over it."""

    def __init__(
        self, journal: Journal, historian: Historian | None, book: CorrectionBook | None = None
    ) -> None:
        self._journal, self._historian = journal, historian
        self._book = book or CorrectionBook(journal, historian)

    def use(self, historian: Historian | None) -> None:
        """From now on ask this database, or none."""
        self._historian = historian

    # -- `api.ports.History`

    async def state_at(
        self, equipment: str, at: datetime, known_at: datetime | None = None
    ) -> EquipmentState | None:
        """The state at an instant, as it was known at another (None: now); None before the first transition.

        Raises:
            HistoryUnavailable: only the database knows, and it does not answer; so for every question.
        """
        recorded = await self._transition_before(equipment, at, known_at)
        if recorded is None:
            return None
        state = state_after(_transition(recorded), recorded.seq)
        begin, after = recorded.at, at + _INSTANT
        while True:
            corrections = in_force(await self.corrections(equipment, begin, after, known_at), known_at)
            over = next((one for one in painted(corrections) if one.begin <= at < one.end), None)
            if over is None or over.begin >= begin:
                break
            begin = over.begin  # what lies over it before counts for where it begins
        if over is not None:
            return _corrected(state, over, corrections)
        laid = overlay(told([recorded], recorded.at, after), corrections)
        return msgspec.structs.replace(state, since=laid[-1].begin)

    async def corrections(
        self, equipment: str, from_: datetime, to: datetime, known_at: datetime | None = None
    ) -> Sequence[Recorded]:
        """The corrections that touch a range, and what withdraws them, recorded up to `known_at`; oldest
        first."""
        return await self._book.between(equipment, from_, to, known_at)

    async def transitions(
        self, equipment: str, *, after: int, from_: datetime | None, to: datetime | None, limit: int
    ) -> Sequence[Recorded]:
        """Transitions of one equipment in the present stream, `seq > after`, `from <= at < to`, in order."""

        async def asked() -> tuple[Sequence[Recorded], int]:
            if await self._journal_suffices(equipment, after, from_):
                found = await self._journal.transitions(
                    equipment, after=after, from_=from_, to=to, limit=limit
                )
                return found, after + 1
            if self._historian is None:
                raise HistoryUnavailable(TAKEN_OUT)
            up_to = self._historian.drained.seq
            try:
                old = await self._historian.transitions_by_seq(
                    equipment, after=after, up_to=up_to, from_=from_, to=to, limit=limit
                )
            except (SinkUnavailable, SinkRefused) as error:
                raise HistoryUnavailable(error.reason) from error
            if len(old) >= limit:
                return old, NO_END
            new = await self._journal.transitions(
                equipment, after=max(after, up_to), from_=from_, to=to, limit=limit - len(old)
            )
            return [*old, *new], up_to + 1

        return await self._whole(asked)

    async def timeline(
        self, equipment: str, from_: datetime, to: datetime, limit: int, known_at: datetime | None = None
    ) -> Sequence[Interval]:
        """The states between two instants as they were known at a third (None: now), cut exactly at both,
        oldest first, without holes."""
        to = to if known_at is None else min(to, known_at)
        if to <= from_ or limit < 1:
            return []
        first, there = await self._begin(equipment, from_, to, limit + 1, known_at)
        begun = [] if first is None else [first]
        laid: list[Stretch] = []
        # Several may lie at one instant, so the next page begins with what was read there already.
        after, read_there, page = from_, set[str](), limit + 1 - len(begun)
        while True:
            found = (
                there[:page]
                if there is not None
                else await self._transitions_between(
                    equipment, after, to, page + len(read_there), for_timeline=True
                )
            )
            there = None
            fresh = [r for r in found if r.id not in read_there]
            known = [r for r in fresh if known_at is None or r.recorded_at <= known_at]
            whole = len(fresh) < page or len(known) < len(fresh)  # what was recorded later ends it
            begun += known
            piece = told(begun, from_, to, whole=whole)
            if piece:
                begin, end = piece[0].begin, piece[-1].end + _INSTANT
                corrections = in_force(await self.corrections(equipment, begin, end, known_at), known_at)
                for stretch in overlay(piece, corrections):
                    lengthen(laid, stretch)
            if whole or len(laid) > limit or (len(laid) == limit and not laid[-1].corrected):
                return [_interval(stretch) for stretch in laid[:limit]]
            # A correction lies over some of them, or goes on beyond the last: go on with what follows.
            begun, last_at = begun[-1:], fresh[-1].at
            read_there = {r.id for r in found if r.at == last_at}
            after, page = last_at - _INSTANT, min(2 * page, max(page, _TIMELINE_EVENTS))

    async def event(self, seq: int) -> Recorded | None:
        """The event of this number in the present stream; None when it cannot be read any more.

        Raises:
            TooOld: it lies before what is held.
        """
        found = await self.events_after(seq - 1, 1)
        return found[0] if found and found[0].seq == seq else None

    async def transition_at(self, equipment: str, at: datetime) -> Recorded | None:
        """The transition that led to the state at an instant; None before the first."""
        return await self._transition_before(equipment, at)

    async def surroundings(self, transition: Recorded) -> Surroundings:
        """What is recorded around a transition. Never fails: what cannot be read is left out and said."""
        missing: list[str] = []
        previous = following = None
        try:
            following = await self._following(transition)
        except HistoryUnavailable as error:
            missing.append(f"what came after it ({error.reason})")
        try:
            previous = await self._previous(transition)
        except HistoryUnavailable as error:
            missing.append(f"what came before it ({error.reason})")
        if previous is None and _transition(transition).sequence > 1 and not missing:
            missing.append("what came before it is no longer held")
        after = previous.seq if previous is not None else transition.seq - 1
        before = following.seq if following is not None else self._journal.position.last_seq + 1
        rejections, left_out = await self._rejections(transition, after, before)
        missing += [left_out] if left_out else []
        return Surroundings(previous, following, rejections, "; ".join(missing) or None)

    # -- what streams read

    def position(self) -> StreamPosition:
        """What can be read of the present stream, in the database or in the journal."""
        position = self._journal.position
        first = position.first_seq
        if self._historian is not None and self._historian.first_seq is not None:
            first = min(first, self._historian.first_seq)
        return StreamPosition(position.stream, first, position.last_seq)

    async def events_after(self, seq: int, limit: int) -> Sequence[Recorded]:
        """Events with a larger sequence, in order; at most `limit`, none when there are none yet.

        Raises:
            TooOld: the next one is not held anywhere any more.
            HistoryUnavailable: only the database has it, and it does not answer.
        """
        if seq + 1 >= self._journal.position.first_seq:
            events = await self._journal.read(seq, limit)
            if seq + 1 >= self._journal.position.first_seq or (events and events[0].seq == seq + 1):
                return events
            # Freed before it was read: the database has it.
        position = self.position()
        if self._historian is None or (
            self._historian.first_seq is not None and seq + 1 < self._historian.first_seq
        ):
            raise TooOld(position)
        try:
            events = await self._historian.events_after(seq, limit, up_to=self._historian.drained.seq)
        except (SinkUnavailable, SinkRefused) as error:
            raise HistoryUnavailable(error.reason) from error
        if not events:
            raise TooOld(position)
        return events

    # -- inside

    async def _following(self, recorded: Recorded) -> Recorded | None:
        """The next transition of the same equipment, if there has been one."""
        name, stream = recorded.equipment, self._journal.stream
        if recorded.stream == stream:
            found = await self.transitions(name, after=recorded.seq, from_=recorded.at, to=None, limit=1)
        else:
            found = await self._transitions_between(name, recorded.at, _END, 1)
        return found[0] if found else None

    async def _previous(self, recorded: Recorded) -> Recorded | None:
        """The transition of the same equipment that led to the state left; None when it is not held.

        It lies exactly where that state began. Several may lie there, and some of another numbering.
        """
        event = _transition(recorded)
        if event.sequence <= 1:
            return None
        began_at = event.at - timedelta(seconds=event.duration_s)
        found = [await self._transition_before(recorded.equipment, began_at)]
        if found[0] is None or not _leads_to(found[0], event):
            found = list(
                await self._transitions_between(
                    recorded.equipment, began_at - _INSTANT, event.at + _INSTANT, SCAN_EVENTS_MAX
                )
            )
        return next((item for item in reversed(found) if item is not None and _leads_to(item, event)), None)

    async def _rejections(
        self, recorded: Recorded, after: int, before: int
    ) -> tuple[Sequence[Recorded], str | None]:
        """Moves of the same equipment refused between two events, and what could not be read of them."""
        present, first = recorded.stream == self._journal.stream, self._journal.position.first_seq
        in_journal = present and after + 1 >= first
        found: list[Recorded] = []
        if self._historian is not None and not (in_journal and before - after <= SCAN_EVENTS_MAX):
            up_to = min(before - 1, self._historian.drained.seq) if present else before - 1
            try:
                found += await self._historian.rejections_between(
                    recorded.equipment, recorded.stream, after, up_to + 1, REFUSALS_MAX + 1
                )
            except (SinkUnavailable, SinkRefused) as error:
                if not in_journal:
                    return (), f"moves refused around it ({error.reason})"
            else:
                after = max(after, up_to) if present else before
        elif not in_journal:
            return (), "moves refused around it are no longer held"
        last_scanned = min(before - 1, after + SCAN_EVENTS_MAX)
        while after < last_scanned and len(found) <= REFUSALS_MAX:
            events = await self._journal.read(after, min(_PAGE_EVENTS, last_scanned - after))
            found += [r for r in events if r.type == "rejection" and _is_of(r, recorded) and r.seq < before]
            after = events[-1].seq if events else last_scanned
        if len(found) > REFUSALS_MAX:
            return found[:REFUSALS_MAX], f"only the first {REFUSALS_MAX} refused moves are told"
        if after < before - 1:
            return found, f"refused moves were looked for only up to event {after}"
        return found, None

    async def _begin(
        self, equipment: str, from_: datetime, to: datetime, limit: int, known_at: datetime | None
    ) -> tuple[Recorded | None, Sequence[Recorded] | None]:
        """What led to the state at an instant, and the transitions from there on; None where they have to be
        asked for. The journal tells both at once: it holds all that followed a transition it knows."""
        if known_at is None:
            first, following = await self._journal.around(equipment, from_, to, limit)
            if first is not None or (following is not None and self._holds_all()):
                return first, following
        return await self._transition_before(equipment, from_, known_at), None

    async def _transition_before(
        self, equipment: str, at: datetime, known_at: datetime | None = None
    ) -> Recorded | None:
        recorded = await self._journal_before(equipment, at, known_at)
        if recorded is not None or self._holds_all():
            return recorded
        if self._historian is None:
            raise HistoryUnavailable(TAKEN_OUT)
        try:
            return await self._historian.transition_before(equipment, at, known_at)
        except (SinkUnavailable, SinkRefused) as error:
            raise HistoryUnavailable(error.reason) from error

    async def _journal_before(
        self, equipment: str, at: datetime, known_at: datetime | None
    ) -> Recorded | None:
        """The newest transition at or before an instant, of those the journal holds and that were recorded up
        to another. Only what a device told late lies between the two."""
        found = await self._journal.transition_before(equipment, at)
        while found is not None and known_at is not None and found.recorded_at > known_at:
            at_once = await self._journal.transitions(
                equipment, after=0, from_=found.at, to=found.at + _INSTANT, limit=SCAN_EVENTS_MAX
            )
            if known := [recorded for recorded in at_once if recorded.recorded_at <= known_at]:
                return known[-1]
            found = await self._journal.transition_before(equipment, found.at - _INSTANT)
        return found

    async def _transitions_between(
        self, equipment: str, from_: datetime, to: datetime, limit: int, *, for_timeline: bool = False
    ) -> Sequence[Recorded]:
        """Transitions with `from < at < to` of any stream, in order; `for_timeline` without their cause."""

        async def asked() -> tuple[Sequence[Recorded], int]:
            if self._holds_all() or await self._journal.transition_before(equipment, from_) is not None:
                return await self._journal_between(equipment, from_, to, limit), 0
            if self._historian is None:
                raise HistoryUnavailable(TAKEN_OUT)
            up_to = self._historian.drained.seq
            ask = self._historian.moves_by_time if for_timeline else self._historian.transitions_by_time
            try:
                old = await ask(equipment, from_, to, limit, up_to=up_to)
            except (SinkUnavailable, SinkRefused) as error:
                raise HistoryUnavailable(error.reason) from error
            if len(old) >= limit:
                return old, NO_END
            new = await self._journal_between(equipment, from_, to, limit)
            known = {recorded.id for recorded in old}
            return [*old, *(r for r in new if r.seq > up_to and r.id not in known)][:limit], up_to + 1

        return await self._whole(asked)

    async def _whole(
        self, ask: Callable[[], Awaitable[tuple[Sequence[Recorded], int]]]
    ) -> Sequence[Recorded]:
        """An answer of the journal, or of it and the database, that nothing was freed under.

        `ask` says as well from which event on the journal had to hold all. What it held when the question was
        put and has freed since is in the database by now, so it is asked anew.
        """
        for _ in range(_TRIES):
            first = self._journal.position.first_seq
            found, needed = await ask()
            if self._journal.position.first_seq <= max(first, needed):
                return found
        raise HistoryUnavailable("the journal has just freed what was asked for: ask again")

    async def _journal_between(
        self, equipment: str, from_: datetime, to: datetime, limit: int
    ) -> Sequence[Recorded]:
        return await self._journal.transitions(
            equipment, after=0, from_=from_ + timedelta(microseconds=1), to=to, limit=limit
        )

    def _holds_all(self) -> bool:
        """Whether what the journal does not know is not known anywhere."""
        if self._historian is None:
            return True
        return self._journal.position.first_seq == 1 and not self._historian.has_other_streams

    async def _journal_suffices(self, equipment: str, after: int, from_: datetime | None) -> bool:
        if self._historian is None or after + 1 >= self._journal.position.first_seq:
            return True
        # The journal knows the newest transition at or before `from_`, so it holds every later one.
        return from_ is not None and await self._journal.transition_before(equipment, from_) is not None


def _transition(recorded: Recorded) -> Transition:
    assert isinstance(recorded.event, Transition), "only transitions are asked for"
    return recorded.event


def _is_of(recorded: Recorded, other: Recorded) -> bool:
    return recorded.equipment == other.equipment


def _leads_to(recorded: Recorded, event: Transition) -> bool:
    """Whether this transition is the one right before."""
    before = _transition(recorded)
    return before.sequence == event.sequence - 1 and before.to_state == event.from_state


def _interval(stretch: Stretch) -> Interval:
    return Interval(
        state=stretch.state,
        code=stretch.code,
        category=stretch.category,
        from_=stretch.begin,
        to=stretch.end,
        duration_s=(stretch.end - stretch.begin).total_seconds(),
        seq=stretch.seq,
        corrected=stretch.corrected,
    )


def _corrected(state: EquipmentState, over: Stretch, corrections: Sequence[Recorded]) -> EquipmentState:
    """A state as a correction tells it that lies over what was told."""
    told_by = next(one.event for one in corrections if (one.stream, one.seq) == (over.stream, over.seq))
    assert isinstance(told_by, Correction), "only corrections are asked for"
    return msgspec.structs.replace(
        state,
        state=over.state,
        code=over.code,
        category=over.category,
        since=over.begin,
        seq=over.seq,
        reason=told_by.reason if over.state == UNKNOWN else None,
        corrected=True,
    )
