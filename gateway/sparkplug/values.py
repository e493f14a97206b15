"""What a payload says, as frozen values: metrics, properties, tables, templates. Knows no bytes.

Times are aware datetimes; the wire keeps whole milliseconds, so finer ones are cut (towards the past).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec

from gateway.errors import GatewayError
from gateway.sparkplug.datatypes import DataType


class PayloadProblem(GatewayError):
    """Base of the two below. `place` says where in the payload, as people would; the text begins with it."""

    def __init__(self, reason: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(f"{place}: {reason}" if place else reason, hint=hint)
        self.place = place


class NotSparkplug(PayloadProblem):
    """Bytes somebody sent us are no Sparkplug payload, or one beyond our bounds. Count it and drop it."""


class WrongValue(PayloadProblem):
    """A value does not fit the type it is said to have. Nothing is wrapped, cut or guessed to make it fit."""


class Raw(msgspec.Struct, frozen=True):
    """A value whose type was not sent with it: the field of the payload it came in, and what that held.

    DATA and CMD leave types out; `payload.resolve` makes the value of it with the type from the birth.
    `value` is an unsigned integer, float, bool, text, bytes or `DataSet` or `Template`, as the field is.
    """

    field: str
    value: Any


class Property(msgspec.Struct, frozen=True):
    """One property of a metric: a scalar type, PropertySet or PropertySetList; None is null."""

    datatype: DataType
    value: PropertyData


class MetaData(msgspec.Struct, frozen=True):
    """More about a metric's value: of a file, or what comes in parts. `size` in bytes. None: not said."""

    is_multi_part: bool | None = None
    content_type: str | None = None
    size: int | None = None
    seq: int | None = None
    file_name: str | None = None
    file_type: str | None = None
    md5: str | None = None
    description: str | None = None


class DataSet(msgspec.Struct, frozen=True):
    """A table: names and types of the columns, and rows as wide. Types are scalar; None is null."""

    columns: tuple[str, ...]
    types: tuple[DataType, ...]
    rows: tuple[tuple[Scalar, ...], ...] = ()


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of a template: a scalar type; None is null, or no default in a definition."""

    name: str
    datatype: DataType
    value: Scalar = None


class Template(msgspec.Struct, frozen=True):
    """A structure: a definition (then `ref` is None), or an instance of the definition named `ref`.

    A definition's name is the name of the metric that holds it. It belongs in node births only, with all
    members and parameters; an instance has all of them in births and any of them in DATA.
    """

    metrics: tuple[Metric, ...]
    parameters: tuple[Parameter, ...] = ()
    ref: str | None = None
    version: str | None = None

    @property
    def is_definition(self) -> bool:
        """Whether this says what instances look like."""
        return self.ref is None


#: No properties: shared, and cannot be changed.
NONE: Mapping[str, Property] = MappingProxyType({})


class Metric(msgspec.Struct, frozen=True):
    """A named value at an instant.

    Births give name, alias (where there is one) and datatype; DATA and CMD the alias alone. `datatype` is
    what the value is; whether it is also sent is the payload's `typed`. `at` is when the value was so; None
    where the sender did not say. `historical` marks what is not the newest value, `transient` what no
    historian need keep. None is null, whatever the type. The Python type of a value: see `DataType`.

    A metric somebody else sent without a type has the datatype None and a `Raw` value.
    """

    name: str | None
    alias: int | None
    datatype: DataType | None
    value: Value
    at: datetime | None
    historical: bool = False
    transient: bool = False
    properties: Mapping[str, Property] = NONE
    metadata: MetaData | None = None


class Payload(msgspec.Struct, frozen=True):
    """What one message says.

    `at` is when it was sent; `seq` 0 to 255, None in NDEATH and commands. With `typed` each metric's type is
    sent: True for births (tck-id-payloads-metric-datatype-req) and NDEATH, False for DATA and commands
    (tck-id-payloads-metric-datatype-not-req). A payload somebody sent is `typed` when every
    metric in it was, members of templates too.
    """

    at: datetime | None
    seq: int | None
    metrics: Sequence[Metric]
    typed: bool = True


Scalar = bool | int | float | str | datetime | UUID | None
PropertyData = Scalar | Mapping[str, Property] | Sequence[Mapping[str, Property]]
Value = Scalar | bytes | tuple[Any, ...] | DataSet | Template | Raw
