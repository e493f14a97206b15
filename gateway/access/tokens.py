"""The secrets that are handed out: how they look, how they are made, and what is kept of them.

The beginning says what one is, so that a person who finds it in a log or a repository knows what to revoke.
Each has 256 random bits, which nobody guesses; that is why their SHA-256 is kept and no costly hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

#: Token of a session, its refresh token, a key, the local key.
SESSION, REFRESH, KEY, LOCAL = "as_", "ar_", "ak_", "al_"
#: Longest credential looked at; JWTs of issuers that put everything into them have some kilobytes.
CHARS_MAX = 8192
_BYTES = 32
_KEY = re.compile(r"ak_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


class Minted(NamedTuple):
    """A key just made: its id, and the text that is told once."""

    id: str
    secret: str


def new_token(beginning: str) -> str:
    """A new secret."""
    return beginning + secrets.token_urlsafe(_BYTES)


def new_id() -> str:
    """A name for a session or key that is no secret and never comes twice."""
    return secrets.token_hex(6)


def new_key() -> Minted:
    """A new key: `ak_ID_SECRET`."""
    id_ = new_id()
    return Minted(id_, f"{KEY}{id_}_{secrets.token_urlsafe(_BYTES)}")


def new_password() -> str:
    """A first password, for one login: 24 characters that can be read out."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    parts = ("".join(secrets.choice(alphabet) for _ in range(6)) for _ in range(4))
    return "-".join(parts)


def key_id(token: str) -> str | None:
    """The id in a key; None when it is not built like one."""
    match = _KEY.fullmatch(token)
    return match[1] if match else None


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def same(token: str, kept_hex: str) -> bool:
    """Whether a token is the one of which this is kept, in a time that does not depend on how alike they
    are."""
    return hmac.compare_digest(digest(token).hex(), kept_hex)
