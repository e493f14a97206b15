"""The parts that measure a whole gateway run, and yield their figures. How fast is nobody's business here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.benchmarks import fleet, historian, journal, modbus, mqtt, opcua, rest, sparkplug
from tests.benchmarks.figures import Figure
from tests.support.database import timescale_dsn
from tests.support.processes import free_port

#: Long enough for the clock that processor time is counted with, also where there is little of it to be had.
WINDOW_S = 2.0


async def test_big_modbus_devices_are_measured(tmp_path: Path) -> None:
    """W1, paced, on a small plant."""
    variants = (modbus.Variant("W1", window_s=WINDOW_S),)

    figures = await modbus.measure(tmp_path, variants=variants, devices=2, registers=10, warm_up_s=0.1)

    assert len(figures) == 7
    _are_figures(figures)
    assert figures[1].value > 0, "the gateway was not reading"


async def test_an_opcua_server_is_measured(tmp_path: Path) -> None:
    """W2, flat out, with few items."""
    variants = (opcua.Variant("W2", flat_out=True, window_s=WINDOW_S),)

    figures = await opcua.measure(tmp_path, variants=variants, items=20, warm_up_s=0.1)

    assert len(figures) == 7
    _are_figures(figures)


async def test_a_fleet_is_measured(tmp_path: Path) -> None:
    """W3 with three devices."""
    figures = await fleet.measure(tmp_path, sizes=(3,), warm_up_s=0.0, window_s=WINDOW_S)

    assert len(figures) == 8
    _are_figures(figures)
    assert "command to all up" in figures[4].name


@pytest.mark.real
async def test_a_historian_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as makes more than two full transactions, so that there is a backlog. In a process that others
    used before, memory of theirs may be given back meanwhile: that is no growth, and none below nothing."""
    timescale_dsn()
    given_back = itertools.count(500.0, -0.5)
    monkeypatch.setattr(historian, "_rss_mb", lambda: next(given_back))

    figures = await historian.measure(tmp_path, samples=220_000, events=12_000, outage_s=120, calm_s=0.5)

    assert len(figures) == 10
    _are_figures(figures)


@pytest.mark.real
async def test_mqtt_is_measured(tmp_path: Path) -> None:
    """Every client with few events, in one round; the listeners too."""
    figures = await mqtt.measure(tmp_path, events=3000, backlog=20_000, rounds=1)

    assert len(figures) == 26
    _are_figures(figures)
    busy = [figure.value for figure in figures if "Mosquitto busy" in figure.name]
    assert all(0 < share < 2 for share in busy), busy


@pytest.mark.real
async def test_sparkplug_is_measured(tmp_path: Path) -> None:
    """Few devices and events."""
    figures = await sparkplug.measure(tmp_path, devices=20, live=400, backlog=1000)

    assert len(figures) == 11
    _are_figures(figures)


async def test_the_journal_is_measured(tmp_path: Path) -> None:
    """Every figure, of short rounds and few unsent records."""
    figures = await journal.measure(tmp_path, window_s=0.02, rounds=1, unsent=3000)

    assert len(figures) == 33
    _are_figures(figures)


def _are_figures(figures: Sequence[Figure]) -> None:
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        if "memory over that before" in figure.name:
            assert figure.value >= 0, figure
        elif "CPU" in figure.name or "memory" in figure.name:
            assert figure.value > 0, figure
            assert figure.floor is None or figure.floor > 0, figure
        # in so short a window there may be no state change whose message could be timed
        assert math.isfinite(figure.value) or "MQTT" in figure.name, figure


async def test_streams_and_requests_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "FANOUT_CLIENTS", 5)
    monkeypatch.setattr(rest, "FANOUT_EVENTS", 300)
    monkeypatch.setattr(rest, "FOR_S", 1.0)
    figures = await rest.fanout(tmp_path)
    assert len(figures) == 2
    assert all(figure.value > 0 and figure.floor for figure in figures)
    port = free_port()
    async with rest.child(tmp_path, "tests.benchmarks.floor_rest", str(port), "300") as trivial:
        await rest.until_listening(port)
        told = await rest.load(tmp_path, port, "/ready", pid=trivial.child.pid)
        steady = await rest.load(tmp_path, port, "/ready", "--rate", "100")
    assert told["per_s"] > 0
    assert 0 < steady["per_s"] < 150, "it asks no faster than it is told to"
    assert told["bytes"] == 300
    assert 0 < told["cpu_us"] < 1_000_000
