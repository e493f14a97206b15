"""The checks themselves, on records written by hand: content with what is right, and with nothing else."""

from __future__ import annotations

from functools import cache

import pytest

from tests.conformance.sparkplug import script
from tests.conformance.sparkplug.catalogue import (
    NEVER,
    NOT_APPLICABLE,
    PROVED,
    VIOLATED,
    Rule,
    document,
    failed,
    faults,
    report,
    rules,
    text,
    totals,
)
from tests.conformance.sparkplug.checks import checks
from tests.conformance.sparkplug.judging import Findings, judge
from tests.conformance.sparkplug.seeds import Seed
from tests.conformance.sparkplug.seeds_more import SEEDS
from tests.conformance.sparkplug.story import LOST, STOPPED, Transcript


def all_checks(transcripts: list[Transcript]) -> Findings:
    return judge(transcripts, checks().values())


@cache
def sown(name: str) -> Findings:
    """What is found in the records written by hand when this seed is in them."""
    return all_checks([SEEDS[name].change(one) for one in script.right()])


def test_the_list_of_ids_is_whole() -> None:
    assert faults(rules()) == []


def test_faults_of_the_list_are_found() -> None:
    listed = rules()
    broken = [
        *listed[1:],
        listed[1],
        Rule("no-such-id", "It says so.", ("no_such_check",), "", ()),
        Rule("nothing-said", "", (), "", ()),
    ]

    found = "\n".join(faults(broken))

    for words in (
        f"{listed[0].id}, which is not listed",
        f"{listed[1].id} is listed 2 times",
        "217 ids are listed",
        "no check no_such_check",
        "nothing-said: no words",
        "nothing-said: either checks",
    ):
        assert words in found


def test_a_right_edge_node_is_found_to_be_right() -> None:
    findings = all_checks(script.right())

    assert [str(violation) for violation in findings.violations] == []


def test_a_session_soon_over_owes_the_death_of_a_lost_device_all_the_same() -> None:
    """A fast machine plays the rest of a scenario within a second."""
    played = script.Script("by hand, soon over")
    played.connect()
    played.births()
    played.note(LOST, "oven")
    played.speed(2.5)
    played.note(STOPPED)
    played.leave()

    assert "operational-behavior-device-ddeath" in all_checks([played.transcript]).violated


def test_a_busy_machine_breaks_no_rule() -> None:
    """Whatever is waited for comes late: a DDEATH, a rebirth, the end of a session whose host has gone."""
    played = script.Script("by hand, busy", host=True)
    played.connect()
    played.state(True, 200)
    played.births()
    played.note(LOST, "oven")
    played.at_ms += 20_000
    played.say("DDEATH", "oven", lambda payload: None)
    played.at_ms += 10_000
    played.ask_rebirth()
    played.at_ms += 2_000
    played.speed(3.5)
    played.at_ms += 18_000
    played.births("filler")
    played.state(False, 200)
    played.at_ms += 20_000
    played.leave()

    assert [str(violation) for violation in all_checks([played.transcript]).violations] == []


def test_every_check_has_something_to_look_at() -> None:
    findings = all_checks(script.right())

    assert [name for name in checks() if not findings.looked[name]] == []


def test_a_check_with_nothing_to_look_at_is_reported() -> None:
    lines = report(rules(), all_checks([script.plain()]))

    never = {line.rule.id for line in lines if line.verdict == NEVER}
    assert "principles-persistence-clean-session-311" in never
    assert "message-flow-edge-node-birth-publish-phid-wait" in never
    assert "topics-nbirth-mqtt" not in never
    assert failed(lines)
    assert not failed(lines, partly=True)


def test_the_report_of_a_right_edge_node_is_good_and_of_a_wrong_one_is_not() -> None:
    findings = all_checks(script.right())
    lines = report(rules(), findings)
    wrong = report(rules(), sown("no_will"))

    assert not failed(lines)
    assert totals(lines) == {PROVED: 197, NOT_APPLICABLE: 18, VIOLATED: 0, NEVER: 0}
    assert failed(wrong)
    assert failed(wrong, partly=True)
    told = document(lines, findings)
    assert {entry["id"] for entry in told["ids"]} == {f"tck-id-{rule.id}" for rule in rules()}
    assert text(lines, findings).endswith("215 ids of Sparkplug B 3.0.0 for an edge node")


@pytest.mark.parametrize("seed", SEEDS.values(), ids=lambda seed: seed.name)
def test_a_seeded_bug_is_caught(seed: Seed) -> None:
    findings = sown(seed.name)

    assert seed.ids - findings.violated == set()
    told = {line.rule.id for line in report(rules(), findings) if line.verdict == VIOLATED}
    assert seed.ids <= told


def test_there_is_a_seed_for_every_check() -> None:
    """A check that no seed makes find something may be blind."""
    found = {violation.check for name in SEEDS for violation in sown(name).violations}

    assert set(checks()) - found == set()
