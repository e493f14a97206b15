"""When to say PINGREQ, and what its answer proves: that the broker lives, and how much it has read. Pure.

A broker reads a connection in order, so the answer to a PINGREQ says that it has read everything before it.
One is on its way at a time; whoever waits meanwhile shares the next. After MQTT 5.0 sections 3.1.2.10 and
3.12. Times are monotonic seconds, handed in.
"""

from __future__ import annotations


class Pings:
    """Those of one connection. `keep_alive_s` is the longest silence of either side."""

    def __init__(self, keep_alive_s: float, now: float) -> None:
        self.keep_alive_s = keep_alive_s
        self.sent = self.answered = 0
        self._wanted = False
        self._covered = 0
        self._sent_at = self._heard_at = self._spoken_at = now
        self._heard = self._spoken = 0

    def turn(self, said: int) -> int:
        """The number of the ping whose answer proves that the first `said` messages were read."""
        if said == self._covered:
            return self.sent
        self._wanted = True
        return self.sent + 1

    def due(self, said: int, now: float) -> bool:
        """Whether to send one now, after `said` messages; then it counts as sent."""
        if not self._wanted or self.sent > self.answered:
            return False
        self._wanted = False
        self.sent += 1
        self._covered, self._sent_at = said, now
        return True

    def pong(self) -> None:
        """An answer has come; one that nobody asked for proves nothing."""
        self.answered = min(self.sent, self.answered + 1)

    def alive(self, now: float, *, heard: int, spoken: int) -> bool:
        """Whether the broker still answers; a ping is wanted when one side has been silent for long.

        `heard` and `spoken` are counts that move when something comes in or goes out.
        """
        if heard != self._heard:
            self._heard, self._heard_at = heard, now
        if spoken != self._spoken:
            self._spoken, self._spoken_at = spoken, now
        if self.sent > self.answered:
            return now - max(self._sent_at, self._heard_at) < self.keep_alive_s
        self._wanted |= now - min(self._heard_at, self._spoken_at) >= self.keep_alive_s
        return True

    def waits_s(self, now: float) -> float:
        """How long the one on its way has had no answer."""
        return now - self._sent_at if self.sent > self.answered else 0.0
