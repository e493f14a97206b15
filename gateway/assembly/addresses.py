"""Where a running gateway can be reached."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Addresses:
    """Empty where a part is off."""

    api: str = ""
    broker: str = ""
    database: str = ""
    psql: str = ""


def without_secrets(url: str) -> str:
    """An address as it may be shown: a password in it is left out."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}@{parts.netloc.rpartition('@')[2]}").geturl()
