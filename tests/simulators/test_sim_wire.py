"""The whole plant on the wire: clients read what the ledger says, and every fault does what it says."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua as _ua
from asyncua.client.client import Client as _Client
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from simulators.ledger import Ledger
from simulators.link import Gate
from simulators.maps import MODBUS, NAMESPACE, OPCUA, SERVERS
from simulators.modbus_server import ModbusServer
from simulators.opcua_server import OpcuaServer
from simulators.orders import Clear, Command, Fault, Go, Quit, Randomness
from simulators.play import rehearse
from simulators.scenario import load, parse
from simulators.simulation import Options, OptionsError, PlantClock, Simulation
from tests.support.patience import PATIENCE_S
from tests.support.ports import ports_in_a_row

Client: Any = partial(_Client, timeout=PATIENCE_S)
ua: Any = _ua

QUIET = parse(
    """
    [behaviour]
    random = false
    min_dwell = "100ms"
    acting = ["100ms", "150ms"]
    waiting = ["100ms", "150ms"]
    [start]
    "filler-1" = "Idle"
    "palletiser-1" = "Idle"
    """,
    "quiet",
)


class Ear:
    """Keeps what the simulation says, and lets a test wait for it."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def __call__(self, event: dict[str, Any]) -> None:
        self.heard.append(event)
        self._news.set()

    async def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for event in self.heard:
                    if wanted(event):
                        return event
                self._news.clear()
                await self._news.wait()

    async def event(self, name: str, fault: str) -> dict[str, Any]:
        return await self.wait_for(lambda event: event.get("event") == name and event.get("fault") == fault)


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def plant(ear: Ear, tmp_path: Path) -> AsyncIterator[Simulation]:
    # Ports of our own: what is closed for a while comes back at the same place.
    first = ports_in_a_row(len(SERVERS))
    options = Options(scenario=QUIET, port_base=first, ledger=tmp_path / "ledger.jsonl")
    async with Simulation(options, ear) as running:
        yield running


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ledger_of(plant: Simulation) -> Path:
    assert plant.options.ledger is not None
    return plant.options.ledger


def modbus(plant: Simulation, name: str, timeout: float = PATIENCE_S) -> AsyncModbusTcpClient:
    port = int(plant.endpoints[name].rsplit(":", 1)[1])
    return AsyncModbusTcpClient("127.0.0.1", port=port, retries=0, timeout=timeout)


def node(client: Any, name: str) -> Any:
    return client.get_node(ua.NodeId(name, 2))


async def until(reached: Callable[[], Any], wanted: Any) -> None:
    """Poll until `reached()` gives `wanted`."""
    async with asyncio.timeout(PATIENCE_S):
        while (await reached()) != wanted:
            await asyncio.sleep(0.01)


class Changes:
    """A subscription's values, in order."""

    def __init__(self) -> None:
        self.values: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(1000)

    def datachange_notification(self, node_: Any, value: int, data: Any) -> None:
        self.values.put_nowait((value, data.monitored_item.Value))


async def test_a_subscriber_sees_every_state_with_the_ledgers_own_time(tmp_path: Path, ear: Ear) -> None:
    path = tmp_path / "ledger.jsonl"
    options = Options(scenario="story", seed=4, port_base=0, ledger=path, wait_for_go=True)
    async with Simulation(options, ear) as plant, Client(plant.endpoints["opcua-a"]) as client:
        assert await client.get_namespace_index(NAMESPACE) == 2
        changes = Changes()
        subscription = await client.create_subscription(50, changes)
        await subscription.subscribe_data_change(node(client, "Capper.StateCurrent"), queuesize=20)
        await plant.order(Go())
        seen: list[tuple[int, Any]] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(seen) < 8:
                seen.append(await changes.values.get())
        await subscription.delete()
    own = [line for line in lines(path) if line["equipment"] == "capper-1"][:8]
    assert [line["code"] for line in own] == [code for code, _ in seen]
    told = [data.SourceTimestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for _, data in seen]
    assert told == [line["at"] for line in own]
    gaps = [later["mono"] - earlier["mono"] for earlier, later in pairwise(own)]
    assert min(gaps[1:]) >= 0.45


async def test_the_ledger_is_what_was_rehearsed_and_is_written_before_the_wire(
    tmp_path: Path, ear: Ear
) -> None:
    path = tmp_path / "ledger.jsonl"
    options = Options(scenario="story", seed=9, speed=5.0, port_base=0, ledger=path)
    async with Simulation(options, ear) as plant:
        client = modbus(plant, "modbus-a")
        assert await client.connect()
        looks = 0
        while looks < 60 or len(lines(path)) <= 6:
            looks += 1
            code = (await client.read_holding_registers(0, count=1, device_id=1)).registers[0]
            told = [line["code"] for line in lines(path) if line["equipment"] == "palletiser-1"]
            assert code in told
            await asyncio.sleep(0.02)
        client.close()
    ledger = lines(path)
    assert [line["n"] for line in ledger] == list(range(1, len(ledger) + 1))
    expected = rehearse(load("story"), 9, 100.0, speed=5.0)
    assert [(line["equipment"], line["from"], line["to"], line["code"]) for line in ledger] == [
        (change.equipment, change.from_state, change.to_state, change.code)
        for change in expected[: len(ledger)]
    ]
    assert [line["mono"] for line in ledger] == sorted(line["mono"] for line in ledger)


async def test_a_scenario_that_ends_says_so_once_and_goes_on_serving(tmp_path: Path, ear: Ear) -> None:
    short = parse('duration = "500ms"\n[behaviour]\nmin_dwell = "50ms"\nacting = ["50ms", "80ms"]\n', "short")
    path = tmp_path / "ledger.jsonl"
    async with Simulation(Options(scenario=short, port_base=0, ledger=path), ear) as plant:
        async with asyncio.timeout(PATIENCE_S):
            await plant.finished.wait()
        client = modbus(plant, "modbus-a")
        assert await client.connect()
        assert (await client.read_holding_registers(0, count=1, device_id=1)).registers[0] in (2, 9)
        client.close()
    (done,) = [event for event in ear.heard if event.get("done")]
    assert done["transitions"] == len(lines(path)) - 6


@pytest.mark.writes
async def test_clients_command_machines(plant: Simulation, ear: Ear) -> None:
    async with Client(plant.endpoints["opcua-a"]) as client:
        await node(client, "Filler.CntrlCmd").write_value(ua.Variant(2, ua.VariantType.Int32))
        await node(client, "Filler.CmdChangeRequest").write_value(True)
        await until(node(client, "Filler.StateCurrent").read_value, 6)
        await until(node(client, "Filler.CmdChangeRequest").read_value, False)
        with pytest.raises(ua.UaStatusCodeError, match=r"BadUserAccessDenied|BadNotWritable"):
            await node(client, "Filler.StateCurrent").write_value(ua.Variant(4, ua.VariantType.Int32))
        await node(client, "Filler.CntrlCmd").write_value(ua.Variant(9, ua.VariantType.Int32))
        await node(client, "Filler.CmdChangeRequest").write_value(True)
        refused = await ear.wait_for(lambda event: event.get("event") == "refused")
        assert "clear is not allowed in Execute" in refused["reason"]
    reader = modbus(plant, "modbus-a")
    assert await reader.connect()
    await reader.write_registers(100, [2, 1], device_id=1)

    async def state() -> Any:
        return (await reader.read_holding_registers(0, count=1, device_id=1)).registers[0]

    await until(state, 6)
    reader.close()


class Alarms:
    """A subscription's events, in order: source, active, acknowledged, and the time of it."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue(1000)

    def event_notification(self, event: Any) -> None:
        fields = event.get_event_props_as_fields_dict()
        if "ActiveState/Id" not in fields:
            return
        standing = (fields["ActiveState/Id"].Value, fields["AckedState/Id"].Value)
        self.events.put_nowait((event.SourceName, *standing, event.Severity, event.Time))


async def test_an_aborted_machine_raises_its_alarm_until_it_is_cleared(plant: Simulation) -> None:
    async with Client(plant.endpoints["opcua-a"]) as client:
        alarms = Alarms()
        subscription = await client.create_subscription(50, alarms)
        type_ = ua.ObjectIds.OffNormalAlarmType
        await subscription.subscribe_alarms_and_conditions(evtypes=type_, queuesize=20)
        await plant.order(Command("filler-1", "abort"))
        async with asyncio.timeout(PATIENCE_S):
            raised = await alarms.events.get()
            await until(node(client, "Filler.StateCurrent").read_value, 9)
            await plant.order(Command("filler-1", "clear"))
            heard = [raised, await alarms.events.get(), await alarms.events.get()]
        await subscription.delete()
        again = Alarms()
        subscription = await client.create_subscription(50, again)
        await plant.order(Command("capper-1", "abort"))
        await until(node(client, "Capper.StateCurrent").read_value, 9)
        await subscription.subscribe_alarms_and_conditions(evtypes=type_, queuesize=20)
        conditions = client.get_node(ua.ObjectIds.ConditionType)
        refresh = ua.NodeId(ua.ObjectIds.ConditionType_ConditionRefresh)
        number = ua.Variant(subscription.subscription_id, ua.VariantType.UInt32)
        await conditions.call_method(refresh, number)
        async with asyncio.timeout(PATIENCE_S):
            standing = await again.events.get()
    assert [one[:4] for one in heard] == [
        ("Filler", True, False, 800),
        ("Filler", True, True, 800),
        ("Filler", False, True, 800),
    ]
    assert standing[:3] == ("Capper", True, False), "an alarm that stands is told when asked for"
    told = [line for line in lines(ledger_of(plant)) if line.get("alarm")]
    assert [(line["equipment"], line["alarm"]) for line in told] == [
        *(("filler-1", word) for word in ("raised", "acknowledged", "gone")),
        ("capper-1", "raised"),
    ]
    assert [one[4].strftime("%Y-%m-%dT%H:%M:%S.%fZ") for one in (*heard, standing)] == [
        line["at"] for line in told
    ]


async def test_orders_run_machines_and_say_why_not(plant: Simulation, ear: Ear) -> None:
    await plant.order(Command("compressor-1", "start"))
    client = modbus(plant, "modbus-b")
    assert await client.connect()

    async def bits() -> Any:
        return (await client.read_holding_registers(100, count=1, device_id=1)).registers[0]

    await until(bits, 0b01)
    client.close()
    await plant.order(Command("compressor-1", "unload"))
    refused = await ear.wait_for(lambda event: event.get("event") == "refused")
    assert refused["reason"] == "compressor-1: unload is not allowed in Unloaded"
    await plant.order(Randomness(True, "labeller-1"))

    async def labeller_moved() -> Any:
        return any(line["equipment"] == "labeller-1" and line["from"] for line in lines(ledger_of(plant)))

    await until(labeller_moved, True)
    await plant.order(Quit())
    async with asyncio.timeout(PATIENCE_S):
        await plant.stopped()


# --- faults --------------------------------------------------------------------------------------


async def test_drop_resets_refuses_and_comes_back_on_the_same_port(plant: Simulation, ear: Ear) -> None:
    port = int(plant.endpoints["modbus-b"].rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await plant.order(Fault("drop", "modbus-b"))
    await ear.event("fault_start", "drop")
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await plant.order(Clear("modbus-b"))
    await ear.event("fault_end", "drop")
    client = modbus(plant, "modbus-b")
    assert await client.connect()
    assert not (await client.read_coils(0, count=1, device_id=1)).isError()
    client.close()


async def test_a_fault_of_some_time_lasts_that_long_and_ends_by_itself(plant: Simulation, ear: Ear) -> None:
    await plant.order(Fault("drop", "modbus-b", 0.4))
    start, end = await ear.event("fault_start", "drop"), await ear.event("fault_end", "drop")
    assert end["mono"] - start["mono"] >= 0.4


async def test_drop_ends_opcua_sessions_and_lets_new_ones_in(plant: Simulation, ear: Ear) -> None:
    client = Client(plant.endpoints["opcua-b"])
    await client.connect()
    await plant.order(Fault("drop", "opcua-b", 0.3))
    await ear.event("fault_start", "drop")
    with pytest.raises((ConnectionError, OSError, ua.UaError, asyncio.TimeoutError)):
        await node(client, "Line.Order").read_value()
    client.disconnect_socket()
    await ear.event("fault_end", "drop")
    async with Client(plant.endpoints["opcua-b"]) as again:
        assert await node(again, "Line.Order").read_value() == "WO-1001"


async def test_freeze_answers_nothing_until_it_ends(plant: Simulation, ear: Ear) -> None:
    port = int(plant.endpoints["modbus-b"].rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await plant.order(Fault("freeze", "modbus-b", 0.5))
    started = await ear.event("fault_start", "freeze")
    fresh_reader, fresh_writer = await asyncio.open_connection("127.0.0.1", port)  # accepted all the same
    for waiting in (writer, fresh_writer):
        waiting.write(bytes.fromhex("0001 0000 0006 01 03 00C8 0001"))
    for answering in (reader, fresh_reader):
        assert await answering.readexactly(11) == bytes.fromhex("0001 0000 0005 01 03 02 0000")
    assert time.monotonic() - started["mono"] >= 0.5
    for waiting in (writer, fresh_writer):
        waiting.close()


async def test_an_opcua_session_outlives_a_freeze_and_the_plant_goes_on(plant: Simulation, ear: Ear) -> None:
    async with Client(plant.endpoints["opcua-a"]) as client:
        changes = Changes()
        subscription = await client.create_subscription(50, changes)
        await subscription.subscribe_data_change(node(client, "Filler.StateCurrent"), queuesize=20)
        assert (await changes.values.get())[0] == 4
        await plant.order(Fault("freeze", "opcua-a", 0.6))
        await ear.event("fault_start", "freeze")
        await plant.order(Command("filler-1", "start"))
        async with asyncio.timeout(PATIENCE_S):
            assert (await changes.values.get())[0] == 3
            assert ear.heard[-1]["event"] == "fault_end", "a notification came through a frozen gate"
            assert (await changes.values.get())[0] == 6
        await subscription.delete()


async def test_late_answers_come_late_and_in_order(plant: Simulation, ear: Ear) -> None:
    await plant.order(Fault("late", "modbus-b", delay_s=0.3))
    await ear.event("fault_start", "late")
    client = modbus(plant, "modbus-b")
    assert await client.connect()

    async def took_s() -> float:
        asked_s = time.monotonic()
        assert not (await client.read_coils(0, count=1, device_id=1)).isError()
        return time.monotonic() - asked_s

    late = [await took_s() for _ in range(3)]
    assert min(late) >= 0.3
    assert min(late) < 1.5
    await plant.order(Clear("modbus-b"))
    await ear.event("fault_end", "late")
    assert min([await took_s() for _ in range(5)]) < 0.3
    client.close()


async def test_exceptions_have_the_code_that_was_asked_for(plant: Simulation, ear: Ear) -> None:
    client = modbus(plant, "modbus-a")
    assert await client.connect()
    await plant.order(Fault("exceptions", "modbus-a", code=6))
    await ear.event("fault_start", "exceptions")
    assert (await client.read_holding_registers(0, count=1, device_id=1)).exception_code == 6
    await plant.order(Clear(None))
    await ear.event("fault_end", "exceptions")
    assert (await client.read_holding_registers(0, count=1, device_id=1)).registers == [4]
    client.close()


@pytest.mark.parametrize(
    ("how", "reply"),
    [
        ("transaction", "0008 0000 0007 01 03 04 0000 0000"),
        ("unit", "0007 0000 0007 02 03 04 0000 0000"),
        ("function", "0007 0000 0007 01 04 04 0000 0000"),
        ("short", "0007 0000 0005 01 03 02 0000"),
        ("truncated", "0007 0000 0007 01 03 04 00"),
    ],
)
async def test_wrong_answers_are_wrong_in_the_way_asked_for(how: str, reply: str) -> None:
    server = ModbusServer("modbus-b", "127.0.0.1", 0, MODBUS["modbus-b"], 1, lambda equipment, word: None)
    await server.gate.open()
    server.wrong = how
    reader, writer = await asyncio.open_connection("127.0.0.1", server.gate.port)
    writer.write(bytes.fromhex("0007 0000 0006 01 03 00C8 0002"))
    expected = bytes.fromhex(reply)
    assert await reader.readexactly(len(expected)) == expected
    server.wrong = None
    writer.write(bytes.fromhex("0008 0000 0006 01 03 00C8 0001"))
    assert await reader.readexactly(11) == bytes.fromhex("0008 0000 0005 01 03 02 0000")
    writer.close()
    await server.gate.close()


async def test_a_client_library_does_not_take_a_wrong_answer(plant: Simulation, ear: Ear) -> None:
    client = modbus(plant, "modbus-a", timeout=1.0)
    while not await client.connect():
        pass
    await plant.order(Fault("wrong", "modbus-a", how="truncated"))
    await ear.event("fault_start", "wrong")
    with pytest.raises(ModbusIOException):
        await client.read_holding_registers(0, count=2, device_id=1)
    client.close()


async def test_bad_quality_hides_the_value_and_gives_the_present_one_back(
    plant: Simulation, ear: Ear
) -> None:
    async with Client(plant.endpoints["opcua-a"]) as client:
        state, speed = node(client, "Filler.StateCurrent"), node(client, "Filler.CurMachSpeed")
        await plant.order(
            Fault("bad_quality", "opcua-a", nodes=("Filler.StateCurrent",), status="BadSensorFailure")
        )
        await ear.event("fault_start", "bad_quality")

        async def status() -> Any:
            return (await state.read_data_value(raise_on_bad_status=False)).StatusCode.value

        await until(status, 0x808C0000)
        assert (await state.read_data_value(raise_on_bad_status=False)).Value.Value is None
        assert await speed.read_value() == 0.0
        await plant.order(Command("filler-1", "start"))
        await until(speed.read_value, pytest.approx(300, rel=0.05))
        assert await status() == 0x808C0000
        await plant.order(Clear("opcua-a"))
        await ear.event("fault_end", "bad_quality")
        assert await state.read_value() == 6


async def test_uncertain_quality_keeps_the_value_going(plant: Simulation, ear: Ear) -> None:
    async with Client(plant.endpoints["opcua-a"]) as client:
        await plant.order(Fault("bad_quality", "opcua-a", status="UncertainLastUsableValue"))
        state = node(client, "Filler.StateCurrent")

        async def status() -> Any:
            data = await state.read_data_value(raise_on_bad_status=False)
            return (data.StatusCode.value, data.Value.Value)

        await until(status, (0x40900000, 4))
        await plant.order(Command("filler-1", "start"))
        await until(status, (0x40900000, 6))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("bad_quality", "opcua-a", nodes=("Filler.Nothing",)), "opcua-a has no node Filler.Nothing"),
        (Fault("late", "modbus-a"), "late is already on modbus-a"),
    ],
)
async def test_a_fault_that_cannot_begin_says_why(
    plant: Simulation, ear: Ear, fault: Fault, reason: str
) -> None:
    await plant.order(Fault("late", "modbus-a"))
    await plant.order(fault)
    refused = await ear.wait_for(lambda event: event.get("event") == "refused")
    assert reason in refused["reason"]


# --- beginning and end ---------------------------------------------------------------------------


async def test_nothing_is_left_after_the_end(ear: Ear, tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    # Ports of our own: what is closed for a while comes back at the same place.
    first = ports_in_a_row(len(SERVERS))
    options = Options(scenario=QUIET, port_base=first, ledger=tmp_path / "ledger.jsonl")
    async with Simulation(options, ear) as plant:
        ports = [int(endpoint.rsplit(":", 1)[1]) for endpoint in plant.endpoints.values()]
        client = Client(plant.endpoints["opcua-a"], timeout=2)
        await client.connect()  # goes on for longer than the server
        for server in ("opcua-a", "modbus-a"):
            await plant.order(Fault("freeze", server))
        await plant.order(Fault("drop", "modbus-b"))
        await ear.event("fault_start", "drop")
    client.disconnect_socket()
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            probe.listen()

    async def left() -> Any:
        return [task for task in asyncio.all_tasks() - before if "simulators" in repr(task)]

    await until(left, [])


def test_two_plants_cannot_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("an old story\n")
    first = Ledger(path)
    assert path.read_text() == ""
    with pytest.raises(OSError, match="another simulator"):
        Ledger(path)
    first.close()
    Ledger(path).close()


async def test_a_port_in_use_is_an_error_and_frees_the_others(ear: Ear) -> None:
    with socket.socket() as taken:
        base = ports_in_a_row(len(SERVERS))
        taken.bind(("127.0.0.1", base + SERVERS.index("modbus-b")))
        taken.listen()
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            async with Simulation(Options(scenario=QUIET, port_base=base), ear):
                pytest.fail("started on a port in use")
    gate = Gate("127.0.0.1", base, lambda link: asyncio.sleep(0))
    await gate.open()
    await gate.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"host": "0.0.0.0"}, "add --allow-remote"),
        ({"host": "plant.example"}, "is not an IP address"),
        ({"speed": 0.0}, "must be from 0.1 to 100"),
        ({"port_base": 80}, "must be 0, or from 1024"),
    ],
)
def test_wrong_options_are_refused_with_a_hint(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(OptionsError, match=reason):
        Options(**options)


def test_the_clock_waits_rather_than_shortens_a_state() -> None:
    clock = PlantClock(2.0, 100.0)
    assert clock.mono_s(4.0) == 102.0
    clock.played(4.0, 102.01)  # hardly late: made up for
    assert clock.mono_s(5.0) == 102.5
    clock.played(5.0, 103.5)  # a second late: everything after moves by as much
    assert clock.mono_s(6.0) == 104.0
    assert clock.plant_s(104.0) == 6.0


async def test_an_opcua_server_is_browsed_like_a_real_one() -> None:
    server = OpcuaServer("opcua-b", "127.0.0.1", 0, OPCUA["opcua-b"], lambda equipment, word: None)
    await server.load()
    await server.gate.open()
    async with Client(server.endpoint) as client:
        found = await client.nodes.objects.get_child(["2:Plant", "2:Labeller", "2:StateCurrent"])
        assert found.nodeid == ua.NodeId("Labeller.StateCurrent", 2)
        endpoints = await client.get_endpoints()
        assert [endpoint.EndpointUrl.rstrip("/") for endpoint in endpoints] == [server.endpoint]
        assert "Line.Speed" in server.nodes
        before = await client.get_node(ua.ObjectIds.Server_ServerStatus_CurrentTime).read_value()

        async def moved() -> Any:
            return (await client.get_node(ua.ObjectIds.Server_ServerStatus_CurrentTime).read_value()) > before

        await until(moved, True)
    await server.close()
