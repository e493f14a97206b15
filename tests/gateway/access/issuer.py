"""An issuer of tokens on loopback, with keys of its own, that answers as badly as it is told."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.support.manual_clock import START


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The RSA key of a name; making one takes a while."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    """The elliptic curve key of a name."""
    return ec.generate_private_key(curve())


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def public(kid: str, key: Key, **more: Any) -> dict[str, Any]:
    """A public key as it stands in a key set."""
    if isinstance(key, rsa.RSAPrivateKey):
        found = dict(RSAAlgorithm.to_jwk(key.public_key(), as_dict=True))
    else:
        found = dict(ECAlgorithm.to_jwk(key.public_key(), as_dict=True))
    return {**found, "kid": kid, **more}


def claims(issuer: str, **more: Any) -> dict[str, Any]:
    """What a token that is believed says; None takes a claim out."""
    now = int(START.timestamp())
    told = {
        "iss": issuer,
        "aud": "andon",
        "sub": "ada",
        "iat": now,
        "exp": now + 600,
        "roles": ["ops"],
        **more,
    }
    return {name: value for name, value in told.items() if value is not None}


def signed(
    told: Mapping[str, Any], key: Any, algorithm: str = "RS256", kid: str | None = "one", **header: Any
) -> str:
    """A token."""
    headers = ({} if kid is None else {"kid": kid}) | header
    return jwt.encode(dict(told), key, algorithm=algorithm, headers=headers)


def forged(header: Mapping[str, Any], told: Mapping[str, Any], signature: bytes = b"") -> str:
    """A token as no library would make it."""
    parts = (json.dumps(header).encode(), json.dumps(told).encode(), signature)
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


class Issuer:
    """What it serves can be changed at any time; `asked` are the paths it was asked for."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public("one", rsa_key("one"))]
        self.status = b"200 OK"
        self.headers: list[bytes] = []
        self.body: bytes | None = None
        #: Sent over and over after the body, this many times; each after a moment when `drips`.
        self.more, self.more_count, self.drips = b"", 0, False
        self.asked: list[str] = []
        #: How often `more` was taken.
        self.sent_count = 0
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.split()[1].decode())
            body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
            length = len(body) + len(self.more) * self.more_count
            lines = [b"HTTP/1.1 " + self.status, b"Content-Length: %d" % length, *self.headers]
            writer.write(b"\r\n".join([*lines, b"", b""]) + body)
            for _ in range(self.more_count):
                writer.write(self.more)
                await writer.drain()
                self.sent_count += 1
                if self.drips:
                    await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """An issuer that listens in the block."""
    issuer = Issuer()
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield issuer
    finally:
        server.close()
        await server.wait_closed()
