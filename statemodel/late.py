"""What would have been told had late samples come in time: judged again, by the same engine.

A device may tell afterwards what happened while nobody could ask it, and two signals of one machine may come
by ways of different length. The engine is asked again, from a snapshot taken before, with every sample at the
time it counts from. Nothing is interpolated: only samples decide, and only two kinds of time are told anew,
time that was `Unknown` for want of data and time after the first late sample. Pure; knows no store, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from statemodel.corrected import Stretch
from statemodel.engine import Engine, EquipmentSpec
from statemodel.machine import NO_COMMUNICATION, occurred_at
from statemodel.snapshot import EngineSnapshot
from statemodel.types import (
    UNKNOWN,
    CauseInput,
    CorrectedState,
    Quality,
    SampleBatch,
    SourceLost,
    TagSample,
    Tick,
)

#: Most samples named as the evidence of one correction.
EVIDENCE_MAX = 20


class Taken(msgspec.Struct, frozen=True):
    """What is judged again: everything an equipment was fed since `snapshot` was taken, in the order it came.

    `losses` are only those that cost samples; a loss after which the device told everything is left out.
    """

    spec: EquipmentSpec
    snapshot: EngineSnapshot
    at: datetime
    batches: Sequence[SampleBatch]
    losses: Sequence[SourceLost]


class _Judged(msgspec.Struct, frozen=True):
    at: datetime
    connection: str
    samples: tuple[TagSample, ...]


def judged_again(taken: Taken, end: datetime) -> list[Stretch]:
    """The states from when the snapshot was taken up to `end`, had everything come in time."""
    spec = taken.spec
    engine = Engine([spec], at=taken.at, snapshot=taken.snapshot)
    first = engine.current(spec.name)
    known = spec.model.by_name.get(first.state)
    stretches = [
        Stretch(first.state, first.code, None if known is None else known.category, taken.at, end, "", 0)
    ]
    events: list[tuple[datetime, int, _Judged | SourceLost]] = [
        (one.at, 0, one) for one in _in_their_order(taken) if one.at <= end
    ]
    # At the last proof of life the connection still lived.
    events += [(loss.at, 1, loss) for loss in taken.losses if taken.at <= loss.at <= end]
    for _, _, event in sorted(events, key=lambda item: item[:2]):
        if isinstance(event, SourceLost):
            _move(stretches, engine, event, end)
        else:
            _move(stretches, engine, SampleBatch(event.connection, event.at, event.samples), end)
    _move(stretches, engine, Tick(end), end)
    return [one for one in stretches if one.end > one.begin]


def _move(
    stretches: list[Stretch], engine: Engine, event: SampleBatch | SourceLost | Tick, end: datetime
) -> None:
    for made in engine.step(event).transitions:
        at = min(max(made.at, stretches[-1].begin), end)
        stretches[-1] = msgspec.structs.replace(stretches[-1], end=at)
        stretches.append(Stretch(made.to_state, made.code, made.category, at, end, "", 0))


def _in_their_order(taken: Taken) -> list[_Judged]:
    """Samples by the time they count from, those of one instant and batch together.

    One that counts from before the snapshot is in force when that was taken: a tag tells them in order.
    One that a loss lies between, and that is not the device's account of all that happened, shows the state
    again when it came.
    """
    found: list[_Judged] = []
    for batch in taken.batches:
        together: dict[datetime, list[TagSample]] = {}
        for sample in batch.samples:
            if is_mark(sample):
                continue
            received_at = sample.received_at
            at = occurred_at(sample, batch.source_time)
            times = {max(at, taken.at)}
            if any(
                at <= loss.at < received_at and loss.connection == batch.connection for loss in taken.losses
            ):
                times.add(received_at)
            for time in times:
                together.setdefault(time, []).append(_dated(sample, time))
        found += [_Judged(at, batch.connection, tuple(samples)) for at, samples in sorted(together.items())]
    return sorted(found, key=lambda one: one.at)


def _dated(sample: TagSample, at: datetime) -> TagSample:
    return msgspec.structs.replace(sample, received_at=at, source_at=None)


def is_mark(sample: TagSample) -> bool:
    """Whether a recorded sample only marks that a connection was lost: the engine never saw it."""
    return sample.value is None and sample.substatus == NO_COMMUNICATION and sample.quality is Quality.BAD


def what_changes(
    told: Sequence[Stretch], judged: Sequence[Stretch], late_at: datetime | None
) -> list[CorrectedState]:
    """Where what was judged again differs from what was told and may take its place, oldest first.

    That is time told as `Unknown`, and time from `late_at` on (None: none); never what a correction tells.
    """
    changes: list[CorrectedState] = []
    place = 0
    for stretch in told:
        while place and judged[place].begin > stretch.begin:
            place -= 1
        while place < len(judged) and judged[place].end <= stretch.begin:
            place += 1
        ahead = place
        while ahead < len(judged) and judged[ahead].begin < stretch.end:
            other = judged[ahead]
            ahead += 1
            if stretch.corrected or other.state == stretch.state:
                continue
            begin, end = max(stretch.begin, other.begin), min(stretch.end, other.end)
            if stretch.state != UNKNOWN:
                if late_at is None or end <= late_at:
                    continue
                begin = max(begin, late_at)
            _add(changes, CorrectedState(other.state, other.code, other.category, begin, end))
    return changes


def _add(changes: list[CorrectedState], change: CorrectedState) -> None:
    if change.to <= change.from_:
        return
    last = changes[-1] if changes else None
    if (
        last is not None
        and last.to == change.from_
        and (last.state, last.code, last.category) == (change.state, change.code, change.category)
    ):
        changes[-1] = msgspec.structs.replace(last, to=change.to)
    else:
        changes.append(change)


def evidence(taken: Taken, since: datetime) -> tuple[CauseInput, ...]:
    """The samples that came since an instant and count from before they came, the first of them."""
    found: list[CauseInput] = []
    for batch in taken.batches:
        for sample in batch.samples:
            late = batch.received_at >= since and occurred_at(sample, batch.source_time) < sample.received_at
            if late and not is_mark(sample):
                found.append(
                    CauseInput(
                        sample.tag,
                        sample.value,
                        sample.quality,
                        sample.source_at,
                        sample.received_at,
                        sample.substatus,
                    )
                )
                if len(found) >= EVIDENCE_MAX:
                    return tuple(found)
    return tuple(found)
