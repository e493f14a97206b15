"""Which passwords are taken: length decides, and what is tried first is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.passwords import LENGTH_MIN, WEAK_WORDS, normal, weakness

WEAK = [
    *(
        "password1234",
        "Passw0rd1234!",
        "P@ssw0rd-2026",
        "administrator",
        "admin-operator-99",
        "changeme2026!!",
    ),
    *("letmeinletmein", "qwertyuiop12", "1q2w3e4r5t6y7", "123456789012", "abcdefghijkl", "welcome-to-andon1"),
    *(
        "aaaaaaaaaaaaaa",
        "abcabcabcabcabc",
        "asdfghjklasdf",
        "iloveyou2026!!",
        "zxcvbnmzxcvbnm",
        "siemens-plc-01",
    ),
    *("0987654321098765", "passwortpasswort", "geheim!geheim!2"),
]
STRONG = [
    *(
        "correct horse battery",
        "seven lame turtles",
        "Kd8#mvQ2!zrTx",
        "übergroße Wolke am See",
        "fräsmaschine Nebel 7",
    ),
    *("the cat sat upon my hat", "83920174650192837465", "my-password-is-a-poem-about-rain"),
]


@pytest.mark.parametrize("password", WEAK)
def test_what_is_tried_first_is_refused(password: str) -> None:
    reason = weakness(password, "ada")

    assert reason is not None
    assert password.casefold() not in reason.casefold()


@pytest.mark.parametrize("password", STRONG)
def test_what_nobody_tries_first_is_taken(password: str) -> None:
    assert weakness(password, "ada") is None


@pytest.mark.parametrize("password", ["grace.hopper", "gracehopper12", "reppohecarg!!", "Grace Hopper 1"])
def test_the_name_is_no_password(password: str) -> None:
    assert weakness(password, "grace.hopper") is not None
    assert weakness("a long ladder by the shed", "grace.hopper") is None


def test_length_is_counted_in_characters() -> None:
    assert weakness("Kd8#mvQ2!zr", "ada") == "it has 11 characters, and must have 12 or more"
    assert weakness("x" * 300, "ada") is not None
    assert weakness("kd8#mvq2!zr\x07x", "ada") is not None


@given(
    st.lists(st.sampled_from(WEAK_WORDS), min_size=1, max_size=4),
    st.text(alphabet="0123456789!.-_ ", max_size=6),
)
def test_weak_words_joined_stay_weak(words: list[str], tail: str) -> None:
    assert weakness("".join(words) + tail, "ada") is not None


@given(st.text(max_size=LENGTH_MIN - 1))
def test_nothing_short_is_taken(password: str) -> None:
    assert len(normal(password)) >= LENGTH_MIN or weakness(password, "ada") is not None


def test_every_keyboard_writes_the_same_password() -> None:
    assert normal("u\u0308ber") == normal("\u00fcber")
