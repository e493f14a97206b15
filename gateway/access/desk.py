"""The port `api.access.Access` of a gateway: who comes with what, who may begin a session, and for how long.

Passwords are judged in threads, one pause for all kinds of wrong; everything else is a look into memory.
Sessions live here alone, so a restart ends them. The two tasks of `run` take over what others changed in the
files, and read the keys of an issuer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec
import structlog

from api.access import NOBODY, Conflict, DenialCode, Denied, Principal, Role, Session, UserChange
from api.auditing import AuditEntry
from api.limits import network
from connectors.base import Clock
from gateway.access import book, tokens
from gateway.access.bearers import Issuer, Keys, LocalKey
from gateway.access.book import Said, judge_password
from gateway.access.entries import StoredUser, UserFile
from gateway.access.hashing import Hashing, Match, TooManyAtOnce
from gateway.access.jwks import AGAIN_S, IssuerKeys
from gateway.access.keeper import LOOK_S, Keeper
from gateway.access.lockout import Lockout
from gateway.access.office import Office, told
from gateway.access.oidc import Refused, looks_like_one
from gateway.access.sessions import Lengths, Reused, Sessions
from gateway.access.shelf import FIRST, FIRST_ADMIN, USED, Shelf
from gateway.access.trail import Records, Trail
from gateway.config.access import AccessSettings
from gateway.snapshots.failures import NotWritten

#: Logins under way from one address.
LOGINS_AT_ONCE = 4
#: How often is written when keys were used last.
NOTE_USE_S = 60.0
#: Refused tokens of an issuer are said in the log at most this often.
SAY_S = 10.0
_NAME_CHARS_MAX = 64

_log = structlog.get_logger("andon.access")


class AccessDesk(Office):
    """Who is there. `anonymous` says whether callers without credentials may read."""

    def __init__(
        self,
        shelf: Shelf,
        settings: AccessSettings,
        clock: Clock,
        *,
        anonymous: bool,
        audit: Records | None,
        hashing: Hashing,
    ) -> None:
        keeper = Keeper(shelf, clock, audit, self._end_sessions)
        super().__init__(keeper, Sessions(), hashing, Trail(audit, clock), clock)
        self.local = LocalKey()
        self._shelf = shelf
        self._api_keys = Keys(keeper, clock)
        self._lockout = Lockout(settings.lock_after, settings.lock_max.total_seconds())
        self._logins: Counter[str] = Counter()
        #: Sessions that outlive a change of their user's password, because it was made in them.
        self._spared: dict[str, str] = {}
        self._used_changed = False
        #: Credentials refused since the start, by their kind.
        self.refused: Counter[str] = Counter()
        self._said_s = float("-inf")
        self._issuer: Issuer | None = None
        self._issuer_changed = asyncio.Event()
        self._anonymous: Principal | None = None
        self.use(settings, anonymous=anonymous)

    def use(self, settings: AccessSettings, *, anonymous: bool) -> None:
        """Go on with other settings. Who is let in stays so, unless the issuer or `anonymous` changed."""
        viewer = Principal("anonymous", "anonymous", frozenset((Role.VIEWER,)))
        self._anonymous = viewer if anonymous else None
        self.open_sessions.lengths = Lengths(
            settings.session.total_seconds(),
            settings.refresh.total_seconds(),
            settings.idle.total_seconds(),
            settings.sessions_max,
            settings.user_sessions_max,
        )
        self._lockout.after, self._lockout.longest_s = settings.lock_after, settings.lock_max.total_seconds()
        if self._issuer is None or self._issuer.settings != settings.oidc:
            oidc = settings.oidc
            self._issuer = Issuer(oidc, self.clock, IssuerKeys(oidc, self.clock)) if oidc else None
            self._issuer_changed.set()

    # Who comes -----------------------------------------------------------------------------------------

    async def who(self, bearer: str | None, peer: str) -> Principal:
        """Who sends this token; see the port."""
        if bearer is None:
            if self._anonymous is None:
                raise Denied("unauthenticated", "log in, or send an API key")
            return self._anonymous
        match bearer[:3]:
            case tokens.SESSION:
                principal = self.open_sessions.find(bearer, self.now())
                if principal is None:
                    self.refused["session"] += 1
                    raise Denied(
                        "session_ended", "the session has ended, or its token has; renew it or log in"
                    )
                return principal
            case tokens.KEY:
                principal = self._api_keys.find(bearer)
                if principal is not None:
                    self.used[principal.credential.removeprefix("key:")] = self.clock.now()
                    self._used_changed = True
                    return principal
            case tokens.LOCAL:
                principal = self.local.find(bearer)
                if principal is not None:
                    return principal
            case _ if self._issuer is not None and looks_like_one(bearer) and len(bearer) <= tokens.CHARS_MAX:
                return await self._by_token(self._issuer, bearer, peer)
        self.refused["key"] += 1
        raise _wrong()

    async def _by_token(self, issuer: Issuer, token: str, peer: str) -> Principal:
        try:
            principal, first = await issuer.find(token)
        except Refused as refused:
            self.refused["token"] += 1
            if self.clock.monotonic() - self._said_s >= SAY_S:
                self._said_s = self.clock.monotonic()
                _log.warning("a token of the issuer is not accepted", reason=refused.reason, peer=peer)
            raise _wrong() from refused
        if first:
            await self._tell("login", principal, peer)
        return principal

    def still(self, principal: Principal) -> bool:
        """Whether it would be let in again; memory only."""
        match principal.kind:
            case "user":
                return self.open_sessions.alive(principal, self.clock.monotonic())
            case "key":
                return self._api_keys.still(principal)
            case "token":
                return self._issuer is not None and self._issuer.still(principal)
            case "local":
                return principal == self.local.principal
        return principal == NOBODY or principal == self._anonymous

    # Sessions ------------------------------------------------------------------------------------------

    async def log_in(self, user: str, password: str, peer: str) -> Session:
        """Begin a session; see the port. `Conflict` `access_unavailable` while the file of users is
        damaged."""
        name = user.strip().casefold()[:_NAME_CHARS_MAX]
        self._judge_file()
        found, match = await self._compare(name, password, peer)
        if found is None or found.disabled or not match.right:
            self.refused["password"] += 1
            await self._tell_refused("login", name, peer, "invalid_credentials")
            raise _wrong()
        self._lockout.right(name, peer)
        principal = Principal(name, "user", found.roles, found.areas, "", found.must_change_password)
        # Begun before anything is waited for: a change of the user from here on ends it.
        session = self.open_sessions.begin(principal, peer, self.now())
        await self._tell("login", session.principal, peer)
        if match.outdated:
            await self._rehash(found, password)
        return session

    async def _compare(self, name: str, password: str, peer: str) -> tuple[StoredUser | None, Match]:
        """The user of a name and whether this is the password: in the same time whoever it is."""
        place = network(peer)
        if self._logins[place] >= LOGINS_AT_ONCE:
            raise Denied("too_many_requests", "too many logins at once from this address", 1)
        known = self._lockout.knows(name, peer)  # a flood from elsewhere does not take their places
        if self.hashing.is_full(known=known):  # asked before the attempt counts: it is not the user's fault
            raise Denied("too_many_requests", "too many logins at once", 2)
        paused = self._lockout.attempt(name, peer, self.clock.monotonic())
        if paused is not None:
            if paused.first:
                await self._tell_refused("login", name, peer, "locked_out")
            raise Denied("locked_out", "too many wrong passwords; wait before the next", paused.wait_s)
        self._logins[place] += 1
        try:
            before = self.keeper.users.get(name)
            hash_ = None if before is None else before.password
            match = await self.hashing.compare(password, hash_, known=known)
        except TooManyAtOnce:
            raise Denied("too_many_requests", "too many logins at once", 2) from None
        finally:
            self._logins[place] -= 1
            if not self._logins[place]:
                del self._logins[place]
        now = self.keeper.users.get(name)  # what was changed meanwhile counts
        changed = now is None or before is None or now.password != before.password
        return (None if changed else now), match

    async def _rehash(self, user: StoredUser, password: str) -> None:
        try:
            hash_ = await self.hashing.hash(password)
            await self.keeper.rehash(book.rehashed(user.name, user.password, hash_), user.name)
        except (Conflict, TooManyAtOnce):
            return  # the old hash is good; the next login tries again

    async def renew(self, refresh: str, peer: str) -> Session:
        """Go on with a session; see the port."""
        try:
            session = self.open_sessions.renew(refresh, self.now(), self._still_a_user)
        except Reused as reused:
            user, id_ = reused.ended
            _log.warning("a refresh token was used twice: its session is ended", user=user, peer=peer)
            await self._tell_end(user, id_, peer, "reused")
            session = None
        if session is None:
            raise Denied("session_ended", "the session has ended; log in")
        return session

    def _still_a_user(self, principal: Principal) -> bool:
        user = self.keeper.users.get(principal.name)
        return user is not None and not user.disabled

    async def log_out(self, principal: Principal) -> None:
        """End the session a principal came by; nothing for one that came by something else."""
        if principal.kind != "user":
            return
        ended = self.open_sessions.end(principal.credential.removeprefix("session:"))
        if ended is not None:
            await self._tell("logout", principal, "")

    async def log_out_by(self, token: str) -> None:
        """End the session a token is of, though the token may have ended; see the port."""
        principal = self.open_sessions.of_token(token)
        if principal is not None:
            await self.log_out(principal)

    async def change_password(self, principal: Principal, old: str, new: str, peer: str) -> None:
        """A user's own password; see the port."""
        if principal.kind != "user":
            raise Conflict(
                "not_allowed_here", "only users have passwords", "an admin changes keys and tokens"
            )
        self._judge_file()
        user, match = await self._compare(principal.name, old, peer)
        if user is None or user.disabled or not match.right:
            await self._tell_refused("user.password", principal.name, peer, "invalid_credentials")
            raise Denied("invalid_credentials", "the old password is not right")
        self._lockout.right(principal.name, peer)
        judge_password(new, principal.name)
        if new == old:
            raise Conflict("weak_password", "the new password is the old one", "choose another")
        change, judged = UserChange(must_change_password=False), user.password
        said = Said(principal.name, self.clock.now())
        renewal = book.change_user(principal.name, change, await self.hash(new), said, version=None)

        def step(file: UserFile) -> tuple[UserFile, StoredUser]:
            # Nobody else changes anything from here on; what was changed since the old one was judged counts.
            now = file.find(principal.name)
            if now is None or now.disabled or now.password != judged or not self.still(principal):
                raise Denied("invalid_credentials", "the old password is not right any more")
            self._spared[principal.name] = principal.credential
            return renewal(file)

        try:
            user = await self.keeper.change_users(step, lambda user: told(principal, "user.password", user))
        finally:
            self._spared.pop(principal.name, None)
        free = msgspec.structs.replace(principal, roles=user.roles, areas=user.areas, limited=False)
        self.open_sessions.now_is(free)

    def _end_sessions(self, ends: Mapping[str, str]) -> None:
        for name, why in ends.items():
            self._lockout.forget(name)  # pauses were for what counted before
            ended = self.open_sessions.end_user(name, but=self._spared.get(name, ""))
            if ended:
                _log.info("sessions are ended", user=name, reason=why, session_count=len(ended))

        if FIRST in ends:  # its first password counts no more
            try:
                self._shelf.drop(FIRST_ADMIN)
            except NotWritten as failure:
                _log.warning("a first password lies about", reason=failure.reason, hint=failure.hint)

    def _judge_file(self) -> None:
        if self.keeper.users_damaged is not None:
            raise Conflict(
                "access_unavailable",
                "the list of users is damaged, so nobody can log in",
                "its folder and what is wrong stand in the gateway's log",
            )

    # What is told --------------------------------------------------------------------------------------

    async def _tell(self, action: str, principal: Principal, peer: str) -> None:
        await self.trail.tell(
            AuditEntry(
                action=action,
                actor=principal.name,
                kind=principal.kind,
                via="rest",
                target=principal.name,
                result="ok",
                detail={"credential": principal.credential},
                peer=peer,
            )
        )

    async def _tell_refused(self, action: str, name: str, peer: str, code: DenialCode) -> None:
        # What is no name of anybody may be a password in the wrong field.
        shown = name if name in self.keeper.users else "(no such user)"
        await self.trail.tell(
            AuditEntry(
                action=action,
                actor=shown,
                kind="user",
                via="rest",
                target=shown,
                result="refused",
                code=code,
                peer=peer,
            )
        )

    async def _tell_end(self, user: str, id_: str, peer: str, code: str) -> None:
        await self.trail.tell(
            AuditEntry(
                action="session.end",
                actor="gateway",
                kind="gateway",
                via="gateway",
                target=user,
                result="ok",
                code=code,
                detail={"session": id_},
                peer=peer,
            )
        )

    def troubles(self) -> Iterator[str]:
        """What an admin has to see to, for the health of the gateway."""
        for name, damage in (("users", self.keeper.users_damaged), ("keys", self.keeper.keys_damaged)):
            if damage is not None:
                yield f"the file of {name} is damaged: {damage}"
        if self._issuer is not None and self._issuer.keys.trouble is not None:
            yield f"the keys of the issuer of tokens: {self._issuer.keys.trouble}"

    # What goes on --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take over changes of others, and read the keys of the issuer, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="access files")
            group.create_task(self._read_issuer(), name="access issuer")

    async def _watch(self) -> None:
        noted_s = self.clock.monotonic()
        while True:
            await self.keeper.look()
            now = self.now()
            self.open_sessions.sweep(now)
            if now.s - noted_s >= NOTE_USE_S:
                noted_s = now.s
                await self.note_use()
            await self.clock.sleep(LOOK_S)

    async def _read_issuer(self) -> None:
        while True:
            self._issuer_changed.clear()
            issuer = self._issuer
            reading = None if issuer is None else asyncio.create_task(self._read_keys(issuer.keys))
            try:
                await self._issuer_changed.wait()
            finally:
                if reading is not None:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)

    async def _read_keys(self, keys: IssuerKeys) -> None:
        """Read them for ever: also after what nobody foresaw, which is said, and not only counted on."""
        while True:
            try:
                await keys.run()
            except Exception as error:  # noqa: BLE001 - whatever it is, keys have to be read again
                keys.trouble = f"{type(error).__name__}: {error}"
                _log.error("reading the keys of the issuer failed", exc_info=error, again_s=AGAIN_S)
            await self.clock.sleep(AGAIN_S)

    async def note_use(self) -> None:
        """Write when keys were used last, where that changed."""
        if self.keeper.keys_damaged is None:  # or nobody knows which there are
            for id_ in self.used.keys() - self.keeper.keys.keys():  # removed in the files
                del self.used[id_]
        if not self._used_changed:
            return
        self._used_changed = False
        there = {id_: at.isoformat() for id_, at in self.used.items() if id_ in self.keeper.keys}
        try:
            await asyncio.to_thread(self._shelf.put_table, USED, there)
        except NotWritten as failure:
            _log.warning("the last use of keys is not noted", reason=failure.reason)

    async def close(self) -> None:
        """Wait for changes under way, note what is not noted, let go of the threads."""
        await self.keeper.close()
        await self.note_use()
        self.hashing.close()


def _wrong() -> Denied:
    return Denied("invalid_credentials", "the credentials are not right")
