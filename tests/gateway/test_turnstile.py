"""Who may connect when: bounded, fair, and no one waits for the time-out of another."""

from __future__ import annotations

import asyncio

import pytest

from gateway.turnstile import Place, Turnstile


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_so_many_connect_at_once() -> None:
    turnstile = Turnstile(places=3, held_s_max=60)
    entered: list[Place] = []

    async def connect() -> None:
        entered.append(await turnstile.enter(is_patient=False))

    tasks = [asyncio.create_task(connect()) for _ in range(8)]
    await settle()
    assert (len(entered), turnstile.waiting) == (3, 5)

    entered[0].leave()
    entered[0].leave()
    await settle()
    assert (len(entered), turnstile.waiting) == (4, 4), "leaving twice makes room once"

    for _ in range(4):
        entered[-1].leave()
        await settle()
    await asyncio.gather(*tasks)
    assert turnstile.waiting == 0


async def test_the_dead_hold_a_place_for_a_moment_only() -> None:
    turnstile = Turnstile(places=2, held_s_max=0.01)

    async with asyncio.timeout(45):
        for _ in range(20):
            await turnstile.enter(is_patient=False)


async def test_those_that_failed_before_leave_half_of_the_places_to_others() -> None:
    turnstile = Turnstile(places=4, held_s_max=60)
    patient = [asyncio.create_task(turnstile.enter(is_patient=True)) for _ in range(10)]
    await settle()
    assert sum(task.done() for task in patient) == 2

    async with asyncio.timeout(45):
        first = await turnstile.enter(is_patient=False)
        await turnstile.enter(is_patient=False)
    waits = asyncio.create_task(turnstile.enter(is_patient=False))
    await settle()
    assert not waits.done()

    first.leave()
    await settle()
    assert waits.done(), "before any of those that were there first"
    assert sum(task.done() for task in patient) == 2

    for task in patient:
        task.cancel()
    await asyncio.gather(*patient, return_exceptions=True)


@pytest.mark.parametrize("after_its_turn_came", [False, True])
async def test_a_place_is_not_lost_with_one_who_gives_up(after_its_turn_came: bool) -> None:
    turnstile = Turnstile(places=1, held_s_max=60)
    held = await turnstile.enter(is_patient=False)
    gives_up = asyncio.create_task(turnstile.enter(is_patient=False))
    await settle()
    if after_its_turn_came:
        held.leave()  # its turn has come, and it does not know yet
    gives_up.cancel()
    await asyncio.gather(gives_up, return_exceptions=True)
    held.leave()

    async with asyncio.timeout(45):
        await turnstile.enter(is_patient=False)
