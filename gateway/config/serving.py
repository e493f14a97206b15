"""Settings of `[api]` that say how it is served: over TLS or not, to which names, and how much at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from connectors.settings import FOLDER, Settings

_Host = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", max_length=253)
]


class ApiTlsSettings(Settings):
    """A certificate with its key. Both may be exchanged while the gateway runs."""

    cert_file: str
    """PEM file of the certificate, and of those between it and the authority."""
    key_file: str
    """PEM file of its private key, not encrypted, readable by the gateway alone."""

    @field_validator("cert_file", "key_file")
    @classmethod
    def _beside_the_file(cls, name: str, info: ValidationInfo) -> str:
        folder = info.context.get(FOLDER) if isinstance(info.context, dict) else None
        return str(folder / name) if isinstance(folder, Path) else name


class ServingSettings(Settings):
    """How the API is served."""

    tls: ApiTlsSettings | None = None
    """Speak TLS (1.2 or later) with this certificate, and nothing else."""
    insecure: bool = False
    """Open the API to the network without TLS, because something in front of it speaks TLS."""
    hosts: tuple[_Host, ...] = ()
    """Names by which requests may call a gateway that listens on loopback, besides `localhost`."""
    rate: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Requests a second of one caller, and of one address; 0: no limit."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """Requests of one of them at once."""
    connections_max: Annotated[int, Field(ge=10, le=100_000)] = 2500
    """Connections at once, streams among them."""
    address_connections_max: Annotated[int, Field(ge=5, le=100_000)] = 1250
    """The same of one address."""
