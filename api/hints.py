"""Did-you-mean: the nearest of the names that exist.

Bounded, because anyone may ask for any name: long inputs get no hint, and only names of a similar length
are compared, at most a few hundred of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

_LENGTH_MAX = 128
_CANDIDATES_MAX = 300


def nearest(wanted: str, names: Iterable[str]) -> str | None:
    """The existing name most like `wanted`, or None when none is near."""
    if len(wanted) > _LENGTH_MAX:
        return None
    folded = wanted.casefold()
    # A likeness of 0.6 needs the shorter to have at least 3/7 of the length of the longer.
    alike = (name for name in names if 3 * len(name) <= 7 * len(folded) and 3 * len(folded) <= 7 * len(name))
    candidates = {name.casefold(): name for name in islice(alike, _CANDIDATES_MAX)}
    found = difflib.get_close_matches(folded, candidates, n=1, cutoff=0.6)
    return candidates[found[0]] if found else None


def did_you_mean(wanted: str, names: Iterable[str], otherwise: str = "") -> str:
    """A hint that names the nearest name, or `otherwise`."""
    name = nearest(wanted, names)
    return f'Did you mean "{name}"?' if name else otherwise


def shown(text: str) -> str:
    """A caller's own words, short enough to give back in a message."""
    return text if len(text) <= 80 else f"{text[:77]}..."
