"""Tag lists as spreadsheets really write them, and every bad row of them told at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.csvtags import BadRow, TagFileRefused, TagRows, read_tag_rows
from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused, Problem

CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://10.0.0.6:502"
[[connections.groups]]
name = "all"
interval = "1s"
tags_csv = "tags.csv"
"""
KNOWN = ("name", "address", "type", "scale", "unit")


def rows(tmp_path: Path, content: str | bytes) -> TagRows:
    path = tmp_path / "tags.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_tag_rows(path, "address", KNOWN)


def site(tmp_path: Path, content: str) -> Path:
    (tmp_path / "tags.csv").write_text(content, encoding="utf-8", newline="")
    (tmp_path / "andon.toml").write_text(CONFIG, encoding="utf-8")
    return tmp_path / "andon.toml"


def problems(tmp_path: Path, content: str) -> list[Problem]:
    with pytest.raises(ConfigurationRefused) as caught:
        load(site(tmp_path, content), environment={})
    return list(caught.value.problems)


@pytest.mark.parametrize(
    "content",
    [
        "name,address,type\na,holding:0,int16\nb,holding:1,int16\n",
        "name;address;type\r\na;holding:0;int16\r\nb;holding:1;int16\r\n",
        "\ufeffName\tNode\tTYPE\na\tholding:0\tint16\nb\tholding:1\tint16",
        '"name","address","type"\n"a","holding:0","int16"\n\n# spare\n"b", holding:1 ,int16\n',
        "name,address,type,,\na,holding:0,int16,,\nb,holding:1,int16\n,,,,\n",
        "name,address,type\ra,holding:0,int16\rb,holding:1,int16\r",
    ],
    ids=["plain", "semicolons and CRLF", "mark and tabs", "quotes and remarks", "empty cells", "old Mac"],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, content: str) -> None:
    table = rows(tmp_path, content)

    assert [(row["name"], row["address"], row["type"]) for row in table.rows] == [
        ("a", "holding:0", "int16"),
        ("b", "holding:1", "int16"),
    ]
    assert table.bad == ()


def test_a_cell_may_have_lines_and_separators_and_the_line_is_where_the_row_begins(tmp_path: Path) -> None:
    table = rows(tmp_path, 'name,unit,address\r\n"a","m,\r\n""s""",holding:0\r\nb,,holding:1\r\n')

    assert table.rows[0]["unit"] == 'm,\r\n"s"'
    assert table.lines == (2, 4)


def test_every_row_that_is_none_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    content = 'name,address\na,holding:0\nb,holding:1,x,y\n"c"d,holding:2\ne,holding:3\n"f,holding:4\ng,h\n'
    table = rows(tmp_path, content)

    assert [row["name"] for row in table.rows] == ["a", "e"]
    assert [(bad.line, bad.reason) for bad in table.bad] == [
        (3, "has 4 cells but the table has 2 columns"),
        (4, "has text after the end of a quoted one"),
        (6, "opens a quote that is not closed"),
    ]
    assert all(bad.hint for bad in table.bad)


def test_columns_that_are_wrong_are_told_once_each(tmp_path: Path) -> None:
    table = rows(tmp_path, "name,address,node,scalee,Unit,unit\n" + "a,holding:0,x,1,m,s\n" * 3)

    assert table.bad == (
        BadRow(1, "address", "is a column that is there twice", "keep one"),
        BadRow(1, "scalee", "unknown key", 'did you mean "scale"?'),
        BadRow(1, "unit", "is a column that is there twice", "keep one"),
    )
    assert table.rows[0] == {"name": "a", "address": "holding:0", "unit": "m"}


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"", None, "is empty"),
        (b"\n\n# nothing\n", None, "is empty"),
        (b"address,type\nholding:0,int16\n", 1, 'has no column "name"'),
        ("name,unit\na,m\nb,\u00b0C\n".encode("latin-1"), 3, "is not UTF-8 text"),
        ("name,unit\na,m\n".encode("utf-16"), None, "is not a text file in UTF-8"),
    ],
    ids=["empty", "remarks only", "no names", "Latin-1", "UTF-16"],
)
def test_a_file_that_is_no_table_is_refused_as_a_whole(
    tmp_path: Path, content: bytes, line: int | None, reason: str
) -> None:
    with pytest.raises(TagFileRefused, match=reason) as caught:
        rows(tmp_path, content)

    assert caught.value.line == line
    assert caught.value.hint


def test_a_problem_has_file_line_column_reason_and_hint(tmp_path: Path) -> None:
    content = (
        "name,address,type,scale\n"
        "a,holding:0,int16,\n"
        "b c,holding:1,int61,\n"
        'd,holding:2,int16,"0,1"\n'
        "e,x,int16,\n"
    )
    found = problems(tmp_path, content)

    assert [(Path(item.file).name, item.line, item.path) for item in found] == [
        ("tags.csv", 3, "name"),
        ("tags.csv", 3, "type"),
        ("tags.csv", 4, "scale"),
        ("tags.csv", 5, "address"),
    ]
    assert found[2].hint == "numbers have a decimal point: 0.1"
    assert all(item.reason for item in found)


def test_a_wrong_column_does_not_make_every_row_wrong(tmp_path: Path) -> None:
    found = problems(
        tmp_path, "name,address,type,scalee\n" + "".join(f"t{n},holding:{n},int16,1\n" for n in range(99))
    )

    assert [(item.line, item.path) for item in found] == [(1, "scalee")]


def test_fifty_thousand_rows_with_many_bad_are_judged_in_bounded_words_and_time(tmp_path: Path) -> None:
    good_and_bad = "".join(
        f"t{n},holding:{n % 60_000},{'int16' if n % 5 else 'int61'}\n" for n in range(50_000)
    )
    config = site(tmp_path, "name,address,type\n" + good_and_bad)

    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", str(config)],
        capture_output=True,
        text=True,
        timeout=110,  # each row compared with all others would take hours
        check=False,
    )

    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) < 250
    assert "tags.csv:2: type:" in done.stderr
    assert "and 9,900 more, which `andon check --json` lists" in done.stderr
    assert lines[-1] == "10000 problems in the configuration"
