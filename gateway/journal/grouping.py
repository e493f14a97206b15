"""Appends that wait for the disk together go to it together: one transaction and one sync for all of them.

The order of the numbers is the order of the calls. A lone append waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain

import msgspec

from gateway.errors import JournalFailed
from gateway.journal.store import Appended, Store
from statemodel.records import Recorded
from statemodel.types import Recordable, SampleBatch

#: Most events and batches in one transaction, unless a single append holds more.
GROUP_RECORDS_MAX = 1000


class Ask(msgspec.Struct, frozen=True, eq=False):
    """One append, and who waits for it."""

    events: Sequence[Recordable]
    batches: Sequence[SampleBatch]
    alive: Mapping[str, datetime | None]
    done: asyncio.Future[Sequence[Recorded]]


#: What became of some appends: durable, no room for now, or an error.
Outcome = tuple[Sequence[Ask], Appended | str | Exception]


def next_group(waiting: deque[Ask]) -> Sequence[Ask]:
    """Take the appends of the next transaction. Those whose callers have gone are dropped."""
    group: list[Ask] = []
    records = 0
    while waiting:
        ask = waiting[0]
        records += len(ask.events) + len(ask.batches)
        if group and records > GROUP_RECORDS_MAX:
            break
        waiting.popleft()
        if ask.done.cancelled():
            records -= len(ask.events) + len(ask.batches)
        else:
            group.append(ask)
    return group


def commit(store: Store, group: Sequence[Ask]) -> Sequence[Outcome]:
    """Commit appends together, in the journal's thread. If one of them holds what cannot be written down,
    each is committed alone, so that only that one fails. What failed after it was durable is not done again.
    """
    if len(group) == 1:
        [ask] = group
        return [(group, _append(store, ask.events, ask.batches, ask.alive))]
    events = list(chain.from_iterable(ask.events for ask in group))
    batches = list(chain.from_iterable(ask.batches for ask in group))
    alive = {name: at for ask in group for name, at in ask.alive.items()}
    before = store.position
    together = _append(store, events, batches, alive)
    unwritten = isinstance(together, Exception) and store.position == before
    if unwritten and not isinstance(together, JournalFailed):
        return [([ask], _append(store, ask.events, ask.batches, ask.alive)) for ask in group]
    return [(group, together)]


def _append(
    store: Store,
    events: Sequence[Recordable],
    batches: Sequence[SampleBatch],
    alive: Mapping[str, datetime | None],
) -> Appended | str | Exception:
    try:
        return store.append(events, batches, alive)
    except Exception as error:  # noqa: BLE001 - each caller is told of its own
        return error


def answer(group: Sequence[Ask], done: Appended | Exception) -> None:
    """Tell the callers what became of their appends."""
    begin = 0
    for ask in group:
        end = begin + len(ask.events)
        if ask.done.cancelled():
            pass
        elif isinstance(done, Exception):
            ask.done.set_exception(done)
        else:
            ask.done.set_result(done.recorded[begin:end])
        begin = end
