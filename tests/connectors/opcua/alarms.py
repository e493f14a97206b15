"""What a test's server has to tell: alarms and plain events, raised by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from asyncua import ua

from tests.connectors.opcua.plant import Plant


class Alarm:
    """One condition of a server, `OffNormalAlarmType`, told by the Server object."""

    def __init__(self, plant: Plant, name: str, severity: int) -> None:
        self.plant, self.name, self.severity = plant, name, severity
        self._generator: Any = None

    async def start(self) -> Alarm:
        assert self.plant.server is not None
        self._generator = await self.plant.server.get_event_generator(ua.ObjectIds.OffNormalAlarmType)
        event = self._generator.event
        event.SourceName = "Press"
        event.SourceNode = ua.NodeId("Press", self.plant.index)
        event.NodeId = ua.NodeId(f"Press.{self.name}", self.plant.index)
        event.ConditionName = self.name
        event.BranchId = ua.NodeId()
        event.Severity = self.severity
        return self

    async def tell(
        self,
        *,
        active: bool,
        acknowledged: bool = False,
        message: str = "Öl fehlt",
        at: datetime | None = None,
    ) -> str:
        """Say how it stands; the identity of what was said."""
        event = self._generator.event
        setattr(event, "ActiveState/Id", active)
        setattr(event, "AckedState/Id", acknowledged)
        event.Retain = active or not acknowledged
        event.Message = ua.LocalizedText(message)
        await self._generator.trigger(at or datetime.now(UTC))
        return bytes(event.EventId.Value).hex()


async def plain_events(plant: Plant, severity: int = 100, emitting: Any = ua.ObjectIds.Server) -> Any:
    """A generator of BaseEventType; `trigger(message=...)` tells one."""
    assert plant.server is not None
    generator = await plant.server.get_event_generator(ua.ObjectIds.BaseEventType, emitting)
    generator.event.Severity = severity
    return generator
