"""Our own count of the notification messages of one subscription.

The library does not check sequence numbers while a session stands, and its reconnect logic takes the number
in an empty notification array for one it has received: a pulse lost after such a keep-alive is then lost
without a word. The rules here are those of OPC 10000-4 sections 5.14.1.1 and 7.26: the first message is
number 1, each message *with* notifications takes the next number, a keep-alive carries the number that will
come next and takes none, 4294967295 is followed by 1, and 0 is never used. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LAST = 0xFFFF_FFFF
#: How many missing messages are asked for again one by one; a wider hole is lost as a whole.
REPUBLISH_MAX = 256


@dataclass(frozen=True)
class Arrival:
    """What to do about one publish response.

    First ask for `republish` again, in this order; whatever the server no longer has, and `lost_count`
    messages before them, are a gap. Then pass the message on if `deliver`.
    """

    deliver: bool
    republish: tuple[int, ...] = ()
    lost_count: int = 0


def next_number(number: int) -> int:
    """The number that follows, after the roll-over rule."""
    return 1 if number >= _LAST else number + 1


def is_behind(number: int, expected: int) -> bool:
    """Whether a number comes before the expected one, counting around the roll-over."""
    return (number - expected) % _LAST > _LAST // 2


class SequenceCount:
    """Follows one subscription from its creation on."""

    def __init__(self, expected: int = 1) -> None:
        self.expected = expected
        """Number of the next message with notifications."""

    def arrived(self, number: int, *, has_data: bool, available: Sequence[int] | None) -> Arrival:
        """Take note of one publish response.

        `has_data` says whether its notification array had any element: an empty array and a null one are
        both keep-alives. `available` are the numbers the server says it can still republish, or None when
        it does not say.
        """
        if number == 0:
            # Outside the standard: a server that does not count. There is nothing to check it by.
            return Arrival(deliver=has_data)
        if is_behind(number, self.expected):
            # Republished already, sent twice, or a late keep-alive.
            return Arrival(deliver=False)
        ahead = (number - self.expected) % _LAST
        missing = self._numbers(min(ahead, REPUBLISH_MAX), before=number)
        lost_count = ahead - len(missing)
        if available:
            held = set(available)
            kept = tuple(n for n in missing if n in held)
            lost_count += len(missing) - len(kept)
            missing = kept
        self.expected = next_number(number) if has_data else number
        return Arrival(has_data, missing, lost_count)

    @staticmethod
    def _numbers(count: int, *, before: int) -> tuple[int, ...]:
        """The `count` numbers that come before one, oldest first."""
        return tuple((before - 1 - back) % _LAST + 1 for back in range(count, 0, -1))
