"""Which equipment can be seen at all: from lost and restored connections to devices that live and die.

A device is dead while every connection that feeds it is lost. While one of several is, it lives: its state is
Unknown and the tags that are away are stale, which says more than a death would. A connection that is being
made for the first time is not lost yet. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping


class Links:
    """Connections by name, and the devices each of them feeds."""

    def __init__(self, feeds: Mapping[str, Iterable[str]]) -> None:
        """`feeds` maps each device to the connections its inputs come from; without any it always lives."""
        self._feeds = {device: tuple(dict.fromkeys(names)) for device, names in feeds.items()}
        self._devices: dict[str, list[str]] = {}
        for device, names in self._feeds.items():
            for name in names:
                self._devices.setdefault(name, []).append(device)
        self._lost: set[str] = set()

    def look(self, is_lost: Callable[[str], bool]) -> list[tuple[str, bool]]:
        """Take over how each connection is now; the devices that live or die by it."""
        before = {device: self.lives(device) for device in self._feeds}
        self._lost = {name for name in self._devices if is_lost(name)}
        return self._turned(before)

    def take_over(self, before: Links, is_lost: Callable[[str], bool]) -> None:
        """Go on with what another has been told; how connections are that it did not know is asked."""
        known = before._devices
        self._lost = {
            name for name in self._devices if (name in before._lost if name in known else is_lost(name))
        }

    def turn(self, connection: str, *, lost: bool) -> list[tuple[str, bool]]:
        """A connection is lost or restored; the devices that live or die by it."""
        before = {device: self.lives(device) for device in self._devices.get(connection, ())}
        (self._lost.add if lost else self._lost.discard)(connection)
        return self._turned(before)

    def lives(self, device: str) -> bool:
        """Whether anything of a device can be seen."""
        names = self._feeds.get(device, ())
        return not names or any(name not in self._lost for name in names)

    def _turned(self, before: Mapping[str, bool]) -> list[tuple[str, bool]]:
        return [(device, lives) for device, lived in before.items() if (lives := self.lives(device)) != lived]
