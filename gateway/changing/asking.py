"""The configuration of a gateway elsewhere, through its REST face: what the command line uses.

Knows the routes, nothing of what is behind them. Blocks.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
import msgspec

from api.client.wire import EXPIRED
from api.configuring import Difference, Outcome, Revision, RevisionInfo, Running
from gateway.access.credentials import ca_for, credentials_for
from gateway.client import Address, Bearer, NoAnswer, Refused, way_there
from gateway.config.problems import ConfigurationRefused, Problem
from gateway.errors import GatewayError

#: Longest wait for a change: connections are closed and begun anew meanwhile.
_TIMEOUT_S = 120.0
_T = TypeVar("_T")


class NotAuthority(GatewayError):
    """The file of certificate authorities cannot be used."""

    exit_code = 2


class AskedGateway:
    """One gateway that is asked about its configuration. Use as a context manager.

    Every question raises `NoAnswer` when nobody is there, `Refused` when the gateway answers with a problem,
    and `ConfigurationRefused` when that is what is wrong with the files.
    """

    def __init__(
        self,
        url: str,
        *,
        config: Path | None = None,
        token: str | None = None,
        ca: Path | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self.url = url.rstrip("/")
        bearer = credentials_for(self.url, config, token=token)
        trust = url.trust if isinstance(url, Address) and ca is None else None
        self._next = bearer.again if isinstance(bearer, Bearer) else lambda: None
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
            trust_env=False,
            headers={} if bearer is None else {"Authorization": f"Bearer {bearer}"},
            verify=(trust or _authorities(ca_for(self.url, ca))) if self.url.startswith("https") else False,
        )

    def __enter__(self) -> AskedGateway:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def running(self) -> Running:
        """What runs."""
        return _as(Running, self._asked("GET", ""))

    def apply(self, files: Mapping[str, str], reason: str, expected: str, *, dry_run: bool) -> Outcome:
        """Run other files in place of those with the hash `expected`, or say what that would mean."""
        body = {"files": dict(files), "reason": reason}
        return _as(Outcome, self._asked("PUT", "", body, expected, _dry(dry_run)))

    def revisions(self) -> list[RevisionInfo]:
        """Those kept, the newest first."""
        return _as(list[RevisionInfo], self._asked("GET", "/revisions").get("items"))

    def revision(self, number: int) -> Revision:
        """One of them."""
        return _as(Revision, self._asked("GET", f"/revisions/{number}"))

    def difference(self, old: int, new: int | None) -> Difference:
        """What differs; None is what runs."""
        query = {} if new is None else {"to": str(new)}
        return _as(Difference, self._asked("GET", f"/revisions/{old}/difference", query=query))

    def restore(self, number: int, reason: str, expected: str, *, dry_run: bool) -> Outcome:
        """Run an older one again."""
        path = f"/revisions/{number}/restore"
        return _as(Outcome, self._asked("POST", path, {"reason": reason}, expected, _dry(dry_run)))

    def _asked(
        self,
        method: str,
        path: str,
        body: Any = None,
        version: str | None = None,
        query: Mapping[str, str] | None = None,
        *,
        again: bool = True,
    ) -> dict[str, Any]:
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        try:
            response = self._http.request(
                method, f"/config{path}", json=body, headers=headers, params=dict(query or {})
            )
        except httpx.HTTPError as error:
            reason = f"no gateway answers at {self.url}: {str(error) or type(error).__name__}"
            raise NoAnswer(reason, hint=way_there(reason)) from error
        try:
            told = msgspec.json.decode(response.content)
        except msgspec.DecodeError:
            told = None
        if not isinstance(told, dict) or (response.is_error and "code" not in told):
            raise NoAnswer(f"{self.url} answers, but not like a gateway")
        ended = response.status_code == 401 and told["code"] in EXPIRED
        if ended and again and (token := self._next()) is not None:
            self._http.headers["Authorization"] = f"Bearer {token}"
            return self._asked(method, path, body, version, query, again=False)
        if response.is_error:
            raise _refusal(told)
        return told


def _refusal(told: Mapping[str, Any]) -> GatewayError:
    if told["code"] == "invalid_configuration":
        return ConfigurationRefused(
            [
                Problem(
                    str(one.get("file", "")),
                    one.get("line"),
                    str(one.get("parameter", "")),
                    str(one.get("reason", "")),
                    str(one.get("hint", "")),
                )
                for one in told.get("errors", ())
            ]
        )
    reason = str(told.get("detail") or told.get("title"))
    return Refused(str(told["code"]), reason, hint=str(told.get("hint") or ""))


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dry_run": "true"} if dry_run else {}


def _authorities(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise NotAuthority(f"the certificates in {ca} cannot be used: {error}", hint="see --ca") from error


def _as(type_: type[_T], told: Any) -> _T:
    try:
        return msgspec.convert(told, type_)
    except msgspec.ValidationError as error:
        raise NoAnswer(f"it answers, but not like a gateway of this version: {error}") from error
