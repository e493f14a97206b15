"""Values to bytes. Refuses what does not fit its type, naming the metric; never sends something else instead.

The work is protobuf's; what is here runs for every change of every tag, so it sets fields and little more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.sparkplug import arrays, sparkplug_b_pb2
from gateway.sparkplug.datatypes import ELEMENT, OF_METRICS, OF_PROPERTIES, SCALARS, DataType, shown
from gateway.sparkplug.scalars import WRITTEN, Written, milliseconds, said, wrong_type
from gateway.sparkplug.values import (
    DataSet,
    MetaData,
    Metric,
    Parameter,
    Payload,
    PayloadProblem,
    Property,
    Template,
    WrongValue,
)

_METADATA_FIELDS = MetaData.__struct_fields__


def encode(payload: Payload) -> bytes:
    """The bytes of a payload. Raises WrongValue: which metric, and what about it is wrong."""
    message = sparkplug_b_pb2.Payload()
    if payload.at is not None:
        message.timestamp = milliseconds(payload.at)
    if payload.seq is not None:
        if not 0 <= payload.seq <= 255:
            raise WrongValue(f"seq is 0 to 255, not {payload.seq}")
        message.seq = payload.seq
    _put_metrics(message.metrics, payload.metrics, payload.typed)
    try:
        return message.SerializeToString()
    except UnicodeEncodeError as error:  # seen only here where protobuf is pure Python
        raise WrongValue(str(error)) from error


def _put_metrics(messages: Any, metrics: Iterable[Metric], typed: bool) -> None:
    add = messages.add
    at, timestamp = None, 0
    for metric in metrics:
        try:
            message = add()
            # Most metrics of a payload are of the same instant.
            if metric.at is not None:
                if metric.at is not at:
                    at, timestamp = metric.at, milliseconds(metric.at)
                message.timestamp = timestamp
            _put_metric(message, metric, typed)
        except PayloadProblem as problem:
            raise _at(place_of(metric.name, metric.alias), problem) from None
        except (TypeError, ValueError) as error:
            # A name, alias or text that protobuf does not take: it says which.
            raise WrongValue(str(error), place=place_of(metric.name, metric.alias)) from error


def _put_metric(message: sparkplug_b_pb2.Metric, metric: Metric, typed: bool) -> None:
    if metric.name is not None:
        message.name = metric.name
    elif metric.alias is None:
        raise WrongValue("a metric needs a name or an alias")
    if metric.alias is not None:
        message.alias = metric.alias
    if metric.historical:
        message.is_historical = True
    if metric.transient:
        message.is_transient = True
    if metric.properties:
        _put_properties(message.properties, metric.properties)
    if metric.metadata is not None:
        _put_metadata(message.metadata, metric.metadata)
    datatype, value = metric.datatype, metric.value
    if datatype is None:
        if typed or value is not None:
            raise WrongValue("a metric needs a datatype to be sent")
        message.is_null = True
        return
    if typed:
        message.datatype = datatype
    if value is None:
        if datatype not in OF_METRICS:
            raise _no_type_of_a_metric(datatype)
        message.is_null = True
        return
    written = _WRITTEN.get(datatype)
    if written is not None:
        field, wire = written
        setattr(message, field, wire(value))
    elif datatype is DataType.DATASET:
        _put_dataset(message.dataset_value, value)
    elif datatype is DataType.TEMPLATE:
        _put_template(message.template_value, value, typed)
    else:
        raise _no_type_of_a_metric(datatype)


def _no_type_of_a_metric(datatype: DataType) -> WrongValue:
    return WrongValue(f"a metric cannot be {said(datatype)}")


def place_of(name: str | None, alias: int | None) -> str:
    """A metric as errors name it."""
    return f"metric {said(name)}" if name is not None else f"metric with alias {alias}"


def _at(place: str, problem: PayloadProblem) -> WrongValue:
    """The same problem, said from one level further out."""
    return WrongValue(problem.reason, place=place, hint=problem.hint)


def _bytes(datatype: DataType) -> Callable[[Any], bytes]:
    def wire(value: Any) -> bytes:
        if not isinstance(value, bytes):
            raise wrong_type(value, datatype, "bytes")
        return value

    return wire


def _array(datatype: DataType) -> Callable[[Any], bytes]:
    def wire(value: Any) -> bytes:
        return arrays.pack(datatype, value)

    return wire


#: All of a metric but tables and templates.
_WRITTEN: dict[DataType, Written] = {
    **WRITTEN,
    **{datatype: Written("bytes_value", _bytes(datatype)) for datatype in (DataType.BYTES, DataType.FILE)},
    **{datatype: Written("bytes_value", _array(datatype)) for datatype in ELEMENT},
}


def _put_metadata(message: sparkplug_b_pb2.MetaData, metadata: MetaData) -> None:
    message.SetInParent()
    for field in _METADATA_FIELDS:
        value = getattr(metadata, field)
        if value is not None:
            setattr(message, field, value)


def _put_properties(message: sparkplug_b_pb2.PropertySet, properties: Mapping[str, Property]) -> None:
    message.SetInParent()
    for key, one in properties.items():
        try:
            message.keys.append(key)
            _put_property(message.values.add(), one)
        except PayloadProblem as problem:
            raise _at(f"property {said(key)}", problem) from None


def _put_property(message: sparkplug_b_pb2.PropertyValue, one: Property) -> None:
    datatype, value = one.datatype, one.value
    if datatype not in OF_PROPERTIES:
        raise WrongValue(f"a property cannot be {shown(datatype)}")
    message.type = datatype
    if value is None:
        message.is_null = True
    elif datatype in SCALARS:
        written = WRITTEN[datatype]
        setattr(message, written.field, written.wire(value))
    elif datatype is DataType.PROPERTY_SET:
        if not isinstance(value, Mapping):
            raise wrong_type(value, datatype, "a mapping of names to properties")
        _put_properties(message.propertyset_value, value)
    else:
        if not isinstance(value, tuple | list):
            raise wrong_type(value, datatype, "a tuple of mappings")
        message.propertysets_value.SetInParent()
        for properties in value:
            _put_properties(message.propertysets_value.propertyset.add(), properties)


def _put_dataset(message: sparkplug_b_pb2.DataSet, dataset: object) -> None:
    if not isinstance(dataset, DataSet):
        raise wrong_type(dataset, DataType.DATASET, "a DataSet")
    wrong = [datatype for datatype in dataset.types if datatype not in SCALARS]
    if wrong:
        raise WrongValue(f"a column cannot be {shown(wrong[0])}")
    if len(dataset.columns) != len(dataset.types):
        raise WrongValue(f"{len(dataset.columns)} columns have {len(dataset.types)} types")
    message.num_of_columns = len(dataset.columns)
    message.columns.extend(dataset.columns)
    message.types.extend(dataset.types)
    writers = [WRITTEN[datatype] for datatype in dataset.types]
    for index, row in enumerate(dataset.rows):
        if len(row) != len(writers):
            raise WrongValue(f"{len(row)} elements in {len(writers)} columns", place=f"row {index}")
        elements = message.rows.add().elements
        for column, written, value in zip(dataset.columns, writers, row, strict=True):
            element = elements.add()
            if value is not None:
                try:
                    setattr(element, written.field, written.wire(value))
                except WrongValue as problem:
                    raise _at(f"row {index}, column {said(column)}", problem) from None


def _put_template(message: sparkplug_b_pb2.Template, template: object, typed: bool) -> None:
    if not isinstance(template, Template):
        raise wrong_type(template, DataType.TEMPLATE, "a Template")
    message.is_definition = template.is_definition
    if template.ref is not None:
        message.template_ref = template.ref
    if template.version is not None:
        message.version = template.version
    _put_metrics(message.metrics, template.metrics, typed)
    for parameter in template.parameters:
        try:
            _put_parameter(message.parameters.add(), parameter)
        except PayloadProblem as problem:
            raise _at(f"parameter {said(parameter.name)}", problem) from None


def _put_parameter(message: sparkplug_b_pb2.Template.Parameter, parameter: Parameter) -> None:
    if parameter.datatype not in SCALARS:
        raise WrongValue(f"a parameter cannot be {shown(parameter.datatype)}")
    message.name = parameter.name
    message.type = parameter.datatype
    if parameter.value is not None:
        written = WRITTEN[parameter.datatype]
        setattr(message, written.field, written.wire(parameter.value))
