"""The built-in models as docs/state-models.md shows them, drawn from the models themselves.

Run it as `python -m tests.docs.builtin_models` to write them into the page.
"""

from __future__ import annotations

from collections.abc import Iterator

from statemodel.builtin import BUILTIN
from statemodel.describe import COLUMNS, describe, mermaid, table
from statemodel.model import Model
from tests.docs.pages import DOCS

PAGE = DOCS / "state-models.md"
MARK = "<!-- The rest of this page is made from the models: python -m tests.docs.builtin_models -->\n"


def anyone_may_follow(model: Model) -> bool:
    """Whether the table has every move there is, so that a drawing would say nothing."""
    return len(model.edges) == len(model.states) * (len(model.states) - 1) > 2


def section(model: Model) -> Iterator[str]:
    """One model: what it is, its states, its diagram."""
    told = describe(model)
    yield f"### `{model.name}`"
    yield ""
    ends = "every state may follow every other" if anyone_may_follow(model) else "the diagram shows the moves"
    yield f"{told['title']}. {len(model.states)} states; begins in {told['initial']}; {ends}."
    yield ""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "| " + " | ".join("---" for _ in COLUMNS) + " |"
    for row in table(model):
        *cells, leads_to = row
        yield "| " + " | ".join([*cells, "any other" if anyone_may_follow(model) else leads_to]) + " |"
    yield ""
    if not anyone_may_follow(model):
        yield "```mermaid"
        yield mermaid(model).rstrip("\n")
        yield "```"
        yield ""


def render() -> str:
    """The part of the page below the mark."""
    names = ", ".join(f"[`{name}`](#{name})" for name in BUILTIN)
    lines = [f"\n{names}.\n", *(line for model in BUILTIN.values() for line in section(model))]
    return "\n".join(lines).rstrip("\n") + "\n"


def main() -> None:
    """Write the models into the page."""
    head, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"{PAGE} has no mark"
    PAGE.write_text(head + mark + render(), encoding="utf-8")


if __name__ == "__main__":
    main()
