"""The pace of a Modbus connection, and what it leaves behind."""

from __future__ import annotations

import asyncio

import pytest

from connectors import standstill
from connectors.errors import ConnectionLost
from tests.connectors.contract import RecordingLink, outcome, running, settled
from tests.connectors.modbus.device import (
    Request,
    ScriptedDevice,
    Send,
    exception,
    instead,
)
from tests.connectors.modbus.test_faults import TWO_BLOCKS, connector, device, free, up

__all__ = ["device"]


async def test_a_slow_group_does_not_hold_up_a_fast_one(device: ScriptedDevice) -> None:
    """Each answer takes 10 ms; the slow group needs 40 of them, the fast one asks every 50 ms."""

    async def slowly(request: Request, right: bytes, send: Send) -> None:
        await asyncio.sleep(0.01)
        send(right)

    many = [{"name": f"t{n}", "address": f"holding:{1000 + 20 * n}", "type": "uint16"} for n in range(40)]
    device.always = slowly
    plc = connector(
        device,
        groups=[
            {"name": "slow", "interval": "10s", "tags": many},
            {"name": "fast", "interval": "50ms", "tags": TWO_BLOCKS[:1]},
        ],
    )
    link = RecordingLink()
    async with running(plc, link):
        await link.until(lambda: "slow" in {name for name, *_ in link.cycles}, "the slow group")
    names = [name for name, *_ in link.cycles]
    assert names.index("slow") >= 6, "the fast group had its turns meanwhile"


async def test_a_device_too_slow_for_its_interval_skips_and_counts(device: ScriptedDevice) -> None:
    async def slowly(request: Request, right: bytes, send: Send) -> None:
        await asyncio.sleep(0.05)
        send(right)

    device.always = slowly
    link = RecordingLink()
    async with running(connector(device), link):
        await link.until(lambda: len(link.cycles) >= 12, "cycles")
    assert device.connections == 1
    assert sum(skipped for *_, skipped in link.cycles) >= 5
    assert all(duration_s >= 0.1 for _, duration_s, *_ in link.cycles)
    lateness = sorted(lateness_s for _, _, lateness_s, _ in link.cycles)
    assert lateness[len(lateness) // 2] < 0.02 + 0.1, "what was skipped is not made up for"


async def test_the_pause_between_requests_is_kept(device: ScriptedDevice) -> None:
    loop = asyncio.get_running_loop()
    answered = 0.0
    rests: list[float] = []

    async def noting(request: Request, right: bytes, send: Send) -> None:
        nonlocal answered
        if answered:
            rests.append(loop.time() - answered)
        send(right)
        answered = loop.time()

    device.always = noting
    link = RecordingLink()
    async with running(connector(device, limits={"pause": "30ms"}), link):
        await link.until(lambda: len(rests) >= 5, "requests")
    assert min(rests) >= 0.029


async def test_an_endpoint_nobody_listens_at_says_so(device: ScriptedDevice) -> None:
    await device.stop()
    with pytest.raises(ConnectionLost, match=r"no connection to 127\.0\.0\.1:\d+: ") as caught:
        await connector(device).run(RecordingLink())
    assert caught.value.hint


async def test_fifty_flaps_leave_no_task_and_no_file_open(device: ScriptedDevice) -> None:
    plc = connector(device)
    tasks = len(asyncio.all_tasks())
    for _ in range(50):
        async with up(device, plc) as (_, task):
            device.cut()
            assert isinstance(await outcome(task), ConnectionLost)
        await free(device)
    await settled(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_an_error_of_ours_is_not_blamed_on_the_device(device: ScriptedDevice) -> None:
    class Broken(RecordingLink):
        def cycle(self, group: str, duration_s: float, lateness_s: float, skipped: int) -> None:
            raise RuntimeError("a mistake in the gateway")

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    task = asyncio.create_task(connector(device).run(Broken()))
    error = await outcome(task)
    assert isinstance(error, RuntimeError)


async def test_exceptions_are_frames_of_their_own(device: ScriptedDevice) -> None:
    """An exception and the next good answer, each as it should be."""
    plc = connector(device, busy_max=100)
    async with up(device, plc) as (link, _):
        device.faults = [instead(lambda r, _: exception(r, 6))]
        await device.asked(lambda requests: not device.faults)
        device.hold(0, 9)
        await link.until_value("plc/one", 9)
    assert plc.counts.exceptions == 1


async def test_after_a_standstill_nothing_is_concluded_from_before_and_after(
    device: ScriptedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended process, a blocked loop or a full journal: the device was not looked at meanwhile."""
    link = RecordingLink()
    async with running(connector(device), link) as task:
        await link.until(lambda: len(link.samples) >= 2)
        link.close()
        device.hold(0, 7)
        await link.until(lambda: link.waiting > 0)
        monkeypatch.setattr(standstill, "STANDSTILL_S_MAX", 0.2)
        looked_at = link.seen_at[-1]
        await asyncio.sleep(0.4)  # the standstill itself
        link.open()
        lost = await outcome(task)

    assert isinstance(lost, ConnectionLost)
    assert "did not look" in lost.reason
    assert lost.last_seen_at == looked_at
