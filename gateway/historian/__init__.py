"""History in PostgreSQL and TimescaleDB: the sink that drains the journal, and the questions it answers."""

from gateway.historian.historian import Historian
from gateway.historian.values import EquipmentMeta, ServerInfo, SinkStatus, TagMeta

__all__ = ["EquipmentMeta", "Historian", "ServerInfo", "SinkStatus", "TagMeta"]
