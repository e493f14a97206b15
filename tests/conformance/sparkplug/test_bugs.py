"""A gateway with a bug in its protocol is found out, by the rule the bug breaks and by way of the wire."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.sparkplug.bugs import BUGS, Bug
from tests.conformance.sparkplug.checks import checks
from tests.conformance.sparkplug.judging import judge
from tests.conformance.sparkplug.scenarios import SCENARIOS
from tests.gateway.publish.support import find_mosquitto

#: One bug is that of a gateway with commands on.
pytestmark = [pytest.mark.real, pytest.mark.writes, pytest.mark.timeout(400)]


@pytest.mark.parametrize("bug", BUGS.values(), ids=lambda bug: bug.name)
async def test_a_bug_is_found_out(bug: Bug, tmp_path: Path) -> None:
    find_mosquitto()
    with bug.put_in():
        transcript = await SCENARIOS[bug.scenario].record_what_comes(tmp_path)

    assert bug.ids - judge([transcript], checks().values()).violated == set()
