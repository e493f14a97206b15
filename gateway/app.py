"""The process: builds every part, owns every task, starts and stops them in the right order.

Start: journal, what was true before, parts that can refuse (addresses, embedded servers), then connectors.
Stop: connectors first, then the last words into the journal, then a moment for the sinks to hand them on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from typing import Any
from urllib.parse import urlsplit

import structlog

from api.app import create_app
from api.ports import Ports
from api.server import Server
from api.settings import ApiSettings
from connectors.base import Clock
from connectors.protocol import Environment
from gateway.accounts.keeper import Accounts
from gateway.accounts.report import AccountsReport
from gateway.clock import SystemClock
from gateway.config.brokers import embedded_port
from gateway.config.load import Loaded
from gateway.configured import TagFeed, published_tags, unrecorded_tags
from gateway.correcting import CorrectionDesk
from gateway.corrections import CorrectionBook
from gateway.embedded_postgres import EmbeddedPostgres
from gateway.errors import StartFailed
from gateway.health import HealthReport, SinkOf
from gateway.historian.historian import Historian
from gateway.historian.values import EquipmentMeta, TagMeta
from gateway.history import JoinedHistory
from gateway.journal import words
from gateway.journal.journal import Journal
from gateway.journal.losses import gaps
from gateway.late import LateSamples
from gateway.live import Live
from gateway.metrics import Exposition
from gateway.models import ModelCatalogue
from gateway.mqtt.embedded_broker import EmbeddedBroker
from gateway.pipeline import Pipeline
from gateway.publish.wiring import Publishing, publishing
from gateway.reconcile.wiring import JournalRecord, Reconciling
from gateway.repeats import on_record
from gateway.restart import lost_while_away, memories_from
from gateway.snapshots import wiring as snapshots
from gateway.sparkplug.edge_node import EdgeNode
from gateway.sparkplug.wiring import edge_nodes
from gateway.supervisor import Supervised
from gateway.tag_history import JoinedTagHistory
from gateway.turnstile import Turnstile
from statemodel.engine import Engine
from statemodel.types import SourceLost

_log = structlog.get_logger("andon")

#: Longest wait for the sinks to hand on what was recorded last, when stopping.
FAREWELL_S_MAX = 5.0
#: How long the broker waits at the start for the database to confirm the journal.
MEETING_S_MAX = 5.0
#: How long it waits for what happened between the last end and this start to be on record.
KNOWN_S_MAX = 5.0


@dataclass
class Addresses:
    """Where a running gateway can be reached; empty where a part is off."""

    api: str = ""
    broker: str = ""
    database: str = ""
    psql: str = ""


@dataclass
class Gateway:
    """One gateway. `run` it once; it lives until `stop` is set or a part that must not fail has failed."""

    loaded: Loaded
    clock: Clock = field(default_factory=SystemClock)
    started: Callable[[Gateway], None] | None = None
    addresses: Addresses = field(default_factory=Addresses)
    live: Live = field(init=False)
    health: HealthReport = field(init=False)

    async def run(self, stop: asyncio.Event) -> None:
        """Start, work, stop.

        Raises:
            GatewayError: a part could not start, or the journal failed; the exit code says which.
        """
        async with AsyncExitStack() as stack:
            await _Run(self, stack).until(stop)
        _log.info("stopped", gateway=self.loaded.configuration.gateway.id)


class _Run:
    """The parts of one run, in the order they are built."""

    def __init__(self, owner: Gateway, stack: AsyncExitStack) -> None:
        self.owner = owner
        self.stack = stack
        self.clock = owner.clock
        self.loaded = owner.loaded
        self.settings = owner.loaded.configuration
        self.version = installed_version("andon-gateway")
        self.sinks: dict[str, SinkOf] = {}
        #: What a restart has to admit is on record.
        self.known = asyncio.Event()

    async def until(self, stop: asyncio.Event) -> None:
        await self._open_journal()
        self._build_core()
        historian = await self._historian()
        self.corrections = await CorrectionBook.open(self.journal, historian)
        history = JoinedHistory(self.journal, historian, self.corrections)
        self._build_live(history)
        self.publishing = await self._publishing(history)
        nodes = self._edge_nodes()
        await self._serve(history, historian)
        async with asyncio.TaskGroup() as group:
            if historian is not None:
                self._start_sink(group, "historian", historian.run())
            for publisher in self.publishing.publishers:
                self._start_sink(group, publisher.sink, self._publish_when_known(publisher.run, historian))
            for node in nodes:
                self._start_sink(group, node.sink, self._publish_when_known(node.run, historian))
            self._start_sink(
                group,
                "availability",
                self.publishing.links.keep_watch(lambda: self.journal.stats().full, self.clock),
            )
            self._start_sink(group, "accounts", self.accounts.run())
            self._start_sink(group, "corrections", self.corrections.run())
            self._start_sink(group, "late", self.late.run())
            self._start_sink(group, "reconciling", self.reconciling.run())
            self._start_sink(group, "snapshots", self.snapshots.keeper.run())
            pipeline = group.create_task(self.pipeline.run(), name="pipeline")
            for lost in self._lost_while_away():
                await self.pipeline.offer(lost)
            self._start_sink(group, "beginning", self._begin())
            connections = [
                group.create_task(item.run(), name=f"connection {item.settings.name}")
                for item in self.supervised
            ]
            self.health.started = True
            self._say_started()
            await stop.wait()
            _log.info("stopping", gateway=self.settings.gateway.id)
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
            await self._say_farewell(pipeline)
            await self._hand_on()
            for task in self.sink_tasks:
                task.cancel()

    # -- building ------------------------------------------------------------------------------

    async def _open_journal(self) -> None:
        gateway = self.settings.gateway
        try:
            self.loaded.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartFailed(
                f"the data directory {self.loaded.data_dir} cannot be made: {error.strerror}",
                hint="choose another [gateway] data_dir, or let this user write there",
            ) from error
        self.journal = await Journal.open(
            self.loaded.data_dir / "journal", gateway=gateway.id, settings=gateway.journal, clock=self.clock
        )
        self.stack.push_async_callback(self.journal.close)
        self.accounts = await Accounts.open(self.journal, self.clock)
        self.stack.push_async_callback(self.accounts.close)
        self.last = await self.journal.last_transitions()
        self.alive = await self.journal.alive()
        self.memories = memories_from(self.last, self.loaded)
        self.snapshots = await snapshots.begin(
            self.loaded, self.journal, self.memories, self.clock, self.version
        )
        self.repeats = await on_record(self.journal, self.journal.position.last_seq)
        self.sink_tasks: list[asyncio.Task[None]] = []

    def _build_core(self) -> None:
        self.engine = Engine(
            self.loaded.equipment,
            at=self.clock.now(),
            memory=self.memories,
            snapshot=self.snapshots.found,
        )
        self.snapshots.keeper.engine = self.engine.snapshot
        self.health = HealthReport(self.clock)
        self.health.snapshots = self.snapshots.trouble
        self.owner.health = self.health

    def _build_live(self, history: JoinedHistory) -> None:
        gateway = self.settings.gateway
        self.live = Live(
            gateway=gateway.id,
            connections=self.settings.connections,
            equipment=self.loaded.equipment,
            memories={memory.equipment: memory for memory in self.engine.memories()},
            last=self.last,
            source=history,
        )
        self.owner.live = self.live
        self.topics: list[TagFeed] = []

    async def _historian(self) -> Historian | None:
        settings = self.settings.historian
        if settings is None:
            return None
        dsn = settings.dsn
        if dsn == "embedded":
            server = EmbeddedPostgres(self.loaded.data_dir)
            dsn = await server.start()
            self.stack.push_async_callback(server.stop)
            self.owner.addresses.psql = server.psql_hint
        self.owner.addresses.database = dsn
        historian = Historian(
            dsn,
            journal=self.journal,
            gateway=self.settings.gateway.id,
            settings=settings,
            clock=self.clock,
            tags={
                connection.tag_id(tag): TagMeta(connection.name, tag.name, tag.unit)
                for connection in self.settings.connections
                for tag in connection.tags()
            },
            equipment={
                spec.name: EquipmentMeta(spec.path, spec.model.name) for spec in self.loaded.equipment
            },
            deliveries=self.accounts,
        )
        self.sinks["historian"] = historian
        return historian

    async def _publishing(self, history: JoinedHistory) -> Publishing:
        port = self.embedded_port = await self._embedded_broker()
        self.record = JournalRecord(self.journal, history)
        parts = publishing(
            self.loaded,
            journal=self.journal,
            live=self.live,
            clock=self.clock,
            record=self.record,
            last=self.last,
            embedded_port=port,
        )
        for publisher in parts.publishers:
            self.sinks[publisher.sink] = publisher
            self.topics.append(TagFeed(published_tags(self.loaded), publisher.publish_tag))
        self.owner.addresses.broker = ", ".join(one.options.address for one in parts.publishers)
        return parts

    def _edge_nodes(self) -> Sequence[EdgeNode]:
        nodes = edge_nodes(
            self.loaded,
            journal=self.journal,
            live=self.live,
            clock=self.clock,
            version=self.version,
            embedded_port=self.embedded_port,
        )
        for node in nodes:
            self.sinks[node.sink] = node
            self.topics.append(TagFeed(node.tags, node.publish_tag))
        return nodes

    async def _embedded_broker(self) -> int | None:
        """Start the one that all sections which ask for it share; its port."""
        port = embedded_port((*self.settings.mqtt, *self.settings.sparkplug))
        if port is None:
            return None
        broker = EmbeddedBroker(port)
        await broker.start()
        self.stack.push_async_callback(broker.stop)
        return broker.port

    async def _serve(self, history: JoinedHistory, historian: Historian | None) -> None:
        self.late = LateSamples(
            self.loaded.equipment,
            self.settings.connections,
            engine=self.engine,
            journal=self.journal,
            history=history,
            clock=self.clock,
            mode=self.settings.gateway.late,
        )
        self.pipeline = Pipeline(
            engine=self.engine,
            log=self.journal,
            connections=self.settings.connections,
            listeners=(self.live,),
            hearers=(self.publishing.links.announce, self.corrections.announce, self.late.heard),
            topics=tuple(feed.samples for feed in self.topics),
            clock=self.clock,
            heartbeat=self.settings.gateway.journal.heartbeat,
            alive=self.alive,
            came_round=self.health.came_round,
            repeats=self.repeats,
            untold=lambda: gaps(self.journal.untold(), [item.name for item in self.settings.connections]),
            committed=self._committed,
            late=self.late.late,
        )
        self.late.record = self.pipeline.record
        environment = Environment(clock=self.clock, data_dir=self.loaded.data_dir)
        lost = {words.connection for words in self._lost_while_away()}
        turnstile = Turnstile()
        self.supervised = [
            Supervised(
                connection,
                self.loaded.registry.protocols[connection.protocol].build(connection, environment),
                self.pipeline,
                self.clock,
                known_down=connection.name in lost,
                turnstile=turnstile,
            )
            for connection in self.settings.connections
        ]
        self.live.supervised = {item.settings.name: item for item in self.supervised}
        self.health.supervised = self.supervised
        self.health.sinks = self.sinks
        self.health.journal_full = lambda: words.full(self.journal.stats())
        self.health.journal_damage = lambda: words.trouble(self.journal.stats())
        report = AccountsReport(self.accounts, self.pipeline.counts, self.sinks)
        self.health.books = report.trouble
        self.reconciling = Reconciling(
            self.loaded,
            journal=self.journal,
            clock=self.clock,
            live=self.live.states,
            memories=self.engine.memories,
            historian=historian,
            dsn=self.owner.addresses.database,
            publishers=self.publishing.publishers,
            record=self.record,
            ownership=self.publishing.ownership,
        )
        self.health.more = self.reconciling.parts_of_health
        if self.settings.api is None:
            return
        ports = Ports(
            live=self.live,
            history=history,
            tag_history=JoinedTagHistory(self.journal, historian, unrecorded=unrecorded_tags(self.loaded)),
            models=ModelCatalogue(self.loaded.models),
            health=self.health,
            metrics=Exposition(
                pipeline=self.pipeline,
                supervised=self.supervised,
                sinks=self.sinks,
                accounts=report,
                more=self.reconciling.figures,
                journal=lambda: words.figures(self.journal.stats(), self.journal.position),
                snapshots=self.snapshots.figures,
                clock=self.clock,
                version=self.version,
            ),
            version=self.version,
            accounts=report,
            reconciler=self.reconciling.reconciler,
            corrections=CorrectionDesk(self.loaded.equipment, history, self.pipeline.record, self.clock),
        )
        host, _, port = self.settings.api.listen.rpartition(":")
        server = Server(
            create_app(ports, ApiSettings(), now=self.clock.now), host=host.strip("[]"), port=int(port)
        )
        try:
            await server.start()
        except OSError as error:
            raise StartFailed(
                f"cannot listen on {self.settings.api.listen}: {error.strerror or error}",
                hint="is another gateway running? choose another [api] listen address",
            ) from error
        self.stack.push_async_callback(server.stop)
        self.owner.addresses.api = f"http://{host}:{server.port}"

    def _committed(self) -> None:
        self.snapshots.keeper.committed()
        self.late.committed()

    # -- running -------------------------------------------------------------------------------

    async def _begin(self) -> None:
        await self.pipeline.caught_up()
        self.known.set()

    async def _publish_when_known(
        self, publish: Callable[[], Awaitable[None]], historian: Historian | None
    ) -> None:
        """Tell the broker once what a restart has to admit is on record: nothing of before is said as new.

        A full journal takes no such record: it waits for the broker, not the broker for it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_S_MAX):
                await self.known.wait()
        await publish_when_met(publish, historian)

    def _start_sink(self, group: asyncio.TaskGroup, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.sink_tasks.append(group.create_task(work, name=name))

    def _lost_while_away(self) -> Sequence[SourceLost]:
        """What a restart has to admit: since its last proof of life nobody looked at a connection."""
        return lost_while_away(self.alive, self.last, self.loaded, self.clock.now())

    def _say_started(self) -> None:
        where = self.owner.addresses
        _log.info(
            "started",
            version=self.version,
            gateway=self.settings.gateway.id,
            equipment=len(self.settings.equipment),
            connections=len(self.settings.connections),
            api=where.api or None,
            broker=where.broker or None,
            database=_without_secrets(where.database) or None,
            stream=self.journal.stream,
        )
        if self.owner.started is not None:
            self.owner.started(self.owner)

    async def _say_farewell(self, pipeline: asyncio.Task[None]) -> None:
        """Record what ends with the process; not for ever, since a full journal would never take it."""
        now = self.clock.now()
        last_words = [words for item in self.supervised for words in item.farewell(now)]
        try:
            async with asyncio.timeout(FAREWELL_S_MAX):
                await self.pipeline.finish(last_words)
                await pipeline
        except TimeoutError:
            pipeline.cancel()
            # The next start will say it: since the last proof of life nobody looked.
            _log.error("stopped without recording it", reason=words.full(self.journal.stats()))
        else:
            await self.snapshots.keeper.finish()

    async def _hand_on(self) -> None:
        """Wait a little while the sinks that are connected hand on what was recorded last."""
        deadline_s = self.clock.monotonic() + FAREWELL_S_MAX
        while self.clock.monotonic() < deadline_s:
            waiting = [
                name
                for name, sink in self.sinks.items()
                if (status := sink.status()).connected and status.lag_events
            ]
            if not waiting:
                return
            await self.clock.sleep(0.02)


async def publish_when_met(publish: Callable[[], Awaitable[None]], historian: Historian | None) -> None:
    """Tell the broker, once the database has been asked whether it knows this journal otherwise.

    An older copy of the journal numbers anew what others have heard of already. Where the database can say
    so, nobody hears it; where it cannot be asked, or takes long, the broker does not wait for it.
    """
    if historian is not None:
        try:
            async with asyncio.timeout(MEETING_S_MAX):
                await historian.met()
        except TimeoutError:
            _log.warning("the broker is told before the database has answered", waited_s=MEETING_S_MAX)
    await publish()


def _without_secrets(url: str) -> str:
    """An address as it may be shown: a password in it is left out."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}@{parts.netloc.rpartition('@')[2]}").geturl()
