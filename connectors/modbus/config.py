"""Settings of a Modbus connection, and the judgement of them. Opens nothing.

Messages read `reason; hint`; where the setting stands is pydantic's to say.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from connectors.modbus.tags import ModbusGroup, ModbusLimits, PositiveDuration, refuse, unreadable
from connectors.settings import ConnectionSettings

PORT = 502


class ModbusSettings(ConnectionSettings):
    """One Modbus TCP device, or one unit behind a gateway."""

    protocol: Literal["modbus"] = "modbus"
    endpoint: str
    """`tcp://host:port`; the port may be left out and is then 502."""
    time: Literal["received"] = "received"
    """Modbus carries no time, so transitions have that of receipt."""
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    """Unit id of a device behind a serial gateway; devices with a TCP port of their own want 1, 255 or 0."""
    timeout: PositiveDuration = timedelta(seconds=1)
    """How long to wait for an answer."""
    timeouts_max: Annotated[int, Field(ge=1, le=100)] = 2
    """Requests without an answer, in a row, after which the connection counts as lost."""
    connect_timeout: PositiveDuration = timedelta(seconds=5)
    """How long establishing the TCP connection may take, name lookup included."""
    busy_max: Annotated[int, Field(ge=1, le=100)] = 3
    """Answers "busy", in a row, after which the tags concerned turn bad."""
    refused_retry: PositiveDuration = timedelta(seconds=30)
    """How often a tag the device refuses (illegal address) is tried again."""
    limits: ModbusLimits = ModbusLimits()
    groups: tuple[ModbusGroup, ...] = ()

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_one(cls, value: str) -> str:
        split_endpoint(value)
        return value

    @model_validator(mode="after")
    def _tags_can_be_read(self) -> ModbusSettings:
        if found := unreadable(self.groups, self.limits):
            raise ValidationError.from_exception_data(type(self).__name__, found)
        return self

    def host_and_port(self) -> tuple[str, int]:
        """Where to connect to."""
        return split_endpoint(self.endpoint)


def split_endpoint(text: str) -> tuple[str, int]:
    """Host and port of `tcp://host:port`.

    Raises:
        PydanticCustomError: it is not of that form.
    """
    hint = 'write "tcp://10.0.0.6:502"'
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise refuse(f'"{text}" is not an endpoint; {hint}') from error
    if parts.scheme != "tcp":
        reason = f'"{parts.scheme}" is not spoken here' if "://" in text else f'"{text}" has no scheme'
        raise refuse(f"{reason}; {hint}")
    if not host or port == 0:
        raise refuse(f'"{text}" names no {"port" if host else "host"}; {hint}')
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise refuse(f'"{text}" has more than host and port; {hint}')
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise refuse(f'"{host}" is no host name; {hint}') from error
    return host, port or PORT
