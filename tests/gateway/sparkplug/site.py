"""A site without PLCs to try an edge node with: a real journal, equipment that moves when told, tags."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from gateway.clock import SystemClock
from gateway.config.schema import GatewaySettings, JournalSettings
from gateway.config.sparkplug import SparkplugSettings
from gateway.journal.journal import Journal
from gateway.sparkplug.births import DeviceSpec, NodeSpec, PublishedTag
from gateway.sparkplug.commands import CommandPort
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.edge_node import EdgeNode, Equipment
from gateway.sparkplug.status import EdgeStatus
from statemodel.records import EquipmentState, Recorded, state_after
from statemodel.types import (
    UNKNOWN,
    Cause,
    Conformance,
    Quality,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
    TagValue,
    Transition,
)
from tests.support.sparkplug_host import SparkplugHost

GATEWAY = GatewaySettings(id="line-1", enterprise="acme", site="berlin")
STATES = ("Idle", "Execute", "Held", UNKNOWN)
GROUP, WAIT_S = "acme", 45.0


class _Position(NamedTuple):
    last_seq: int


class Site:
    """Equipment `names`, each fed by the connection `{name}-plc`, with a published tag `{name}-plc/speed`."""

    def __init__(self, journal: Journal, *names: str) -> None:
        self.journal, self.names = journal, names
        self.links = {f"{name}-plc": "up" for name in names}
        self.states = {name: self._unknown(name) for name in names}
        self.moves: dict[str, list[tuple[str, int]]] = {name: [] for name in names}
        self.speeds: dict[str, list[TagValue]] = {name: [] for name in names}
        self.seq = 0
        self.nodes: list[EdgeNode] = []
        self.latest: dict[str, TagSample] = {}
        #: Tags that a device of this name has beside its speed.
        self.more_tags: dict[str, tuple[PublishedTag, ...]] = {}

    # --- what the node asks

    def position(self) -> _Position:
        return _Position(self.seq)

    def state(self, equipment: str) -> EquipmentState:
        return self.states[equipment]

    def why(self, equipment: str) -> str:
        return ""

    def is_up(self, connection: str) -> bool:
        return self.links[connection] == "up"

    def is_lost(self, connection: str) -> bool:
        return self.links[connection] == "down"

    # --- what happens

    async def move(self, name: str, to: str = "") -> Recorded:
        """The next transition of an equipment, durable and announced."""
        (recorded,) = self._announce(await self.journal.append([self._transition(name, to)]))
        return recorded

    async def record(self, name: str, to: str) -> int:
        """A transition that is durable and that nobody has been told of yet; its number."""
        (recorded,) = await self.journal.append([self._transition(name, to)])
        self.moves[name].append((to, recorded.seq))
        return recorded.seq

    async def happen(self, count: int) -> None:
        """So many transitions, in turn, few commits."""
        for start in range(0, count, 200):
            events = [
                self._transition(self.names[n % len(self.names)])
                for n in range(start, min(count, start + 200))
            ]
            self._announce(await self.journal.append(events))

    async def measure(self, name: str, value: TagValue, *, told: bool = True) -> None:
        """A value of the equipment's tag: durable, then told to whoever runs."""
        now = datetime.now(UTC)
        sample = TagSample(f"{name}-plc/speed", value, Quality.GOOD, None, now)
        await self.journal.append([], [SampleBatch(f"{name}-plc", now, (sample,))])
        self.speeds[name].append(value)
        self.latest[sample.tag] = sample
        if told:
            for node in self.nodes:
                node.publish_tag(sample)

    async def lose(self, name: str) -> None:
        """The link of an equipment breaks: its state becomes Unknown."""
        self.links[f"{name}-plc"] = "down"
        lost = SourceLost(f"{name}-plc", datetime.now(UTC), "cable")
        self._announce(await self.journal.append([lost, self._transition(name, UNKNOWN)]))

    async def restore(self, name: str) -> None:
        """The link is back, and a state is read again."""
        self.links[f"{name}-plc"] = "up"
        back = SourceRestored(f"{name}-plc", datetime.now(UTC))
        self._announce(await self.journal.append([back]))
        await self.move(name, "Idle")

    def _announce(self, recorded: Sequence[Recorded]) -> Sequence[Recorded]:
        for item in recorded:
            self.seq = item.seq
            if isinstance(item.event, Transition):
                self.states[item.equipment] = state_after(item.event, item.seq)
                self.moves[item.equipment].append((item.event.to_state, item.seq))
        return recorded

    def _transition(self, name: str, to: str = "") -> Transition:
        was = self.moves[name][-1][0] if self.moves[name] else UNKNOWN
        self._sequence = getattr(self, "_sequence", 0) + 1
        to = to or STATES[self._sequence % 3]
        return Transition(
            equipment=name,
            path=f"filling/{name}",
            model="test",
            sequence=self._sequence,
            from_state=was,
            to_state=to,
            code=self._sequence,
            category=None,
            at=datetime.now(UTC),
            duration_s=1.0,
            conformance=Conformance.LEGAL,
            skipped=(),
            cause=Cause("code", ()),
        )

    def _unknown(self, name: str) -> EquipmentState:
        return EquipmentState(
            name, f"filling/{name}", "test", UNKNOWN, None, None, datetime.now(UTC), 0, 0, "no value yet"
        )

    # --- nodes

    def equipment(self, *, writable: bool = False, servers: int = 1) -> Equipment:
        tags = {
            name: PublishedTag(f"{name}-plc/speed", "1/min", DataType.DOUBLE, writable=writable)
            for name in self.names
        }
        return Equipment(
            NodeSpec("Andon", "1.0", self.journal.stream, tuple(self.links), servers=servers),
            [
                DeviceSpec(name, STATES, tags=(tags[name], *self.more_tags.get(name, ())))
                for name in self.names
            ],
            {name: (f"{name}-plc",) for name in self.names},
            frozenset(tag.tag for tag in tags.values()),
        )

    def instead(self, *ports: int, **more: Any) -> EdgeNode:
        """A node in place of those there are, with what is true now: as when the configuration changes."""
        self.nodes.clear()
        node = self.node(*ports, **more)
        for sample in self.latest.values():
            node.publish_tag(sample)
        return node

    def node(
        self, *ports: int, commands: CommandPort | None = None, certificates_s: float = 30.0, **more: Any
    ) -> EdgeNode:
        """An edge node of this site for brokers at these ports."""
        settings = SparkplugSettings.model_validate(
            {
                "broker": [f"mqtt://127.0.0.1:{port}" for port in ports],
                "group": GROUP,
                "commands": commands is not None,
                **more,
            }
        )
        node = EdgeNode(
            settings,
            journal=self.journal,
            gateway=GATEWAY,
            equipment=self.equipment(writable=commands is not None, servers=len(ports)),
            present=self,
            clock=SystemClock(),
            commands=commands,
            certificates_s=certificates_s,
        )
        self.nodes.append(node)
        return node

    def all_told(self, host: SparkplugHost) -> bool:
        """Whether a host has heard of every transition there was."""
        return not any(self.untold(host).values())

    def untold(self, host: SparkplugHost) -> dict[str, list[tuple[str, int]]]:
        """Transitions a host has not heard of, of the equipment there is."""
        heard = {name: set(host.values(name, "Seq")) for name in self.names}
        return {
            name: [move for move in self.moves[name] if move[1] not in heard[name]] for name in self.names
        }


@asynccontextmanager
async def site(folder: Path, *names: str, **settings: Any) -> AsyncIterator[Site]:
    """A site on the journal in a folder."""
    chosen = JournalSettings(**settings)
    journal = await Journal.open(folder, gateway=GATEWAY.id, settings=chosen, clock=SystemClock())
    found = Site(journal, *names)
    for name, last in (await journal.last_transitions()).items():
        if isinstance(last.event, Transition):
            found.states[name] = state_after(last.event, last.seq)
    found.seq = journal.position.last_seq
    try:
        yield found
    finally:
        await journal.close()


class Running:
    """A node that runs for the length of a `with`; leaves cleanly at its end."""

    def __init__(self, node: EdgeNode) -> None:
        self.node = node
        self.task = asyncio.create_task(node.run())

    async def __aenter__(self) -> EdgeNode:
        return self.node

    async def keep(self) -> None:
        """End it, with its connection kept for another."""
        self.node.keep_link()
        await self.end()

    def give_to(self, node: EdgeNode) -> None:
        """Let another one go on with its connection."""
        assert node.connects_like(self.node)
        node.take_link(self.node)
        self.node, self.task = node, asyncio.create_task(node.run())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()
        await self.node.let_go()

    async def end(self) -> None:
        """End it."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def until(node: EdgeNode, true: Any, what: str, within_s: float = WAIT_S) -> EdgeStatus:
    """Wait for something the status tells."""
    try:
        async with asyncio.timeout(within_s):
            while not true(node.status()):  # figures have no event to wait for
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}; {node.status()}") from None
    return node.status()
