"""Users, keys and sessions of a gateway elsewhere, through its REST face: what `andon user --url` and the
like use.

Knows the routes, nothing of what is behind them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from api.access import AddedKey, KeyView, NewKey, NewUser, UserChange, UserView
from api.client.wire import EXPIRED
from gateway.client import Bearer, NoAnswer, Refused, authorities, way_there

_TIMEOUT_S = 15.0
_T = TypeVar("_T")


class Remote:
    """One gateway. Use as a context manager."""

    def __init__(self, url: str, bearer: str | None = None, *, ca: Path | None = None) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        self._next = bearer.again if isinstance(bearer, Bearer) else lambda: None
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            timeout=_TIMEOUT_S,
            trust_env=False,
            headers=headers,
            verify=authorities(ca) if self.url.startswith("https") else False,
        )

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def as_bearer(self, bearer: str) -> None:
        """Go on as somebody else."""
        self._http.headers["Authorization"] = f"Bearer {bearer}"

    def log_in(self, user: str, password: str) -> dict[str, Any]:
        """Begin a session."""
        return self._asked("POST", "/sessions", {"user": user, "password": password})

    def renew(self, refresh: str) -> dict[str, Any]:
        """Go on with one."""
        return self._asked("POST", "/sessions/renew", {"refresh": refresh})

    def log_out(self) -> None:
        """End the session this one asks by."""
        self._asked("DELETE", "/sessions/own")

    def change_password(self, old: str, new: str) -> None:
        """The own password."""
        self._asked("POST", "/sessions/own/password", {"old": old, "new": new})

    def places(self) -> list[str]:
        """The paths of all equipment one may see."""
        found: list[str] = []
        query = ""
        while True:
            page = self._asked("GET", f"/equipment{query}")
            found += (str(item["path"]) for item in page.get("items", ()))
            if page.get("next") is None:
                return found
            query = f"?after={quote(str(page['next']), safe='')}"

    def users(self) -> Sequence[UserView]:
        """All users."""
        return _as(list[UserView], self._asked("GET", "/users").get("items"))

    def user(self, name: str) -> UserView:
        """One user."""
        return _as(UserView, self._asked("GET", _user(name)))

    def add_user(self, wanted: NewUser) -> UserView:
        """Add a user."""
        return _as(UserView, self._asked("POST", "/users", msgspec.to_builtins(wanted)))

    def change_user(self, name: str, change: UserChange, version: str) -> UserView:
        """Change a user of this version."""
        return _as(UserView, self._asked("PATCH", _user(name), msgspec.to_builtins(change), version))

    def remove_user(self, name: str, version: str) -> None:
        """Remove a user of this version."""
        self._asked("DELETE", _user(name), version=version)

    def keys(self) -> Sequence[KeyView]:
        """All keys."""
        return _as(list[KeyView], self._asked("GET", "/keys").get("items"))

    def add_key(self, wanted: NewKey) -> AddedKey:
        """Add a key."""
        return _as(AddedKey, self._asked("POST", "/keys", msgspec.to_builtins(wanted)))

    def remove_key(self, id_: str, version: str) -> None:
        """Revoke a key of this version."""
        self._asked("DELETE", f"/keys/{quote(id_, safe='')}", version=version)

    def _asked(
        self, method: str, path: str, body: Any = None, version: str | None = None, *, again: bool = True
    ) -> dict[str, Any]:
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        try:
            response = self._http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            reason = f"no gateway answers at {self.url}: {error or type(error).__name__}"
            raise NoAnswer(reason, hint=way_there(reason)) from error
        try:
            told = json.loads(response.content or b"{}")
        except ValueError:
            told = None
        if not isinstance(told, dict) or (response.is_error and "code" not in told):
            raise NoAnswer(f"{self.url} answers, but not like a gateway")
        ended = response.status_code == 401 and told["code"] in EXPIRED
        if ended and again and (token := self._next()) is not None:
            self.as_bearer(token)
            return self._asked(method, path, body, version, again=False)
        if response.is_error:
            reason = str(told.get("detail") or told.get("title") or f"status {response.status_code}")
            raise Refused(str(told["code"]), reason, hint=str(told.get("hint") or ""))
        return told


def _user(name: str) -> str:
    return f"/users/{quote(name, safe='')}"


def _as(type_: type[_T], told: Any) -> _T:
    try:
        return msgspec.convert(told, type_)
    except msgspec.ValidationError as error:
        raise NoAnswer(f"it answers, but not like a gateway of this version: {error}") from error
