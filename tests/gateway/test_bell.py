"""Many are woken a few at a time, and others get their turn in between."""

from __future__ import annotations

import asyncio

from gateway.bell import GROUP, Bell


async def _settled(bell: Bell, count: int) -> None:
    async with asyncio.timeout(5):
        while bell.waiting != count:
            await asyncio.sleep(0)


async def test_it_rings_for_those_who_wait_and_not_for_those_who_come_later() -> None:
    bell = Bell()
    bell.ring()  # for nobody
    early = asyncio.create_task(bell.heard())
    await _settled(bell, 1)
    bell.ring()
    late = asyncio.create_task(bell.heard())
    async with asyncio.timeout(5):
        await early
    assert not late.done()
    bell.ring()
    async with asyncio.timeout(5):
        await late
    assert bell.waiting == 0


async def test_everybody_is_woken_and_others_get_their_turn_in_between() -> None:
    bell = Bell()
    order: list[str] = []

    async def wait() -> None:
        await bell.heard()
        order.append("woken")

    async def other() -> None:
        while order.count("woken") < 10 * GROUP:
            order.append("other")
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(wait()) for _ in range(10 * GROUP)]
    await _settled(bell, 10 * GROUP)
    bell.ring()
    async with asyncio.timeout(5):
        await other()
        await asyncio.gather(*tasks)
    longest = max(len(run) for run in "".join("w" if o == "woken" else "-" for o in order).split("-"))
    assert longest <= GROUP
    assert bell.waiting == 0


async def test_rung_again_while_it_wakes_it_wakes_each_once() -> None:
    bell = Bell()
    woken = [0] * (3 * GROUP)

    async def wait(place: int) -> None:
        while woken[place] < 2:
            await bell.heard()
            woken[place] += 1

    tasks = [asyncio.create_task(wait(place)) for place in range(len(woken))]
    await _settled(bell, len(woken))
    bell.ring()
    bell.ring()
    async with asyncio.timeout(5):
        while sum(woken) < len(woken):
            await asyncio.sleep(0)
    assert set(woken) == {1}
    await _settled(bell, len(woken))
    bell.ring()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)


async def test_who_gives_up_leaves_nothing_behind() -> None:
    bell = Bell()
    tasks = [asyncio.create_task(bell.heard()) for _ in range(3 * GROUP)]
    await _settled(bell, len(tasks))
    bell.ring()  # the first group is on its way, the others are due
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert bell.waiting == 0
    again = asyncio.create_task(bell.heard())
    await _settled(bell, 1)
    async with asyncio.timeout(5):
        while not again.done():
            bell.ring()
            await asyncio.sleep(0)
