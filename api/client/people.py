"""Who may do what, and who did what: sessions, users, keys, and the audit trail.

Failures are as in `reading`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from api.access import AddedKey, KeyView, NewKey, NewUser, SessionView, UserChange, UserView
from api.auditing import AuditHead, AuditRecord, Verdict
from api.client.errors import Refused
from api.client.reading import Noun
from api.client.wire import at

_LONG_S = 120.0


class Caller(msgspec.Struct, frozen=True):
    """Who this client is to the gateway."""

    name: str
    kind: str
    roles: Sequence[str]
    areas: Sequence[str] | None
    permissions: Sequence[str]
    must_change_password: bool


class Session(msgspec.Struct, frozen=True):
    """A session that was begun or renewed. Both tokens are secrets."""

    token: str
    expires_at: datetime
    refresh: str
    refresh_expires_at: datetime
    caller: Caller


class Sessions(Noun):
    """Coming in and going out."""

    def log_in(self, user: str, password: str) -> Session:
        """Begin a session, ask as that user from now on, and renew it as long as that is possible."""
        session = self._wire.ask(Session, "POST", at("sessions"), body={"user": user, "password": password})
        self._keep(session)
        return session

    def renew(self, refresh: str) -> Session:
        """Go on with a session; its refresh token is good once."""
        session = self._wire.ask(Session, "POST", at("sessions", "renew"), body={"refresh": refresh})
        self._keep(session)
        return session

    def log_out(self) -> None:
        """End the session, and ask as nobody in particular from now on."""
        with suppress(Refused):  # then it has ended already
            if self.caller().kind == "anonymous":  # its token has ended, and the session may go on without
                self._wire.renewed()
        self._wire.request("DELETE", at("sessions", "own"))
        self._wire.renewed = lambda: None
        self._wire.authorize(None)

    def caller(self) -> Caller:
        """Who this client is to the gateway."""
        return self._wire.ask(Caller, "GET", at("sessions", "own"))

    def change_password(self, old: str, new: str) -> None:
        """The own password."""
        self._wire.request("POST", at("sessions", "own", "password"), body={"old": old, "new": new})

    def list(self) -> Sequence[SessionView]:
        """The sessions that are open."""
        return list_of(self, SessionView, at("sessions"))

    def end(self, id_: str) -> None:
        """End somebody's session."""
        self._wire.request("DELETE", at("sessions", id_))

    def _keep(self, session: Session) -> None:
        def renewed() -> str | None:
            self._wire.renewed = lambda: None  # a refresh token is good once, and not for renewing itself
            self._wire.authorize(None)
            return self.renew(session.refresh).token

        self._wire.authorize(session.token)
        self._wire.renewed = renewed


class Users(Noun):
    """People. Changes name the version they were made from."""

    def list(self) -> Sequence[UserView]:
        """All users."""
        return list_of(self, UserView, at("users"))

    def get(self, name: str) -> UserView:
        """One user."""
        return self._wire.ask(UserView, "GET", at("users", name))

    def add(self, wanted: NewUser) -> UserView:
        """Add a user."""
        return self._wire.ask(UserView, "POST", at("users"), body=wanted)

    def change(self, name: str, change: UserChange, *, version: str) -> UserView:
        """Change a user of this version."""
        headers = {"if-match": f'"{version}"'}
        return self._wire.ask(UserView, "PATCH", at("users", name), body=change, headers=headers)

    def remove(self, name: str, *, version: str) -> None:
        """Remove a user of this version."""
        self._wire.request("DELETE", at("users", name), headers={"if-match": f'"{version}"'})


class Keys(Noun):
    """API keys of programs."""

    def list(self) -> Sequence[KeyView]:
        """All keys, without their secrets."""
        return list_of(self, KeyView, at("keys"))

    def add(self, wanted: NewKey) -> AddedKey:
        """Add a key; its secret is shown this once."""
        return self._wire.ask(AddedKey, "POST", at("keys"), body=wanted)

    def remove(self, id_: str, *, version: str) -> None:
        """Revoke a key of this version."""
        self._wire.request("DELETE", at("keys", id_), headers={"if-match": f'"{version}"'})


class Audit(Noun):
    """Who did what."""

    def records(
        self,
        *,
        action: str | None = None,
        actor: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
        after: int | None = None,
    ) -> Iterator[AuditRecord]:
        """Records in order."""
        query = {"action": action, "actor": actor, "from": from_, "to": to, "after": after}
        return self._items(AuditRecord, at("audit"), query)

    def head(self) -> AuditHead:
        """Where the trail ends."""
        return self._wire.ask(AuditHead, "GET", at("audit", "head"))

    def verify(self) -> Verdict:
        """Whether anybody changed it."""
        return self._wire.ask(Verdict, "GET", at("audit", "verify"), timeout_s=_LONG_S)

    def export(self, *, after: int | None = None, through: int | None = None) -> Iterator[bytes]:
        """The records byte for byte, in pieces as they come."""
        query = {"after": after, "through": through}
        with self._wire.stream(at("audit", "export"), query, {}, _LONG_S) as response:
            yield from response.iter_bytes()

    def remove(self, *, through: int, sha256: str) -> int:
        """Let records go that were exported; up to which they are gone."""
        body = {"through": through, "sha256": sha256}
        told = self._wire.ask(dict[str, Any], "POST", at("audit", "removals"), body=body)
        return int(told["removed_through"])


def list_of(noun: Noun, type_: type[Any], path: str) -> Sequence[Any]:
    """All items of a list that is not paged."""
    return [*noun._items(type_, path, {})]
