"""Modbus. What it does and how it is set is in the README of this folder."""

from __future__ import annotations

from connectors.modbus.browse import browse
from connectors.modbus.config import SCHEMES, ModbusSettings
from connectors.modbus.connector import ModbusConnector
from connectors.modbus.outline import outline
from connectors.protocol import Environment, Protocol


def build(settings: ModbusSettings, environment: Environment) -> ModbusConnector:
    """The connector of one configured connection."""
    return ModbusConnector(settings, environment.clock, environment.shared)


PROTOCOL = Protocol(
    name="modbus",
    settings=ModbusSettings,
    build=build,
    schemes=tuple(SCHEMES),
    browse=browse,
    plan=outline,
)
