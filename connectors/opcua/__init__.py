"""OPC UA client: subscriptions over a session of one server."""

from connectors.opcua.config import OpcuaConnection
from connectors.opcua.connector import OpcuaConnector
from connectors.protocol import Protocol

PROTOCOL = Protocol("opcua", OpcuaConnection, OpcuaConnector, csv_key="node")
