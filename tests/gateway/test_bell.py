"""Many are woken a few at a time, and others get their turn in between."""

from __future__ import annotations

import asyncio

from gateway.bell import ASKED_MAX, WAKES_MAX, Bell
from tests.support.loop_time import later


async def _settled(bell: Bell[int], count: int) -> None:
    async with asyncio.timeout(45):
        while bell.waiting != count:
            await asyncio.sleep(0)


async def test_it_rings_for_those_who_wait_and_not_for_those_who_come_later() -> None:
    bell = Bell[int]()
    bell.ring()  # for nobody
    early = asyncio.create_task(bell.heard())
    await _settled(bell, 1)
    bell.ring()
    late = asyncio.create_task(bell.heard())
    async with asyncio.timeout(45):
        await early
    assert not late.done()
    bell.ring()
    async with asyncio.timeout(45):
        await late
    assert bell.waiting == 0


async def test_everybody_is_woken_and_others_get_their_turn_in_between() -> None:
    bell = Bell[int]()
    order: list[str] = []

    async def wait() -> None:
        await bell.heard()
        order.append("woken")

    async def other() -> None:
        while order.count("woken") < 10 * WAKES_MAX:
            order.append("other")
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(wait()) for _ in range(10 * WAKES_MAX)]
    await _settled(bell, 10 * WAKES_MAX)
    bell.ring()
    async with asyncio.timeout(45):
        await other()
        await asyncio.gather(*tasks)
    longest = max(len(run) for run in "".join("w" if o == "woken" else "-" for o in order).split("-"))
    assert longest <= WAKES_MAX
    assert bell.waiting == 0


async def test_rung_again_while_it_wakes_it_wakes_each_once() -> None:
    bell = Bell[int]()
    woken = [0] * (3 * WAKES_MAX)

    async def wait(place: int) -> None:
        while woken[place] < 2:
            await bell.heard()
            woken[place] += 1

    tasks = [asyncio.create_task(wait(place)) for place in range(len(woken))]
    await _settled(bell, len(woken))
    bell.ring()
    bell.ring()
    async with asyncio.timeout(45):
        await asyncio.gather(*tasks)  # those told by the first and waiting again are told by the second
    assert set(woken) == {2}


async def test_who_gives_up_leaves_nothing_behind() -> None:
    bell = Bell[int]()
    tasks = [asyncio.create_task(bell.heard()) for _ in range(3 * WAKES_MAX)]
    await _settled(bell, len(tasks))
    bell.ring()  # the first group is on its way, the others are due
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert bell.waiting == 0
    again = asyncio.create_task(bell.heard())
    await _settled(bell, 1)
    async with asyncio.timeout(45):
        while not again.done():
            bell.ring()
            await asyncio.sleep(0)


async def test_who_wants_other_news_is_not_woken_and_knows_later_what_it_passed() -> None:
    bell = Bell[int](10)
    even = [asyncio.create_task(bell.heard(lambda n: n % 2 == 0)) for _ in range(3 * ASKED_MAX)]
    await _settled(bell, len(even))
    bell.ring(10, 11, [11])
    bell.ring(11, 13, [13])
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert not any(task.done() for task in even)
    bell.ring(13, 15, [14, 15])
    async with asyncio.timeout(45):
        assert set(await asyncio.gather(*even)) == {13}  # nothing up to 13 was wanted


async def test_news_that_come_while_it_rings_are_told_together_and_none_is_lost() -> None:
    bell = Bell[int]()
    told: list[tuple[int, int]] = []

    async def wait(wanted: int) -> None:
        told.append((wanted, await bell.heard(lambda n: n == wanted)))

    tasks = [asyncio.create_task(wait(place % 7)) for place in range(4 * WAKES_MAX)]
    await _settled(bell, len(tasks))
    for number in range(7):
        bell.ring(number - 1, number, [number])
    async with asyncio.timeout(45):
        await asyncio.gather(*tasks)
    assert all(passed < wanted for wanted, passed in told)


async def test_who_waits_long_hears_how_far_nothing_was_wanted() -> None:
    bell = Bell[int](5)
    assert await bell.heard(within_s=0.001) == 5
    waiting = asyncio.create_task(bell.heard(lambda _: False, 60.0))
    await _settled(bell, 1)
    bell.ring(5, 8, [6, 7, 8])
    for _ in range(5):
        await asyncio.sleep(0)
    later(60.0)
    assert await waiting == 8
    assert bell.waiting == 0


async def test_what_is_wanted_is_never_passed_over_however_time_runs_out() -> None:
    """Waiting ends in the midst of ringing, again and again; everybody hears every number it wants."""
    bell = Bell[int]()
    heard: dict[int, list[int]] = {}
    newest = 0

    async def listen(name: int) -> None:
        at = 0
        mine = heard.setdefault(name, [])
        while at < 200:
            if at >= newest:
                at = max(at, await bell.heard(lambda n: n % 5 == name % 5, 0.0005))
                continue
            mine += [n for n in range(at + 1, newest + 1) if n % 5 == name % 5]
            at = newest

    tasks = [asyncio.create_task(listen(name)) for name in range(100)]
    while newest < 200:
        newest += 1
        bell.ring(newest - 1, newest, [newest])
        await asyncio.sleep(0.0002 * (newest % 4))
    async with asyncio.timeout(45):
        await asyncio.gather(*tasks)
    for name, numbers in heard.items():
        assert numbers == [n for n in range(1, 201) if n % 5 == name % 5]
