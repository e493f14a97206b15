"""`andon explain`, `history` and `kpi`: what people ask a running gateway about the past."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.load import load
from tests.gateway.recorded_site import CONFIG, MODEL, record
from tests.gateway.test_commands import later
from tests.support.processes import free_port, gateway

#: Each test starts a gateway and asks it by many commands, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

#: The recorded history lies this far back.
AGO = timedelta(hours=1)
STATES = ["Heating", "Baking", "Heating", "Baking", "Off", "Unknown"]


class Site:
    """A running gateway with a past; its PLC is switched off."""

    def __init__(self, config: Path, begin: datetime) -> None:
        self.config, self.begin = config, begin

    async def ask(self, *arguments: str) -> list[dict[str, Any]]:
        done = await later(*arguments, "--config", str(self.config), "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    async def read(self, *arguments: str) -> str:
        done = await later(*arguments, "--config", str(self.config))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def at(self, seconds: float) -> str:
        return (self.begin + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    api, begin = free_port(), datetime.now(UTC) - AGO
    config = tmp_path / "andon.toml"
    (tmp_path / "oven.toml").write_text(MODEL, encoding="utf-8")
    config.write_text(f'{CONFIG}\n[api]\nlisten = "127.0.0.1:{api}"\n', encoding="utf-8")
    await record(load(config), begin)
    async with gateway(config, api):
        yield Site(config, begin)


async def test_the_past_is_told_to_people_and_programs(site: Site) -> None:
    moves = [item for item in await site.ask("history", "oven-1") if item["to_state"] != "Unknown"]
    assert [item["to_state"] for item in moves] == STATES[: len(moves)]
    assert len(moves) >= 4
    people = await site.read("history", "oven-1", "--from", site.at(0), "--to", site.at(9))
    assert "Unknown → Heating" in people
    assert len(people.splitlines()) == 1
    assert people.split()[1] == site.begin.strftime("%Y-%m-%d")
    assert await site.ask("history", "oven-1", "--from", "1s") == []

    baking = next(item for item in moves if item["to_state"] == "Baking")
    (told,) = await site.ask("explain", "oven-1", "--seq", str(baking["seq"]))
    assert told["inputs"][0]["tag"] == "plc/temp"
    assert told["previous"]["to_state"] == "Heating"
    assert told["next"]["from_state"] == "Baking"
    assert told["rule"] == "temp >= 180"
    text = await site.read("explain", "oven-1", "--at", site.at(13))
    assert "oven-1 went from Heating to Baking" in text
    assert "plc/temp = 185, good" in text
    assert "After: Baking for " in text
    (present,) = await site.ask("explain", "oven-1")
    assert (present["state"], present["rule"]) == ("Unknown", "source_lost")

    (report,) = await site.ask("kpi", "oven-1", "--from", site.at(0), "--to", site.at(60), "--bucket", "30s")
    assert [item["duration_s"] for item in report["items"]] == [30.0, 30.0]
    assert report["total"]["categories"]["productive"] == 11.0
    assert round(sum(report["total"]["categories"].values()), 6) == 60.0
    table = await site.read("kpi", "oven-1", "--from", "2h", "--bucket", "hour", "--tz", "Europe/Berlin")
    for words in ("by the clocks of Europe/Berlin", "productive", "unknown", "availability", "all"):
        assert words in table, words
    shifts = await site.read("kpi", "oven-1", "--shifts", "a=00:00-12:00,b=12:00-00:00")
    assert " a " in shifts


REFUSED: list[tuple[list[str], int, str]] = [
    (["explain", "oven-1", "--seq", "999999"], 1, "the last event of the stream is"),
    (["explain", "oven-1", "--seq", "x"], 2, "is not a cursor"),
    (["explain", "oven-1", "--seq", "1", "--at", "1h"], 2, "exclude each other"),
    (["explain", "oven-3"], 2, 'Did you mean "oven-'),
    (["explain", "a/b?c"], 1, "a/b?c"),
    (["history", "oven-3"], 2, 'Did you mean "oven-'),
    (["history", "oven-1", "--from", "noon"], 2, "--from"),
    (["kpi", "oven-1", "--bucket", "fortnight"], 2, "is not a bucket"),
    (["kpi", "oven-1", "--tz", "Mars/Olympus"], 2, "IANA name"),
    (["kpi", "oven-1", "--to", "2026-13-01"], 2, "--to"),
]


async def test_questions_that_cannot_be_answered_say_why(site: Site) -> None:
    for arguments, code, words in REFUSED:
        done = await later(*arguments, "--config", str(site.config))
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


async def test_states_over_many_pages_go_on_to_the_present(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["history", "oven-1", "--states", "--from", site.at(0), "--config", str(site.config), "--json"]
    whole = [item["from"] for item in await site.ask(*words[:5])]
    assert len(whole) > 4
    monkeypatch.setattr("gateway.commands.corrections._PAGE", 2)
    paged = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert paged.exit_code == 0, paged.output
    assert [json.loads(line)["from"] for line in paged.output.splitlines()] == whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("history", "oven-9"), "oven-9"),
        (("history", "oven-1", "--from", "1m", "--to", "2m"), "from"),
        (("kpi", "oven-1", "--tz", "Europe/Berln"), "Berln"),
        (("correct", "oven-1", "--from", "1m", "--state", "Bakin", "--reason", "x"), "Bakin"),
        (("history", "oven-1", "--samples", "--from", "1m"), "--from"),
    ],
)
async def test_a_wrong_argument_is_one_whoever_notices(site: Site, words: tuple[str, ...], said: str) -> None:
    done = await later(*words, "--config", str(site.config))
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "hint:" in done.stderr


async def test_a_question_without_an_answer_is_no_wrong_argument(site: Site) -> None:
    done = await later("explain", "oven-1", "--at", "2001-01-01", "--config", str(site.config))
    assert done.returncode == 1, done.stderr


async def test_nobody_there_is_told_in_words(tmp_path: Path) -> None:
    done = await later("state", "--url", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert "Errno" not in done.stderr
