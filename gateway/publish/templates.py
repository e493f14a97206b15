"""Templates of topics: read once, filled for each thing, and what a topic must not be. Pure.

A template is levels with placeholders, `{site}/{level1}/{equipment}/state`. A level that is `{path}` and
nothing else is left out where the thing has no path. Knows no kinds of message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from gateway.config.problems import did_you_mean

#: MQTT 5.0 section 1.5.4: a text is at most this long, in UTF-8.
BYTES_MAX = 65_535
#: Mosquitto closes the connection at a topic with more levels.
LEVELS_MAX = 200

#: Placeholders: of every thing, of an equipment (and of what belongs to one), of a connection.
OF_SITE = frozenset({"enterprise", "site", "gateway"})
OF_EQUIPMENT = frozenset({"path", "equipment", "model", *(f"level{number}" for number in range(1, 10))})
PLACEHOLDERS = OF_SITE | OF_EQUIPMENT | {"connection", "tag", "type"}

_PART = re.compile(r"\{([^{}]*)\}|[{}]|[^{}]+")
#: What no text of MQTT should have (5.0 section 1.5.4): control characters and those that are none.
_NO_CHARACTER = re.compile("[\u0000-\u001f\u007f-\u009f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class NotATemplate(Exception):
    """A text is no template; `reason` and `hint` are for people."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Unfilled(Exception):
    """The thing does not have what `placeholder` stands for."""

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder)
        self.placeholder = placeholder


class Template:
    """One template. `names` are its placeholders."""

    def __init__(self, text: str) -> None:
        """Read it.

        Raises:
            NotATemplate: it has braces without a name, or a name nothing has.
        """
        self.text = text
        # Each level is a list of (text, is it a placeholder?).
        self._levels = [_parts(level) for level in text.split("/")]
        self.names = frozenset(part for level in self._levels for part, named in level if named)

    def fill(self, values: Mapping[str, str]) -> str:
        """The topic of a thing. Levels of its path are taken from `path`, empty or missing where it has none.

        Raises:
            Unfilled: the thing lacks something the template names.
        """
        path = values.get("path", "")
        levels = []
        for level in self._levels:
            if level == _WHOLE_PATH:
                if path:
                    levels.append(path)
                continue
            levels.append("".join(_value(part, values) if named else part for part, named in level))
        return "/".join(levels)


_WHOLE_PATH = [("path", True)]


def _value(name: str, values: Mapping[str, str]) -> str:
    found = values.get(name, "")
    if not found and name.startswith("level") and (path := values.get("path")):
        levels = path.split("/")
        number = int(name.removeprefix("level"))
        found = levels[number - 1] if number <= len(levels) else ""
    if not found:
        raise Unfilled(name)
    return found


def _parts(level: str) -> list[tuple[str, bool]]:
    parts = []
    for match in _PART.finditer(level):
        name = match[1]
        if name is None and match[0] in "{}":
            raise NotATemplate(f'has a "{match[0]}" that belongs to nothing', "placeholders are {name}")
        if name is not None and name not in PLACEHOLDERS:
            raise NotATemplate(f'has the placeholder "{{{name}}}", which nothing has', _known(name))
        parts.append((match[0], False) if name is None else (name, True))
    return parts


def _known(name: str) -> str:
    if re.fullmatch(r"level\d+", name):
        return "levels are {level1} to {level9}"
    return did_you_mean(name, PLACEHOLDERS) or (
        "known: {enterprise} {site} {gateway} {path} {level1} to {level9} {equipment} {model} {type} "
        "{connection} {tag}"
    )


@lru_cache(maxsize=256)
def template(text: str) -> Template:
    """`Template(text)`, read once."""
    return Template(text)


def wrong(topic: str) -> tuple[str, str] | None:
    """Why nothing may be said on a topic, and a hint; None when it may.

    MQTT 5.0 section 4.7 (wildcards, `$`, length), Sparkplug 3.0 (its namespace is for its payloads only).
    """
    if not topic:
        return "is empty", "write levels, such as {site}/{path}/state"
    for char in "+#":
        if char in topic:
            return f'has "{char}" in it, which is for those who subscribe', f'write it without "{char}"'
    if (bad := _NO_CHARACTER.search(topic)) is not None:
        return f"has the character U+{ord(bad[0]):04X} in it, which no topic may have", "take it out"
    if topic.startswith("$"):
        return 'begins with "$", which is for what brokers say themselves', "begin with another level"
    levels = topic.split("/")
    if "" in levels:
        return "has an empty level", 'one "/" between two levels, and none at the begin or the end'
    if levels[0].casefold() == "spbv1.0":
        return (
            "lies in spBv1.0/, which is for Sparkplug alone",
            "begin with another level, or use [sparkplug]",
        )
    if len(levels) > LEVELS_MAX:
        return f"has {len(levels)} levels; brokers take {LEVELS_MAX}", "make it shorter"
    if len(topic) > BYTES_MAX // 4 and (size := len(topic.encode())) > BYTES_MAX:
        return f"is {size} bytes long; MQTT takes {BYTES_MAX}", "make it shorter"
    return None
