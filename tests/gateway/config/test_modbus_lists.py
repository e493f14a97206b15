"""A tag list of a Modbus device: every column there is, and every bad row named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.modbus.config import ModbusSettings
from connectors.modbus.layout import Order
from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused

CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"
[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:502"
limits = { forbidden = ["holding:200-299"], registers_per_request = 10 }
[[connections.groups]]
name = "all"
interval = "1s"
tags_csv = "list.csv"
"""
GOOD = """name;address;type;order;scale;offset;clamp;no_value;unit
temp;40001;int16;;0.1;-5;-20..150;0x8000;°C
energy;holding:2;uint64;ghefcdab;;;;sunspec;Wh
count;holding:6;uint64;EFGHABCD;;;;;
level;input:3;float32;cdab;;;0..100;-9999;%
"""
BAD = """name,address,type,order,scale,clamp,no_value
fine,holding:0,int16,,,,
order,holding:2,int32,ABDC,,,
wide,holding:4,int32,EFGHABCD,,,
clamp,holding:6,int16,,,150..-20,
cell,holding:7,int16,,,150,
absent,holding:8,int16,,,,none
big,holding:9,int16,,,,0x18000
barred,holding:200,int16,,,,
into,holding:199,int32,,,,
long,holding:300,string(40),,,,
two,holding:400,real,,0,,
"""


def write(folder: Path, rows: str) -> Path:
    (folder / "list.csv").write_text(rows, encoding="utf-8")
    (folder / "andon.toml").write_text(CONFIG, encoding="utf-8")
    return folder / "andon.toml"


def test_every_column_of_a_tag_may_stand_in_a_list(tmp_path: Path) -> None:
    (connection,) = load(write(tmp_path, GOOD)).configuration.connections
    assert isinstance(connection, ModbusSettings)
    temp, energy, count, level = (tag.signal(tag.name) for group in connection.groups for tag in group.tags)
    assert (temp.scale, temp.offset, temp.clamp, temp.no_value) == (0.1, -5.0, (-20.0, 150.0), -32768)
    assert (energy.order, energy.no_value) == (Order.CDAB, "sunspec")
    assert (count.order, count.no_value, count.clamp) == (Order.EFGHABCD, None, None)
    assert (level.order, level.clamp, level.no_value) == (Order.CDAB, (0.0, 100.0), -9999.0)


def test_every_bad_row_is_told_with_its_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused) as caught:
        load(write(tmp_path, BAD))
    found = {(problem.line, problem.path): problem for problem in caught.value.problems}
    assert list(found) == [
        (3, "order"),
        (4, "order"),
        (5, "clamp"),
        (6, "clamp"),
        (7, "no_value"),
        (8, "no_value"),
        (12, "type"),
        (12, "scale"),
    ]
    assert all(problem.file.endswith("list.csv") and problem.hint for problem in found.values())
    assert found[3, "order"].reason == 'there is no order "ABDC"'
    assert "of a 64-bit value, not of int32" in found[4, "order"].reason
    assert found[5, "clamp"].reason == "must begin below its end"
    assert "a CSV file 0..400" in found[6, "clamp"].hint
    assert '"0x8000"' in found[7, "no_value"].hint
    assert "does not fit the 16 bits" in found[8, "no_value"].reason


def test_rows_that_may_not_be_read_are_told_once_each_is_sound(tmp_path: Path) -> None:
    rows = [
        row for row in BAD.splitlines() if row.split(",")[0] in ("name", "fine", "barred", "into", "long")
    ]
    with pytest.raises(ConfigurationRefused) as caught:
        load(write(tmp_path, "\n".join(rows) + "\n"))
    told = [(problem.line, problem.path, problem.reason) for problem in caught.value.problems]
    never = "lies in holding:200-299, which limits.forbidden says is never read"
    assert told == [
        (3, "address", f"holding:200 {never}"),
        (4, "address", f"holding:199-200 {never}"),
        (5, "type", 'the tag "long" takes 20 registers, and one request may read 10'),
    ]
