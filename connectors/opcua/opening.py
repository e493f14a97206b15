"""From an address to an activated session: connect, secure, log in, all within one timeout.

Nothing secret is said before the server has shown the certificate we trust and proved that it holds the key.
It knows nothing of tags, samples or subscriptions; what is asked of a session is in `session`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from connectors.errors import ConnectionLost, DeviceRefused
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.failures import told
from connectors.opcua.pki import Identity, Pki, host_uri, load_certificates
from connectors.opcua.session import Session, Ticket
from connectors.opcua.wire import Wire
from connectors.protocol import Environment

_CHANNEL_LIFETIME = 3600.0

_POLICIES: dict[str, type[security_policies.SecurityPolicy]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
    "Basic256": security_policies.SecurityPolicyBasic256,
    "Basic128Rsa15": security_policies.SecurityPolicyBasic128Rsa15,
    "None": security_policies.SecurityPolicyNone,
}
_MODES = {
    "None": ua.MessageSecurityMode.None_,
    "Sign": ua.MessageSecurityMode.Sign,
    "SignAndEncrypt": ua.MessageSecurityMode.SignAndEncrypt,
}
_NO_POLICY = security_policies.SecurityPolicyNone.URI


def _client(settings: OpcuaConnection, uri: str) -> tuple[Client, Wire]:
    timeout_s = settings.request_timeout.total_seconds()
    client = Client(settings.endpoint, timeout=timeout_s)
    wire = Wire(timeout_s)
    client.uaclient = wire
    client.name = "Andon"
    client.description = f"Andon {settings.name}"
    client.application_uri = uri
    client.product_uri = "urn:andon:gateway"
    client.session_timeout = round(settings.session_timeout.total_seconds() * 1000)
    client.secure_channel_timeout = round(_CHANNEL_LIFETIME * 1000)
    return client, wire


async def open_session(
    settings: OpcuaConnection, environment: Environment, ticket: Ticket | None = None
) -> Session:
    """Connect, secure and log in, all within the connect timeout.

    With a ticket the session it belongs to is taken up where the server still has it, else a new one is made.

    Raises:
        ConnectionLost: nobody answers, or not in time.
        DeviceRefused: certificate, security or password.
    """
    pki = Pki(environment.data_dir)
    secured = settings.security.policy != "None"
    identity: Identity | None = None
    if secured:
        identity = await asyncio.to_thread(pki.identity, environment.clock.now())
    own = str(identity.path) if identity else ""
    user = await asyncio.to_thread(_user, settings)
    client, wire = _client(settings, identity.application_uri if identity else host_uri())
    server: bytes | None = None
    try:
        with told(settings.endpoint, own):
            async with asyncio.timeout(settings.connect_timeout.total_seconds()):
                if identity is not None:
                    blob = await _server_certificate(settings, identity.application_uri)
                    now = environment.clock.now()
                    server = await asyncio.to_thread(pki.check_server, blob, settings.host, now)
                    await client.set_security(
                        _POLICIES[settings.security.policy],
                        identity.certificate,
                        identity.key,
                        server_certificate=server,
                        mode=_MODES[settings.security.mode],
                    )
                await client.connect_socket()
                await client.send_hello()
                await _open_channel(settings, client, own)
                reactivated = ticket is not None and await _reactivate(settings, client, wire, ticket, user)
                if not reactivated:
                    await client.create_session()
                    await _log_in(settings, client, user)
                session = Session(settings, client, wire, own, reactivated=reactivated)
                session.certificates = _ends(identity, server, user)
                await session.prepare()
    except BaseException:
        wire.abort()
        raise
    return session


@dataclass(frozen=True)
class _User:
    """A person or machine that logs in with a certificate of its own."""

    certificate: x509.Certificate
    key: RSAPrivateKey


def _user(settings: OpcuaConnection) -> _User | None:
    if settings.user_certificate is None or settings.user_key is None:
        return None
    try:
        found = load_certificates(Path(settings.user_certificate))
        if not found:
            raise ValueError("the file holds no certificate")
        certificate = found[0]
        key = serialization.load_pem_private_key(Path(settings.user_key).read_bytes(), password=None)
        if not isinstance(key, RSAPrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("the key does not belong to the certificate")
    except (OSError, ValueError, TypeError) as error:
        raise DeviceRefused(
            f"{settings.endpoint}: the user certificate cannot be used: {error}",
            hint=f"check {settings.user_certificate} (PEM or DER) and {settings.user_key} (PEM, no password)",
        ) from error
    return _User(certificate, key)


async def _open_channel(settings: OpcuaConnection, client: Client, own_certificate: str) -> None:
    """Open the secure channel. Many servers that do not trust us just hang up; say what that may mean."""
    try:
        await client.open_secure_channel()
    except ConnectionError as error:
        if not own_certificate:
            raise
        raise ConnectionLost(
            f"{settings.endpoint}: the server hung up when it was shown this gateway's certificate",
            hint=f"it may not trust it: approve {own_certificate} on the server",
        ) from error


async def _log_in(settings: OpcuaConnection, client: Client, user: _User | None) -> None:
    if user is not None:
        client.user_private_key = user.key
        await client.activate_session(certificate=user.certificate)
        return
    _check_password_is_safe(settings, client)
    password = settings.password.get_secret_value() if settings.password else ""
    await client.activate_session(username=settings.user, password=password)


async def _reactivate(
    settings: OpcuaConnection, client: Client, wire: Wire, ticket: Ticket, user: _User | None
) -> bool:
    """Log in to a session made over an earlier connection; false when the server will not have that.

    The server checks that we are who made it: the same user, and a signature over the last nonce it sent.
    """
    # The library would make a new session; what it remembers of the old one is handed to the new objects.
    held: Any = client
    held._server_nonce, held._policy_ids = ticket.nonce, list(ticket.policies)
    held.session_timeout = ticket.timeout_ms
    wire.session.restore_authentication_token(ticket.token)
    try:
        await _log_in(settings, client, user)
    except ua.uaerrors.UaStatusCodeError:
        wire.session.reset_authentication_token()
        held.session_timeout = round(settings.session_timeout.total_seconds() * 1000)
        return False
    return True


def _ends(identity: Identity | None, server: bytes | None, user: _User | None) -> dict[str, datetime]:
    """When the certificates of a session end."""
    ends: dict[str, datetime] = {}
    if identity is not None:
        ends["own_certificate"] = identity.not_after
    if server is not None:
        ends["server_certificate"] = x509.load_der_x509_certificate(server).not_valid_after_utc
    if user is not None:
        ends["user_certificate"] = user.certificate.not_valid_after_utc
    return ends


def _check_password_is_safe(settings: OpcuaConnection, client: Client) -> None:
    """A server may ask for the password unencrypted inside a channel that is not encrypted either."""
    if settings.password is None or settings.security.allow_plain_password:
        return
    token = client.server_policy(ua.UserTokenType.UserName)
    if settings.security.mode != "SignAndEncrypt" and token.SecurityPolicyUri in ("", None, _NO_POLICY):
        raise DeviceRefused(
            f"{settings.endpoint}: the server wants the password in the clear; it was not sent",
            hint='use mode "SignAndEncrypt", or say security.allow_plain_password = true',
        )


async def _server_certificate(settings: OpcuaConnection, uri: str) -> bytes:
    """The certificate of the endpoint with the configured security, asked for over an open channel.

    Nothing secret is said there, and the answer is checked twice: against the trust list, and by the server
    having to prove that it holds the key.
    """
    client, wire = _client(settings, uri)
    try:
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
        endpoints = await client.get_endpoints()
        await client.close_secure_channel()
    finally:
        wire.abort()
    policy, mode = _POLICIES[settings.security.policy].URI, _MODES[settings.security.mode]
    for endpoint in endpoints:
        if endpoint.SecurityPolicyUri == policy and endpoint.SecurityMode == mode:
            return bytes(endpoint.ServerCertificate or b"")
    offers = {f"{_short(one.SecurityPolicyUri)}/{one.SecurityMode.name.rstrip('_')}" for one in endpoints}
    raise DeviceRefused(
        f"{settings.endpoint}: the server does not offer {settings.security.policy}/{settings.security.mode}",
        hint=f"it offers {', '.join(sorted(offers)[:10]) or 'nothing'}",
    )


def _short(policy_uri: str | None) -> str:
    name = (policy_uri or "?").rpartition("#")[2]
    return "".join(char for char in name if char.isprintable())[:40]
