"""Bytes to values. Anybody on the broker can send us anything: bounded in bytes, values and depth, and every
fault is one `NotSparkplug` that says where and what.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from gateway.sparkplug import arrays, sparkplug_b_pb2
from gateway.sparkplug.datatypes import ELEMENT, OF_METRICS, OF_PROPERTIES, SCALARS, DataType, shown
from gateway.sparkplug.encoding import place_of
from gateway.sparkplug.scalars import instant, said, value_of, wrong_field, wrong_type
from gateway.sparkplug.values import (
    NONE,
    DataSet,
    MetaData,
    Metric,
    NotSparkplug,
    Parameter,
    Payload,
    PayloadProblem,
    Property,
    Raw,
    Scalar,
    Template,
    WrongValue,
)

#: Longest payload that is looked at.
BYTES_MAX = 1 << 20
#: Most metrics, properties, parameters and elements of tables and arrays in one payload.
VALUES_MAX = 20_000
#: How deep templates and property sets may lie in one another.
DEPTH_MAX = 8

_METADATA_FIELDS = MetaData.__struct_fields__


def decode(data: bytes, *, bytes_max: int = BYTES_MAX, values_max: int = VALUES_MAX) -> Payload:
    """The payload somebody sent. Raises NotSparkplug, and nothing else, whatever the bytes are.

    Fields the standard does not have are passed over, as are `uuid` and `body` of the payload. A metric sent
    without its type has the datatype None and a `Raw` value: see `resolve`.
    """
    if len(data) > bytes_max:
        raise NotSparkplug(f"{len(data)} bytes are more than the {bytes_max} that are looked at")
    message = sparkplug_b_pb2.Payload()
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        # Text that is no UTF-8 is found here by protobuf in pure Python, and below where it is compiled.
        raise NotSparkplug("the bytes are no Sparkplug B payload") from error
    reader = _Reader(values_max)
    try:
        at = instant(message.timestamp) if message.HasField("timestamp") else None
        metrics = reader.metrics(message.metrics, depth=0)
    except NotSparkplug:
        raise
    except PayloadProblem as problem:
        raise NotSparkplug(problem.reason) from None
    return Payload(
        at=at,
        seq=message.seq if message.HasField("seq") else None,
        metrics=metrics,
        typed=reader.typed,
    )


def resolve(metric: Metric, datatype: DataType) -> Metric:
    """The metric with its value as the type it was born with. Raises WrongValue when it cannot be that.

    A metric that came with a type must have come with this one. Members of a template stay as they came.
    """
    if metric.datatype is not None:
        if metric.datatype is not datatype:
            raise WrongValue(f"sent as {shown(metric.datatype)}, but born as {shown(datatype)}")
        return metric
    if metric.value is None:
        return msgspec.structs.replace(metric, datatype=datatype)
    if not isinstance(metric.value, Raw):
        raise wrong_type(metric.value, datatype, "what `decode` left untyped")
    value = _Reader(VALUES_MAX).value(datatype, metric.value)
    return msgspec.structs.replace(metric, datatype=datatype, value=value)


class _Reader:
    """Reads one message, with so many values left."""

    def __init__(self, values_left: int) -> None:
        self._values_left = values_left
        self.typed = True
        """Whether every metric so far came with its type, members of templates too."""

    def _take(self, count: int) -> None:
        self._values_left -= count
        if self._values_left < 0:
            raise NotSparkplug("more values than are looked at")

    def metrics(self, messages: Any, depth: int) -> tuple[Metric, ...]:
        if depth > DEPTH_MAX:
            raise NotSparkplug(f"templates lie deeper than {DEPTH_MAX} in one another")
        self._take(len(messages))
        return tuple([self._placed_metric(message, depth) for message in messages])

    def _placed_metric(self, message: sparkplug_b_pb2.Metric, depth: int) -> Metric:
        name = _text(message.name) if message.HasField("name") else None
        alias = message.alias if message.HasField("alias") else None
        if name is None and alias is None:
            raise NotSparkplug("a metric has neither name nor alias")
        try:
            return self._metric(message, name, alias, depth)
        except PayloadProblem as problem:
            raise NotSparkplug(problem.reason, place=place_of(name, alias)) from None

    def _metric(
        self, message: sparkplug_b_pb2.Metric, name: str | None, alias: int | None, depth: int
    ) -> Metric:
        datatype = _type(message.datatype, OF_METRICS) if message.HasField("datatype") else None
        raw = self._raw(message, depth)
        value: Any = raw
        if datatype is None:
            self.typed = False
        elif raw is not None:
            value = self.value(datatype, raw)
        return Metric(
            name=name,
            alias=alias,
            datatype=datatype,
            value=value,
            at=instant(message.timestamp) if message.HasField("timestamp") else None,
            historical=message.is_historical,
            transient=message.is_transient,
            properties=(
                self._properties(message.properties, depth + 1) if message.HasField("properties") else {}
            )
            or NONE,
            metadata=_metadata(message.metadata) if message.HasField("metadata") else None,
        )

    def _raw(self, message: sparkplug_b_pb2.Metric, depth: int) -> Raw | None:
        field = message.WhichOneof("value")
        if message.is_null:
            if field is not None:
                raise NotSparkplug("null, and yet with a value")
            return None
        if field is None:
            raise NotSparkplug("neither a value nor null")
        if field == "extension_value":
            raise NotSparkplug("a value of no type of the standard")
        if field == "dataset_value":
            return Raw(field, self._dataset(message.dataset_value))
        if field == "template_value":
            return Raw(field, self._template(message.template_value, depth))
        return Raw(field, _held(message, field))

    def value(self, datatype: DataType, raw: Raw) -> Any:
        """What a field held, as a type. Raises WrongValue."""
        if datatype in SCALARS:
            return value_of(datatype, raw.field, raw.value)
        if raw.field != _FIELD.get(datatype):
            raise wrong_field(datatype, raw.field)
        if datatype in ELEMENT:
            array = arrays.unpack(datatype, raw.value, count_max=self._values_left)
            self._take(len(array))
            return array
        return raw.value

    def _properties(self, message: sparkplug_b_pb2.PropertySet, depth: int) -> Mapping[str, Property]:
        if depth > DEPTH_MAX:
            raise NotSparkplug(f"property sets lie deeper than {DEPTH_MAX} in one another")
        if len(message.keys) != len(message.values):
            raise NotSparkplug(f"{len(message.keys)} properties have {len(message.values)} values")
        self._take(len(message.keys))
        found: dict[str, Property] = {}
        for key, one in zip(message.keys, message.values, strict=True):
            try:
                if _text(key) in found:
                    raise NotSparkplug("there twice")
                found[key] = self._property(one, depth)
            except PayloadProblem as problem:
                raise NotSparkplug(problem.reason, place=f"property {said(key)}") from None
        return found

    def _property(self, message: sparkplug_b_pb2.PropertyValue, depth: int) -> Property:
        datatype = _type(message.type, OF_PROPERTIES)
        field = message.WhichOneof("value")
        if message.is_null:
            if field is not None:
                raise NotSparkplug("null, and yet with a value")
            return Property(datatype, None)
        if field is None:
            raise NotSparkplug("neither a value nor null")
        if datatype in SCALARS:
            return Property(datatype, value_of(datatype, field, _held(message, field)))
        if field != _FIELD[datatype]:
            raise wrong_field(datatype, field)
        if datatype is DataType.PROPERTY_SET:
            return Property(datatype, self._properties(message.propertyset_value, depth + 1))
        listed = message.propertysets_value.propertyset
        self._take(len(listed))
        return Property(datatype, tuple([self._properties(one, depth + 1) for one in listed]))

    def _dataset(self, message: sparkplug_b_pb2.DataSet) -> DataSet:
        columns = tuple(map(_text, message.columns))
        types = tuple([_type(number, SCALARS) for number in message.types])
        if not len(columns) == len(types) == message.num_of_columns:
            raise NotSparkplug(
                f"{len(columns)} columns and {len(types)} types, and {message.num_of_columns} said to be"
            )
        self._take(len(columns) + len(message.rows))
        rows = []
        for index, row in enumerate(message.rows):
            if len(row.elements) != len(columns):
                raise NotSparkplug(f"row {index}: {len(row.elements)} elements in {len(columns)} columns")
            self._take(len(row.elements))
            try:
                rows.append(
                    tuple([_scalar(datatype, one) for datatype, one in zip(types, row.elements, strict=True)])
                )
            except PayloadProblem as problem:
                raise NotSparkplug(problem.reason, place=f"row {index}") from None
        return DataSet(columns, types, tuple(rows))

    def _template(self, message: sparkplug_b_pb2.Template, depth: int) -> Template:
        ref = _text(message.template_ref) if message.HasField("template_ref") else None
        if message.is_definition == (ref is not None):
            raise NotSparkplug("a template is a definition, or says of which one it is; one of the two")
        self._take(len(message.parameters))
        parameters = []
        for one in message.parameters:
            try:
                datatype = _type(one.type, SCALARS)
                parameters.append(Parameter(_text(one.name), datatype, _scalar(datatype, one)))
            except PayloadProblem as problem:
                raise NotSparkplug(problem.reason, place=f"parameter {said(one.name)}") from None
        return Template(
            metrics=self.metrics(message.metrics, depth + 1),
            parameters=tuple(parameters),
            ref=ref,
            version=_text(message.version) if message.HasField("version") else None,
        )


#: Which field a type that is no scalar comes in.
_FIELD: dict[DataType, str] = {
    DataType.DATASET: "dataset_value",
    DataType.TEMPLATE: "template_value",
    DataType.BYTES: "bytes_value",
    DataType.FILE: "bytes_value",
    DataType.PROPERTY_SET: "propertyset_value",
    DataType.PROPERTY_SET_LIST: "propertysets_value",
    **dict.fromkeys(ELEMENT, "bytes_value"),
}


def _text(text: Any) -> str:
    """A text of the payload. What is no UTF-8 protobuf hands out as bytes, without a word."""
    if not isinstance(text, str):
        raise NotSparkplug(f"{said(text)} is no UTF-8")
    return text


def _held(message: Any, field: str) -> Any:
    """What the field of a value holds."""
    value = getattr(message, field)
    return _text(value) if field == "string_value" else value


def _type(number: int, allowed: frozenset[DataType]) -> DataType:
    try:
        datatype = DataType(number)
    except ValueError:
        raise NotSparkplug(f"{number} is no data type of Sparkplug B 3.0") from None
    if datatype not in allowed:
        raise NotSparkplug(f"{shown(datatype)} is no type for this place")
    return datatype


def _scalar(
    datatype: DataType, message: sparkplug_b_pb2.DataSet.DataSetValue | sparkplug_b_pb2.Template.Parameter
) -> Scalar:
    field = message.WhichOneof("value")
    return None if field is None else value_of(datatype, field, _held(message, field))


def _metadata(message: sparkplug_b_pb2.MetaData) -> MetaData:
    told: dict[str, Any] = {
        field: getattr(message, field) for field in _METADATA_FIELDS if message.HasField(field)
    }
    for value in told.values():
        if isinstance(value, bytes):
            _text(value)
    return MetaData(**told)
