"""Which value of the plant stands where on the wire. The README shows the same tables; a test compares them.

Configurations on site are written against these maps: change one only with the README and a line in the
changelog.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from simulators.modbus_pdu import COILS, DISCRETES, HOLDING, INPUT, Block, Limit

NAMESPACE: Final = "urn:andon:plant"
SERVERS: Final = ("opcua-a", "opcua-b", "modbus-a", "modbus-b")
"""In the order of their ports."""
PORTS: Final[dict[str, int]] = {"opcua-a": 48400, "opcua-b": 48401, "modbus-a": 15020, "modbus-b": 15021}
UNIT: Final = 1


@dataclass(frozen=True, slots=True)
class Node:
    """One OPC UA variable: `PREFIX.tag`, of an OPC UA built-in type."""

    tag: str
    kind: str
    writable: bool = False
    range: tuple[float, float] | None = None
    """What a client may write; anything else is refused."""


@dataclass(frozen=True, slots=True)
class OpcuaGroup:
    """The variables of one owner (equipment, or the line) under one object node."""

    prefix: str
    owner: str
    nodes: tuple[Node, ...]


COMMAND_NODE, ARM_NODE, SPEED_NODE = "CntrlCmd", "CmdChangeRequest", "CmdMachSpeed"
SPEED_RANGE: Final = (0.0, 400.0)
"""Speeds a machine of the line can be given, 1/min."""
_PARAMETER_RANGE: Final = (-1000.0, 1000.0)

_PACKML_NODES: Final = (
    Node("StateCurrent", "Int32"),
    Node("StateRequested", "Int32"),
    Node("StateChangeInProcess", "Boolean"),
    Node("UnitModeCurrent", "Int32"),
    Node("MachSpeed", "Float"),
    Node("CurMachSpeed", "Float"),
    Node("ProdProcessedCount", "Int32"),
    Node("ProdDefectiveCount", "Int32"),
    Node("Blocked", "Boolean"),
    Node("Starved", "Boolean"),
    Node("StopReason", "Int32"),
    Node("Product", "String"),
    Node(COMMAND_NODE, "Int32", writable=True),
    Node(ARM_NODE, "Boolean", writable=True),
    Node(SPEED_NODE, "Float", writable=True, range=SPEED_RANGE),
    *(Node(f"Parameter{n}", "Float", writable=True, range=_PARAMETER_RANGE) for n in (1, 2, 3, 4)),
)
_LINE_NODES: Final = (
    Node("Running", "Boolean"),
    Node("Speed", "Double"),
    Node("GoodCount", "UInt32"),
    Node("Buffer1", "Float"),
    Node("Buffer2", "Float"),
    Node("Buffer3", "Float"),
    Node("Order", "String"),
    Node("Heartbeat", "UInt32"),
)

OPCUA: Final[dict[str, tuple[OpcuaGroup, ...]]] = {
    "opcua-a": (
        OpcuaGroup("Filler", "filler-1", _PACKML_NODES),
        OpcuaGroup("Capper", "capper-1", _PACKML_NODES),
    ),
    "opcua-b": (
        OpcuaGroup("Labeller", "labeller-1", _PACKML_NODES),
        OpcuaGroup("Line", "line", _LINE_NODES),
    ),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tag stands in a Modbus table. `bit` is set for a bit of a register."""

    table: str
    address: int
    kind: str
    owner: str
    tag: str
    order: str = "ABCD"
    scale: float = 1.0
    bit: int | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A writable place that commands a machine instead of keeping a value.

    With `words` the written number chooses the command; without, any value but zero hands over the PackML
    command that `argument` (an address in the same table) holds.
    """

    table: str
    address: int
    owner: str
    words: tuple[tuple[int, str], ...] = ()
    argument: int | None = None


@dataclass(frozen=True, slots=True)
class Setpoint:
    """Two writable registers (float32, ABCD) that give a machine its speed."""

    address: int
    owner: str
    tag: str


@dataclass(frozen=True, slots=True)
class ModbusMap:
    """All that one server answers for, on unit 1."""

    blocks: dict[str, tuple[Block, ...]]
    mirrored: tuple[Block, ...]
    """Holding registers that can be read as input registers too."""
    writable: dict[str, tuple[Block, ...]]
    places: tuple[Place, ...]
    triggers: tuple[Trigger, ...] = field(default=())
    setpoints: tuple[Setpoint, ...] = ()
    limits: tuple[Limit, ...] = ()


def _at(owner: str, *rows: tuple[str, str, str, str, float]) -> tuple[Place, ...]:
    """Rows of (address, type, order, tag, scale), as the README writes them, to places."""
    places = []
    for address, kind, order, tag, scale in rows:
        table, _, number = address.partition(":")
        register, _, bit = number.partition(".")
        places.append(
            Place(table, int(register), kind, owner, tag, order or "ABCD", scale, int(bit) if bit else None)
        )
    return tuple(places)


MODBUS: Final[dict[str, ModbusMap]] = {
    "modbus-a": ModbusMap(
        blocks={
            HOLDING: (range(64), range(100, 122)),
            INPUT: (range(64),),
            COILS: (range(16),),
            DISCRETES: (range(16),),
        },
        mirrored=(range(64),),
        writable={HOLDING: (range(100, 122),), COILS: (range(16),)},
        places=_at(
            "palletiser-1",
            ("holding:0", "uint16", "", "state", 1),
            ("holding:1", "uint16", "", "unit_mode", 1),
            ("holding:2", "uint16", "", "state_requested", 1),
            ("holding:3", "uint16", "", "stop_reason", 1),
            ("holding:4", "uint32", "ABCD", "processed", 1),
            ("holding:6", "uint32", "CDAB", "defective", 1),
            ("holding:8", "float32", "ABCD", "mach_speed", 1),
            ("holding:10", "float32", "CDAB", "cur_speed", 1),
            ("holding:12", "int16", "", "lift_height", 0.1),
            ("holding:13.0", "bool", "", "blocked", 1),
            ("holding:13.1", "bool", "", "starved", 1),
            ("holding:13.2", "bool", "", "executing", 1),
            ("holding:13.3", "bool", "", "fault", 1),
            ("holding:14", "uint64", "ABCD", "energy_wh", 1),
            ("holding:18", "float64", "ABCD", "mains_voltage", 1),
            ("holding:22", "bcd16", "", "layer", 1),
            ("holding:23", "bcd32", "ABCD", "pallets", 1),
            ("holding:25", "string(8)", "", "pallet_id", 1),
            ("holding:29", "int32", "DCBA", "balance", 1),
            ("holding:31", "float32", "BADC", "motor_temp", 1),
            ("discrete:0", "bool", "", "executing", 1),
            ("discrete:1", "bool", "", "blocked", 1),
            ("discrete:2", "bool", "", "starved", 1),
            ("discrete:3", "bool", "", "fault", 1),
        ),
        triggers=(Trigger(HOLDING, 101, "palletiser-1", argument=100),),
        setpoints=(Setpoint(120, "palletiser-1", SPEED_NODE),),
        limits=(Limit(HOLDING, 120, *SPEED_RANGE),),
    ),
    "modbus-b": ModbusMap(
        blocks={
            HOLDING: (range(32), range(100, 132), range(200, 216)),
            INPUT: (range(32), range(100, 132)),
            COILS: (range(16),),
            DISCRETES: (range(16),),
        },
        mirrored=(range(32), range(100, 132)),
        writable={HOLDING: (range(200, 216),), COILS: (range(1), range(8, 9))},
        places=_at(
            "oven-1",
            ("holding:0", "int16", "", "temp", 0.1),
            ("holding:1", "int16", "", "set_point", 0.1),
            ("holding:2", "float32", "ABCD", "temp", 1),
            ("holding:4", "uint32", "ABCD", "energy_wh", 1),
            ("holding:6", "uint16", "", "batches", 1),
            ("holding:7.0", "bool", "", "run", 1),
            ("holding:7.1", "bool", "", "door", 1),
            ("holding:7.2", "bool", "", "burner", 1),
            ("discrete:0", "bool", "", "door", 1),
            ("discrete:1", "bool", "", "run", 1),
            ("coil:0", "bool", "", "run", 1),
        )
        + _at(
            "compressor-1",
            ("holding:100.0", "bool", "", "running", 1),
            ("holding:100.1", "bool", "", "loaded", 1),
            ("holding:101", "uint16", "", "pressure", 0.01),
            ("holding:102", "float32", "CDAB", "run_hours", 1),
            ("holding:104", "uint32", "ABCD", "run_seconds", 1),
            ("holding:106", "uint16", "", "starts", 1),
            ("holding:107", "uint32", "CDAB", "loads", 1),
            ("holding:109", "float32", "ABCD", "power", 1),
            ("discrete:8", "bool", "", "running", 1),
            ("discrete:9", "bool", "", "loaded", 1),
            ("coil:8", "bool", "", "running", 1),
        ),
        triggers=(
            Trigger(COILS, 0, "oven-1", words=((1, "start"), (0, "stop"))),
            Trigger(COILS, 8, "compressor-1", words=((1, "start"), (0, "stop"))),
        ),
    ),
}
