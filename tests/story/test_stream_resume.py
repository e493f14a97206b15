"""Both forms of the event stream, followed by clients while the gateway is killed and started again."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from api.client import Gateway
from gateway.demo.site import write_site
from tests.support.processes import GatewayProcess, free_port, gateway, plant

SCENARIO = Path(__file__).parents[1] / "benchmarks" / "latency.toml"
KILLS = 3
EVENTS_BETWEEN = 30


async def _messages(port: int, told: list[tuple[str, bytes]]) -> None:
    """A client of the WebSocket as somebody else would write it."""
    cursor = "0"
    while True:
        try:
            async with connect(f"ws://127.0.0.1:{port}/api/v1/ws") as client:
                await client.send(json.dumps({"after": cursor}))
                async for text in client:
                    message = json.loads(text)
                    if message["type"] == "event":
                        raw = str(text).partition(',"event":')[2][:-1]
                        told.append((message["cursor"], raw.encode()))
                    assert message["type"] != "problem" or message["problem"]["code"] == "stopping", message
                    cursor = message.get("cursor") or cursor
        except (OSError, ConnectionClosed, TimeoutError):
            await asyncio.sleep(0.05)


@pytest.mark.timeout(400)
async def test_streams_go_on_over_kills_each_event_once_and_in_order(tmp_path: Path) -> None:
    port = free_port()
    async with plant(tmp_path, str(SCENARIO), seed=3) as simulated:
        values = {**simulated.servers, "listen": f"127.0.0.1:{port}", "mqtt_port": "0"}
        config = write_site(tmp_path, values)
        text = config.read_text(encoding="utf-8")
        for part in ("historian", "mqtt"):
            text = re.sub(rf"\[{part}\]\n(?:.+\n)+", "", text)
        config.write_text(text, encoding="utf-8")
        async with gateway(config, port) as running:
            await simulated.order(go=True)
            events: list[tuple[str, bytes]] = []
            messages: list[tuple[str, bytes]] = []
            listening = asyncio.create_task(_messages(port, messages))
            following = asyncio.create_task(_followed(running.url, events))
            for _ in range(KILLS):
                await _more(events, messages)
                await running.kill()
                await running.start()
            await _more(events, messages)
            last = await _last(running)
            for told in (events, messages):
                async with asyncio.timeout(60):
                    while not told or _seq(told[-1][0]) < last:
                        await asyncio.sleep(0.02)
            listening.cancel()
            following.cancel()
            await asyncio.gather(listening, following, return_exceptions=True)
            whole = await asyncio.to_thread(_whole, running.url, last)
    for told in (events, messages):
        assert [_seq(cursor) for cursor, _ in told][:last] == list(range(1, last + 1))
        assert told[:last] == whole


async def _followed(url: str, told: list[tuple[str, bytes]]) -> None:
    """The blocking client in a process of its own: it ends with the test, wherever it is."""
    command = (
        "import sys; from api.client import Gateway\n"
        "with Gateway(sys.argv[1]) as client:\n"
        "  for event in client.events.follow(0):\n"
        "    sys.stdout.buffer.write(event.cursor.encode() + b' ' + event.raw + b'\\n'); sys.stdout.flush()\n"
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", command, url), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    try:
        while line := await child.stdout.readline():
            cursor, _, raw = line.rstrip(b"\n").partition(b" ")
            told.append((cursor.decode(), raw))
        raise AssertionError("the client ended")
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def _more(*all_told: list[tuple[str, bytes]]) -> None:
    """Wait until each has been told some more events."""
    goals = [len(told) + EVENTS_BETWEEN for told in all_told]
    async with asyncio.timeout(60):
        while any(len(told) < goal for told, goal in zip(all_told, goals, strict=True)):
            await asyncio.sleep(0.01)


def _seq(cursor: str) -> int:
    return int(cursor.rpartition(":")[2])


async def _last(running: GatewayProcess) -> int:
    def ask() -> int:
        with Gateway(running.url) as client:
            return _seq(client.equipment.snapshot().cursor)

    return await asyncio.to_thread(ask)


def _whole(url: str, last: int) -> list[tuple[str, bytes]]:
    """The sequence as one connection that is never cut tells it."""
    told: list[tuple[str, bytes]] = []
    with Gateway(url) as client:
        for event in client.events.follow(0):
            told.append((event.cursor, event.raw))
            if len(told) == last:
                break
    return told
