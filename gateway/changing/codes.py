"""Stable words for what can be wrong with a configuration, for programs; people read reason and hint."""

from __future__ import annotations

import re

#: First match wins. The reasons are ours, so each that is new belongs into one of these rows.
_CODES = tuple(
    (re.compile(pattern), code)
    for pattern, code in (
        (r"secret written in the clear", "secret_in_clear"),
        (r"environment variable .* is not set|the file \".*\" cannot be read", "secret_not_found"),
        (r"not be followed here", "reference_not_allowed"),
        (r"^column \d+", "bad_expression"),
        (r"unknown key|unknown section|unknown kind|key is not known", "unknown_key"),
        (r"is required but not there|has no column|is not bound|none is named|has no tags", "missing"),
        (r"not valid TOML|not valid CSV|nested too deeply", "not_toml"),
        (r"opens a quote|after the end of a quoted|cells but the table|is empty", "not_a_table"),
        (r"not UTF-8|not a text file|not text", "not_utf8"),
        (r"is larger than|more than .* rows", "too_large"),
        (r"there is no such file|among the files|is a folder|cannot be read", "no_such_file"),
        (
            r"used twice|there twice|there are two|is that of .* too|names a broker twice|, that of ",
            "duplicate",
        ),
        (r"there is no type", "wrong_value"),
        (r"round and round", "cycle"),
        (
            r"there is no |no rule that uses|has no modes|no state of the model|is not a state",
            "no_such_thing",
        ),
        (r"unreachable|never be reached|cannot be reached|never", "unreachable"),
        (r"^must |duration|is not one of|characters a name|is not an? ", "wrong_value"),
    )
)


def code_of(reason: str) -> str:
    """The word for a reason."""
    return next((code for pattern, code in _CODES if pattern.search(reason)), "wrong_value")


#: What helps where nothing more exact is known.
_HINTS = {
    "wrong_value": "the page on configuration says what it may be",
    "missing": "add it; the page on configuration says what it is for",
    "duplicate": "keep one of them, or give one another name",
    "unknown_key": "leave it out, or correct its name; the page on configuration lists all",
    "no_such_thing": "correct the name, or add what it names",
    "cycle": "let one of them stay",
    "unreachable": "add what leads there, or leave it out",
    "not_toml": "a TOML checker shows the place",
    "too_large": "is it the right file?",
}


def hint_for(code: str) -> str:
    """What usually helps against a problem of this kind."""
    return _HINTS.get(code, "the page on configuration says more")
