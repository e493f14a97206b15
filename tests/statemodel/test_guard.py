"""Guards: what they mean, what they refuse, and that nothing gets through them."""

from __future__ import annotations

import ast
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemodel.guard import GUARD_CHARACTERS_MAX, GuardError, parse_guard
from statemodel.guard_program import compile_guards, decide
from statemodel.types import TagValue
from tests.statemodel.support import after

_MEANING: list[tuple[str, dict[str, TagValue], bool | None]] = [
    ("temp >= 180", {"temp": 180.0}, True),
    ("temp >= 180", {"temp": 179.9}, False),
    ("temp >= 180", {}, None),
    ("temp >= 180", {"temp": float("nan")}, None),
    ("temp >= 180", {"temp": float("inf")}, None),
    ("180 <= temp < 200", {"temp": 190}, True),
    ("180 <= temp < 200", {"temp": 200}, False),
    ("not run", {"run": False}, True),
    ("not run", {"run": 0}, True),
    ("not run", {}, None),
    ("run", {"run": 2}, True),
    ("run", {"run": "yes"}, None),
    ("a and b", {"a": False}, False),
    ("b and a", {"a": False}, False),
    ("a and b", {"a": True}, None),
    ("a or b", {"a": True}, True),
    ("b or a", {"a": True}, True),
    ("a or b", {"a": False}, None),
    ("a + b + c >= 2", {"a": True, "b": True, "c": False}, True),
    ("a / b > 1", {"a": 3, "b": 0}, None),
    ("a // b > 1", {"a": 3, "b": 0}, None),
    ("a % b == 1", {"a": 3, "b": 2}, True),
    ("a * a * a * a > 0", {"a": 1e200}, None),
    ("a * a * a * a * a > 0", {"a": 2**63}, None),
    ("a / 3 > 1", {"a": 10**400}, None),
    ("mode == 'auto'", {"mode": "auto"}, True),
    ("mode == 1", {"mode": "auto"}, None),
    ("mode != 1", {"mode": "auto"}, None),
    ("mode < 'b'", {"mode": "auto"}, True),
    ("mode in ('auto', 'semi')", {"mode": "semi"}, True),
    ("mode in ('auto', 'semi')", {"mode": "hand"}, False),
    ("mode not in ['auto', 'semi']", {"mode": "hand"}, True),
    ("mode in (1, x)", {"mode": 2}, None),
    ("mode in (2, x)", {"mode": 2}, True),
    ("'jam' in alarm", {"alarm": "jam at infeed"}, True),
    ("'jam' in alarm", {"alarm": 7}, None),
    ("abs(x) > 3", {"x": -4}, True),
    ("min(a, b) == 1 and max(a, b) == 2", {"a": 1, "b": 2}, True),
    ("max(a, b) > 1", {"a": 5}, None),
    ("-x > 1", {"x": -2}, True),
    ("-x > 1", {"x": "a"}, None),
    ("True", {}, True),
    ("False", {}, False),
    ("1 == 1.0", {}, True),
]


@pytest.mark.parametrize(("text", "values", "meaning"), _MEANING)
def test_meaning(text: str, values: dict[str, TagValue], meaning: bool | None) -> None:
    assert decide(parse_guard(text), values) is meaning


_REFUSED = [
    ("", 1, "empty"),
    ("   ", 1, "empty"),
    ("a.b", 1, "dot"),
    ("x > 1 and a.b", 11, "dot"),
    ("'é' == a.b", 8, "dot"),
    ("  a.b", 3, "dot"),
    ("a[0]", 1, "index"),
    ("a[0] > 1", 1, "index"),
    ("open('x')", 1, "no function open"),
    ("(lambda: 1)()", 1, "no function"),
    ("__import__('os')", 1, "no function __import__"),
    ("a if b else c", 1, "if/else"),
    ("(a := 1)", 2, "assignment"),
    ("f'{a}'", 1, "formatted text"),
    ("a ** 2 > 1", 1, "power"),
    ("a is b", 1, "`is`"),
    ("a & b", 1, "&"),
    ("~a", 1, "~"),
    ("None", 1, "constant"),
    ("a == None", 6, "constant"),
    ("b'x' == a", 1, "constant"),
    ("1j == a", 1, "constant"),
    ("...", 1, "constant"),
    ("a = 1", 3, "syntax"),
    ("a >", 4, "syntax"),
    ("true", 1, "not known"),
    ("min > 1", 1, "is a function"),
    ("min(a)", 1, "number of arguments"),
    ("abs(x=1)", 1, "plain arguments"),
    ("max(*a, b)", 1, "plain arguments"),
    ("held(a)", 1, "number of arguments"),
    ("held(a, 5)", 9, "quotes"),
    ("held(a, 'soon')", 9, "not a duration"),
    ("age(a)", 1, "limit"),
    ("age(a) + 1 > 2", 1, "limit"),
    ("age(a) == 2", 1, "never exactly"),
    ("age(a) > age(b)", 10, "two ages"),
    ("age(a) > 'soon'", 10, "not a duration"),
    ("a in ()", 6, "empty list"),
    ("a in 5", 6, "list or a text"),
    ("1 < a in (1, 2)", 5, "chained"),
    ("(a, b)", 1, "list outside"),
    ("[a for a in b]", 1, "this expression"),
    ("a + 'x' == 'ax'", 5, "calculated"),
    ("a > 99999999999999999999999", 5, "too large"),
    ("a > 1e999", 5, "too large"),
    ("größe > 1", 1, "plain name"),
    ("a\nb", 2, "cannot contain"),
    ("a > 1 # hot", 7, "cannot contain"),
    ("'\\x41' == a", 2, "cannot contain"),
    ("(" * 150 + "a" + ")" * 150 + ".b", 1, "dot"),
    ("-" * 60 + "a", 41, "deeply"),
    ("x in (" + "1," * 350 + "1)", None, "too large"),
    ("a" * (GUARD_CHARACTERS_MAX + 1), GUARD_CHARACTERS_MAX + 1, "too long"),
]


@pytest.mark.parametrize(("text", "column", "reason"), _REFUSED)
def test_refusals_name_the_column_and_say_what_to_write(text: str, column: int | None, reason: str) -> None:
    with pytest.raises(GuardError) as refused:
        parse_guard(text)
    assert reason in refused.value.reason
    assert refused.value.hint
    assert column is None or refused.value.column == column


_ALPHABET = string.ascii_letters + string.digits + " ()[]{}<>=!+-*/%.,:'\"_#@&|^~\\\n"


@given(st.text(alphabet=_ALPHABET, max_size=60) | st.text(max_size=40))
def test_any_text_is_read_or_refused_and_never_reaches_anything(text: str) -> None:
    try:
        guard = parse_guard(text)
    except GuardError as error:
        if not 1 <= error.column <= len(text) + 1:
            raise
        return
    for values in ({}, dict.fromkeys(guard.names, 1), dict.fromkeys(guard.names, "x")):
        assert decide(guard, values) in (True, False, None)


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(width=32), st.sampled_from(["", "auto", "1"])
)
_LEAVES = st.sampled_from(["a", "b", "c", "0", "1", "2.5", "True", "False", "'auto'"])


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(inner, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), inner).map(" ".join),
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(" ".join),
        pair.map(lambda p: f"{p[0]} and {p[1]}"),
        pair.map(lambda p: f"{p[0]} or {p[1]}"),
        pair.map(lambda p: f"{p[0]} in ({p[1]}, 1)"),
        pair.map(lambda p: f"min({p[0]}, {p[1]})"),
        inner.map(lambda x: f"not {x}"),
        inner.map(lambda x: f"-{x}"),
        inner.map(lambda x: f"abs({x})"),
    ).map(lambda text: f"({text})")


@given(st.recursive(_LEAVES, _grow, max_leaves=12), st.fixed_dictionaries(dict.fromkeys("abc", _VALUES)))
def test_agrees_with_a_second_reading_of_the_same_tree(text: str, values: dict[str, Any]) -> None:
    try:
        guard = parse_guard(text)
    except GuardError as error:
        if "calculated" not in error.reason and "deeply" not in error.reason:
            raise
        return
    got = decide(guard, values)
    expected = _condition(ast.parse(text, mode="eval").body, values)
    assert got is expected, (text, values)


def _condition(node: ast.expr, values: dict[str, Any]) -> bool | None:
    value = _reference(node, values)
    if value is None or isinstance(value, str):
        return None
    return bool(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def _reference(node: ast.expr, values: dict[str, Any]) -> Any:
    """The language once more, written the slow and obvious way."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _finite(values[name])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _condition(operand, values)
            return None if inner is None else not inner
        case ast.BoolOp(op=op, values=parts):
            answers = [_condition(part, values) for part in parts]
            decisive = isinstance(op, ast.Or)
            if decisive in answers:
                return decisive
            return None if None in answers else not decisive
        case ast.Compare(left=left, ops=[ast.In()], comparators=[ast.Tuple(elts=members)]):
            value = _reference(left, values)
            same = [_same(value, _reference(member, values)) for member in members]
            return True if True in same else None if None in same else False
    parts = [_reference(child, values) for child in _operands(node)]
    if None in parts or any(isinstance(p, str) for p in parts) != all(isinstance(p, str) for p in parts):
        return None
    if isinstance(parts[0], str) and not isinstance(node, ast.Compare):
        return None
    names = {f"v{place}": part for place, part in enumerate(parts)}
    try:
        return _finite(eval(_shape(node), {"min": min, "abs": abs}, names))
    except (ZeroDivisionError, OverflowError):
        return None


def _same(one: Any, other: Any) -> bool | None:
    if one is None or other is None or isinstance(one, str) != isinstance(other, str):
        return None
    return bool(one == other)


def _operands(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.Compare(left=left, comparators=[right]):
            return [left, right]
        case ast.Call(args=arguments):
            return arguments
        case ast.UnaryOp(operand=operand):
            return [operand]
    raise AssertionError(ast.dump(node))


def _shape(node: ast.expr) -> str:
    """The node with its operands called v0 and v1."""
    signs = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
    sums = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"}
    match node:
        case ast.BinOp(op=operator):
            return f"v0 {sums[type(operator)]} v1"
        case ast.Compare(ops=[sign]):
            return f"v0 {signs[type(sign)]} v1"
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return f"{name}({', '.join(f'v{place}' for place in range(len(arguments)))})"
        case ast.UnaryOp():
            return "-v0"
    raise AssertionError(ast.dump(node))


class _Watched:
    """One guard over one input `x` (and `y`), asked again and again."""

    def __init__(self, text: str) -> None:
        self._program = compile_guards([(parse_guard(text), None)])
        self._values = self._program.blank()
        self._memory: list[Any] = [None] * len(self._program.watches)
        self._due_s: float | None = None

    def ask(self, seconds: float, **inputs: TagValue) -> TagValue:
        for name, value in inputs.items():
            self._values[self._program.inputs.index(name)] = value
        wake = self._program.look(self._values, self._memory, after(seconds))
        self._due_s = None if wake is None else (wake - after(0)).total_seconds()
        return self._program.tests[0](self._values)

    def due_s(self) -> float | None:
        """When time alone may change the answer, by the last question."""
        return self._due_s


def test_rising_is_true_once_and_not_after_a_gap() -> None:
    guard = _Watched("rising(x)")
    heard = [guard.ask(t, x=x) for t, x in enumerate([True, False, True, True, None, True, False, True])]
    assert heard == [False, False, True, False, None, False, False, True]


def test_falling_and_changed() -> None:
    falling, changed = _Watched("falling(x > 3)"), _Watched("changed(x)")
    assert [falling.ask(t, x=x) for t, x in enumerate([5, 4, 2, 1, None, 1])] == [
        False,
        False,
        True,
        False,
        None,
        False,
    ]
    assert [changed.ask(t, x=x) for t, x in enumerate([5, 5, 4, None, 4, 5])] == [
        False,
        False,
        True,
        None,
        False,
        True,
    ]


def test_an_edge_is_not_missed_behind_a_short_circuit() -> None:
    guard = _Watched("y and rising(x)")
    guard.ask(0, x=False, y=False)
    assert guard.ask(1, x=True) is False
    assert guard.ask(2, y=True) is False, "x rose earlier, while nobody asked"


def test_held_names_the_instant_it_comes_true() -> None:
    guard = _Watched('held(x > 3, "5s")')
    assert guard.ask(0, x=1) is False
    assert guard.due_s() is None
    assert guard.ask(10, x=4) is False
    assert guard.due_s() == 15
    assert guard.ask(14.999999) is False
    assert guard.ask(15) is True
    assert guard.due_s() is None
    assert guard.ask(16, x=None) is None
    assert guard.ask(17, x=4) is None, "it may have begun to hold during the gap"
    assert guard.due_s() == 22


@pytest.mark.parametrize(
    ("text", "turns_s"), [('age(x) > "10s"', 10.000001), ("age(x) >= 10", 10), ("10 < age(x)", 10.000001)]
)
def test_age_counts_from_the_last_change_of_value(text: str, turns_s: float) -> None:
    guard = _Watched(text)
    guard.ask(-1, x=0)
    assert guard.ask(0, x=1) is False
    assert guard.due_s() == turns_s
    assert guard.ask(5, x=1) is False
    assert guard.due_s() == turns_s, "a repetition does not make the value younger"
    assert guard.ask(turns_s) is True
    assert guard.due_s() is None
    assert guard.ask(20, x=2) is False
    assert guard.ask(21, x=None) is None


def test_age_under_a_limit_turns_false_in_time() -> None:
    guard = _Watched("age(x) < 10 and x > 0")
    guard.ask(-1, x=0)
    assert guard.ask(0, x=1) is True
    assert guard.due_s() == 10
    assert guard.ask(10) is False


def test_a_value_nobody_saw_begin_may_be_older_than_it_looks() -> None:
    over, under = _Watched("age(x) > 10"), _Watched("age(x) <= 10")
    for guard, passed in ((over, True), (under, False)):
        assert guard.ask(0, x=1) is None
        assert guard.ask(9) is None
        assert guard.ask(11) is passed, "it is at least that old"
        assert guard.ask(12, x=2) is not passed, "this time its beginning was seen"
        assert guard.ask(13, x=None) is None
        assert guard.ask(14, x=2) is None, "a gap hides the beginning again"


def test_watches_may_be_nested() -> None:
    guard = _Watched('held(held(x, "2s"), "3s")')
    assert guard.ask(-1, x=False) is False
    assert guard.ask(0, x=True) is False
    assert guard.due_s() == 2
    assert guard.ask(2) is False
    assert guard.due_s() == 5
    assert guard.ask(5) is True


def test_how_long_something_has_held_is_open_when_its_beginning_was_not_seen() -> None:
    guard = _Watched('held(x, "5s")')
    assert guard.ask(0, x=True) is None, "it may have been true for an hour"
    assert guard.due_s() == 5
    assert guard.ask(5) is True, "now it has been watched for long enough"

    guard = _Watched('held(x, "5s")')
    assert guard.ask(0, x=True) is None
    assert guard.ask(1, x=False) is False, "it is not true at all any more"
    assert guard.ask(2, x=True) is False, "this time the beginning was seen"


def test_an_absurd_age_limit_never_comes() -> None:
    guard = _Watched("age(x) > y")
    guard.ask(-1, x=0, y=1e300)
    assert guard.ask(0, x=1) is False
    assert guard.due_s() is None
