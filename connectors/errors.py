"""What can go wrong southbound, named by what happens next."""

from __future__ import annotations

from datetime import datetime


class ConnectorError(Exception):
    """Base of all connector failures; never raised itself.

    `reason` is one sentence for people; `hint` says what to try, or is empty.
    """

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class ConnectionLost(ConnectorError):
    """The link is down or silent. The supervisor reports the source lost and tries again after a pause.

    `last_seen_at` is the last proof of life of this session, or None when it never answered. With `sparse`
    each try takes time from others (a silent unit on a line that units share): try ever more rarely.
    """

    def __init__(
        self, reason: str, *, last_seen_at: datetime | None = None, hint: str = "", sparse: bool = False
    ) -> None:
        super().__init__(reason, hint=hint)
        self.last_seen_at = last_seen_at
        self.sparse = sparse


class DeviceRefused(ConnectorError):
    """The device answers but will not serve us as configured (certificate, password, security policy).

    The supervisor reports it, and tries again only at the longest pause: a person has to change something.
    """
