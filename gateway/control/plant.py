"""What the desk asks of the plant: states, present values, kinds of tags. Memory only; awaits nothing.

Made of the live view and the configuration, so that a judgement rests on what everybody else sees too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from connectors.settings import ConnectionSettings
from gateway.config.control import AllowSettings, CommandsSettings
from gateway.control.basis import basis_of
from gateway.control.facts import Kind
from gateway.control.readings import Readings
from gateway.live import Live
from statemodel.engine import EquipmentSpec
from statemodel.types import Quality, TagSample


class Plant(Protocol):
    """What is known of the plant now."""

    def state(self, equipment: str) -> str | None:
        """The state of an equipment; None when there is none of this name."""
        ...

    def standstill(self) -> str | None:
        """Why no state is known to be so still ("not known since ..."); None while they are followed."""
        ...

    def path(self, equipment: str) -> str:
        """The path of an equipment, empty when there is none."""
        ...

    def basis(self, rule: AllowSettings) -> str:
        """What a command under a rule rests on: another text where it would reach something else."""
        ...

    def kind(self, tag: str) -> Kind | None:
        """What the values of a tag are; None where only the device knows."""
        ...

    def present(self, tag: str) -> TagSample | None:
        """The newest value of a tag."""
        ...


class LivePlant:
    """Implements `Plant` over the live view."""

    def __init__(
        self,
        live: Live,
        readings: Readings,
        connections: Sequence[ConnectionSettings],
        equipment: Sequence[EquipmentSpec],
    ) -> None:
        self._live, self._readings = live, readings
        self.follow(connections, equipment)

    def follow(self, connections: Sequence[ConnectionSettings], equipment: Sequence[EquipmentSpec]) -> None:
        """Go on with another configuration."""
        self._paths = {spec.name: spec.path for spec in equipment}
        self._connections = tuple(connections)
        self._bases: dict[AllowSettings, str] = {}
        self._kinds = {c.tag_id(tag): tag.kind() for c in connections for tag in c.tags()}
        self._places = {
            c.tag_id(tag): f"{c.protocol} {place}"
            for c in connections
            for tag in c.tags()
            if (place := getattr(tag, "address", "") or getattr(tag, "node", ""))
        }

    def state(self, equipment: str) -> str | None:
        """See `Plant.state`."""
        view = self._live.equipment_named(equipment)
        return None if view is None else view.state.state

    def standstill(self) -> str | None:
        """See `Plant.standstill`."""
        return self._live.standstill()

    def path(self, equipment: str) -> str:
        """See `Plant.path`."""
        return self._paths.get(equipment, "")

    def basis(self, rule: AllowSettings) -> str:
        """See `Plant.basis`."""
        known = self._bases.get(rule)
        if known is None:
            known = self._bases[rule] = basis_of(rule, self._connections, self.path(rule.equipment))
        return known

    def kind(self, tag: str) -> Kind | None:
        """See `Plant.kind`."""
        return self._kinds.get(tag)

    def present(self, tag: str) -> TagSample | None:
        """See `Plant.present`. A value thinned out by a deadband counts too, while the link is up."""
        view = self._live.tag(tag)
        shown = None if view is None else view.latest
        read = self._readings.newest(tag)
        if shown is None or read is None or shown.quality is not Quality.GOOD:
            return shown
        return read if read.received_at >= shown.received_at else shown

    def place(self, tag: str) -> str:
        """Where a tag lies in its device, in the terms of its protocol; empty where that is not known."""
        return self._places.get(tag, "")


def watched(
    settings: CommandsSettings | None, connections: Sequence[ConnectionSettings]
) -> Mapping[str, str]:
    """The tags that commands are judged by and read back from, each with the group that reads it."""
    wanted = {
        tag
        for rule in (settings.allow if settings is not None and settings.enabled else ())
        for tag in (rule.tag, rule.readback.tag)
        if tag is not None
    } | {
        tag
        for rule in (settings.allow if settings is not None and settings.enabled else ())
        if rule.packml is not None
        for tag in (rule.packml.command, rule.packml.request)
    }
    return {
        connection.tag_id(tag): group.name
        for connection in connections
        for group in connection.groups
        for tag in group.tags
        if connection.tag_id(tag) in wanted
    }
