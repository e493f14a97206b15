"""Corrections on request: judged by the model and the record, recorded once, durable before they are told.

The one narrow door through which somebody outside puts an event into the sequence; it leads through the
pipeline like everything else. What a caller sends twice under one key is found again in the record itself,
so that it is done once across restarts too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from api.corrections import KeyReused, NotRecorded, WantedCorrection
from connectors.base import Clock
from gateway.errors import JournalFailed
from gateway.history import JoinedHistory
from statemodel.corrected import LATE_SAMPLES, CorrectionRefused, Wanted, corrected_states
from statemodel.machine import EquipmentSpec
from statemodel.records import Recorded
from statemodel.types import Correction

#: Longest wait for the journal to take one.
RECORD_S_MAX: Final = 10.0
_LONG_AGO, _FAR_AHEAD = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class CorrectionDesk:
    """Where corrections are handed in. Implements `api.corrections.Corrections`."""

    def __init__(
        self,
        specs: Sequence[EquipmentSpec],
        history: JoinedHistory,
        record: Callable[[Correction], Awaitable[Recorded]],
        clock: Clock,
    ) -> None:
        self._specs: Mapping[str, EquipmentSpec] = {spec.name: spec for spec in specs}
        self._history, self._record, self._clock = history, record, clock
        #: One at a time, so that what is sent twice at once is done once.
        self._order = asyncio.Lock()
        #: By equipment and key, what the journal has yet to take, whether somebody still waits for it or not.
        self._on_the_way: dict[tuple[str, str], tuple[Correction, asyncio.Task[Recorded]]] = {}

    def exchange(self, specs: Sequence[EquipmentSpec]) -> None:
        """From now on corrections are taken of this equipment."""
        self._specs = {spec.name: spec for spec in specs}

    async def correct(self, equipment: str, wanted: WantedCorrection, key: str | None) -> Recorded:
        """See `api.corrections.Corrections.correct`."""
        try:
            async with asyncio.timeout(RECORD_S_MAX), self._order:
                now = self._clock.now()
                if key is not None and (sent := self._on_the_way.get((equipment, key))) is not None:
                    if not _same(sent[0], wanted):
                        raise KeyReused
                    return await asyncio.shield(sent[1])
                if key is not None and (known := await self._known(equipment, key)) is not None:
                    if not _same(known.event, wanted):
                        raise KeyReused
                    return known
                if (spec := self._specs.get(equipment)) is None:
                    raise NotRecorded("the equipment has just been taken out of the configuration")
                event = await self._judged(spec, wanted, key, now)
                return await asyncio.shield(self._sent(event))
        except TimeoutError as error:
            reason = f"the journal has not taken it within {RECORD_S_MAX:g} s"
            raise NotRecorded(reason) from error
        except JournalFailed as error:
            raise NotRecorded(error.reason) from error

    def _sent(self, event: Correction) -> asyncio.Task[Recorded]:
        """Hand an event in, to be recorded also when the caller stops waiting."""

        async def record() -> Recorded:
            try:
                return await self._record(event)
            finally:
                if event.key is not None:
                    self._on_the_way.pop((event.equipment, event.key), None)

        task = asyncio.create_task(record(), name="correction")
        task.add_done_callback(_heard)
        if event.key is not None:
            self._on_the_way[event.equipment, event.key] = event, task
        return task

    async def _known(self, equipment: str, key: str) -> Recorded | None:
        """What was recorded under a key."""
        found = await self._history.corrections(equipment, _LONG_AGO, _FAR_AHEAD)
        same = (r for r in reversed(found) if isinstance(r.event, Correction) and r.event.key == key)
        return next(same, None)

    async def _judged(
        self, spec: EquipmentSpec, wanted: WantedCorrection, key: str | None, now: datetime
    ) -> Correction:
        if wanted.author == LATE_SAMPLES:
            raise CorrectionRefused("author", "this name is the gateway's own", "Use the name of a person.")
        if wanted.withdraws is not None:
            return await self._withdrawal(spec, wanted, wanted.withdraws, key)
        if wanted.from_ is None:
            raise CorrectionRefused("from", "it is missing", "Say from when on the record is wrong.")
        at = wanted.from_.astimezone(UTC)
        until = now if wanted.to is None else wanted.to.astimezone(UTC)
        if until > now:
            reason = "it lies in the future"
            raise CorrectionRefused("to", reason, f"It is {now.isoformat()} here; leave it out for now.")
        if (wanted.state is None) == (wanted.intervals is None):
            what = "there is none" if wanted.state is None else "there are intervals as well"
            raise CorrectionRefused("state", what, "Give either state or intervals.")
        states = [Wanted(wanted.state, at, until)] if wanted.state is not None else []
        states += [
            Wanted(one.state, one.from_.astimezone(UTC), one.to.astimezone(UTC))
            for one in wanted.intervals or ()
        ]
        intervals = corrected_states(spec.model, at, until, states)
        if await self._history.transition_at(spec.name, at) is None:
            raise CorrectionRefused(
                "from",
                "nothing was recorded of the equipment by then",
                "Begin at its first recorded transition, or later.",
            )
        return Correction(
            spec.name, spec.path, spec.model.name, at, until, intervals, wanted.reason, wanted.author, key=key
        )

    async def _withdrawal(
        self, spec: EquipmentSpec, wanted: WantedCorrection, id_: str, key: str | None
    ) -> Correction:
        for name, value in (("from", wanted.from_), ("to", wanted.to), ("state", wanted.state)):
            if value is not None or wanted.intervals is not None:
                place = name if value is not None else "intervals"
                raise CorrectionRefused(place, "it cannot be given with withdraws", "Leave it out.")
        found = await self._history.corrections(spec.name, _LONG_AGO, _FAR_AHEAD)
        known = {r.id: r.event for r in found if isinstance(r.event, Correction)}
        event = known.get(id_)
        if event is None:
            hint = f"GET /api/v1/equipment/{spec.name}/corrections lists them with their id."
            raise CorrectionRefused("withdraws", "the equipment has no correction of this id", hint)
        if event.withdraws is not None:
            hint = "Make the correction anew instead."
            raise CorrectionRefused("withdraws", "that one withdraws a correction itself", hint)
        if any(other.withdraws == id_ for other in known.values()):
            raise CorrectionRefused("withdraws", "it has been withdrawn already", "There is nothing to do.")
        return msgspec.structs.replace(
            event,
            path=spec.path,
            model=spec.model.name,
            intervals=(),
            reason=wanted.reason,
            author=wanted.author,
            withdraws=id_,
            key=key,
            cause=None,
        )


def _heard(task: asyncio.Task[Recorded]) -> None:
    """A failure that nobody waits for any more has been answered: as not recorded in time."""
    if not task.cancelled():
        task.exception()


def _same(event: object, wanted: WantedCorrection) -> bool:
    """Whether a correction is what is wanted. Without `to` it went up to when it was made."""
    assert isinstance(event, Correction), "only corrections are found"
    if (event.reason, event.author, event.withdraws) != (wanted.reason, wanted.author, wanted.withdraws):
        return False
    if event.withdraws is not None:
        return True
    if event.at != wanted.from_ or (wanted.to is not None and event.until != wanted.to):
        return False
    told = [(one.state, one.from_, one.to) for one in event.intervals]
    if wanted.intervals is not None:
        return told == [(one.state, one.from_, one.to) for one in wanted.intervals]
    return told == [(wanted.state, event.at, event.until)]
