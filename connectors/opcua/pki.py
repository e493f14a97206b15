"""Certificates on disk: our own, those we trust, those we turned away.

The folders are those of OPC 10000-12 annex F, under `opcua/` in the data directory:

    own/certs/andon.der        our certificate, made once; give it to servers
    own/private/andon.pem      its key, readable by the owner only
    trusted/certs, trusted/crl servers (or their issuers) that people have approved, and revocations
    issuer/certs, issuer/crl   certificates that complete a chain but are not trusted themselves
    rejected/certs             servers nobody has approved yet (`andon trust approve` moves them)

Everything here blocks on the disk (and making a key on the processor); call it from a thread.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import os
import re
import socket
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.errors import DeviceRefused

VALID_FOR = timedelta(days=5 * 365)
KEY_BITS = 2048
#: Names a hostile server could fill the disk with are kept to this many files.
REJECTED_MAX = 64
#: A certificate is warned of from so many days before its end, and again at the shorter times.
EXPIRY_DAYS = (1, 7, 30)
CERTIFICATE_ENDINGS = (".der", ".cer", ".crt", ".pem")
_CHAIN_MAX = 8
_FOLDERS = ("own/certs", "trusted/certs", "trusted/crl", "issuer/certs", "issuer/crl", "rejected/certs")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

#: Connections of one process share one certificate, and start together.
_making = threading.Lock()


@dataclass(frozen=True)
class Identity:
    """Who we are to servers. `key` is the private key in DER and stays out of every output."""

    application_uri: str
    certificate: bytes
    key: bytes
    path: Path
    not_after: datetime

    @property
    def thumbprint(self) -> str:
        """SHA-1 of the certificate, as OPC UA tools show it."""
        return hashlib.sha1(self.certificate, usedforsecurity=False).hexdigest().upper()

    def __repr__(self) -> str:
        return f"Identity({self.application_uri!r}, path={str(self.path)!r})"


def host_uri() -> str:
    """Application URI of a gateway on this machine, as long as it has no certificate that says another."""
    return f"urn:{socket.gethostname()}:andon:gateway"


class Pki:
    """The certificate folders below `data_dir/opcua`."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "opcua"

    def identity(self, now: datetime) -> Identity:
        """Our certificate and key, made on first use and the same ever after.

        Raises:
            DeviceRefused: the files are there but cannot be used, or the folder cannot be written.
        """
        certificate_path, key_path = self.root / "own/certs/andon.der", self.root / "own/private/andon.pem"
        with _making:
            try:
                if not certificate_path.exists() or not key_path.exists():
                    self._make(certificate_path, key_path, now)
                certificate = x509.load_der_x509_certificate(certificate_path.read_bytes())
                key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
                uri = _uris(certificate)[0]
            except (OSError, ValueError, TypeError, LookupError) as error:
                raise DeviceRefused(
                    f"this gateway's own certificate cannot be used: {error}",
                    hint=f"check {certificate_path} and {key_path}; remove both to have new ones made",
                ) from error
        return Identity(
            uri,
            certificate.public_bytes(serialization.Encoding.DER),
            key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            certificate_path,
            certificate.not_valid_after_utc,
        )

    def _make(self, certificate_path: Path, key_path: Path, now: datetime) -> None:
        self._make_folders()
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        certificate = _self_signed(key, host_uri(), now)
        _write(
            key_path,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            0o600,
        )
        _write(certificate_path, certificate.public_bytes(serialization.Encoding.DER), 0o644)

    def _make_folders(self) -> None:
        for folder in _FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "own/private").mkdir(parents=True, exist_ok=True, mode=0o700)

    def check_server(self, blob: bytes, host: str, now: datetime) -> bytes:
        """Decide whether to talk to the server with this certificate (or chain, its own one first).

        A certificate in trusted/certs is trusted as it stands: a person has looked at it. One that is only
        signed by a trusted issuer must also name the host we meant, or any device of that issuer could
        stand in for another. Returns the server's own certificate in DER.

        Raises:
            DeviceRefused: with the reason, and the file to move where a person has to decide.
        """
        try:
            chain = _split(blob)
        except ValueError as error:
            raise DeviceRefused(f"the server's certificate cannot be read: {error}") from error
        if not chain:
            raise DeviceRefused(
                "the server shows no certificate", hint="it cannot do the configured security"
            )
        server = chain[0]
        trusted = _load(self.root / "trusted/certs")
        path = _path_to_trust(server, trusted, [*_load(self.root / "issuer/certs"), *chain[1:]])
        if path is None:
            raise self._untrusted(server)
        for certificate in path:
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
                raise DeviceRefused(
                    f'the certificate "{_name(certificate)}" is valid {first:%Y-%m-%d} to {last:%Y-%m-%d}',
                    hint="renew it on the server, or set the clocks",
                )
        self._refuse_revoked(path)
        if len(path) > 1 and not _names_host(server, host):
            raise DeviceRefused(
                f'the server\'s certificate "{_name(server)}" is not for the host {host}',
                hint="use the host name in the certificate, or put this very certificate into trusted/certs",
            )
        return server.public_bytes(serialization.Encoding.DER)

    def _untrusted(self, server: x509.Certificate) -> DeviceRefused:
        thumbprint = server.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - the standard's file naming
        folder = self.root / "rejected/certs"
        file = folder / f"{_UNSAFE.sub('_', _name(server))[:60]} [{thumbprint}].der"
        try:
            self._make_folders()
            if not file.exists():
                kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
                for old in kept[: max(0, len(kept) - REJECTED_MAX + 1)]:
                    old.unlink()
                _write(file, server.public_bytes(serialization.Encoding.DER), 0o644)
        except OSError as error:
            return DeviceRefused(
                f"the server's certificate is not trusted, and it cannot be put aside: {error}",
                hint=f"make {folder} writable",
            )
        return DeviceRefused(
            f'the server\'s certificate "{_name(server)}" is not trusted yet (SHA-1 thumbprint {thumbprint})',
            hint="compare the thumbprint with the server, then say: andon trust approve CONFIG "
            f"{thumbprint[:12]} (it moves {file} to {self.root / 'trusted/certs'})",
        )

    def _refuse_revoked(self, path: Sequence[x509.Certificate]) -> None:
        lists = [*_load_lists(self.root / "trusted/crl"), *_load_lists(self.root / "issuer/crl")]
        for certificate, issuer in itertools.pairwise(path):
            key = issuer.public_key()
            for revoked in lists:
                if (
                    revoked.issuer == certificate.issuer
                    and isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | dsa.DSAPublicKey)
                    and revoked.is_signature_valid(key)
                    and revoked.get_revoked_certificate_by_serial_number(certificate.serial_number)
                    is not None
                ):
                    raise DeviceRefused(
                        f'the certificate "{_name(certificate)}" has been revoked by its issuer',
                        hint="have a new one issued for the server",
                    )


def _self_signed(key: rsa.RSAPrivateKey, uri: str, now: datetime) -> x509.Certificate:
    """An application instance certificate after OPC 10000-6 section 6.2.2."""
    host = socket.gethostname()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"Andon gateway {host}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Andon"),
        ]
    )
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # A server whose clock is a little behind must not find it from the future.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID_FOR)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName(host)]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Put a file in place whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _split(blob: bytes) -> list[x509.Certificate]:
    """The certificates of a chain, which the protocol sends as DER after DER."""
    chain: list[x509.Certificate] = []
    while blob and len(chain) < _CHAIN_MAX:
        if len(blob) < 4 or blob[0] != 0x30:
            raise ValueError("it is no DER certificate")
        width = blob[1] & 0x7F if blob[1] & 0x80 else 0
        length = 2 + width + (int.from_bytes(blob[2 : 2 + width], "big") if width else blob[1])
        chain.append(x509.load_der_x509_certificate(blob[:length]))
        blob = blob[length:]
    return chain


def load_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a file, in PEM or DER; none where it holds something else."""
    data = path.read_bytes()
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError:
        # Not a certificate: it can approve nobody, and must not keep the others from doing so.
        return []


def _load(folder: Path) -> list[x509.Certificate]:
    return [one for path in _files(folder, CERTIFICATE_ENDINGS) for one in load_certificates(path)]


def _load_lists(folder: Path) -> list[x509.CertificateRevocationList]:
    found: list[x509.CertificateRevocationList] = []
    for path in _files(folder, (".crl", ".der", ".pem")):
        data = path.read_bytes()
        try:
            load = x509.load_pem_x509_crl if b"-----BEGIN" in data else x509.load_der_x509_crl
            found.append(load(data))
        except ValueError as error:
            raise DeviceRefused(f"the revocation list {path} cannot be read: {error}") from error
    return found


def _files(folder: Path, endings: tuple[str, ...]) -> Iterable[Path]:
    return (
        sorted(path for path in folder.glob("*") if path.suffix.lower() in endings) if folder.is_dir() else ()
    )


def _path_to_trust(
    server: x509.Certificate, trusted: Sequence[x509.Certificate], helpers: Sequence[x509.Certificate]
) -> list[x509.Certificate] | None:
    """From the server's certificate to a trusted one, each signed by the next, if there is such a way."""
    path = [server]
    while path[-1] not in trusted:
        if len(path) == _CHAIN_MAX:
            return None
        issuer = next(
            (
                one
                for one in [*trusted, *helpers]
                if one not in path and _is_authority(one) and _signed(path[-1], one)
            ),
            None,
        )
        if issuer is None:
            return None
        path.append(issuer)
    return path


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _uris(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _names_host(certificate: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        return host.lower() in (name.lower() for name in names.get_values_for_type(x509.DNSName))


def application_uri(certificate: x509.Certificate) -> str:
    """The application a certificate stands for; empty when it does not say."""
    try:
        return _uris(certificate)[0]
    except (x509.ExtensionNotFound, ValueError, IndexError):
        return ""


def expiry_warning(what: str, until: datetime, now: datetime) -> str:
    """A sentence on a certificate that ends soon or has ended; another one each time it gets more urgent."""
    left = until - now
    if left <= timedelta(0):
        return f"{what} expired on {until:%Y-%m-%d}"
    for days in EXPIRY_DAYS:
        if left <= timedelta(days=days):
            return f"{what} expires on {until:%Y-%m-%d}, in less than {days} {'day' if days == 1 else 'days'}"
    return ""


def _name(certificate: x509.Certificate) -> str:
    return common_name(certificate.subject)


def common_name(subject: x509.Name) -> str:
    """Common name for people; control characters a stranger may have put there are taken out."""
    found = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(found[0].value) if found else subject.rfc4514_string()
    return "".join(char for char in name if char.isprintable())[:100] or "unnamed"
