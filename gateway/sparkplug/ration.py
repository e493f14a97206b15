"""At most one in so long, and one more for all who asked meanwhile. Pure; monotonic seconds are handed in."""

from __future__ import annotations


class Ration:
    """One thing that may be done once in `every_s` seconds."""

    __slots__ = ("_done_s", "_every_s", "owed")

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._done_s: float | None = None
        self.owed = False

    def ask(self, at_s: float) -> bool:
        """Whether it may be done now; if not, it is owed at `due_s`."""
        if self._done_s is not None and at_s < self._done_s + self._every_s:
            self.owed = True
            return False
        self._done_s = at_s
        self.owed = False
        return True

    @property
    def due_s(self) -> float | None:
        """When what is owed may be done; None: nothing is owed."""
        return self._done_s + self._every_s if self.owed and self._done_s is not None else None

    def done(self, at_s: float) -> None:
        """It was done anyway."""
        self._done_s, self.owed = at_s, False

    def forget(self) -> None:
        """Nobody waits for it any more."""
        self.owed = False
