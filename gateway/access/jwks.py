"""The public keys of an issuer of tokens: read from its file or its own host, bounded, and kept while it is
away.

Which keys count is said by a pure half, `read_keys`; a thin one fetches. Nothing in a token decides where
keys are fetched from, and no answer leads anywhere else.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from connectors.base import Clock
from gateway.config.access import OidcSettings

BYTES_MAX = 262_144
KEYS_MAX = 64
#: RSA keys outside of these are broken, or cost more to use than anybody needs.
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192
FETCH_S = 5.0
#: A key nobody knows is looked for at most this often, whatever tokens come.
AGAIN_S = 60.0

_ASKED = {"Accept": "application/json", "Accept-Encoding": "identity"}

_log = structlog.get_logger("andon.access")


class VerifyKey(NamedTuple):
    """A public key, and the one kind of signature it is for."""

    kid: str
    algorithm: str
    key: RSAPublicKey | EllipticCurvePublicKey


class Unreadable(Exception):
    """There are no keys to be had now; `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_keys(data: bytes) -> tuple[VerifyKey, ...]:
    """The keys of a JSON Web Key Set (RFC 7517) that are for signatures we accept; others are passed over.

    Raises:
        Unreadable: it is none, or no key in it is of use.
    """
    if len(data) > BYTES_MAX:
        raise Unreadable(f"the key set has more than {BYTES_MAX:,} bytes")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable("the key set is no JSON") from error
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise Unreadable('the key set has no list "keys"')
    keys = tuple(key for item in listed[:KEYS_MAX] if (key := _key(item)) is not None)
    if not keys:
        raise Unreadable("it has no RSA key of 2048 bits or more, and none on the curve P-256")
    return keys


def _key(item: Any) -> VerifyKey | None:
    """One key, None when it is of no use here."""
    # A private key that was published is known to everybody; so is one that both sides would share.
    if not isinstance(item, dict) or "d" in item or "k" in item or item.get("use", "sig") != "sig":
        return None
    kid = item.get("kid", "")
    operations = item.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        match item.get("kty"):
            case "RSA" if item.get("alg", "RS256") == "RS256":
                rsa = RSAAlgorithm.from_jwk(item)
                if isinstance(rsa, RSAPublicKey) and RSA_BITS_MIN <= rsa.key_size <= RSA_BITS_MAX:
                    return VerifyKey(kid, "RS256", rsa)
            case "EC" if item.get("alg", "ES256") == "ES256":
                curve = ECAlgorithm.from_jwk(item)
                if isinstance(curve, EllipticCurvePublicKey) and isinstance(curve.curve, SECP256R1):
                    return VerifyKey(kid, "ES256", curve)
    except (InvalidKeyError, ValueError, TypeError):
        return None
    return None


class IssuerKeys:
    """The keys that count now. `run` reads them again from time to time."""

    def __init__(
        self, settings: OidcSettings, clock: Clock, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._transport = transport
        self._keys: Mapping[tuple[str, str], VerifyKey] = {}
        self._read_s: float | None = None
        self._tried_s: float | None = None
        self._tries = 0
        self._reading = asyncio.Lock()
        #: Why they could not be read the last time; None when they could.
        self.trouble: str | None = None
        #: Raised by one whenever other keys count than before.
        self.generation = 0

    async def find(self, kid: str, algorithm: str) -> VerifyKey | None:
        """The key of this id and kind; without an id the only one of its kind. A key that is not there is
        looked for again, but not often."""
        key = self._find(kid, algorithm)
        if key is None and self._may_try():
            await self.read()
            key = self._find(kid, algorithm)
        return key

    def counts(self, kid: str, algorithm: str) -> bool:
        """Whether there is such a key still. Memory only."""
        return self._find(kid, algorithm) is not None

    def _find(self, kid: str, algorithm: str) -> VerifyKey | None:
        if self._read_s is None or self._stale():
            return None
        if kid:
            return self._keys.get((kid, algorithm))
        alike = [key for key in self._keys.values() if key.algorithm == algorithm]
        return alike[0] if len(alike) == 1 else None

    def _stale(self) -> bool:
        kept_s = self._settings.refresh.total_seconds() + self._settings.keep.total_seconds()
        return self._read_s is not None and self._clock.monotonic() - self._read_s > kept_s

    def _may_try(self) -> bool:
        return self._tried_s is None or self._clock.monotonic() - self._tried_s >= AGAIN_S

    async def read(self) -> None:
        """Read the keys; when that fails, those there are stay for a while."""
        tries = self._tries
        async with self._reading:
            if self._tries != tries:
                return  # somebody else did while we waited
            try:
                found = read_keys(await self._fetch())
            except Unreadable as failure:
                if self.trouble != failure.reason:
                    _log.warning(
                        "the keys of the issuer of tokens cannot be read",
                        issuer=self._settings.issuer,
                        reason=failure.reason,
                        hint="those known count on for [api.oidc] keep",
                    )
                self.trouble = failure.reason
                return
            finally:
                self._tried_s = self._clock.monotonic()
                self._tries += 1
            keys = {(key.kid, key.algorithm): key for key in found}
            if keys.keys() != self._keys.keys() or any(
                keys[name].key != self._keys[name].key for name in keys
            ):
                self.generation += 1
            self._keys, self._read_s, self.trouble = keys, self._clock.monotonic(), None

    async def _fetch(self) -> bytes:
        source = self._settings.jwks
        if "://" not in source:
            try:
                return await asyncio.to_thread(_head_of, Path(source))
            except OSError as error:
                raise Unreadable(f'the file "{source}" cannot be read: {error.strerror or error}') from error
        try:
            async with asyncio.timeout(FETCH_S):
                return await self._get(source)
        except TimeoutError as error:
            raise Unreadable(f"no whole answer from {source} within {FETCH_S:.0f} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreadable(f"no answer from {source}: {error or type(error).__name__}") from error

    async def _get(self, url: str) -> bytes:
        # A plant's own authority is installed in the system; reading them all takes a while.
        secure = url.startswith("https")
        authorities = await asyncio.to_thread(ssl.create_default_context) if secure else False
        client = httpx.AsyncClient(
            follow_redirects=False,  # an address the configuration does not name is asked nothing
            trust_env=False,
            verify=authorities,
            timeout=FETCH_S,
            transport=self._transport,
        )
        async with client, client.stream("GET", url, headers=_ASKED) as response:
            if response.status_code != 200:
                raise Unreadable(f"{url} answers with status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Unreadable(f"{url} answers packed, which was not asked for")
            data = bytearray()
            async for part in response.aiter_raw():
                data += part
                if len(data) > BYTES_MAX:
                    raise Unreadable(f"{url} answers with more than {BYTES_MAX:,} bytes")
            return bytes(data)

    async def run(self) -> None:
        """Read them at once, then whenever they are due; again soon while they cannot be read."""
        while True:
            await self.read()
            again_s = AGAIN_S if self.trouble else self._settings.refresh.total_seconds()
            await self._clock.sleep(again_s)


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BYTES_MAX + 1)
