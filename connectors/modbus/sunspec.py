"""Finding SunSpec models in a device, and tags for what they hold. Pure: asks its caller to do the reading.

A device that speaks SunSpec has the marker "SunS" at register 40000, 0 or 50000 (on the wire, no reference
numbers), and behind it models, each with its id and length, until the id 0xFFFF. So the whole of it can be
walked without knowing a model; what a model holds is known for those in `sunspec_models`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from connectors.modbus.codec import BlockFormat, registers_bytes
from connectors.modbus.layout import ADDRESS_MAX, SUNSPEC, Address, Kind, Signal, Table, parse_type
from connectors.modbus.plan import Limits, ReadRequest, request_of
from connectors.modbus.sunspec_models import DESCRIPTIONS, MODELS, Model, Point
from connectors.modbus.values import Flaw
from statemodel.types import TagValue

BASES = (40000, 0, 50000)
#: "SunS"
MARKER = (0x5375, 0x6E53)
END_ID = 0xFFFF
#: More models than that, and it is no chain of models.
MODELS_MAX = 256
_HEADER = 2
#: Scale factors beyond this are none; SunSpec has -10 to 10.
_SCALE_MAX = 10

#: SunSpec's types in ours. Text has its own length.
_TYPES = {
    "int16": "int16",
    "uint16": "uint16",
    "enum16": "uint16",
    "sunssf": "int16",
    "count": "uint16",
    "acc32": "uint32",
    "bitfield32": "uint32",
    "float32": "float32",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A model met in a device: its id, where that stands, how many registers follow, and which.

    `registers` are all of it, id and length included; empty where they were not read.
    """

    id: int
    start: int
    length: int
    registers: tuple[int, ...] = ()

    @property
    def model(self) -> Model | None:
        """What is known of it; None when nothing is."""
        return MODELS.get(self.id)

    @property
    def title(self) -> str:
        """Its name, for people."""
        return self.model.title if self.model is not None else "not known here"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a walk found. `base` is None when there is no marker; `remark` says what was not in order."""

    base: int | None
    blocks: tuple[Block, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A point as a tag could read it. `absent` when the device does not implement it."""

    block: Block
    point: Point
    address: Address
    type: str
    scale: float = 1.0
    no_value: str | int | None = None
    value: TagValue = None
    absent: bool = False
    problem: str = ""

    @property
    def description(self) -> str:
        """One line for people."""
        return DESCRIPTIONS.get(self.point.name, "")


Walk = Generator[ReadRequest, "tuple[int, ...] | None", Survey]


def walk(limits: Limits) -> Walk:
    """Look for the marker, then follow the models.

    Yields what to read and is sent the registers, or None where the device refuses them.
    """
    for base in BASES:
        if (yield _read(base, len(MARKER))) == MARKER:
            return (yield from _follow(base, limits))
    return Survey(None)


def _follow(base: int, limits: Limits) -> Walk:
    blocks: list[Block] = []
    at = base + len(MARKER)
    remark = ""
    while True:
        if at + _HEADER > ADDRESS_MAX + 1:
            remark = f"the chain of models leaves the table at holding:{at}, without an end"
            break
        header = yield _read(at, _HEADER)
        if header is None:
            remark = f"the device refuses holding:{at}, where the next model or the end should be"
            break
        id_, length = header
        if id_ == END_ID:
            break
        if id_ == 0 or len(blocks) == MODELS_MAX or at + _HEADER + length > ADDRESS_MAX + 1:
            remark = f"holding:{at} begins no model (id {id_}, length {length}); there is no end either"
            break
        block = Block(id_, at, length)
        if block.model is not None and block.model.points:
            registers = yield from _read_all(at, _HEADER + length, limits)
            if registers is None:
                remark = f"the device refuses the registers of model {id_} at holding:{at}"
            else:
                block = replace(block, registers=registers)
        blocks.append(block)
        at += _HEADER + length
    return Survey(base, tuple(blocks), remark)


def _read_all(
    start: int, count: int, limits: Limits
) -> Generator[ReadRequest, tuple[int, ...] | None, tuple[int, ...] | None]:
    registers: tuple[int, ...] = ()
    while len(registers) < count:
        part = min(count - len(registers), limits.registers_per_request)
        words = yield _read(start + len(registers), part)
        if words is None:
            return None
        registers += words
    return registers


def _read(start: int, count: int) -> ReadRequest:
    return ReadRequest(Table.HOLDING, start, count, ())


def proposals(block: Block) -> Iterator[Proposal]:
    """The points of a model as tags, with the values that were read; scale factors and fillers are none.

    Points that lie beyond the length the device gave are left out: an older form of the model has fewer.
    """
    model = block.model
    if model is None or not block.registers:
        return
    places = {point.name: point for point in model.points}
    for point in model.points:
        fits = point.offset + point.registers <= len(block.registers)
        if fits and point.type not in ("sunssf", "pad"):
            yield _proposal(block, point, places)


def _proposal(block: Block, point: Point, places: dict[str, Point]) -> Proposal:
    type_ = _TYPES.get(point.type, point.type)
    no_value: str | int = 0 if point.type == "acc32" else SUNSPEC
    proposal = Proposal(
        block, point, Address(Table.HOLDING, block.start + point.offset), type_, no_value=no_value
    )
    if point.scale:
        factor = _decoded(block, places[point.scale], "int16")
        if factor is not None and not -_SCALE_MAX <= int(factor) <= _SCALE_MAX:
            return replace(proposal, problem=f"its scale factor {point.scale} is {factor}")
        # Not implemented means 0. From its text, so that -1 is 0.1 and not the nearest power.
        proposal = replace(proposal, scale=float(f"1e{factor or 0}"))
    value = _decoded(block, point, type_, no_value, proposal.scale)
    return replace(proposal, value=value, absent=value is None and point.type != "acc32")


def _decoded(
    block: Block, point: Point, type_: str, no_value: str | int = SUNSPEC, scale: float = 1.0
) -> Any:
    """The value of a point now; None when it has none."""
    words = block.registers[point.offset : point.offset + point.registers]
    parsed = parse_type(type_)
    scale = 1.0 if parsed.kind is Kind.STRING else scale
    signal = Signal("", Address(Table.HOLDING, 0), parsed, scale=scale, no_value=no_value)
    (decoded,) = BlockFormat(request_of((signal,))).decode(registers_bytes(words))
    return None if isinstance(decoded, Flaw) else decoded
