"""How long a connector under test waits for answers: as long as it takes, until a test wants it otherwise."""

from __future__ import annotations

from datetime import timedelta

from connectors.modbus.connector import ModbusConnector
from tests.connectors.contract import RecordingLink


async def impatient(plc: ModbusConnector, link: RecordingLink, timeout_s: float = 0.1) -> None:
    """From here on the connector waits so long for an answer; returns when nothing older is open.

    Set in the settings from the beginning, a machine that stalls for a moment while the session is made, or
    another question answered, would be a device that is lost.
    """
    assert plc._member is not None, "the session runs"
    plc._member._timeout_s = timeout_s
    for turn in plc._member.turns:
        for lane in turn._lanes:
            lane.timeout_s = timeout_s
    cycles = len(link.cycles)
    await link.until(lambda: len(link.cycles) >= cycles + 2, "cycles with the short time-out")


def impatient_writes(plc: ModbusConnector, timeout_s: float) -> None:
    """From here on the connector waits so long for the answer to a write."""
    plc.settings = plc.settings.model_copy(update={"timeout": timedelta(seconds=timeout_s)})
