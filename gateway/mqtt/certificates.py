"""Certificates of a connection: whether our files are new, and how long ours and the broker's are good for.

Files are looked at off the event loop. What cannot be used is told and changes nothing: a connection that
stands is worth more than one with newer papers. Says nothing to a broker.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, NoReturn

import structlog
from cryptography import x509

from connectors.base import Clock
from gateway.errors import SinkRefused
from gateway.mqtt.link import Link
from gateway.mqtt.options import Files, LinkOptions, files_of, tls_context
from gateway.mqtt.reasons import Renewed

#: Time between two looks at the files, in seconds.
CHECK_S = 30.0

#: How reading a certificate fails: a version that there is not is no ValueError.
UNREADABLE = (ValueError, x509.InvalidVersion)

#: So many days before a certificate ends people are told, each time once; 0 is when it has ended.
WARN_DAYS = (30, 7, 1, 0)

log = structlog.get_logger(__name__)


class Look(NamedTuple):
    """One look at the certificate files."""

    files: Files
    until: datetime | None
    """When our certificate ends; None when there is none, or it cannot be read."""
    problem: str
    """Why they are of no use; empty when they are."""


class CertificateWatch:
    """The certificates of one broker, over all its connections. Whoever owns the link runs `watch` beside it.

    `problem` says why new files are of no use; empty while all is well.
    """

    def __init__(self, options: LinkOptions, clock: Clock, *, check_s: float = CHECK_S) -> None:
        self._options, self._clock, self._check_s = options, clock, check_s
        self.problem = ""
        self.own_until: datetime | None = None
        """When our certificate ends, as far as is known."""
        self.broker_until: datetime | None = None
        """When the one the broker showed ends."""
        self._warned: dict[str, tuple[datetime, int]] = {}

    @property
    def own_days_left(self) -> float | None:
        """Days until our certificate ends; negative when it has. None without one."""
        return _days(self.own_until, self._clock.now())

    @property
    def broker_days_left(self) -> float | None:
        """Days until the broker's certificate ends; None while none has been seen."""
        return _days(self.broker_until, self._clock.now())

    def warnings(self) -> tuple[str, ...]:
        """What people should know now: files of no use, certificates that end within 30 days."""
        told = [self.problem] if self.problem else []
        for whose, days in (("our", self.own_days_left), ("the broker's", self.broker_days_left)):
            if days is not None and days <= WARN_DAYS[0]:
                told.append(_ends(whose, days, self._options.address))
        return tuple(told)

    async def watch(self, link: Link) -> NoReturn:
        """Look on while a connection stands.

        Raises:
            Renewed: the files are not those it was made with, and load well: make a new one at once.
        """
        self.broker_until = until(link.peer_certificate) if link.peer_certificate else None
        await self.changed(link.files)
        raise Renewed(f"the certificate files for {self._options.address} are new")

    async def changed(self, since: Files) -> None:
        """Return when the files are other than `since` and load well. Without TLS: never."""
        if not self._options.tls:
            await asyncio.Event().wait()
        unusable: Files | None = None
        while True:
            look = await asyncio.to_thread(look_at, self._options, self._clock.now())
            if not look.problem:
                self.problem, self.own_until = "", look.until
                if look.files != since:
                    return
            elif look.files == unusable and self.problem != look.problem:
                # At the second look only: a renewal may have written the one file and not the other yet.
                self.problem = look.problem
                log.warning("certificate files are of no use", reason=look.problem, uses="those before them")
            unusable = look.files if look.problem else None
            self._warn()
            await self._clock.sleep(self._check_s)

    def _warn(self) -> None:
        now = self._clock.now()
        for whose, ends_at in (("our", self.own_until), ("the broker's", self.broker_until)):
            threshold = reached(_days(ends_at, now))
            if ends_at is None or threshold is None or self._warned.get(whose) == (ends_at, threshold):
                continue
            self._warned[whose] = (ends_at, threshold)
            log.warning(
                "certificate ends soon" if threshold else "certificate has ended",
                whose=whose,
                broker=self._options.address,
                ends_at=ends_at.isoformat(),
            )


def look_at(options: LinkOptions, now: datetime) -> Look:
    """Read the certificate files as a connection would. Blocks; no longer than a disk takes."""
    files = files_of(options)
    try:
        tls_context(options)
        own_until = _valid(options.cert_file, now) if options.cert_file else None
    except SinkRefused as refused:
        return Look(files, None, f"{refused.reason}; {refused.hint}")
    if files != files_of(options):  # they were written while we read
        return Look(files, None, "the certificate files change all the time")
    return Look(files, own_until, "")


def until(certificate: bytes) -> datetime | None:
    """When a certificate (DER, or the first of a PEM file) ends; None when it cannot be read."""
    try:
        if b"-----BEGIN" in certificate:
            return x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        return x509.load_der_x509_certificate(certificate).not_valid_after_utc
    except UNREADABLE:
        return None


def reached(days_left: float | None) -> int | None:
    """The lowest of `WARN_DAYS` that so many days are within; None when there is time, or nothing known."""
    return None if days_left is None else min((days for days in WARN_DAYS if days_left <= days), default=None)


def _valid(cert_file: str, now: datetime) -> datetime | None:
    try:
        ours = x509.load_pem_x509_certificate(Path(cert_file).read_bytes())
    except (OSError, *UNREADABLE):
        return None  # it loads for TLS, and that is what counts
    if ours.not_valid_after_utc < now:
        raise SinkRefused(
            f'the certificate in "{cert_file}" ended on {ours.not_valid_after_utc:%Y-%m-%d}', hint="renew it"
        )
    if ours.not_valid_before_utc > now:
        begins = ours.not_valid_before_utc.astimezone(UTC)
        raise SinkRefused(
            f'the certificate in "{cert_file}" begins on {begins:%Y-%m-%d %H:%M} UTC',
            hint="check the clock of this machine, and of whoever signed it",
        )
    return ours.not_valid_after_utc


def _days(ends_at: datetime | None, now: datetime) -> float | None:
    return None if ends_at is None else (ends_at - now) / timedelta(days=1)


def _ends(whose: str, days: float, broker: str) -> str:
    if days <= 0:
        return f"{whose} certificate for {broker} has ended"
    return f"{whose} certificate for {broker} ends in {days:.1f} days"
