"""What the edge node asks of the rest of the gateway about the present, said in its own words."""

from __future__ import annotations

from typing import Protocol

from statemodel.records import EquipmentState


class Known(Protocol):
    """How far the sequence is known; see `Live.position`."""

    @property
    def last_seq(self) -> int:
        """Number of the newest event that the states below show."""
        ...


class Present(Protocol):
    """What is true now. All answers given without waiting in between belong to the same instant."""

    def position(self) -> Known:
        """Where the sequence stands."""
        ...

    def state(self, equipment: str) -> EquipmentState:
        """The state of a configured equipment."""
        ...

    def why(self, equipment: str) -> str:
        """One sentence on why the equipment is in its state; empty before the first transition."""
        ...

    def is_up(self, connection: str) -> bool:
        """Whether a connection stands."""
        ...

    def is_lost(self, connection: str) -> bool:
        """Whether a connection is known not to stand: it broke, or could not be made."""
        ...
