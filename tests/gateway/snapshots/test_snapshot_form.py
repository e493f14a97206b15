"""A snapshot is taken whole or refused: every prefix, every flipped bit, other keys, other forms."""

from __future__ import annotations

import random

import msgspec
import pytest

from gateway.errors import GatewayError
from gateway.snapshots.failures import FileRefused, KeyRefused
from gateway.snapshots.form import MAGIC, pack, read_header, unpack
from tests.gateway.snapshots.builders import content, header

HEADER = header("20261121T080000.000Z-full")
CONTENT = content({"filler-1": 6, "oven-1": 4})
RAW_KEY = "a1" * 32


@pytest.mark.parametrize("secret", [None, RAW_KEY, "correct horse battery"])
def test_what_comes_out_is_what_went_in(secret: str | None) -> None:
    data = pack(HEADER, CONTENT, secret)

    told, found = unpack(data, "x", secret)

    assert found == CONTENT
    assert told == msgspec.structs.replace(
        HEADER, body_bytes=told.body_bytes, packed_bytes=told.packed_bytes, seal=told.seal
    )
    assert (told.seal is not None) is (secret is not None)
    assert (b"filler-1" in data) is False, "compressed or encrypted"


def test_the_header_is_read_without_the_rest_and_without_a_key() -> None:
    data = pack(HEADER, CONTENT, RAW_KEY)
    told, begin = read_header(data, "x")
    assert (told.seq, told.batch, told.kind) == (5, 7, "full")
    assert read_header(data[:begin], "x")[0] == told


@pytest.mark.parametrize("secret", [None, RAW_KEY])
def test_every_prefix_is_refused_with_place_and_reason(secret: str | None) -> None:
    data = pack(HEADER, CONTENT, secret)
    for length in range(len(data)):
        with pytest.raises(FileRefused) as refused:
            unpack(data[:length], "the-file", secret)
        assert "the-file" in refused.value.reason
        assert refused.value.hint


@pytest.mark.parametrize("secret", [None, RAW_KEY])
def test_every_flipped_bit_is_refused(secret: str | None) -> None:
    data = pack(HEADER, CONTENT, secret)
    dice = random.Random(22)
    for _ in range(2_000):
        place = dice.randrange(len(data))
        flipped = bytearray(data)
        flipped[place] ^= 1 << dice.randrange(8)
        with pytest.raises(GatewayError) as refused:
            unpack(bytes(flipped), "the-file", secret)
        assert "the-file" in refused.value.reason


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(FileRefused, match="were written"):
        unpack(pack(HEADER, CONTENT) + b"\x00", "x")


@pytest.mark.parametrize("wrong", ["b2" * 32, "another passphrase", None, ""])
def test_another_key_or_none_is_refused(wrong: str | None) -> None:
    with pytest.raises(KeyRefused):
        unpack(pack(HEADER, CONTENT, RAW_KEY), "x", wrong)


def test_a_header_put_before_another_body_does_not_open_with_the_key() -> None:
    """The body is bound to its header, so that an old state cannot be passed off as a new one."""
    one = pack(HEADER, CONTENT, RAW_KEY)
    other = one.replace(b'"seq":5', b'"seq":9')
    with pytest.raises(GatewayError):
        unpack(other, "x", RAW_KEY)


def test_a_passphrase_of_a_few_letters_is_refused() -> None:
    with pytest.raises(KeyRefused, match="6 characters"):
        pack(HEADER, CONTENT, "secret")


def test_another_form_says_what_to_do() -> None:
    data = pack(HEADER, CONTENT)
    with pytest.raises(FileRefused, match="form 9") as refused:
        unpack(MAGIC[:-1] + b"\x09" + data[len(MAGIC) :], "x")
    assert "version" in refused.value.hint
