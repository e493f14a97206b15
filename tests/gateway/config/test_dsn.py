"""An address of a database that cannot work is refused before the gateway runs; one that can is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused

TOML = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"

[historian]
dsn = "env:ANDON_DATABASE"
"""


def problems(tmp_path: Path, dsn: str) -> list[str]:
    """What is wrong with a configuration whose database is there."""
    path = tmp_path / "andon.toml"
    path.write_text(TOML, encoding="utf-8")
    try:
        load(path, environment={"ANDON_DATABASE": dsn})
    except ConfigurationRefused as refused:
        return [str(problem) for problem in refused.problems if problem.path == "historian.dsn"]
    return []


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://andon:hunter2@db:99999/andon", "port"),
        ("postgresql://andon:hunter2@db:0/andon", "port"),
        ("postgresql://andon:hunter2@db:hunter2/andon", "port"),
        ("postgresql://andon:hunter2@db:²/andon", "port"),
        ("postgresql://andon:hunter2@db1:5432,db2:70000/andon", "port"),
        ("postgresql://andon:hunter2@/andon?host=/run&port=70000", "port"),
        ("postgresql://andon:hunter2@::1:5432/andon", "brackets"),
        ("postgresql://[h", "brackets"),
        ("postgresql://andon:hunter2[@db/andon", "brackets"),
        ("postgresql://andon:hunter2@db]/andon", "brackets"),
        ("postgresql://%zz", "%25"),
        ("postgresql://andon:hunter2@db/an%don", "%25"),
        ("postgresql://andon:hunter2@db/an%00don", "%00"),
        ("postgresql://andon:hunt/hunter2@db/andon", "%2F"),
        ("postgresql://andon:hunt@hunter2@db/andon", "%40"),
        ("postgresql://andon:hunt#hunter2@db/andon", "%23"),
        ("postgresql://andon:hunt?hunter2@db/andon", "%3F"),
        ("postgresql://andon:hunter2@db,,db2/andon", "host"),
        ("postgresql://andon:hunter2@db/andon?bogus=", "none that is known"),
        ("postgresql://andon:hunter2@db/andon?hunter2=1", "none that is known"),
        ("postgresql://andon:hunter2@db/andon?connect_timeout=10", "command_timeout"),
        ("postgresql://andon:hunter2@db/andon?hunter2", "key=value"),
        ("postgresql://andon:hunter2@db/andon?sslmode=hunter2", "verify-full"),
    ],
)
def test_an_address_that_cannot_work_is_refused_without_its_secret(
    tmp_path: Path, dsn: str, said: str
) -> None:
    (text,) = problems(tmp_path, dsn)
    assert said in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "dsn",
    [
        "embedded",
        "postgres://db",
        "postgresql://",
        "postgresql:///andon",
        "postgresql://andon@db.plant:5432/andon",
        "postgresql://andon:p%40ss%2Fw%3A%23@db:5432/andon",
        "postgresql://andon:p%zz:w@db:5432/andon",
        "postgresql://andon@[2001:db8::7]:5432/andon",
        "postgresql://andon@[::1]/andon",
        "postgresql://andon@db1:5432,db2:5433/andon?target_session_attrs=read-write",
        "postgresql://andon@%2Frun%2Fpostgresql/andon",
        "postgresql://andon@/andon?host=/run/postgresql&port=5433",
        "postgresql:///andon?host=/run/a&password=p@ss&user=andon",
        "postgresql://andon@db/andon?passfile=&sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://andon@db/andon?search_path=andon&TimeZone=UTC&options=-c%20geqo%3Doff&app.name=x",
    ],
)
def test_an_address_that_can_work_is_taken(tmp_path: Path, dsn: str) -> None:
    assert problems(tmp_path, dsn) == []
