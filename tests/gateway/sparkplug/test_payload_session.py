"""All that a session says, read by a library that is not ours: births by themselves, data by their births."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.sparkplug.births import PublishedTag
from gateway.sparkplug.datatypes import DataType, shown
from gateway.sparkplug.messages import Publication
from gateway.sparkplug.names import Names
from gateway.sparkplug.payload import NONE, Metric, Template, encode
from gateway.sparkplug.session import Session
from statemodel.types import Quality, TagSample, TagValue
from tests.gateway.sparkplug.session_parts import FILLER, NODE, OVEN, T0, known, moved, now, read
from tests.support.sparkplug_payloads import EPOCH, MS, NAMED, heard
from tests.support.sparkplug_reader import SparkplugReader, running_reader

DECLARED = (
    DataType.BOOLEAN,
    DataType.INT8,
    DataType.INT16,
    DataType.INT32,
    DataType.INT64,
    DataType.UINT8,
    DataType.UINT16,
    DataType.UINT32,
    DataType.UINT64,
    DataType.FLOAT,
    DataType.DOUBLE,
    DataType.STRING,
    None,
)
TAGS = tuple(
    PublishedTag(f"plc/{'seen' if one is None else shown(one)}", unit="1/min", datatype=one)
    for one in DECLARED
)
CLEAR = replace(OVEN, tags=TAGS)


@pytest.fixture(scope="module")
def reader() -> Iterator[SparkplugReader]:
    """Tahu's library."""
    with running_reader() as found:
        yield found


class Audience:
    """Knows the types by the aliases of births, as a host has to; of all else only what the reader says."""

    def __init__(self, reader: SparkplugReader) -> None:
        self._reader = reader
        self._types: dict[str, int] = {}
        self.heard = 0

    def hear(self, publications: tuple[Publication, ...]) -> None:
        """Each is read and is what it was meant to be."""
        for publication in publications:
            data = encode(publication.payload)
            fields = self._reader.read(data)["fields"]
            if "BIRTH" in publication.verb:
                assert "error" not in self._reader.read(data)["library"]
                for metric in fields["metrics"]:
                    assert "datatype" in metric
                    if "alias" in metric:
                        self._types[metric["alias"]] = int(metric["datatype"])
            elif "DATA" in publication.verb:
                assert all("name" not in metric and "datatype" not in metric for metric in fields["metrics"])
                data = self._reader.pack(self._typed(fields))
            meant = msgspec.structs.replace(
                publication.payload,
                at=None if publication.payload.at is None else _ms(publication.payload.at),
                metrics=tuple(map(_whole, publication.payload.metrics)),
                typed=True,
            )
            assert repr(heard(self._reader.values(data))) == repr(meant)
            self.heard += len(publication.payload.metrics)

    def _typed(self, fields: dict[str, Any]) -> dict[str, Any]:
        for metric in fields["metrics"]:
            metric["datatype"] = self._types[metric["alias"]]
            # A template that changed says of its members by name only; hosts have them from the definition.
            for member in metric.get("templateValue", {}).get("metrics", []):
                member["datatype"] = _member_type(member)
        return fields


def _member_type(member: dict[str, Any]) -> int:
    kind = next((key for key in member if key.endswith("Value")), "stringValue")
    by_field = {
        "stringValue": "String",
        "intValue": "Int32",
        "longValue": "UInt64",
        "booleanValue": "Boolean",
    }
    return int(NAMED[{"Since": "DateTime"}.get(member["name"], by_field[kind])])


def _ms(at: datetime) -> datetime:
    return EPOCH + (at - EPOCH) // MS * MS


def _whole(metric: Metric) -> Metric:
    """As the wire has it: whole milliseconds, 32 bits of a Float, UTF-8, nothing for no properties."""
    value = metric.value
    if isinstance(value, datetime):
        value = _ms(value)
    elif isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()
    elif isinstance(value, Template):
        value = msgspec.structs.replace(value, metrics=tuple(map(_whole, value.metrics)))
    elif metric.datatype is DataType.FLOAT and isinstance(value, float):
        (value,) = struct.unpack("f", struct.pack("f", value))
    at = None if metric.at is None else _ms(metric.at)
    return msgspec.structs.replace(metric, value=value, at=at, properties=metric.properties or NONE)


def site() -> Session:
    return Session(Names("plant", "line-1"), NODE, (FILLER, CLEAR), started=T0)


def test_births_data_and_deaths_are_read_as_they_were_meant(reader: SparkplugReader) -> None:
    session, audience = site(), Audience(reader)

    audience.hear((session.will(7, T0),))
    session.know(known(1, "Idle", 0), now(), "it was so")
    audience.hear(session.connected(now()))
    audience.hear(session.events([moved(2, "Execute", 1.25, lasted_s=1.25)], now(1.5)))
    audience.hear(session.samples([read("plc/mode", 2, 2)], now(2)))
    audience.hear(session.samples([read("plc/temp", 41.25, 2, Quality.BAD, "stale")], now(2)))
    audience.hear(session.connection("plc", False, now(3)))
    audience.hear(session.backlog(2**40, now(3)))
    audience.hear(session.link("filler-1", False, now(4)))
    audience.hear(session.link("filler-1", True, now(5)))
    audience.hear(session.rebirth(now(20)))
    audience.hear(session.leave(now(30)))

    assert audience.heard > 100


#: With half surrogate pairs: some libraries make them of what a PLC sends that is no UTF-8.
TEXTS = st.text(max_size=9) | st.text("aü\ud800\udcff", max_size=4)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.floats(width=32),
    TEXTS,
)


@given(said=st.lists(st.tuples(st.sampled_from(TAGS), VALUES, st.sampled_from(Quality)), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
def test_tags_of_every_type_are_read_whatever_they_say(
    reader: SparkplugReader, said: list[tuple[PublishedTag, TagValue, Quality]]
) -> None:
    session, audience = site(), Audience(reader)
    session.will(0, T0)
    audience.hear(session.connected(now()))
    past: list[TagSample] = []
    for second, (tag, value, quality) in enumerate(said, start=1):
        sample = read(tag.tag, value, second, quality if value is not None else Quality.BAD)
        past.append(sample)
        audience.hear(session.samples([sample], now(second)))

    audience.hear(session.history(past, now(60)))
