"""Watches the wires of the whole run: a test that is not marked `writes` fails when a device was written to.

Everything is counted where it arrives, at the devices: the simulated plants say of every write that reached
them, in whatever process they run (`simulators.writes.ALSO_TO`), and so do the devices of the tests, through
`note`, `watch_asyncua` and `watch_pymodbus`. Nothing is asked of the gateway, whose word this is to check.
Marked tests are those about writing; which files may have the mark stands in
`tests/architecture/test_writes_off.py`.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua.server.internal_session import InternalSession
from pymodbus.server.requesthandler import ServerRequestHandler

from simulators.writes import ALSO_TO

MARK = "writes"
#: Modbus functions that change something, however rare.
WRITING_FUNCTIONS = frozenset({5, 6, 15, 16, 21, 22, 23})


def note(server: str, what: str) -> None:
    """A device of the tests has been written to."""
    if path := os.environ.get(ALSO_TO):
        line = json.dumps({"server": server, "service": what, "pid": os.getpid()})
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def note_modbus(server: str, function: int, address: int) -> None:
    """A request has come in; noted if it writes."""
    if function in WRITING_FUNCTIONS:
        note(server, f"FC{function} at {address}")


def watch_asyncua() -> None:
    """Note what clients write to any asyncua server of this process. Twice is once."""
    original: Any = InternalSession.write
    if getattr(original, "watched", False):
        return

    @functools.wraps(original)
    async def write(self: Any, params: Any) -> Any:
        if self.external:
            note("asyncua", f"Write {[str(item.NodeId) for item in params.NodesToWrite]}")
        return await original(self, params)

    write.watched = True  # type: ignore[attr-defined]
    InternalSession.write = write  # type: ignore[method-assign]


def watch_pymodbus() -> None:
    """Note what clients write to any pymodbus server of this process. Twice is once."""
    original: Any = ServerRequestHandler.handle_request
    if getattr(original, "watched", False):
        return

    @functools.wraps(original)
    async def handle_request(self: Any) -> Any:
        if (pdu := self.last_pdu) is not None:
            note_modbus("pymodbus", pdu.function_code, getattr(pdu, "address", 0))
        return await original(self)

    handle_request.watched = True  # type: ignore[attr-defined]
    ServerRequestHandler.handle_request = handle_request  # type: ignore[method-assign]


class Watch:
    """The file all devices write to, and how much of it has been looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0

    def news(self) -> list[str]:
        """Lines since the last look."""
        with self.path.open("rb") as file:
            file.seek(self._seen)
            data = file.read()
        self._seen += len(data)
        return data.decode("utf-8", "replace").splitlines()


_watch: Watch | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _watch
    config.addinivalue_line("markers", f"{MARK}: writes to devices; nothing else in the run may")
    handle, name = tempfile.mkstemp(prefix="andon-writes-", suffix=".jsonl")
    os.close(handle)
    os.environ[ALSO_TO] = name
    _watch = Watch(Path(name))
    watch_asyncua()
    watch_pymodbus()


def pytest_unconfigure() -> None:
    global _watch
    if _watch is not None:
        os.environ.pop(ALSO_TO, None)
        _watch.path.unlink(missing_ok=True)
        _watch = None


@pytest.fixture(autouse=True)
def _no_write_on_the_wire(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up before and taken down after every other fixture of a test."""
    yield
    assert _watch is not None
    news = _watch.news()
    if news and request.node.get_closest_marker(MARK) is None:
        pytest.fail(f"{len(news)} writes went over the wire, and this test is not about writing: {news[:5]}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What came after the last test, of whoever was still running."""
    if _watch is not None and (news := _watch.news()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"writes after the last test: {news[:5]}", red=True)
