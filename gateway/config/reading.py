"""One TOML file as values with the lines they stand on, and a state model from such a file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config.lines import KeyPath, line_of, locate
from gateway.config.problems import Problem
from gateway.config.sources import DISK, Files
from statemodel.check import check as check_model
from statemodel.definition import read_model
from statemodel.model import Model

FILE_BYTES_MAX = 10_000_000

#: Part of the parser's message, or of the line -> what people mostly meant.
_TOML_HINTS = (
    (';s="', 'a text with double quotes in it stands in single quotes: \'ns=3;s="DB"."x"\''),
    ("Invalid value", 'texts stand in quotes, as in name = "plc"; true and false are written small'),
    ("Unescaped", "write a path with / or in single quotes"),
    (
        "Cannot declare",
        "a section stands once; of connections, groups, equipment and brokers each begins with [[...]]",
    ),
    (
        "Cannot overwrite",
        "a key stands once in its section; a section is either [one] or [[each]] of several, never both",
    ),
)


def read_toml(path: Path, files: Files = DISK) -> tuple[dict[str, Any], Mapping[KeyPath, int]] | Problem:
    """Parsed TOML and the lines of its keys, or why it cannot be had."""
    name = files.shown(path)
    try:
        if files.size(path) > FILE_BYTES_MAX:
            return Problem(
                name, None, "", f"is larger than {FILE_BYTES_MAX // 1_000_000} MB", "is it the right file?"
            )
        text = files.read(path).decode("utf-8-sig")
    except FileNotFoundError:
        return Problem(name, None, "", "there is no such file", "check the path")
    except IsADirectoryError:
        return Problem(name, None, "", "is a folder, not a file", "name the .toml file in it")
    except OSError as error:
        return Problem(name, None, "", f"cannot be read: {error.strerror}", "check who may read it")
    except UnicodeDecodeError as error:
        return Problem(name, None, "", f"is not UTF-8 text (byte {error.start})", "save it as UTF-8")
    try:
        return tomllib.loads(text), locate(text)
    except tomllib.TOMLDecodeError as error:
        message, _, position = str(error).partition(" (at ")
        line = position.removeprefix("line ").split(",")[0]
        number = int(line) if line.isdigit() else None
        written = text.splitlines()[number - 1] if number else ""
        hint = next((hint for sign, hint in _TOML_HINTS if sign in message or sign in written), "see toml.io")
        return Problem(name, number, "", f"is not valid TOML: {message}", hint)
    except ValueError:  # of Python, for a number with more digits than it takes
        return Problem(name, None, "", "is not valid TOML: a number has too many digits", "see toml.io")
    except RecursionError:
        return Problem(name, None, "", "is nested too deeply to be a configuration", "is it the right file?")


def load_model(path: Path, files: Files = DISK) -> tuple[Model | None, tuple[Problem, ...]]:
    """A model of the user's own from its file, or everything that is wrong with it."""
    read = read_toml(path, files)
    if isinstance(read, Problem):
        return None, (read,)
    data, lines = read
    model, found = read_model(data)
    name = files.shown(path)
    problems = tuple(
        Problem(name, line_of(lines, _as_key_path(problem.path)), problem.path, problem.reason, problem.hint)
        for problem in found
    )
    return model, problems


def model_warnings(model: Model, path: Path, files: Files = DISK) -> tuple[Problem, ...]:
    """What is odd about a model but no reason to refuse it."""
    return tuple(
        Problem(files.shown(path), None, problem.path, problem.reason, problem.hint)
        for problem in check_model(model)
        if problem.severity == "warning"
    )


def _as_key_path(text: str) -> KeyPath:
    words = text.replace("]", "").replace("[", ".").split(".")
    return tuple(int(word) if word.isdigit() else word for word in words if word)
