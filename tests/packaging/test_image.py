"""deploy/Dockerfile, read as text: pinned, not root, nothing but what the lock file vouches for."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

from gateway.config.schema import ApiSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined, comments left out."""
    lines = [line for line in TEXT.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word, rest.strip()) for line in joined.splitlines() if line.strip() for word, rest in [pair(line)]
    ]


def pair(line: str) -> tuple[str, str]:
    """The first word and the rest."""
    word, _, rest = line.strip().partition(" ")
    return word, rest


ALL = instructions()
#: The instructions of the last stage, which is what is shipped.
SHIPPED = ALL[max(index for index, (word, _) in enumerate(ALL) if word == "FROM") :]


def only(word: str, of: list[tuple[str, str]] = SHIPPED) -> str:
    """The arguments of the one instruction of its kind."""
    [found] = [rest for kind, rest in of if kind == word]
    return found


def test_images_are_pinned_to_a_minor_version() -> None:
    images = [rest.split()[0] for word, rest in ALL if word == "FROM"]

    assert len(images) == 2
    assert len(set(images)) == 1, "what was built for one Python must not run on another"
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", images[0])
    minor = int(images[0].split(".")[1].split("-")[0])
    assert f"Programming Language :: Python :: 3.{minor}" in PROJECT["project"]["classifiers"]


def test_the_gateway_is_not_root() -> None:
    user, group = only("USER").split(":")

    assert int(user) >= 10000
    assert int(group) >= 10000
    assert f"--uid {user} " in TEXT
    assert f"--gid {group} " in TEXT
    after = SHIPPED[[word for word, _ in SHIPPED].index("USER") :]
    assert "RUN" not in [word for word, _ in after]


def test_data_has_a_place_that_belongs_to_the_gateway() -> None:
    place = only("VOLUME")

    assert re.search(rf"install -d -o 10001 -g 10001 -m 700 {place}(\s|$)", TEXT)
    assert only("WORKDIR") == place


def test_it_runs_the_command_and_says_whether_it_lives() -> None:
    port = ApiSettings().listen.rpartition(":")[2]
    health = only("HEALTHCHECK")

    assert json.loads(only("ENTRYPOINT")) == ["andon"]
    assert json.loads(only("CMD"))[0] == "run"
    words = json.loads(health[health.index("[") :])
    ast.parse(words[-1])
    assert f"http://127.0.0.1:{port}/healthz" in words[-1]
    assert only("EXPOSE") == port


def test_dependencies_come_from_the_lock_file_with_their_hashes() -> None:
    runs = [rest for word, rest in ALL if word == "RUN"]
    fetching = [run for run in runs if "pip download" in run or re.search(r"pip .*install", run)]

    assert len(fetching) == 2
    downloads, installs = fetching
    assert "--require-hashes" in downloads
    assert "-r requirements.lock" in downloads
    for command in installs.split("&&"):
        if " install " in command and "pip" in command:
            assert "--no-index" in command, command
    assert "apt-get" not in TEXT


def test_no_registry_is_named() -> None:
    assert not re.search(r"https?://(?!127\.0\.0\.1)|--(extra-)?index-url|--trusted-host|PIP_INDEX", TEXT)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = [
        source
        for word, rest in ALL
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]

    assert ignore[ignore.index("*") :]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore, source
    assert {entry[1:] for entry in ignore if entry.startswith("!")} == set(copied)


def test_everything_the_wheel_is_made_of_is_copied() -> None:
    copied = {source for word, rest in ALL if word == "COPY" for source in rest.split()[:-1]}
    project = PROJECT["project"]

    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= copied
    assert {"pyproject.toml", "requirements.lock", project["readme"], *project["license-files"]} <= copied


def test_the_lock_file_names_no_registry_and_covers_the_dependencies() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = {name.lower() for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)

    assert "://" not in lock
    assert all("--hash=sha256:" in block for block in blocks if block.strip() and not block.startswith("#"))
    for line in PROJECT["project"]["dependencies"]:
        name = re.split(r"[<>=!~\[; ]", line)[0].lower()
        assert name in pinned, name
