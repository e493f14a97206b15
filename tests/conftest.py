"""Settings of the whole test run: how randomness is shown, what was left out and how to have it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support import no_writes

#: How long examples take to be drawn says something of the machine alone: one that stood still for a moment
#: is no failure.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("long", settings.get_profile("default"), max_examples=10_000)
settings.load_profile(os.environ.get("ANDON_TEST_PROFILE", "default"))

MISSING = {
    "TimescaleDB": not os.environ.get("ANDON_TEST_TIMESCALE"),
    "Mosquitto": not (
        os.environ.get("ANDON_TEST_MOSQUITTO")
        or shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    ),
    "strace": not shutil.which("strace"),
    "node-opcua": not (os.environ.get("ANDON_TEST_OPCUA_PEER") and shutil.which("node")),
    "sparkplug-payload": not (os.environ.get("ANDON_TEST_SPARKPLUG_PEER") and shutil.which("node")),
}


def pytest_configure(config: pytest.Config) -> None:
    """No device is written to in the whole run, but by tests that say that they write."""
    config.pluginmanager.register(no_writes, "andon-no-writes")


def pytest_runtest_setup() -> None:
    """What a verb of the command line made of the log in one test is not what the next one listens to."""
    structlog.reset_defaults()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where the real parts have to be there, a test left out for want of one makes the run fail."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    left_out = reporter is not None and reporter.stats.get("skipped")
    if os.environ.get("CI") and left_out and any(MISSING.values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say in one line what was not run for want of a real part, and how to have it."""
    yield
    missing = [name for name, away in MISSING.items() if away]
    if missing and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line(
            f"not run, for want of a real {' and a real '.join(missing)}: as root on Debian or Ubuntu, "
            'eval "$(scripts/real-parts)" brings them; then run the tests again',
            yellow=True,
        )
