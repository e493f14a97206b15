"""A client of a running gateway's REST face: what the command line uses, and tests with it.

Knows the wire, nothing of the process behind it.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from gateway.errors import GatewayError

#: Longest silence of an event stream before it counts as lost; the gateway sends heartbeats more often.
STREAM_SILENCE_S_MAX = 60.0
#: The system's number of a failure, which says nothing beside its words.
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")


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


class Refused(GatewayError):
    """The gateway answers with a problem; `code` is the stable word for it."""

    def __init__(self, code: str, reason: str, *, hint: str = "") -> None:
        super().__init__(reason, hint=hint)
        self.code = code
        if code in _ARGUMENTS:
            self.exit_code = 2


class Address(str):
    """The address of a gateway, and what was found to say there who asks and to know it by."""

    __slots__ = ("bearer", "ca")

    bearer: str | None
    ca: Path | None

    def __new__(cls, url: str, bearer: str | None = None, ca: Path | None = None) -> Self:
        """An address with a bearer token and a file of certificate authorities, where there are any."""
        address = super().__new__(cls, url)
        address.bearer, address.ca = bearer, ca
        return address


class Client:
    """Talks to one gateway. Use as a context manager."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, bearer: str | None = None) -> None:
        """`bearer` says who asks; without it, and without one in the `Address`, the gateway answers what
        everybody may know.

        Raises:
            BadAuthority: the certificate authorities of the address cannot be read.
        """
        self._url = url.rstrip("/")
        ca = None
        if isinstance(url, Address):
            bearer, ca = bearer or url.bearer, url.ca
        headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
        self._http = httpx.Client(
            base_url=f"{self._url}/api/v1",
            timeout=timeout_s,
            trust_env=False,
            headers=headers,
            verify=authorities(ca) if self._url.startswith("https") else False,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **parameters: str | int) -> Any:
        """The JSON of one resource.

        Raises:
            NoAnswer: nobody is there.
            Refused: the gateway answers with a problem.
        """
        try:
            response = self._http.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error
        if response.is_error:
            raise _refusal(response.status_code, response.content)
        try:
            return response.json()
        except ValueError as error:
            raise NoAnswer(f"{self._url} answers, but not like a gateway") from error

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """Hand in something to do; the JSON of the answer.

        Raises:
            NoAnswer: nobody is there.
            Refused: the gateway answers with a problem.
        """
        try:
            response = self._http.post(path, json=dict(body), headers=dict(headers or {}))
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error
        if response.is_error:
            raise _refusal(response.status_code, response.content)
        try:
            return response.json()
        except ValueError as error:
            raise NoAnswer(f"{self._url} answers, but not like a gateway") from error

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
        try:
            with self._http.stream("GET", path, params=parameters) as response:
                if response.is_error:
                    raise _refusal(response.status_code, response.read())
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error

    def events(self, after: str | None = None, **filters: str) -> Iterator[dict[str, Any]]:
        """Events from now on, or after a cursor, for as long as the gateway runs."""
        parameters = dict(filters) | ({"after": after} if after is not None else {})
        timeout = httpx.Timeout(10.0, read=STREAM_SILENCE_S_MAX)
        try:
            with self._http.stream("GET", "/events", params=parameters, timeout=timeout) as response:
                if response.is_error:
                    raise _refusal(response.status_code, response.read())
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line[5:])
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error

    def _no_answer(self, error: httpx.HTTPError) -> NoAnswer:
        said = _ERRNO.sub("", str(error)) or type(error).__name__
        return NoAnswer(
            f"no gateway answers at {self._url}: {said}",
            hint="is it running, and is [api] in its configuration? name another address with --url",
        )


def _refusal(status: int, body: bytes) -> Refused:
    try:
        problem = json.loads(body)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    reason = str(problem.get("detail") or problem.get("title") or f"status {status}")
    return Refused(str(problem.get("code", status)), reason, hint=str(problem.get("hint") or ""))


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
