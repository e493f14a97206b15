"""Makes `tests.gateway.publish.support` importable however pytest was started; gives brokers."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

_ROOT = str(Path(__file__).resolve().parents[3])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from gateway.mqtt.retained import read_retained  # noqa: E402
from gateway.publish import publisher  # noqa: E402
from tests.gateway.publish.support import (  # noqa: E402
    WAIT_S,
    BrokerUnderTest,
    Embedded,
    Mosquitto,
    Subscriber,
    find_mosquitto,
)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A good-bye, and reading what a broker holds, have the time they take, however busy this machine is."""
    monkeypatch.setattr(publisher, "STOP_S", 2 * WAIT_S)
    monkeypatch.setattr(publisher, "STOP_EACH_S", WAIT_S)
    assert read_retained.__kwdefaults__ is not None
    monkeypatch.setitem(read_retained.__kwdefaults__, "quiet_s", 8.0)


@pytest.fixture(
    params=[
        pytest.param("mosquitto-5", marks=pytest.mark.real),
        pytest.param("mosquitto-3.1.1", marks=pytest.mark.real),
        "embedded",
    ]
)
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BrokerUnderTest]:
    """A running broker: the same suite must pass on each."""
    chosen: BrokerUnderTest
    if request.param == "embedded":
        chosen = Embedded()
    else:
        chosen = Mosquitto(find_mosquitto(), tmp_path, protocol=request.param.removeprefix("mosquitto-"))
    await chosen.start()
    yield chosen
    await chosen.kill()


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """A Mosquitto that is not started yet, so that a test can configure it. Spoken to with MQTT 5."""
    chosen = Mosquitto(find_mosquitto(), tmp_path, protocol="5")
    yield chosen
    await chosen.kill()


@pytest.fixture
async def subscriber(broker: BrokerUnderTest) -> AsyncIterator[Subscriber]:
    """Somebody who listens to everything."""
    async with Subscriber(broker.port) as listening:
        yield listening
