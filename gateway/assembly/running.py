"""One run of the gateway: builds the parts, owns every task, starts and stops them in the right order.

Start: journal, what was true before, parts that can refuse (addresses, embedded servers), then connectors.
Stop: connectors first, then the last words into the journal, then a moment for the sinks to hand them on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import chain

import structlog

from api.server import Server
from connectors.base import Clock
from gateway.accounts.report import AccountsReport
from gateway.assembly.access import build_access, follow_access
from gateway.assembly.access import figures as access_figures
from gateway.assembly.access import parts_of_health as access_health
from gateway.assembly.addresses import Addresses, without_secrets
from gateway.assembly.api import build_ports, listen
from gateway.assembly.auditing import Watch, open_audit
from gateway.assembly.brokers import Brokers
from gateway.assembly.changing import Changing, follow_log_level
from gateway.assembly.commanding import Commanding
from gateway.assembly.connections import Builder
from gateway.assembly.core import (
    Core,
    build_engine,
    build_late,
    build_live,
    build_pipeline,
    standstill,
    watch_journal,
)
from gateway.assembly.ending import hand_on, publish_when_known, say_farewell
from gateway.assembly.exchange import Exchange, Follower
from gateway.assembly.historian import build_historian
from gateway.assembly.record import open_record
from gateway.assembly.servers import Servers
from gateway.assembly.serving import certificate_trouble, serving_figures
from gateway.assembly.switching import Switching
from gateway.assembly.tasks import Tasks, task_of
from gateway.config.load import Loaded
from gateway.configured import unrecorded_tags
from gateway.correcting import CorrectionDesk
from gateway.corrections import CorrectionBook
from gateway.health import HealthReport, SinkOf
from gateway.history import JoinedHistory
from gateway.models import ModelCatalogue
from gateway.reconcile.wiring import JournalRecord, Reconciling
from gateway.synchronized import ClockWatch
from gateway.tag_history import JoinedTagHistory

_log = structlog.get_logger("andon")


class Running:
    """The parts of one run, in the order they are built. `build` once, then `work` once."""

    def __init__(self, loaded: Loaded, clock: Clock, version: str, stack: AsyncExitStack) -> None:
        self.loaded, self.clock, self.version, self.stack = loaded, clock, version, stack
        self.addresses = Addresses()
        self.sinks: dict[str, SinkOf] = {}
        self.started_at = clock.now()
        self.server: Server | None = None
        #: Told of every configuration that is about to run; see `Follower`.
        self.followers: list[Follower] = []
        #: Listeners of before that finish what is under way.
        self.leaving: set[asyncio.Task[None]] = set()
        self.exchange = Exchange(Switching(self))
        #: What a restart has to admit is on record.
        self.known = asyncio.Event()

    async def build(self) -> None:
        """Build everything and listen; nothing is read from a device yet.

        Raises:
            GatewayError: a part could not start; the exit code says which.
        """
        loaded, clock = self.loaded, self.clock
        self.record = record = await open_record(loaded, clock, self.version, self.stack)
        self.audit = await open_audit(loaded, clock, self.stack)
        self.access = build_access(loaded, self.audit, clock, self.stack)
        self.followers.append(follow_access(self.access))
        self.changing = Changing(self.exchange, self.audit, clock)
        await self.changing.open()
        self.followers.append(follow_log_level)
        engine = build_engine(loaded, record, clock)
        record.snapshots.keeper.engine = lambda: self.core.engine.snapshot()
        self.health = HealthReport(clock)
        watch_journal(self.health, record)
        self.servers = Servers()
        self.stack.push_async_callback(self.servers.settle, None)
        await self.servers.ensure(loaded)
        self.addresses.psql, self.addresses.database = self.servers.psql, self.servers.dsn(loaded)
        self.historian = build_historian(loaded, record, clock, self.addresses.database)
        if self.historian is not None:
            self.sinks["historian"] = self.historian
        self.corrections = await CorrectionBook.open(record.journal, self.historian)
        self.history = history = JoinedHistory(record.journal, self.historian, self.corrections)
        live = build_live(loaded, record, engine, history)
        known = JournalRecord(record.journal, history)
        self.brokers = Brokers(record, clock, live, known, self.version)
        self.stack.push_async_callback(self.brokers.close)
        self.brokers.links.exchange(connection.name for connection in loaded.configuration.connections)
        self.brokers.exchange(loaded, self.servers.broker_port(loaded), record.last)
        live.standstill = standstill(record, self.brokers.links)
        self.addresses.broker = self.brokers.addresses
        self.sinks.update(self.brokers.sinks)
        late = build_late(loaded, record, engine, history, clock)
        pipeline = build_pipeline(
            loaded,
            record,
            clock,
            engine=engine,
            live=live,
            late=late,
            health=self.health,
            hearers=(self.brokers.links.announce, self.corrections.announce),
            feeds=self.brokers.feeds,
        )
        self.core = Core(engine, live, late, pipeline)
        self.watch = Watch(self.audit, loaded, record, pipeline, history, self.addresses, clock)
        self.followers.append(self.watch.follow)
        self.watch.access = self.access
        lost = {words.connection for words in record.lost_while_away(loaded, clock.now())}
        self.commanding = Commanding(
            loaded,
            live=live,
            audit=self.audit,
            record=pipeline.record,
            connectors=lambda: {name: one.connector for name, one in self.supervised.items()},
            clock=clock,
        )
        self.followers.append(self.commanding.follow)
        self.brokers.desk = self.commanding.desk
        self.builder = Builder(pipeline, clock, self.commanding.readings)
        self.supervised = self.builder.build_all(loaded, lost)
        live.supervised = self.supervised
        self.reconciling = Reconciling(
            loaded,
            journal=record.journal,
            clock=clock,
            live=live.states,
            memories=lambda: self.core.engine.memories(),
            historian=self.historian,
            dsn=self.addresses.database,
            publishers=self.brokers.publishers,
            record=known,
            ownership=self.brokers.ownership,
        )
        await self._serve(history)

    async def _serve(self, history: JoinedHistory) -> None:
        accounts = AccountsReport(self.record.accounts, self.core.pipeline.counts, self.sinks)
        self.health.supervised = self.supervised.values()
        self.health.sinks = self.sinks
        self.health.books = accounts.trouble
        self.health.audit = self.audit.trouble
        synchronized = ClockWatch()
        self.health.more = lambda: {
            **self.reconciling.parts_of_health(),
            **self.commanding.part_of_health(),
            **self.changing.health(),
            **self.watch.parts_of_health(),
            **access_health(self.access),
            **synchronized.part_of_health(),
        }
        self.models = ModelCatalogue(self.loaded.models)
        self.desk = CorrectionDesk(self.loaded.equipment, history, self.core.pipeline.record, self.clock)
        self.tag_history = JoinedTagHistory(
            self.record.journal, self.historian, unrecorded=unrecorded_tags(self.loaded)
        )
        self.ports = build_ports(
            self.loaded,
            self.record,
            self.core,
            self.clock,
            history=history,
            tag_history=self.tag_history,
            models=self.models,
            desk=self.desk,
            health=self.health,
            accounts=accounts,
            supervised=self.supervised,
            sinks=self.sinks,
            reconciling=self.reconciling,
            configuring=self.changing.desk,
            watch=self.watch,
            commanding=self.commanding,
            serving=lambda: chain(
                serving_figures(self.server, self.clock.now()),
                access_figures(self.access),
                synchronized.figures(),
            ),
            access=self.access,
            version=self.version,
        )
        self.health.certificate = lambda: certificate_trouble(self.server, self.clock.now())
        self.stack.push_async_callback(self._stop_serving)
        if (served := await listen(self.loaded, self.ports, self.clock)) is not None:
            self.server, self.addresses.api = served

    async def _stop_serving(self) -> None:
        if self.leaving:
            await asyncio.wait(self.leaving)
        if self.server is not None:
            await self.server.stop()

    async def work(self, stop: asyncio.Event, started: Callable[[], None]) -> None:
        """Work until `stop` is set; `started` is told when every part has begun.

        Raises:
            GatewayError: a part that must not fail has failed.
        """
        record, core, brokers = self.record, self.core, self.brokers
        async with asyncio.TaskGroup() as group:
            self.tasks = Tasks(group)
            if self.historian is not None:
                self.tasks.start("historian", self.historian.run())
            self._start_brokers()
            watch = brokers.links.keep_watch(lambda: record.journal.stats().full, self.clock)
            self.tasks.start("availability", watch)
            self.tasks.start("accounts", record.accounts.run())
            self.tasks.start("corrections", self.corrections.run())
            self.tasks.start("late", core.late.run())
            self.tasks.start("commands", self.commanding.run())
            self.tasks.start("reconciling", self.reconciling.run())
            self.tasks.start("snapshots", record.snapshots.keeper.run())
            self.tasks.start("audit", self.audit.run())
            self.tasks.start("audit-verify", self.audit.keep_verifying())
            self.tasks.start("access", self.access.run())
            self.tasks.start("configuration", self.changing.run())
            self.tasks.start("anchoring", self.watch.anchoring.run())
            self.tasks.start("compliance", self.watch.compliance.run())
            pipeline = group.create_task(core.pipeline.run(), name="pipeline")
            for lost in record.lost_while_away(self.loaded, self.clock.now()):
                await core.pipeline.offer(lost)
            self.tasks.start("beginning", self._begin())
            self._start_connections()
            self.health.started = True
            self._say_started()
            started()
            await stop.wait()
            _log.info("stopping", gateway=self.loaded.configuration.gateway.id)
            await self.tasks.end(["commands"])
            await self.commanding.stop()
            await self.exchange.close()
            await self.changing.desk.close()
            await self.tasks.end(map(task_of, self.supervised))
            now = self.clock.now()
            last_words = [words for item in self.supervised.values() for words in item.farewell(now)]
            await say_farewell(last_words, core.pipeline, pipeline, record)
            await hand_on(self.sinks, self.clock)
            await self.tasks.end(self.tasks.names())

    def _start_brokers(self) -> None:
        for name, sink in self.brokers.sinks.items():
            self.tasks.start(name, publish_when_known(sink.run, self.known, self.historian))

    def _start_connections(self) -> None:
        for name, item in self.supervised.items():
            self.tasks.start(task_of(name), item.run())

    async def _begin(self) -> None:
        await self.core.pipeline.caught_up()
        self.known.set()

    def _say_started(self) -> None:
        where, settings = self.addresses, self.loaded.configuration
        _log.info(
            "started",
            version=self.version,
            gateway=settings.gateway.id,
            equipment=len(settings.equipment),
            connections=len(settings.connections),
            api=where.api or None,
            broker=where.broker or None,
            database=without_secrets(where.database) or None,
            stream=self.record.journal.stream,
        )
