"""How often somebody may ask: a bucket of tokens for each address and each principal, in a bounded table.

Cheap enough for every request: one look-up and a little arithmetic. Knows no clock but the one it is handed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from api.problems import Problem

#: Callers remembered at once. Beyond, the one that has been quiet longest is forgotten, which gives it a full
#: bucket again: with so many addresses at work the sum of their requests is the server's concern.
CALLERS_MAX = 10_000


class Rate:
    """Requests per second, with some to spare at once. Used from one event loop."""

    def __init__(
        self, per_s: float, burst: int, clock: Callable[[], float], callers_max: int = CALLERS_MAX
    ) -> None:
        """`per_s` 0: no limit. `clock` gives seconds, monotonic."""
        self._per_s = per_s
        self._burst = float(max(burst, 1))
        self._clock = clock
        self._callers_max = callers_max
        # When the bucket of a caller would be full again, seconds; in the past: it is full.
        self._full_at: dict[str, float] = {}
        self._refused_count = 0

    @property
    def refused_count(self) -> int:
        """Requests refused so far."""
        return self._refused_count

    @property
    def callers_count(self) -> int:
        """Callers remembered."""
        return len(self._full_at)

    def take(self, caller: str) -> None:
        """Count a request of a caller.

        Raises:
            Problem: `too_many_requests`, with the seconds to wait.
        """
        if self._per_s <= 0:
            return
        now = self._clock()
        table = self._full_at
        # Taken out and put in again, the table stays in the order in which callers were last heard of.
        full_at = max(table.pop(caller, now), now) + 1 / self._per_s
        behind_s = full_at - now - self._burst / self._per_s
        if behind_s > 1e-9:
            table[caller] = full_at - 1 / self._per_s
            self._refused_count += 1
            wait_s = max(1, int(behind_s) + (behind_s % 1 > 0))
            raise Problem(
                "too_many_requests",
                f"More than {self._per_s:g} requests a second come from you, and {self._burst:g} at once.",
                headers=((b"retry-after", b"%d" % wait_s),),
            )
        table[caller] = full_at
        if len(table) > self._callers_max:
            del table[next(iter(table))]


def network(peer: str) -> str:
    """What counts as one place: an IPv4 address, or the /64 that one IPv6 customer has whole."""
    if ":" not in peer:
        return peer[:64]
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)
