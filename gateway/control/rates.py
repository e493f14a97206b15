"""How many commands went out lately, and how long the next has to wait. Pure; monotonic seconds.

One window slides over each rule and one over the gateway. Memory is bounded by the counts of the rates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.config.control import read_rate


class Window:
    """At most `count` within `within_s`."""

    def __init__(self, rate: str) -> None:
        self._count, self._within_s = read_rate(rate)
        self._taken: deque[float] = deque(maxlen=self._count)

    def wait_s(self, now_s: float) -> float:
        """How long until one more is allowed; 0 is now."""
        if len(self._taken) < self._count:
            return 0.0
        return max(0.0, self._taken[0] + self._within_s - now_s)

    def take(self, at_s: float) -> None:
        """One more has been accepted."""
        self._taken.append(at_s)


class Rates:
    """The windows by label, made when first used; of a rate that changes, anew."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[str, Window]] = {}

    def wait_s(self, label: str, rate: str | None, now_s: float) -> float:
        """How long the next under a label has to wait."""
        return 0.0 if rate is None else self._of(label, rate).wait_s(now_s)

    def take(self, label: str, rate: str | None, at_s: float) -> None:
        """One more under a label has been accepted."""
        if rate is not None:
            self._of(label, rate).take(at_s)

    def keep(self, is_wanted: Callable[[str], bool]) -> None:
        """Forget the windows of rules that are gone."""
        self._windows = {label: known for label, known in self._windows.items() if is_wanted(label)}

    def _of(self, label: str, rate: str) -> Window:
        known = self._windows.get(label)
        if known is None or known[0] != rate:
            known = self._windows[label] = rate, Window(rate)
        return known[1]


#: Records of vain attempts of one caller, and callers that are told apart.
_VAIN_RATE, _CALLERS_MAX = "30/1m", 1000


class Brake:
    """Lets so many records of one caller through that nobody fills the audit trail with vain attempts."""

    def __init__(self) -> None:
        self._rates = Rates()
        self._callers: dict[str, None] = {}

    def lets(self, caller: str, now_s: float) -> bool:
        """Whether one more is recorded. The caller seen longest ago makes room for a new one."""
        self._callers.pop(caller, None)
        self._callers[caller] = None
        if len(self._callers) > _CALLERS_MAX:
            del self._callers[next(iter(self._callers))]
            self._rates.keep(self._callers.__contains__)
        if self._rates.wait_s(caller, _VAIN_RATE, now_s) > 0:
            return False
        self._rates.take(caller, _VAIN_RATE, now_s)
        return True
