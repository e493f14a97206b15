"""docs/state-models.md says of models, rules and guards what the code does."""

from __future__ import annotations

import re
import tomllib

import pytest

from statemodel import definition
from statemodel.builtin import BUILTIN
from statemodel.describe import table as model_table
from statemodel.guard import (
    GUARD_CHARACTERS_MAX,
    GUARD_DEPTH_MAX,
    GUARD_NODES_MAX,
    WATCHES,
    parse_guard,
)
from statemodel.guard_program import decide
from statemodel.kleene import FUNCTIONS
from statemodel.model import COLOUR_OF_CATEGORY
from statemodel.types import Cause, Conformance, TagValue
from tests.docs.builtin_models import MARK, PAGE, anyone_may_follow, render
from tests.docs.pages import Table, blocks, tables

ANSWERS = {"true": True, "false": False, "undecided": None}
TABLES = {(table.heading, table.header[0]): table for table in tables(PAGE)}


def keys(heading: str) -> list[str]:
    """The settings a table of the page names."""
    return [row[0].strip("`") for row in TABLES[heading, "key"].rows]


def test_the_built_in_models_are_those_of_the_code() -> None:
    _, mark, drawn = PAGE.read_text(encoding="utf-8").partition(MARK)

    assert mark
    assert drawn == render(), "run python -m tests.docs.builtin_models"


def test_every_built_in_model_is_shown_with_all_its_states() -> None:
    for name, model in BUILTIN.items():
        rows = TABLES[f"`{name}`", "state"].rows
        assert [row[:-1] for row in rows] == [tuple(row[:-1]) for row in model_table(model)]
        assert any(row[-1] == "any other" for row in rows) == anyone_may_follow(model)


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        ("The model", definition._KEYS),
        ("States", definition._STATE_KEYS),
        ("Transitions", definition._TRANSITION_KEYS),
        ("The rules of a model", definition._RULE_KEYS),
    ],
)
def test_the_reference_has_every_key(heading: str, known: tuple[str, ...]) -> None:
    assert sorted(keys(heading)) == sorted(known)


def test_bounds_are_those_of_the_code() -> None:
    rows = {row[0].strip("`"): row[2] for row in TABLES["The model", "key"].rows}
    assert f"at most {definition.STATES_MAX}" in rows["states"]
    assert f"at most {definition.TRANSITIONS_MAX}" in rows["transitions"]
    assert f"at most {definition.RULES_MAX}" in rows["rules"]
    text = PAGE.read_text(encoding="utf-8")
    assert (
        f"At most {GUARD_CHARACTERS_MAX} characters, {GUARD_NODES_MAX} parts, {GUARD_DEPTH_MAX} levels"
        in text
    )


def test_categories_and_colours() -> None:
    shown = {category.strip("`"): colour.strip("`") for category, colour in TABLES["States", "category"].rows}

    assert shown == {category or "none": colour for category, colour in COLOUR_OF_CATEGORY.items()}


def test_conformances() -> None:
    shown = [row[0].strip("`") for row in TABLES["Moves that are not in the table", "`conformance`"].rows]

    assert shown == [conformance.value for conformance in Conformance]


def test_reasons_for_unknown() -> None:
    shown = {row[0].strip("`") for row in TABLES["Unknown", "`cause.rule`"].rows}

    assert shown == set(re.findall(r"`([a-z_]+)`", Cause.__doc__ or "")) - {"rule", "text"}


def test_every_function_of_the_guard_language_is_shown() -> None:
    shown = {name for row in TABLES["Guards", "function"].rows for name in re.findall(r"`([a-z]+)\(", row[0])}

    assert shown == {*FUNCTIONS, *WATCHES}


def truths() -> list[tuple[str, str, str]]:
    """The rows of the table of three answers."""
    table: Table = TABLES["Three answers", "guard"]
    return [(row[0].strip("`"), row[1], row[2]) for row in table.rows]


@pytest.mark.parametrize(("guard", "inputs", "answer"), truths())
def test_a_guard_answers_as_the_page_says(guard: str, inputs: str, answer: str) -> None:
    values: dict[str, TagValue] = {}
    for part in inputs.split(", "):
        if part.endswith(" undecided"):
            values[part.removesuffix(" undecided")] = None
        else:
            values |= tomllib.loads(part)
    parsed = parse_guard(guard)

    assert set(parsed.names) == set(values)
    assert decide(parsed, values) is ANSWERS[answer]


def test_what_is_wrong_with_a_model_is_told_as_the_page_says() -> None:
    said = {block.info: block.text for block in blocks(PAGE)}
    name = "models/tank.toml"

    model, problems = definition.read_model(tomllib.loads(said[f"toml refused {name}"]))

    assert model is None
    assert [str(problem) for problem in problems] == said[f"text problems {name}"].splitlines()
