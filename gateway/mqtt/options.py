"""From settings to what a connection needs. Reads certificate files, each time anew; opens no socket."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import unquote, urlsplit

from gateway.config.brokers import EMBEDDED, BrokerSettings
from gateway.config.schema import GatewaySettings
from gateway.errors import SinkRefused

_CRL = b"-----BEGIN X509 CRL-----"


@dataclass(frozen=True)
class LinkOptions:
    """One broker and how to speak to it. Times in seconds."""

    host: str
    port: int
    tls: bool
    protocol: Literal["5", "3.1.1"]
    client_id: str
    user: str | None
    password: str | None
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    keep_alive_s: int
    inflight_max: int
    connect_timeout_s: float = 10.0
    ack_timeout_s: float = 30.0
    """A message without an acknowledgement for so long means that the connection is of no use."""
    qos_needed: int = 1
    """A broker that offers less is refused. 0 for who only listens."""
    retain_needed: bool = True
    """A broker that keeps nothing is refused."""
    section: str = "[mqtt]"
    """Where people set all this, for hints."""

    @property
    def address(self) -> str:
        """For people: never with user or password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def link_options(
    settings: BrokerSettings,
    gateway: GatewaySettings,
    *,
    broker: str | None = None,
    embedded_port: int | None = None,
) -> LinkOptions:
    """What the settings mean. References to secrets are resolved already.

    `broker` is the address where the settings have several; unset: the first. The embedded broker speaks
    MQTT 3.1.1 only, so that is spoken with it whatever `protocol` says; its port is `embedded_port` where it
    was chosen at start.
    """
    address = broker if broker is not None else settings.addresses[0]
    embedded = address == EMBEDDED
    port = embedded_port if embedded_port is not None else settings.embedded_port
    url = urlsplit(f"mqtt://127.0.0.1:{port}" if embedded else address)
    tls = url.scheme == "mqtts"
    user = settings.user if settings.user is not None else (unquote(url.username) if url.username else None)
    password = settings.password
    if password is None and url.password:
        password = unquote(url.password)
    keep_alive_s = max(1, round(settings.keep_alive.total_seconds()))
    section = f"[{settings.section}]"
    return LinkOptions(
        host=url.hostname or "127.0.0.1",
        port=url.port or (8883 if tls else 1883),
        tls=tls,
        protocol="3.1.1" if embedded else settings.protocol,
        client_id=settings.client_id_for(gateway.id),
        user=user,
        password=password,
        ca_file=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        keep_alive_s=min(keep_alive_s, 65535),
        inflight_max=settings.inflight_max,
        ack_timeout_s=max(2.0 * keep_alive_s, 10.0),
        section=section if settings.name is None else f'[{section}] "{settings.name}"',
    )


#: What a look at the certificate files saw: of each its inode, size and time of change in ns, or None.
Files = tuple[tuple[int, int, int] | None, ...]


def files_of(options: LinkOptions) -> Files:
    """The certificate files as they are on disk now; nothing without TLS."""
    if not options.tls:
        return ()
    return tuple(_seen(name) for name in (options.ca_file, options.cert_file, options.key_file))


def _seen(name: str | None) -> tuple[int, int, int] | None:
    try:
        seen = Path(name).stat() if name is not None else None
    except OSError:
        return None
    return (seen.st_ino, seen.st_size, seen.st_mtime_ns) if seen is not None else None


def _refuse_encrypted(options: LinkOptions) -> NoReturn:
    """Called when a key wants a password: without this OpenSSL would ask whoever sits at the terminal."""
    raise SinkRefused(
        f'the key in "{options.key_file or options.cert_file}" is encrypted, and nobody is there to be asked',
        hint=f"set key_file in {options.section} to a key without a password that only the gateway may read",
    )


def tls_context(options: LinkOptions) -> ssl.SSLContext | None:
    """What TLS needs, or None without TLS. Reads the files now, so a renewed certificate is used next time.

    The broker's name and certificate are always checked; with a revocation list in `ca_file` that too.

    Raises:
        SinkRefused: a certificate or key file cannot be read or used, or the key is encrypted.
    """
    if not options.tls:
        return None
    file, key = options.ca_file or "", "ca_file"
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.ca_file and _CRL in Path(options.ca_file).read_bytes():
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        if options.cert_file:
            file, key = options.cert_file, "cert_file"
            context.load_cert_chain(
                options.cert_file, options.key_file, password=lambda: _refuse_encrypted(options)
            )
    except OSError as error:  # ssl.SSLError is one too
        raise SinkRefused(
            f'the file "{file}" is of no use for TLS: {error.strerror or error}',
            hint=f"check {key} in {options.section}, who may read it, and that key and certificate match",
        ) from error
    return context
