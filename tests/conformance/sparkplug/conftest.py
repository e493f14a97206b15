"""The scenarios are played once for all tests that judge them; without a Mosquitto they are left out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

_ROOT = str(Path(__file__).resolve().parents[3])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from tests.conformance.sparkplug.scenarios import SCENARIOS, record_all  # noqa: E402
from tests.conformance.sparkplug.story import Transcript  # noqa: E402
from tests.gateway.publish.support import find_mosquitto  # noqa: E402


class Played:
    """Transcripts by the name of their scenario; played when they are first asked for."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._made: dict[str, Transcript] = {}

    def all(self) -> list[Transcript]:
        """What was on the wire in all of them."""
        if missing := [name for name in SCENARIOS if name not in self._made]:
            made = asyncio.run(record_all(missing, self._factory.mktemp("scenarios"), lambda _: None))
            self._made.update(zip(missing, made, strict=True))
        return [self._made[name] for name in SCENARIOS]


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The scenarios, played on real brokers."""
    find_mosquitto()
    return Played(tmp_path_factory)
