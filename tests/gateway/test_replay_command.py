"""`andon replay`, `history` and `model`, as people and scripts use them, on a journal a gateway wrote."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load
from tests.gateway.journal.builders import START
from tests.gateway.recorded_site import CONFIG, MODEL, record
from tests.gateway.test_commands import andon


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with what its gateway recorded."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "oven.toml").write_text(MODEL, encoding="utf-8")
    (folder / "andon.toml").write_text(CONFIG, encoding="utf-8")
    (folder / "hot.toml").write_text(MODEL.replace("180", "188"), encoding="utf-8")
    (folder / "broken.toml").write_text(MODEL.replace('"not run"', '"not not"'), encoding="utf-8")
    (folder / "needy.toml").write_text(MODEL.replace('"not run"', '"not run and fan"'), encoding="utf-8")
    asyncio.run(record(load(folder / "andon.toml"), START))
    return folder


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_same_model_gives_what_was_recorded(site: Path) -> None:
    done = andon("replay", str(site / "andon.toml"), "--equipment", "oven-1", "--json")
    assert done.returncode == 0, done.stderr
    (told,) = lines(done.stdout)
    assert told["difference"]["different_s"] == 0
    assert (told["transitions_before"], told["transitions_after"]) == (6, 6)
    history = andon("history", "oven-1", "--samples", "--config", str(site / "andon.toml"))
    recorded = [item for item in lines(history.stdout) if item["type"] == "transition"]
    envelope = {"stream", "seq", "id", "type", "gateway", "recorded_at"}
    assert told["transitions"] == [
        {name: value for name, value in item.items() if name not in envelope} for item in recorded
    ]
    assert told["warnings"] == []


def test_a_changed_model_shows_its_difference(site: Path) -> None:
    arguments = (
        "replay",
        str(site / "andon.toml"),
        "--model",
        str(site / "hot.toml"),
        "--equipment",
        "oven-1",
    )
    done = andon(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == andon(*arguments, "--json").stdout, "the same to the byte"
    (told,) = lines(done.stdout)
    assert [
        (item["before"], item["after"], item["duration_s"]) for item in told["difference"]["intervals"]
    ] == [("Baking", "Heating", 5.0), ("Baking", "Heating", 3.0)]
    assert told["difference"]["states"]["Baking"] == {"before_s": 11.0, "after_s": 3.0}
    assert told["timeline"][0]["state"] == "Unknown"
    people = andon(*arguments)
    assert "oven-1 through model oven  different for 8.0s of 35.0s" in people.stdout
    for words in ("before  ", "after   ", "^", "B Baking", "Baking (productive)", "-8.0s", "+8.0s"):
        assert words in people.stdout, words


def test_what_replay_cannot_see_is_named(site: Path) -> None:
    done = andon("replay", str(site / "andon.toml"))
    assert done.returncode == 0, done.stderr
    assert "oven-1 through model oven  the same" in done.stdout
    assert "note: plc/level has record = false: replay does not see it" in done.stdout


def test_a_file_is_as_good_as_the_journal(site: Path, tmp_path: Path) -> None:
    exported = andon("history", "oven-1", "--samples", "--config", str(site / "andon.toml"))
    assert exported.returncode == 0, exported.stderr
    assert "oven-2" not in exported.stdout
    file = tmp_path / "recording.jsonl"
    file.write_text(exported.stdout, encoding="utf-8")
    arguments = ("replay", str(site / "andon.toml"), "--equipment", "oven-1", "--json")
    assert andon(*arguments, "--recording", str(file)).stdout == andon(*arguments).stdout


def test_a_restart_in_between_is_replayed_as_it_was(site: Path, tmp_path: Path) -> None:
    for name in ("andon.toml", "oven.toml"):
        (tmp_path / name).write_bytes((site / name).read_bytes())
    for minutes in (0, 10, 20):
        asyncio.run(record(load(tmp_path / "andon.toml"), START + timedelta(minutes=minutes)))
    done = andon("replay", str(tmp_path / "andon.toml"), "--equipment", "oven-1", "--json")
    (told,) = lines(done.stdout)
    assert told["difference"]["intervals"] == []
    assert told["transitions_before"] == told["transitions_after"] == 18
    assert told["difference"]["states"]["Baking"]["after_s"] == 3 * 11.0


def test_a_range_is_cut_exactly(site: Path) -> None:
    begin, end = START + timedelta(seconds=8), START + timedelta(seconds=13)
    done = andon(
        "replay",
        str(site / "andon.toml"),
        *("--equipment", "oven-1", "--json", "--from", begin.isoformat(), "--to", end.isoformat()),
    )
    (told,) = lines(done.stdout)
    assert told["difference"]["same_s"] == 5.0
    assert [span["state"] for span in told["timeline"]] == ["Heating", "Baking"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--equipment", "oven-11"], 2, 'did you mean "oven-1"?'),
        (["--model", "pakml"], 2, 'did you mean "packml"?'),
        (["--model", "packml"], 2, 'no equipment has a model named "packml"'),
        (["--model", "packml", "--equipment", "oven-1"], 2, "has no tag for state"),
        (["--model", "{site}/needy.toml"], 2, "oven-1 has no tag for fan"),
        (["--model", "{site}/broken.toml"], 2, "broken.toml:"),
        (["--model", "{site}/none.toml"], 2, "there is no such file"),
        (["--recording", "{site}/none.jsonl"], 2, "No such file"),
        (["--recording", "{site}/oven.toml"], 2, "oven.toml:1: "),
        (["--from", "soon"], 2, "is not a time"),
        (["--from", "2020-01-01", "--to", "2020-01-02"], 2, "the recording reaches from 2026-11-21"),
    ],
)
def test_what_cannot_be_replayed_says_why(site: Path, arguments: list[str], code: int, words: str) -> None:
    done = andon("replay", str(site / "andon.toml"), *(word.format(site=site) for word in arguments))
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_journal_there_is_nothing_to_replay(site: Path, tmp_path: Path) -> None:
    for name in ("andon.toml", "oven.toml"):
        (tmp_path / name).write_bytes((site / name).read_bytes())
    done = andon("replay", str(tmp_path / "andon.toml"))
    assert (done.returncode, "there is no journal in" in done.stderr) == (1, True)


def test_samples_need_a_configuration_that_has_the_equipment(site: Path) -> None:
    done = andon("history", "oven-1", "--samples")
    assert (done.returncode, "add --config" in done.stderr) == (2, True)
    done = andon("history", "oven-11", "--samples", "--config", str(site / "andon.toml"))
    assert (done.returncode, 'did you mean "oven-1"' in done.stderr) == (2, True)
