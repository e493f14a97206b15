"""A state before the first transition is known as ours by its beginning, whichever of them was said last."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from gateway.publish.holdings import Held, Holdings
from gateway.publish.ownership import Ownership, mark_of_state
from statemodel.records import EquipmentState, Recorded
from tests.gateway.publish.support import T0

TOPIC = "acme/berlin/area/machine-0/_state"


class NothingRecorded:
    async def last_transitions(self) -> Mapping[str, Recorded]:
        return {}

    async def event(self, seq: int) -> Recorded | None:
        raise AssertionError("a state of no transition is looked up nowhere")


def beginning(number: int) -> EquipmentState:
    since = T0 + timedelta(seconds=number)
    return EquipmentState("machine-0", "area/machine-0", "packml", "Unknown", None, None, since, 0, 0, None)


def held(number: int) -> Held:
    return Held("state", "machine-0", "area/machine-0", mark_of_state(beginning(number)))


async def is_ours(holdings: Holdings, state: EquipmentState) -> bool | None:
    async def owns_path(path: str) -> bool:
        raise AssertionError(f"a state stands for itself, not for {path}")

    ownership = Ownership(
        NothingRecorded(), gateway="line-1", started_at=datetime.max.replace(tzinfo=T0.tzinfo)
    )
    payload = msgspec.json.encode(state)
    return await ownership.proof(TOPIC, holdings.topics[TOPIC], payload, owns_path=owns_path)


async def test_a_beginning_that_was_remembered_and_never_said_hides_none_before_it(tmp_path: Path) -> None:
    """Taken out and put back before the broker was reached again: what lies there is the one before."""
    holdings = Holdings(tmp_path)
    for number in (1, 2, 3):
        await holdings.add({TOPIC: held(number)})
    again = Holdings(tmp_path)
    assert [await is_ours(again, beginning(number)) for number in (1, 2, 3, 4)] == [True, True, True, None]


async def test_of_many_beginnings_the_newest_are_known(tmp_path: Path) -> None:
    holdings = Holdings(tmp_path)
    for number in range(50):
        await holdings.add({TOPIC: held(number)})
    found = [number for number in range(50) if await is_ours(holdings, beginning(number))]
    assert found == list(range(18, 50))


async def test_what_another_said_at_its_beginning_is_not_ours(tmp_path: Path) -> None:
    holdings = Holdings(tmp_path)
    await holdings.add({TOPIC: Held("state", "machine-0", "area/machine-0")})
    assert await is_ours(holdings, beginning(1)) is None
