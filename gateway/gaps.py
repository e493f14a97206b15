"""Losses told without a flood: the first at once, those that go on as one that covers them, now and then.

Pure; time is handed in, in monotonic seconds. No loss is forgotten: what is joined covers, from its begin to
its end, all that was lost, and says how many losses that were.
"""

from __future__ import annotations

from dataclasses import dataclass

from statemodel.types import Gap

#: Losses of one tag for one reason are told at most this often, in seconds.
TOLD_EVERY_S = 10.0
#: Tags and reasons told apart; beyond it a loss is told of the connection as a whole.
KINDS_MAX = 1000

_Kind = tuple[str, str]


@dataclass
class _Open:
    """A kind of loss that was told lately, and what has happened since."""

    told_s: float
    joined: Gap | None = None
    count: int = 0


class Gaps:
    """The losses of one session."""

    def __init__(self) -> None:
        self._open: dict[_Kind, _Open] = {}
        self._now: list[Gap] = []

    def note(self, gap: Gap, now_s: float) -> None:
        """A loss; it will be `due` at once when it is the first of its kind for a while."""
        kind = (gap.tag, gap.reason)
        if kind not in self._open and len(self._open) >= KINDS_MAX:
            gap = Gap(gap.connection, gap.at, gap.until, "losses of many tags, for many reasons")
            kind = (gap.tag, gap.reason)
        known = self._open.get(kind)
        if known is None:
            self._open[kind] = _Open(now_s)
            self._now.append(gap)
            return
        known.count += 1
        known.joined = gap if known.joined is None else _joined(known.joined, gap)

    def due(self, now_s: float) -> list[Gap]:
        """What is to be told now, each once."""
        due, self._now = self._now, []
        if not self._open:
            return due
        for kind, known in tuple(self._open.items()):
            if now_s - known.told_s < TOLD_EVERY_S:
                break  # in the order in which they were told
            del self._open[kind]
            if known.joined is not None:
                due.append(_counted(known.joined, known.count))
                self._open[kind] = _Open(now_s)
        return due

    def rest(self) -> list[Gap]:
        """All that is left to tell: the session is over."""
        due = self._now
        due += [
            _counted(known.joined, known.count) for known in self._open.values() if known.joined is not None
        ]
        self._now, self._open = [], {}
        return due


def _joined(one: Gap, other: Gap) -> Gap:
    return Gap(one.connection, min(one.at, other.at), max(one.until, other.until), one.reason, one.tag)


def _counted(gap: Gap, count: int) -> Gap:
    if count == 1:
        return gap
    return Gap(gap.connection, gap.at, gap.until, f"{gap.reason} ({count:,} times)", gap.tag)
