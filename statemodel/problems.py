"""Problems in what people wrote, all of them at once: where, what, and what to write instead.

Used by everything that reads definitions. It knows no model: it offers typed access to the tables a TOML
parser gives, and collects what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `path` leads to it (`rules[2].when`); a `warning` does not refuse the file."""

    path: str
    reason: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        return f"{place}{self.reason}" + (f" ({self.hint})" if self.hint else "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them when few."""
    words = list(known)
    by_lower = {known_word.lower(): known_word for known_word in words}
    if near := get_close_matches(word.lower(), by_lower, n=1):
        return f'did you mean "{by_lower[near[0]]}"?'
    if not words:
        return ""
    return "known: " + ", ".join(words[:12]) + (", ..." if len(words) > 12 else "")


class Table:
    """A TOML table whose every key must be known and of the right type.

    Each reading method returns None when the key is missing or wrong; what is wrong has then been noted.
    """

    def __init__(self, data: object, path: str, keys: Sequence[str], problems: list[Problem]) -> None:
        self.path = path
        self._problems = problems
        self._data: Mapping[str, Any] = {}
        self._is_table = isinstance(data, Mapping)
        if not isinstance(data, Mapping):
            self.problem("", f"a table is needed here, not {kind_of(data)}", "write { key = value, ... }")
            return
        self._data = data
        for key in data:
            if key not in keys:
                self.problem(str(key), "this key is not known", did_you_mean(str(key), keys))

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def problem(self, key: str, reason: str, hint: str = "") -> None:
        """Note a problem with a key, or with the table itself when the key is empty."""
        path = f"{self.path}.{key}" if self.path and key else self.path or key
        self._problems.append(Problem(path, reason, hint))

    def raw(self, key: str) -> Any:
        """The value as the parser gave it."""
        return self._data.get(key)

    def text(self, key: str, *, required: bool = False) -> str | None:
        """A text that is not empty."""
        value: str | None = self._get(key, str, "a text", required=required)
        if value is not None and not value.strip():
            self.problem(key, "this text is empty", "leave the key out, or fill it in")
            return None
        return value

    def flag(self, key: str) -> bool | None:
        """true or false."""
        value: bool | None = self._get(key, bool, "true or false")
        return value

    def whole_number(self, key: str, *, required: bool = False) -> int | None:
        """A whole number; true and false are none."""
        value: int | None = self._get(key, int, "a whole number", required=required)
        if isinstance(value, bool):
            self.problem(key, "a whole number is needed here, not true or false")
            return None
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """One word out of a list."""
        value = self.text(key)
        if value is not None and value not in choices:
            self.problem(key, f'"{value}" is not one of the choices', did_you_mean(value, choices))
            return None
        return value

    def items(self, key: str, *, most: int) -> list[Any]:
        """A list, bounded."""
        value = self._get(key, list, "a list")
        if value is not None and len(value) > most:
            self.problem(key, f"the list has {len(value)} entries, more than {most}")
            return []
        return value or []

    def texts(self, key: str) -> list[str]:
        """A text, or a list of texts."""
        value = self._data.get(key)
        if isinstance(value, str):
            return [value]
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            reason = (
                "missing" if value is None else f"a text or a list of texts is needed, not {kind_of(value)}"
            )
            self.problem(key, reason)
            return []
        return value

    def _get(self, key: str, type_: type, kind: str, *, required: bool = False) -> Any:
        value = self._data.get(key)
        if value is None:
            if required and self._is_table:
                self.problem(key, "missing", f"{kind} is needed")
            return None
        if not isinstance(value, type_):
            self.problem(key, f"{kind} is needed here, not {kind_of(value)}")
            return None
        return value


def kind_of(value: object) -> str:
    """The kind of a TOML value, for people."""
    if isinstance(value, bool):
        return "true or false"
    kinds: dict[type, str] = {str: "a text", int: "a number", float: "a number", list: "a list"}
    kind = next((word for type_, word in kinds.items() if isinstance(value, type_)), None)
    return kind or ("a table" if isinstance(value, Mapping) else type(value).__name__)
