"""Settings of a Modbus connection, and the judgement of them. Opens nothing.

Messages read `reason; hint`; where the setting stands is pydantic's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from connectors.modbus.tags import ModbusGroup, ModbusLimits, PositiveDuration, refuse, unreadable
from connectors.settings import ConnectionSettings, FileName, Settings

PIPELINE_MAX = 16
_HINT = 'write "tcp://10.0.0.6:502"'


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of endpoint: its framing, and its port when none is named (0: one has to be)."""

    framing: Literal["tcp", "rtu", "ascii", "serial"]
    port: int


SCHEMES = {
    "tcp": Scheme("tcp", 502),
    "tls": Scheme("tcp", 802),
    "rtu+tcp": Scheme("rtu", 0),
    "ascii+tcp": Scheme("ascii", 0),
    "serial": Scheme("serial", 0),
}


class SerialSettings(Settings):
    """How a serial port is set up. The defaults are those of the standard."""

    baud: Annotated[int, Field(ge=50, le=4_000_000)] = 19200
    """Bits a second."""
    parity: Literal["none", "even", "odd"] = "even"
    """The parity bit of each character."""
    stop_bits: Annotated[int, Field(ge=1, le=2)] = 1
    """Stop bits of each character; the standard wants 2 without parity."""
    data_bits: Annotated[int, Field(ge=7, le=8)] = 8
    """Data bits of each character; RTU needs 8."""
    framing: Literal["rtu", "ascii"] = "rtu"
    """How frames are told apart."""

    @model_validator(mode="after")
    def _rtu_has_8_bits(self) -> SerialSettings:
        if self.framing == "rtu" and self.data_bits != 8:
            raise refuse('RTU needs 8 data bits; leave `data_bits` out, or set framing = "ascii"')
        return self


class TlsSettings(Settings):
    """Certificates of a `tls://` endpoint. Files are PEM."""

    ca: FileName | None = None
    """File with the authority that signed the device's certificate; unset: those the system trusts."""
    certificate: FileName | None = None
    """File with the gateway's own certificate, for devices that want one."""
    key: FileName | None = None
    """File with its key, unless that is in the same file."""
    check_host: bool = True
    """Whether the certificate has to be made out to the device's host name or address."""
    host: str | None = None
    """The name the certificate is made out to, when it is not the host of the endpoint."""

    @model_validator(mode="after")
    def _key_belongs_to_something(self) -> TlsSettings:
        if self.key is not None and self.certificate is None:
            raise refuse("there is a key and no certificate; set `certificate` too")
        return self


@dataclass(frozen=True, slots=True)
class Place:
    """Where a link leads and how it is set up: all that connections on one link have to agree on."""

    framing: Literal["tcp", "rtu", "ascii"]
    host: str = ""
    port: int = 0
    path: str = ""
    serial: SerialSettings | None = None
    tls: TlsSettings | None = None
    pipeline: int = 1

    @property
    def key(self) -> str:
        """The same for everything that is the same link."""
        return f"modbus {self.path or f'{self.host}:{self.port}'}"

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class ModbusSettings(ConnectionSettings):
    """One Modbus device, or one unit of several on a link."""

    protocol: Literal["modbus"] = "modbus"
    endpoint: str
    """`tcp://host:port`, `tls://host:port`, `rtu+tcp://host:port`, `ascii+tcp://host:port`,
    `serial:///dev/ttyUSB0`. The port may be left out for tcp (502) and tls (802). Connections with the same
    endpoint share one link."""
    time: Literal["received"] = "received"
    """Modbus carries no time, so transitions have that of receipt."""
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    """Unit id; devices with a TCP port of their own want 1, 255 or 0."""
    timeout: PositiveDuration = timedelta(seconds=1)
    """How long to wait for an answer."""
    timeouts_max: Annotated[int, Field(ge=1, le=100)] = 2
    """Requests without an answer, in a row, after which the connection counts as lost."""
    connect_timeout: PositiveDuration = timedelta(seconds=5)
    """How long establishing the link may take, name lookup and TLS handshake included."""
    pipeline: Annotated[int, Field(ge=1, le=PIPELINE_MAX)] = 1
    """Requests that may be open at once on a `tcp` or `tls` link."""
    serial: SerialSettings | None = None
    """How the port of a `serial` endpoint is set up."""
    tls: TlsSettings | None = None
    """Certificates of a `tls` endpoint."""
    busy_max: Annotated[int, Field(ge=1, le=100)] = 3
    """Answers "busy", in a row, after which the tags concerned turn bad."""
    refused_retry: PositiveDuration = timedelta(seconds=30)
    """How often a tag the device refuses (illegal address) is tried again."""
    write_multiple: bool = False
    """Write single registers and coils with functions 16 and 15, for devices without 6 and 5."""
    mask_write: bool = False
    """Write single bits of registers, with function 22, which not every device has."""
    limits: ModbusLimits = ModbusLimits()
    groups: tuple[ModbusGroup, ...] = ()

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_one(cls, value: str) -> str:
        parse_endpoint(value)
        return value

    @model_validator(mode="after")
    def _settings_fit_the_endpoint(self) -> ModbusSettings:
        scheme = urlsplit(self.endpoint).scheme
        if self.serial is not None and scheme != "serial":
            raise refuse(
                f"`serial` is set, and {self.endpoint} is no serial port; "
                "leave it out, or write the endpoint as serial:///dev/ttyUSB0"
            )
        if self.tls is not None and scheme != "tls":
            raise refuse(
                f"`tls` is set, and {self.endpoint} is not encrypted; "
                "leave it out, or write the endpoint as tls://host:port"
            )
        framing = self.place().framing
        if self.pipeline > 1 and framing != "tcp":
            raise refuse(
                f"answers in {framing.upper()} framing carry no transaction id, "
                "so only one request can be open; leave `pipeline` out"
            )
        if self.unit == 0 and framing != "tcp":
            raise refuse("unit 0 is all units at once on a serial line, and none answers; units are 1 to 247")
        return self

    @model_validator(mode="after")
    def _tags_can_be_read(self) -> ModbusSettings:
        if found := unreadable(self.groups, self.limits):
            raise ValidationError.from_exception_data(type(self).__name__, found)
        return self

    def link(self) -> tuple[str, Mapping[str, object]]:
        """See `ConnectionSettings.link`: units behind one endpoint share it."""
        place = self.place()
        return place.key, {setting.name: getattr(place, setting.name) for setting in fields(place)}

    def place(self) -> Place:
        """Where the link leads."""
        parsed = parse_endpoint(self.endpoint)
        if isinstance(parsed, str):
            serial = self.serial or SerialSettings()
            return Place(serial.framing, path=parsed, serial=serial)
        scheme, host, port = parsed
        framing = SCHEMES[scheme].framing
        assert framing != "serial", "a serial port has a path"
        tls = (self.tls or TlsSettings()) if scheme == "tls" else None
        return Place(framing, host.lower(), port, tls=tls, pipeline=self.pipeline)


def parse_endpoint(text: str) -> str | tuple[str, str, int]:
    """The path of a serial port, or scheme, host and port.

    Raises:
        PydanticCustomError: it is no endpoint.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise refuse(f'"{text}" is not an endpoint; {_HINT}') from error
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        reason = f'"{parts.scheme}" is not spoken here' if "://" in text else f'"{text}" has no scheme'
        raise refuse(f"{reason}; {_HINT}, or one of {known}")
    if parts.query or parts.fragment or parts.username is not None:
        raise refuse(f'"{text}" has more than an address; {_HINT}')
    if parts.scheme == "serial":
        if host or not parts.path.strip("/"):
            raise refuse(f'"{text}" names no port; write "serial:///dev/ttyUSB0", with three slashes')
        return parts.path
    if not host or port == 0:
        raise refuse(f'"{text}" names no {"port" if host else "host"}; {_HINT}')
    if parts.path not in ("", "/"):
        raise refuse(f'"{text}" has more than host and port; {_HINT}')
    if port is None and not scheme.port:
        raise refuse(f'"{text}" names no port; write "{parts.scheme}://{host}:4001"')
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise refuse(f'"{host}" is no host name; {_HINT}') from error
    return parts.scheme, host, port or scheme.port
