"""Sparkplug payloads for tests: any at all, by Hypothesis, and their form in the words of `reader.js`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from gateway.sparkplug.datatypes import ELEMENT, OF_METRICS, SCALARS, DataType, shown
from gateway.sparkplug.payload import NONE, DataSet, MetaData, Metric, Parameter, Payload, Property, Template

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)
NAMED = {shown(datatype): datatype for datatype in DataType}

times = st.integers(-62_135_596_800_000, 253_402_300_799_999).map(lambda ms: EPOCH + ms * MS)

SCALAR_VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.INT8: st.integers(-(2**7), 2**7 - 1),
    DataType.INT16: st.integers(-(2**15), 2**15 - 1),
    DataType.INT32: st.integers(-(2**31), 2**31 - 1),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.UINT8: st.integers(0, 2**8 - 1),
    DataType.UINT16: st.integers(0, 2**16 - 1),
    DataType.UINT32: st.integers(0, 2**32 - 1),
    DataType.UINT64: st.integers(0, 2**64 - 1),
    DataType.FLOAT: st.floats(width=32),
    DataType.DOUBLE: st.floats(),
    DataType.BOOLEAN: st.booleans(),
    DataType.STRING: st.text(),
    DataType.DATETIME: times,
    DataType.TEXT: st.text(),
    DataType.UUID: st.uuids(),
}

_names = st.text(min_size=1, max_size=12)
_scalar_types = st.sampled_from(sorted(SCALARS))
_maybe_times = st.none() | times


def _elements(datatype: DataType) -> st.SearchStrategy[Any]:
    if datatype is DataType.STRING:
        return st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    return SCALAR_VALUES[datatype]


ARRAY_VALUES = {
    array: st.lists(_elements(element), max_size=20).map(tuple) for array, element in ELEMENT.items()
}


@st.composite
def _property(draw: st.DrawFn) -> Property:
    datatype = draw(_scalar_types)
    return Property(datatype, draw(st.none() | SCALAR_VALUES[datatype]))


def _nested(inner: st.SearchStrategy[Property]) -> st.SearchStrategy[Property]:
    some = st.dictionaries(_names, inner, max_size=2)
    return st.builds(Property, st.just(DataType.PROPERTY_SET), st.none() | some) | st.builds(
        Property, st.just(DataType.PROPERTY_SET_LIST), st.none() | st.lists(some, max_size=2).map(tuple)
    )


properties = st.dictionaries(_names, st.recursive(_property(), _nested, max_leaves=4), max_size=3).map(
    lambda found: found or NONE
)

metadata = st.builds(
    MetaData,
    is_multi_part=st.none() | st.booleans(),
    content_type=st.none() | st.text(),
    size=st.none() | st.integers(0, 2**64 - 1),
    seq=st.none() | st.integers(0, 2**64 - 1),
    file_name=st.none() | st.text(),
    file_type=st.none() | st.text(),
    md5=st.none() | st.text(),
    description=st.none() | st.text(),
)


@st.composite
def datasets(draw: st.DrawFn) -> DataSet:
    """Any table."""
    types = tuple(draw(st.lists(_scalar_types, max_size=4)))
    columns = tuple(draw(st.lists(st.text(max_size=8), min_size=len(types), max_size=len(types))))
    row = st.tuples(*[st.none() | SCALAR_VALUES[datatype] for datatype in types])
    return DataSet(columns, types, tuple(draw(st.lists(row, max_size=3))))


@st.composite
def _parameter(draw: st.DrawFn) -> Parameter:
    datatype = draw(_scalar_types)
    return Parameter(draw(_names), datatype, draw(st.none() | SCALAR_VALUES[datatype]))


def _templates(depth: int) -> st.SearchStrategy[Template]:
    return st.builds(
        Template,
        metrics=st.lists(metrics(depth=depth - 1), max_size=3).map(tuple),
        parameters=st.lists(_parameter(), max_size=2).map(tuple),
        ref=st.none() | _names,
        version=st.none() | st.text(),
    )


def values(datatype: DataType, *, depth: int = 2) -> st.SearchStrategy[Any]:
    """Any value of a type, null aside."""
    if datatype in SCALARS:
        return SCALAR_VALUES[datatype]
    if datatype in ELEMENT:
        return ARRAY_VALUES[datatype]
    if datatype is DataType.DATASET:
        return datasets()
    if datatype is DataType.TEMPLATE:
        return _templates(depth)
    return st.binary()


@st.composite
def metrics(draw: st.DrawFn, *, depth: int = 2, datatype: DataType | None = None) -> Metric:
    """Any metric, of one type if said; templates lie `depth` deep in one another at most."""
    types = sorted(OF_METRICS - {DataType.TEMPLATE} if depth <= 0 else OF_METRICS)
    chosen = draw(st.sampled_from(types)) if datatype is None else datatype
    name = draw(st.none() | _names)
    return Metric(
        name=name,
        alias=draw(st.integers(0, 2**64 - 1) if name is None else st.none() | st.integers(0, 2**64 - 1)),
        datatype=chosen,
        value=draw(st.none() | values(chosen, depth=depth)),
        at=draw(_maybe_times),
        historical=draw(st.booleans()),
        transient=draw(st.booleans()),
        properties=draw(properties),
        metadata=draw(st.none() | metadata),
    )


payloads = st.builds(
    Payload,
    at=_maybe_times,
    seq=st.none() | st.integers(0, 255),
    metrics=st.lists(metrics(), max_size=5).map(tuple),
)


def _ms(at: datetime | None) -> str | None:
    return None if at is None else str((at - EPOCH) // MS)


def _told(datatype: DataType, value: Any) -> Any:
    if value is None or datatype is DataType.BOOLEAN or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return _ms(value)
    if isinstance(value, float):
        return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(repr(value), repr(value))
    if isinstance(value, bytes):
        return value.hex()
    if datatype in ELEMENT:
        return [_told(ELEMENT[datatype], one) for one in value]
    if datatype is DataType.PROPERTY_SET:
        return _told_properties(value)
    if datatype is DataType.PROPERTY_SET_LIST:
        return [_told_properties(one) for one in value]
    if isinstance(value, DataSet):
        return {
            "count": str(len(value.columns)),
            "columns": list(value.columns),
            "types": [shown(one) for one in value.types],
            "rows": [
                [_told(one, cell) for one, cell in zip(value.types, row, strict=True)] for row in value.rows
            ],
        }
    if isinstance(value, Template):
        return {
            "isDefinition": value.ref is None,
            "ref": value.ref,
            "version": value.version,
            "metrics": [_told_metric(one) for one in value.metrics],
            "parameters": [
                {"name": one.name, "type": shown(one.datatype), "value": _told(one.datatype, one.value)}
                for one in value.parameters
            ],
        }
    return str(value)


def _told_properties(found: Mapping[str, Property]) -> list[dict[str, Any]]:
    return [
        {"key": key, "type": shown(one.datatype), "value": _told(one.datatype, one.value)}
        for key, one in found.items()
    ]


_METADATA_NAMES = {
    "isMultiPart": "is_multi_part",
    "contentType": "content_type",
    "size": "size",
    "seq": "seq",
    "fileName": "file_name",
    "fileType": "file_type",
    "md5": "md5",
    "description": "description",
}


def _told_metric(metric: Metric) -> dict[str, Any]:
    assert metric.datatype is not None
    told: dict[str, Any] = {
        "name": metric.name,
        "alias": None if metric.alias is None else str(metric.alias),
        "timestamp": _ms(metric.at),
        "type": shown(metric.datatype),
        "historical": metric.historical,
        "transient": metric.transient,
        "properties": _told_properties(metric.properties),
        "metadata": None,
        "value": _told(metric.datatype, metric.value),
    }
    if metric.metadata is not None:
        said = {theirs: getattr(metric.metadata, ours) for theirs, ours in _METADATA_NAMES.items()}
        told["metadata"] = {
            key: str(value) if type(value) is int else value
            for key, value in said.items()
            if value is not None
        }
    return told


def told(payload: Payload) -> dict[str, Any]:
    """A payload in the words of `reader.js`; floats as Python writes them."""
    return {
        "timestamp": _ms(payload.at),
        "seq": None if payload.seq is None else str(payload.seq),
        "metrics": [_told_metric(metric) for metric in payload.metrics],
    }


def _heard(datatype: DataType, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if datatype in ELEMENT:
        return tuple(_heard(ELEMENT[datatype], one) for one in value)
    if datatype is DataType.DATETIME:
        return EPOCH + int(value) * MS
    if datatype in (DataType.FLOAT, DataType.DOUBLE):
        return float(value)
    if datatype in (DataType.STRING, DataType.TEXT):
        return value
    if datatype is DataType.UUID:
        return UUID(value)
    if datatype in (DataType.BYTES, DataType.FILE):
        return bytes.fromhex(value)
    if datatype is DataType.PROPERTY_SET:
        return _heard_properties(value)
    if datatype is DataType.PROPERTY_SET_LIST:
        return tuple(_heard_properties(one) for one in value)
    if datatype is DataType.DATASET:
        types = tuple(NAMED[one] for one in value["types"])
        assert int(value["count"]) == len(types)
        rows = [
            tuple(_heard(one, cell) for one, cell in zip(types, row, strict=True)) for row in value["rows"]
        ]
        return DataSet(tuple(value["columns"]), types, tuple(rows))
    if datatype is DataType.TEMPLATE:
        assert value["isDefinition"] is (value["ref"] is None)
        parameters = [
            Parameter(one["name"], NAMED[one["type"]], _heard(NAMED[one["type"]], one["value"]))
            for one in value["parameters"]
        ]
        metrics = tuple(_heard_metric(one) for one in value["metrics"])
        return Template(metrics, tuple(parameters), value["ref"], value["version"])
    return int(value)


def _heard_properties(listed: list[dict[str, Any]]) -> dict[str, Property]:
    return {
        one["key"]: Property(NAMED[one["type"]], _heard(NAMED[one["type"]], one["value"])) for one in listed
    }


def _heard_metric(told: dict[str, Any]) -> Metric:
    datatype = NAMED[told["type"]]
    metadata = None
    if told["metadata"] is not None:
        said: dict[str, Any] = {_METADATA_NAMES[key]: value for key, value in told["metadata"].items()}
        for key in ("size", "seq"):
            if key in said:
                said[key] = int(said[key])
        metadata = MetaData(**said)
    return Metric(
        name=told["name"],
        alias=None if told["alias"] is None else int(told["alias"]),
        datatype=datatype,
        value=_heard(datatype, told["value"]),
        at=None if told["timestamp"] is None else EPOCH + int(told["timestamp"]) * MS,
        historical=told["historical"],
        transient=told["transient"],
        properties=_heard_properties(told["properties"]) or NONE,
        metadata=metadata,
    )


def heard(values: dict[str, Any]) -> Payload:
    """The payload of which `reader.js` says this."""
    return Payload(
        at=None if values["timestamp"] is None else EPOCH + int(values["timestamp"]) * MS,
        seq=None if values["seq"] is None else int(values["seq"]),
        metrics=tuple(_heard_metric(one) for one in values["metrics"]),
    )
