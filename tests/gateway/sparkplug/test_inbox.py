"""What comes in is bounded: by how much waits, how long it waits, and how much is said of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors.base import WriteOutcome, Written
from gateway.mqtt.heard import Message
from gateway.sparkplug import inbox
from gateway.sparkplug.births import NodeSpec
from gateway.sparkplug.commands import Commands, WriteOrder
from gateway.sparkplug.host import PrimaryHost
from gateway.sparkplug.inbox import COMMANDS_MAX, WRITE_AGE_S_MAX, WRITES_MAX, Inbox, Writes
from gateway.sparkplug.names import Names
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
    writes.put(ORDER)
    await ticks()
    writes.put(ORDER)
    clock.advance(WRITE_AGE_S_MAX + 1)
    port.go.set()
    await ticks()
    assert (len(port.asked), writes.counts["written"], writes.counts["too_late"]) == (1, 1, 1)
    running.cancel()


async def test_no_more_writes_wait_than_may() -> None:
    writes = Writes(Port(), ManualClock(), "sparkplug")
    for _ in range(WRITES_MAX + 5):
        writes.put(ORDER)
    assert writes.counts["overrun"] == 5


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
