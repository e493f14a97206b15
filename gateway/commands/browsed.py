"""What browsing found, as people and programs want it: a tree, JSON lines, TOML or CSV for a configuration.

A writer takes findings one by one and prints; it knows nothing of devices. Names and texts come from devices,
so nothing that could steer a terminal or end a line of a file is let through.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Protocol

from rich.text import Text

from connectors.browsing import Finding, Found, Names, Offer, Remark, tag_name
from gateway.commands.show import err, out, print_json

_KIND_STYLE = {"folder": "bold", "object": "bold", "method": "dim", "type": "dim", "other": "dim"}
_VALUE_WIDTH = 60


@dataclass(frozen=True)
class Source:
    """Where the findings come from, in the words of the configuration."""

    connection: str
    protocol: str
    endpoint: str
    address_key: str
    options: Mapping[str, Any]
    configured: str = ""
    """Configuration file that has the connection already; empty for a bare endpoint."""


class Writer(Protocol):
    """Takes findings in order."""

    def take(self, finding: Finding) -> None:
        """One finding."""
        ...

    def end(self) -> None:
        """There are no more."""
        ...


def plain(text: str) -> str:
    """A text from a device on one line, without characters that do anything."""
    return "".join(char if char.isprintable() else "·" for char in " ".join(text.split()))


def equipment_block(offer: Offer, connection: str, names: Mapping[str, str]) -> Iterator[str]:
    """An offered equipment as TOML; `names` are the tag names under which its addresses are configured."""
    states = [f"{connection}/{names[one.address]}" for one in offer.states]
    yield f"# {plain(offer.reason)}"
    yield "[[equipment]]"
    yield f"name = {_toml(offer.name)}"
    yield f"path = {_toml(f'area/line/{offer.name}')}  # where it stands: area/line/unit"
    yield f"model = {_toml(offer.model)}"
    yield f"state = {_toml(states[0] if len(states) == 1 else states)}"
    if offer.mode is not None:
        yield f"mode = {_toml(f'{connection}/{names[offer.mode.address]}')}"


def offered(offer: Offer) -> Iterator[Found]:
    """The tags an offer needs."""
    yield from offer.states
    if offer.mode is not None:
        yield offer.mode
    yield from offer.others


class TreeWriter:
    """An indented tree, as it comes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._shown: tuple[str, ...] = ()
        self._count = 0

    def take(self, finding: Finding) -> None:
        if isinstance(finding, Remark):
            out.print(Text(plain(finding.text), style="yellow"))
        elif isinstance(finding, Offer):
            self._offer(finding)
        else:
            self._found(finding)

    def _found(self, found: Found) -> None:
        self._count += 1
        common = 0
        for mine, theirs in zip(found.path[:-1], self._shown, strict=False):
            if mine != theirs:
                break
            common += 1
        for depth in range(common, len(found.path) - 1):
            out.print(Text("  " * depth + plain(found.path[depth]), style="dim"))
        self._shown = found.path
        line = Text("  " * (len(found.path) - 1))
        line.append(plain(found.path[-1]), style=_KIND_STYLE.get(found.kind, "cyan"))
        for text, style in _details(found):
            line.append("  ")
            line.append(text, style=style)
        out.print(line)

    def _offer(self, offer: Offer) -> None:
        names = {one.address: one.name or tag_name(one.path[-1]) for one in offered(offer)}
        out.print(Text(f"\n{offer.model} found: {offer.name}", style="bold green"))
        for one in offered(offer):
            pairs = {"name": names[one.address], self._source.address_key: one.address}
            out.print(Text(f"  {_toml(pairs)},", style="dim"))
        for line in equipment_block(offer, self._source.connection, names):
            out.print(Text(f"  {line}", style="dim" if line.startswith("#") else ""))

    def end(self) -> None:
        if not self._count:
            err.print("nothing was found that fits", style="yellow")


def _details(found: Found) -> Iterator[tuple[str, str]]:
    if found.type:
        yield plain(found.type), "green"
    if found.value is not None:
        value = plain(str(found.value))
        unit = f" {plain(found.unit)}" if found.unit else ""
        short = value if len(value) <= _VALUE_WIDTH else value[: _VALUE_WIDTH - 1] + "…"
        yield f"= {short}{unit}", "bold"
    elif found.unit:
        yield plain(found.unit), ""
    if found.low is not None and found.high is not None:
        yield f"{found.low:g}..{found.high:g}", ""
    if found.kind in ("variable", "property"):
        access = ("r" if found.readable else "-") + ("w" if found.writable else "")
        yield access, "dim"
    if found.kind not in ("folder", "object", "variable"):
        yield found.kind, "dim"
    if found.quality:
        yield plain(found.quality), "red"
    if found.problem:
        yield plain(found.problem), "yellow"
    settings = "".join(f" {key}={value}" for key, value in found.settings)
    yield plain(found.address + settings), "dim"
    if found.description:
        yield plain(found.description), "italic dim"


class JsonWriter:
    """One document a line; `type` says what it is."""

    def take(self, finding: Finding) -> None:
        document = asdict(finding)
        if isinstance(finding, Found):
            document["settings"] = dict(finding.settings)
        document = {"finding": type(finding).__name__.lower()} | document
        print_json(document)

    def end(self) -> None:
        pass


class TomlWriter:
    """A connection with its tags, ready to be pasted, and what could not be a tag as comments."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._names = Names()
        self._name_of: dict[str, str] = {}
        self._offers: list[Offer] = []
        self._begun = False

    def take(self, finding: Finding) -> None:
        if isinstance(finding, Remark):
            self._say(f"  # {plain(finding.text)}")
        elif isinstance(finding, Offer):
            self._offers.append(finding)
        elif finding.is_tag and finding.kind == "variable":
            self._say(self._tag(finding))
        elif finding.kind == "variable":
            self._say(f"  # {plain('/'.join(finding.path))}: {plain(finding.problem or 'may not be read')}")

    def _say(self, line: str) -> None:
        if not self._begun:
            self._begun = True
            for first in self._head():
                _print(first)
        _print(line)

    def _head(self) -> Iterator[str]:
        source = self._source
        if source.configured:
            yield f'# for the connection "{source.connection}" in {plain(source.configured)}'
        else:
            yield "[[connections]]"
            yield f"name = {_toml(source.connection)}"
            yield f"protocol = {_toml(source.protocol)}"
            yield f"endpoint = {_toml(source.endpoint)}"
            for key, value in source.options.items():
                yield f"{key} = {_toml(value)}"
        yield "[[connections.groups]]"
        yield 'name = "browsed"'
        yield 'interval = "1s"  # shorter where states depend on it: a state that lasts less can be missed'
        yield "tags = ["

    def _tag(self, found: Found) -> str:
        name = self._names.of(found)
        if not found.settings:
            self._name_of[found.address] = name
        pairs = {"name": name, self._source.address_key: found.address} | dict(found.settings)
        if found.unit:
            pairs["unit"] = found.unit
        if found.low is not None and found.high is not None:
            pairs["range"] = [found.low, found.high]  # type: ignore[assignment]
        inside = ", ".join(f"{key} = {_toml(value)}" for key, value in pairs.items())
        words = [found.type, found.quality, "writable" if found.writable else "", found.description]
        return f"  {{ {inside} }},  # {plain('; '.join(word for word in words if word))}"

    def end(self) -> None:
        missing = [
            one for offer in self._offers for one in offered(offer) if one.address not in self._name_of
        ]
        if self._begun:
            _print("]")
        if missing:
            if not self._begun:
                self._begun = True
                for first in self._head():
                    _print(first)
            else:
                _print('[[connections.groups]]\nname = "packml"\ninterval = "250ms"\ntags = [')
            for one in missing:
                _print(self._tag(one))
            _print("]")
        for offer in self._offers:
            _print("")
            for line in equipment_block(offer, self._source.connection, self._name_of):
                _print(line)
        if not self._begun:
            err.print("nothing was found that can be a tag", style="yellow")


class CsvWriter:
    """A list for `tags_csv`, in columns; what could not be a tag, and equipment offered, as comments."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._names = Names()
        self._rows: list[dict[str, Any]] = []
        self._comments: list[str] = []
        self._name_of: dict[str, str] = {}
        self._offers: list[Offer] = []

    def take(self, finding: Finding) -> None:
        if isinstance(finding, Remark):
            self._comments.append(finding.text)
        elif isinstance(finding, Offer):
            self._offers.append(finding)
        elif finding.is_tag and finding.kind == "variable":
            self._row(finding)
        elif finding.kind == "variable":
            self._comments.append(f"{'/'.join(finding.path)}: {finding.problem or 'may not be read'}")

    def _row(self, found: Found) -> None:
        name = self._names.of(found)
        if not found.settings:
            self._name_of[found.address] = name
        row: dict[str, Any] = {"name": name, self._source.address_key: found.address} | dict(found.settings)
        row["unit"] = found.unit
        if found.low is not None and found.high is not None:
            row["range"] = f"{found.low!r}..{found.high!r}"
        self._rows.append(row)

    def end(self) -> None:
        for offer in self._offers:
            for one in offered(offer):
                if one.address not in self._name_of:
                    self._row(one)
        if not self._rows:
            err.print("nothing was found that can be a tag", style="yellow")
            return
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        writer = csv.DictWriter(sys.stdout, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        for comment in self._comments:
            csv.writer(sys.stdout, lineterminator="\n").writerow([f"# {plain(comment)}"])
        for offer in self._offers:
            for line in equipment_block(offer, self._source.connection, self._name_of):
                csv.writer(sys.stdout, lineterminator="\n").writerow([f"# {line.removeprefix('# ')}"])


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def _toml(value: Any) -> str:
    """A value as TOML writes it; its strings are JSON's, but for one character."""
    if isinstance(value, timedelta):
        value = f"{value.total_seconds():g}s"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
