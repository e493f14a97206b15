"""Guards made fast: each syntax tree becomes nested functions over one list of values.

The list holds the inputs of one equipment by position, `None` where nothing trustworthy is known, and after
them what its watches say. A program is made once per model and shared by all its equipment. No text is
evaluated here: every function comes from the table in `kleene.py` or from the few shapes below.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from statemodel.guard import (
    CALCULATION_SIGNS,
    COMPARISON_SIGNS,
    Guard,
    duration_of,
    is_age,
)
from statemodel.kleene import (
    CALCULATIONS,
    COMPARISONS,
    FUNCTIONS,
    Value,
    among,
    negation,
    negative,
    positive,
    truth,
    usable,
    within,
)
from statemodel.types import TagValue
from statemodel.watch import Aged, Changed, Held, Rising, Test, Values, Watch


@dataclass(frozen=True, slots=True)
class Program:
    """Guards compiled together: `tests` in their order, each giving True, False or None (undecided).

    Look at every watch, in order, before asking a test; `values` starts as `blank()`.
    """

    inputs: tuple[str, ...]
    tests: tuple[Test, ...]
    watches: tuple[Watch, ...]

    def blank(self) -> Values:
        """Values of an equipment of which nothing is known yet."""
        return [None] * (len(self.inputs) + len(self.watches))

    def look(self, values: Values, memory: list[Any], now: datetime) -> datetime | None:
        """Let every watch note the present; returns when time alone may next change an answer."""
        wake: datetime | None = None
        for watch in self.watches:
            at = watch.look(values, memory, now)
            if at is not None and (wake is None or at < wake):
                wake = at
        return wake


def compile_guards(guards: Sequence[tuple[Guard, timedelta | None]]) -> Program:
    """Compile guards, each with how long it must hold (None: not at all)."""
    inputs = tuple(sorted({name for guard, _ in guards for name in guard.names}))
    compiler = _Compiler({name: place for place, name in enumerate(inputs)})
    tests = tuple(compiler.condition_held(guard.tree, hold) for guard, hold in guards)
    return Program(inputs, tests, tuple(compiler.watches))


def decide(guard: Guard, values: Mapping[str, TagValue]) -> bool | None:
    """What a guard says about values alone: nothing remembered, no time passed. For trying a guard out."""
    program = compile_guards([(guard, None)])
    row = program.blank()
    for place, name in enumerate(program.inputs):
        row[place] = usable(values.get(name))
    program.look(row, [None] * len(program.watches), datetime.min)  # noqa: DTZ901 - any instant serves
    answer = program.tests[0](row)
    assert answer is None or isinstance(answer, bool)
    return answer


class _Compiler:
    def __init__(self, places: Mapping[str, int]) -> None:
        self._places = places
        self.watches: list[Watch] = []

    def condition_held(self, tree: ast.expr, hold: timedelta | None) -> Test:
        test = self._condition(tree)
        return test if hold is None else self._held(test, hold)

    def _held(self, test: Test, duration: timedelta) -> Test:
        return self._watch(Held(test, *self._next(), duration))

    def _next(self) -> tuple[int, int]:
        """Where the next watch puts what it says, and where it remembers."""
        place = len(self.watches)
        return len(self._places) + place, place

    def _watch(self, watch: Watch) -> Test:
        self.watches.append(watch)
        return _input(watch.out)

    def _condition(self, node: ast.expr) -> Test:
        """A node as True, False or None."""
        value = self._value(node)
        if isinstance(node, ast.Compare | ast.BoolOp) or (
            isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
        ):
            return value
        return lambda values: truth(value(values))

    def _value(self, node: ast.expr) -> Test:
        match node:
            case ast.Constant(value=constant):
                return _constant(constant)
            case ast.Name(id=name):
                return _input(self._places[name])
            case ast.BoolOp(op=op, values=operands):
                return _joined([self._condition(operand) for operand in operands], isinstance(op, ast.And))
            case ast.UnaryOp(op=op, operand=operand):
                return _unary(op, self._value(operand))
            case ast.BinOp(left=left, op=operator, right=right):
                return _binary(
                    CALCULATIONS[CALCULATION_SIGNS[type(operator)]], self._value(left), self._value(right)
                )
            case ast.Compare():
                return self._comparison(node)
            case ast.Call():
                return self._call(node)
        raise AssertionError(f"the guard reader let through {ast.dump(node)}")

    def _comparison(self, node: ast.Compare) -> Test:
        operands = [node.left, *node.comparators]
        pairs = [
            self._pair(left, COMPARISON_SIGNS[type(operator)], right)
            for operator, left, right in zip(node.ops, operands, operands[1:], strict=False)
        ]
        return pairs[0] if len(pairs) == 1 else _joined(pairs, conjunction=True)

    def _pair(self, left: ast.expr, sign: str, right: ast.expr) -> Test:
        if sign in ("in", "not in"):
            test = self._membership(left, right)
            return test if sign == "in" else lambda values: negation(test(values))
        if is_age(left):
            return self._aged(left, sign, right)
        if is_age(right):
            return self._aged(right, _MIRRORED[sign], left)
        compare = COMPARISONS[sign]
        if isinstance(left, ast.Name) and isinstance(right, ast.Constant):
            return _input_against(compare, self._places[left.id], right.value)
        return _binary(compare, self._value(left), self._value(right))

    def _membership(self, left: ast.expr, right: ast.expr) -> Test:
        value = self._value(left)
        if isinstance(right, ast.Tuple | ast.List | ast.Set):
            members = [self._value(member) for member in right.elts]
            return lambda values: among(value(values), [member(values) for member in members])
        text = self._value(right)
        return lambda values: within(value(values), text(values))

    def _aged(self, age: ast.expr, sign: str, limit: ast.expr) -> Test:
        assert isinstance(age, ast.Call)
        test = self._value(age.args[0])
        if isinstance(limit, ast.Constant) and isinstance(limit.value, str):
            limit_s = _constant(duration_of(limit).total_seconds())
        else:
            limit_s = self._value(limit)
        return self._watch(Aged(test, limit_s, sign, *self._next()))

    def _call(self, node: ast.Call) -> Test:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name in FUNCTIONS:
            function = FUNCTIONS[name][2]
            arguments = [self._value(argument) for argument in node.args]
            return lambda values: function([argument(values) for argument in arguments])
        if name == "changed":
            return self._watch(Changed(self._value(node.args[0]), *self._next()))
        condition = self._condition(node.args[0])
        if name == "held":
            return self._held(condition, duration_of(node.args[1]))
        return self._watch(Rising(condition, *self._next(), to=name == "rising"))


_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _constant(value: Any) -> Test:
    return lambda values: value


def _input(place: int) -> Test:
    return lambda values: values[place]


def _input_against(compare: Any, place: int, constant: Any) -> Test:
    return lambda values: compare(values[place], constant)


def _binary(operate: Any, left: Test, right: Test) -> Test:
    return lambda values: operate(left(values), right(values))


def _unary(operator: ast.unaryop, operand: Test) -> Test:
    operate = {ast.Not: negation, ast.USub: negative, ast.UAdd: positive}[type(operator)]
    return lambda values: operate(operand(values))


def _joined(conditions: list[Test], conjunction: bool) -> Test:
    """`and` of the conditions, or `or`: one that is decisive settles it, an undecided one unsettles it."""
    decisive = not conjunction

    def both(values: Values) -> Value:
        undecided = False
        for condition in conditions:
            answer = condition(values)
            if answer is decisive:
                return decisive
            undecided = undecided or answer is None
        return None if undecided else conjunction

    return both
