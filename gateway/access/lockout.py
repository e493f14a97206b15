"""Pauses after wrong passwords: by user name, by address, and by both. Pure; monotonic seconds are handed in.

An attempt counts as wrong until it turns out right, so that a thousand at once gain nothing. Names that do
not exist are paused like those that do. Who guesses at somebody's name from elsewhere cannot keep that person
out at the places the person logged in from before: there only wrong passwords from there count. Sessions,
keys and the local key never come here. Tables are bounded; the entry that was touched longest ago goes first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from api.limits import network

#: From one address so many times as many wrong passwords as for one name: a plant may sit behind one.
ADDRESS_FACTOR = 4
#: Without a wrong password for so long, everything is forgotten.
FORGET_S = 3600.0
ENTRIES_MAX = 10_000
_KNOWN_PLACES_MAX = 8
_K = TypeVar("_K")


@dataclass(slots=True)
class _Strikes:
    count: int = 0
    blocked_until: float = -math.inf
    last: float = -math.inf
    told: bool = False


@dataclass(frozen=True, slots=True)
class Paused:
    """Too many were wrong: not before `wait_s`. `first` is said once a pause, for whoever keeps a record."""

    wait_s: int
    first: bool


class Lockout:
    """Who has to wait."""

    def __init__(self, after: int, longest_s: float, *, entries_max: int = ENTRIES_MAX) -> None:
        self.after = after
        self.longest_s = longest_s
        self._entries_max = entries_max
        self._names: OrderedDict[str, _Strikes] = OrderedDict()
        self._places: OrderedDict[str, _Strikes] = OrderedDict()
        self._pairs: OrderedDict[tuple[str, str], _Strikes] = OrderedDict()
        self._known: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    def attempt(self, name: str, peer: str, now_s: float) -> Paused | None:
        """A password is about to be tried: None when it may be, and it counts as wrong from here on."""
        place = network(peer)
        own = self.knows(name, peer)
        deciding = [
            _entry(self._pairs, (name, place), now_s) if own else _entry(self._names, name, now_s),
            _entry(self._places, place, now_s),
        ]
        blocking = max(deciding, key=lambda strikes: strikes.blocked_until)
        if blocking.blocked_until > now_s:
            first, blocking.told = not blocking.told, True
            return Paused(math.ceil(blocking.blocked_until - now_s), first)
        if (
            not own
        ):  # from where the person is known, nobody else's place has to wait, and the other way round
            self._strike(self._names, name, self.after, now_s)
        self._strike(self._pairs, (name, place), self.after, now_s)
        self._strike(self._places, place, self.after * ADDRESS_FACTOR, now_s)
        return None

    def knows(self, name: str, peer: str) -> bool:
        """Whether this name has logged in well from this place; of the latest few places."""
        return network(peer) in self._known.get(name, ())

    def right(self, name: str, peer: str) -> None:
        """It was right: forget what counted for this name, and here for this place."""
        place = network(peer)
        self._names.pop(name, None)
        pair = self._pairs.pop((name, place), None)
        here = self._places.get(place)
        if here is not None and pair is not None:  # what was wrong for other names stays
            here.count = max(0, here.count - pair.count)
            here.blocked_until = -math.inf  # only this attempt can have set it: paused ones never get here
        places = self._known.setdefault(name, OrderedDict())
        places[place] = None
        places.move_to_end(place)
        while len(places) > _KNOWN_PLACES_MAX:
            places.popitem(last=False)
        self._known.move_to_end(name)
        while len(self._known) > self._entries_max:
            self._known.popitem(last=False)

    def forget(self, name: str) -> None:
        """An admin set this name a new password: its pauses end."""
        self._names.pop(name, None)

    def _strike(self, table: OrderedDict[_K, _Strikes], key: _K, free: int, now_s: float) -> None:
        strikes = table.setdefault(key, _Strikes())
        table.move_to_end(key)
        strikes.count += 1
        strikes.last = now_s
        strikes.told = False
        over = strikes.count - free
        if over >= 0:
            strikes.blocked_until = now_s + min(self.longest_s, 2.0 ** min(over, 32))
        while len(table) > self._entries_max:
            table.popitem(last=False)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Entries held: names, places, pairs, names with known places."""
        return len(self._names), len(self._places), len(self._pairs), len(self._known)


def _entry(table: OrderedDict[_K, _Strikes], key: _K, now_s: float) -> _Strikes:
    """What counts against a key; what is long ago does not."""
    strikes = table.get(key)
    if strikes is None:
        return _Strikes()
    if now_s - strikes.last > FORGET_S and strikes.blocked_until <= now_s:
        del table[key]
        return _Strikes()
    return strikes
