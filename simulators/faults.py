"""Faults while they last: each is put on one server, told, held, and taken off again.

The plant goes on living under every fault; only what can be seen of it on that server suffers. The kinds:

    drop         connections are reset and new ones refused
    freeze       connections are accepted and kept, nothing is read or answered; what waited is served after
    late         every answer is held back by `delay_s`
    exceptions   Modbus: every request is answered with exception `code`
    wrong        Modbus: every answer is wrong in the way `how` says
    bad_quality  OPC UA: the named nodes have the status code `status`

and of writes alone:

    lost_answers, late_answers, cut_answers
                 a `share` of the writes is carried out, and then the answer is lost, held back by `delay_s`,
                 or the connection is reset in its stead
    ignored_writes
                 a `share` of the writes is answered with yes, and not carried out
    deaf         machines take no commands
    keep_request machines leave `CmdChangeRequest` as it was written
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from simulators.ledger import rfc3339
from simulators.link import Gate
from simulators.modbus_server import ModbusServer
from simulators.opcua_server import OpcuaServer
from simulators.orders import STATUSES, WRITE_FAULTS, Fault
from simulators.writes import Trouble

Say = Callable[[dict[str, Any]], None]


class _Effect(Protocol):
    async def put_on(self, fault: Fault) -> None: ...

    async def take_off(self, fault: Fault) -> None: ...


class FaultDesk:
    """Starts, holds and ends faults, and says when: `say` gets an event at each start and end."""

    def __init__(self, servers: Mapping[str, ModbusServer | OpcuaServer], say: Say) -> None:
        self._servers = servers
        self._say = say
        self._active: dict[tuple[str, str], asyncio.Task[None]] = {}

    @property
    def active(self) -> tuple[tuple[str, str], ...]:
        """The faults that last, as (kind, server)."""
        return tuple(self._active)

    def start(self, fault: Fault) -> str | None:
        """Begin a fault. Returns the reason when it cannot begin."""
        key = (fault.kind, fault.server)
        if key in self._active:
            return f"{fault.kind} is already on {fault.server}; clear it first"
        server = self._servers[fault.server]
        unknown = [
            node for node in fault.nodes if isinstance(server, OpcuaServer) and node not in server.nodes
        ]
        if unknown:
            return (
                f"{fault.server} has no node {', '.join(unknown)}; it has {', '.join(server_nodes(server))}"
            )
        self._active[key] = asyncio.create_task(self._hold(fault, _effect(fault, server)))
        return None

    async def clear(self, server: str | None = None) -> None:
        """End the faults of one server, or all; returns when they have ended."""
        tasks = [task for key, task in self._active.items() if server in (None, key[1])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hold(self, fault: Fault, effect: _Effect) -> None:
        try:
            self._tell("fault_start", fault)
            try:
                await effect.put_on(fault)
                await asyncio.sleep(fault.seconds) if fault.seconds else await asyncio.Event().wait()
            finally:
                await effect.take_off(fault)
        except OSError as error:
            self._say({"error": f"{fault.kind} on {fault.server} could not be ended: {error}"})
        finally:
            self._active.pop((fault.kind, fault.server), None)
            self._tell("fault_end", fault)

    def _tell(self, event: str, fault: Fault) -> None:
        now = datetime.now(UTC)
        self._say(
            {
                "event": event,
                "fault": fault.kind,
                "server": fault.server,
                "seconds": fault.seconds,
                "at": rfc3339(now),
                "mono": round(time.monotonic(), 6),
            }
        )


def server_nodes(server: ModbusServer | OpcuaServer) -> tuple[str, ...]:
    """The node names of a server that has any."""
    return server.nodes if isinstance(server, OpcuaServer) else ()


class _Drop:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def put_on(self, fault: Fault) -> None:
        await self._gate.refuse()

    async def take_off(self, fault: Fault) -> None:
        await self._gate.accept()


class _Freeze:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def put_on(self, fault: Fault) -> None:
        self._gate.thawed.clear()

    async def take_off(self, fault: Fault) -> None:
        self._gate.thawed.set()


class _Late:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def put_on(self, fault: Fault) -> None:
        self._gate.delay_s = fault.delay_s

    async def take_off(self, fault: Fault) -> None:
        self._gate.delay_s = 0.0


class _Exceptions:
    def __init__(self, server: ModbusServer) -> None:
        self._server = server

    async def put_on(self, fault: Fault) -> None:
        self._server.exception_code = fault.code

    async def take_off(self, fault: Fault) -> None:
        self._server.exception_code = None


class _Wrong:
    def __init__(self, server: ModbusServer) -> None:
        self._server = server

    async def put_on(self, fault: Fault) -> None:
        self._server.wrong = fault.how

    async def take_off(self, fault: Fault) -> None:
        self._server.wrong = None


class _BadQuality:
    def __init__(self, server: OpcuaServer) -> None:
        self._server = server

    async def put_on(self, fault: Fault) -> None:
        await self._server.spoil(fault.nodes or self._server.nodes, STATUSES[fault.status], datetime.now(UTC))

    async def take_off(self, fault: Fault) -> None:
        await self._server.mend(fault.nodes or self._server.nodes, datetime.now(UTC))


class _OfWrites:
    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble

    async def put_on(self, fault: Fault) -> None:
        self._trouble.put_on(fault.kind, fault.share, fault.delay_s)

    async def take_off(self, fault: Fault) -> None:
        self._trouble.take_off(fault.kind)


def _effect(fault: Fault, server: ModbusServer | OpcuaServer) -> _Effect:
    at_gate: dict[str, Callable[[Gate], _Effect]] = {"drop": _Drop, "freeze": _Freeze, "late": _Late}
    if fault.kind in at_gate:
        return at_gate[fault.kind](server.gate)
    if fault.kind in WRITE_FAULTS:
        return _OfWrites(server.trouble)
    if isinstance(server, OpcuaServer):
        return _BadQuality(server)
    return _Exceptions(server) if fault.kind == "exceptions" else _Wrong(server)
