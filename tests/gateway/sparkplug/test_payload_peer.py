"""Payloads between us and a library that is not ours: what we write it reads, what it writes we read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.sparkplug.datatypes import OF_METRICS, DataType, shown
from gateway.sparkplug.payload import DataSet, Metric, Payload, Property, Template, decode, encode, resolve
from tests.support.sparkplug_payloads import heard, metrics, payloads, told
from tests.support.sparkplug_reader import SparkplugReader, running_reader

AT = datetime(2026, 11, 22, 9, 30, 0, 125_000, tzinfo=UTC)
AT_MS = "1795339800125"

#: The program is one for all tests: starting it takes longer than asking it a thousand times.
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def reader() -> Iterator[SparkplugReader]:
    """Tahu's library."""
    with running_reader() as found:
        yield found


def metric(datatype: DataType, value: Any, **more: Any) -> Metric:
    return Metric("m", 7, datatype, value, AT, **more)


@pytest.mark.parametrize("datatype", sorted(OF_METRICS), ids=shown)
@given(data=st.data())
@settings(SHARED, max_examples=30)
def test_it_reads_every_type_as_we_meant_it(
    reader: SparkplugReader, datatype: DataType, data: st.DataObject
) -> None:
    payload = Payload(AT, 3, (data.draw(metrics(datatype=datatype)),))

    values = reader.values(encode(payload))

    assert repr(heard(values)) == repr(payload)


@given(payload=payloads)
@settings(SHARED)
def test_it_reads_whole_payloads_as_we_meant_them(reader: SparkplugReader, payload: Payload) -> None:
    assert repr(heard(reader.values(encode(payload)))) == repr(payload)


@pytest.mark.parametrize("datatype", sorted(OF_METRICS), ids=shown)
@given(data=st.data())
@settings(SHARED, max_examples=30)
def test_we_read_every_type_as_it_meant_it(
    reader: SparkplugReader, datatype: DataType, data: st.DataObject
) -> None:
    payload = Payload(AT, 3, (data.draw(metrics(datatype=datatype)),))

    assert repr(decode(reader.make(told(payload)))) == repr(payload)


@given(payload=payloads)
@settings(SHARED)
def test_we_read_whole_payloads_as_it_meant_them(reader: SparkplugReader, payload: Payload) -> None:
    assert repr(decode(reader.make(told(payload)))) == repr(payload)


@given(payload=payloads)
@settings(SHARED)
def test_a_payload_without_types_says_the_same_but_for_them(
    reader: SparkplugReader, payload: Payload
) -> None:
    typed = reader.read(encode(payload))["fields"]
    bare = reader.read(encode(msgspec.structs.replace(payload, typed=False)))["fields"]

    def without_types(metrics: list[dict[str, Any]]) -> None:
        for one in metrics:
            assert one.pop("datatype")
            without_types(one.get("templateValue", {}).get("metrics", []))

    without_types(typed.get("metrics", []))
    assert bare == typed


@given(data=st.data())
@settings(SHARED)
def test_what_was_born_with_a_type_is_read_by_it_later(reader: SparkplugReader, data: st.DataObject) -> None:
    sent = data.draw(metrics(depth=0))
    assert sent.datatype is not None
    (came,) = decode(encode(Payload(AT, 0, (sent,), typed=False))).metrics

    assert came.datatype is None
    assert repr(resolve(came, sent.datatype)) == repr(sent)


#: What Tahu's library itself reads right, and how it says so.
LIBRARY_READS: list[tuple[DataType, Any, Any]] = [
    (DataType.INT8, -23, "-23"),
    (DataType.INT16, -30_000, "-30000"),
    (DataType.INT32, -(2**31), "-2147483648"),
    (DataType.INT64, -(2**63), "-9223372036854775808"),
    (DataType.UINT8, 255, "255"),
    (DataType.UINT16, 65_535, "65535"),
    (DataType.UINT64, 2**64 - 1, "18446744073709551615"),
    (DataType.FLOAT, 0.5, "0.5"),
    (DataType.DOUBLE, 0.1, "0.1"),
    (DataType.BOOLEAN, True, True),
    (DataType.STRING, "Füller", "Füller"),
    (DataType.DATETIME, AT, AT_MS),
    (DataType.TEXT, "Füller", "Füller"),
    (DataType.UUID, UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (DataType.BYTES, b"\0\xff", "00ff"),
    (DataType.FILE, b"\0\xff", "00ff"),
    (DataType.STRING, None, None),
    (
        DataType.DATASET,
        DataSet(("n", "x"), (DataType.INT64, DataType.DOUBLE), ((5, 0.5),)),
        {"types": ["Int64", "Double"], "rows": [["5", "0.5"]], "numOfColumns": "2", "columns": ["n", "x"]},
    ),
    (
        DataType.TEMPLATE,
        Template((Metric("v", None, DataType.INT32, -5, None),), ref="T", version="1"),
        {
            "version": "1",
            "templateRef": "T",
            "isDefinition": False,
            "metrics": [{"name": "v", "type": "Int32", "value": "-5"}],
            "parameters": [],
        },
    ),
]


@pytest.mark.parametrize(("datatype", "value", "read"), LIBRARY_READS)
def test_the_library_reads_us(reader: SparkplugReader, datatype: DataType, value: Any, read: Any) -> None:
    quality = {"Quality": Property(DataType.INT32, 500), "engUnit": Property(DataType.STRING, "1/min")}
    payload = Payload(AT, 255, (metric(datatype, value, historical=True, properties=quality),))

    assert reader.read(encode(payload))["library"] == {
        "timestamp": AT_MS,
        "seq": "255",
        "metrics": [
            {
                "name": "m",
                "alias": "7",
                "timestamp": AT_MS,
                "type": shown(datatype),
                "value": read,
                "isHistorical": True,
                "properties": {
                    "Quality": {"type": "Int32", "value": "500"},
                    "engUnit": {"type": "String", "value": "1/min"},
                },
            }
        ],
    }


def long(value: int) -> dict[str, str]:
    return {"long": str(value)}


#: What Tahu's library writes, and what was meant. UInt32 it puts into the field for 64 bits.
LIBRARY_WRITES: list[tuple[DataType, Any, Any]] = [
    (DataType.INT8, -23, -23),
    (DataType.INT16, -30_000, -30_000),
    (DataType.INT32, -(2**31), -(2**31)),
    (DataType.INT64, long(-(2**63)), -(2**63)),
    (DataType.UINT8, 255, 255),
    (DataType.UINT16, 65_535, 65_535),
    (DataType.UINT32, 2**32 - 1, 2**32 - 1),
    (DataType.UINT64, long(2**64 - 1), 2**64 - 1),
    (DataType.FLOAT, 0.5, 0.5),
    (DataType.DOUBLE, 0.1, 0.1),
    (DataType.BOOLEAN, False, False),
    (DataType.STRING, "", ""),
    (DataType.DATETIME, long(1_795_339_800_125), AT),
    (DataType.TEXT, "Füller", "Füller"),
    (DataType.UUID, "00000000-0000-0000-0000-000000000005", UUID(int=5)),
    (DataType.BYTES, {"hex": "00ff"}, b"\0\xff"),
    (DataType.FILE, {"hex": "00ff"}, b"\0\xff"),
    (
        DataType.DATASET,
        {"numOfColumns": 2, "columns": ["n", "ok"], "types": ["UInt32", "Boolean"], "rows": [[5, True]]},
        DataSet(("n", "ok"), (DataType.UINT32, DataType.BOOLEAN), ((5, True),)),
    ),
    (
        DataType.TEMPLATE,
        {
            "isDefinition": False,
            "templateRef": "T",
            "metrics": [{"name": "v", "type": "Int16", "value": -5}],
        },
        Template((Metric("v", None, DataType.INT16, -5, None),), ref="T"),
    ),
]


@pytest.mark.parametrize(("datatype", "value", "meant"), LIBRARY_WRITES)
def test_we_read_the_library(reader: SparkplugReader, datatype: DataType, value: Any, meant: Any) -> None:
    data = reader.write(
        {
            "timestamp": long(1_795_339_800_125),
            "metrics": [
                {
                    "name": "m",
                    "type": shown(datatype),
                    "value": value,
                    "properties": {"Quality": {"type": "Int32", "value": 0}},
                }
            ],
        }
    )

    assert decode(data) == Payload(
        AT,
        None,
        (Metric("m", None, datatype, meant, None, properties={"Quality": Property(DataType.INT32, 0)}),),
    )


def test_the_library_looks_for_uint32_where_the_standard_does_not_put_it(reader: SparkplugReader) -> None:
    """It finds no value. When this fails, what the README says of UInt32 is out of date."""
    payload = Payload(AT, 0, (metric(DataType.UINT32, 5), metric(DataType.UINT64, 5)))

    library = reader.read(encode(payload))["library"]

    assert [one["value"] for one in library["metrics"]] == [None, "5"]
