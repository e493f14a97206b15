"""What a token of the configured issuer (JWT, RFC 7519, OpenID Connect) says about its bearer, if it is to be
believed.

Pure but for the search of the key. The kind of signature comes from the settings and the key, never from the
token alone (RFC 8725, 2.1); times are judged here, by the clock that is handed in. Who has no role is not let
in.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import jwt
from jwt.exceptions import PyJWTError

from api.access import Principal, Role
from gateway.access.jwks import IssuerKeys, VerifyKey
from gateway.config.access import EVERYWHERE, OidcSettings

#: Names longer than this are cut, and areas and roles beyond this many passed over.
NAME_CHARS_MAX, ITEMS_MAX = 128, 200
#: Claims whose one text is a list with spaces between; `scp` is what some issuers call it.
_SPACED = frozenset(("scope", "scp"))
_TYPES = frozenset(("jwt", "at+jwt", "application/at+jwt"))


class Refused(Exception):
    """The token is not believed. `reason` is for the log; the bearer is told nothing of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Believed(NamedTuple):
    """Who bears the token, until when, and by which key."""

    principal: Principal
    until: float
    kid: str
    algorithm: str


def looks_like_one(token: str) -> bool:
    """Whether it has the three parts of a signed token."""
    return token.count(".") == 2 and token.startswith("ey")


async def believe(token: str, settings: OidcSettings, keys: IssuerKeys, now: datetime) -> Believed:
    """Judge a token.

    Raises:
        Refused: with the reason.
    """
    kid, algorithm = header_of(token, settings)
    key = await keys.find(kid, algorithm)
    if key is None:
        raise Refused(f"the issuer has no key for {algorithm} with the id {kid!r:.80}")
    claims = claims_of(token, key, settings)
    until = judge_times(claims, settings, now.timestamp())
    return Believed(principal_of(token, claims, settings), until, kid, algorithm)


def header_of(token: str, settings: OidcSettings) -> tuple[str, str]:
    """The id of the key and the kind of signature a token says it has, when both are of ours.

    Raises:
        Refused: they are not.
    """
    try:
        header = jwt.get_unverified_header(token)
    except (PyJWTError, ValueError, RecursionError) as error:
        raise Refused("its header is none") from error
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if algorithm not in (settings.algorithms or ("RS256", "ES256")):
        raise Refused(f"its signature is of a kind that is not accepted: {algorithm!r:.40}")
    if "crit" in header or "b64" in header:
        raise Refused("it asks for extensions (crit, b64)")
    if str(header.get("typ", "JWT")).casefold() not in _TYPES:
        raise Refused(f"it is no token of this kind: typ {header.get('typ')!r:.40}")
    if not isinstance(kid, str):
        raise Refused("the id of its key is no text")
    return kid, str(algorithm)


def claims_of(token: str, key: VerifyKey, settings: OidcSettings) -> Mapping[str, Any]:
    """What a token claims, when signature, issuer and audience are right.

    Raises:
        Refused: they are not.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key=key.key,
            algorithms=[key.algorithm],
            audience=settings.audience,
            issuer=settings.issuer,
            options={
                "require": ["exp", "iat", "iss", "aud"],
                "verify_exp": False,  # times are judged by our clock, not by the library's
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except (PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise Refused(f"{type(error).__name__}: {error}"[:200]) from error
    return claims


def judge_times(claims: Mapping[str, Any], settings: OidcSettings, now: float) -> float:
    """When it ends (seconds of the epoch, with leeway), when it is good now.

    Raises:
        Refused: it is not.
    """
    leeway = settings.leeway.total_seconds()
    ends, issued = _instant(claims, "exp"), _instant(claims, "iat")
    begins = _instant(claims, "nbf") if "nbf" in claims else issued
    if now >= ends + leeway:
        raise Refused("it has expired")
    if max(issued, begins) > now + leeway:
        raise Refused("it is not good yet")
    if ends - issued > settings.lifetime_max.total_seconds():
        raise Refused("it is good for longer than [api.oidc] lifetime_max")
    return ends + leeway


def _instant(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused(f"its {name} is no time")
    return float(value)


def principal_of(token: str, claims: Mapping[str, Any], settings: OidcSettings) -> Principal:
    """Who a token speaks for here.

    Raises:
        Refused: it has no name, no role or no area.
    """
    name = _claim(claims, settings.name_claim)
    if not isinstance(name, str) or not name.strip():
        raise Refused(f"its claim {settings.name_claim} is no name")
    roles = frozenset(_roles(claims, settings))
    if not roles:
        raise Refused("it has no role that counts here")
    shown = "".join(character if character.isprintable() else "?" for character in name.strip())
    areas = _areas(claims, settings)
    credential = f"token:{hashlib.sha256(token.encode()).hexdigest()[:24]}"
    return Principal(shown[:NAME_CHARS_MAX], "token", roles, areas, credential)


def _roles(claims: Mapping[str, Any], settings: OidcSettings) -> Iterator[Role]:
    for said in _texts(claims, settings.roles_claim):
        if (role := settings.roles.get(said)) is not None:
            yield role


def _areas(claims: Mapping[str, Any], settings: OidcSettings) -> tuple[str, ...] | None:
    if settings.areas_claim is None:
        return None
    said = _texts(claims, settings.areas_claim)
    if settings.areas:
        found = [settings.areas[text] for text in said if text in settings.areas]
    else:
        found = [text.strip("/") for text in said if text.strip("/") and text != EVERYWHERE]
    if EVERYWHERE in found:
        return None
    if not found:
        raise Refused("it has no area that counts here")
    return tuple(sorted(set(found)))


def _texts(claims: Mapping[str, Any], path: str) -> list[str]:
    """A claim as texts: a list, or one text, which is a list with spaces between in `scope` alone (RFC 8693,
    4.2). Anywhere else a name may have spaces: "former admins" are no admins."""
    value = _claim(claims, path)
    if isinstance(value, str):
        return value.split()[:ITEMS_MAX] if path.rpartition(".")[2] in _SPACED else [value]
    if isinstance(value, list):
        return [item for item in value[:ITEMS_MAX] if isinstance(item, str)]
    return []


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by the names of what it is nested in."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for level in path.split("."):
        value = value.get(level) if isinstance(value, Mapping) else None
    return value
