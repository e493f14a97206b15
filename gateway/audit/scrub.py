"""Secrets taken out of what is written down: those the configuration resolved, and what looks like a token.

People type passwords where names belong, and errors quote what they were given. So every text of an entry
goes through here, whoever told it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

import msgspec

from api.auditing import AuditEntry, Scalar

#: What stands where a secret stood.
HIDDEN: Final = "***"
#: A secret shorter than this is hidden only where it is the whole text: it would be found everywhere.
_WITHIN_CHARS_MIN: Final = 5
#: Session tokens and keys of this gateway, JWTs (three parts of base64url), keys in PEM.
_LOOKS_SECRET: Final = re.compile(
    r"\b(?:a[a-z]_[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
#: A password in an address: scheme://user:password@host.
_IN_ADDRESS: Final = re.compile(
    r"(?P<before>[a-z0-9+.-]+://[^/@\s:]*:)(?P<secret>[^/\s]+)(?=@)", re.IGNORECASE
)


class Scrubber:
    """Takes the given secrets out of texts."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {one for one in secrets if one} | {unquote(one) for one in secrets if one}
        self._whole = frozenset(known)
        within = sorted((one for one in known if len(one) >= _WITHIN_CHARS_MIN), key=len, reverse=True)
        self._within = re.compile("|".join(map(re.escape, within))) if within else None

    def text(self, text: str) -> str:
        """A text without secrets."""
        if text in self._whole:
            return HIDDEN
        if self._within is not None:
            text = self._within.sub(HIDDEN, text)
        text = _IN_ADDRESS.sub(rf"\g<before>{HIDDEN}", text)
        return _LOOKS_SECRET.sub(HIDDEN, text)

    def entry(self, entry: AuditEntry) -> AuditEntry:
        """An entry without secrets in any of its texts."""
        told = {
            name: self.text(value) if isinstance(value, str) else value
            for name in entry.__struct_fields__
            if name != "detail"
            for value in (getattr(entry, name),)
        }
        detail: dict[str, Scalar] = {
            self.text(str(name)): self.text(value) if isinstance(value, str) else value
            for name, value in entry.detail.items()
        }
        return msgspec.structs.replace(entry, **told, detail=detail)


def password_in(address: str) -> str | None:
    """The password in an address such as a dsn, None without one."""
    found = _IN_ADDRESS.search(address)
    return None if found is None else found["secret"]
