"""deploy/andon.service: hardened, started again only when that helps, and given the time it needs to stop."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from gateway import embedded_postgres, errors
from gateway.config.problems import ConfigurationRefused
from statemodel.durations import parse_duration

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "andon.service"

#: Gives up new executable memory, as MemoryDenyWriteExecute makes a service do, then becomes the command.
_DENY = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
#: Every native part of the gateway that might want to make code at run time, made to work.
_NATIVE = """
import asyncio, sqlite3, asyncpg, msgspec, uvloop, zstandard
import asyncua, fastapi, paho.mqtt.client, prometheus_client, pydantic
from cryptography.hazmat.primitives.asymmetric import rsa
import gateway.app
asyncio.Runner(loop_factory=uvloop.new_event_loop).run(asyncio.sleep(0))
rsa.generate_private_key(65537, 2048)
sqlite3.connect(":memory:").execute("select 1").fetchone()
zstandard.decompress(zstandard.compress(b"x" * 1000))
print("fine")
"""


def settings() -> dict[str, list[str]]:
    """Every setting with its values, in order; sections do not share names here."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


SETTINGS = settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DynamicUser", "yes"),
        ("StateDirectory", "andon"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestrictNamespaces", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallArchitectures", "native"),
        ("Restart", "on-failure"),
        ("KillMode", "mixed"),
    ],
)
def test_it_is_hardened(key: str, value: str) -> None:
    assert SETTINGS[key] == [value]


def test_it_is_not_started_again_when_that_cannot_help() -> None:
    codes = {int(code) for code in SETTINGS["RestartPreventExitStatus"][0].split()}

    assert codes == {ConfigurationRefused.exit_code, errors.JournalInUse.exit_code}
    assert errors.JournalDamaged.exit_code in codes
    assert errors.StartFailed.exit_code not in codes
    assert "ExecStartPre" not in SETTINGS, "its failures would be tried again for ever"


def test_it_has_the_time_it_needs_to_stop() -> None:
    from gateway.assembly.ending import FAREWELL_S_MAX

    patience_s = parse_duration(SETTINGS["TimeoutStopSec"][0]).total_seconds()

    assert patience_s >= FAREWELL_S_MAX + embedded_postgres._STOP_S + 10.0


def test_what_it_writes_is_where_it_may_write() -> None:
    state = f"/var/lib/{SETTINGS['StateDirectory'][0]}"

    assert SETTINGS["WorkingDirectory"] == [state]
    assert f'data_dir = "{state}"' in UNIT.read_text(encoding="utf-8")
    [start] = SETTINGS["ExecStart"]
    assert re.fullmatch(r"/opt/andon/bin/andon run /etc/andon/andon\.toml", start)


def test_systemd_takes_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    copy = tmp_path / "andon.service"
    copy.write_text(
        UNIT.read_text(encoding="utf-8").replace("/opt/andon/bin/andon", shutil.which("true") or "/bin/true"),
        encoding="utf-8",
    )

    verified = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=110, check=False
    )

    assert verified.returncode == 0, verified.stderr
    assert "andon.service" not in verified.stderr, verified.stderr


def test_it_gets_on_without_executable_memory_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DENY, "-c", _NATIVE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    if done.returncode == 77:
        pytest.skip("this kernel cannot deny executable memory (it needs 6.3)")
    assert done.stdout == "fine\n", done.stderr
