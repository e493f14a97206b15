"""Whether another gateway with our id is alive: judged from what keeps moving. Pure.

A row that is merely there proves nothing: a process that was killed leaves one, and clocks differ. Only what
moves while we look is alive, so each sign is remembered as it was first seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

#: A sign that has not moved for so long is no alarm any more.
SILENT_S_MAX = 30.0


class Sign(msgspec.Struct, frozen=True):
    """Something that moves while its owner lives. `who` is for people."""

    name: str
    who: str
    mark: object


class _Seen(msgspec.Struct):
    mark: object
    moved_s: float | None


class Signs:
    """Remembers signs of life of others. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def note(self, signs: Iterable[Sign], now_s: float) -> list[str]:
        """Take what is seen now; who is alive besides us, in words."""
        alive = []
        names = set()
        for sign in signs:
            names.add(sign.name)
            seen = self._seen.setdefault(sign.name, _Seen(sign.mark, None))
            if seen.mark != sign.mark:
                seen.mark, seen.moved_s = sign.mark, now_s
            if seen.moved_s is not None and now_s - seen.moved_s < SILENT_S_MAX:
                alive.append(sign.who)
        for gone in self._seen.keys() - names:
            del self._seen[gone]
        return alive


def sign_of_run(row: Mapping[str, object]) -> Sign:
    """The sign a row of `andon.gateway_run` is."""
    started = row["started_at"]
    assert isinstance(started, datetime)
    since = started.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    who = f"process {row['pid']} on {row['host']}, started {since}"
    return Sign(f"run {row['run']}", who, row["seen_at"])


def sign_of_cursor(row: Mapping[str, object]) -> Sign:
    """The sign a row of `andon.sink_cursor` of another stream is."""
    return Sign(f"stream {row['stream']}", f"a gateway with the journal {row['stream']}", row["moved_at"])
