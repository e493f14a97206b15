"""Saying the states of equipment: the newest, and never one that is older than what was said before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from gateway.mqtt.link import Link
from gateway.publish.order import Newest
from gateway.publish.voice import Voice
from statemodel.records import EquipmentState, Recorded, state_after
from statemodel.types import Transition

#: Gives the journalled state an equipment is in now, or None while there is none.
StateOf = Callable[[], EquipmentState | None]


class States:
    """The states of all equipment, for one broker. Remembers across connections what it has said."""

    def __init__(self, equipment: Mapping[str, StateOf], voice: Voice) -> None:
        self._equipment = dict(equipment)
        self._voice = voice
        self._newest = Newest()

    @property
    def names(self) -> Iterable[str]:
        """All equipment."""
        return self._equipment

    def now(self, name: str) -> EquipmentState | None:
        """The state an equipment is in, as far as is on record."""
        return self._equipment[name]()

    def is_said(self, name: str) -> bool:
        """Whether the state it is in is the one that was said last."""
        state = self.now(name)
        return state is not None and self._newest.is_newest(name, state.seq, sequence=state.sequence)

    def stands(self, name: str) -> None:
        """The state it is in need not be said: the broker has it."""
        if (state := self.now(name)) is not None:
            self._newest.allow(name, state.seq, sequence=state.sequence)

    async def say(
        self,
        link: Link,
        names: Iterable[str],
        transitions: Mapping[str, Recorded],
        *,
        again: bool = False,
    ) -> None:
        """Say the states of some equipment that are newer than what was said; with `again` those just as new.

        `transitions` may know a newer one than the gateway shows yet. Equipment of others is passed over.
        """
        for name in names:
            state_of = self._equipment.get(name)
            if state_of is None:
                continue  # left the configuration; its events still count
            if link.full:
                await link.room()
            # Nothing is awaited between looking and saying: somebody else could say a newer one in between.
            state = newer(state_of(), transitions.get(name))
            if state is not None and self._newest.allow(
                name, state.seq, sequence=state.sequence, again=again
            ):
                self._voice.state(link, name, state)


def newer(state: EquipmentState | None, transition: Recorded | None) -> EquipmentState | None:
    """The newer of a state and the one a transition led to: either may know first.

    The count of transitions decides: a journal that began anew has smaller numbers than what it took over.
    """
    if transition is None or not isinstance(transition.event, Transition):
        return state
    if state is not None and (state.sequence, state.seq) >= (transition.event.sequence, transition.seq):
        return state
    return state_after(transition.event, transition.seq)
