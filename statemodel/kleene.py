"""Three-valued logic: what guards mean when an input is missing, bad, or of the wrong type.

Every operation here is total: given any tag values it returns a value or `None`, undecided, and never
raises. It knows nothing of guards' syntax or of time.

- A comparison or calculation with an undecided operand is undecided; so is one that mixes text with
  numbers, divides by zero, or leaves the finite numbers.
- `and` is false as soon as one operand is false, `or` true as soon as one is true; otherwise one undecided
  operand makes them undecided (Kleene's strong logic). `not` of undecided is undecided.
- Booleans count as the numbers 0 and 1, and numbers as true when they are not 0, as in PLC programs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from statemodel.types import TagValue

#: A value in a guard: as a tag's, `None` meaning undecided.
Value = TagValue

#: Whole numbers beyond this many bits are undecided: no tag holds them, and they only grow.
_INTEGER_BITS_MAX: Final = 256


def truth(value: Value) -> bool | None:
    """A value as a condition; text is neither true nor false."""
    if value is True or value is False or value is None:
        return value
    return None if isinstance(value, str) else value != 0


def negation(value: Value) -> bool | None:
    """`not value`."""
    decided = truth(value)
    return None if decided is None else not decided


def usable(value: Value) -> Value:
    """The value as an input: a number that is not finite says nothing."""
    # x - x is 0 for every finite number and not a number for the others
    return None if type(value) is float and value - value != 0.0 else value


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Value, Value], bool | None]:
    def total(left: Value, right: Value) -> bool | None:
        if left is None or right is None or (type(left) is str) is not (type(right) is str):
            return None
        return compare(left, right)

    return total


#: Comparisons by their sign.
COMPARISONS: Final[Mapping[str, Callable[[Value, Value], bool | None]]] = {
    "<": _comparison(operator.lt),
    "<=": _comparison(operator.le),
    ">": _comparison(operator.gt),
    ">=": _comparison(operator.ge),
    "==": _comparison(operator.eq),
    "!=": _comparison(operator.ne),
}


def _calculation(calculate: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    def total(left: Value, right: Value) -> Value:
        if left is None or right is None or type(left) is str or type(right) is str:
            return None
        try:
            return _bounded(calculate(left, right))
        except (ZeroDivisionError, OverflowError):
            return None

    return total


def _bounded(number: int | float) -> Value:
    if type(number) is int and number.bit_length() > _INTEGER_BITS_MAX:
        return None
    return usable(number)


#: Arithmetic by its sign.
CALCULATIONS: Final[Mapping[str, Callable[[Value, Value], Value]]] = {
    "+": _calculation(operator.add),
    "-": _calculation(operator.sub),
    "*": _calculation(operator.mul),
    "/": _calculation(operator.truediv),
    "//": _calculation(operator.floordiv),
    "%": _calculation(operator.mod),
}


def negative(value: Value) -> Value:
    """`-value`."""
    return None if value is None or isinstance(value, str) else -value


def positive(value: Value) -> Value:
    """`+value`: a boolean becomes a number."""
    return None if value is None or isinstance(value, str) else +value


def absolute(values: list[Value]) -> Value:
    """`abs(x)`."""
    (value,) = values
    return None if value is None or isinstance(value, str) else abs(value)


def _extreme(pick: Callable[[list[Any]], Any]) -> Callable[[list[Value]], Value]:
    def total(values: list[Value]) -> Value:
        if any(value is None or isinstance(value, str) for value in values):
            return None
        chosen: Value = pick(values)
        return chosen

    return total


#: Functions of values alone: name to (fewest arguments, most arguments, what it does).
FUNCTIONS: Final[Mapping[str, tuple[int, int, Callable[[list[Value]], Value]]]] = {
    "abs": (1, 1, absolute),
    "min": (2, 16, _extreme(min)),
    "max": (2, 16, _extreme(max)),
}


def among(value: Value, members: list[Value]) -> bool | None:
    """`value in (a, b, ...)`: whether it equals one of them, by the same rules as `==` and `or`."""
    equal = COMPARISONS["=="]
    undecided = False
    for member in members:
        same = equal(value, member)
        if same:
            return True
        undecided = undecided or same is None
    return None if undecided else False


def within(part: Value, text: Value) -> bool | None:
    """`part in text`: whether a text contains another."""
    if isinstance(part, str) and isinstance(text, str):
        return part in text
    return None
