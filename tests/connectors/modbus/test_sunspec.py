"""SunSpec: the walk over a layout written by hand, its tags, and devices that break the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.layout import Table
from connectors.modbus.plan import Limits, ReadRequest
from connectors.modbus.sunspec import Proposal, Survey, proposals, walk
from connectors.modbus.sunspec_models import MODELS
from connectors.modbus.tags import ModbusTag
from tests.connectors.modbus.sunspec_device import AT_COMMON, AT_INVERTER, AT_OWN, registers


def survey(
    memory: Mapping[int, int], limits: Limits | None = None, asked: list[ReadRequest] | None = None
) -> Survey:
    """Walk over a memory; what is not in it is refused."""
    steps = walk(limits or Limits())
    request = next(steps)
    while True:
        if asked is not None:
            asked.append(request)
        assert request.table is Table.HOLDING
        assert request.end <= 65536
        places = range(request.start, request.end)
        there = all(place in memory for place in places)
        try:
            request = steps.send(tuple(memory[place] for place in places) if there else None)
        except StopIteration as end:
            result: Survey = end.value
            return result


def laid_out(base: int, words: list[int] | None = None) -> dict[int, int]:
    return dict(enumerate(registers() if words is None else words, base))


def points(base: int = 40000, number: int = 1) -> dict[str, Proposal]:
    block = survey(laid_out(base)).blocks[number]
    return {proposal.point.name: proposal for proposal in proposals(block)}


@pytest.mark.parametrize("base", [40000, 0, 50000])
def test_the_marker_is_found_wherever_it_may_be(base: int) -> None:
    found = survey(laid_out(base))
    assert (found.base, found.remark) == (base, "")
    assert [(block.id, block.start - base, block.length) for block in found.blocks] == [
        (1, AT_COMMON, 66),
        (103, AT_INVERTER, 50),
        (64001, AT_OWN, 4),
    ]
    assert found.blocks[2].registers == (), "what is not known is not read"


def test_offsets_are_those_of_the_specification() -> None:
    places = {point.name: point.offset for point in MODELS[103].points}
    wanted = {
        "A": 2,
        "AphC": 5,
        "A_SF": 6,
        "PPVphAB": 7,
        "PhVphA": 10,
        "V_SF": 13,
        "W": 14,
        "W_SF": 15,
        "Hz": 16,
        "Hz_SF": 17,
        "VA": 18,
        "VA_SF": 19,
        "VAr": 20,
        "VAr_SF": 21,
        "PF": 22,
        "PF_SF": 23,
        "WH": 24,
        "WH_SF": 26,
        "DCA": 27,
        "DCA_SF": 28,
        "DCV": 29,
        "DCV_SF": 30,
        "DCW": 31,
        "DCW_SF": 32,
        "TmpCab": 33,
        "Tmp_SF": 37,
        "St": 38,
        "StVnd": 39,
        "Evt1": 40,
    }
    assert {name: places[name] for name in wanted} == wanted
    common = {point.name: (point.offset, point.registers) for point in MODELS[1].points}
    assert common == {
        "Mn": (2, 16),
        "Md": (18, 16),
        "Opt": (34, 8),
        "Vr": (42, 8),
        "SN": (50, 16),
        "DA": (66, 1),
        "Pad": (67, 1),
    }
    lengths = {id_: model.length for id_, model in MODELS.items() if model.points}
    assert lengths == {
        1: 66,
        101: 50,
        102: 50,
        103: 50,
        111: 60,
        112: 60,
        113: 60,
        120: 26,
        201: 105,
        202: 105,
        203: 105,
        204: 105,
    }
    # A meter's energies, by hand: ten totals of four registers before TotWhExp at 38, four of two after it.
    meter = {point.name: point.offset for point in MODELS[203].points}
    assert (meter["TotWhExp"], meter["TotWhImp"], meter["TotWh_SF"], meter["Evt"]) == (38, 46, 54, 105)


@pytest.mark.parametrize(
    ("name", "value", "type_", "scale"),
    [
        ("A", 12.34, "uint16", 0.01),
        ("AphA", 4.11, "uint16", 0.01),
        ("PPVphCA", 400.3, "uint16", 0.1),
        ("W", -1000.0, "int16", 10.0),
        ("Hz", 49.98, "uint16", 0.01),
        ("VAr", 50, "int16", 1.0),
        ("PF", -100.0, "int16", 0.1),
        ("WH", 100000, "uint32", 1.0),
        ("DCA", 0.0, "uint16", 0.1),
        ("DCV", 650.0, "uint16", 0.1),
        ("TmpCab", 42.1, "int16", 0.1),
        ("St", 4, "uint16", 1.0),
        ("Evt1", 0, "uint32", 1.0),
    ],
)
def test_scale_factors_are_applied_as_they_are_now(name: str, value: float, type_: str, scale: float) -> None:
    point = points()[name]
    assert (point.value, point.type, point.scale) == (value, type_, scale)
    assert not point.absent
    assert point.problem == ""


def test_what_is_not_implemented_is_said_so_and_not_a_number() -> None:
    found = points()
    absent = {name for name, point in found.items() if point.absent}
    assert absent == {
        "AphC",
        "PhVphA",
        "VA",
        "TmpSnk",
        "TmpTrns",
        "TmpOt",
        "StVnd",
        "Evt2",
        "EvtVnd1",
        "EvtVnd2",
        "EvtVnd3",
        "EvtVnd4",
    }
    assert all(found[name].value is None for name in absent)
    assert found["DCW"].problem == "its scale factor DCW_SF is 11"
    assert "A_SF" not in found, "a scale factor is no tag"


def test_the_common_model_says_whose_it_is() -> None:
    found = points(number=0)
    values = {name: point.value for name, point in found.items()}
    assert values == {
        "Mn": "Sunny & Sons",
        "Md": "SI-50",
        "Opt": None,
        "Vr": "1.2.3",
        "SN": "0815-4711",
        "DA": 3,
    }
    assert found["SN"].type == "string(32)"
    assert str(found["SN"].address) == "holding:40052"


def test_every_proposal_is_a_tag_that_reads_what_was_read() -> None:
    from connectors.modbus.codec import BlockFormat, registers_bytes
    from connectors.modbus.plan import request_of
    from connectors.modbus.values import Flaw

    for number in (0, 1):
        for name, point in points(number=number).items():
            settings: dict[str, Any] = {"name": name, "address": str(point.address), "type": point.type}
            tag = ModbusTag.model_validate(settings | {"scale": point.scale, "no_value": point.no_value})
            signal = tag.signal("t")
            memory = laid_out(40000)
            words = [memory[place] for place in range(signal.start, signal.end)]
            (decoded,) = BlockFormat(request_of((signal,))).decode(registers_bytes(words))
            if not point.problem:
                assert (None if isinstance(decoded, Flaw) else decoded) == point.value, name


def test_an_accumulator_of_0_has_no_value_but_is_a_tag() -> None:
    words = registers()
    words[AT_INVERTER + 24 : AT_INVERTER + 26] = [0, 0]
    block = survey(laid_out(0, words)).blocks[1]
    energy = next(proposal for proposal in proposals(block) if proposal.point.name == "WH")
    assert (energy.value, energy.absent, energy.no_value) == (None, False, 0)


def test_a_shorter_form_of_a_model_has_fewer_points() -> None:
    words = registers()
    del words[AT_COMMON + 67]
    words[AT_COMMON + 1] = 65  # the common model without its filler
    found = survey(laid_out(40000, words))
    assert [block.id for block in found.blocks] == [1, 103, 64001]
    assert {p.point.name for p in proposals(found.blocks[0])} == {"Mn", "Md", "Opt", "Vr", "SN", "DA"}


def test_no_request_reads_more_than_the_device_takes() -> None:
    asked: list[ReadRequest] = []
    found = survey(laid_out(40000), Limits(registers_per_request=10), asked)
    assert max(request.count for request in asked) == 10
    assert found == survey(laid_out(40000))


def test_a_device_without_the_marker_is_not_walked() -> None:
    asked: list[ReadRequest] = []
    assert survey(dict.fromkeys(range(60000), 0x5375), asked=asked) == Survey(None)
    assert [request.start for request in asked] == [40000, 0, 50000]
    assert survey({}) == Survey(None)


@pytest.mark.parametrize(
    ("words", "blocks", "remark"),
    [
        ([0x5375, 0x6E53, 0, 0], 0, "begins no model (id 0, length 0)"),
        ([0x5375, 0x6E53, 64001, 1, 7], 1, "refuses holding:40005, where the next model or the end"),
        ([0x5375, 0x6E53, 64001, 60000], 0, "begins no model (id 64001, length 60000)"),
        ([0x5375, 0x6E53, 103, 50, 1, 2], 1, "refuses holding:40054"),
        ([0x5375, 0x6E53, *[7, 0] * 300], 256, "begins no model"),
    ],
)
def test_a_chain_that_does_not_end_as_it_should_ends_all_the_same(
    words: list[int], blocks: int, remark: str
) -> None:
    found = survey(laid_out(40000, words))
    assert len(found.blocks) == blocks
    assert remark in found.remark


@given(st.lists(st.integers(0, 0xFFFF), max_size=200), st.integers(1, 125))
def test_any_bytes_behind_the_marker_end_the_walk_without_harm(words: list[int], count_max: int) -> None:
    found = survey(laid_out(40000, [0x5375, 0x6E53, *words]), Limits(registers_per_request=count_max))
    for block in found.blocks:
        for proposal in proposals(block):
            assert proposal.address.start + proposal.point.registers <= block.start + 2 + block.length
