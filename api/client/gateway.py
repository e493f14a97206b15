"""One gateway as a program sees it: its nouns, over one wire."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx

from api.client.doing import Commands, Configuration, Corrections, Repairs
from api.client.events import Events
from api.client.people import Audit, Keys, Sessions, Users
from api.client.reading import Accounts, Compliance, Connections, Equipment, Health, Models, Tags
from api.client.wire import Wire


def sleep(seconds: float) -> None:
    """Wait."""
    threading.Event().wait(seconds)


class Gateway:
    """Asks one gateway. Use as a context manager, or call `close`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8420",
        *,
        token: str | None = None,
        ca: Path | str | None = None,
        timeout_s: float = 10.0,
        pause: Callable[[float], None] = sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`token` is a session's token or an API key; `ca` a PEM file of certificate authorities in place of
        those of the system. `pause` waits between two attempts at a stream. `transport` is for tests.

        Raises:
            ClientError: the address or the file cannot be used.
        """
        self._wire = Wire(url, token=token, ca=ca, timeout_s=timeout_s, transport=transport)
        self.url = self._wire.url
        self.equipment = Equipment(self._wire)
        self.events = Events(self._wire, pause)
        self.tags = Tags(self._wire)
        self.connections = Connections(self._wire)
        self.models = Models(self._wire)
        self.accounts = Accounts(self._wire)
        self.repairs = Repairs(self._wire)
        self.compliance = Compliance(self._wire)
        self.corrections = Corrections(self._wire)
        self.commands = Commands(self._wire)
        self.configuration = Configuration(self._wire)
        self.sessions = Sessions(self._wire)
        self.users = Users(self._wire)
        self.keys = Keys(self._wire)
        self.audit = Audit(self._wire)
        self.health = Health(self._wire)

    def __enter__(self) -> Gateway:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._wire.close()
