"""Whether the machine's clock is synchronised, as the kernel says. Asks nothing else, and sets nothing.

Whatever disciplines the clock (chrony, ntpd, systemd-timesyncd, PTP) tells the kernel, and the kernel forgets
it when nobody renews it for some hours; so one question serves all of them. A daemon can keep good time and
not tell the kernel: "not synchronised" is therefore a warning and no fault.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

#: Of the Linux kernel, include/uapi/linux/timex.h: the clock is not synchronised.
STA_UNSYNC = 0x0040
TIME_ERROR = 5


class Synchronized(StrEnum):
    """What is known of the clock."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


#: Returns the state of the clock and its status bits, as adjtimex(2); raises OSError where that is not told.
Reader = Callable[[], tuple[int, int]]


class _Timex(ctypes.Structure):
    """`struct timex` up to the status, and more room than the kernel needs for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),  # 0: only look
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel() -> tuple[int, int]:
    """Ask the kernel.

    Raises:
        OSError: it may not be asked here, or there is no such question.
    """
    ask = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if ask is None:
        raise OSError("this system has no adjtimex")
    timex = _Timex()
    state = int(ask(ctypes.byref(timex)))
    if state < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")
    return state, int(timex.status)


class ClockWatch:
    """Says how it is now; asked by health and metrics."""

    def __init__(self, read: Reader = kernel) -> None:
        self._read = read

    def synchronized(self) -> Synchronized:
        """Whether the clock is synchronised now."""
        try:
            state, status = self._read()
        except OSError:
            return Synchronized.UNKNOWN
        return Synchronized.NO if state == TIME_ERROR or status & STA_UNSYNC else Synchronized.YES

    def part_of_health(self) -> Mapping[str, Mapping[str, Any]]:
        """The part `clock`. Never a reason to be degraded: nothing is lost by it."""
        found = self.synchronized()
        part: dict[str, Any] = {"ok": True, "reason": None, "synchronized": found.value}
        if found is Synchronized.NO:
            part["warnings"] = [
                "the kernel says that this machine's clock is not synchronised: times may be wrong; "
                "see to its time service (timedatectl, chronyc tracking)"
            ]
        return {"clock": part}

    def figures(self) -> Iterator[Metric]:
        """One figure; none where it is not known."""
        found = self.synchronized()
        if found is not Synchronized.UNKNOWN:
            yield GaugeMetricFamily(
                "andon_clock_synchronized",
                "1 while the kernel says that the clock is synchronised.",
                value=float(found is Synchronized.YES),
            )
