"""A gateway as a process: signals, watched files, requests, kills; what it runs is what its files say."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import free_port

PATIENCE_S = 60.0
#: Each starts processes of its own, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

MAIN = """[gateway]
id = "g"
enterprise = "acme"
site = "berlin"
{more}
[api]
listen = "127.0.0.1:{port}"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:9"
[[connections.groups]]
name = "all"
interval = "1s"
tags_csv = "tags.csv"

[[equipment]]
name = "filler-1"
path = "filling/filler-1"
model = "packml"
state = "plc/state"
"""
CSV = "name,address,type\nstate,holding:1,uint16\n"


class Process:
    """One gateway in a folder, which can be started again."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.port = free_port()
        self.folder, self.main = folder, folder / "a.toml"
        self.text = MAIN.format(port=self.port, more=more)
        self.main.write_text(self.text)
        (folder / "tags.csv").write_text(CSV)
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", str(self.main)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(lambda: self.health() is not None)

    def health(self) -> Any:
        """What it says of itself; None while it does not."""
        assert self.process.poll() is None, self.log()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(
                f"http://127.0.0.1:{self.port}/readyz", trust_env=False, timeout=PATIENCE_S
            ).json()
        return None

    def log(self) -> str:
        """All it has written."""
        return (self.folder / "log").read_text()

    def asked(self, method: str = "GET", path: str = "", **more: Any) -> httpx.Response:
        """Ask about the configuration, as who can read the gateway's files."""
        key = (self.folder / "data/access/local.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}", **more.pop("headers", {})}
        url = f"http://127.0.0.1:{self.port}/api/v1/config{path}"
        return httpx.request(method, url, headers=headers, trust_env=False, timeout=110, **more)

    def running(self) -> dict[str, Any]:
        """What runs."""
        found: dict[str, Any] = self.asked().json()
        return found

    def kill(self) -> None:
        """As the power going away."""
        self.process.kill()
        self.process.wait()


def ask_in_vain(process: Process, body: Any, headers: dict[str, str]) -> None:
    """Send a configuration to somebody who may die meanwhile."""
    with contextlib.suppress(httpx.HTTPError):
        process.asked("PUT", json=body, headers=headers)


def until(condition: Any) -> None:
    """Wait for something, for a while."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


@pytest.fixture
def process(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Process]:
    """A gateway that runs."""
    process = Process(tmp_path, getattr(request, "param", ""))
    yield process
    if process.process.poll() is None:
        process.process.terminate()
        process.process.wait(PATIENCE_S)


def test_a_signal_has_the_files_read_again(process: Process) -> None:
    process.main.write_text(process.text.replace('"1s"', '"2s"'))
    process.process.send_signal(signal.SIGHUP)
    until(lambda: process.running()["revision"]["number"] == 2)
    process.main.write_text(process.text.replace('"1s"', '"soon"'))
    process.process.send_signal(signal.SIGHUP)
    until(lambda: process.running()["trouble"])
    assert '"2s"' in process.running()["files"]["andon.toml"]
    part = process.health()["parts"]["configuration"]
    assert (part["ok"], "a.toml:15: connections[0].groups[0].interval" in part["reason"]) == (False, True)
    assert str(process.folder) not in part["reason"]
    process.main.write_text(process.text)
    process.process.send_signal(signal.SIGHUP)
    until(lambda: process.running()["revision"]["number"] == 3)
    assert process.running()["trouble"] == ""
    assert "configuration" not in process.health()["parts"]
    process.process.terminate()
    assert process.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("process", ["watch = true"], indirect=True)
def test_watched_files_are_applied_by_themselves(process: Process) -> None:
    (process.folder / "tags.csv").write_text(CSV + "speed,holding:2,uint16\n")
    until(lambda: process.running()["revision"]["number"] == 2)
    newest = process.running()["revision"]
    assert (newest["source"], newest["author"]) == ("watch", "edited by hand")
    (process.folder / "tags.csv").write_text("name,address,typ\n")
    until(lambda: process.running()["trouble"])
    (process.folder / "tags.csv").write_text(CSV)
    until(lambda: process.running()["revision"]["number"] == 3)


def test_the_command_line_applies_and_goes_back(process: Process, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.toml").write_text(process.text.replace('"1s"', '"2s"'))
    (other / "tags.csv").write_text(CSV)
    (other / "data").symlink_to(process.folder / "data")

    def andon(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gateway", *words]
        return subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=110, check=False
        )

    new = str(other / "b.toml")
    planned = andon("plan", new)
    assert "groups.all.interval  1s -> 2s" in planned.stdout, planned
    applied = andon("apply", new, "--reason", "slower", "--yes")
    assert (applied.returncode, "applied: revision 2" in applied.stdout) == (0, True), applied
    assert '"2s"' in process.main.read_text()
    found = ("--config", str(process.main))
    listed = andon("config", "revisions", *found, "--json").stdout.splitlines()
    assert [json.loads(line)["reason"] for line in listed] == ["slower", "the first start"]
    back = andon("config", "rollback", "1", "--reason", "too slow", "--yes", *found)
    assert (back.returncode, "applied: revision 3" in back.stdout) == (0, True), back
    assert process.main.read_text() == process.text
    (other / "b.toml").write_text(process.text.replace('"1s"', '"soon"'))
    wrong = andon("apply", new, "--reason", "x", "--yes")
    assert (wrong.returncode, "is not a duration" in wrong.stderr) == (2, True), wrong


def test_the_listener_moves_and_the_request_that_moves_it_is_answered(process: Process) -> None:
    port = free_port()
    files = {"andon.toml": process.text.replace(str(process.port), str(port)), "tags.csv": CSV}
    headers = {"If-Match": f'"{process.running()["hash"]}"'}
    answer = process.asked("PUT", json={"files": files, "reason": "moved"}, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "applied")
    process.port = port
    assert process.running()["revision"]["number"] == 2


def test_killed_again_and_again_while_it_changes(process: Process) -> None:
    """After every kill it runs one of the two configurations, whole, and says which."""
    seed = int(os.environ.get("ANDON_SEED", "7"))
    dice = random.Random(seed)
    old = (process.text + "# whole\n", CSV)
    began_s = time.monotonic()
    headers = {"If-Match": f'"{process.running()["hash"]}"'}
    body = {"files": {"andon.toml": old[0], "tags.csv": old[1]}, "reason": "how long it takes"}
    assert process.asked("PUT", json=body, headers=headers).status_code == 200
    whole_s = time.monotonic() - began_s
    for round_ in range(int(os.environ.get("ANDON_ROUNDS", "4"))):
        new = (
            old[0].replace("[[equipment]]", f"# round {round_}\n[[equipment]]"),
            CSV + f"t{round_},holding:5,uint16\n",
        )
        running = process.running()
        body = {"files": {"andon.toml": new[0], "tags.csv": new[1]}, "reason": f"round {round_}"}
        headers = {"If-Match": f'"{running["hash"]}"'}
        asking = threading.Thread(target=ask_in_vain, args=(process, body, headers))
        asking.start()
        time.sleep(dice.uniform(0.2, 1.3) * whole_s)
        process.kill()
        asking.join(PATIENCE_S)
        process.start()
        told = process.running()
        pair = (told["files"]["andon.toml"], told["files"]["tags.csv"])
        assert pair in (old, new), f"a mixture with ANDON_SEED={seed}"
        assert (process.main.read_text(), (process.folder / "tags.csv").read_text()) == pair
        # A crash is no edit by hand: what runs is on record under the name of who wanted it.
        assert told["revision"]["author"] in ("", "local")
        old = pair
    authors = [one["author"] for one in process.asked(path="/revisions").json()["items"]]
    assert "edited by hand" not in authors
