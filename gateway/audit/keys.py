"""The key that signs the heads of the audit trail: made once, kept for us alone, its public half told to all.

Who has the private half can sign a trail of his own making; see docs/audit.md for what then still holds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.journal.files import write_whole

#: Name of the key's file in the folder of the trail.
KEY: Final = "key"


class KeyUnusable(Exception):
    """The key cannot be read or is none; the message is for people."""


class SigningKey:
    """The private half."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw().hex()

    def sign(self, data: bytes) -> str:
        """The signature over bytes, in hexadecimal."""
        return self._key.sign(data).hex()


def make_key(directory: Path) -> SigningKey:
    """Make a key and keep it in the folder, readable by us alone.

    Raises:
        OSError: it cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    write_whole(directory / KEY, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return SigningKey(key)


def load_key(directory: Path) -> SigningKey:
    """The key of a folder.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        KeyUnusable: others may read it, or it is no such key.
    """
    path = directory / KEY
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(fd, "rb") as file:
        if os.fstat(fd).st_mode & 0o077:
            raise KeyUnusable(f"others may read the key {path}; take the right from them: chmod 600")
        pem = file.read(4096)
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"{path} is no key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} is no Ed25519 key")
    return SigningKey(key)


def is_signed(data: bytes, signature: str, public: str) -> bool:
    """Whether a signature over bytes was made with the key of this public half."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):
        return False
    return True
