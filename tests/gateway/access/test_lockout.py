"""Pauses after wrong passwords: enough to stop guessing, not enough to keep the right ones out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.limits import network
from gateway.access.lockout import FORGET_S, Lockout, Paused

HOME, AWAY = "192.0.2.7", "198.51.100.9"


def guess(lockout: Lockout, name: str, peer: str, now_s: float, *, count: int) -> tuple[int, float]:
    """How many of so many guesses, each as soon as it is allowed, are made, and how long that takes."""
    made, began_s = 0, now_s
    while made < count:
        paused = lockout.attempt(name, peer, now_s)
        if paused is None:
            made += 1
        else:
            now_s += paused.wait_s
    return made, now_s - began_s


def guess_many(lockout: Lockout, peer: str, count: int) -> tuple[int, float]:
    """The same, each at another name."""
    now_s = 0.0
    for number in range(count):
        while (paused := lockout.attempt(f"user-{number}", peer, now_s)) is not None:
            now_s += paused.wait_s
    return count, now_s


def test_a_few_wrong_ones_cost_nothing_and_a_hundred_cost_a_day() -> None:
    lockout = Lockout(5, 900.0)

    assert guess(lockout, "ada", AWAY, 0.0, count=5) == (5, 0.0)
    assert guess(lockout, "ada", AWAY, 0.0, count=95)[1] > 20 * 3600


def test_guesses_at_once_gain_nothing() -> None:
    lockout = Lockout(5, 900.0)

    allowed = [lockout.attempt("ada", AWAY, 0.0) is None for _ in range(1000)]

    assert sum(allowed) == 5


def test_a_pause_is_told_once_and_says_how_long() -> None:
    lockout = Lockout(5, 900.0)
    for _ in range(5):
        assert lockout.attempt("ada", AWAY, 0.0) is None

    assert lockout.attempt("ada", AWAY, 0.0) == Paused(1, first=True)
    assert lockout.attempt("ada", AWAY, 0.5) == Paused(1, first=False)
    assert lockout.attempt("ada", AWAY, 1.0) is None
    assert lockout.attempt("ada", AWAY, 1.0) == Paused(2, first=True)


def test_one_place_that_tries_many_names_is_paused_too() -> None:
    lockout = Lockout(5, 900.0)

    allowed = [lockout.attempt(f"user-{number}", AWAY, 0.0) is None for number in range(100)]

    assert sum(allowed) == 20
    assert lockout.attempt("ada", HOME, 0.0) is None


def test_a_right_one_forgets_what_was_wrong() -> None:
    lockout = Lockout(5, 900.0)
    for _ in range(4):
        lockout.attempt("ada", HOME, 0.0)
    lockout.attempt("ada", HOME, 0.0)
    lockout.right("ada", HOME)

    assert guess(lockout, "ada", HOME, 0.0, count=5) == (5, 0.0)


def test_a_login_of_ones_own_does_not_buy_guesses_at_others() -> None:
    lockout = Lockout(5, 900.0)
    now_s = 0.0
    made = 0
    while now_s < 3600:
        if lockout.attempt(f"victim-{made}", AWAY, now_s) is None:
            made += 1
        if lockout.attempt("mallory", AWAY, now_s) is None:
            lockout.right("mallory", AWAY)
        now_s += 1.0

    assert made <= 20 + 14, "as many as without it"


def test_a_right_one_at_a_place_with_many_wrong_ones_leaves_no_pause() -> None:
    lockout = Lockout(5, 900.0)
    _, took_s = guess_many(lockout, AWAY, 25)
    while lockout.attempt("ada", AWAY, took_s) is not None:
        took_s += 1.0
    lockout.right("ada", AWAY)

    assert lockout.attempt("ada", AWAY, took_s) is None


def test_who_guesses_elsewhere_does_not_keep_a_person_out_at_home() -> None:
    lockout = Lockout(5, 900.0)
    lockout.attempt("ada", HOME, 0.0)
    lockout.right("ada", HOME)
    for number in range(400):
        lockout.attempt("ada", f"203.0.113.{number % 250}", 1.0)

    assert lockout.attempt("ada", AWAY, 1.0) is not None
    assert lockout.attempt("ada", HOME, 1.0) is None


def test_at_home_too_wrong_ones_count() -> None:
    lockout = Lockout(5, 900.0)
    lockout.attempt("ada", HOME, 0.0)
    lockout.right("ada", HOME)

    assert guess(lockout, "ada", HOME, 0.0, count=30)[1] > 3 * 3600


def test_an_hour_of_quiet_ends_it() -> None:
    lockout = Lockout(5, 900.0)
    _, took_s = guess(lockout, "ada", AWAY, 0.0, count=12)

    assert lockout.attempt("ada", AWAY, took_s) is not None
    assert guess(lockout, "ada", AWAY, took_s + FORGET_S + 901, count=5) == (5, 0.0)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=300))
def test_the_tables_stay_bounded(attempts: list[tuple[int, int, bool]]) -> None:
    lockout = Lockout(5, 900.0, entries_max=10)
    for name, place, right in attempts:
        if lockout.attempt(f"user-{name}", f"192.0.2.{place}", 0.0) is None and right:
            lockout.right(f"user-{name}", f"192.0.2.{place}")

        assert max(lockout.sizes) <= 10


def test_a_place_is_a_customer_not_an_address() -> None:
    assert network("2001:db8:1:2:3::4") == network("2001:db8:1:2:ffff::1") != network("2001:db8:1:3::1")
    assert network("::ffff:192.0.2.7") == network("192.0.2.7")
    assert network("fe80::1%eth0") == network("fe80::2")
    assert network("") == ""
