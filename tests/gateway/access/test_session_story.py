"""Login, renewal, revocation, idling and expiry in any order, held to what a token may be worth at each
instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from api.access import Principal, Session
from gateway.access.sessions import GRACE_S, Lengths, Now, Reused, Sessions
from tests.support.manual_clock import ManualClock

LENGTHS = Lengths(token_s=60, refresh_s=600, idle_s=200, sessions_max=100, user_sessions_max=100)


@dataclass(eq=False)
class Family:
    """What the test knows of one session."""

    user: str
    begun_s: float
    used_s: float
    session: Session
    token_s: float
    before: tuple[Session, float] | None = None
    spent: list[str] = field(default_factory=list)
    ended: bool = False

    def open(self, now_s: float) -> bool:
        over = now_s >= self.begun_s + LENGTHS.refresh_s or now_s >= self.used_s + LENGTHS.idle_s
        return not self.ended and not over


class Story(RuleBasedStateMachine):
    families = Bundle("families")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.sessions = Sessions(LENGTHS)
        self.all: list[Family] = []

    def now(self) -> Now:
        return Now(self.clock.monotonic(), self.clock.now())

    @rule(target=families, user=st.sampled_from(["ada", "bob"]))
    def log_in(self, user: str) -> Family:
        now = self.now()
        session = self.sessions.begin(Principal(user, "user", frozenset()), "", now)
        family = Family(user, now.s, now.s, session, now.s + LENGTHS.token_s)
        self.all.append(family)
        return family

    @rule(family=families)
    def use(self, family: Family) -> None:
        now = self.now()
        good = family.open(now.s) and now.s < family.token_s
        found = self.sessions.find(family.session.token, now)
        assert (found is not None) == good
        if found is not None:
            assert found == family.session.principal
            family.used_s = now.s

    @rule(family=families)
    def use_the_one_before(self, family: Family) -> None:
        if family.before is None:
            return
        now = self.now()
        session, until_s = family.before
        found = self.sessions.find(session.token, now)
        assert (found is not None) == (family.open(now.s) and now.s < until_s)
        if found is not None:
            family.used_s = now.s

    @rule(family=families)
    def renew(self, family: Family) -> None:
        now = self.now()
        was_open = family.open(now.s)
        session = self.sessions.renew(family.session.refresh, now, lambda _: True)
        assert (session is not None) == was_open
        if session is None:
            family.ended = True
            return
        family.spent.append(family.session.refresh)
        family.before = (family.session, min(family.token_s, now.s + GRACE_S))
        family.session, family.used_s = session, now.s
        family.token_s = min(now.s + LENGTHS.token_s, family.begun_s + LENGTHS.refresh_s)
        assert session.expires_at == now.at + timedelta(seconds=family.token_s - now.s)

    @rule(family=families, which=st.integers(0, 5))
    def steal(self, family: Family, which: int) -> None:
        """Somebody comes with a refresh token that was used before."""
        if not family.spent:
            return
        now = self.now()
        was_open = family.open(now.s)
        refresh = family.spent[which % len(family.spent)]
        if was_open:
            with pytest.raises(Reused) as caught:
                self.sessions.renew(refresh, now, lambda _: True)
            assert caught.value.ended.user == family.user
        else:
            assert self.sessions.renew(refresh, now, lambda _: True) is None
        family.ended = True

    @rule(family=consumes(families))
    def end(self, family: Family) -> None:
        was_open = family.open(self.now().s)
        ended = self.sessions.end(family.session.principal.credential.removeprefix("session:"))
        assert ended is not None or not was_open
        family.ended = True

    @rule(target=families, user=st.sampled_from(["ada", "bob"]))
    def change_password(self, user: str) -> object:
        self.sessions.end_user(user)
        for family in self.all:
            family.ended = family.ended or family.user == user
        return multiple()

    @rule(seconds=st.sampled_from([0.5, 5.0, 11.0, 59.0, 61.0, 150.0, 201.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        self.sessions.sweep(self.now())

    @invariant()
    def those_that_live_live(self) -> None:
        now = self.now()
        for family in self.all:
            assert self.sessions.alive(family.session.principal, now.s) == family.open(now.s)
        assert {view.id for view in self.sessions.views(now)} == {
            family.session.principal.credential.removeprefix("session:")
            for family in self.all
            if family.open(now.s)
        }


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
