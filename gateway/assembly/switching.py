"""How the parts of a run go from one configuration to another; see `exchange` for when.

Only here is it known what depends on what: publishers are stopped before the turn, because they name
equipment that is gone after it, and begin after it with what is true then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gateway.assembly.api import listen
from gateway.assembly.connections import connector_of
from gateway.assembly.ending import publish_when_met
from gateway.assembly.exchange import Applied, Prepared
from gateway.assembly.historian import build_historian, equipment_of, tags_of
from gateway.assembly.tasks import task_of
from gateway.assembly.turning import turned
from gateway.config.load import Loaded
from gateway.configured import unrecorded_tags
from gateway.errors import StartFailed
from gateway.journal import words
from gateway.live import first_state
from gateway.restart import memories_from
from gateway.snapshots.wiring import identity_of
from gateway.supervisor import Supervised
from gateway.waiting import Turn
from statemodel.engine import Engine
from statemodel.records import EquipmentState, Recorded
from statemodel.types import Transition

if TYPE_CHECKING:
    from gateway.assembly.running import Running


class Switching:
    """Implements `exchange.Parts` for one run."""

    def __init__(self, run: Running) -> None:
        self._run = run

    @property
    def loaded(self) -> Loaded:
        """What runs."""
        return self._run.loaded

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """As `Parts`."""
        return self._run.tasks.start("exchange", work)

    async def prepare(self, prepared: Prepared) -> None:
        """As `Parts`."""
        run, new, steps = self._run, prepared.loaded, prepared.steps
        if steps.equipment_differs:
            fresh = steps.anew.union(steps.equipment_new)
            Engine([spec for spec in new.equipment if spec.name in fresh], at=run.clock.now())
        if full := words.full(run.record.journal.stats()):
            raise StartFailed(f"nothing can be recorded: {full}", hint="make room, or let a sink read on")
        for settings in steps.come:
            prepared.connectors[settings.name] = connector_of(settings, new, run.clock)
        prepared.identity = await asyncio.to_thread(identity_of, new, run.version)
        prepared.followers = [follow(new) for follow in run.followers]
        await run.servers.ensure(new)
        run.brokers.try_out(new, run.servers.broker_port(new))
        prepared.serves_anew = new.configuration.api != run.loaded.configuration.api
        if prepared.serves_anew:
            stays = run.server is not None and _address(new) == _address(run.loaded)
            shared = run.server.share() if run.server is not None and stays else None
            prepared.server = await listen(new, run.ports, run.clock, shared)

    async def discard(self, prepared: Prepared) -> None:
        """As `Parts`."""
        if prepared.server is not None and prepared.server[0] is not self._run.server:
            await prepared.server[0].stop()
        await self._run.servers.settle(self._run.loaded)

    async def switch(self, prepared: Prepared) -> Applied:
        """As `Parts`."""
        run, new = self._run, prepared.loaded
        old_sinks = dict(run.sinks)
        ended, kept = await self._end_sinks(new)
        down = await self._end_connections(prepared)
        last = await run.record.journal.last_transitions()
        come = {
            one.name: run.builder.supervise(one, prepared.connectors[one.name], known_down=one.name in down)
            for one in prepared.steps.come
        }
        await run.core.pipeline.exchange(lambda at: self._turn(prepared, come, last, at))
        self._build_sinks(new, last, ended)
        await run.brokers.let_go()
        began = self._begin_what_does_not_run()
        for name in old_sinks.keys() - run.sinks.keys():
            run.record.journal.release(name)
        await self._serve(prepared)
        await run.servers.settle(new)
        return Applied(
            connections=tuple(dict.fromkeys((*prepared.steps.gone, *come))),
            sinks=tuple(
                name
                for name in dict.fromkeys((*ended, *began))
                if name not in kept and (name in run.sinks or name in ended)
            ),
            told_anew=tuple(kept),
            equipment=(
                *prepared.steps.equipment_gone,
                *prepared.steps.equipment_new,
                *sorted(prepared.steps.judged),
            ),
            api=prepared.serves_anew,
        )

    # -- before the turn

    async def _end_sinks(self, new: Loaded) -> tuple[list[str], Collection[str]]:
        """Stop what tells of things that are gone after the turn; gives their names, and the names of those
        among them whose connections are kept."""
        run = self._run
        ended = list(run.brokers.outdated(new, run.servers.broker_port(new)))
        if new.configuration.historian != run.loaded.configuration.historian and run.historian is not None:
            ended.append("historian")
        if new.configuration.gateway.snapshots.enabled != run.loaded.configuration.gateway.snapshots.enabled:
            await run.tasks.end(["snapshots"])
        if self._compares_otherwise(new, ended):
            await run.tasks.end(["reconciling"])
        kept = run.brokers.keep_links(ended)
        await run.tasks.end(ended)
        return ended, kept

    def _compares_otherwise(self, new: Loaded, ended: list[str]) -> bool:
        settings, before = new.configuration, self._run.loaded.configuration
        return (
            bool(ended)
            or any(getattr(settings, part) != getattr(before, part) for part in ("historian", "mqtt"))
            or settings.gateway.reconcile != before.gateway.reconcile
        )

    async def _end_connections(self, prepared: Prepared) -> set[str]:
        """Stop what is read no more, and hand in its last words; names those whose loss is on record then."""
        run, steps = self._run, prepared.steps
        await run.tasks.end(map(task_of, steps.gone))
        down = set()
        for name in steps.gone:
            item = run.supervised[name]
            last_words = item.farewell(run.clock.now(), steps.why(name))
            for last_word in last_words:
                await run.core.pipeline.offer(last_word)
            if last_words or item.reported_down:
                down.add(name)
        return down

    # -- the turn

    def _turn(
        self,
        prepared: Prepared,
        come: Mapping[str, Supervised],
        last: Mapping[str, Recorded],
        at: datetime,
    ) -> Turn:
        """What the pipeline goes on with; called between two of its steps, with everything before durable."""
        run, core, new, steps = self._run, self._run.core, prepared.loaded, prepared.steps
        engine = core.engine
        farewells: Sequence[Transition] = ()
        states: dict[str, EquipmentState] = {}
        if steps.equipment_differs:
            names = set(steps.equipment_new)
            asked = steps.anew | names
            told = turned(
                core.engine,
                run.loaded.equipment,
                new.equipment,
                steps,
                at=at,
                newest=core.live.latest(
                    tag for spec in new.equipment if spec.name in asked for tag in spec.inputs.values()
                ),
                remembered=memories_from({name: last[name] for name in names if name in last}, new),
                unseen_since=run.started_at,
            )
            engine, farewells = told.engine, told.farewells
            states = {
                spec.name: first_state(spec, told.memories[spec.name], last.get(spec.name))
                for spec in new.equipment
                if spec.name in names
            }
        why = {
            name: last[name].event.cause.text  # type: ignore[union-attr]
            for name in steps.equipment_new
            if name in last
        }

        keeper = run.record.snapshots.keeper

        def taken() -> None:
            configuration = new.configuration
            core.engine = engine
            core.live.exchange(configuration.connections, new.equipment, states, why, steps.gone)
            core.late.exchange(
                new.equipment,
                configuration.connections,
                engine=engine,
                changed=steps.judged,
                mode=configuration.gateway.late,
            )
            run.brokers.links.exchange(connection.name for connection in configuration.connections)
            if prepared.identity is not None:
                keeper.exchange(prepared.identity, configuration.gateway.snapshots)
            run.desk.exchange(new.equipment)
            run.models.exchange(new.models)
            run.tag_history.leave_out(unrecorded_tags(new))
            known = {**run.supervised, **come}
            run.supervised.clear()
            run.supervised.update({one.name: known[one.name] for one in configuration.connections})
            for follow in prepared.followers:
                follow()
            run.loaded = new

        return Turn(engine, steps.gone, steps.come, farewells, taken)

    # -- after the turn

    def _build_sinks(self, new: Loaded, last: Mapping[str, Recorded], ended: list[str]) -> None:
        """Build what is missing, and let everybody know of it."""
        run = self._run
        run.addresses.psql, dsn = run.servers.psql, run.servers.dsn(new)
        run.addresses.database = dsn
        if "historian" in ended or (run.historian is None and new.configuration.historian is not None):
            run.historian = build_historian(new, run.record, run.clock, dsn)
            for part in (run.history, run.corrections, run.tag_history):
                part.use(run.historian)
        elif run.historian is not None and (tags_of(new), equipment_of(new)) != run.historian.described:
            run.historian.describe(tags_of(new), equipment_of(new))
        run.brokers.exchange(new, run.servers.broker_port(new), last)
        run.addresses.broker = run.brokers.addresses
        run.core.pipeline.publish_to([feed.samples for feed in run.brokers.feeds])
        run.sinks.clear()
        if run.historian is not None:
            run.sinks["historian"] = run.historian
        run.sinks.update(run.brokers.sinks)

    def _begin_what_does_not_run(self) -> list[str]:
        """Start every part of the present configuration that has no task; gives their names."""
        run, began = self._run, []
        running = set(run.tasks.names())
        if "reconciling" not in running:
            run.reconciling.exchange(
                run.loaded,
                run.historian,
                run.addresses.database,
                run.brokers.publishers,
                run.brokers.ownership,
            )
            run.tasks.start("reconciling", run.reconciling.run())
        if "snapshots" not in running:
            run.tasks.start("snapshots", run.record.snapshots.keeper.run())
        if run.historian is not None and "historian" not in running:
            run.tasks.start("historian", run.historian.run())
            began.append("historian")
        for name, sink in run.brokers.sinks.items():
            if name not in running:
                run.tasks.start(name, publish_when_met(sink.run, run.historian))
                began.append(name)
        for name, item in run.supervised.items():
            if task_of(name) not in running:
                run.tasks.start(task_of(name), item.run())
                began.append(name)
        return began

    async def _serve(self, prepared: Prepared) -> None:
        """The new listener serves already; the old one ends its streams and finishes what is under way."""
        run = self._run
        if prepared.serves_anew:
            before, (run.server, run.addresses.api) = run.server, prepared.server or (None, "")
            if before is not None:
                # Not waited for: among what it has to finish may be the request that asks for this change.
                before.leave()
                run.leaving.add(leaving := asyncio.create_task(before.stop(), name="api that leaves"))
                leaving.add_done_callback(run.leaving.discard)


def _address(loaded: Loaded) -> str:
    return "" if loaded.configuration.api is None else loaded.configuration.api.listen
