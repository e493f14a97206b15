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
        (r"unknown key|column that is there twice", "unknown_key"),
        (r"unknown section|unknown kind", "unknown_key"),
        (r"is required but not there|has no column|is not bound|none is named|has no tags", "missing"),
        (r"not valid TOML|not valid CSV|nested too deeply", "not_toml"),
        (r"opens a quote|after the end of a quoted|cells but the table|is empty", "not_a_table"),
        (r"not UTF-8|not a text file|not text", "not_utf8"),
        (r"is larger than|more than .* rows", "too_large"),
        (r"there is no such file|among the files|is a folder|cannot be read", "no_such_file"),
        (
            r"used twice|there twice|a second time|share|is that of .* too|names a broker twice|same",
            "duplicate",
        ),
        (
            r"there is no |no rule that uses|has no modes|no state of the model|is not a state",
            "no_such_thing",
        ),
        (r"unreachable|never be reached|cannot be reached|never", "unreachable"),
        (r"^column \d+", "bad_expression"),
        (r"^must |duration|is not one of|characters a name|is not an? ", "wrong_value"),
    )
)


def code_of(reason: str) -> str:
    """The word for a reason."""
    return next((code for pattern, code in _CODES if pattern.search(reason)), "wrong_value")
