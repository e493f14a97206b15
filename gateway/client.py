"""A running gateway as the command line asks it: `api.client` with plain answers, and failures as messages.

Knows the wire, nothing of the process behind it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import api.client
from api.client.events import Events
from api.client.gateway import sleep
from api.client.wire import PREFIX, Wire
from gateway.errors import GatewayError

#: Longest silence in the midst of what is downloaded.
DOWNLOAD_S_MAX = 60.0


class NoAnswer(GatewayError):
    """Nobody answers at that address, or it is not a gateway."""


class BadAuthority(GatewayError):
    """The file of certificate authorities cannot be used."""

    exit_code = 2


#: Problems with what was asked for, not with the answer: the fault lies with an argument.
_ARGUMENTS = frozenset(
    (
        *("invalid_parameter", "unknown_parameter", "invalid_body"),
        *("unknown_equipment", "unknown_tag", "unknown_connection", "unknown_model"),
    )
)


#: What to do next at a terminal, where the gateway itself can only name headers and routes.
_HINTS = {
    "unauthenticated": "say who you are: andon login URL, --token or ANDON_TOKEN; "
    "on the gateway's own machine --config CONFIG is enough",
    "invalid_credentials": "look at the name and password, or at the key or token: it may have been revoked",
    "session_ended": "andon login URL begins another",
    "password_must_change": "andon login URL asks for a new one",
    "forbidden": "ask as somebody else (andon login URL --user NAME, or --token), or for another role",
    "not_armed": "andon command arm gives a word for the same tag and value; add it with --arm",
}


_IS_IT_THERE = "is it running, and is [api] in its configuration? name another address with --url"
_OTHER_NAME = "its certificate is for another name: ask it by that, with --url https://NAME:PORT"
#: The first that is in the reason counts.
_WAYS = (
    ("hostname mismatch", _OTHER_NAME),
    ("ip address mismatch", _OTHER_NAME),
    ("certificate has expired", "its certificate is over: renew it there, and look at the clocks of both"),
    ("certificate is not yet valid", "its certificate begins later: look at the clocks of both"),
    ("certificate_verify_failed", "name the authority that signed its certificate: --ca FILE, or ANDON_CA"),
    ("wrong_version_number", "it speaks no TLS there: ask it by http://, or look at the port"),
    ("record_layer_failure", "it speaks no TLS there: ask it by http://, or look at the port"),
    ("disconnected without sending", "a gateway with TLS is asked by https://"),
)


#: What a gateway says to a session it does not know: those of before a restart are gone.
_LAPSED = frozenset(("session_ended", "invalid_credentials"))
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class Refused(GatewayError):
    """The gateway answers with a problem; `code` is the stable word for it."""

    def __init__(self, code: str, reason: str, *, hint: str = "") -> None:
        super().__init__(reason, hint=_HINTS.get(code, hint))
        self.code = code
        if code in _ARGUMENTS:
            self.exit_code = 2


class Bearer(str):
    """A token that may have ended without this machine's clock telling so; `again` gives the next one, None
    when there is none."""

    __slots__ = ("again",)

    again: Callable[[], str | None]

    def __new__(cls, token: str, again: Callable[[], str | None]) -> Self:
        """A token, and what to ask for another when the gateway says that this one has ended."""
        bearer = super().__new__(cls, token)
        bearer.again = again
        return bearer


class Address(str):
    """The address of a gateway, and what was found to say there who asks and to know it by."""

    __slots__ = ("bearer", "ca", "lapsed", "trust")

    bearer: str | None
    ca: Path | None
    trust: ssl.SSLContext | None
    lapsed: Callable[[], None] | None
    """Told when the bearer is a login that is over; what is only read is then asked for without."""

    def __new__(
        cls,
        url: str,
        bearer: str | None = None,
        ca: Path | None = None,
        trust: ssl.SSLContext | None = None,
        lapsed: Callable[[], None] | None = None,
    ) -> Self:
        """An address with a bearer token, and a file of certificate authorities or what to trust in place
        of any, where there are such."""
        address = super().__new__(cls, url)
        address.bearer, address.ca, address.trust, address.lapsed = bearer, ca, trust, lapsed
        return address


class Client:
    """Talks to one gateway. Use as a context manager."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, bearer: str | None = None) -> None:
        """`bearer` says who asks; without it, and without one in the `Address`, the gateway answers what
        everybody may know.

        Raises:
            BadAuthority: the certificate authorities of the address cannot be read.
            NoAnswer: it is no address.
        """
        ca = trust = self._lapsed = None
        if isinstance(url, Address):
            self._lapsed = url.lapsed if bearer is None else None
            bearer, ca, trust = bearer or url.bearer, url.ca, url.trust
        if ca is not None:
            authorities(ca)
        with _told():
            self._wire = Wire(str(url), token=bearer, ca=ca, trust=trust, timeout_s=timeout_s)
        if isinstance(bearer, Bearer):
            self._wire.renewed = bearer.again
        self._events = Events(self._wire, sleep)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()

    def get(self, path: str, **parameters: str | int) -> Any:
        """The JSON of one resource.

        Raises:
            NoAnswer: nobody is there.
            Refused: the gateway answers with a problem.
        """
        try:
            with _told():
                return self._wire.ask(object, "GET", f"{PREFIX}{path}", query=parameters)
        except Refused as refused:
            if not self._without_login(refused):
                raise
        return self.get(path, **parameters)

    def _without_login(self, refused: Refused) -> bool:
        """Whether to ask again as nobody in particular, because a login from before is no good any more."""
        lapsed, self._lapsed = self._lapsed, None
        if lapsed is None or refused.code not in _LAPSED:
            return False
        self._wire.authorize(None)
        lapsed()
        return True

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """Hand in something to do; the JSON of the answer.

        Raises:
            NoAnswer: nobody is there.
            Refused: the gateway answers with a problem.
        """
        with _told():
            return self._wire.ask(object, "POST", f"{PREFIX}{path}", body=dict(body), headers=headers)

    def items(self, path: str, **parameters: str | int) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page."""
        while True:
            page = self.get(path, **parameters)
            yield from page["items"]
            if page.get("next") is None:
                return
            parameters["after"] = page["next"]

    def download(self, path: str, **parameters: str | int) -> Iterator[bytes]:
        """The bytes of an answer as they come.

        Raises:
            NoAnswer: nobody is there, or the answer breaks off.
            Refused: the gateway answers with a problem.
        """
        with _told(), self._wire.stream(f"{PREFIX}{path}", parameters, {}, DOWNLOAD_S_MAX) as response:
            yield from response.iter_bytes()

    def events(self, after: str | None = None, **filters: str) -> Iterator[dict[str, Any]]:
        """Events from now on, or after a cursor, for ever: a lost connection is made again where it was lost.

        Raises:
            NoAnswer: nobody is there to begin with.
            Refused: the gateway answers with a problem that does not pass by itself.
        """
        asked: dict[str, Sequence[str]] = {name: text.split(",") for name, text in filters.items()}
        try:
            with _told():
                for event in self._events.follow(after, **asked):  # type: ignore[arg-type]
                    self._lapsed = None  # what ends later ends it: a stream never goes on as somebody else
                    yield event.data
        except Refused as refused:
            if not self._without_login(refused):
                raise
            yield from self.events(after, **filters)


@contextmanager
def _told() -> Iterator[None]:
    """Failures of the client as messages of the command."""
    try:
        yield
    except api.client.Refused as refused:
        raise Refused(refused.code, refused.reason, hint=refused.hint) from refused
    except api.client.NoAnswer as error:
        raise NoAnswer(error.reason, hint=way_there(error.reason)) from error
    except api.client.ClientError as error:
        raise NoAnswer(error.reason, hint=error.hint) from error


def way_there(reason: str) -> str:
    """What to try next, of why no gateway answered: the words of OpenSSL and of HTTP say which end of TLS
    is missing."""
    folded = reason.casefold()
    return next((hint for word, hint in _WAYS if word in folded), _IS_IT_THERE)


def authorities(ca: Path | None) -> ssl.SSLContext:
    """What a gateway's certificate is judged by: a file of certificate authorities, or those of the system.

    Raises:
        BadAuthority: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        reason = f"the certificate authorities in {ca} cannot be used: {error.strerror or error}"
        raise BadAuthority(reason, hint="it must be a PEM file that you can read") from error


def only(cert_file: Path) -> ssl.SSLContext | None:
    """Trust in the first certificate of a file and in nothing else, whatever names it has: for a gateway
    whose own files are at hand. None when there is none to read."""
    try:
        text = cert_file.read_text(encoding="ascii")
        first = text[text.index(_BEGIN) : text.index(_END) + len(_END)]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # it is known by every byte, which says more than a name
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=first)
    except (OSError, ValueError, ssl.SSLError):
        return None
    return context
