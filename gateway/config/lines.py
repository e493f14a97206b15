"""On which line of a TOML text each key and array element stands.

The standard parser gives values without places, and a message without a place makes people search. This
walks a text the standard parser has already accepted, so it need not judge anything: it only keeps count.
"""

from __future__ import annotations

from collections.abc import Mapping

#: A path into the document: keys and array indexes.
KeyPath = tuple[str | int, ...]

_BARE_END = frozenset(" \t\r\n,]}#")


def locate(text: str) -> Mapping[KeyPath, int]:
    """Line numbers, from 1, of every table, key and array element of a valid TOML text."""
    walker = _Walker(text)
    walker.document()
    return walker.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of a path, or of the nearest thing around it that has one."""
    while path:
        for place in (path, (*path, 0)):  # of a list of tables, the first
            if place in lines:
                return lines[place]
        path = path[:-1]
    return None


class _Walker:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.lines: dict[KeyPath, int] = {}
        self.counts: dict[KeyPath, int] = {}  # arrays of tables seen so far
        self.implied: set[KeyPath] = set()  # tables that have had no header of their own yet

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def step(self, count: int = 1) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def blanks(self) -> None:
        """Skip white space, line ends and comments."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                end = self.text.find("\n", self.at)
                self.step((end if end >= 0 else len(self.text)) - self.at)
            elif char in " \t\r\n":
                self.step()
            else:
                return

    def document(self) -> None:
        table: KeyPath = ()
        self.blanks()
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                self.step(2)
                table = self.header(array=True)
                self.step(2)
            elif self.peek() == "[":
                self.step()
                table = self.header(array=False)
                self.step()
            else:
                self.pair(table)
            self.blanks()

    def header(self, *, array: bool) -> KeyPath:
        keys = self.key()
        path: KeyPath = ()
        for place, key in enumerate(keys):
            path = (*path, key)
            if array and place == len(keys) - 1:
                self.counts[path] = self.counts.get(path, -1) + 1
            if path in self.counts:
                path = (*path, self.counts[path])
            if path not in self.lines:  # [a.b] alone is where `a` begins too, until it has a line of its own
                self.lines[path] = self.line
                self.implied.add(path)
        if path in self.implied:
            self.implied.remove(path)
            self.lines[path] = self.line
        return path

    def pair(self, table: KeyPath) -> None:
        line = self.line
        path = table
        for key in self.key():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self.blanks()
        self.step()  # "="
        self.blanks()
        self.value(path)

    def key(self) -> list[str]:
        keys = []
        while True:
            self.blanks()
            if self.peek() in "\"'":
                keys.append(self.string())
            else:
                start = self.at
                while self.peek() not in frozenset(" \t.=]\n") and self.at < len(self.text):
                    self.step()
                keys.append(self.text[start : self.at])
            self.blanks()
            if self.peek() != ".":
                return keys
            self.step()

    def string(self) -> str:
        quote = self.peek()
        triple = self.text.startswith(quote * 3, self.at)
        mark = quote * 3 if triple else quote
        self.step(len(mark))
        start = self.at
        while not self.text.startswith(mark, self.at):
            self.step(2 if quote == '"' and self.peek() == "\\" else 1)
        while triple and self.text.startswith(quote, self.at + len(mark)):
            self.step()  # up to two quotes may stand before the closing three
        content = self.text[start : self.at]
        self.step(len(mark))
        return content

    def value(self, path: KeyPath) -> None:
        char = self.peek()
        if char in "\"'" and char:
            self.string()
        elif char == "[":
            self.step()
            self.blanks()
            index = 0
            while self.peek() != "]":
                self.lines.setdefault((*path, index), self.line)
                self.value((*path, index))
                self.blanks()
                if self.peek() == ",":
                    self.step()
                    self.blanks()
                index += 1
            self.step()
        elif char == "{":
            self.step()
            self.blanks()
            while self.peek() != "}":
                self.pair(path)
                self.blanks()
                if self.peek() == ",":
                    self.step()
                    self.blanks()
            self.step()
        else:
            while self.at < len(self.text) and self.peek() not in _BARE_END:
                self.step()
