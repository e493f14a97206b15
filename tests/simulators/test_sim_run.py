"""The command as a harness uses it: ready line, orders on standard input, signals, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.control import LINE_BYTES_MAX, Voice, parse_line, read_lines
from simulators.orders import Clear, Command, Fault, Go, OrderError, Quit, Randomness
from simulators.run import main
from tests.support.patience import PATIENCE_S
from tests.support.ports import ports_in_a_row

ROOT = Path(__file__).parents[2]
SHORT = 'duration = "300ms"\n[behaviour]\nmin_dwell = "50ms"\nacting = ["50ms", "80ms"]\n'


class Process:
    """The simulator as a child process, spoken to in JSON lines."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child

    def tell(self, *orders: dict[str, Any]) -> None:
        assert self.child.stdin is not None
        for order in orders:
            self.child.stdin.write(json.dumps(order).encode() + b"\n")

    async def hear(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        assert self.child.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await self.child.stdout.readline():
                event: dict[str, Any] = json.loads(line)
                if wanted(event):
                    return event
        raise AssertionError("the simulator ended without saying so")

    async def end(self) -> tuple[int, str]:
        assert self.child.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            code = await self.child.wait()
        return code, (await self.child.stderr.read()).decode()


@asynccontextmanager
async def simulator(*arguments: str, stdin: int = asyncio.subprocess.PIPE) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "simulators", "--port-base", str(ports_in_a_row(4)), *arguments),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield Process(child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        child._transport.close()  # type: ignore[attr-defined]


async def test_a_harness_drives_a_plant_from_ready_to_quit(tmp_path: Path) -> None:
    ledger = tmp_path / "truth.jsonl"
    play = tmp_path / "short.toml"
    play.write_text(SHORT)
    async with simulator("--scenario", str(play), "--ledger", str(ledger), "--wait-for-go") as process:
        ready = await process.hear(lambda event: event.get("ready"))
        assert list(ready["servers"]) == ["opcua-a", "opcua-b", "modbus-a", "modbus-b"]
        assert ready["ledger"] == str(ledger)
        assert 0.0 < ready["start_s"] < PATIENCE_S
        assert len(ledger.read_text().splitlines()) == 6
        process.tell(
            {"fault": "drop", "server": "modbus-b", "seconds": 0.1}, {"fault": "flood", "server": "x"}
        )
        assert (await process.hear(lambda event: event.get("error")))["error"].startswith(
            'there is no fault "flood"'
        )
        assert (await process.hear(lambda event: event.get("event") == "fault_end"))["server"] == "modbus-b"
        process.tell({"go": True})
        await process.hear(lambda event: event.get("done"))
        process.tell({"quit": True})
        assert await process.end() == (0, "")
    ports = [int(endpoint.rsplit(":", 1)[1]) for endpoint in ready["servers"].values()]
    for port in ports:
        with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(("127.0.0.1", port))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_it_cleanly(number: signal.Signals) -> None:
    async with simulator("--scenario", "demo") as process:
        await process.hear(lambda event: event.get("ready"))
        process.child.send_signal(number)
        assert await process.end() == (0, "")


async def test_it_ends_with_its_parent_when_it_follows_standard_input() -> None:
    async with simulator("--follow-stdin") as process:
        await process.hear(lambda event: event.get("ready"))
        assert process.child.stdin is not None
        process.child.stdin.close()
        assert await process.end() == (0, "")


async def test_without_standard_input_it_runs_on_and_ends_when_done(tmp_path: Path) -> None:
    play = tmp_path / "short.toml"
    play.write_text(SHORT)
    arguments = ("--scenario", str(play), "--exit-when-done")
    async with simulator(*arguments, stdin=asyncio.subprocess.DEVNULL) as process:
        assert (await process.hear(lambda event: event.get("done")))["transitions"] >= 0
        assert await process.end() == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--scenario", "dmeo"], 2, "there is no such scenario; there are demo"),
        (["--host", "0.0.0.0"], 2, "add --allow-remote"),
        (["--speed", "0"], 2, "must be from 0.1 to 100"),
        (["--ledger", "/nowhere/truth.jsonl"], 1, "No such file or directory"),
        (["--ledger", "/dev/full"], 1, "No space left on device"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--port-base", "0", *arguments]) == code
    assert message in capsys.readouterr().err


# --- control -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ('{"fault":"drop","server":"modbus-b","seconds":3}', Fault("drop", "modbus-b", 3)),
        ('{"fault":"late","server":"opcua-a","delay_s":0.2}', Fault("late", "opcua-a", delay_s=0.2)),
        (
            '{"fault":"bad_quality","server":"opcua-a","nodes":["Filler.StateCurrent"],"status":"BadOutOfService"}',
            Fault("bad_quality", "opcua-a", nodes=("Filler.StateCurrent",), status="BadOutOfService"),
        ),
        ('{"command":"stop","equipment":"filler-1"}', Command("filler-1", "stop")),
        ('{"random":false}', Randomness(False)),
        ('{"random":true,"equipment":"oven-1"}', Randomness(True, "oven-1")),
        ('{"clear":"all"}', Clear(None)),
        ('{"clear":"modbus-a"}', Clear("modbus-a")),
        ('{"go":true}', Go()),
        ('{"quit":true}', Quit()),
    ],
)
def test_orders_are_read(line: str, order: object) -> None:
    assert parse_line(line) == order


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("quit", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "not an order"),
        ("{}", "needs one of fault"),
        ('{"quit":1}', "needs one of fault"),
        ('{"quit":true,"now":true}', 'unknown key "now"'),
        ('{"command":"stop"}', "equipment must be given"),
        ('{"command":"stop","equipment":"mixer"}', 'no equipment "mixer"'),
        ('{"clear":"modbus-c"}', 'no server "modbus-c"'),
        ('{"random":"on"}', "random must be true or false"),
        ('{"fault":"drop","server":"modbus-b","seconds":-1}', "seconds must be a number above 0"),
        ('{"fault":"drop","server":"modbus-b","seconds":NaN}', "seconds must be a number above 0"),
        (
            '{"fault":"drop","server":"modbus-b","seconds":1%s}' % ("0" * 400),
            "seconds must be a number above 0",
        ),
        ('{"fault":"drop","server":"modbus-b","code":4}', 'has no setting "code"'),
        ('{"fault":"wrong","server":"modbus-b","how":"rude"}', "how must be one of"),
        ('{"fault":"wrong","server":"modbus-b","how":[]}', "how must be one of"),
        ('{"fault":"exceptions","server":"modbus-b","code":true}', "code must be one of"),
        ('{"fault":"bad_quality","server":"opcua-a","status":{}}', "status must be one of"),
        ('{"fault":"bad_quality","server":"modbus-a"}', "exists for opcua servers only"),
        ('{"fault":"bad_quality","server":"opcua-a","nodes":"Filler"}', "nodes must be a list"),
    ],
)
def test_what_is_no_order_is_refused_with_the_reason(line: str, reason: str) -> None:
    with pytest.raises(OrderError, match=reason):
        parse_line(line)


WORDS = st.sampled_from(
    [
        *(
            "fault",
            "server",
            "seconds",
            "late",
            "wrong",
            "bad_quality",
            "modbus-a",
            "opcua-a",
            "delay_s",
            "code",
        ),
        *("how", "status", "nodes", "command", "equipment", "filler-1", "clear", "random", "go", "quit"),
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | WORDS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5)
)


@given(JSON)
def test_no_line_does_worse_than_being_refused(value: object) -> None:
    with contextlib.suppress(OrderError):
        assert isinstance(parse_line(json.dumps(value)), Fault | Command | Randomness | Clear | Go | Quit)


async def test_lines_are_read_from_pipes_and_files_alike(tmp_path: Path) -> None:
    text = b"one\ntwo\n\n" + b"x" * (LINE_BYTES_MAX + 10) + b"\nlast"
    file = tmp_path / "orders"
    file.write_bytes(text[: LINE_BYTES_MAX // 2])
    descriptor = os.open(file, os.O_RDONLY)
    assert [line async for line in read_lines(descriptor)][:2] == ["one", "two"]
    os.close(descriptor)

    reading, writing = os.pipe()
    heard: list[str] = []

    async def hear() -> None:
        heard.extend([line async for line in read_lines(reading)])

    async with asyncio.timeout(PATIENCE_S):
        listening = asyncio.create_task(hear())
        await asyncio.to_thread(os.write, writing, text)
        os.close(writing)
        await listening
    os.close(reading)
    assert heard[:3] == ["one", "two", ""]
    assert heard[-1] == "last"
    assert max(map(len, heard)) <= 2 * LINE_BYTES_MAX


def test_a_voice_nobody_hears_falls_silent() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    voice = Voice(Gone())
    voice({"ready": True})
    voice({"ready": True})
    out = io.StringIO()
    Voice(out)({"a": 1})
    assert out.getvalue() == '{"a":1}\n'
