"""`andon audit` on the files of a gateway that does not run, and compliance rules that lead nowhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.audit import folder
from gateway.cli import app
from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused
from tests.gateway.audit.trails import written

CONFIG = """
[gateway]
id = "line-1"
enterprise = "e"
site = "s"
data_dir = "data"
[historian]
dsn = "env:NOT_THERE"
[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:502"
[[connections.groups]]
name = "all"
interval = "1s"
tags = [{ name = "state", address = "holding:0", type = "uint16" }]
[[equipment]]
name = "filler-1"
path = "filling/line-1/filler-1"
model = "packml"
state = "plc/state"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "andon.toml"
    path.write_text(CONFIG)
    written(tmp_path / "data" / "audit", 60)
    return path


def andon(*words: object) -> tuple[int, list[Any], str]:
    told = CliRunner().invoke(app, [str(word) for word in words])
    lines = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    return getattr(told.exception, "exit_code", told.exit_code), lines, told.output


def test_records_are_shown_from_the_files(config: Path) -> None:
    code, lines, _ = andon("audit", "show", config, "--last", 3, "--json")
    assert (code, [line["n"] for line in lines]) == (0, [59, 60, 61])
    assert [line["n"] for line in andon("audit", "show", config, "--action", "audit", "--json")[1]] == [1]
    assert andon("audit", "show", config, "--actor", "nobody", "--json")[1] == []
    code, _, text = andon("audit", "show", config, "--last", 1)
    assert code == 0
    assert "filler-plc/speed_sp" in text


def test_a_head_that_was_kept_shows_a_tail_cut_off_with_the_head(config: Path, tmp_path: Path) -> None:
    code, [head], text = andon("audit", "head", config)
    kept = tmp_path / "head.json"
    kept.write_text(text)
    assert (code, head["n"]) == (0, 61)
    code, [verdict], _ = andon("audit", "verify", config, "--head", kept, "--key", head["key"], "--json")
    assert (code, verdict["sound"], verdict["anchored_n"]) == (0, True, 61)
    elsewhere = written(tmp_path / "other", 10).directory
    for file in (tmp_path / "data" / "audit").iterdir():
        file.unlink()
    for file in elsewhere.iterdir():
        (tmp_path / "data" / "audit" / file.name).write_bytes(file.read_bytes())
        (tmp_path / "data" / "audit" / file.name).chmod(0o600)
    assert andon("audit", "verify", config, "--json")[0] == 0, "by itself it is sound"
    code, [verdict], _ = andon("audit", "verify", config, "--head", kept, "--json")
    assert (code, [fault["kind"] for fault in verdict["faults"]]) == (3, ["key"])
    code, [verdict], _ = andon("audit", "verify", config, "--key", head["key"], "--json")
    assert code == 3


def test_an_export_makes_room_and_the_rest_verifies(config: Path, tmp_path: Path) -> None:
    to = tmp_path / "out.jsonl"
    code, [told], _ = andon("audit", "export", config, "--to", to, "--through", 40, "--remove", "--json")
    assert (code, told["records"], told["through"]) == (0, 40, 40)
    assert told["sha256"] == hashlib.sha256(to.read_bytes()).hexdigest()
    assert 1 < told["removed_through"] <= 40
    assert to.stat().st_mode & 0o777 == 0o600
    first = folder.segments_of(tmp_path / "data" / "audit")[0].first_n
    assert first == told["removed_through"] + 1
    code, [verdict], _ = andon("audit", "verify", config, "--json")
    assert (code, verdict["first_n"]) == (0, first)
    assert told["sha256"] in verdict["remarks"][0]
    code, _, _ = andon("audit", "export", config, "--to", to)
    assert code == 2, "a file that is there is not written over"


def test_a_new_trail_is_begun_with_a_reason(config: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "audit" / "head").unlink()
    assert andon("audit", "verify", config, "--json")[0] == 3
    code, [told], _ = andon("audit", "anew", config, "--reason", "the head was lost", "--json")
    assert code == 0
    assert len(folder.segments_of(Path(told["set_aside"]))) > 3
    code, [verdict], _ = andon("audit", "verify", config, "--json")
    assert (code, verdict["records"]) == (0, 2)
    [_, record] = andon("audit", "show", config, "--json")[1]
    assert record["detail"]["reason"] == "the head was lost"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("audit", "show"), 2, "name a configuration"),
        (("audit", "verify", "--url", "127.0.0.1:1", "--database"), 2, "go with a configuration"),
        (("audit", "show", "--url", "127.0.0.1:1"), 1, "no gateway answers"),
    ],
)
def test_what_cannot_be_asked_is_said(words: tuple[str, ...], code: int, said: str) -> None:
    told = CliRunner().invoke(app, list(words))
    assert getattr(told.exception, "exit_code", told.exit_code) == code
    exception: Any = told.exception
    assert said in f"{exception.reason} {exception.hint}"


def test_no_trail_is_said(tmp_path: Path) -> None:
    path = tmp_path / "andon.toml"
    path.write_text(CONFIG)
    told = CliRunner().invoke(app, ["audit", "head", str(path)])
    assert "there is no audit trail in" in str(told.exception)


def test_rules_that_lead_nowhere_are_refused_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "andon.toml"
    path.write_text(
        CONFIG
        + """
[[compliance]]
name = "a"
kind = "illegal_moves"
equipment = "filer-1"
[[compliance]]
name = "a"
kind = "illegal_moves"
area = "filing"
[[compliance]]
name = "b"
kind = "reasons"
"""
    )
    with pytest.raises(ConfigurationRefused) as refused:
        load(path, environment={"NOT_THERE": "postgresql://a@b/c"})
    said = {problem.path: (problem.reason, problem.hint) for problem in refused.value.problems}
    assert said["compliance[0].equipment"] == (
        'there is no equipment "filer-1"',
        'did you mean "filler-1"?',
    )
    assert said["compliance[1].name"][0] == 'the name "a" is used twice'
    assert said["compliance[1].area"][0] == 'no equipment lies in "filing"'
    assert (
        "reason_within" in said["compliance[2].kind"][1] or "reason_within" in said["compliance[2].kind"][0]
    )
    path.write_text(CONFIG + '[[compliance]]\nname = "a"\nkind = "illegal_moves"\narea = "filling/line-1"\n')
    loaded = load(path, environment={"NOT_THERE": "postgresql://a@b/c"})
    assert [rule.name for rule in loaded.configuration.compliance] == ["a"]


@pytest.mark.parametrize("verb", [("show", "--json"), ("verify", "--json"), ("head",)], ids=" ".join)
def test_a_configuration_is_named_like_everywhere(
    verb: tuple[str, ...], config: Path, tmp_path: Path
) -> None:
    told = [andon("audit", *verb, *named) for named in ((config,), ("--config", config))]
    for one in told:
        one[1][-1].pop("seconds", None)
    assert told[0][:2] == told[1][:2]
    assert told[0][0] == 0
    assert andon("audit", *verb, config, "--config", tmp_path / "other.toml")[0] == 2


def test_an_export_is_judged_by_itself(config: Path, tmp_path: Path) -> None:
    head, part, whole = tmp_path / "head.json", tmp_path / "part.jsonl", tmp_path / "whole.jsonl"
    head.write_text(andon("audit", "head", "--config", config)[2])
    for to, through in ((part, 40), (whole, 61)):
        assert andon("audit", "export", "--config", config, "--to", to, "--through", through)[0] == 0
    code, [verdict], _ = andon("audit", "verify", part, "--head", head, "--json")
    assert (code, verdict["sound"], verdict["last_n"], verdict["anchored_n"]) == (0, True, 40, 0)
    assert "not in it" in verdict["remarks"][0]
    code, [verdict], _ = andon("audit", "verify", whole, "--head", head, "--json")
    assert (code, verdict["records"], verdict["anchored_n"], verdict["remarks"]) == (0, 61, 61, [])
    code, [verdict], _ = andon("audit", "verify", whole, "--key", "0" * 64, "--json")
    assert (code, verdict["faults"][0]["kind"]) == (3, "key")
    rest = tmp_path / "rest.jsonl"
    rest.write_bytes(b"".join(whole.read_bytes().splitlines(keepends=True)[30:]))
    code, [verdict], _ = andon("audit", "verify", rest, "--head", head, "--json")
    assert (code, verdict["first_n"], verdict["anchored_n"]) == (0, 31, 61)
    assert andon("audit", "verify", whole, "--database")[0] == 2


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (lambda lines: [*lines[:9], lines[9].replace(b"verified", b"refused!"), *lines[10:]], "changed"),
        (lambda lines: [*lines[:9], *lines[10:]], "missing"),
        (lambda lines: [*lines[:-1], lines[-1][:-9]], "torn"),
        (lambda lines: [lines[0][:20] + b"x" + lines[0][20:], *lines[1:]], "changed"),
    ],
)
def test_an_export_that_was_changed_is_not_sound(config: Path, tmp_path: Path, harm: Any, kind: str) -> None:
    to = tmp_path / "out.jsonl"
    andon("audit", "export", config, "--to", to)
    to.write_bytes(b"".join(harm(to.read_bytes().splitlines(keepends=True))))
    code, [verdict], _ = andon("audit", "verify", to, "--json")
    assert (code, verdict["faults"][0]["kind"]) == (3, kind)
