"""Settings of Modbus tags, groups and device limits, and the judgement of them. Opens nothing.

Messages read `reason; hint`; where the setting stands is pydantic's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from connectors.modbus.layout import (
    ADDRESS_MAX,
    Address,
    DataType,
    Kind,
    LayoutError,
    Order,
    Range,
    Signal,
    Table,
    parse_address,
    parse_order,
    parse_range,
    parse_type,
)
from connectors.modbus.plan import Limits
from connectors.modbus.values import parse_no_value
from connectors.settings import Duration, GroupSettings, Settings, TagSettings
from connectors.settings import Range as LowestAndHighest

_NUMBERS_HINT = "only numbers have a scale, an offset and a clamp"


def refuse(reason: str) -> PydanticCustomError:
    """An error that says exactly `reason` (in the form `reason; hint`)."""
    return PydanticCustomError("modbus", "{reason}", {"reason": reason})


def _longer_than_nothing(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise refuse('must be longer than nothing; such as "1s"')
    return value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _ranges(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _no_value(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


#: A duration that must last.
PositiveDuration = Annotated[Duration, AfterValidator(_longer_than_nothing)]


class ModbusTag(TagSettings):
    """One signal of a Modbus device."""

    address: Annotated[str, BeforeValidator(_text)]
    """`holding:100`, `input:7`, `coil:3`, `discrete:12`, `holding:100.4` (bit), or a number: `40101`."""
    type: str | None = Field(default=None, validate_default=True)
    """bool int16 uint16 int32 uint32 int64 uint64 float32 float64 bcd16 bcd32 string(n); bits need none."""
    order: Order = Order.ABCD
    """Order of the bytes of a value of more than one register: ABCD CDAB BADC DCBA, and two of 64 bits."""
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """The value is raw * scale + offset."""
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Added after scaling."""
    clamp: LowestAndHighest | None = None
    """Lowest and highest value there can be; one beyond is told as that limit, uncertain, and not written."""
    no_value: Annotated[str | None, BeforeValidator(_no_value)] = None
    """Raw value by which the device says that it has none, or "sunspec" for that of the type."""

    def kind(self) -> Literal["bool", "integer", "fraction", "text"] | None:
        """What its values are. A counted number that is scaled is a measured one."""
        if self.type is None:
            return None
        kind = parse_type(self.type).kind
        if kind is Kind.BOOL:
            return "bool"
        if kind is Kind.STRING:
            return "text"
        scaled = not (self.scale.is_integer() and self.offset.is_integer())
        return "fraction" if scaled or str(kind).startswith("float") else "integer"

    def read_only(self) -> str:
        """Two of the four tables are inputs (Modbus application protocol 1.1b3, section 4.3)."""
        table = parse_address(self.address).table
        return f"is {table}, which cannot be written" if table in (Table.INPUT, Table.DISCRETE) else ""

    @field_validator("address")
    @classmethod
    def _address_exists(cls, value: str) -> str:
        try:
            return str(parse_address(value))
        except LayoutError as error:
            raise refuse(str(error)) from error

    @field_validator("type")
    @classmethod
    def _type_fits(cls, value: str | None, info: ValidationInfo) -> str | None:
        try:
            type_ = parse_type(value) if value is not None else None
        except LayoutError as error:
            raise refuse(str(error)) from error
        if "address" not in info.data:  # refused already
            return value
        address = parse_address(info.data["address"])
        one_bit = address.table.of_bits or address.bit is not None
        if type_ is None:
            if not one_bit:
                raise refuse(f"a {address.table} register needs a type; such as uint16, int32 or float32")
            return str(Kind.BOOL)
        if one_bit and type_.kind is not Kind.BOOL:
            place = f"a {address.table}" if address.table.of_bits else f"bit {address.bit} of a register"
            raise refuse(f"{place} is one bit and holds no {type_}; its type is bool")
        if not one_bit and type_.kind is Kind.BOOL:
            raise refuse(
                f"a bool is one of the 16 bits of a register; name it, such as {address}.0, or use uint16"
            )
        if not one_bit and address.start + type_.registers > ADDRESS_MAX + 1:
            raise refuse(
                f"{type_} takes {type_.registers} registers and the table ends at {ADDRESS_MAX}; "
                f"the last address it fits at is {ADDRESS_MAX + 1 - type_.registers}"
            )
        return str(type_)

    @field_validator("order", mode="before")
    @classmethod
    def _order_exists(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str) or isinstance(value, Order):
            return value
        type_ = info.data.get("type")
        try:
            return parse_order(value, parse_type(type_) if type_ is not None else None)
        except LayoutError as error:
            raise refuse(str(error)) from error

    @field_validator("order")
    @classmethod
    def _order_means_something(cls, value: Order, info: ValidationInfo) -> Order:
        if value is Order.ABCD or info.data.get("type") is None:
            return value
        type_ = parse_type(info.data["type"])
        if type_.kind is Kind.STRING:
            if value is not Order.BADC:
                raise refuse(
                    f"characters have no order {value}; "
                    "ABCD has the first character in the high byte of a register, BADC in the low byte"
                )
        elif type_.registers == 1:
            raise refuse(f"{type_} is one register, whose bytes have a fixed order; leave `order` out")
        return value

    @field_validator("scale")
    @classmethod
    def _scale_means_something(cls, value: float, info: ValidationInfo) -> float:
        if value == 0:
            raise refuse("a scale of 0 makes every value the same; leave `scale` out for 1")
        return cls._numbers_only(value, value != 1.0, info)

    @field_validator("offset")
    @classmethod
    def _offset_means_something(cls, value: float, info: ValidationInfo) -> float:
        return cls._numbers_only(value, value != 0.0, info)

    @field_validator("clamp")
    @classmethod
    def _clamp_means_something(
        cls, value: tuple[float, float] | None, info: ValidationInfo
    ) -> tuple[float, float] | None:
        cls._numbers_only(0.0, value is not None, info)
        return value

    @field_validator("no_value")
    @classmethod
    def _no_value_exists(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or info.data.get("type") is None:
            return value
        if parse_address(info.data["address"]).table.of_bits:
            raise refuse("a single bit is 0 or 1, and both are values; leave `no_value` out")
        try:
            absent = parse_no_value(value, parse_type(info.data["type"]))
        except LayoutError as error:
            raise refuse(str(error)) from error
        return str(absent)

    @staticmethod
    def _numbers_only(value: float, used: bool, info: ValidationInfo) -> float:
        type_ = info.data.get("type")
        if used and type_ is not None and parse_type(type_).kind in (Kind.BOOL, Kind.STRING):
            raise refuse(f"{type_} is no number; {_NUMBERS_HINT}")
        return value

    def layout(self) -> tuple[Address, DataType]:
        """Place and type, parsed."""
        return parse_address(self.address), parse_type(self.type or str(Kind.BOOL))

    def signal(self, tag_id: str) -> Signal:
        """The tag as planner and codec see it."""
        address, type_ = self.layout()
        absent = None if self.no_value is None else parse_no_value(self.no_value, type_)
        return Signal(tag_id, address, type_, self.order, self.scale, self.offset, self.clamp, absent)


class ModbusGroup(GroupSettings):
    """Tags of a Modbus device that are read together."""

    interval: PositiveDuration
    """Poll period."""
    tags: tuple[ModbusTag, ...] = ()


class ModbusLimits(Settings):
    """What the device can take. The defaults are the protocol's own limits."""

    registers_per_request: Annotated[int, Field(ge=1, le=125)] = 125
    """Most registers in one request; some devices refuse the 125 the protocol allows."""
    bits_per_request: Annotated[int, Field(ge=1, le=2000)] = 2000
    """Most coils or discrete inputs in one request."""
    gap_max: Annotated[int, Field(ge=0, le=123)] = 8
    """Registers read needlessly, at most, to join two tags into one request (16 times as many bits)."""
    forbidden: Annotated[tuple[str, ...], BeforeValidator(_ranges)] = ()
    """Addresses that are never read, not even between tags: `holding:200-299`, `coil:7`, `40201-40300`."""
    one_request_per_tag: bool = False
    """Ask for each tag alone, for devices that answer only what begins and ends where their values do."""
    pause: Duration = timedelta(0)
    """Rest between an answer and the next request, for devices that need one."""

    @field_validator("forbidden")
    @classmethod
    def _ranges_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(parse_range(text)) for text in value)
        except LayoutError as error:
            raise refuse(str(error)) from error

    def for_plan(self) -> Limits:
        """The part of it the planner keeps to."""
        return Limits(
            self.registers_per_request,
            self.bits_per_request,
            self.gap_max,
            tuple(parse_range(text) for text in self.forbidden),
            self.one_request_per_tag,
        )


def unreadable(groups: Sequence[ModbusGroup], limits: ModbusLimits) -> list[InitErrorDetails]:
    """The tags that no request may read, each at its place among the settings of a connection."""
    allowed = limits.for_plan()
    found: list[InitErrorDetails] = []
    for index, group in enumerate(groups):
        for number, tag in enumerate(group.tags):
            signal = tag.signal(tag.name)
            barred = allowed.forbids(signal.address.table, signal.start, signal.end)
            if barred is not None:
                key = "address"
                reason = (
                    f"{_extent(signal)} lies in {barred}, which limits.forbidden says is never read; "
                    "leave the tag out, or make the forbidden range smaller"
                )
            elif not signal.address.table.of_bits and signal.width > limits.registers_per_request:
                key = "type"
                reason = (
                    f'the tag "{tag.name}" takes {signal.width} registers, and one request may read '
                    f"{limits.registers_per_request}; a value is never read in two parts: "
                    "raise limits.registers_per_request or shorten the string"
                )
            else:
                continue
            place = ("groups", index, "tags", number, key)
            found.append(InitErrorDetails(type=refuse(reason), loc=place, input=getattr(tag, key)))
    return found


def _extent(signal: Signal) -> str:
    return str(signal.address if signal.width == 1 else Range(signal.address.table, signal.start, signal.end))
