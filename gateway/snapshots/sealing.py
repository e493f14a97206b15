"""Encryption of what is kept: AES-256-GCM, one key, pieces that can be neither changed, dropped nor swapped.

A key is either 32 bytes written as 64 hexadecimal digits, or a passphrase that scrypt (RFC 7914) makes
slow to guess. Each file has a salt and a nonce of its own. Knows no file: it turns bytes into bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.snapshots.failures import KeyRefused

_RAW: Final = re.compile(r"[0-9A-Fa-f]{64}")
_SCRYPT_N: Final = 2**15
_SCRYPT_R: Final = 8
_SCRYPT_BYTES_MAX: Final = 128 * 1024 * 1024
_PREFIX_BYTES: Final = 7
_PIECES_MAX: Final = 2**32 - 1
PASSPHRASE_CHARS_MIN: Final = 12
TAG_BYTES: Final = 16


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a file is encrypted; stands in the clear in its header. `salt` is empty with a key of 32 bytes."""

    salt: str
    prefix: str
    cipher: str = "aes-256-gcm"


def new_seal(secret: str) -> Seal:
    """The seal of a new file under this key.

    Raises:
        KeyRefused: the passphrase is too short to protect anything.
    """
    if not _RAW.fullmatch(secret) and len(secret) < PASSPHRASE_CHARS_MIN:
        raise KeyRefused(
            f"the key is a passphrase of {len(secret)} characters",
            hint=f"use at least {PASSPHRASE_CHARS_MIN}, or 64 hexadecimal digits: openssl rand -hex 32",
        )
    salt = "" if _RAW.fullmatch(secret) else os.urandom(16).hex()
    return Seal(salt, os.urandom(_PREFIX_BYTES).hex())


class Sealer:
    """Encrypts or decrypts the pieces of one file, in order. `bound` is what the seal stands for: its header.

    Every piece carries its number and whether it is the last (the STREAM construction of Hoang, Reyhanitabar,
    Rogaway and Vizár), so a file that is cut at a piece is noticed too.
    """

    def __init__(self, secret: str, seal: Seal, bound: bytes) -> None:
        """Derive the key.

        Raises:
            KeyRefused: the seal is not one of ours.
        """
        try:
            salt, self._prefix = bytes.fromhex(seal.salt), bytes.fromhex(seal.prefix)
        except ValueError as error:
            raise KeyRefused(
                "the header says how it is encrypted in a way that is not known", hint="use another one"
            ) from error
        if seal.cipher != "aes-256-gcm" or len(self._prefix) != _PREFIX_BYTES:
            raise KeyRefused(
                f'it is encrypted with "{seal.cipher}", which this version does not know',
                hint="use the version of the gateway that wrote it",
            )
        self._aead = AESGCM(_key(secret, salt))
        self._bound = hashlib.sha256(bound).digest()
        self._number = 0

    def seal(self, piece: bytes, *, last: bool) -> bytes:
        """One piece encrypted, 16 bytes longer."""
        return self._aead.encrypt(self._nonce(last), piece, self._bound)

    def open(self, piece: bytes, *, last: bool) -> bytes:
        """The reverse of `seal`.

        Raises:
            KeyRefused: another key, or not the bytes that were written.
        """
        try:
            return self._aead.decrypt(self._nonce(last), piece, self._bound)
        except InvalidTag as error:
            raise KeyRefused(
                f"piece {self._number} cannot be decrypted: another key, or not what was written",
                hint="name the key it was made with",
            ) from error

    def _nonce(self, last: bool) -> bytes:
        number = self._number
        if number >= _PIECES_MAX:
            raise KeyRefused("it is too long for one key", hint="keep less in it")
        self._number = number + 1
        return self._prefix + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


def _key(secret: str, salt: bytes) -> bytes:
    if _RAW.fullmatch(secret):
        return bytes.fromhex(secret)
    return hashlib.scrypt(
        secret.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=1, maxmem=_SCRYPT_BYTES_MAX, dklen=32
    )
