"""The table of stages: each halts what it is there for, and without it exactly that slips through."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.access import Principal, Role
from api.commanding import CommandRefused
from api.refusals import COMMAND_KINDS, REFUSALS
from gateway.control.bench import Bench as RealBench
from gateway.control.facts import Arming, Facts, same
from gateway.control.judging import APPROVAL_NEEDED, LAST, STAGES, judge, rules_for
from gateway.control.rates import Rates, Window
from gateway.control.seconding import APPROVAL, Seconding, judge_second
from gateway.control.tags import agree
from statemodel.types import Quality, TagSample
from tests.gateway.control.bench import ANNA, BERTA, TAG, VIEWER, Bench, request, rules
from tests.support.manual_clock import START

SAMPLE = TagSample(TAG, 50.0, Quality.GOOD, None, START)


def facts(**changed: Any) -> Facts:
    """Facts by which nothing halts; what begins with `rule_` changes the rule, the rest the facts."""
    settings = rules(rule_rate="6/1m", **{k: v for k, v in changed.items() if k.startswith("rule_")})
    fields: dict[str, Any] = {
        "settings": settings,
        "request": request(),
        "by": ANNA,
        "via": "rest",
        "rule": settings.allow[0],
        "path": "hall/line/m-1",
        "state": "Idle",
        "kind": "fraction",
        "present": SAMPLE,
        "own_wait_s": 0.0,
        "all_wait_s": 0.0,
        "arming": None,
        "now": START,
        "now_s": 0.0,
        "until_s": 10.0,
    }
    fields.update((k, v) for k, v in changed.items() if not k.startswith("rule_"))
    return Facts(**fields)


OTHER_AREA = Principal("olaf", "user", frozenset((Role.OPERATOR,)), ("hall/line-2",))
ARMED = Arming(("user", "anna"), TAG, 90.0, 60.0)

BY_NAME = {"equipment": "m-1", "packml": {"command": "plc/cmd", "request": "plc/req", "commands": ["Reset"]}}
MISTYPED = {"tag": "", "value": None, "equipment": "m-1", "command": "reset"}


@pytest.mark.parametrize(
    ("wanted", "by", "via", "named"),
    [
        ({"tag": "plc/spp"}, ANNA, "rest", '"plc/sp"'),
        (MISTYPED, ANNA, "rest", '"m-1:Reset"'),
        (MISTYPED, ANNA, "mqtt", ""),
        (MISTYPED, VIEWER, "rest", ""),
        (MISTYPED, OTHER_AREA, "rest", ""),
        ({"tag": "oven/temp"}, ANNA, "rest", ""),
    ],
)
def test_what_is_not_on_the_list_names_what_was_meant_to_those_who_may_command_it(
    wanted: dict[str, Any], by: Principal, via: str, named: str
) -> None:
    settings = rules(allow=[rules().allow[0].model_dump(exclude_unset=True), BY_NAME])
    found = judge(facts(settings=settings, request=request(**wanted), by=by, via=via, rule=None))
    assert found is not None
    assert (found.code, found.hint) == (
        "not_allowed",
        f"Did you mean {named}?" if named else REFUSALS["not_allowed"].hint,
    )


#: Stage, code, and what only that stage halts.
ONLY: list[tuple[str, str, dict[str, Any]]] = [
    ("writes", "writes_off", {"settings": rules(enabled=False)}),
    ("area", "not_allowed", {"by": OTHER_AREA}),
    ("allow-list", "not_allowed", {"via": "mqtt"}),
    ("role", "role", {"by": VIEWER}),
    ("state", "state", {"state": "Execute"}),
    ("state", "state_unknown", {"state": "Unknown"}),
    ("state", "state_unknown", {"state": None}),
    ("state", "state_unknown", {"standstill": "not known since the journal takes nothing more"}),
    ("value", "wrong_value", {"request": request(90.5), "kind": "integer"}),
    (
        "range",
        "out_of_range",
        {"request": request(121.0), "present": msgspec.structs.replace(SAMPLE, value=119.0)},
    ),
    ("step", "step", {"request": request(100.5)}),
    ("step", "value_unknown", {"present": None}),
    ("rate", "rate", {"own_wait_s": 1.0}),
    ("rate", "rate", {"all_wait_s": 1.0}),
    ("arm", "not_armed", {"rule_arm": True}),
    (
        "arm",
        "arm_expired",
        {"rule_arm": True, "request": request(arm="x"), "arming": ARMED, "now_s": 60.0, "until_s": 99.0},
    ),
    ("arm", "arm_mismatch", {"rule_arm": True, "request": request(80.0, arm="x"), "arming": ARMED}),
    ("arm", "arm_mismatch", {"rule_arm": True, "request": request(arm="x"), "arming": ARMED, "by": BERTA}),
    ("second person", APPROVAL_NEEDED, {"rule_second_person": True}),
    ("key", "key_reused", {"reused": True}),
    ("expiry", "expired", {"now_s": 10.0}),
    ("expiry", "expired", {"request": request(not_after=START)}),
    ("audit", "audit_unavailable", {"audit": "the disk is full"}),
]


@pytest.mark.parametrize("changed", [{}, {"via": "mqtt"}, {"rule_roles": ["engineer"]}, {"state": "Execute"}])
def test_a_rule_outside_the_areas_is_answered_like_none(changed: dict[str, Any]) -> None:
    """Else whoever commands filling learns what may be commanded in baking, and by whom."""
    there, not_there = facts(by=OTHER_AREA, **changed), facts(by=OTHER_AREA, rule=None, path="")
    assert judge(there) == judge(not_there)


def test_what_is_right_passes() -> None:
    assert judge(facts()) is None


@pytest.mark.parametrize(
    ("stage", "code", "changed"), ONLY, ids=[f"{s}-{c}-{n}" for n, (s, c, _) in enumerate(ONLY)]
)
def test_each_stage_is_needed(stage: str, code: str, changed: dict[str, Any]) -> None:
    judged = facts(**changed)
    found = judge(judged)
    assert found is not None
    assert found.code == code
    assert found.reason
    without = tuple(one for one in STAGES if one[0] != stage)
    assert judge(judged, without) is None, "nothing else halts it: taken out, it slips through"


def test_every_stage_is_in_the_table_above() -> None:
    assert [name for name, _ in STAGES] == list(dict.fromkeys(stage for stage, _, _ in ONLY))


@pytest.mark.parametrize(
    "stage", [name for name, _ in STAGES if name not in ("key", "second person", "rate")]
)
async def test_without_a_stage_the_desk_itself_lets_it_through(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same at the machine: with the stage nothing is on the wire, without it something is."""
    asked: dict[str, tuple[dict[str, Any], dict[str, Any], Principal]] = {
        "writes": ({"enabled": False}, {}, ANNA),
        "allow-list": ({"rule_via": ["mqtt"]}, {}, ANNA),
        "role": ({}, {}, VIEWER),
        "area": ({}, {}, OTHER_AREA),
        "state": ({"rule_states": ["Held"]}, {}, ANNA),
        "value": ({"rule_min": None, "rule_max": None, "rule_step": None}, {"value": True}, ANNA),
        "range": ({"rule_max": 60.0}, {}, ANNA),
        "step": ({"rule_step": 1.0}, {}, ANNA),
        "arm": ({"rule_arm": True}, {}, ANNA),
        "expiry": ({}, {"expires_s": 0.0}, ANNA),
        "audit": ({}, {}, ANNA),
    }
    changed, more, by = asked[stage]
    for is_there in (True, False):
        if not is_there:
            left = tuple(one for one in STAGES if one[0] != stage)
            monkeypatch.setattr(
                RealBench.judged, "__kwdefaults__", {"reused": False, "taken": False, "stages": left}
            )
            last = tuple(one for one in LAST if one[0] != stage)
            monkeypatch.setattr("gateway.control.bench.LAST", last)
        bench = Bench(tmp_path / str(is_there), rules(**changed))
        bench.audit.says = "no space left" if stage == "audit" else ""
        async with bench.open() as desk:
            if is_there:
                with pytest.raises(CommandRefused):
                    await desk.submit(request(**more), by, "rest")
            else:
                await desk.submit(request(**more), by, "rest")
        assert len(bench.machine.received) == (0 if is_there else 1)


SECONDS: list[tuple[str, str, dict[str, Any]]] = [
    ("person", "approval_person", {"by": Principal("robot", "key", frozenset((Role.ENGINEER,)))}),
    ("other", "approval_self", {"by": Principal("Anna", "user", frozenset((Role.ENGINEER,)))}),
    ("may", "role", {"by": VIEWER}),
    ("may", "area", {"by": OTHER_AREA}),
    ("same", "approval_value", {"said": 90.5}),
    ("in time", "approval_expired", {"now_s": 10.0}),
]


@pytest.mark.parametrize(("stage", "code", "changed"), SECONDS)
def test_each_stage_of_an_approval_is_needed(stage: str, code: str, changed: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "rule": rules().allow[0],
        "path": "hall/line/m-1",
        "requested_by": "anna",
        "by": BERTA,
        "asked": 90.0,
        "said": 90.0,
        "now_s": 0.0,
        "until_s": 10.0,
    }
    assert judge_second(Seconding(**fields)) is None
    word = Seconding(**{**fields, **changed})
    found = judge_second(word)
    assert found is not None
    assert found.code == code
    assert judge_second(word, tuple(one for one in APPROVAL if one[0] != stage)) is None
    assert {name for name, _ in APPROVAL} == {name for name, _, _ in SECONDS}


def test_every_code_has_a_row_and_a_problem() -> None:
    kinds = {kind.code: kind for kind in COMMAND_KINDS}
    for code, row in REFUSALS.items():
        assert row.hint
        assert code in ("key_reused", "stopping") or kinds[code].status == row.status
    assert {code for _, code, _ in ONLY} - {APPROVAL_NEEDED} <= set(REFUSALS)


def test_of_several_rules_any_may_let_it_through() -> None:
    settings = rules()
    other = settings.allow[0].model_copy(update={"states": ("Execute",), "max": 60.0})
    both = settings.model_copy(update={"allow": (*settings.allow, other)})
    assert rules_for(both.allow, request()) == [*both.allow]
    assert rules_for(both.allow, request(tag="plc/else")) == []


@given(st.floats(0, 120), st.floats(0, 120))
def test_a_step_is_measured_from_the_present_value(present: float, wanted: float) -> None:
    sample = msgspec.structs.replace(SAMPLE, value=present)
    found = judge(facts(present=sample, request=request(wanted)))
    if abs(wanted - present) > 50.0 * (1 + 1e-6):
        assert found is not None
        assert found.code == "step"
    elif abs(wanted - present) <= 50.0:
        assert found is None


def test_values_are_the_same_or_not() -> None:
    assert same(90, 90.0)
    assert not same(True, 1)
    assert not same("1", 1)
    assert not same(None, 0)
    assert same("a", "a")


def test_what_counts_as_read_back() -> None:
    assert agree(44.7, 44.70000076293945, 0.0), "a float of 32 bits"
    assert not agree(44.7, 44.71, 0.0)
    assert agree(44.7, 44.71, 0.02)
    assert agree(True, 1, 0.0)
    assert not agree(True, 2, 0.0)
    assert agree("ab", "ab", 0.0)
    assert not agree(1, "1", 5.0)
    assert not agree(1e300, 1e301, 0.0)


@given(st.lists(st.floats(0, 30), max_size=40), st.integers(1, 5), st.integers(1, 20))
def test_never_more_than_the_rate_in_any_window(pauses: list[float], count: int, within_s: int) -> None:
    window, now_s, taken = Window(f"{count}/{within_s}s"), 0.0, list[float]()
    for pause in pauses:
        now_s += pause
        if window.wait_s(now_s) == 0:
            window.take(now_s)
            taken.append(now_s)
        else:
            assert len([at for at in taken if at > now_s - within_s]) >= count
    for start in taken:
        assert len([at for at in taken if start <= at < start + within_s]) <= count


def test_a_rate_that_changes_begins_anew_and_one_that_is_gone_is_forgotten() -> None:
    rates = Rates()
    rates.take("a", "1/1m", 0.0)
    assert rates.wait_s("a", "1/1m", 1.0) == 59.0
    assert rates.wait_s("a", "2/1m", 1.0) == 0.0
    rates.take("b", "1/1m", 0.0)
    rates.keep(lambda label: label == "a")
    assert rates.wait_s("b", "1/1m", 1.0) == 0.0
    assert timedelta(seconds=rates.wait_s("a", None, 1.0)) == timedelta()
