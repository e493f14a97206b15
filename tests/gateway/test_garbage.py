"""What was built at the start is set aside from garbage collection, and what is made later is not."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Sequence

import pytest

from gateway import garbage


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def looked_at(things: Sequence[object]) -> int:
    """How many of some objects the collector looks at."""
    seen = {id(thing) for thing in gc.get_objects()}
    return sum(id(thing) in seen for thing in things)


async def test_what_is_there_at_the_start_and_soon_after_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "SETTLED_S", 0.05)
    built = [[number] for number in range(100)]
    assert looked_at(built) == 100

    garbage.set_aside_what_stays()
    sessions = [[number] for number in range(100)]
    assert (looked_at(built), looked_at(sessions)) == (0, 100)

    async with asyncio.timeout(45):
        while looked_at(sessions):
            await asyncio.sleep(0.01)


async def test_a_circle_made_later_is_still_found() -> None:
    garbage.set_aside_what_stays()
    gc.collect()
    circle: list[object] = []
    circle.append(circle)
    del circle

    assert gc.collect() >= 1
