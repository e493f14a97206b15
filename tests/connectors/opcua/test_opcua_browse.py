"""Looking around in a server: a toy one of two services here, a real one over the wire below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from connectors.browsing import Finding, Found, Offer, Query, Remark
from connectors.errors import DeviceRefused
from connectors.opcua.address_space import (
    BROWSE_RESPONSE,
    DATA_TYPE,
    USER_ACCESS_LEVEL,
    VALUE,
    VALUE_RANK,
    decode_browse,
    lasting_text,
    local_node,
    local_text,
)
from connectors.opcua.browse import _Looking, look_around
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.offers import NESTED, PackmlSpotter
from connectors.opcua.plan import Limits
from connectors.opcua.services import Services
from connectors.opcua.values import Reading
from connectors.protocol import Environment
from connectors.selfreport import refusals_of
from tests.connectors.contract import RecordingLink, SystemClock, running
from tests.connectors.opcua.plant import URI, Plant, build

NAMESPACES = ("http://opcfoundation.org/UA/", "urn:server", "urn:plant")


@dataclass
class Toy:
    """A server of Browse, BrowseNext and Read over a tree of numbers; `edges` leads from parent to children.

    Even numbers are folders, odd ones are variables of type Int32. Stands in for a session.
    """

    edges: Callable[[int], list[int]]
    browse_max: int = 0
    read_max: int = 0
    places_max: int = 1000
    """Continuation points it keeps."""
    namespaces: tuple[str, ...] = NAMESPACES
    limits: Limits = field(default_factory=Limits)
    asked: list[str] = field(default_factory=list)
    places: dict[bytes, list[int]] = field(default_factory=dict)

    async def read(self, nodes: list[ua.NodeId]) -> list[Reading]:
        return [Reading(0, 0, None) for _ in nodes]

    async def ask(self, request: Any, read: Callable[[bytes], Any]) -> Any:
        """Every answer goes through bytes, as on the wire."""
        kind = type(request).__name__
        self.asked.append(kind)
        answer = getattr(self, kind)(request.Parameters)
        return None if answer is None else read(bytes(struct_to_binary(answer)))

    def BrowseRequest(self, asked: Any) -> Any:  # noqa: N802 - named as the service
        if self.browse_max and len(asked.NodesToBrowse) > self.browse_max:
            return None
        response: Any = ua.BrowseResponse()
        response.Results = [
            self._result(self._children(one.NodeId), asked.RequestedMaxReferencesPerNode)
            for one in asked.NodesToBrowse
        ]
        return response

    def BrowseNextRequest(self, asked: Any) -> Any:  # noqa: N802
        response: Any = ua.BrowseNextResponse()
        rest = [self.places.pop(one, []) for one in asked.ContinuationPoints]
        response.Parameters.Results = [
            ua.BrowseResult() if asked.ReleaseContinuationPoints else self._result(one, 1000) for one in rest
        ]
        return response

    def ReadRequest(self, asked: Any) -> Any:  # noqa: N802
        if self.read_max and len(asked.NodesToRead) > self.read_max:
            return None
        response: Any = ua.ReadResponse()
        response.Results = [self._attribute(one.NodeId, int(one.AttributeId)) for one in asked.NodesToRead]
        return response

    def _children(self, node: ua.NodeId) -> list[int]:
        if node.NamespaceIndex == 0:
            return self.edges(0) if node.Identifier == 85 else []
        return self.edges(int(node.Identifier))

    def _result(self, children: list[int], most: int) -> Any:
        result: Any = ua.BrowseResult()
        result.References = [_reference(child) for child in children[:most]]
        if children[most:]:
            if len(self.places) >= self.places_max:
                result.References = []
                result.StatusCode = ua.StatusCode(0x804B0000)
                return result
            result.ContinuationPoint = str(len(self.asked)).encode() + str(children[0]).encode()
            self.places[result.ContinuationPoint] = children[most:]
        return result

    def _attribute(self, node: ua.NodeId, attribute: int) -> ua.DataValue:
        values: dict[int, ua.Variant] = {
            DATA_TYPE: ua.Variant(ua.NodeId(6), ua.VariantType.NodeId),
            VALUE_RANK: ua.Variant(-1, ua.VariantType.Int32),
            USER_ACCESS_LEVEL: ua.Variant(1, ua.VariantType.Byte),
            VALUE: ua.Variant(node.Identifier, ua.VariantType.Int32),
        }
        if attribute in values:
            return ua.DataValue(values[attribute])
        return ua.DataValue(ua.Variant(), StatusCode=ua.StatusCode(0x80350000))


def _reference(number: int) -> Any:
    one: Any = ua.ReferenceDescription()
    one.ReferenceTypeId = ua.NodeId(35)
    one.IsForward = True
    one.NodeId = ua.ExpandedNodeId(number, 2)
    one.BrowseName = ua.QualifiedName(f"n{number}", 2)
    one.DisplayName = ua.LocalizedText(f"n{number}")
    one.NodeClass = ua.NodeClass.Variable if number % 2 else ua.NodeClass.Object
    one.TypeDefinition = ua.ExpandedNodeId(63 if number % 2 else 61)
    return one


async def look(toy: Toy, query: Query = Query()) -> list[Finding]:  # noqa: B008 - frozen
    services = Services(toy)
    await services.prepare()
    return [one async for one in _Looking(toy, services, query).findings()]


def plain(findings: list[Finding]) -> list[tuple[str, ...]]:
    return [one.path for one in findings if isinstance(one, Found)]


def remarks(findings: list[Finding]) -> list[str]:
    return [one.text for one in findings if isinstance(one, Remark)]


TREE = {0: [2, 4, 11], 2: [6, 13], 6: [15], 4: [17]}


async def test_a_thing_follows_the_one_it_lies_in() -> None:
    findings = await look(Toy(lambda node: TREE.get(node, [])))
    assert plain(findings) == [
        ("n2",),
        ("n2", "n6"),
        ("n2", "n6", "n15"),
        ("n2", "n13"),
        ("n4",),
        ("n4", "n17"),
        ("n11",),
    ]
    first = findings[0]
    assert isinstance(first, Found)
    assert (first.address, first.kind, first.is_tag) == ("nsu=urn:plant;i=2", "folder", False)
    last = findings[-1]
    assert isinstance(last, Found)
    assert (last.type, last.readable, last.writable, last.is_tag) == ("Int32", True, False, True)


async def test_loops_are_gone_through_once() -> None:
    loops = {0: [2], 2: [4, 2, 3], 4: [2, 4, 3]}
    findings = await look(Toy(lambda node: loops.get(node, [])))
    assert sorted(plain(findings)) == [("n2",), ("n2", "n3"), ("n2", "n4")]


@pytest.mark.parametrize("depth", [1, 2])
async def test_depth_is_kept(depth: int) -> None:
    paths = plain(await look(Toy(lambda node: TREE.get(node, [])), Query(depth=depth)))
    assert {len(path) for path in paths} == set(range(1, depth + 1))


def wide(node: int) -> list[int]:
    """A hundred folders of a hundred variables, and one of 2,500."""
    if node == 0:
        return [2 * place for place in range(1, 101)] + [100_000]
    if node == 100_000:
        return list(range(300_001, 305_001, 2))
    return [1000 * node + 2 * place + 1 for place in range(100)] if node % 2 == 0 and node < 1000 else []


async def test_ten_thousand_nodes_are_asked_for_in_hundreds() -> None:
    toy = Toy(wide)
    findings = await look(toy, Query(values=True))
    assert len(findings) == 101 + 10_000 + 2500
    assert len(set(plain(findings))) == len(findings)
    assert toy.asked.count("BrowseRequest") < 200
    assert toy.asked.count("BrowseNextRequest") == 2
    assert all(
        one.value == int(one.path[-1][1:]) for one in findings if isinstance(one, Found) and one.is_tag
    )


async def test_a_server_that_takes_little_at_once_is_asked_for_little() -> None:
    toy = Toy(wide, browse_max=7, read_max=20, places_max=1)
    assert len(await look(toy, Query(filter="n[0-9]/*"))) == 4 * 100
    assert not toy.places, "no place is left behind at the server"


async def test_a_server_that_keeps_one_place_at_a_time_is_told_when_it_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.opcua.services.REFERENCES_MAX", 30)
    toy = Toy(wide, places_max=1)
    assert len(await look(toy, Query(filter="n[0-9]/*"))) == 4 * 100
    assert not toy.places, "no place is left behind at the server"


async def test_what_is_more_than_the_limit_is_said() -> None:
    findings = await look(Toy(wide), Query(limit=300))
    assert len(plain(findings)) <= 600
    assert remarks(findings) == [f"there is more: only the first {len(plain(findings))} are told"]


async def test_a_server_without_end_has_an_end_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.opcua.browse.NODES_MAX", 2000)
    numbers = count(2, 2)
    toy = Toy(lambda node: [next(numbers), next(numbers)])
    findings = await look(toy, Query(filter="nothing"))
    assert len(toy.asked) < 600, "once there are too many, the rest is not asked where it leads"
    assert remarks(findings) == ["the server has more than 2,000 nodes; the rest was not looked at"]
    deep = await look(Toy(lambda node: [node + 2]))
    assert max(len(path) for path in plain(deep)) == 64


def test_browse_answers_are_the_librarys() -> None:
    toy = Toy(lambda node: TREE.get(node, []))
    response: Any = ua.BrowseResponse()
    response.Results = [toy._result([2, 3], 10)]
    (result,) = decode_browse(bytes(struct_to_binary(response)), BROWSE_RESPONSE)
    assert [
        (one.node, one.name, one.shown, one.node_class, one.type_definition) for one in result.references
    ] == [
        ("ns=2;i=2", "n2", "n2", 1, "i=61"),
        ("ns=2;i=3", "n3", "n3", 2, "i=63"),
    ]


@pytest.mark.parametrize(
    ("text", "local", "lasting"),
    [
        ("i=85", "i=85", "i=85"),
        ("ns=2;s=a;b=c", "ns=2;s=a;b=c", "nsu=urn:plant;s=a;b=c"),
        ("nsu=urn:plant;s=x", "ns=2;s=x", "nsu=urn:plant;s=x"),
        ("nsu=urn:other;s=x", "nsu=urn:other;s=x", "nsu=urn:other;s=x"),
        ("ns=9;i=1", "ns=9;i=1", "ns=9;i=1"),
    ],
)
def test_a_node_has_one_text_here_and_one_that_lasts(text: str, local: str, lasting: str) -> None:
    assert local_text(text, NAMESPACES) == local
    assert lasting_text(local, NAMESPACES) == lasting


def test_a_uri_a_server_has_twice_or_with_a_semicolon() -> None:
    assert lasting_text("ns=1;i=5", ("ua", "urn:a;b", "urn:x", "urn:x")) == "nsu=urn:a%3Bb;i=5"
    assert lasting_text("ns=2;i=5", ("ua", "urn:a", "urn:x", "urn:x")) == "ns=2;i=5"
    assert local_node("svr=1;i=5", NAMESPACES) is None
    assert local_node("nsu=urn:gone;i=5", NAMESPACES) is None


FLAT = ("statecurrent",)


@pytest.mark.parametrize(
    ("paths", "name", "states", "mode"),
    [
        (
            [("Filler", "StateCurrent"), ("Filler", "UnitModeCurrent")],
            "Filler",
            ("statecurrent",),
            "unitmodecurrent",
        ),
        ([("Hall", "Filler", "Status", "StateCurrent")], "Filler", ("statecurrent",), None),
        (
            [("DB1", "Capper.PMLs.StateCurrent"), ("DB1", "Capper.PMLs.CurMachSpeed")],
            "Capper",
            ("statecurrent",),
            None,
        ),
        (
            [
                ("PackMLObjects", "Oven", "BaseStateMachine", "CurrentState"),
                ("PackMLObjects", "Oven", "BaseStateMachine", "MachineState", "CurrentState"),
                ("PackMLObjects", "Oven", "BaseStateMachine", "MachineState", "ExecuteState", "CurrentState"),
                ("PackMLObjects", "Oven", "Status", "UnitModeCurrent"),
            ],
            "Oven",
            NESTED,
            "unitmodecurrent",
        ),
        (
            [
                ("Oven", "PackMLBaseStateMachine", "CurrentState"),
                ("Oven", "PackMLBaseStateMachine", "MachineState", "CurrentState"),
                ("Oven", "PackMLBaseStateMachine", "MachineState", "ExecuteState", "CurrentState"),
            ],
            "Oven",
            NESTED,
            None,
        ),
    ],
)
def test_packml_is_found_by_its_names(
    paths: list[tuple[str, ...]], name: str, states: tuple[str, ...], mode: str | None
) -> None:
    spotter = PackmlSpotter()
    for place, path in enumerate(paths):
        spotter.see(path, f"ns=2;i={place}")
    (sighting,) = spotter.sightings()
    assert (sighting.name, sighting.states, sighting.mode) == (name, states, mode)


def test_what_only_sounds_like_packml_is_not_offered() -> None:
    spotter = PackmlSpotter()
    for path in (
        ("Door", "CurrentState"),
        ("Filler", "UnitModeCurrent"),
        ("MachineState", "CurrentState"),
        ("A", "State"),
    ):
        spotter.see(path, "ns=2;i=1")
    assert list(spotter.sightings()) == []


def settings_of(plant: Plant, **more: Any) -> OpcuaConnection:
    given = {"name": "plc", "protocol": "opcua", "endpoint": plant.endpoint}
    return OpcuaConnection.model_validate(given | {"security": {"policy": "None", "mode": "None"}} | more)


async def furnish(plant: Plant) -> None:
    """Units, ranges, an enumeration, a structure, an array, PackML."""
    from asyncua.common.structures104 import new_enum, new_struct, new_struct_field

    server, index = plant.server, plant.index
    assert server is not None
    hall = await server.nodes.objects.add_folder(ua.NodeId("Hall", index), ua.QualifiedName("Hall", index))

    async def add(parent: Any, name: str, value: Any, **kind: Any) -> Any:
        return await parent.add_variable(ua.NodeId(name, index), ua.QualifiedName(name, index), value, **kind)

    temp = await add(hall, "temp", 21.5)
    unit = ua.EUInformation(NamespaceUri="urn:u", UnitId=4408652, DisplayName=ua.LocalizedText("°C"))
    await temp.add_property(0, "EngineeringUnits", unit)
    await temp.add_property(0, "EURange", ua.Range(Low=-10.0, High=120.0))
    await temp.set_writable()
    await add(hall, "row", [1, 2, 3], varianttype=ua.VariantType.Int32)
    mode = await new_enum(server, index, "PumpMode", ["Off", "Auto"])
    speed = new_struct_field("speed", ua.VariantType.Double)
    motor, _ = await new_struct(server, index, "Motor", [speed, new_struct_field("mode", mode)])
    fields = [new_struct_field("id", ua.VariantType.Int64), new_struct_field("motor", motor)]
    pump, _ = await new_struct(server, index, "Pump", fields)
    await server.load_data_type_definitions()
    loose: Any = ua
    value = loose.Pump(id=2**60 + 1, motor=loose.Motor(speed=1.5, mode=loose.PumpMode.Auto))
    await add(hall, "pump", value, datatype=pump.nodeid)
    await add(hall, "mode", loose.PumpMode.Auto, datatype=mode.nodeid)
    filler = await hall.add_object(ua.NodeId("Filler", index), ua.QualifiedName("Filler", index))
    await add(filler, "StateCurrent", 6, varianttype=ua.VariantType.Int32)


async def test_a_real_server_is_described(tmp_path: Path) -> None:
    plant = Plant()
    await plant.start()
    try:
        await furnish(plant)
        environment = Environment(SystemClock(), tmp_path)
        findings = [one async for one in look_around(settings_of(plant), Query(values=True), environment)]
        chosen = [
            [one async for one in look_around(settings_of(plant), query, environment)]
            for query in (Query(filter="Plant*"), Query(search="speed"), Query(filter="*Filler*"))
        ]
        assert plant.server is not None
        assert not plant.server.iserver.isession.subscription_service.subscriptions
    finally:
        await plant.stop()
    offers = [[type(one) for one in findings].count(Offer) for findings in chosen]
    assert offers == [0, 0, 1], "PackML is offered of what was asked for, and of nothing else"
    by_path = {"/".join(one.path): one for one in findings if isinstance(one, Found)}
    temp = by_path["Hall/temp"]
    assert (temp.type, temp.value, temp.unit, temp.low, temp.high) == ("Double", 21.5, "°C", -10.0, 120.0)
    assert (temp.address, temp.readable, temp.writable) == (f"nsu={URI};s=temp", True, True)
    assert (by_path["Hall/row"].type, by_path["Hall/row"].value) == ("Int32[]", "[1,2,3]")
    mode = by_path["Hall/mode"]
    assert (mode.type, mode.value, mode.description) == ("enumeration PumpMode", 1, "0 Off, 1 Auto")
    assert not by_path["Hall/pump"].is_tag
    speed = by_path["Hall/pump/motor/speed"]
    assert (speed.type, speed.value, speed.settings) == ("Double", 1.5, (("field", "motor.speed"),))
    assert by_path["Hall/pump/id"].value == 2**60 + 1
    assert by_path["Hall/pump/motor/mode"].value == 1
    assert by_path["Plant/count"].value == 2**53 + 1
    assert "Server" not in by_path
    (offer,) = (one for one in findings if isinstance(one, Offer))
    assert (offer.name, offer.model, [one.address for one in offer.states]) == (
        "Filler",
        "packml",
        [f"nsu={URI};s=StateCurrent"],
    )


async def test_a_field_of_a_structure_and_an_element_are_read_as_tags(tmp_path: Path) -> None:
    """What browsing proposes is what the connector then reads."""
    from connectors.opcua.connector import OpcuaConnector

    plant = Plant()
    await plant.start()
    try:
        await furnish(plant)
        tags = [
            {"name": "speed", "node": f"nsu={URI};s=pump", "field": "motor.speed"},
            {"name": "second", "node": f"nsu={URI};s=row", "index": 1},
            {"name": "row", "node": f"nsu={URI};s=row"},
            {"name": "none", "node": f"nsu={URI};s=pump", "field": "motor.torque"},
            {"name": "typo", "node": "nsu=urn:elsewhere;s=pump"},
        ]
        groups = [{"name": "g", "interval": "50ms", "tags": tags}]
        connector = OpcuaConnector(settings_of(plant, groups=groups), Environment(SystemClock(), tmp_path))
        samples = {one.tag: one for one in await connector.read_once()}
    finally:
        await plant.stop()
    assert samples["plc/speed"].value == 1.5
    assert samples["plc/second"].value == 2
    assert samples["plc/row"].value == "[1,2,3]"
    assert (samples["plc/none"].value, samples["plc/none"].substatus) == (None, "no_such_element")
    assert refusals_of(connector) == {"plc/typo": 'the server has no namespace "urn:elsewhere"'}


async def test_an_unprotected_server_has_to_be_asked_for_as_such(tmp_path: Path) -> None:
    plant = Plant()
    await plant.start()
    try:
        protected = OpcuaConnection.model_validate(
            {"name": "plc", "protocol": "opcua", "endpoint": plant.endpoint}
        )
        with pytest.raises(DeviceRefused, match="does not offer Basic256Sha256/SignAndEncrypt"):
            async for _ in look_around(protected, Query(), Environment(SystemClock(), tmp_path)):
                pass
    finally:
        await plant.stop()


async def test_what_cannot_be_carried_says_why_and_takes_it_back(tmp_path: Path) -> None:
    plant = Plant()
    await plant.start()
    try:
        await furnish(plant)
        tags = [
            {"name": "speed", "node": f"nsu={URI};s=pump", "field": "motor.speed"},
            {"name": "pump", "node": f"nsu={URI};s=pump"},
            {"name": "fourth", "node": f"nsu={URI};s=row", "index": 3},
        ]
        link = RecordingLink()
        async with running(
            build(plant, tmp_path, groups=[{"name": "g", "interval": "50ms", "tags": tags}]), link
        ):
            await link.until_value("plc/speed", 1.5)
            await link.until(lambda: len(link.refusals) >= 2, "both complaints")
            told = dict(link.refusals)
            assert 'name one of its fields with "field"' in told["plc/pump"]
            assert "no such element" in told["plc/fourth"]
            assert "plc/speed" not in told
            assert plant.server is not None
            row = plant.server.get_node(ua.NodeId("row", plant.index))
            await row.write_value([1, 2, 3, 4], ua.VariantType.Int32)
            await link.until_value("plc/fourth", 4)
            await link.until(lambda: ("plc/fourth", "") in link.refusals, "the complaint taken back")
    finally:
        await plant.stop()
