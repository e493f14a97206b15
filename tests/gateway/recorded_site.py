"""A site whose gateway has recorded a little history: configuration, model, and the journal it wrote."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from gateway.config.load import Loaded
from gateway.journal import Journal
from gateway.pipeline import Pipeline
from gateway.restart import memories_from
from statemodel.engine import Engine
from statemodel.types import Quality, SampleBatch, SourceLost, TagSample
from tests.support.manual_clock import ManualClock

CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:1"
unit = 1
[[connections.groups]]
name = "all"
interval = "100ms"
tags = [
  { name = "run", address = "coil:0", type = "bool" },
  { name = "temp", address = "holding:0", type = "uint16" },
  { name = "level", address = "holding:1", type = "uint16", record = false },
]

[[equipment]]
name = "oven-1"
path = "area/line/oven-1"
model = "oven.toml"
bind = { run = "plc/run", temp = "plc/temp" }

[[equipment]]
name = "oven-2"
path = "area/line/oven-2"
model = "oven.toml"
bind = { run = "plc/run", temp = "plc/level" }
"""
MODEL = """
name = "oven"
initial = "Off"
on_illegal = "flag"
states = [
  { name = "Off", category = "non-scheduled" },
  { name = "Heating", category = "standby" },
  { name = "Baking", category = "productive" },
]
transitions = [
  { from = "Off", to = "Heating" }, { from = "Heating", to = ["Baking", "Off"] },
  { from = "Baking", to = ["Heating", "Off"] },
]
rules = [
  { state = "Off", when = "not run" },
  { state = "Baking", when = "temp >= 180", for = "2s" },
  { state = "Heating", when = "True" },
]
"""


async def record(loaded: Loaded, begin: datetime) -> None:
    """Let the process's own pipeline take in 35 s of history, and keep it in its journal.

    Done again later, it is what a gateway does that was stopped and started.
    """
    clock = ManualClock(begin)
    directory = loaded.data_dir / "journal"
    journal = await Journal.open(
        directory, gateway="g", settings=loaded.configuration.gateway.journal, clock=clock
    )
    pipeline = Pipeline(
        engine=Engine(
            loaded.equipment,
            at=clock.now(),
            memory=memories_from(await journal.last_transitions(), loaded),
        ),
        log=journal,
        connections=loaded.configuration.connections,
        listeners=(),
        clock=clock,
        heartbeat=timedelta(seconds=1),
        alive={},
        came_round=lambda: None,
    )
    work = asyncio.create_task(pipeline.run())
    story: list[dict[str, Any]] = [
        {"run": True, "temp": 20, "level": 20},
        {"temp": 185},
        {"temp": 190},
        {"temp": 150, "level": 200},
        {"temp": 181},
        {"run": False},
    ]
    for values in story:
        clock.advance(5)
        samples = tuple(
            TagSample(f"plc/{name}", value, Quality.GOOD, None, clock.now()) for name, value in values.items()
        )
        await pipeline.offer(SampleBatch("plc", clock.now(), samples))
        seen = pipeline.counts.commits
        async with asyncio.timeout(45):
            while pipeline.backlog or pipeline.counts.commits == seen:
                await asyncio.sleep(0)
    clock.advance(5)
    await pipeline.finish([SourceLost("plc", clock.now(), "stopped")])
    await work
    await journal.close()
