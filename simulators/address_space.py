"""The standard OPC UA address space, built once per process and copied for every server.

Building its 6 000 nodes takes asyncua half a second each time; copying takes a tenth of that. What servers
write to later is copied, what they only read is shared. Knows nothing of the plant.
"""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import Any, Final

from asyncua import ua as _ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData
from asyncua.server.internal_server import InternalServer

ua: Any = _ua
_CHANGED_IN_PLACE: Final = (list, ua.ServerStatusDataType, ua.BuildInfo)


class CopyingServer(InternalServer):
    """An asyncua server core that takes the standard nodes from a copy."""

    async def load_standard_address_space(self, shelf_file: Path | None = None) -> None:
        """Called by asyncua once, before any other node is made."""
        collecting = gc.isenabled()
        gc.disable()  # so many lasting objects are made at once that collecting meanwhile takes longer
        try:
            if "standard" not in _built:
                await super().load_standard_address_space(shelf_file)
                _built["standard"] = AddressSpace()
                _copy(self.aspace, _built["standard"])
            else:
                _copy(_built["standard"], self.aspace)
        finally:
            if collecting:
                gc.enable()


_built: dict[str, AddressSpace] = {}


def _copy(source: AddressSpace, target: AddressSpace) -> None:
    for node_id in source.keys():  # noqa: SIM118 - an address space is not iterable itself
        old = source[node_id]
        new = NodeData(old.nodeid)
        new.call = old.call
        new.references = list(old.references)
        new.attributes = {key: _copied(attribute) for key, attribute in old.attributes.items()}
        target[node_id] = new


def _copied(attribute: AttributeValue) -> AttributeValue:
    value = attribute.value
    assert value is not None
    # Servers replace what they write, but for lists (the namespaces) and the server status, changed in place.
    if value.Value is not None and isinstance(value.Value.Value, _CHANGED_IN_PLACE):
        value = copy.deepcopy(value)
    return AttributeValue(value)
