"""The edge node by the standard: every rule is looked at on the wire, and none is broken."""

from __future__ import annotations

import pytest

from tests.conformance.sparkplug.catalogue import NEVER, report, rules
from tests.conformance.sparkplug.checks import checks
from tests.conformance.sparkplug.conftest import Played
from tests.conformance.sparkplug.judging import judge
from tests.conformance.sparkplug.scenarios import SCENARIOS
from tests.conformance.sparkplug.seeds import Seed
from tests.conformance.sparkplug.seeds_more import SEEDS

#: In one scenario a host commands a gateway with commands on.
pytestmark = [pytest.mark.real, pytest.mark.writes, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_rule_is_broken(name: str, played: Played) -> None:
    transcript = next(one for one in played.all() if one.name == name)

    assert [str(violation) for violation in judge([transcript], checks().values()).violations] == []


def test_every_rule_is_looked_at(played: Played) -> None:
    lines = report(rules(), judge(played.all(), checks().values()))

    assert [f"{line.rule.id}: {line.why}" for line in lines if line.verdict == NEVER] == []


@pytest.mark.parametrize("seed", SEEDS.values(), ids=lambda seed: seed.name)
def test_a_bug_put_into_the_records_is_caught(seed: Seed, played: Played) -> None:
    """The same bugs as in `test_checks`, in what the gateway really sent."""
    meant = [check for check in checks().values() if seed.ids & set(check.ids)]
    changed_somewhere, left = False, set(seed.ids)
    for record in sorted(played.all(), key=lambda one: len(one.packets)):
        if not left:  # longer records would show the same
            break
        sown = seed.change(record)
        changed_somewhere |= sown is not record
        left -= judge([sown], meant).violated

    assert changed_somewhere
    assert left == set()
