"""The repository checks its own shape: imports, sizes, clocks, folders, words.

What a linter already says is not said again here. Each exception is listed with its reason; an exception that
is no longer needed fails like a fault.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from connectors.registry import default_registry
from gateway.config.load import load
from gateway.preflight import PACKAGES

#: Every file is read, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
CONNECTORS = sorted(path.parent for path in (ROOT / "connectors").glob("*/__init__.py"))

#: A file should be readable in one sitting. Tests are lists of cases and may be a little longer.
LINES_MAX = 500
TEST_LINES_MAX = 600

#: Modules that may look at a clock themselves; everything else is handed a `Clock` or an instant.
CLOCKS = {
    "gateway/clock.py": "it is the clock",
    "gateway/commands/": "people at a terminal are shown how old something is; no part of the gateway",
    "simulators/simulation.py": "another program: the plant's own clock",
    "simulators/faults.py": "another program: time stamps of the PLCs",
    "simulators/opcua_server.py": "another program: time stamps of the PLCs",
    "simulators/run.py": "another program: says how long its start took",
    "simulators/writes.py": "another program: when what was written came in",
}
#: Modules that may be random; everything else is handed its randomness or has none.
DICE = {
    "gateway/supervisor.py": "jitter of the pause before a connection is tried again",
    "gateway/historian/historian.py": "jitter of the pause before the database is tried again",
    "gateway/publish/publisher.py": "jitter of the pause before the broker is tried again",
    "gateway/control/mqtt_listening.py": "jitter of the pause before the broker is tried again",
    "gateway/sparkplug/edge_node.py": "jitter of the pause before a broker is tried again",
    "simulators/compressor.py": "a plant's behaviour, from the seed",
    "simulators/oven.py": "a plant's behaviour, from the seed",
    "simulators/packml_machine.py": "a plant's behaviour, from the seed",
    "simulators/writes.py": "which writes a fault hits, from the seed",
}

#: Places that exist on one machine only, and hosts a mirror must be free to replace. Put together from parts,
#: so that this file does not hold what it looks for.
_HOSTS = (
    "py" + "pi.org",
    "python" + "hosted",
    "npm" + "js.",
    "docker" + ".io",
    "ghcr" + ".io",
    "quay" + ".io",
)
_FOLDERS = ("work", "root", "home", "Users")
FORBIDDEN = re.compile(
    "|".join([*map(re.escape, _HOSTS), *(rf"(?<![\w.])/{folder}/\w" for folder in _FOLDERS)])
)
#: Files whose text is somebody else's.
_FOREIGN = {"LICENSE", "requirements.lock"}


def shown(path: Path) -> str:
    """A path as people say it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """A module's syntax."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def nodes(path: Path) -> Iterator[ast.AST]:
    """Everything in a module."""
    return ast.walk(tree(path))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """The dotted name of everything a module calls."""
    for node in nodes(path):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(path: Path) -> set[str]:
    """The modules a module imports."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_imports_point_inwards() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    kept = re.search(r"Contracts: (\d+) kept, 0 broken", done.stdout)
    assert kept is not None, done.stdout
    assert int(kept[1]) >= 3


def test_a_module_is_readable_in_one_sitting() -> None:
    sizes = {path: path.read_text(encoding="utf-8").count("\n") for path in (*MODULES, *TESTS)}
    too_long = {
        shown(path): size
        for path, size in sizes.items()
        if size > (TEST_LINES_MAX if path in TESTS else LINES_MAX)
    }

    assert too_long == {}


def test_a_module_says_why_it_exists() -> None:
    assert [shown(path) for path in (*MODULES, *TESTS) if not ast.get_docstring(tree(path))] == []


def test_only_clocks_look_at_a_clock() -> None:
    found = {shown(path) for path in MODULES if "time" in imports(path) or any(_reads_time(path))}

    excused = {name: {path for path in found if path.startswith(name)} for name in CLOCKS}
    assert found - set().union(*excused.values()) == set()
    assert [name for name, paths in excused.items() if not paths] == [], "excused, and without need"


def _reads_time(path: Path) -> Iterator[bool]:
    for name, _ in calls(path):
        yield name.endswith(("datetime.now", "datetime.utcnow", "date.today", "datetime.today"))


def test_only_dice_are_random() -> None:
    assert {shown(path) for path in MODULES if "random" in imports(path)} == set(DICE)


def test_nothing_prints_but_commands_and_simulators() -> None:
    """A library that prints spoils what a command hands to the next program."""
    assert [shown(path) for path in MODULES for name, _ in calls(path) if name == "print"] == []
    told = {
        shown(path)
        for path in MODULES
        for node in nodes(path)
        if _is(node, "sys.stdout") or _is(node, "out.print")
    }

    assert all(name.startswith(("gateway/commands/", "simulators/")) for name in told), told


def _is(node: ast.AST, dotted: str) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == dotted


def test_every_queue_has_a_bound() -> None:
    for path in MODULES:
        for name, call in calls(path):
            if name.rpartition(".")[2] in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"):
                assert call.args or call.keywords, f"{shown(path)}:{call.lineno}: a queue without a bound"


def test_waiting_ends_by_a_timeout_scope() -> None:
    """`asyncio.wait_for` can lose a result or a cancellation that comes with the timeout."""
    assert [shown(path) for path in MODULES for name, _ in calls(path) if name == "asyncio.wait_for"] == []


def test_every_package_tells_its_types() -> None:
    assert [package for package in PACKAGES if not (ROOT / package / "py.typed").exists()] == []


def test_every_connector_is_registered() -> None:
    assert {folder.name for folder in CONNECTORS} == set(default_registry().protocols)


@pytest.mark.parametrize("folder", CONNECTORS, ids=shown)
def test_a_connector_is_a_folder_with_a_readme_and_a_sample(folder: Path, tmp_path: Path) -> None:
    readme = (folder / "README.md").read_text(encoding="utf-8")
    sample = (folder / "sample.toml").read_text(encoding="utf-8")
    path = tmp_path / "andon.toml"
    path.write_text(
        '[gateway]\nid = "line-1"\nenterprise = "acme"\nsite = "berlin"\n' + sample, encoding="utf-8"
    )

    connections = load(path, environment={}).configuration.connections

    assert {connection.protocol for connection in connections} == {folder.name}
    assert "sample.toml" in readme or sample.partition("[[connections]]")[2] in readme
    assert (ROOT / "tests" / "connectors" / folder.name).is_dir()
    assert folder.name in (ROOT / "connectors" / "README.md").read_text(encoding="utf-8")


def texts() -> list[Path]:
    """Every file of the repository that people read."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    if listed.returncode != 0:
        pytest.skip("this is no work tree of git, so nobody knows which files belong to it")
    return [ROOT / name for name in listed.stdout.split("\0") if name and name not in _FOREIGN]


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in texts():
        if path.is_file():
            text = path.read_bytes().decode("utf-8", errors="replace")
            found += [f"{shown(path)}: {match[0]}" for match in FORBIDDEN.finditer(text)]

    assert found == []


def test_the_search_for_forbidden_words_finds_them() -> None:
    for text in (
        f'path = "/{_FOLDERS[0]}/main"',
        f"https://files.{_HOSTS[1]}.org/x",
        f"/{_FOLDERS[2]}/me/andon",
    ):
        assert FORBIDDEN.search(text)
    for text in ("/etc/andon/andon.toml", "docs/home/page.md", "/var/lib/andon", "a/root/of"):
        assert not FORBIDDEN.search(text)


def test_nothing_is_left_to_do() -> None:
    mark = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)))
    found = [shown(path) for path in [*MODULES, *TESTS] if mark.search(path.read_text(encoding="utf-8"))]

    assert found == []
