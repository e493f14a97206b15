"""The plant's OPC UA servers: asyncua behind a gate that can drop, freeze and delay.

Asyncua listens on a loopback port of its own choosing; clients reach it through the gate only. Values are
written with the plant's instant as their source timestamp, straight into the address space. Keep-alives of
this server carry an *empty* list of notifications instead of none, as some devices' do: a client must not
count them as notifications.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import ua as _ua
from asyncua.server.server import Server

from simulators.address_space import CopyingServer
from simulators.alarms import ALARMED, NAME, SEVERITY, alarm_of
from simulators.link import Gate, Link
from simulators.machine import Value
from simulators.maps import ARM_NODE, COMMAND_NODE, NAMESPACE, SPEED_NODE, OpcuaGroup
from simulators.opcua_relay import Outgoing
from simulators.opcua_writes import JudgedWrites
from simulators.packml import COMMANDS
from simulators.plant import Change
from simulators.writes import Fate, Trouble, WriteLedger

ua: Any = _ua  # its annotations ask for wrapper types (Int32, String, DateTime) where it takes plain values

OnCommand = Callable[[str, str], None]
OnAdjust = Callable[[str, str, float], None]

_INNER_HOST: Final = "127.0.0.1"
_EMPTY: Final[dict[str, Value]] = {"Boolean": False, "String": "", "Float": 0.0, "Double": 0.0}


class OpcuaServer:
    """One OPC UA server with its groups of nodes. Call `put` with tag values; clients read or subscribe."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        groups: tuple[OpcuaGroup, ...],
        on_command: OnCommand,
        on_adjust: OnAdjust | None = None,
        ledger: WriteLedger | None = None,
    ) -> None:
        self.name = name
        self.gate = Gate(host, port, self._relay)
        self.trouble = Trouble(name)
        self.ledger = ledger if ledger is not None else WriteLedger()
        """Of the writes that come in."""
        self._groups = groups
        self._on_command = on_command
        self._on_adjust = on_adjust
        self._server = Server(CopyingServer())
        self._inner_port = 0
        self._clock: asyncio.Task[None] | None = None
        self._kinds: dict[tuple[str, str], Any] = {}
        self._node_ids: dict[tuple[str, str], Any] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._latest: dict[tuple[str, str], Value] = {}
        self._spoilt: dict[tuple[str, str], int] = {}
        self._armed: dict[Any, tuple[str, Any]] = {}
        self._writable: dict[Any, tuple[str, str]] = {}
        self._ranges: dict[Any, tuple[float, float]] = {}
        self._alarms: dict[str, Any] = {}
        self._unjudged: Any = None

    @property
    def endpoint(self) -> str:
        """Where clients connect."""
        return f"opc.tcp://{self.gate.host}:{self.gate.port}"

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the plant's variables, such as `Filler.StateCurrent`."""
        return tuple(self._names)

    async def load(self) -> None:
        """Build the address space and start the inner server; the gate stays shut."""
        server = self._server
        server.iserver.bind_condition_methods = 1  # alarms are told when asked; 1 is that event's severity
        await server.init()
        server.set_server_name(f"Andon simulated plant, {self.name}")
        await server.set_application_uri(f"urn:andon:simulator:{self.name}")
        server.set_endpoint(f"opc.tcp://{_INNER_HOST}:0/")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        server.disable_clock()  # its clock takes a second to stop; ours is below
        await self._add_nodes(await server.register_namespace(NAMESPACE))
        await server.start()
        self._unjudged = server.iserver.attribute_service  # what the server writes at its start and end
        server.iserver.attribute_service = JudgedWrites(
            server.iserver.aspace, self._ranges, self.trouble, self._note, self._written
        )
        assert server.bserver is not None
        self._inner_port = server.bserver.port
        self._clock = asyncio.create_task(self._tell_time())

    async def close(self) -> None:
        """Stop everything and free the ports."""
        await self.gate.close()
        if self._clock is not None:
            self._clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._clock
            self._server.iserver.attribute_service = self._unjudged
            await self._server.stop()
            self._clock = None

    async def put(self, values: Iterable[tuple[str, str, Value]], at: datetime) -> None:
        """Take over (owner, tag, value) with source time `at`. Values that have no node here are ignored."""
        for owner, tag, value in values:
            key = (owner, tag)
            if key in self._node_ids:
                self._latest[key] = value
                if not _is_bad(self._spoilt.get(key, 0)):
                    await self._tell(key, at)

    async def spoil(self, names: Iterable[str], status: int, at: datetime) -> None:
        """Give these nodes this `status` until `mend`: without a value when it is bad, with it when
        uncertain.

        Raises:
            KeyError: there is no node of that name.
        """
        for key in [self._names[name] for name in names]:
            self._spoilt[key] = status
            await self._tell(key, at)

    async def mend(self, names: Iterable[str], at: datetime) -> None:
        """Give these nodes their present values and a good status back."""
        for key in [self._names[name] for name in names]:
            if self._spoilt.pop(key, None) is not None:
                await self._tell(key, at)

    async def command_taken(self, equipment: str, at: datetime) -> None:
        """The machine has taken a command: `CmdChangeRequest` goes back to false."""
        if self.trouble.keeps_request:
            return
        await self.put(((equipment, ARM_NODE, False),), at)

    async def tell_alarms(self, changes: Iterable[Change], at: datetime) -> None:
        """Tell of the alarms of machines that are served here, as they stand after these changes."""
        for change in changes:
            standing, generator = alarm_of(change), self._alarms.get(change.equipment)
            if standing is None or generator is None:
                continue
            event = generator.event
            setattr(event, "ActiveState/Id", standing.active)
            setattr(event, "AckedState/Id", standing.acknowledged)
            event.Retain = standing.active
            event.Message = ua.LocalizedText(f"{event.SourceName} {standing.message}")
            await generator.trigger(at)

    async def _add_alarm(self, group: OpcuaGroup, index: int) -> None:
        generator = await self._server.get_event_generator(ua.ObjectIds.OffNormalAlarmType)
        event = generator.event
        event.SourceName, event.SourceNode = group.prefix, ua.NodeId(group.prefix, index)
        event.NodeId = ua.NodeId(f"{group.prefix}.{NAME}", index)
        event.ConditionName, event.BranchId, event.Severity = NAME, ua.NodeId(), SEVERITY
        self._alarms[group.owner] = generator

    async def _tell(self, key: tuple[str, str], at: datetime) -> None:
        status = self._spoilt.get(key, 0)
        value = None if _is_bad(status) else ua.Variant(self._latest[key], self._kinds[key])
        await self._server.write_attribute_value(
            self._node_ids[key], ua.DataValue(value, ua.StatusCode(status), SourceTimestamp=at)
        )

    async def _add_nodes(self, index: int) -> None:
        now = datetime.now(UTC)
        plant = await self._server.nodes.objects.add_folder(ua.NodeId("Plant", index), f"{index}:Plant")
        for group in self._groups:
            parent = await plant.add_object(ua.NodeId(group.prefix, index), f"{index}:{group.prefix}")
            for node in group.nodes:
                kind = ua.VariantType[node.kind]
                first = _EMPTY.get(node.kind, 0)
                name = f"{group.prefix}.{node.tag}"
                node_id = ua.NodeId(name, index)
                variable = await parent.add_variable(node_id, f"{index}:{node.tag}", first, kind)
                if node.writable:
                    await variable.set_writable()
                key = (group.owner, node.tag)
                if node.writable:
                    self._writable[node_id] = key
                if node.range is not None:
                    self._ranges[node_id] = node.range
                self._kinds[key], self._node_ids[key], self._names[name] = kind, node_id, key
                self._latest[key] = first
                await self._tell(key, now)
                if node.tag == ARM_NODE:
                    self._armed[node_id] = (group.owner, ua.NodeId(f"{group.prefix}.{COMMAND_NODE}", index))
            if group.owner in ALARMED:
                await self._add_alarm(group, index)

    def _note(self, node: str, value: object, done: str, code: int) -> None:
        self.ledger.note(self.name, "Write", node, [value], done, code)

    def _written(self, node_id: Any, before: Any, value: Any) -> None:
        """After a client's write: was a command handed over, or a set point?"""
        key = self._writable.get(node_id)
        if key is None:
            return
        self._latest[key] = value
        if key[1] == SPEED_NODE and self._on_adjust is not None:
            self._on_adjust(key[0], key[1], value)
        armed = self._armed.get(node_id)
        if armed is None or not value or before or self.trouble.deaf:
            return  # only the rising edge hands a command over; the falling one arms anew
        owner, command_node = armed
        code = self._present(command_node)
        self._on_command(owner, COMMANDS.get(code, f"CntrlCmd {code}"))

    def _present(self, node_id: Any) -> Any:
        value: Any = self._server.iserver.read_attribute_value(node_id).Value
        return value.Value

    async def _tell_time(self) -> None:
        """Keep the server's own time nodes going, once a second."""
        status_id = ua.NodeId(ua.ObjectIds.Server_ServerStatus)
        time_id = ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)
        while True:
            status = self._present(status_id)
            now = datetime.now(UTC)
            status.CurrentTime = now
            for node_id, value in ((status_id, status), (time_id, now)):
                await self._server.write_attribute_value(
                    node_id, ua.DataValue(ua.Variant(value), SourceTimestamp=now)
                )
            await asyncio.sleep(1.0)

    async def _relay(self, link: Link) -> None:
        """Pass bytes between a client and the inner server until either closes."""
        reader, writer = await asyncio.open_connection(_INNER_HOST, self._inner_port)
        inwards = asyncio.create_task(_pump_in(link, writer))
        outgoing = Outgoing()
        try:
            while data := await reader.read(65536):
                for message, answers_write in outgoing.messages(data):
                    fate, delay_s = self.trouble.fate() if answers_write else (Fate.ANSWERED, 0.0)
                    if fate is Fate.CUT:
                        link.reset()
                        return
                    if fate is Fate.LOST:
                        outgoing.take_out()
                    else:
                        await link.send(outgoing.numbered(message), delay_s)
        finally:
            inwards.cancel()
            writer.close()
            await asyncio.gather(inwards, return_exceptions=True)
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _is_bad(status: int) -> bool:
    return status >= 0x8000_0000


async def _pump_in(link: Link, writer: asyncio.StreamWriter) -> None:
    while data := await link.read():
        writer.write(data)
        await writer.drain()
    writer.close()
