"""Sessions of people: a short token, a refresh token that is exchanged at each use, and an end for every one.

Pure: instants are handed in. In memory alone, so that a restart of the gateway ends them all. Of tokens only
SHA-256 is kept. Lengths are measured on the monotonic clock; wall times are labels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from api.access import Principal, Session, SessionView
from gateway.access import tokens

#: A token that was just exchanged is good for a moment longer: requests are under way with it.
GRACE_S = 10.0
#: Refresh tokens of a session that are remembered as used; one older than these is simply unknown.
USED_MAX = 200


class Now(NamedTuple):
    """An instant on both clocks: monotonic seconds, and aware UTC."""

    s: float
    at: datetime


class Lengths(NamedTuple):
    """How long and how many, in seconds and sessions."""

    token_s: float = 900.0
    refresh_s: float = 43_200.0
    idle_s: float = 1800.0
    sessions_max: int = 1000
    user_sessions_max: int = 10


@dataclass(slots=True, eq=False)
class _Open:
    id: str
    principal: Principal
    peer: str
    begun_at: datetime
    ends_s: float
    ends_at: datetime
    used_s: float
    used_at: datetime
    token: bytes = b""
    token_until_s: float = 0.0
    before: bytes = b""
    before_until_s: float = 0.0
    refresh: bytes = b""
    spent: OrderedDict[bytes, None] = field(default_factory=OrderedDict)


class Ended(NamedTuple):
    """A session that is over: whose it was, and its id."""

    user: str
    id: str


class Reused(Exception):
    """A refresh token came a second time: one of two who had it stole it. The session is over."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.id)
        self.ended = ended


class Sessions:
    """All that are open."""

    def __init__(self, lengths: Lengths | None = None) -> None:
        self.lengths = lengths or Lengths()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._by_token: dict[bytes, _Open] = {}
        self._by_refresh: dict[bytes, _Open] = {}

    def begin(self, principal: Principal, peer: str, now: Now) -> Session:
        """A new one. Where there are too many, that of this user, or of all, which was quiet longest ends."""
        self.sweep(now)
        own = [session for session in self._open.values() if session.principal.name == principal.name]
        while len(own) >= self.lengths.user_sessions_max:
            self._end(own.pop(own.index(min(own, key=_quiet))))
        while len(self._open) >= self.lengths.sessions_max:
            self._end(min(self._open.values(), key=_quiet))
        id_ = tokens.new_id()
        session = _Open(
            id=id_,
            principal=msgspec.structs.replace(principal, credential=f"session:{id_}"),
            peer=peer,
            begun_at=now.at,
            ends_s=now.s + self.lengths.refresh_s,
            ends_at=now.at + timedelta(seconds=self.lengths.refresh_s),
            used_s=now.s,
            used_at=now.at,
        )
        self._open[id_] = session
        return self._handed_out(session, now)

    def find(self, token: str, now: Now) -> Principal | None:
        """Whose token this is, None when it is nobody's or no longer good. Counts as use."""
        key = tokens.digest(token)
        session = self._by_token.get(key)
        if session is None or self._over(session, now.s):
            return None
        until_s = session.token_until_s if key == session.token else session.before_until_s
        if now.s >= until_s:
            return None
        session.used_s, session.used_at = now.s, now.at
        return session.principal

    def of_token(self, token: str) -> Principal | None:
        """Whose token this is or was, while its session is kept; good for nothing but to end it."""
        session = self._by_token.get(tokens.digest(token))
        return None if session is None else session.principal

    def renew(self, refresh: str, now: Now, allowed: Callable[[Principal], bool]) -> Session | None:
        """New tokens for a session, None when the token is nobody's or its session is over.

        Raises:
            Reused: it was used before; the session is ended.
        """
        key = tokens.digest(refresh)
        session = self._by_refresh.get(key)
        if session is None:
            return None
        if self._over(session, now.s) or not allowed(session.principal):
            self._end(session)
            return None
        if key != session.refresh:
            self._end(session)
            raise Reused(Ended(session.principal.name, session.id))
        session.used_s, session.used_at = now.s, now.at
        return self._handed_out(session, now)

    def alive(self, principal: Principal, now_s: float) -> bool:
        """Whether the session a principal came by is open."""
        session = self._open.get(principal.credential.removeprefix("session:"))
        return session is not None and not self._over(session, now_s)

    def end(self, id_: str) -> Ended | None:
        """End one; None when there is none of that id."""
        session = self._open.get(id_)
        return None if session is None else self._end(session)

    def end_user(self, name: str, *, but: str = "") -> list[Ended]:
        """End all of a user but the one of this credential."""
        own = [session for session in self._open.values() if session.principal.name == name]
        return [self._end(session) for session in own if session.principal.credential != but]

    def end_all(self) -> list[Ended]:
        """End all there are."""
        return [self._end(session) for session in list(self._open.values())]

    def now_is(self, principal: Principal) -> None:
        """The user of a session may do other things than before, without a new login."""
        session = self._open.get(principal.credential.removeprefix("session:"))
        if session is not None:
            session.principal = principal

    def sweep(self, now: Now) -> list[Ended]:
        """Let go of what is over."""
        return [self._end(session) for session in list(self._open.values()) if self._over(session, now.s)]

    def views(self, now: Now) -> Iterator[SessionView]:
        """Those that are open, oldest first."""
        for session in self._open.values():
            if not self._over(session, now.s):
                yield SessionView(
                    session.id,
                    session.principal.name,
                    session.peer,
                    session.begun_at,
                    session.used_at,
                    session.ends_at,
                )

    def __len__(self) -> int:
        return len(self._open)

    @property
    def kept(self) -> int:
        """Hashes of tokens held."""
        return len(self._by_token) + len(self._by_refresh)

    def _handed_out(self, session: _Open, now: Now) -> Session:
        token, refresh = tokens.new_token(tokens.SESSION), tokens.new_token(tokens.REFRESH)
        self._by_token.pop(session.before, None)
        session.before, session.before_until_s = session.token, min(session.token_until_s, now.s + GRACE_S)
        session.token = tokens.digest(token)
        length_s = min(self.lengths.token_s, session.ends_s - now.s)
        session.token_until_s = now.s + length_s
        self._by_token[session.token] = session
        if session.refresh:
            session.spent[session.refresh] = None
            if len(session.spent) > USED_MAX:
                self._by_refresh.pop(session.spent.popitem(last=False)[0], None)
        session.refresh = tokens.digest(refresh)
        self._by_refresh[session.refresh] = session
        return Session(
            token, now.at + timedelta(seconds=length_s), refresh, session.ends_at, session.principal
        )

    def _over(self, session: _Open, now_s: float) -> bool:
        return now_s >= session.ends_s or now_s >= session.used_s + self.lengths.idle_s

    def _end(self, session: _Open) -> Ended:
        self._open.pop(session.id, None)
        for key in (session.token, session.before):
            self._by_token.pop(key, None)
        for key in (session.refresh, *session.spent):
            self._by_refresh.pop(key, None)
        return Ended(session.principal.name, session.id)


def _quiet(session: _Open) -> float:
    return session.used_s
