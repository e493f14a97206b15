"""Which equipment can be seen at all: from lost and restored connections to devices that live and die.

A device is dead while every connection that feeds it is lost. While one of several is, it lives: its state is
Unknown and the tags that are away are stale, which says more than a death would. Pure.
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
        self._up: set[str] = set()

    @property
    def connections(self) -> tuple[str, ...]:
        """Every connection that feeds a device."""
        return tuple(self._devices)

    def look(self, is_up: Callable[[str], bool]) -> None:
        """Take over how each connection is now."""
        self._up = {name for name in self._devices if is_up(name)}

    def turn(self, connection: str, *, up: bool) -> list[tuple[str, bool]]:
        """A connection is up or lost; the devices that live or die by it."""
        before = {device: self.lives(device) for device in self._devices.get(connection, ())}
        if up:
            self._up.add(connection)
        else:
            self._up.discard(connection)
        return [(device, lives) for device, lived in before.items() if (lives := self.lives(device)) != lived]

    def lives(self, device: str) -> bool:
        """Whether anything of a device can be seen."""
        names = self._feeds.get(device, ())
        return not names or any(name in self._up for name in names)
