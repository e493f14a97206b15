"""`andon model list|show|check`: state models as tables, diagrams and data, and what is wrong with them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from rich.text import Text

from gateway.commands.replay import read_named_model
from gateway.commands.show import STYLE, err, out, print_json, table_of
from gateway.config.load import load_model
from gateway.config.problems import ConfigurationRefused
from statemodel.builtin import BUILTIN
from statemodel.check import check
from statemodel.describe import COLUMNS, describe, mermaid, table
from statemodel.model import Model


class Format(StrEnum):
    """How a model is shown."""

    TABLE = "table"
    MERMAID = "mermaid"
    JSON = "json"


def list_models(*, json: bool) -> None:
    """Print the built-in models."""
    if json:
        for model in BUILTIN.values():
            print_json({"name": model.name, "title": model.title, "states": len(model.states)})
        return
    shown = table_of("model", "states", "transitions", "", wrapped=("",))
    for model in BUILTIN.values():
        shown.add_row(model.name, str(len(model.states)), str(len(model.edges)), model.title)
    out.print(shown)


def show_model(name: str, form: Format) -> None:
    """Print a model: a built-in one by its name, or one of your own from its file."""
    _print(read_named_model(name), form)


def check_model(path: Path, form: Format, *, json: bool) -> None:
    """Judge a model's file, everything at once; print the model when it is sound.

    Raises:
        ConfigurationRefused: with everything that is wrong.
    """
    model, problems = load_model(path)
    if model is None:
        if not json:
            raise ConfigurationRefused(list(problems))
        print_json({"ok": False, "problems": problems, "warnings": []})
        raise SystemExit(ConfigurationRefused.exit_code)
    warnings = [found for found in check(model) if found.severity == "warning"]
    if json:
        print_json(
            {
                "ok": True,
                "problems": [],
                "warnings": [{"path": w.path, "reason": w.reason, "hint": w.hint} for w in warnings],
            }
        )
        return
    for warning in warnings:
        err.print(f"{path} {warning.path}: {warning.reason}", style="yellow", markup=False)
        if warning.hint:
            err.print(f"    hint: {warning.hint}", style="dim", markup=False)
    if form is Format.TABLE:
        odd = f", {len(warnings)} odd" if warnings else ""
        out.print(f"[bold green]fine[/]{odd}: {path}")
    _print(model, form)


def _print(model: Model, form: Format) -> None:
    if form is Format.JSON:
        print_json(describe(model))
    elif form is Format.MERMAID:
        out.print(mermaid(model), markup=False, end="")
    else:
        _print_table(model)


def _print_table(model: Model) -> None:
    title = f": {model.title}" if model.title else ""
    out.print(f"{model.name}{title}; begins in {model.initial}", style="bold", markup=False)
    colours = {state.name: state.colour for state in model.states}
    shown = table_of(*COLUMNS, wrapped=COLUMNS[-1:])
    for row in table(model):
        shown.add_row(Text(row[0], style=STYLE[colours[row[0]]]), *(Text(cell) for cell in row[1:]))
    out.print(shown)
    if model.rules:
        out.print("rules, the first that is true wins:", style="dim")
        rules = describe(model)["rules"]
        for place, rule in enumerate(rules, 1):
            held = f" for {rule['for']}" if rule["for"] else ""
            out.print(f"  {place}. {rule['state']} when {rule['when']}{held}", markup=False)
