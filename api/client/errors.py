"""What can go wrong for a program that asks a gateway, told apart by what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from api.problems import ParameterError, ProblemDetails


class ClientError(Exception):
    """Something went wrong; `reason` is for people, and so is `hint`, which may be empty."""

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class NoAnswer(ClientError):
    """Nobody answers there, or the answer broke off. It is not known whether what was asked for was done."""


class BadAnswer(ClientError):
    """Somebody answers there, but not like a gateway, or not like one of this version."""


class Refused(ClientError):
    """The gateway answers with a problem. `code` is the stable word for it, `details` the whole document."""

    def __init__(self, details: ProblemDetails, retry_after_s: float | None = None) -> None:
        super().__init__(details.detail or details.title, hint=details.hint)
        self.details = details
        self.retry_after_s = retry_after_s

    @property
    def code(self) -> str:
        """The stable word for it."""
        return self.details.code

    @property
    def status(self) -> int:
        """The status of the answer."""
        return self.details.status

    @property
    def errors(self) -> Sequence[ParameterError]:
        """What is wrong with which parameter, where that is the problem."""
        return self.details.errors


class CursorLost(Refused):
    """Events cannot be continued after a cursor without a hole. Take a snapshot (`equipment.snapshot()`), and
    go on after its cursor."""


#: Problems that mean it.
CURSOR_LOST = frozenset(("too_old", "other_stream", "from_the_future"))
