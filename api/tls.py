"""The certificate the API shows, and how it is exchanged while connections are served.

New connections get what the files hold now; those that stand keep what they began with. A pair of files that
does not fit is not taken, and said, and the old one stays. Reads files; awaits nothing.
"""

from __future__ import annotations

import os
import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

#: Remaining time at which people are told, the nearest last.
WARN_AT = (timedelta(days=30), timedelta(days=7), timedelta(days=1))


class CertificateUnusable(Exception):
    """The files cannot be used; `reason` says which and why, for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Certificate:
    """A certificate with its key, in files that may change."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """Read both.

        Raises:
            CertificateUnusable: they cannot be read, or do not fit each other.
        """
        self._cert_file = cert_file
        self._key_file = key_file
        self._seen = self._stamp()
        self._trouble: str | None = None
        self._expires_at = _judged(cert_file, key_file)
        self._context = _context(cert_file, key_file)

    @property
    def context(self) -> ssl.SSLContext:
        """What a server listens with; stays the same object."""
        return self._context

    @property
    def expires_at(self) -> datetime:
        """When the certificate in use ends."""
        return self._expires_at

    def refresh(self) -> bool:
        """Look at the files, and take them when they have changed and fit. Whether they were taken."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            expires_at = _judged(self._cert_file, self._key_file)
            self._context.load_cert_chain(self._cert_file, self._key_file, password=_no_password)
        except (OSError, ValueError) as error:
            self._trouble = (
                f"the new certificate is not used: {_words(error, self._cert_file, self._key_file)}"
            )
            return False
        except CertificateUnusable as error:
            self._trouble = f"the new certificate is not used: {error.reason}"
            return False
        self._trouble = None
        self._expires_at = expires_at
        return True

    def trouble(self, now: datetime) -> str | None:
        """What people should do something about, or None."""
        left = self._expires_at - now
        if left <= timedelta(0):
            return f"the certificate of the API has expired on {self._expires_at:%Y-%m-%d}"
        if self._trouble is not None:
            return self._trouble
        if left <= WARN_AT[0]:
            step = min(step for step in WARN_AT if left <= step)
            when = f"{self._expires_at:%Y-%m-%d}"
            return f"the certificate of the API expires within {_days(step)}, on {when}"
        return None

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        found: list[tuple[int, int, int] | None] = []
        for path in (self._cert_file, self._key_file):
            try:
                state = os.stat(path)  # noqa: PTH116 - follows the links that renewals exchange
                found.append((state.st_mtime_ns, state.st_ino, state.st_size))
            except OSError:
                found.append(None)
        return tuple(found)


def _context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except (OSError, ValueError) as error:
        raise CertificateUnusable(_words(error, cert_file, key_file)) from error
    return context


def _judged(cert_file: Path, key_file: Path) -> datetime:
    """When the certificate ends, if the two files make a pair."""
    _context(cert_file, key_file)
    try:
        return x509.load_pem_x509_certificate(cert_file.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise CertificateUnusable(_words(error, cert_file, key_file)) from error


def _no_password() -> bytes:
    """Nobody is asked at a terminal; a key that needs one is not used."""
    raise ValueError("the key is encrypted")


def _words(error: Exception, cert_file: Path, key_file: Path) -> str:
    names = f"{cert_file.name} and {key_file.name}"
    if isinstance(error, ssl.SSLError):
        why = (
            "do not belong together" if "MISMATCH" in str(error.reason) else "are no PEM certificate and key"
        )
        return f"{names} {why}"
    if isinstance(error, OSError):
        return f"{names}: {error.strerror or error}"
    return f"{names}: {str(error)[:200]}"


def _days(step: timedelta) -> str:
    return "1 day" if step.days == 1 else f"{step.days} days"
