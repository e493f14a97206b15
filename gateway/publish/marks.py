"""What goes with a message besides its payload: its expiry, that it is late, what it is. Pure.

Packed once where it is always the same, and for each message only with CloudEvents. MQTT 3.1.1 knows none of
it, and the link leaves it out.
"""

from __future__ import annotations

from gateway.config.mqtt import MqttSettings
from gateway.config.schema import GatewaySettings
from gateway.mqtt.properties import pack
from gateway.publish.cloudevents import TYPES, CloudEvents, source
from gateway.publish.kinds import Kinds
from statemodel.records import TYPE_OF, EquipmentState, Recorded
from statemodel.types import TagSample

#: User property of events that were recorded before the connection they are said on.
LATE = (("late", "true"),)


class Marks:
    """The properties of MQTT 5, packed for `Link.publish`; None where there are none."""

    def __init__(self, settings: MqttSettings, kinds: Kinds, gateway: GatewaySettings, stream: str) -> None:
        expiries = {"state": kinds.state.expiry_s, "tag": kinds.tag.expiry_s}
        expiries |= {type_: kinds.event(type_).expiry_s for type_ in TYPE_OF.values()}
        self._fixed = {name: _packed(expiry_s) for name, expiry_s in expiries.items()}
        self._late = {name: pack(expiry_s=expiry_s, user=LATE) for name, expiry_s in expiries.items()}
        self._told: CloudEvents | None = None
        if settings.cloudevents:
            of = source(gateway.enterprise, gateway.site, gateway.id)
            self._told = CloudEvents(of, stream, expiries)

    def event(self, event: Recorded, *, late: bool = False) -> bytes | None:
        """Of an event."""
        if self._told is not None:
            return self._told.event(event, late=late)
        return (self._late if late else self._fixed)[event.type]

    def state(self, state: EquipmentState) -> bytes | None:
        """Of a state."""
        return self._fixed["state"] if self._told is None else self._told.state(state)

    def tag(self, sample: TagSample) -> bytes | None:
        """Of a sample of a tag."""
        return self._fixed["tag"] if self._told is None else self._told.tag(sample)


def _packed(expiry_s: int | None) -> bytes | None:
    return None if expiry_s is None else pack(expiry_s=expiry_s)


assert {*TYPE_OF.values(), "state", "tag"} == set(TYPES), "all that is said in JSON is a CloudEvent"
