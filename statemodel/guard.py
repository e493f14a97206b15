"""The guard language: small conditions over named inputs, in Python's syntax, parsed once.

A guard is data until `guard_program` compiles it: a syntax tree in which every node is on the short list
below, every name is an input, and depth and size are bounded. Nothing here or later evaluates text as
Python, so a guard reaches nothing but the values it is handed. This module knows no values, no time, no
tags.

    temp >= 180 and not door
    mode in ("auto", "semi") and held(pressure > 4.5, "5s")
    rising(start) or age(heartbeat) > "10s"
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from statemodel.durations import parse_duration
from statemodel.kleene import FUNCTIONS

#: Bounds of one guard. What is longer belongs in the PLC or in several rules.
GUARD_CHARACTERS_MAX: Final = 1000
GUARD_DEPTH_MAX: Final = 40
GUARD_NODES_MAX: Final = 300
GUARD_DURATION_MAX: Final = timedelta(days=3660)

COMPARISON_SIGNS: Final[dict[type[ast.cmpop], str]] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.In: "in",
    ast.NotIn: "not in",
}
CALCULATION_SIGNS: Final[dict[type[ast.operator], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
#: Functions that remember: name to number of arguments.
WATCHES: Final = {"rising": 1, "falling": 1, "changed": 1, "age": 1, "held": 2}

_FUNCTION_NAMES: Final = (*FUNCTIONS, *WATCHES)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOOKALIKES: Final = {
    "true": "True",
    "false": "False",
    "AND": "and",
    "OR": "or",
    "NOT": "not",
    "TRUE": "True",
}
_HINTS: Final[dict[type[ast.AST], str]] = {
    ast.Attribute: "bind the tag to a plain name and use that",
    ast.Subscript: "bind the single value to a plain name and use that",
    ast.BitAnd: "write `and`",
    ast.BitOr: "write `or`",
    ast.Invert: "write `not`",
    ast.Is: "write ==",
    ast.IsNot: "write !=",
    ast.IfExp: "write two rules, or use and/or",
    ast.Pow: "multiply instead",
}
_ALLOWED: Final = (
    "allowed are names, numbers, texts, True, False, comparisons, and/or/not, + - * / // %, in, "
    + " ".join(_FUNCTION_NAMES)
)


class GuardError(ValueError):
    """A guard that cannot be read; `column` counts characters of its text from 1."""

    def __init__(self, column: int, reason: str, hint: str) -> None:
        super().__init__(f"column {column}: {reason} ({hint})")
        self.column = column
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard that has passed every test; `names` are the inputs it looks at, sorted."""

    text: str
    names: tuple[str, ...]
    tree: ast.expr


def parse_guard(text: str) -> Guard:
    """Read a guard.

    Raises:
        GuardError: with the column, what is wrong there and what to write instead.
    """
    if len(text) > GUARD_CHARACTERS_MAX:
        raise GuardError(
            GUARD_CHARACTERS_MAX + 1, "the guard is too long", f"at most {GUARD_CHARACTERS_MAX} characters"
        )
    if not text.strip():
        raise GuardError(1, "the guard is empty", 'write a condition, or "True" for always')
    for place, character in enumerate(text, 1):
        if not character.isprintable() or character in "\\#":
            raise GuardError(
                place, f"a guard cannot contain {character!r}", "write it on one line, without comments"
            )
    return _Reader(text).read()


class _Reader:
    """One pass over one guard's tree."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._indent = len(text) - len(text.lstrip())
        self._body = text.strip()
        self._names: set[str] = set()
        self._nodes = 0

    def read(self) -> Guard:
        tree = self._parse()
        self._expression(tree, 1)
        return Guard(self._text, tuple(sorted(self._names)), tree)

    def _parse(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self._body, mode="eval").body
        except SyntaxError as error:
            # Python says 0 when the text ends too early
            column = min(error.offset or len(self._body) + 1, len(self._body) + 1) + self._indent
            hint = "compare with ==" if _lone_equals(self._body) else _ALLOWED
            raise GuardError(column, error.msg.split(". ")[0], hint) from None
        except (RecursionError, MemoryError, ValueError):
            raise GuardError(1, "the guard cannot be read", "write it shorter and flatter") from None

    def _fail(self, node: ast.AST, reason: str, hint: str) -> GuardError:
        # ast counts bytes of UTF-8, people count characters
        offset: int = getattr(node, "col_offset", 0)
        before = self._body.encode()[:offset].decode(errors="ignore")
        return GuardError(len(before) + 1 + self._indent, reason, hint)

    def _expression(self, node: ast.expr, depth: int) -> None:
        self._nodes += 1
        if depth > GUARD_DEPTH_MAX or self._nodes > GUARD_NODES_MAX:
            raise self._fail(
                node, "the guard is nested too deeply or too large", "split it into several rules"
            )
        match node:
            case ast.Constant():
                self._constant(node)
            case ast.Name():
                self._name(node)
            case ast.BoolOp(values=values):
                self._all(values, depth)
            case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
                self._expression(operand, depth + 1)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in CALCULATION_SIGNS:
                self._no_text(left, right)
                self._all([left, right], depth)
            case ast.Compare():
                self._comparison(node, depth)
            case ast.Call():
                self._call(node, depth)
            case _:
                raise self._refuse(node)

    def _all(self, nodes: list[ast.expr], depth: int) -> None:
        for node in nodes:
            self._expression(node, depth + 1)

    def _refuse(self, node: ast.expr) -> GuardError:
        culprit: ast.AST = getattr(node, "op", node)
        hint = _HINTS.get(type(culprit), _ALLOWED)
        return self._fail(node, f"{_plain_word(culprit)} is not part of the guard language", hint)

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool | str):
            return
        if isinstance(value, int | float):
            if not -(2**64) < value < 2**64:
                raise self._fail(node, "the number is too large", "no tag holds more than 64 bits")
            return
        raise self._fail(
            node, f"{_plain_word(node)} is not a value a tag can have", "use a number, a text, True or False"
        )

    def _name(self, node: ast.Name) -> None:
        if right := _LOOKALIKES.get(node.id):
            raise self._fail(node, f"{node.id} is not known", f"write {right}")
        if node.id in _FUNCTION_NAMES:
            raise self._fail(
                node, f"{node.id} is a function", f"write {node.id}(...), or bind the tag to another name"
            )
        if not _NAME.fullmatch(node.id):
            raise self._fail(node, f"{node.id} is not a plain name", "use the letters a to z, digits and _")
        self._names.add(node.id)

    def _no_text(self, *nodes: ast.expr) -> None:
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                raise self._fail(
                    node, "texts cannot be calculated with", "texts can be compared and looked for with `in`"
                )

    def _comparison(self, node: ast.Compare, depth: int) -> None:
        operands = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
            if type(operator) not in COMPARISON_SIGNS:
                raise self._fail(
                    left, f"{_plain_word(operator)} is not part of the guard language", _HINTS[type(operator)]
                )
            if isinstance(operator, ast.In | ast.NotIn):
                if len(node.ops) > 1:
                    raise self._fail(
                        left, "`in` cannot be chained with other comparisons", "join them with `and`"
                    )
                self._expression(left, depth + 1)
                self._members(right, depth)
                return
            for one, other in ((left, right), (right, left)):
                if is_age(one):
                    self._age_limit(one, operator, other)
        for operand in operands:
            if is_age(operand):
                assert isinstance(operand, ast.Call)
                self._call(operand, depth + 1, age_allowed=True)
            else:
                self._expression(operand, depth + 1)

    def _members(self, node: ast.expr, depth: int) -> None:
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            if not node.elts:
                raise self._fail(
                    node, "nothing can be in an empty list", 'write the values: mode in ("auto", "semi")'
                )
            self._all(node.elts, depth)
        elif isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            self._expression(node, depth + 1)
        else:
            raise self._fail(
                node, "`in` needs a list or a text on its right", 'write: mode in ("auto", "semi")'
            )

    def _age_limit(self, age: ast.expr, operator: ast.cmpop, limit: ast.expr) -> None:
        if isinstance(operator, ast.Eq | ast.NotEq):
            raise self._fail(age, "an age is never exactly something", "compare it with < or >")
        if any(is_age(part) for part in ast.walk(limit)):
            raise self._fail(limit, "two ages cannot be compared", "compare each with a limit")
        if isinstance(limit, ast.Constant) and isinstance(limit.value, str):
            self._duration(limit)

    def _call(self, node: ast.Call, depth: int, *, age_allowed: bool = False) -> None:
        if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTION_NAMES:
            called = node.func.id if isinstance(node.func, ast.Name) else _plain_word(node.func)
            raise self._fail(
                node, f"there is no function {called}", f"functions are {' '.join(_FUNCTION_NAMES)}"
            )
        name = node.func.id
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self._fail(node, f"{name} takes plain arguments only", _usage(name))
        fewest, most = FUNCTIONS[name][:2] if name in FUNCTIONS else (WATCHES[name], WATCHES[name])
        if not fewest <= len(node.args) <= most:
            raise self._fail(node, f"{name} has the wrong number of arguments", _usage(name))
        if name == "age" and not age_allowed:
            raise self._fail(node, "age() can only be compared with a limit", _usage(name))
        arguments = node.args
        if name == "held":
            self._duration(arguments[1])
            arguments = arguments[:1]
        self._all(arguments, depth)

    def _duration(self, node: ast.expr) -> None:
        try:
            duration_of(node)
        except ValueError as error:
            raise self._fail(node, str(error), 'write a duration such as "5s"') from None


def is_age(node: ast.AST) -> bool:
    """Whether a node is a call of `age`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "age"


def duration_of(node: ast.expr) -> timedelta:
    """The duration a constant text says.

    Raises:
        ValueError: it says none.
    """
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise ValueError("a duration in quotes is needed here")  # noqa: TRY004 - one kind of error for one kind of mistake
    return parse_guard_duration(node.value)


def parse_guard_duration(text: str) -> timedelta:
    """Read a duration that conditions and states may have.

    Raises:
        ValueError: it is none, or so long that it would end beyond the calendar.
    """
    duration = parse_duration(text)
    if duration > GUARD_DURATION_MAX:
        raise ValueError(f'"{text}" is longer than {GUARD_DURATION_MAX.days} days')
    return duration


def calls(guard: Guard) -> Iterator[str]:
    """Names of the functions a guard uses."""
    for node in ast.walk(guard.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def _usage(name: str) -> str:
    usages = {
        "age": 'write: age(x) > "10s"',
        "held": 'write: held(x, "5s")',
        "min": "write: min(x, y)",
        "max": "write: max(x, y)",
    }
    return usages.get(name, f"write: {name}(x)")


def _lone_equals(text: str) -> bool:
    return re.search(r"(?<![=<>!])=(?!=)", text) is not None


def _plain_word(node: ast.AST) -> str:
    words = {
        "Attribute": "a dot",
        "Subscript": "an index in brackets",
        "Lambda": "a function definition",
        "IfExp": "if/else",
        "NamedExpr": "an assignment",
        "JoinedStr": "a formatted text",
        "Constant": "this constant",
        "Pow": "a power",
        "Is": "`is`",
        "IsNot": "`is not`",
        "BitAnd": "&",
        "BitOr": "|",
        "BitXor": "^",
        "Invert": "~",
        "LShift": "<<",
        "RShift": ">>",
        "MatMult": "@",
    }
    kind = type(node).__name__
    return words.get(kind, "this expression" if kind != "Tuple" else "a list outside of `in`")
