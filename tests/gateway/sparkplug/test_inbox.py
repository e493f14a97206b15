"""What comes in is bounded: by how much waits, how long it waits, and how much is said of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors.base import WriteOutcome, Written
from gateway.mqtt.terms import Message
from gateway.sparkplug import inbox
from gateway.sparkplug.births import DeviceSpec, NodeSpec, PublishedTag
from gateway.sparkplug.commands import Commands, WriteOrder
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.host import PrimaryHost
from gateway.sparkplug.inbox import (
    COMMAND_BYTES_MAX,
    COMMANDS_MAX,
    WAITING_BYTES_MAX,
    WRITE_AGE_S_MAX,
    WRITES_MAX,
    Inbox,
    Leaving,
    Writes,
)
from gateway.sparkplug.messages import Now
from gateway.sparkplug.names import Names
from gateway.sparkplug.payload import Metric, Payload, encode
from gateway.sparkplug.session import Session
from statemodel.types import TagValue
from tests.support.manual_clock import ManualClock

ORDER = WriteOrder("oven", "plc/setpoint", 5, "a host")
STATE = "spBv1.0/STATE/scada"


class Port:
    def __init__(self) -> None:
        self.asked: list[TagValue] = []
        self.go = asyncio.Event()
        self.go.set()

    async def write(self, equipment: str | None, tag: str, value: TagValue, source: str) -> Written:
        self.asked.append(value)
        await self.go.wait()
        return Written(tag, WriteOutcome.ACCEPTED)


def parts(clock: ManualClock, *, host: str = "") -> tuple[Inbox, Writes]:
    session = Session(Names("acme", "line-1"), NodeSpec("Andon", "1"), [], started=clock.now())
    writes = Writes(None, clock, "sparkplug")
    primary = PrimaryHost(host) if host else None
    return Inbox(commands=Commands(session), host=primary, writes=writes, clock=clock), writes


async def ticks() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_write_that_waited_too_long_is_not_carried_out() -> None:
    clock, port = ManualClock(), Port()
    writes = Writes(port, clock, "sparkplug")
    port.go.clear()
    running = asyncio.create_task(writes.run())
    writes.put(ORDER, clock.monotonic())
    await ticks()
    writes.put(ORDER, clock.monotonic())
    clock.advance(WRITE_AGE_S_MAX + 1)
    port.go.set()
    await ticks()
    assert (len(port.asked), writes.counts["written"], writes.counts["too_late"]) == (1, 1, 1)
    running.cancel()


async def test_no_more_writes_wait_than_may() -> None:
    clock = ManualClock()
    writes = Writes(Port(), clock, "sparkplug")
    for _ in range(WRITES_MAX + 5):
        writes.put(ORDER, clock.monotonic())
    assert writes.counts["overrun"] == 5


async def test_commands_that_wait_take_no_more_memory_than_they_may() -> None:
    box, writes = parts(ManualClock())
    longest = Message("spBv1.0/acme/NCMD/line-1", bytes(COMMAND_BYTES_MAX), 0, False)
    box.put(longest._replace(payload=bytes(COMMAND_BYTES_MAX + 1)))
    assert writes.counts["too_many"] == 1
    fitting = WAITING_BYTES_MAX // COMMAND_BYTES_MAX
    for _ in range(fitting + 3):
        box.put(longest)
    assert writes.counts["overrun"] == 3

    async def reborn(device: str) -> None:
        raise AssertionError(device)

    running = asyncio.create_task(box.run(reborn))
    async with asyncio.timeout(60):
        while writes.counts["garbage"] < fitting:
            await asyncio.sleep(0)
    box.put(longest)  # what was judged waits no longer
    assert writes.counts["overrun"] == 3
    running.cancel()


async def test_no_more_commands_wait_than_may_and_little_is_said_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(inbox.log, "warning", lambda *args, **more: said.append(more))
    clock = ManualClock()
    box, writes = parts(clock)
    message = Message("spBv1.0/acme/NCMD/line-1", b"", 0, False)
    for _ in range(COMMANDS_MAX + 500):
        box.put(message)
    assert writes.counts["overrun"] == 500
    assert len(said) == 1
    clock.advance(inbox.COMPLAIN_EVERY_S + 1)
    box.put(message)
    assert [more["alike_before"] for more in said] == [0, 499]


async def test_a_host_that_is_gone_for_a_moment_was_gone() -> None:
    clock = ManualClock()
    box, _ = parts(clock, host="scada")
    now_ms = int(clock.now().timestamp() * 1000)
    gone = asyncio.create_task(box.host_offline())
    for online, at in (("false", 0), ("true", 1)):  # it has yet to be there
        box.put(Message(STATE, f'{{"online":{online},"timestamp":{now_ms + at}}}'.encode(), 1, True))
    await ticks()
    assert not gone.done()
    for online, at in (("false", 2), ("true", 3)):
        box.put(Message(STATE, f'{{"online":{online},"timestamp":{now_ms + at}}}'.encode(), 1, False))
    await ticks()
    assert gone.done()
    assert await box.host_word()


@pytest.mark.parametrize(("waited_s", "outcome"), [(WRITE_AGE_S_MAX - 1, "written"), (60.0, "too_late")])
async def test_what_was_asked_before_the_births_is_not_carried_out_long_after(
    waited_s: float, outcome: str
) -> None:
    clock, port = ManualClock(), Port()
    tag = PublishedTag("plc/setpoint", datatype=DataType.INT16, writable=True)
    devices = [DeviceSpec("oven", ("Idle",), tags=(tag,))]
    session = Session(Names("acme", "line-1"), NodeSpec("Andon", "1"), devices, started=clock.now())
    writes = Writes(port, clock, "sparkplug")
    box = Inbox(commands=Commands(session, writes=True), host=None, writes=writes, clock=clock)
    # No time is said, as the standard allows: nothing else tells how old it is.
    metric = Metric("Tags/plc/setpoint", None, DataType.INT16, 5, None)
    box.put(Message("spBv1.0/acme/DCMD/line-1/oven", encode(Payload(None, None, [metric])), 1, False))
    clock.advance(waited_s)  # the primary host is away, or births before these take their time
    session.connected(Now(clock.now(), clock.monotonic()))

    async def reborn(device: str) -> None:
        raise AssertionError("nobody asked for that")

    running = [asyncio.create_task(writes.run()), asyncio.create_task(box.run(reborn))]
    await ticks()
    for task in running:
        task.cancel()
    assert (writes.counts[outcome], len(port.asked)) == (1, int(outcome == "written"))


async def test_an_old_wish_for_the_next_server_is_none() -> None:
    clock = ManualClock()
    session = Session(Names("acme", "line-1"), NodeSpec("Andon", "1", servers=2), [], started=clock.now())
    writes = Writes(None, clock, "sparkplug")
    box = Inbox(commands=Commands(session), host=None, writes=writes, clock=clock)
    metric = Metric("Node Control/Next Server", None, DataType.BOOLEAN, True, None)
    wish = Message("spBv1.0/acme/NCMD/line-1", encode(Payload(None, None, [metric])), 1, False)
    box.put(wish)
    clock.advance(60.0)
    session.connected(Now(clock.now(), clock.monotonic()))

    async def reborn(device: str) -> None:
        raise AssertionError("nobody asked for that")

    running = asyncio.create_task(box.run(reborn))
    await ticks()
    assert not running.done()
    assert writes.counts["too_late"] == 1
    box.put(wish)
    with pytest.raises(Leaving):
        await running
