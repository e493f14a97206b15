"""An authority made for a test run, a certificate for the device and one for the gateway."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files. `stranger` is an authority that signed nothing here."""

    folder: Path

    def server(self, *, wants_client: bool = False) -> ssl.SSLContext:
        """What the device uses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "device.pem", self.folder / "device.key")
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.folder / "ca.pem")
        return context

    def settings(self, **more: str | bool) -> dict[str, str | bool]:
        """What stands in the configuration."""
        return {
            "ca": str(self.folder / "ca.pem"),
            "certificate": str(self.folder / "andon.pem"),
            "key": str(self.folder / "andon.key"),
            **more,
        }


def make_certificates(folder: Path) -> Certificates:
    """Fresh keys and certificates, good for a day."""
    authority, authority_key = _certificate(folder, "ca", None, None)
    _certificate(folder, "stranger", None, None)
    _certificate(folder, "device", authority, authority_key)
    _certificate(folder, "andon", authority, authority_key)
    return Certificates(folder)


def _certificate(
    folder: Path,
    name: str,
    authority: x509.Certificate | None,
    authority_key: ec.EllipticCurvePrivateKey | None,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    if authority is not None:
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("plc.test")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority_key or key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, key
