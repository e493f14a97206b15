"""Mistakes of type in guards: conditions that can never be decided, told before they are run.

At run time a text compared with a number is undecided, and a rule that is undecided means `Unknown`: safe,
but no help to whoever wrote it. Here the kinds of the inputs are handed in, as far as anybody knows them;
what depends on an unknown one is let through. It knows no tags: where kinds come from is the caller's matter.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from statemodel.guard import CALCULATION_SIGNS, COMPARISON_SIGNS, Guard, GuardError, is_age

#: What an input may be. A `fraction` is a number that is measured rather than counted.
Kind = Literal["bool", "integer", "fraction", "text"]

KINDS: Final = ("bool", "integer", "fraction", "text")
_PLAIN: Final[Mapping[str | None, str]] = {
    "bool": "true or false",
    "integer": "a number",
    "fraction": "a number",
    "text": "a text",
}


def type_errors(guard: Guard, kinds: Mapping[str, Kind]) -> Iterator[GuardError]:
    """Every mistake of type in a guard; names without a kind may be anything."""
    yield from _Judge(guard, kinds).condition(guard.tree)


class _Judge:
    def __init__(self, guard: Guard, kinds: Mapping[str, Kind]) -> None:
        self._text = guard.text
        self._indent = len(guard.text) - len(guard.text.lstrip())
        self._kinds = kinds

    def condition(self, node: ast.expr) -> Iterator[GuardError]:
        """A node whose truth is asked for."""
        yield from self._inside(node)
        kind = self._kind(node)
        if kind == "text":
            yield self._error(
                node,
                f"{self._words(node)} is a text, which is neither true nor false",
                'compare it: mode == "auto"',
            )
        elif kind == "fraction" and not isinstance(node, ast.Constant):
            hint = "compare it with a limit, such as temp > 0"
            yield self._error(node, f"{self._words(node)} is a measured number, hardly ever exactly 0", hint)

    def _inside(self, node: ast.expr) -> Iterator[GuardError]:
        match node:
            case ast.BoolOp(values=values):
                for value in values:
                    yield from self.condition(value)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield from self.condition(operand)
            case ast.UnaryOp(operand=operand):
                yield from self._numbers("calculated with", operand)
            case ast.BinOp(left=left, right=right):
                yield from self._numbers("calculated with", left, right)
            case ast.Compare():
                yield from self._comparison(node)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                yield from self._call(name, arguments)

    def _call(self, name: str, arguments: list[ast.expr]) -> Iterator[GuardError]:
        if name in ("rising", "falling", "held"):
            yield from self.condition(arguments[0])
        elif name in ("changed", "age"):
            yield from self._inside(arguments[0])
        else:
            yield from self._numbers(f"an argument of {name}", *arguments)

    def _numbers(self, what: str, *nodes: ast.expr) -> Iterator[GuardError]:
        for node in nodes:
            yield from self._inside(node)
            if self._kind(node) == "text":
                yield self._error(node, f"{self._words(node)} is a text and cannot be {what}", "numbers can")

    def _comparison(self, node: ast.Compare) -> Iterator[GuardError]:
        operands = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
            yield from self._inside(left)
            if isinstance(operator, ast.In | ast.NotIn):
                yield from self._membership(left, right)
            elif is_age(left) or is_age(right):
                limit = right if is_age(left) else left
                if self._kind(limit) == "text" and not isinstance(limit, ast.Constant):
                    yield self._error(limit, f"{self._words(limit)} is a text and no limit", 'write "10s"')
            else:
                yield from self._pair(left, COMPARISON_SIGNS[type(operator)], right)
        if not isinstance(node.ops[-1], ast.In | ast.NotIn):
            yield from self._inside(operands[-1])

    def _pair(self, left: ast.expr, sign: str, right: ast.expr) -> Iterator[GuardError]:
        kinds = self._kind(left), self._kind(right)
        if None not in kinds and (kinds[0] == "text") is not (kinds[1] == "text"):
            reason = (
                f"{self._words(left)} is {_PLAIN[kinds[0]]} and {self._words(right)} is {_PLAIN[kinds[1]]}"
            )
            yield self._error(
                left, f"{reason}: {sign} between them is never decided", self._unquoted(left, right)
            )
        elif _is_text(left) and _is_text(right):
            hint = "names of inputs stand without quotes"
            yield self._error(left, "two texts are compared that never change", hint)

    def _membership(self, left: ast.expr, right: ast.expr) -> Iterator[GuardError]:
        if not isinstance(right, ast.Tuple | ast.List | ast.Set):
            for node in (left, right):
                if (kind := self._kind(node)) not in (None, "text"):
                    reason = f"{self._words(node)} is {_PLAIN[kind]}: only texts have parts"
                    yield self._error(node, reason, 'write a list: mode in ("auto", "semi")')
            return
        for member in right.elts:
            yield from self._inside(member)
            yield from self._pair(left, "==", member)

    def _kind(self, node: ast.expr) -> Kind | None:
        match node:
            case ast.Constant(value=bool()):
                return "bool"
            case ast.Constant(value=int()):
                return "integer"
            case ast.Constant(value=float()):
                return "fraction"
            case ast.Constant():
                return "text"
            case ast.Name(id=name):
                return self._kinds.get(name)
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return "bool"
            case ast.Call(func=ast.Name(id="rising" | "falling" | "changed" | "held")):
                return "bool"
            case ast.BinOp(op=operator) if type(operator) in CALCULATION_SIGNS:
                # which number it is depends on its parts; that it is one does not
                return "integer"
            case ast.UnaryOp() | ast.Call():
                return "integer"
        return None

    def _words(self, node: ast.expr) -> str:
        return ast.get_source_segment(self._text.strip(), node) or "this"

    def _unquoted(self, *nodes: ast.expr) -> str:
        quoted = next((node.value for node in nodes if _is_text(node) and isinstance(node, ast.Constant)), "")
        if isinstance(quoted, str) and quoted in self._kinds:
            return f"is the input meant? write {quoted} without quotes"
        if isinstance(quoted, str) and quoted.replace(".", "", 1).lstrip("-").isdigit():
            return f"write {quoted} without quotes"
        return "compare texts with texts and numbers with numbers"

    def _error(self, node: ast.expr, reason: str, hint: str) -> GuardError:
        before = self._text.strip().encode()[: node.col_offset].decode(errors="ignore")
        return GuardError(len(before) + 1 + self._indent, reason, hint)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
