"""What an equipment looks like as a device, and the gateway as a node."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from gateway.sparkplug.births import (
    DEFINITION,
    INSTANCE,
    STATE_MEMBERS,
    Device,
    DeviceSpec,
    Node,
    NodeSpec,
    PublishedTag,
    device_spec,
)
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.payload import Template
from gateway.sparkplug.pictures import Point, dated
from statemodel.builtin import BUILTIN
from statemodel.machine import EquipmentSpec
from statemodel.types import UNKNOWN, Quality
from tests.gateway.sparkplug.session_parts import FILLER, T0, known, moved, read

PACKML = BUILTIN["packml"]


def values(device: Device) -> dict[str, object]:
    """The metrics that say the state."""
    return {name: device.points[name].value for name in STATE_MEMBERS}


def test_a_state_that_is_called_since_has_a_metric_of_its_own() -> None:
    device = Device(DeviceSpec("oven-1", ("Since", "Held")), T0)
    metrics = [point.name for point in device.all_points()]
    assert device.points["Durations/Since"].value == 0.0
    assert device.points["Durations Since"].value == T0
    assert len({name.casefold() for name in metrics}) == len(metrics)


def test_a_device_has_the_states_and_modes_of_its_model_and_the_tags_bound_to_it() -> None:
    spec = EquipmentSpec(
        "filler-1", "a/filler-1", PACKML, state="plc/state", mode="plc/mode", bind={"v": "plc/speed"}
    )
    tags = [PublishedTag("plc/speed"), PublishedTag("plc/other"), PublishedTag("plc/state")]

    made = device_spec(spec, tags)
    device = Device(made, T0)

    assert made.mode_tag == "plc/mode"
    assert made.modes[1] == "Production"
    assert [tag.tag for tag in made.tags] == ["plc/speed", "plc/state"]
    assert {f"Durations/{state}" for state in ("Execute", "Held", UNKNOWN)} <= device.points.keys()
    assert device.points["Durations Since"].value == T0
    assert {"Tags/plc/speed", "Tags/plc/state", "Mode"} <= device.points.keys()
    assert "Tags/plc/other" not in device.points


def test_a_model_without_modes_shows_none_whatever_is_configured() -> None:
    run_stop = BUILTIN["run-stop"]

    made = device_spec(EquipmentSpec("saw", "a/saw", run_stop, state="plc/s", mode="plc/mode"), [])

    assert "Mode" not in Device(made, T0).points


def test_before_any_state_everything_is_null_but_typed() -> None:
    device = Device(FILLER, T0)

    assert set(values(device).values()) == {None}
    shown = device.points[INSTANCE].value
    assert isinstance(shown, Template)
    assert shown.ref == DEFINITION
    assert [(m.name, m.datatype) for m in shown.metrics] == list(STATE_MEMBERS.items())


def test_a_known_state_has_its_category_from_the_model() -> None:
    device = Device(DeviceSpec("oven-1", ("Execute",), {"Execute": "productive"}), T0)
    device.know(known(3, "Execute", 1), "because")

    assert values(device) == {
        "State": "Execute",
        "State Code": 6,
        "Category": "productive",
        "Since": T0 + timedelta(seconds=1),
        "Reason": None,
        "Sequence": 3,
        "Seq": 3,
        "Conformance": None,
        "Cause": "because",
    }


def test_an_older_state_changes_nothing_and_the_same_only_its_reason() -> None:
    device = Device(FILLER, T0)
    device.move(moved(5, UNKNOWN, 5).event, 5)  # type: ignore[arg-type]
    before = values(device)

    assert device.know(known(4, "Idle", 4)) == []
    assert values(device) == before
    changed = device.know(known(5, UNKNOWN, 5, reason="plc lost: no answer"))
    assert {c.point.name for c in changed} == {"Reason", INSTANCE}
    assert values(device) == before | {"Reason": "plc lost: no answer"}


def test_a_code_too_large_is_left_out() -> None:
    device = Device(FILLER, T0)
    state = known(1, "Idle", 1)
    for code, told in ((1 << 31, None), (-(1 << 31), -(1 << 31)), (6, 6)):
        device.know(msgspec.structs.replace(state, seq=device.seq + 1, code=code))
        assert device.points["State Code"].value == told


def test_time_before_the_gateway_started_is_not_counted() -> None:
    device = Device(FILLER, T0)
    device.move(moved(1, "Execute", -5, lasted_s=60).event, 1)  # type: ignore[arg-type]
    assert device.points["Durations/Idle"].value == 0.0
    device.move(moved(2, "Idle", 5, frm="Execute", lasted_s=10).event, 2)  # type: ignore[arg-type]

    assert device.points["Durations/Execute"].value == 5.0


def test_a_state_the_model_has_no_more_is_counted_nowhere() -> None:
    device = Device(FILLER, T0)

    device.move(moved(1, "Execute", 5, frm="Gone").event, 1)  # type: ignore[arg-type]

    assert (
        sum(
            p.value
            for n, p in device.points.items()
            if n.startswith("Durations/") and isinstance(p.value, float)
        )
        == 0
    )


def test_the_mode_is_null_when_what_shows_it_cannot_be_used() -> None:
    picky = Device(FILLER, T0)
    lenient = Device(
        DeviceSpec("f", (), mode_tag="plc/mode", modes={1: "Production"}, accept_uncertain=True), T0
    )
    unsure = read("plc/mode", 1, 1, Quality.UNCERTAIN)

    for device in (picky, lenient):
        device.sample(unsure)

    assert (picky.points["Mode"].value, lenient.points["Mode"].value) == (None, "Production")
    lenient.sample(read("plc/mode", 9, 2))
    assert lenient.points["Mode"].value is None


def test_the_node_says_what_it_is_and_defines_what_devices_have() -> None:
    node = Node(NodeSpec("Andon", "0.4.0", "", ("plc",)))
    definition = node.points[DEFINITION].value

    assert node.points["Properties/Software"].value == "Andon"
    assert node.points["Properties/Stream"].value is None
    assert node.points["Connections/plc/Online"].datatype is DataType.BOOLEAN
    assert "Node Control/Next Server" not in node.points
    assert isinstance(definition, Template)
    assert definition.is_definition
    assert definition.version == "1"
    assert {m.name: m.datatype for m in definition.metrics} == STATE_MEMBERS


def test_members_get_a_time_where_they_have_none() -> None:
    node = Node(NodeSpec("Andon", "0.4.0"))

    timed = dated(node.points[DEFINITION].value, T0)

    assert isinstance(timed, Template)
    assert {member.at for member in timed.metrics} == {T0}
    assert dated(3, T0) == 3


def test_properties_are_said_where_they_belong() -> None:
    point = Point("Tags/a/b", DataType.DOUBLE, 1.0, T0, "bar", 0, "device_failure")

    assert {name: p.value for name, p in point.properties(birth=True).items()} == {
        "engUnit": "bar",
        "Quality": 0,
        "Substatus": "device_failure",
    }
    assert {name: p.value for name, p in point.properties().items()} == {
        "Quality": 0,
        "Substatus": "device_failure",
    }
    assert Point("State", DataType.STRING, "Idle").properties(birth=True) == {}
