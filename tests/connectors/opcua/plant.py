"""A small OPC UA server to test against: in this process, or as a program of its own that can be frozen.

As a program: `python plant.py PORT` serves until killed; it prints `ready` once, and counts `count` up.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.server.internal_server import InternalServer

if TYPE_CHECKING:
    from connectors.opcua.connector import OpcuaConnector

URI = "urn:plant"

#: Name, value and type of the variables; string node ids equal the names.
VARIABLES: tuple[tuple[str, Any, ua.VariantType], ...] = (
    ("state", 6, ua.VariantType.Int32),
    ("speed", 1.5, ua.VariantType.Double),
    ("run", True, ua.VariantType.Boolean),
    ("name", "Füller 1", ua.VariantType.String),
    ("count", 2**53 + 1, ua.VariantType.Int64),
)


def free_port() -> int:
    """A port of this test process; the program of its own is told one."""
    from tests.support import ports

    return ports.free_port()


_standard: dict[ua.NodeId, NodeData] = {}


class _InternalServer(InternalServer):
    """Keeps the standard's nodes for the next server of this process: building them takes a second."""

    async def load_standard_address_space(self, shelf_file: Path | None = None) -> None:
        if not _standard:
            await super().load_standard_address_space(shelf_file)
            _standard.update(_copied(self.aspace._nodes))
        else:
            self.aspace._nodes.update(_copied(_standard))


def _copied(nodes: Mapping[ua.NodeId, NodeData]) -> dict[ua.NodeId, NodeData]:
    """Nodes that share only what servers never change in place."""
    copies: dict[ua.NodeId, NodeData] = {}
    for id_, node in nodes.items():
        copies[id_] = copy = NodeData(node.nodeid)
        copy.attributes = {name: AttributeValue(held.value) for name, held in node.attributes.items()}
        copy.references = list(node.references)
    return copies


class Users:
    """Lets exactly one user in, and nobody anonymous."""

    def __init__(self, name: str, password: str) -> None:
        self.name, self.password = name, password

    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> Any:
        if username == self.name and password == self.password:
            return User(role=UserRole.User, name=username)
        return None


class Plant:
    """A server that can be started and stopped many times at one port."""

    def __init__(
        self,
        port: int | None = None,
        *,
        policies: Sequence[ua.SecurityPolicyType] = (ua.SecurityPolicyType.NoSecurity,),
        certificate: tuple[Path, Path] | None = None,
        users: Users | None = None,
        namespaces: Sequence[str] = (),
        variables: Sequence[tuple[str, Any, ua.VariantType]] = VARIABLES,
    ) -> None:
        self.port = port or free_port()
        self.endpoint = f"opc.tcp://127.0.0.1:{self.port}/plant"
        self.policies = list(policies)
        self.certificate = certificate
        self.users = users
        self.namespaces = list(namespaces)
        self.variables = variables
        self.types = {name: type_ for name, _, type_ in variables}
        self.server: Server | None = None
        self.nodes: dict[str, Any] = {}
        self.index = 0
        self.validator: Any = None

    async def start(self) -> None:
        server = Server(iserver=_InternalServer(user_manager=self.users))
        # Without its clock the server stops at once instead of within a second.
        server.iserver.disabled_clock = True
        # It tells its conditions when asked; the number is the severity of the events around that.
        server.iserver.bind_condition_methods = 1
        await server.init()
        await server.set_application_uri("urn:plant:server")
        server.set_endpoint(self.endpoint)
        server.set_security_policy(self.policies)
        if self.certificate:
            await server.load_certificate(str(self.certificate[0]))
            await server.load_private_key(str(self.certificate[1]))
        if self.validator is not None:
            server.set_certificate_validator(self.validator)
        for uri in self.namespaces:
            await server.register_namespace(uri)
        self.index = await server.register_namespace(URI)
        plant = await server.nodes.objects.add_object(self.index, "Plant")
        for name, value, type_ in self.variables:
            await self.add(server, plant, name, value, type_)
        self.server = server
        await server.start()

    async def add(self, server: Server, parent: Any, name: str, value: Any, type_: ua.VariantType) -> None:
        node = await parent.add_variable(
            ua.NodeId(name, self.index), ua.QualifiedName(name, self.index), value, varianttype=type_
        )
        self.nodes[name] = node

    async def stop(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop()

    async def set(self, name: str, value: Any, *, at: datetime | None = None, code: int = 0) -> None:
        """Give a variable a value, a source time and a status code."""
        variant = None if value is None else ua.Variant(value, self.types[name])
        data = ua.DataValue(variant, StatusCode=ua.StatusCode(code), SourceTimestamp=at)
        await self.nodes[name].write_value(data)

    def subscriptions(self) -> list[Any]:
        """The server's own objects of the subscriptions it holds."""
        assert self.server is not None
        return list(self.server.iserver.subscription_service.subscriptions.values())


def build(plant: Plant, data_dir: Path, **more: Any) -> OpcuaConnector:
    """A quick connector for a plant: three tags in one group, the others by browse path in a second."""
    settings = {
        "name": "plc",
        "protocol": "opcua",
        "endpoint": plant.endpoint,
        "security": {"policy": "None", "mode": "None"},
        # An answer that comes is waited for, however slow the machine is.
        "connect_timeout": "60s",
        "request_timeout": "30s",
        "keep_alive": "200ms",
        "groups": [
            {
                "name": "fast",
                "interval": "20ms",
                "tags": [{"name": name, "node": f"nsu={URI};s={name}"} for name in ("state", "speed", "run")],
            },
            {
                "name": "slow",
                "interval": "50ms",
                "tags": [
                    {"name": name, "node": f"/Objects/nsu={URI};Plant/nsu={URI};{name}"}
                    for name in ("name", "count")
                ],
            },
        ],
    }
    # Here, because the frozen program needs nothing of it.
    from connectors.opcua.config import OpcuaConnection
    from connectors.opcua.connector import OpcuaConnector
    from connectors.protocol import Environment
    from tests.connectors.contract import SystemClock

    return OpcuaConnector(
        OpcuaConnection.model_validate(settings | more), Environment(SystemClock(), data_dir)
    )


async def _main(port: int) -> None:
    plant = Plant(port)
    await plant.start()
    print("ready", flush=True)
    count = 0
    while True:
        count += 1
        await plant.nodes["count"].write_value(count, ua.VariantType.Int64)
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(_main(int(sys.argv[1])))
