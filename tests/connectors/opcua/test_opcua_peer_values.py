"""What a server of another stack was told to have is what the gateway says: every type, every extreme."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.opcua.connector import OpcuaConnector
from statemodel.types import Quality, TagSample, TagValue
from tests.connectors.contract import RecordingLink, running, same
from tests.connectors.opcua.plant import Plant, build
from tests.support.peer import URI, Peer, running_peer, variables

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
#: Source times up to here are taken for meant.
LAST = datetime(2099, 12, 31, 23, 59, 59, 999_999, UTC)
_BYTES = bytes(range(256)) * 4


def ticks(at: datetime, hundreds_ns: int = 0) -> str:
    """An instant as OPC UA counts it, with what Python cannot say beside it."""
    return str((at - _EPOCH) // timedelta(microseconds=1) * 10 + hundreds_ns)


def single(value: float) -> float:
    """A number as a Float can hold it."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


BAD = Quality.BAD
#: Type, value as `server.js` takes it, and what it has to become: a value, or the substatus of a bad sample.
VALUES: tuple[tuple[str, Any, TagValue | tuple[Quality, str]], ...] = (
    ("Boolean", True, True),
    ("Boolean", False, False),
    ("SByte", -128, -128),
    ("SByte", 127, 127),
    ("Byte", 255, 255),
    ("Int16", -32768, -32768),
    ("Int16", 32767, 32767),
    ("UInt16", 65535, 65535),
    ("Int32", -(2**31), -(2**31)),
    ("Int32", 2**31 - 1, 2**31 - 1),
    ("UInt32", 2**32 - 1, 2**32 - 1),
    ("Int64", str(-(2**63)), -(2**63)),
    ("Int64", str(2**63 - 1), 2**63 - 1),
    ("Int64", str(2**53 + 1), 2**53 + 1),
    ("Int64", "-1", -1),
    ("UInt64", str(2**63), 2**63),
    ("UInt64", str(2**64 - 1), 2**64 - 1),
    ("Float", 0.1, single(0.1)),
    ("Float", single(3.4028235e38), single(3.4028235e38)),
    ("Float", single(1e-45), single(1e-45)),
    ("Float", "NaN", (BAD, "not_a_number")),
    ("Float", "-Infinity", (BAD, "infinite")),
    ("Double", 0.1, 0.1),
    ("Double", 1.7976931348623157e308, 1.7976931348623157e308),
    ("Double", 5e-324, 5e-324),
    ("Double", -0.0, -0.0),
    ("Double", "NaN", (BAD, "not_a_number")),
    ("Double", "Infinity", (BAD, "infinite")),
    ("String", "", ""),
    ("String", "a\0b", "a\0b"),
    ("String", "Füller 🏭 שלום", "Füller 🏭 שלום"),
    ("String", "ä" * 32_768, "ä" * 32_768),
    ("XmlElement", "<a>ö</a>", "<a>ö</a>"),
    ("Guid", "72962B91-FA75-4AE6-8D28-B404DC7DAF63", "72962b91-fa75-4ae6-8d28-b404dc7daf63"),
    ("ByteString", base64.b64encode(_BYTES).decode(), _BYTES.hex()),
    ("DateTime", "0", (BAD, "no_value")),
    ("DateTime", ticks(datetime(1601, 1, 1, 0, 0, 0, 1000, UTC)), "1601-01-01T00:00:00.001000Z"),
    ("DateTime", ticks(datetime(2026, 2, 28, 23, 59, 59, 999_000, UTC)), "2026-02-28T23:59:59.999000Z"),
    ("DateTime", ticks(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)), "9999-12-31T23:59:59Z"),
    ("NodeId", "ns=3;s=Ventil/1", "ns=3;s=Ventil/1"),
    ("NodeId", "i=4294967295", "i=4294967295"),
    ("QualifiedName", {"namespaceIndex": 2, "name": "Größe"}, "2:Größe"),
    ("LocalizedText", {"locale": "de", "text": "läuft"}, "läuft"),
    ("StatusCode", 0x80310000, 0x80310000),
    ("Int32", [1, -2, 3], "[1,-2,3]"),
    ("Int64", ["9223372036854775807"], "[9223372036854775807]"),
    ("String", ["a", "ö"], '["a","ö"]'),
)
NAMES = [f"v{number:02}-{type_}" for number, (type_, *_) in enumerate(VALUES)]


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with running_peer(tmp_path) as peer:
        yield peer


def connector(peer: Peer, tmp_path: Path, *tags: dict[str, Any], **more: Any) -> OpcuaConnector:
    """A quick connector with one group; a tag without a node is the variable of its name."""
    described = [{"node": f"nsu={URI};s={tag['name']}", **tag} for tag in tags]
    group = {"name": "g", "interval": "50ms", "tags": described}
    return build(Plant(peer.port), tmp_path / "data", **({"groups": [group], "keep_alive": "1s"} | more))


def check(found: TagSample, wanted: TagValue | tuple[Quality, str]) -> None:
    if isinstance(wanted, tuple):
        assert (found.value, found.quality, found.substatus) == (None, *wanted)
    else:
        assert found.quality is Quality.GOOD, found
        assert same(found.value, wanted), (found.value, wanted)
        assert str(found.value) == str(wanted), "the sign of zero counts"


async def test_every_type_is_exact_at_its_extremes(peer: Peer, tmp_path: Path) -> None:
    listed = [(name, type_, value) for name, (type_, value, _) in zip(NAMES, VALUES, strict=True)]
    peer.options["variables"] = variables(listed)
    await peer.start()
    one = connector(peer, tmp_path, *({"name": name} for name in NAMES))
    link = RecordingLink()
    async with running(one, link):
        await link.until(lambda: len(link.latest) == len(NAMES), "all values")
    read = {sample.tag: sample for sample in await one.read_once()}
    for name, (*_, wanted) in zip(NAMES, VALUES, strict=True):
        check(link.latest[f"plc/{name}"], wanted)
        check(read[f"plc/{name}"], wanted)


async def test_a_value_may_change_its_type(peer: Peer, tmp_path: Path) -> None:
    await peer.start()
    link = RecordingLink()
    async with running(connector(peer, tmp_path, {"name": "state"}), link):
        await link.until_value("plc/state", 6)
        for type_, value, wanted in VALUES[:20]:
            await peer.set("state", value, type=type_)
            await link.until(
                lambda wanted=wanted: (  # type: ignore[misc]
                    same(link.latest["plc/state"].value, wanted)
                    if not isinstance(wanted, tuple)
                    else link.latest["plc/state"].substatus == wanted[1]
                ),
                f"{type_} {value}",
            )


async def test_source_times_are_exact_to_the_microsecond(peer: Peer, tmp_path: Path) -> None:
    await peer.start()
    start = datetime(2026, 11, 22, 2, 44, 4, 123_456, tzinfo=UTC)
    link = RecordingLink()
    async with running(connector(peer, tmp_path, {"name": "state"}, time="source"), link):
        await link.until_value("plc/state", 6)
        for value, (at, beside, wanted) in enumerate(
            [
                (start, 0, start),
                (start, 9, start),  # 100 ns are cut off, never rounded up into the future
                (start.replace(microsecond=999_999), 9, start.replace(microsecond=999_999)),
                (datetime(1990, 1, 1, tzinfo=UTC), 0, datetime(1990, 1, 1, tzinfo=UTC)),
                (datetime(1989, 12, 31, 23, 59, 59, 999_999, UTC), 9, None),
                (LAST, 9, LAST),
                (datetime(2100, 1, 1, tzinfo=UTC), 0, None),
                (datetime(1601, 1, 1, 1, tzinfo=UTC), 0, None),
            ],
            start=100,
        ):
            await peer.set("state", value, at=ticks(at, beside))
            sample = await link.until_value("plc/state", value)
            assert sample.source_at == wanted
        await peer.set("state", 99, at=None)
        assert (await link.until_value("plc/state", 99)).source_at is None


@pytest.mark.parametrize(
    ("status", "quality", "substatus"),
    [
        (0x40A4_0000, Quality.UNCERTAIN, "data_sub_normal"),
        (0x4090_0000, Quality.UNCERTAIN, "last_usable_value"),
        (0x8031_0000, Quality.BAD, "no_communication"),
        (0x808C_0000, Quality.BAD, "sensor_failure"),
        (0x8000_0000, Quality.BAD, ""),
    ],
)
async def test_a_status_keeps_its_name(
    peer: Peer, tmp_path: Path, status: int, quality: Quality, substatus: str
) -> None:
    await peer.start()
    link = RecordingLink()
    async with running(connector(peer, tmp_path, {"name": "speed"}), link):
        await link.until_value("plc/speed", 1.5)
        await peer.set("speed", 2.5, status=status)
        sample = await link.until_quality("plc/speed", quality)
        assert sample.value == (None if quality is Quality.BAD else 2.5)
        assert sample.substatus == substatus
        await peer.set("speed", None)
        await link.until(lambda: link.latest["plc/speed"].substatus == "no_value", "no value")


async def test_the_server_applies_a_deadband(peer: Peer, tmp_path: Path) -> None:
    await peer.start()
    tags = ({"name": "speed", "deadband": 1.0, "server_deadband": True}, {"name": "state"})
    link = RecordingLink()
    async with running(connector(peer, tmp_path, *tags), link):
        await link.until_value("plc/speed", 1.5)
        await peer.set("speed", 2.0)
        await peer.set("state", 7)
        await link.until_value("plc/state", 7)
        await peer.set("speed", 2.75)
        await link.until_value("plc/speed", 2.75)
    assert [s.value for s in link.samples if s.tag == "plc/speed"] == [1.5, 2.75]


async def test_what_falls_out_of_a_queue_is_a_gap_of_that_tag_alone(peer: Peer, tmp_path: Path) -> None:
    await peer.start()
    tags = ({"name": "state", "sampling": "0s", "queue_size": 3}, {"name": "speed", "sampling": "0s"})
    group = {"name": "g", "interval": "300ms"}
    described = [{"node": f"nsu={URI};s={tag['name']}", **tag} for tag in tags]
    one = connector(peer, tmp_path, groups=[group | {"tags": described}])
    link = RecordingLink()
    async with running(one, link):
        await link.until_value("plc/state", 6)
        await link.until_value("plc/speed", 1.5)
        burst = [("state", {"value": value}) for value in range(100, 110)]
        await peer.order("set", many=[*burst, *(("speed", {"value": float(value)}) for value in range(10))])
        await link.until_value("plc/state", 109)
        await link.until_value("plc/speed", 9.0)
    numbers = [s.value for s in link.samples if s.tag == "plc/state"]
    assert numbers == [6, 107, 108, 109], "the newest are kept"
    assert [s.value for s in link.samples if s.tag == "plc/speed"] == [1.5, *map(float, range(10))]
    assert {gap.tag for gap in one.losses.gaps} == {"plc/state"}
    assert {gap.tag for gap in link.gaps} == {"plc/state"}


async def test_browse_paths_lead_to_the_nodes(peer: Peer, tmp_path: Path) -> None:
    peer.options["namespaces"] = ["urn:first"]
    await peer.start()
    assert peer.namespace == 3
    tags = (
        {"name": "by-uri", "node": f"/Objects/nsu={URI};Plant/nsu={URI};state"},
        {"name": "by-index", "node": "/Objects/3:Plant/3:state"},
        {"name": "astray", "node": "/Objects/2:Plant/2:state"},
    )
    link = RecordingLink()
    async with running(connector(peer, tmp_path, *tags), link):
        await link.until_value("plc/by-uri", 6)
        await link.until_value("plc/by-index", 6)
        await link.until_quality("plc/astray", Quality.BAD)
    assert "browse path" in dict(link.refusals)["plc/astray"]
