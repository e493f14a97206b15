"""Log lines that repeat themselves are told a few times and then counted: a log is bounded, whatever happens.

Pure: time is handed in. A kind of line is its level, its message and what it is about (a connection, a tag);
what differs in it besides, such as the reason, is told with the lines that are told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

#: Over this time lines are counted, in seconds; what was held back is told when it is over.
WINDOW_S = 60.0
#: Lines of one kind told in a window, and of one message whatever it is about.
SAME_MAX = 5
ALIKE_MAX = 300
#: Kinds remembered at once; beyond it new ones share one count.
KINDS_MAX = 10_000
#: The fields that say what a line is about.
ABOUT = ("connection", "tag", "equipment", "group", "sink", "name", "file", "path")

_ALIKE = ("level", "event")

Line = Mapping[str, Any]
_Kind = tuple[Any, ...]
_BEYOND: _Kind = ("beyond the bound",)


class _Window:
    __slots__ = ("began_s", "held_back", "last", "told")

    def __init__(self, now_s: float, line: Line) -> None:
        self.began_s = now_s
        self.told = self.held_back = 0
        self.last = line


class Quiet:
    """Told of every line; says which to write, and what to write for those held back."""

    def __init__(self) -> None:
        #: In the order in which they began.
        self._windows: OrderedDict[_Kind, _Window] = OrderedDict()

    def tells(self, line: Line, now_s: float) -> bool:
        """Whether a line is to be written; otherwise it is counted. Ask `overdue` before."""
        kind = tuple(line.get(field) for field in _ALIKE)
        about = tuple(str(line.get(field, "")) for field in ABOUT)
        alike = self._window(kind, now_s, line)
        if alike.told >= ALIKE_MAX:
            return self._hold_back(alike, line)
        same = self._window((*kind, *about), now_s, line)
        if same.told >= SAME_MAX:
            return self._hold_back(same, line)
        same.told += 1
        alike.told += 1
        return True

    def overdue(self, now_s: float) -> Iterator[Line]:
        """Lines to write now for those held back: the last of each kind, with how many more there were."""
        while self._windows:
            kind, window = next(iter(self._windows.items()))
            if now_s - window.began_s < WINDOW_S:
                return
            del self._windows[kind]
            if window.held_back:
                yield _told_for(kind, window, now_s)

    def rest(self, now_s: float) -> Iterator[Line]:
        """The same for all that is held back, due or not: the log ends."""
        while self._windows:
            kind, window = self._windows.popitem(last=False)
            if window.held_back:
                yield _told_for(kind, window, now_s)

    def _hold_back(self, window: _Window, line: Line) -> bool:
        window.held_back += 1
        window.last = line
        return False

    def _window(self, kind: _Kind, now_s: float, line: Line) -> _Window:
        if kind not in self._windows and len(self._windows) >= KINDS_MAX:
            kind = _BEYOND
        if kind not in self._windows:
            self._windows[kind] = _Window(now_s, line)
        return self._windows[kind]


def _told_for(kind: _Kind, window: _Window, now_s: float) -> Line:
    """The last of several lines, made to stand for all of them."""
    line, seconds = window.last, now_s - window.began_s
    span = "minute" if WINDOW_S <= seconds < 1.5 * WINDOW_S else f"{seconds:.0f} s"
    told = f"{line.get('event', '')} (and {window.held_back:,} more like it in the last {span})"
    is_of_one = len(kind) > len(_ALIKE)
    kept = line if is_of_one else {key: value for key, value in line.items() if key not in ABOUT}
    return {**kept, "event": told, "held_back": window.held_back}
