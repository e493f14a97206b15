"""The servers inside the process, an embedded broker and an embedded database, while they are wanted."""

from __future__ import annotations

from gateway.config.brokers import embedded_port
from gateway.config.load import Loaded
from gateway.embedded_postgres import EmbeddedPostgres
from gateway.mqtt.embedded_broker import EmbeddedBroker

#: What `[historian] dsn` says for the embedded database.
EMBEDDED = "embedded"


class Servers:
    """Starts what a configuration wants beside what runs already, and stops what none wants any more."""

    def __init__(self) -> None:
        self._brokers: dict[int, EmbeddedBroker] = {}
        self._database: EmbeddedPostgres | None = None
        self._dsn = ""

    async def ensure(self, loaded: Loaded) -> None:
        """Let everything run that this configuration wants; nothing is stopped.

        Raises:
            StartFailed: one of them does not start.
        """
        historian = loaded.configuration.historian
        if historian is not None and historian.dsn == EMBEDDED and self._database is None:
            database = EmbeddedPostgres(loaded.data_dir)
            self._dsn = await database.start()
            self._database = database
        port = _port(loaded)
        if port is not None and port not in self._brokers:
            broker = EmbeddedBroker(port)
            await broker.start()
            self._brokers[port] = broker

    async def settle(self, loaded: Loaded | None) -> None:
        """Stop what this configuration does not want; all of it without one."""
        port = None if loaded is None else _port(loaded)
        for other in [other for other in self._brokers if other != port]:
            await self._brokers.pop(other).stop()
        historian = None if loaded is None else loaded.configuration.historian
        if self._database is not None and (historian is None or historian.dsn != EMBEDDED):
            database, self._database = self._database, None
            await database.stop()

    def broker_port(self, loaded: Loaded) -> int | None:
        """Where the embedded broker of a configuration listens; None when it wants none."""
        port = _port(loaded)
        return None if port is None else self._brokers[port].port

    def dsn(self, loaded: Loaded) -> str:
        """The address of the database of a configuration; empty without `[historian]`."""
        historian = loaded.configuration.historian
        if historian is None:
            return ""
        return self._dsn if historian.dsn == EMBEDDED else historian.dsn

    @property
    def psql(self) -> str:
        """How people reach the embedded database; empty while there is none."""
        return "" if self._database is None else self._database.psql_hint


def _port(loaded: Loaded) -> int | None:
    settings = loaded.configuration
    return embedded_port((*settings.mqtt, *settings.sparkplug))
