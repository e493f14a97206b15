"""OPC UA client: subscriptions over a session of one server."""

from connectors.opcua.browse import look_around
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.connector import OpcuaConnector
from connectors.opcua.outline import outline
from connectors.protocol import Protocol

PROTOCOL = Protocol(
    "opcua",
    OpcuaConnection,
    OpcuaConnector,
    csv_key="node",
    schemes=("opc.tcp",),
    browse=look_around,
    plan=outline,
)
