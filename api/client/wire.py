"""One connection to one gateway: addresses, credentials, certificates, and answers as values or failures.

A session that has ended is renewed once, when there is something to renew it with. Knows no route but that.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from api.client.errors import CURSOR_LOST, BadAnswer, ClientError, CursorLost, NoAnswer, Refused
from api.params import write_time
from api.problems import ProblemDetails
from statemodel.durations import format_duration

T = TypeVar("T")

PREFIX = "/api/v1"
#: The system's number of a failure, which says nothing beside its words.
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
#: Problems of a session, after which renewing it may help.
EXPIRED = frozenset(("session_ended", "invalid_credentials", "unauthenticated"))

Query = Mapping[str, Any]


class Wire:
    """Asks one gateway. `renewed`, where there is one, gives a new token when the present one has ended."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: Path | str | None = None,
        trust: ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`ca` is a file of certificate authorities (PEM) in place of those of the system, `trust` what to
        know the gateway by in place of both. `transport` takes the place of the network in tests.

        Raises:
            ClientError: the address or the file cannot be used.
        """
        url = (url if "://" in url else f"http://{url}").rstrip("/")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"{url} is no address of a gateway", hint="write https://HOST:PORT")
        if parts.username is not None or parts.password is not None:
            raise ClientError("an address holds no name and password", hint="log in, or send a token")
        self.url = url
        self.timeout_s = timeout_s
        self.renewed: Callable[[], str | None] = lambda: None
        self._http = httpx.Client(
            base_url=url,
            timeout=timeout_s,
            trust_env=False,
            follow_redirects=False,  # credentials go where they were meant for
            verify=(trust or authorities(ca)) if parts.scheme == "https" else False,
            transport=transport,
        )
        self.authorize(token)

    def authorize(self, token: str | None) -> None:
        """Say from now on by this token who asks; None: nobody in particular."""
        self._http.headers.pop("authorization", None)
        if token is not None:
            self._http.headers["authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def ask(
        self,
        type_: type[T],
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> T:
        """The answer to one request as a value.

        Raises:
            NoAnswer: nobody is there, or the answer broke off.
            Refused: the gateway answers with a problem.
            BadAnswer: what answers is no gateway of this version.
        """
        response = self.request(method, path, query=query, body=body, headers=headers, timeout_s=timeout_s)
        return self.read(response.content, type_)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """One answer as it comes; raises as `ask`."""
        sent = dict(headers or {})
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            sent["content-type"] = "application/json"
        for renewable in (True, False):
            try:
                response = self._http.request(
                    method,
                    path,
                    params=in_words(query),
                    content=content,
                    headers=sent,
                    timeout=timeout_s or self.timeout_s,
                )
            except httpx.HTTPError as error:
                raise self.no_answer(error) from error
            if not response.is_error and not response.is_redirect:
                return response
            refused = self.refusal(response.status_code, response.content, response.headers)
            if not renewable or not self.renew(refused):
                raise refused
        raise AssertionError("the second time is the last")

    def report(self, path: str) -> dict[str, Any]:
        """A report of health, which is one whatever its status."""
        try:
            response = self._http.get(path)
        except httpx.HTTPError as error:
            raise self.no_answer(error) from error
        told = self.read(response.content, dict[str, Any])
        if "status" not in told or "code" in told:
            raise self.refusal(response.status_code, response.content, response.headers)
        return told

    def renew(self, refused: Refused | BadAnswer) -> bool:
        """Whether a session that has ended could be renewed: then it is worth asking again."""
        if not isinstance(refused, Refused) or refused.code not in EXPIRED:
            return False
        token = self.renewed()
        if token is None:
            return False
        self.authorize(token)
        return True

    @contextmanager
    def stream(
        self, path: str, query: Query, headers: Mapping[str, str], silence_s: float
    ) -> Iterator[httpx.Response]:
        """An answer that goes on; raises as `ask`, also while it is read."""
        timeout = httpx.Timeout(self.timeout_s, read=silence_s)
        for renewable in (True, False):
            try:
                with self._http.stream(
                    "GET", path, params=in_words(query), headers=dict(headers), timeout=timeout
                ) as response:
                    if not response.is_error and not response.is_redirect:
                        yield response
                        return
                    refused = self.refusal(response.status_code, response.read(), response.headers)
            except httpx.HTTPError as error:
                raise self.no_answer(error) from error
            if not renewable or not self.renew(refused):
                raise refused

    def read(self, content: bytes, type_: type[T]) -> T:
        """An answer as a value.

        Raises:
            BadAnswer: it is none.
        """
        try:
            return msgspec.json.decode(content, type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = f"{self.url} answers, but not like a gateway of this version: {error}"
            raise BadAnswer(reason) from error

    def refusal(self, status: int, content: bytes, headers: Mapping[str, str]) -> Refused | BadAnswer:
        """A problem document as a failure."""
        try:
            details = msgspec.json.decode(content, type=ProblemDetails)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return BadAnswer(
                f"{self.url} answers with status {status}, but not like a gateway",
                hint="is something else there, or a proxy on the way?",
            )
        after = headers.get("retry-after", "")
        wait_s = float(after) if after.isdigit() else None
        return (CursorLost if details.code in CURSOR_LOST else Refused)(details, wait_s)

    def no_answer(self, error: httpx.HTTPError) -> NoAnswer:
        """A failure of the network as one of ours."""
        said = _ERRNO.sub("", str(error)) or type(error).__name__
        return NoAnswer(
            f"no gateway answers at {self.url}: {said}",
            hint="is it running, and is the address right? one with TLS is asked by https://",
        )


def at(*parts: str) -> str:
    """A path below the prefix, each part as one segment."""
    return f"{PREFIX}/" + "/".join(quote(part, safe="") for part in parts)


def in_words(query: Query | None) -> dict[str, str]:
    """Values of a query as the gateway reads them; None is left out."""
    return {name: _word(value) for name, value in (query or {}).items() if value is not None}


def _word(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            if value.tzinfo is None:
                raise ValueError("a time has to say in which zone it is meant")
            return write_time(value)
        case timedelta():
            return format_duration(value)
        case str() | int() | float():
            return str(value)
        case _:
            return ",".join(map(str, value))


def authorities(ca: Path | str | None) -> ssl.SSLContext:
    """What a gateway's certificate is judged by.

    Raises:
        ClientError: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        reason = f"the certificate authorities in {ca} cannot be used: {error.strerror or error}"
        raise ClientError(reason, hint="it must be a PEM file that you can read") from error
