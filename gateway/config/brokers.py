"""What every broker's section has, whoever speaks to it: where it is, who we are there, how it is protected.

`[mqtt]` and `[sparkplug]` build on this. A section may stand once, `[mqtt]`, or several times, `[[mqtt]]`,
each with a name of its own then. Nothing here opens a socket or knows what is said to a broker.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from connectors.settings import Duration, FileName, Name, Settings, refuse

#: `broker` of a section when the broker runs inside this process. All that say so share it.
EMBEDDED = "embedded"

#: Host and port as people write them.
ADDRESS = re.compile(r"^(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/\s]+):(?P<port>\d{1,5})$")

#: CONNECT counts the keep alive in seconds, in two bytes; 0 would switch it off.
_KEEP_ALIVE_MAX = timedelta(seconds=65535)


def _keep_alive(value: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= value <= _KEEP_ALIVE_MAX:
        raise refuse("keep_alive", "must be from 1s to 65535s; it is how soon a dead gateway is noticed")
    return value


def _client_id(text: str) -> str:
    if not text:
        raise refuse("client_id", "is empty; take it out, and it is made of the gateway's id")
    return text


class BrokerSettings(Settings):
    """One broker and how to speak to it."""

    #: The section, and the first word of the sink's name.
    section: ClassVar[str] = ""

    name: Name | None = None
    """Tells several brokers apart; needed, and unique, when there are several."""
    embedded_port: Annotated[int, Field(ge=0, le=65535)] = 1883
    """Port of the embedded broker; all sections that say `embedded` share it."""
    protocol: Literal["5", "3.1.1"] = "5"
    """Version of MQTT."""
    client_id: Annotated[str, AfterValidator(_client_id)] | None = None
    """Unset: made of the gateway's id, the section and its name."""
    user: str | None = None
    """User name."""
    password: str | None = None
    """Password, as a reference (`env:NAME`, `file:PATH`)."""
    ca_file: FileName | None = None
    """Certificate authority of an `mqtts` broker; unset: those of the operating system."""
    cert_file: FileName | None = None
    """Client certificate (PEM)."""
    key_file: FileName | None = None
    """Key of the client certificate (PEM)."""
    keep_alive: Annotated[Duration, AfterValidator(_keep_alive)] = timedelta(seconds=15)
    """After one and a half of these in silence the broker tells others that we are gone."""
    inflight_max: Annotated[int, Field(ge=1, le=65535)] = 200
    """Most messages on their way without an acknowledgement."""

    @property
    def sink(self) -> str:
        """Name of what feeds this broker: of its cursor, in health, metrics and the log."""
        return self.section if self.name is None else f"{self.section}-{self.name}"

    @property
    @abstractmethod
    def addresses(self) -> tuple[str, ...]:
        """The broker's addresses, in the order they are tried."""

    @property
    def embedded(self) -> bool:
        """Whether the broker is the one inside this process."""
        return EMBEDDED in self.addresses

    @property
    def speaks(self) -> Literal["5", "3.1.1"]:
        """The version of MQTT that is spoken: the embedded broker knows only 3.1.1."""
        return "3.1.1" if self.embedded else self.protocol

    def client_id_for(self, gateway: str) -> str:
        """The client id of this gateway at the broker."""
        if self.client_id is not None:
            return self.client_id
        words = [self.section] if self.section != "mqtt" else []  # the first there was has the short one
        return "-".join(["andon", gateway, *words, *([self.name] if self.name else [])])


def broker_address(text: str) -> str:
    """The address of a broker, judged.

    Raises:
        ValueError: it is none; `reason; hint`.
    """
    if text == EMBEDDED or text.startswith(("env:", "file:")):
        return text
    scheme, _, rest = text.partition("://")
    place = rest.rpartition("@")[2]
    match = ADDRESS.match(place)
    if scheme not in ("mqtt", "mqtts") or match is None or not 0 < int(match["port"]) <= 65535:
        reason = _fault(scheme if "://" in text else "", place)
        raise ValueError(f'{reason}; write "mqtt://host:1883", "mqtts://host:8883" or "embedded"')
    try:
        host = urlsplit(text).hostname
    except ValueError as error:  # an IPv6 address that is none, or letters that turn into others
        raise ValueError(f"is not a broker address ({error}); check the host") from error
    if host != match["host"].strip("[]").lower():
        raise ValueError("has a user that hides the host; write user and password as settings of their own")
    try:
        match["host"].encode("idna")  # as the system is asked for its address, where it would end the gateway
    except UnicodeError as error:
        raise ValueError(
            "has a host that no network can have (a part is empty or too long); check the host"
        ) from error
    return text


def _fault(scheme: str, place: str) -> str:
    """Why this is no address, without a word of it: there may be a secret in it."""
    if scheme not in ("mqtt", "mqtts"):
        return "does not begin with mqtt:// or mqtts://"
    if ADDRESS.match(place.partition("/")[0]) and "/" in place:
        return "goes on after the port"
    if ADDRESS.match(f"{place}:1"):
        return "has no port"
    return "is not a broker address"


def host_and_port(address: str) -> str:
    """What two addresses of one broker have in common: host and port, without scheme and user."""
    if "://" not in address:
        return address
    url = urlsplit(address)
    return f"{url.hostname}:{url.port}"


def embedded_port(sections: Iterable[BrokerSettings]) -> int | None:
    """The port of the one embedded broker that these sections share; None when none wants it."""
    wanting = [section for section in sections if section.embedded]
    said = [section.embedded_port for section in wanting if "embedded_port" in section.model_fields_set]
    return next(iter(said or [section.embedded_port for section in wanting]), None)
