"""A reader and writer of Sparkplug payloads that is not ours: Eclipse Tahu's, as a program under orders."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PROGRAM = Path(__file__).parent / "sparkplug_peer" / "reader.js"


class SparkplugReader:
    """The program. Its orders, and how numbers and bytes travel, are told in `reader.js`."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def order(self, what: str, **details: Any) -> Any:
        """Have one order obeyed; AssertionError with the program's own words when it cannot."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"do": what, **details}) + "\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["ok"]

    def read(self, payload: bytes) -> dict[str, Any]:
        """What is in a payload: `fields`, `values`, and what Tahu's `library` makes of it."""
        found: dict[str, Any] = self.order("read", payload=base64.b64encode(payload).decode())
        return found

    def values(self, payload: bytes) -> dict[str, Any]:
        """What a payload says, of every type."""
        found: dict[str, Any] = self.read(payload)["values"]
        assert "error" not in found, found["error"]
        return found

    def make(self, values: dict[str, Any]) -> bytes:
        """The bytes of what `values` would say of them."""
        return base64.b64decode(self.order("make", values=values))

    def write(self, payload: dict[str, Any]) -> bytes:
        """What Tahu's library makes of a payload."""
        return base64.b64decode(self.order("write", payload=payload))

    def pack(self, fields: dict[str, Any]) -> bytes:
        """The bytes of these fields, as protobufjs writes them by Tahu's schema."""
        return base64.b64decode(self.order("pack", fields=fields))


@contextmanager
def running_reader() -> Iterator[SparkplugReader]:
    """The program; the test is left out, and said to be, on a machine that has none."""
    folder = os.environ.get("ANDON_TEST_SPARKPLUG_PEER")
    if not folder or shutil.which("node") is None:
        pytest.skip("no sparkplug-payload here; see the last line of the run for how to have it")
    child = subprocess.Popen(
        ["node", str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "NODE_PATH": f"{folder}/node_modules"},
    )
    with child:
        try:
            yield SparkplugReader(child)
        finally:
            child.kill()
