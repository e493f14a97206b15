"""Establishing a link: TCP, TLS, serial port. Everything within one time limit, every failure in words."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import NoReturn

from connectors.errors import ConnectionLost, DeviceRefused
from connectors.modbus.client import Client, describe
from connectors.modbus.config import Place, TlsSettings
from connectors.modbus.serial_port import SerialTransport, open_port

Make = Callable[[], Client]


async def open_link(place: Place, timeout_s: float, make: Make) -> Client:
    """A link to where the settings say.

    Raises:
        ConnectionLost: there is none within `timeout_s`.
        DeviceRefused: certificates do not fit, or their files cannot be read.
    """
    if place.path:
        return _serial(place, make)
    where = f"{place.host}:{place.port}"
    context = _context(place.tls) if place.tls is not None else None
    try:
        async with asyncio.timeout(timeout_s) as limit:
            return await _tcp(place, context, limit, make)
    except TimeoutError as error:
        secure = " and complete the TLS handshake" if context else ""
        raise ConnectionLost(
            f"{where} did not take the connection{secure} within {timeout_s:g} s",
            hint="is the device on, and the address right?"
            + (" Does it speak TLS on this port?" if context else ""),
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise DeviceRefused(
            f"the certificate of {where} is not trusted: {error.verify_message or error}",
            hint="name the authority that signed it in tls.ca, or the name it is made out to in tls.host",
        ) from error
    except ssl.SSLError as error:
        raise ConnectionLost(
            f"no TLS with {where}: {error.reason or error}",
            hint="does the device speak TLS on this port, and does it want a certificate of ours?",
        ) from error
    except OSError as error:
        raise ConnectionLost(
            f"no connection to {where}: {describe(error)}",
            hint="is the device on, and are host and port right?"
            + (" Does it speak TLS on this port?" if context else ""),
        ) from error


async def _tcp(place: Place, context: ssl.SSLContext | None, limit: asyncio.Timeout, make: Make) -> Client:
    """Try the addresses of the host one after the other; each has an equal share of the time left."""
    loop = asyncio.get_running_loop()
    addresses = await _addresses(place.host, place.port)
    server_name = (place.tls.host or place.host) if place.tls is not None and context is not None else None
    for index, address in enumerate(addresses):
        last = index == len(addresses) - 1
        until = limit.when()
        assert until is not None, "opening has a time limit"
        share_s = (until - loop.time()) / (len(addresses) - index)
        try:
            async with asyncio.timeout(None if last else share_s):
                _, client = await loop.create_connection(
                    make, address, place.port, ssl=context, server_hostname=server_name
                )
                return client
        except (OSError, TimeoutError) as error:
            if last or isinstance(error, ssl.SSLError):
                raise
    raise OSError(f"{place.host} has no address")


async def _addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, each once, in the order of the resolver."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(info[4][0]) for info in infos))
    return [host]


def _context(tls: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or later, the server's certificate verified (Modbus/TCP Security, section 5)."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.check_host
    try:
        if tls.ca is not None:
            # Only this authority, and not all those of the system.
            context = _only(context, tls.ca)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key, password=lambda: _refuse_encrypted(tls))
    except OSError as error:  # an SSLError is one
        files = ", ".join(filter(None, (tls.ca, tls.certificate, tls.key)))
        raise DeviceRefused(
            f"a file of the TLS settings cannot be used ({files}): {describe(error)}",
            hint="each is a PEM file the gateway may read, and key and certificate belong together",
        ) from error
    return context


def _refuse_encrypted(tls: TlsSettings) -> NoReturn:
    """Called when a key wants a password: without this OpenSSL would ask whoever sits at the terminal."""
    raise DeviceRefused(
        f"the key of the TLS settings ({tls.key or tls.certificate}) is encrypted, and nobody can be asked",
        hint="name a key without a password that only the gateway may read",
    )


def _only(like: ssl.SSLContext, authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = like.minimum_version
    context.check_hostname = like.check_hostname
    context.load_verify_locations(cafile=authority)
    return context


def _serial(place: Place, make: Make) -> Client:
    assert place.serial is not None, "a serial endpoint has serial settings"
    try:
        port = open_port(place.path, place.serial)
    except ValueError as error:
        raise DeviceRefused(
            f"{place.path} cannot be set up: {error}", hint="does the adapter have this baud rate?"
        ) from error
    except OSError as error:
        raise ConnectionLost(
            f"no serial port {place.path}: {describe(error)}",
            hint="is it plugged in, may the gateway open it (group dialout), and does nobody else use it?",
        ) from error
    client = make()
    SerialTransport(port, client)
    return client
