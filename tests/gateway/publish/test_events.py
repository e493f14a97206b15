"""The events of one broker, where the moment counts: no broker, a line that answers on the spot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.clock import SystemClock
from gateway.mqtt.link import MessageRefused, OnAck
from gateway.publish.events import Events
from statemodel.records import Recorded
from tests.gateway.publish.support import T0, Plant, until
from tests.support.manual_clock import ManualClock


class Strict:
    """Refuses one event on the spot for as long as it is told to, and takes all others."""

    def __init__(self) -> None:
        self.said: list[int] = []
        self.refuses: int | None = None

    def event(self, link: object, event: Recorded, on_ack: OnAck, on_refused: Any) -> bool:
        self.said.append(event.seq)
        if event.seq == self.refuses:
            on_refused(MessageRefused("t", 0x87, "not authorised", "give it the right"))
        else:
            on_ack()
        return True


class Quiet:
    """States are not what is asked here."""

    names: tuple[str, ...] = ()

    async def say(self, link: object, names: object, newest: object) -> None:
        await asyncio.sleep(0)


async def test_nothing_is_said_after_a_refusal_not_even_what_was_already_in_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker's answer arrives while a batch is being said: the rest of the batch waits too."""
    monkeypatch.setattr("gateway.publish.events.REFUSED_AGAIN_S", 0.01)
    monkeypatch.setattr("gateway.publish.events.LOOK_EVERY_S", 0.01)
    plant, voice, told = Plant("filler-1"), Strict(), list[MessageRefused]()
    events = Events("mqtt", plant.journal, cast(Any, Quiet()), cast(Any, voice), SystemClock(), told.append)
    link = cast(Any, SimpleNamespace(full=False, connected_at=plant.journal, acknowledged=0, heard=0))
    await events.begin()
    voice.refuses = 2
    await plant.happen(4)
    saying = asyncio.create_task(events.say(link))
    try:
        await until(lambda: len(told) >= 3, "tried again, and again")
        assert set(voice.said) == {1, 2}, "3 and 4 were in hand when 2 was refused"
        voice.refuses = None
        await until(lambda: events.lag == 0, "all of them")
        assert [seq for seq in voice.said if seq != 2] == [1, 3, 4], "none of the others twice"
    finally:
        saying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await saying


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def acknowledged(clock: ManualClock) -> AsyncIterator[tuple[Events, Any]]:
    """Events of which three were acknowledged on the spot, and the line; cursor and line are watched."""
    plant = Plant("filler-1")
    events = Events("mqtt", plant.journal, cast(Any, Quiet()), cast(Any, Strict()), clock, lambda _: None)
    link = SimpleNamespace(full=False, connected_at=T0, acknowledged=0, heard=0)
    await events.begin()
    at = cast(Any, link)
    lanes = [asyncio.create_task(lane) for lane in (events.say(at), events.watch(at), events.keep_cursor())]
    await turns()
    try:
        await plant.happen(3)
        await until(lambda: events.lag == 0, "acknowledged")
        await turns()
        yield events, link
    finally:
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


async def test_what_was_acknowledged_before_all_stood_still_is_not_certain() -> None:
    """A machine that is paused, and a broker that dies meanwhile: its last words are read when we go on."""
    clock = ManualClock()
    async with acknowledged(clock) as (events, link):
        link.acknowledged = 3
        clock.advance(60.0)
        await turns()
        await events.connection_over()
        assert events.lag == 3, "said again"


async def test_what_a_broker_acknowledged_that_lasted_is_not_said_again() -> None:
    clock = ManualClock()
    async with acknowledged(clock) as (events, link):
        for _ in range(10):
            link.heard += 1
            clock.advance(0.5)
            await turns()
        await events.connection_over()
        assert events.lag == 0
