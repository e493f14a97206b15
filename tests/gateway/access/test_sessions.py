"""Sessions: tokens that change, a refresh token that is good once, and an end in every case."""

from __future__ import annotations

from datetime import timedelta

import pytest

from api.access import Principal, Role, Session
from gateway.access.sessions import GRACE_S, USED_MAX, Lengths, Now, Reused, Sessions
from tests.support.manual_clock import START

ADA = Principal("ada", "user", frozenset((Role.OPERATOR,)))
LENGTHS = Lengths(token_s=900, refresh_s=43_200, idle_s=1800, sessions_max=5, user_sessions_max=3)


def at(seconds: float) -> Now:
    """An instant after the beginning."""
    return Now(seconds, START + timedelta(seconds=seconds))


def renewed(sessions: Sessions, refresh: str, seconds: float) -> Session | None:
    return sessions.renew(refresh, at(seconds), lambda _: True)


def test_a_token_is_good_until_it_ends() -> None:
    sessions = Sessions(LENGTHS)
    session = sessions.begin(ADA, "", at(0))

    found = sessions.find(session.token, at(899.9))
    assert found is not None
    assert (found.name, found.roles) == ("ada", ADA.roles)
    assert sessions.find(session.token, at(900)) is None
    assert session.expires_at == START + timedelta(seconds=900)
    assert sessions.find(session.refresh, at(1)) is None, "a refresh token is no token"


def test_renewing_gives_other_tokens_and_the_same_end() -> None:
    sessions = Sessions(LENGTHS)
    first = sessions.begin(ADA, "", at(0))
    second = renewed(sessions, first.refresh, 800)

    assert second is not None
    assert {first.token, first.refresh}.isdisjoint({second.token, second.refresh})
    assert second.refresh_expires_at == first.refresh_expires_at == START + timedelta(hours=12)
    assert sessions.find(second.token, at(1600)) is not None
    assert second.principal == first.principal


def test_requests_under_way_with_the_token_before_are_let_in_for_a_moment() -> None:
    sessions = Sessions(LENGTHS)
    first = sessions.begin(ADA, "", at(0))
    renewed(sessions, first.refresh, 100)

    assert sessions.find(first.token, at(100 + GRACE_S - 1)) is not None
    assert sessions.find(first.token, at(100 + GRACE_S)) is None


def test_a_refresh_token_used_twice_ends_the_session() -> None:
    sessions = Sessions(LENGTHS)
    first = sessions.begin(ADA, "", at(0))
    second = renewed(sessions, first.refresh, 10)
    third = renewed(sessions, second.refresh if second else "", 20)
    assert third is not None

    with pytest.raises(Reused):
        renewed(sessions, first.refresh, 30)

    assert sessions.find(third.token, at(30)) is None
    assert renewed(sessions, third.refresh, 30) is None
    assert not sessions.alive(third.principal, 30)
    assert (len(sessions), sessions.kept) == (0, 0)


def test_a_session_ends_after_its_longest_time_however_busy() -> None:
    sessions = Sessions(LENGTHS)
    session: Session | None = sessions.begin(ADA, "", at(0))
    now = 0.0
    while session is not None:
        last, now = session, now + 600
        session = renewed(sessions, last.refresh, now)

    assert 43_200 <= now < 43_200 + 600
    assert last.expires_at <= last.refresh_expires_at
    assert sessions.find(last.token, at(now)) is None


def test_a_quiet_session_ends() -> None:
    sessions = Sessions(LENGTHS)
    session = sessions.begin(ADA, "", at(0))
    sessions.find(session.token, at(100))

    assert sessions.alive(session.principal, 1899)
    assert not sessions.alive(session.principal, 1900)
    assert renewed(sessions, session.refresh, 1900) is None


def test_asking_whether_it_lives_is_no_use_of_it() -> None:
    sessions = Sessions(LENGTHS)
    session = sessions.begin(ADA, "", at(0))
    for second in range(0, 1800, 2):
        assert sessions.alive(session.principal, float(second))

    assert not sessions.alive(session.principal, 1800)


def test_too_many_end_those_that_were_quiet_longest() -> None:
    sessions = Sessions(LENGTHS)
    own = [sessions.begin(ADA, "", at(second)) for second in range(3)]
    sessions.find(own[0].token, at(10))
    newest = sessions.begin(ADA, "", at(11))

    alive = [session for session in (*own, newest) if sessions.alive(session.principal, 12)]
    assert alive == [own[0], own[2], newest]

    for second, name in enumerate(("bob", "cid", "dan", "eve"), start=20):
        sessions.begin(Principal(name, "user", frozenset()), "", at(second))
    assert len(sessions) == 5
    assert not sessions.alive(own[2].principal, 30)


def test_ending_a_user_ends_all_but_the_one_spared() -> None:
    sessions = Sessions(LENGTHS)
    own = [sessions.begin(ADA, "", at(0)) for _ in range(3)]
    other = sessions.begin(Principal("bob", "user", frozenset()), "", at(0))

    ended = sessions.end_user("ada", but=own[1].principal.credential)

    assert len(ended) == 2
    assert [sessions.alive(session.principal, 1) for session in (*own, other)] == [False, True, False, True]


def test_hashes_are_kept_and_nothing_else() -> None:
    sessions = Sessions(LENGTHS)
    session = sessions.begin(ADA, "", at(0))
    held = repr([vars(sessions), [repr(entry) for entry in sessions._open.values()]])

    for secret in (session.token, session.refresh):
        assert secret not in held
        assert secret[3:] not in held


def test_what_is_kept_of_a_session_is_bounded_however_often_it_is_renewed() -> None:
    sessions = Sessions(LENGTHS)
    session: Session | None = sessions.begin(ADA, "", at(0))
    for count in range(1, 3 * USED_MAX):
        assert session is not None
        session = renewed(sessions, session.refresh, count * 0.1)

    assert sessions.kept <= USED_MAX + 3
    sessions.end_all()
    assert sessions.kept == 0
