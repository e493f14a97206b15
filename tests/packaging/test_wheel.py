"""The wheel: what is in it, that it works away from the work tree, and what it refuses to share."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path

import pytest

from gateway.demo.site import write_site
from gateway.preflight import DISTRIBUTION, PACKAGES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the work tree without a network."""
    place = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=110,
    )
    [found] = place.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_its_top_level_is_the_five_packages(names: set[str]) -> None:
    info = f"andon_gateway-{PROJECT['version']}.dist-info"

    assert {name.partition("/")[0] for name in names} == {*PACKAGES, info}


def test_every_file_of_the_packages_is_in_it(names: set[str]) -> None:
    here = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert here - names == set()
    assert {name for name in names if ".dist-info/" not in name} - here == set()


@pytest.mark.parametrize(
    "pattern",
    [
        "gateway/journal/sql/*.sql",
        "gateway/historian/sql/*.sql",
        "gateway/publish/schemas/*.json",
        "gateway/historian/sql/migrations/*.sql",
        "gateway/demo/site/*.toml",
        "gateway/demo/site/*.csv",
        "gateway/demo/site/models/*.toml",
        "connectors/*/README.md",
        "connectors/*/sample.toml",
        "api/docs/*.html",
        "api/docs/*.css",
        "api/docs/*.js",
        "simulators/scenarios/*.toml",
        "*/py.typed",
    ],
)
def test_what_is_not_python_is_in_it_too(names: set[str], pattern: str) -> None:
    assert any(Path(name).match(pattern) for name in names)


def test_its_metadata_says_what_the_project_says(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {name.partition(".dist-info/")[2]: name for name in archive.namelist()}
        metadata = message_from_string(archive.read(texts["METADATA"]).decode())
        points = ConfigParser()
        points.read_string(archive.read(texts["entry_points.txt"]).decode())

    assert metadata["Name"] == DISTRIBUTION
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert len(metadata.get_all("Requires-Dist", [])) == len(PROJECT["dependencies"])
    assert dict(points["console_scripts"]) == {"andon": "gateway.cli:main"}
    assert "licenses/LICENSE" in texts


# -- installed somewhere else --------------------------------------------------------------------


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel and, by a path file, the dependencies of this one."""

    folder: Path
    packages: Path

    def andon(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run the command from a folder, with nothing of this process's Python settings."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(
            [str(self.folder / "bin" / "andon"), *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder)],
        check=True,
        timeout=110,
        capture_output=True,
    )
    python = folder / "bin" / "python"
    packages = Path(
        sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}, scheme="venv")
    )
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run(
        [*command, "--no-compile", "--disable-pip-version-check", str(wheel)],
        check=True,
        timeout=110,
        capture_output=True,
    )
    # A folder named in a path file is searched, but its own path files are not obeyed: the editable
    # installation of the work tree stays out.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    return Installed(folder, packages)


def test_the_command_runs_from_any_folder(installed: Installed, tmp_path: Path) -> None:
    done = installed.andon("version", "--json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["andon"] == PROJECT["version"]


def test_it_is_the_wheel_that_runs(installed: Installed, tmp_path: Path) -> None:
    where = "import importlib; print([importlib.import_module(n).__file__ for n in %r])" % (PACKAGES,)  # noqa: UP031
    done = subprocess.run(
        [str(installed.folder / "bin" / "python"), "-I", "-c", where],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )

    assert done.stdout.count(str(installed.packages)) == len(PACKAGES), done.stdout


def test_it_judges_a_configuration_with_models_and_tag_lists(installed: Installed, tmp_path: Path) -> None:
    values = {"historian": "embedded", "broker": "embedded", "mqtt_port": "1883", "listen": "127.0.0.1:8420"}
    values |= {"opcua-a": "opc.tcp://127.0.0.1:1", "opcua-b": "opc.tcp://127.0.0.1:2"}
    values |= {"modbus-a": "tcp://127.0.0.1:3", "modbus-b": "tcp://127.0.0.1:4"}
    path = write_site(tmp_path / "site", values)

    done = installed.andon("check", str(path), "--json", cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["equipment"] == 6


def test_the_simulators_find_their_scenarios(installed: Installed, tmp_path: Path) -> None:
    done = installed.andon("simulate", "--help", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
    assert "faults" in done.stdout


@pytest.mark.parametrize("module", ["gateway.app", "gateway.commands.demo", "gateway.commands.run"])
def test_everything_the_longer_commands_need_can_be_imported(
    installed: Installed, tmp_path: Path, module: str
) -> None:
    done = subprocess.run(
        [str(installed.folder / "bin" / "python"), "-I", "-c", f"import {module}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.fixture
def intruder(installed: Installed) -> Iterator[str]:
    """Another distribution that ships a package of one of our names."""
    info = installed.packages / "other_product-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: other-product\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "RECORD").write_text(
        "api/__init__.py,,\nother_product-1.0.dist-info/METADATA,,\n", encoding="utf-8"
    )
    yield "other-product"
    for file in info.iterdir():
        file.unlink()
    info.rmdir()


def test_it_refuses_to_share_a_name(installed: Installed, intruder: str, tmp_path: Path) -> None:
    done = installed.andon("version", cwd=tmp_path)

    assert done.returncode == 1
    assert f'the package "api" also belongs to the distribution "{intruder}"' in done.stderr
    assert "pipx install andon-gateway" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_the_same_name_where_it_is_started_does_no_harm(
    installed: Installed, tmp_path: Path
) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").write_text("raise SystemExit('the wrong package')\n", encoding="utf-8")

    assert installed.andon("version", cwd=tmp_path).returncode == 0
