"""What a command rests on: another text for whatever would send it elsewhere, the same for all else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.control.basis import basis_of

PLANT = """
[gateway]
id = "g"
enterprise = "a"
site = "b"
[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://127.0.0.1:1502"
unit = 1
[[connections.groups]]
name = "all"
interval = "1s"
tags = [
  { name = "state", address = "holding:0", type = "uint16" },
  { name = "sp", address = "holding:1", type = "float32" },
  { name = "shown", address = "holding:3", type = "float32" },
]
[[equipment]]
name = "m-1"
path = "hall/m-1"
model = "packml"
state = "plc/state"
[commands]
enabled = true
[[commands.allow]]
equipment = "m-1"
tag = "plc/sp"
min = 0.0
max = 9.0
readback = { tag = "plc/shown" }
"""


def basis(tmp_path: Path, old: str = "", new: str = "") -> str:
    assert old in PLANT
    path = tmp_path / "andon.toml"
    path.write_text(PLANT.replace(old, new, 1) if old else PLANT)
    loaded = load(path)
    (rule,) = loaded.configuration.commands.allow
    (spec,) = loaded.equipment
    return basis_of(rule, loaded.configuration.connections, spec.path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("holding:1", "holding:7"),
        ("holding:3", "holding:9"),
        ('1", type = "float32"', '1", type = "int32"'),
        ("127.0.0.1:1502", "127.0.0.2:1502"),
        ("unit = 1", "unit = 2"),
        ("max = 9.0", "max = 8.0"),
        ("hall/m-1", "yard/m-1"),
    ],
)
def test_whatever_leads_elsewhere_is_another(tmp_path: Path, old: str, new: str) -> None:
    assert basis(tmp_path, old, new) != basis(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ('interval = "1s"', 'interval = "2s"'),
        ("holding:0", "holding:12"),
        ("[commands]", '[commands]\nrate = "7/1m"'),
        ("unit = 1", 'unit = 1\nstale = "30s"'),
    ],
)
def test_what_leads_nowhere_else_is_the_same(tmp_path: Path, old: str, new: str) -> None:
    assert basis(tmp_path, old, new) == basis(tmp_path)
