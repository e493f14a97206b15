"""The page on the command line and the command itself: the same verbs, the same options, true examples."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from gateway.cli import app
from statemodel.builtin import BUILTIN
from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "command-line.md"


def verbs() -> Iterator[tuple[str, Any]]:
    """Every verb with its options, `model list` and the like by both words."""
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    for name, command in top.commands.items():
        if isinstance(command, TyperGroup):
            yield from ((f"{name} {inner}", verb) for inner, verb in command.commands.items())
        else:
            yield name, command


VERBS = dict(verbs())


def sections() -> dict[str, str]:
    """The text under each heading of a verb."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def long_options(command: Any) -> set[str]:
    """The options of a verb, without `--help`."""
    found = {word for param in command.params for word in (*param.opts, *param.secondary_opts)}
    return {word for word in found if word.startswith("--") and word != "--help"}


def test_the_page_has_the_verbs_there_are() -> None:
    assert set(sections()) == set(VERBS)
    listed = re.findall(r"\[`([a-z -]+)`\]\(#", PAGE.read_text(encoding="utf-8").partition("## ")[0])
    assert set(listed) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_described(verb: str) -> None:
    text = sections()[verb]
    for option in long_options(VERBS[verb]):
        assert f"{option}" in text, option


def examples() -> list[str]:
    """Every command line on the page."""
    shown = [line for block in blocks(PAGE) for line in block.text.splitlines()]
    return [line[2:] for line in shown if line.startswith("$ ")]


@pytest.mark.parametrize("line", examples())
def test_every_example_is_a_line_the_command_takes(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0])
    assert words.pop(0) == "andon"
    name = words.pop(0)
    if name not in VERBS:
        name = f"{name} {words.pop(0)}"
    command = VERBS[name]
    if name == "simulate":
        return  # its options are those of the simulators
    context = command.make_context(name, words, resilient_parsing=False)
    assert context.params


def test_every_verb_has_an_example() -> None:
    text = "\n".join(examples())
    for verb in VERBS:
        assert f"andon {verb}" in text, verb


def test_the_models_listed_are_as_they_are_shown() -> None:
    rows = re.findall(r"^([a-z0-9-]+) +([0-9]+) +([0-9]+) +(\S.*)$", sections()["model list"], re.MULTILINE)
    assert len(rows) > 5
    for name, states, transitions, title in rows:
        model = BUILTIN[name]
        assert (int(states), int(transitions), title) == (len(model.states), len(model.edges), model.title)
