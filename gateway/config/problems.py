"""What is wrong with a configuration: place, reason, hint; all at once, never one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.lines import KeyPath
from gateway.errors import GatewayError


class Problem(msgspec.Struct, frozen=True):
    """One thing a person has to change. `line` is None where it is not known."""

    file: str
    line: int | None
    path: str
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        where = f"{place}: {self.path}" if self.path else place
        return f"{where}: {self.reason}" + (f"\n    hint: {self.hint}" if self.hint else "")


class ConfigurationRefused(GatewayError):
    """The configuration as a whole is refused; `problems` says everything that is wrong with it."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = len(problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the configuration")
        self.problems = tuple(problems)


def path_text(path: KeyPath) -> str:
    """A key path as people write it: `connections[1].groups[0].tags[2].address`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        word = f'"{part}"' if text and "/" in part else part
        text += f".{word}" if text else word
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them when they are few."""
    names = sorted(set(known))
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    if names and len(names) <= 24:
        return "known: " + ", ".join(names)
    return ""


#: What other tools call a key -> what it is called here.
_ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("slave", "slave_id", "unit_id", "device_id", "station"), "unit"),
    **dict.fromkeys(("node_id", "nodeid", "address"), "node"),
    **dict.fromkeys(("register", "offset_address", "node"), "address"),
    **dict.fromkeys(("datatype", "data_type", "dtype", "format"), "type"),
    **dict.fromkeys(("byte_order", "byteorder", "word_order", "endian", "swap"), "order"),
    **dict.fromkeys(("host", "ip", "url", "uri", "port", "server"), "endpoint"),
    **dict.fromkeys(("factor", "gain", "multiplier"), "scale"),
    **dict.fromkeys(("poll", "period", "cycle", "scan_rate", "poll_interval"), "interval"),
    **dict.fromkeys(("username", "login"), "user"),
}


def _meant(key: str, known: Sequence[str]) -> str:
    """A hint for a key that is not known. The `unit` of a tag is what it is measured in, and no station."""
    here = _ELSEWHERE.get(key.lower(), "")
    if here == "endpoint" and here not in known:
        here = "broker"
    if here in known and (here != "unit" or "endpoint" in known):
        return f'did you mean "{here}"?'
    return did_you_mean(key, known)


#: pydantic's error type -> what we say; `{}` is filled from the error's context.
_WORDS: Mapping[str, tuple[str, str]] = {
    "missing": ("is required but not there", ""),
    "string_type": ("must be a text in quotes", ""),
    "int_type": ("must be a whole number", ""),
    "int_parsing": ("must be a whole number", ""),
    "int_from_float": ("must be a whole number", ""),
    "float_type": ("must be a number", ""),
    "float_parsing": ("must be a number", ""),
    "bool_type": ("must be true or false", ""),
    "bool_parsing": ("must be true or false", ""),
    "greater_than": ("must be greater than {gt}", ""),
    "greater_than_equal": ("must be at least {ge}", ""),
    "less_than": ("must be less than {lt}", ""),
    "less_than_equal": ("must be at most {le}", ""),
    "literal_error": ("is not one of {expected}", ""),
    "string_too_long": ("is longer than {max_length} characters", ""),
    "tuple_type": ("must be a list in square brackets", ""),
    "list_type": ("must be a list in square brackets", ""),
    "dict_type": ("must be a table of name = value", ""),
    "model_type": ("must be a table", ""),
    "model_attributes_type": ("must be a table", ""),
    "string_pattern_mismatch": (
        "has characters a name must not have",
        'letters, digits, ".", "_" and "-", beginning with a letter or digit',
    ),
}


def explain(error: ErrorDetails, settings: type[BaseModel]) -> tuple[str, str]:
    """Reason and hint of one pydantic error, in our words."""
    context: dict[str, Any] = dict(error.get("ctx", {}))
    if error["type"] == "extra_forbidden":
        return "unknown key", _meant(str(error["loc"][-1]), keys_at(settings, error["loc"][:-1]))
    if error["type"] in _WORDS:
        reason, hint = _WORDS[error["type"]]
        return reason.format(**context), hint
    message = error["msg"].removeprefix("Value error, ")
    reason, _, hint = message.partition("; ")
    return reason, hint or str(context.get("hint", ""))


def explain_all(error: ValidationError, settings: type[BaseModel]) -> list[tuple[KeyPath, str, str]]:
    """Path, reason and hint of every error, first place first."""
    found = [
        (tuple(part for part in details["loc"] if part != "[key]"), *explain(details, settings))
        for details in error.errors(include_url=False, include_input=False)
    ]
    return list(dict.fromkeys(found))


def keys_at(settings: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that are known at a place, found by walking the declarations."""
    current: Any = settings
    named = False  # inside a table whose keys are names, so that the next part is one
    for part in path:
        if isinstance(part, int):
            continue
        if named:
            named = False
            continue
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
        field = current.model_fields.get(part)
        current = _model_in(field.annotation) if field is not None else None
        named = field is not None and get_origin(field.annotation) is dict
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def relative(path: Path) -> str:
    """A path as people typed it: relative to where they stand when that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
