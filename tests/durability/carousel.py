"""Many fast machines on one PLC, which remembers what it told and when: the truth of the kill tests.

What a gateway can know is what it was told, so the truth here is not what the machines did but what stood in
the answers to its polls. Machine number n is register n; its states S0 to S5 follow one another.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.small_plc import SmallPlc

STATES = 6
UNKNOWN = "Unknown"


@dataclass
class Life:
    """One run of the gateway: when it was begun, when it was killed, and what each machine told it in between
    (state and instant, whenever the state differed from the one told before)."""

    begun_at: datetime
    ended_at: datetime | None = None
    told: dict[str, list[tuple[str, datetime]]] = field(default_factory=dict)


class Carousel:
    """Machines that change their states all the time; `new_life` comes before each start of the gateway."""

    def __init__(self, machines: int, seed: int) -> None:
        self.plc = SmallPlc(machines)
        self.plc.answering = self._note
        self.names = [f"machine-{n}" for n in range(machines)]
        self.lives: list[Life] = []
        self._chance = random.Random(seed)
        self._task: asyncio.Task[None] | None = None
        self._polled = asyncio.Event()

    async def __aenter__(self) -> Carousel:
        await self.plc.start()
        self._task = asyncio.create_task(self._turn())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stand_still()
        await self.plc.stop()

    async def stand_still(self) -> None:
        """Change nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def new_life(self) -> None:
        """The gateway is about to be started."""
        self.lives.append(Life(datetime.now(UTC)))
        self._polled.clear()

    async def polled(self) -> None:
        """Return once the gateway has polled in this life."""
        async with asyncio.timeout(60):
            await self._polled.wait()

    def end_life(self) -> None:
        """The gateway has just been killed."""
        self.lives[-1].ended_at = datetime.now(UTC)
        self.plc.cut()

    def config(self, directory: Path, *, values: Mapping[str, str]) -> Path:
        """A configuration of a gateway for this plant."""
        states = ", ".join(f'{{ name = "S{n}", code = {n}, category = "standby" }}' for n in range(STATES))
        (directory / "ring.toml").write_text(
            f'name = "ring"\ninitial = "S0"\nstates = [{states}]\n'
            'transitions = [{ from = "*", to = "*" }]\n'
        )
        tags = "".join(
            f'  {{ name = "{name}", address = "holding:{n}", type = "uint16" }},\n'
            for n, name in enumerate(self.names)
        )
        equipment = "".join(
            f'[[equipment]]\nname = "{name}"\npath = "area/line/{name}"\n'
            f'model = "ring.toml"\nstate = "plc/{name}"\n'
            for name in self.names
        )
        path = directory / "andon.toml"
        path.write_text(
            '[gateway]\nid = "carousel"\nenterprise = "acme"\nsite = "berlin"\ndata_dir = "data"\n'
            'journal = { segment_age = "2s", keep = "1s", segment_bytes = 1_000_000 }\n'
            f'[historian]\ndsn = "{values["historian"]}"\n'
            f'[mqtt]\nbroker = "{values["broker"]}"\n'
            f'[api]\nlisten = "{values["listen"]}"\n'
            '[[connections]]\nname = "plc"\nprotocol = "modbus"\n'
            f'endpoint = "tcp://127.0.0.1:{self.plc.port}"\nunit = 1\n'
            'timeout = "30s"\nconnect_timeout = "30s"\n'
            f'[[connections.groups]]\nname = "all"\ninterval = "20ms"\ntags = [\n{tags}]\n{equipment}'
        )
        return path

    async def _turn(self) -> None:
        while True:
            for n in range(len(self.names)):
                if self._chance.random() < 0.2:
                    self.plc.registers[n] = (self.plc.registers[n] + 1) % STATES
            await asyncio.sleep(0.025)

    def _note(self, words: Sequence[int]) -> None:
        if not self.lives or self.lives[-1].ended_at is not None:
            return
        self._polled.set()
        now, told = datetime.now(UTC), self.lives[-1].told
        for name, word in zip(self.names, words, strict=False):
            seen = told.setdefault(name, [])
            if not seen or seen[-1][0] != f"S{word}":
                seen.append((f"S{word}", now))


#: What was told this shortly before a kill may not have been on the disk yet.
UNDER_WAY = timedelta(seconds=3)


def faults(lives: Sequence[Life], names: Sequence[str], recorded: Sequence[Mapping[str, Any]]) -> list[str]:
    """Everything wrong with the transitions recorded (rows in order of seq); empty when they are the truth.

    In each life every machine must have been recorded in exactly the states that were told, in order, without
    one left out or twice; only what was told right before the kill may be missing.
    """
    found: list[str] = []
    by_machine: dict[str, list[Mapping[str, Any]]] = {name: [] for name in names}
    for row in recorded:
        by_machine[row["equipment"]].append(row)
    for name, rows in by_machine.items():
        found += _chain(name, rows)
        for number, life in enumerate(lives):
            end = life.ended_at or datetime.now(UTC)
            seen = [
                row["to_state"]
                for row in rows
                if life.begun_at <= row["recorded_at"] <= end and row["to_state"] != UNKNOWN
            ]
            once = [state for place, state in enumerate(seen) if not place or seen[place - 1] != state]
            told = life.told.get(name, [])
            if once != [state for state, _ in told[: len(once)]]:
                found.append(f"{name}, life {number}: recorded {once}, told {told}")
                continue
            late = [at for _, at in told[len(once) :] if life.ended_at is None or at < end - UNDER_WAY]
            if late:
                found.append(f"{name}, life {number}: {len(late)} states from {late[0]} on are missing")
    return found


def _chain(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found, state = [], None
    for place, row in enumerate(rows, 1):
        if row["sequence"] != place:
            found.append(f"{name}: sequence {row['sequence']} at place {place}")
        if state is not None and row["from_state"] != state:
            found.append(f"{name} #{row['sequence']}: leaves {row['from_state']}, but was in {state}")
        if row["duration_s"] < 0:
            found.append(f"{name} #{row['sequence']}: lasted {row['duration_s']} s")
        state = row["to_state"]
    return found
