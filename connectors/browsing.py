"""What looking around in a device finds, and what people may ask for: the words of `andon browse`.

The same for every protocol: a protocol's `browse` (see `connectors.protocol.Protocol`) yields what it finds,
one thing at a time, and whoever prints it need not know where it came from. What is found can be written into
a configuration as it stands: `address` goes under the protocol's own key (`node`, `address`), `name` is a
valid tag name, `settings` are the other keys the tag needs. Pure: opens nothing, prints nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from typing import Literal

from statemodel.types import TagValue

#: Longest name a tag may have (`connectors.settings.Name`).
NAME_LENGTH_MAX = 64
#: Most things one browse finds before it ends and says so.
LIMIT = 200_000

Kind = Literal["folder", "object", "variable", "property", "method", "view", "type", "other"]

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_NOT_FIRST = re.compile(r"^[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class Found:
    """One thing in a device, ready to be shown or configured.

    A thing follows the one it lies in; `path` says which that is, so that a tree can be drawn as it comes.
    """

    address: str
    """As it is written in the configuration: a node, a register."""
    path: tuple[str, ...]
    """Names from the top down to this one, as people see them; its length is the depth."""
    kind: Kind = "variable"
    name: str = ""
    """Proposed tag name, valid; made unique by whoever writes a list. Empty: as `path` gives it."""
    type: str = ""
    """Data type in words: `Double`, `Int32[4]`, `uint16`, `enumeration PumpMode`."""
    value: TagValue = None
    """Present value, when the query asked for values and there was one that can be used."""
    quality: str = ""
    """What is the matter with the present value, such as `bad (no_communication)`; empty when it is good."""
    problem: str = ""
    """Why it cannot be read or be a tag, in words; empty when it can."""
    unit: str = ""
    """Engineering unit, as the device tells it."""
    low: float | None = None
    """Lower end of the range the value normally stays in."""
    high: float | None = None
    """Upper end of that range."""
    readable: bool = True
    writable: bool = False
    description: str = ""
    """One line for people: a description, the texts of an enumeration."""
    settings: tuple[tuple[str, bool | int | float | str], ...] = ()
    """What else a tag of it needs in the configuration, such as `("type", "int32")`."""

    @property
    def depth(self) -> int:
        """1 for what lies at the top."""
        return len(self.path)

    @property
    def is_tag(self) -> bool:
        """Whether it can be written into a configuration as it is."""
        return self.kind in ("variable", "property") and self.readable and not self.problem


@dataclass(frozen=True, slots=True)
class Offer:
    """An equipment the device seems to hold, with the tags its state is read from."""

    name: str
    """Proposed equipment name, valid."""
    model: str
    """State model that fits, such as `packml`."""
    states: tuple[Found, ...]
    """What carries the state: one thing, or those of nested machines, outermost first."""
    mode: Found | None = None
    """What carries the unit mode."""
    others: tuple[Found, ...] = ()
    """Further tags worth having with it, such as speeds."""
    reason: str = ""
    """What was recognised, and what to check before believing it."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to tell about the browsing itself: a limit reached, a part that could not be looked into."""

    text: str


#: What a protocol's `browse` yields.
Finding = Found | Offer | Remark


class QueryError(ValueError):
    """A filter that cannot be read; the message says why."""


@dataclass(frozen=True)
class Query:
    """What to look for. The whole device is looked through down to `depth`; the rest chooses what is told."""

    filter: str = ""
    """Pattern over the path, the names joined by `/`: a glob (`*Filler*/Speed`), or a regular expression
    between slashes (`/speed$/`). Matches regardless of case."""
    search: str = ""
    """Text that occurs in the name, the address or the description, regardless of case."""
    depth: int | None = None
    """How many levels to go down; None: all."""
    variables_only: bool = False
    """Only what can be a tag, without the folders around it."""
    values: bool = False
    """Whether to read present values."""
    limit: int = LIMIT
    """Most things to tell; a `Remark` says when there are more."""
    everything: bool = False
    """Also what describes the device itself (types, diagnostics), which is left out otherwise."""

    def matcher(self) -> Matcher:
        """The choice this query makes, compiled.

        Raises:
            QueryError: the filter is no pattern.
        """
        return Matcher(self)


class Matcher:
    """Says of each thing found whether the query wants it."""

    def __init__(self, query: Query) -> None:
        self._variables_only = query.variables_only
        self._search = query.search.casefold()
        self._pattern = _compiled(query.filter) if query.filter else None
        self.chooses = bool(self._search or self._pattern or query.variables_only)
        """Whether anything may be left out at all."""

    def possible(self, path: tuple[str, ...], kind: Kind) -> bool:
        """Whether a thing at this path may be wanted, before more is known of it."""
        if self._variables_only and kind not in ("variable", "property"):
            return False
        return self._pattern is None or self._pattern.search("/".join(path)) is not None

    def __call__(self, found: Found) -> bool:
        if not self.possible(found.path, found.kind):
            return False
        if not self._search:
            return True
        return any(
            self._search in text.casefold() for text in (*found.path[-1:], found.address, found.description)
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    if len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/"):
        try:
            return re.compile(pattern[1:-1], re.IGNORECASE)
        except re.error as error:
            raise QueryError(f'"{pattern}" is not a regular expression: {error}') from error
    return re.compile(rf"\A{translate(pattern)}", re.IGNORECASE)


def tag_name(text: str) -> str:
    """The nearest valid tag name to a text: `Füll stand/1` becomes `Full-stand-1`. Never empty."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    plain = _NOT_FIRST.sub("", _NOT_IN_NAMES.sub("-", letters)).rstrip("-")
    return plain[:NAME_LENGTH_MAX].rstrip("-") or "tag"


class Names:
    """Hands out valid names, each once, by the shortest end of a path that is still free."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}

    def of(self, found: Found) -> str:
        """As it proposes, else by its own name, else with those above it, else with a number."""
        wanted = [found.name] if found.name else []
        wanted += [".".join(found.path[-levels:]) for levels in range(1, min(found.depth, 4) + 1)]
        for text in wanted:
            name = tag_name(text)
            if name not in self._taken and len(text) <= NAME_LENGTH_MAX:
                return self._take(name)
        return self._numbered(tag_name(wanted[-1] if wanted else found.address))

    def _numbered(self, name: str) -> str:
        while True:
            number = self._numbers[name] = self._numbers.get(name, 1) + 1
            ending = f"-{number}"
            numbered = name[: NAME_LENGTH_MAX - len(ending)] + ending
            if numbered not in self._taken:
                return self._take(numbered)

    def _take(self, name: str) -> str:
        self._taken.add(name)
        return name
