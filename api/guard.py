"""The one door: every request passes here before anything of it is done.

It asks who the caller is and whether one of the caller's roles has what the operation needs; what nobody
allowed is refused. What a browser could be talked into by a foreign page is refused here too. Knows the
port of users and keys; knows no noun.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import Any

from api.access import NOBODY, Access, Denied, Permission, Principal
from api.auditing import Audit, AuditEntry, AuditUnavailable
from api.limits import Rate, network
from api.problems import Problem

#: Name of the cookie of a browser's session.
COOKIE = "andon_session"
#: And of the one that goes on with it; browsers send it to that route alone.
COOKIE_RENEW = "andon_refresh"

#: Headers the guard looks at, in lower case; whoever calls it collects them.
HEADERS = frozenset((b"authorization", b"cookie", b"host", b"origin", b"x-andon"))

_OWN_HOSTS_MAX = 64
_SAFE_METHODS = ("GET", "HEAD")
_CHALLENGE = (b"www-authenticate", b'Bearer realm="andon"')
_CLOSE = (b"connection", b"close")  # or the client could go on sending its body for as long as it likes
_BEARER_BYTES_MAX = 8192


class Guard:
    """Who may come in. One for the whole application."""

    def __init__(
        self,
        access: Access,
        hosts: frozenset[str] | None = None,
        rate: Rate | None = None,
        *,
        audit: Audit | None = None,
        traces: Rate | None = None,
    ) -> None:
        """`hosts` are the names a request may call this machine by, besides its loopback ones; None: any.
        `rate` bounds the requests of each address and each principal. `audit` is told what was refused to
        whom, as often as `traces` lets."""
        self._access = access
        self._hosts = hosts
        self._own_hosts: set[bytes] = set()  # as they were sent, so that each is read once
        self._rate = rate
        self._audit = None if traces is None else audit
        self._traces = traces or Rate(0, 1, lambda: 0.0)

    async def admit(
        self,
        scope: MutableMapping[str, Any],
        headers: Mapping[bytes, bytes],
        needs: Permission,
        *,
        scoped: bool = False,
    ) -> Principal:
        """Who sends a request, if that one may have it done.

        `headers` are those of `HEADERS` the request has. `scoped` says that the operation looks at the areas
        of the caller by itself; where it does not, callers with areas are refused.

        Raises:
            Problem: `wrong_host`, `cross_site`, `unauthenticated`, `invalid_credentials`, `session_ended`,
                `locked_out`, `too_many_requests`, `forbidden` or `password_must_change`.
        """
        peer = self.meet(scope, headers)
        upgrade = scope["type"] == "websocket"
        changes = not upgrade and scope["method"] not in _SAFE_METHODS
        bearer, by_cookie = _credential(headers, strict=needs is not Permission.PUBLIC)
        if changes or upgrade:
            refuse_other_sites(headers, must_say=by_cookie and changes)
        try:
            principal = await self._access.who(bearer, peer)
        except Denied as denied:
            if needs is not Permission.PUBLIC or denied.code in ("locked_out", "too_many_requests"):
                raise denied_problem(denied) from None
            principal = NOBODY
        if self._rate is not None and principal.credential:
            self._rate.take(principal.credential)
        if not principal.may(needs):
            await self._note(principal, scope, peer, needs)
            raise _refused(principal, needs)
        if principal.areas is not None and not scoped and needs is not Permission.PUBLIC:
            await self._note(principal, scope, peer, needs)
            raise Problem(
                "forbidden",
                "This tells of the whole plant, and you may see a part of it.",
                headers=(_CLOSE,) if changes else (),
            )
        return principal

    async def _note(
        self, principal: Principal, scope: MutableMapping[str, Any], peer: str, needs: Permission
    ) -> None:
        """Leave a trace of what somebody known may not do; not each time, nor for each name in a path, or who
        is refused fills the trail.
        The refusal stands whether or not it can be recorded."""
        if self._audit is None or principal.kind == "anonymous" or principal.limited:
            return
        method = scope.get("method", "GET")
        target = f"{method} {scope['path'][:200]}"
        try:
            self._traces.take(f"{principal.credential} {method} {needs}")
        except Problem:
            return
        entry = AuditEntry(
            action="access.denied",
            actor=principal.name,
            kind=principal.kind,
            via="rest",
            target=target,
            result="refused",
            code="forbidden",
            peer=peer,
        )
        with suppress(AuditUnavailable):
            await self._audit.record(entry)

    def meet(self, scope: MutableMapping[str, Any], headers: Mapping[bytes, bytes]) -> str:
        """Judge a request by where it comes from and which host it names; the address it comes from.

        Raises:
            Problem: `wrong_host` or `too_many_requests`.
        """
        if self._hosts is not None and (host := headers.get(b"host", b"")) not in self._own_hosts:
            _refuse_other_hosts(host, self._hosts)
            if len(self._own_hosts) < _OWN_HOSTS_MAX:
                self._own_hosts.add(host)
        peer = peer_of(scope)
        if self._rate is not None:
            self._rate.take(network(peer))
        return peer

    def still(self, principal: Principal) -> bool:
        """Whether a principal that was let in would be let in again; memory only."""
        return self._access.still(principal)


def denied_problem(denied: Denied, hint: str = "") -> Problem:
    """A refusal of the port as a problem, with a better hint than that of its kind where there is one."""
    headers = [_CLOSE]
    if denied.code in ("unauthenticated", "invalid_credentials", "session_ended"):
        headers.append(_CHALLENGE)
    if denied.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % denied.retry_after_s))
    return Problem(denied.code, denied.reason, hint=hint, headers=headers)


def peer_of(scope: Mapping[str, Any]) -> str:
    """The address a request comes from; empty where it is not known."""
    client = scope.get("client")
    if not client:
        return ""
    host: str = client[0]
    # A listener of both families sees a caller over IPv4 as ::ffff:a.b.c.d.
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def is_loopback(address: str) -> bool:
    """Whether an address, as text, is one of this machine to itself."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    inner = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (inner or found).is_loopback


#: An address of IPv6 in brackets, or a name or an address of IPv4; then a port.
_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{0,5})?")


def host_name(host: bytes) -> str:
    """The name in a Host header, in lower case and without port and brackets; empty where it is none.

    Strict (RFC 9110, 7.2): nothing may stand around a name, or `[::1].evil.example` would be loopback.
    """
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).decode().lower() if found else ""


def _credential(headers: Mapping[bytes, bytes], *, strict: bool) -> tuple[str | None, bool]:
    """The token a request carries, and whether a cookie brought it. What is none is refused, or passed over
    where it is not needed."""
    given = headers.get(b"authorization")
    if given is not None:
        scheme, _, token = given.partition(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > _BEARER_BYTES_MAX:
            if not strict:
                return None, False
            raise Problem(
                "invalid_credentials",
                "The Authorization header is not of the kind taken here.",
                hint="Send Authorization: Bearer and the token or key.",
                headers=(_CHALLENGE, _CLOSE),
            )
        return token.strip().decode("latin-1"), False
    found = cookie_of(headers, COOKIE)
    return found, found is not None


def bearer_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The token a request carries in whichever way, be it good or not."""
    return _credential(headers, strict=False)[0]


def cookie_of(headers: Mapping[bytes, bytes], name: str) -> str | None:
    """The value of a cookie of ours."""
    cookies = headers.get(b"cookie")
    if cookies is None:
        return None
    wanted = name.encode() + b"="
    for part in cookies.split(b";"):
        part = part.strip()
        if part.startswith(wanted) and len(part) <= _BEARER_BYTES_MAX:
            return part[len(wanted) :].decode("latin-1")
    return None


def _refuse_other_hosts(host: bytes, hosts: frozenset[str]) -> None:
    """A page whose name was pointed at this machine names its own host."""
    name = host_name(host)
    if name != "localhost" and name not in hosts and not is_loopback(name):
        raise Problem("wrong_host", "The request names another host than this machine.", headers=(_CLOSE,))


def refuse_other_sites(headers: Mapping[bytes, bytes], *, must_say: bool) -> None:
    """Refuse what a foreign page had a browser send: browsers send cookies by themselves, and say from where.

    With `must_say` the request has to show that none did.

    Raises:
        Problem: `cross_site`.
    """
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower():
        raise Problem("cross_site", "The request comes from a page of another site.", headers=(_CLOSE,))
    if must_say and (origin is None or headers.get(b"x-andon") != b"1"):
        raise Problem(
            "cross_site",
            "A request by cookie that changes something says that it is meant.",
            hint="Send the headers X-Andon: 1 and Origin, or use a token in the Authorization header.",
            headers=(_CLOSE,),
        )


def _refused(principal: Principal, needs: Permission) -> Problem:
    if principal.limited:
        return Problem("password_must_change", "The password has to be changed first.", headers=(_CLOSE,))
    if principal.kind == "anonymous":
        reason = "This is not open to callers who do not say who they are."
        return Problem("unauthenticated", reason, headers=(_CHALLENGE, _CLOSE))
    return Problem("forbidden", f'It needs the permission "{needs}".', headers=(_CLOSE,))
