"""Which type a tag has."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.tags import ModbusTag
from connectors.settings import TagSettings
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.payload import Metric, Payload, encode
from gateway.sparkplug.typing_tags import declared_type, fits, told, type_of, widened
from statemodel.types import TagValue

EDGES = [1, -1, 40_000, -(1 << 63), (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64]
VALUES = st.one_of(st.booleans(), st.integers(), st.sampled_from(EDGES), st.floats(), st.text(max_size=5))
DECLARED = (
    DataType.BOOLEAN,
    DataType.INT16,
    DataType.UINT16,
    DataType.INT32,
    DataType.UINT32,
    DataType.INT64,
    DataType.UINT64,
    DataType.FLOAT,
    DataType.DOUBLE,
    DataType.STRING,
)


@pytest.mark.parametrize(
    ("type_", "scale", "datatype"),
    [
        ("int16", 1, DataType.INT16),
        ("uint16", 1, DataType.UINT16),
        ("uint32", 1, DataType.INT64),
        ("int64", 1, DataType.INT64),
        ("uint64", 1, DataType.UINT64),
        ("float32", 1, DataType.FLOAT),
        ("float64", 1, DataType.DOUBLE),
        ("float32", 0.1, DataType.DOUBLE),
        ("int16", 0.1, DataType.DOUBLE),
        ("int16", 10, DataType.INT64),
        ("bcd16", 1, DataType.UINT16),
        ("string(8)", 1, DataType.STRING),
        ("bool", 1, DataType.BOOLEAN),
    ],
)
def test_what_modbus_settings_declare(type_: str, scale: float, datatype: DataType) -> None:
    address = "coil:1" if type_ == "bool" else "holding:1"
    scaled = {} if scale == 1 else {"scale": scale}
    tag = ModbusTag.model_validate({"name": "t", "address": address, "type": type_, **scaled})

    assert declared_type(tag) is datatype


def test_where_only_the_device_knows_nothing_is_declared() -> None:
    assert declared_type(TagSettings(name="t")) is None


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        (None, None),
        (True, DataType.BOOLEAN),
        (1, DataType.INT64),
        (-(1 << 63), DataType.INT64),
        (1 << 63, DataType.UINT64),
        (1 << 64, DataType.DOUBLE),
        (1 << 2000, DataType.STRING),
        (1.5, DataType.DOUBLE),
        ("a", DataType.STRING),
    ],
)
def test_the_type_of_a_value(value: TagValue, datatype: DataType | None) -> None:
    assert type_of(value) is datatype


@pytest.mark.parametrize(
    ("datatype", "value", "wider"),
    [
        (DataType.INT16, 5, DataType.INT16),
        (DataType.INT16, 40_000, DataType.INT64),
        (DataType.BOOLEAN, 1, DataType.INT64),
        (DataType.INT64, 1 << 63, DataType.DOUBLE),
        (DataType.INT16, 1 << 63, DataType.DOUBLE),
        (DataType.UINT32, 1 << 63, DataType.UINT64),
        (DataType.UINT64, -1, DataType.DOUBLE),
        (DataType.INT64, 0.5, DataType.DOUBLE),
        (DataType.FLOAT, 1e39, DataType.DOUBLE),
        (DataType.DOUBLE, 1 << 2000, DataType.STRING),
        (DataType.DOUBLE, "x", DataType.STRING),
        (DataType.STRING, 1, DataType.STRING),
    ],
)
def test_a_type_widens_to_the_next_that_holds_both(
    datatype: DataType, value: TagValue, wider: DataType
) -> None:
    assert widened(datatype, value) is wider


@given(st.sampled_from(DECLARED), st.lists(VALUES, max_size=20))
def test_every_value_can_be_told_and_types_change_at_most_four_times(
    datatype: DataType, values: list[TagValue]
) -> None:
    changes = 0
    last: TagValue = None
    for value in values:
        before, datatype = datatype, widened(datatype, value)
        changes += datatype is not before
        if last is not None and not isinstance(last, str):
            assert fits(last, datatype), "what was told in the old type has to fit the new one"
        last = told(value, datatype)
        assert fits(value, datatype)
        metric = Metric("m", None, datatype, told(value, datatype), None)
        encode(Payload(None, 0, (metric,)))  # raises what cannot be told
        seen = told(value, datatype)
        if isinstance(value, int | float) and not isinstance(seen, str) and not math.isnan(value):
            assert seen is not None
            assert math.isclose(seen, value, rel_tol=1e-6)

    assert changes <= 4
