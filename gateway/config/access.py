"""Settings of `[api]` that say who is let in: without credentials, by a session, by the token of an issuer.

Numbers and addresses only; who exists lies in files of its own (see `gateway.access`).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from api.access import Role
from connectors.settings import FOLDER, Duration, LastingDuration, Settings, refuse

#: Hosts whose traffic never leaves this machine: there, and only there, keys may come without TLS.
LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost"))
#: What `areas` of an issuer says for "everything".
EVERYWHERE = "*"

_Text = Annotated[str, Field(min_length=1, max_length=500)]
_AreaPath = Annotated[
    str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*)$")
]


class OidcSettings(Settings):
    """An issuer whose tokens (JWT) are taken for credentials."""

    issuer: _Text
    """Claim `iss` of its tokens, to the letter."""
    audience: _Text
    """Claim `aud` of tokens that are meant for this gateway."""
    jwks: _Text
    """Its public keys: path of a JSON file, or an `https` URL on the issuer's own host."""
    algorithms: tuple[Literal["RS256", "ES256"], ...] = ()
    """Signatures accepted. Empty: both `RS256` and `ES256`; there are no others."""
    name_claim: _Text = "sub"
    """Claim with the name that is recorded and shown."""
    roles_claim: _Text = "roles"
    """Claim with the roles, a text or a list; levels of nested claims are joined by `.`."""
    roles: Annotated[dict[_Text, Role], Field(min_length=1)]
    """What the claim says = role here. Who has none of them is not let in."""
    areas_claim: _Text | None = None
    """Claim with the areas. Unset: everything. Set: who has none of them is not let in."""
    areas: dict[_Text, _AreaPath] = Field(default_factory=dict)
    """What the claim says = beginning of the path of equipment, or `"*"` for everything. Empty: the claim has
    such paths itself."""
    leeway: Duration = timedelta(seconds=30)
    """How far the issuer's clock may be off."""
    lifetime_max: LastingDuration = timedelta(hours=24)
    """Longest time from issue to expiry of a token that is accepted."""
    refresh: LastingDuration = timedelta(hours=1)
    """Time between two readings of its keys."""
    keep: LastingDuration = timedelta(days=1)
    """How long its keys count while they cannot be read again."""

    @field_validator("leeway")
    @classmethod
    def _short(cls, leeway: timedelta) -> timedelta:
        if leeway > timedelta(minutes=5):
            raise refuse("leeway", 'is more than clocks may be off; write "5m" or less, and mend the clocks')
        return leeway

    @field_validator("jwks")
    @classmethod
    def _its_own(cls, jwks: str, info: ValidationInfo) -> str:
        if "://" not in jwks:
            folder = info.context.get(FOLDER) if isinstance(info.context, dict) else None
            return str(folder / jwks) if isinstance(folder, Path) else jwks
        url = urlsplit(jwks)
        if url.username is not None or url.password is not None or url.fragment:
            raise refuse("jwks", "must be a plain URL, without a user, a password or a fragment")
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in LOOPBACK):
            raise refuse("jwks", "must be https: who can change the keys on their way can be anybody")
        issuer = urlsplit(str(info.data.get("issuer", "")))
        if (url.scheme, url.hostname, url.port) != (issuer.scheme, issuer.hostname, issuer.port):
            raise refuse("jwks", "is not on the issuer's host; save its keys in a file, and name that")
        return jwks


class AccessSettings(Settings):
    """Who is let in, and for how long."""

    anonymous: Literal["viewer", "none"] | None = None
    """What callers without credentials may: read everything, or nothing. Unset: `"viewer"` where `listen` is
    loopback, else `"none"`."""
    session: LastingDuration = timedelta(minutes=15)
    """How long the token of a session is good."""
    refresh: LastingDuration = timedelta(hours=12)
    """How long a session can be renewed, from the login on."""
    idle: LastingDuration = timedelta(minutes=30)
    """Time without a request after which a session ends."""
    sessions_max: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Sessions open at once; one more ends the one that was quiet longest."""
    user_sessions_max: Annotated[int, Field(ge=1, le=1000)] = 10
    """The same for one user."""
    lock_after: Annotated[int, Field(ge=3, le=100)] = 5
    """Wrong passwords for one user name until each further one costs a pause, from 1 s on, twice as long each
    time. From one address four times as many."""
    lock_max: LastingDuration = timedelta(minutes=15)
    """Longest such pause. An hour without a wrong password ends them."""
    oidc: OidcSettings | None = None
    """An issuer of tokens, `[api.oidc]`."""

    @field_validator("refresh")
    @classmethod
    def _outlives_token(cls, refresh: timedelta, info: ValidationInfo) -> timedelta:
        session = info.data.get("session")
        if session is not None and refresh < session:
            raise refuse("refresh", "is shorter than session: a token is good for no longer than its session")
        return refresh
