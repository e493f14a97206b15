"""The trust list as people see it: who is trusted, who waits to be, and moving them from one to the other.

The files and folders are those of `pki`; a person may as well move them by hand. Blocks on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from connectors.opcua.pki import CERTIFICATE_ENDINGS, Pki, application_uri, common_name, load_certificates

#: Letters of a thumbprint that are enough where only one certificate begins so.
THUMBPRINT_MIN = 6
_PLACES = {"rejected": "rejected/certs", "trusted": "trusted/certs", "issuer": "issuer/certs"}


class NoSuchCertificate(LookupError):
    """Nothing, or more than one thing, goes by that name; the message says so."""


@dataclass(frozen=True)
class Entry:
    """One certificate in one of the folders. Times are UTC; thumbprints are hexadecimal."""

    place: str
    """`trusted`, `rejected`, or `issuer` (completes chains, is not trusted itself)."""
    file: Path
    name: str
    subject: str
    issuer: str
    application_uri: str
    thumbprint: str
    """SHA-1 of the DER form, as OPC UA tools show it."""
    sha256: str
    valid_from: datetime
    valid_until: datetime
    reason: str
    """What stands against it, or would once it is approved; empty when nothing does."""


def entries(pki: Pki, now: datetime) -> list[Entry]:
    """Every certificate in the folders: those that wait for a person first."""
    found: list[Entry] = []
    for place, folder in _PLACES.items():
        path = pki.root / folder
        if not path.is_dir():
            continue
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in CERTIFICATE_ENDINGS:
                found.extend(_entry(place, file, one, now) for one in load_certificates(file))
    return found


def find(pki: Pki, which: str, now: datetime) -> Entry:
    """The certificate that a person means: by the beginning of a thumbprint, or by its file name.

    Raises:
        NoSuchCertificate: there is none, or more than one.
    """
    wanted = which.replace(":", "").replace(" ", "").upper()
    known = entries(pki, now)
    chosen = [
        one
        for one in known
        if one.file.name == which
        or (
            len(wanted) >= THUMBPRINT_MIN
            and (one.thumbprint.startswith(wanted) or one.sha256.startswith(wanted))
        )
    ]
    if len({(one.place, one.sha256) for one in chosen}) == 1:
        return chosen[0]
    if chosen:
        raise NoSuchCertificate(f'"{which}" fits {len(chosen)} certificates; write more of the thumbprint')
    raise NoSuchCertificate(f'no certificate has the thumbprint or file name "{which}"')


def approve(pki: Pki, entry: Entry) -> Path:
    """Trust a rejected certificate from now on; where its file is now."""
    target = pki.root / _PLACES["trusted"] / entry.file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    return entry.file.replace(target)


def reject(pki: Pki, entry: Entry) -> Path | None:
    """Remove a certificate that waits; put one that is trusted back to those that wait, and say where."""
    if entry.place == "rejected":
        entry.file.unlink(missing_ok=True)
        return None
    target = pki.root / _PLACES["rejected"] / entry.file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    return entry.file.replace(target)


def _entry(place: str, file: Path, certificate: x509.Certificate, now: datetime) -> Entry:
    organisations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    subject = common_name(certificate.subject)
    if organisations:
        subject += f", {_printable(str(organisations[0].value))}"
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    reason = "not approved yet" if place == "rejected" else ""
    if now > last:
        reason = f"expired on {last:%Y-%m-%d}"
    elif now < first:
        reason = f"valid only from {first:%Y-%m-%d}; compare the clocks"
    return Entry(
        place,
        file,
        common_name(certificate.subject),
        subject,
        common_name(certificate.issuer),
        _printable(application_uri(certificate)),
        certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 - the standard's thumbprint
        certificate.fingerprint(hashes.SHA256()).hex().upper(),
        first,
        last,
        reason,
    )


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())[:200]
