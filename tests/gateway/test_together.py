"""Parts that run together end together, and whoever ends them is heard."""

from __future__ import annotations

import asyncio

import pytest

from gateway.together import together


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_first_failure_ends_the_others_and_is_what_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await together(forever(), fail())


async def test_a_cancellation_at_the_instant_of_a_failure_is_not_forgotten() -> None:
    failing, leave = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        await failing.wait()
        raise ValueError("mine")

    async def slow_to_end() -> None:
        try:
            await forever()
        finally:
            await leave.wait()

    task = asyncio.create_task(together(fail(), slow_to_end()))
    await asyncio.sleep(0)
    failing.set()
    for _ in range(5):  # the failure is taken in, the other part is ending
        await asyncio.sleep(0)
    task.cancel()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
