"""Whose a key, the local key or the token of an issuer is: looked up in memory, a few microseconds each.

A token of an issuer is judged once and remembered until it ends or its key does. Knows no password, no
session.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from typing import NamedTuple

from api.access import Principal, Role
from connectors.base import Clock
from gateway.access import tokens
from gateway.access.entries import StoredKey
from gateway.access.jwks import IssuerKeys
from gateway.access.keeper import Keeper
from gateway.access.oidc import Believed, believe
from gateway.config.access import OidcSettings

#: Tokens of an issuer remembered; one more forgets the one that was used longest ago.
REMEMBERED_MAX = 4096


class _Ready(NamedTuple):
    digest: bytes
    principal: Principal
    expires: float


class Keys:
    """The API keys, ready to be compared."""

    def __init__(self, keeper: Keeper, clock: Clock) -> None:
        self._keeper = keeper
        self._clock = clock
        self._generation = -1
        self._ready: dict[str, _Ready] = {}

    def find(self, token: str) -> Principal | None:
        """Whose key this is; None when it is nobody's, or has expired."""
        ready = self._of_now().get(tokens.key_id(token) or "", _NOBODY)
        right = hmac.compare_digest(tokens.digest(token), ready.digest)
        if not right or self._clock.now().timestamp() >= ready.expires:
            return None
        return ready.principal

    def still(self, principal: Principal) -> bool:
        """Whether a key is there, unchanged, and has not expired."""
        ready = self._of_now().get(principal.credential.removeprefix("key:"))
        return (
            ready is not None
            and ready.principal == principal
            and self._clock.now().timestamp() < ready.expires
        )

    def _of_now(self) -> dict[str, _Ready]:
        if self._generation != self._keeper.generation:
            self._generation = self._keeper.generation
            self._ready = {
                key.id: _Ready(
                    bytes.fromhex(key.secret_sha256),
                    _principal(key),
                    float("inf") if key.expires_at is None else key.expires_at.timestamp(),
                )
                for key in self._keeper.keys.values()
            }
        return self._ready


def _principal(key: StoredKey) -> Principal:
    return Principal(
        key.name, "key", key.roles, key.areas, credential=f"key:{key.id}", made_by=key.created_by
    )


#: Compared with where there is no such key. No token has this digest that anybody could find.
_NOBODY = _Ready(b"\0" * 32, Principal("", "key", frozenset(), ()), float("-inf"))


class LocalKey:
    """The key of whoever can read the files of the gateway. Another one at each start."""

    def __init__(self) -> None:
        self.secret = tokens.new_token(tokens.LOCAL)
        self._digest = tokens.digest(self.secret)
        roles = frozenset((Role.OPERATOR, Role.ENGINEER, Role.ADMIN, Role.AUDITOR))
        self.principal = Principal("local", "local", roles, None, f"local:{self._digest.hex()[:12]}")

    def find(self, token: str) -> Principal | None:
        """The local principal, if this is the key."""
        return self.principal if hmac.compare_digest(tokens.digest(token), self._digest) else None


class Issuer:
    """The issuer of tokens that is configured."""

    def __init__(self, settings: OidcSettings, clock: Clock, keys: IssuerKeys) -> None:
        self.settings = settings
        self.keys = keys
        self._clock = clock
        self._believed: OrderedDict[str, Believed] = OrderedDict()

    async def find(self, token: str) -> tuple[Principal, bool]:
        """Who bears a token, and whether it is seen for the first time.

        Raises:
            gateway.access.oidc.Refused: it is not believed; the reason is for the log.
        """
        now = self._clock.now()
        known = self._believed.get(_mark(token))
        if known is not None and self._good(known):
            self._believed.move_to_end(known.principal.credential)
            return known.principal, False
        believed = await believe(token, self.settings, self.keys, now)
        self._believed[believed.principal.credential] = believed
        while len(self._believed) > REMEMBERED_MAX:
            self._believed.popitem(last=False)
        return believed.principal, True

    def still(self, principal: Principal) -> bool:
        """Whether the token a principal came by is good, and remembered. Asking is using it: a stream that
        is open sends its token no more."""
        known = self._believed.get(principal.credential)
        if known is None or not self._good(known):
            return False
        self._believed.move_to_end(principal.credential)
        return True

    def _good(self, known: Believed) -> bool:
        return self._clock.now().timestamp() < known.until and self.keys.counts(known.kid, known.algorithm)


def _mark(token: str) -> str:
    return f"token:{hashlib.sha256(token.encode('utf-8', 'replace')).hexdigest()[:24]}"
