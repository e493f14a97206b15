"""Failures of the process, named by what happens next, with the exit code they lead to."""

from __future__ import annotations


class GatewayError(Exception):
    """Base of the gateway's failures; never raised itself.

    `reason` is one sentence for people; `hint` says what to try, or is empty. `exit_code` is that of the
    command when the failure ends it: 1 failed while running, 2 configuration or arguments, 3 journal.
    """

    exit_code = 1

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class JournalInUse(GatewayError):
    """Another process has this journal open. Do not start."""

    exit_code = 3


class JournalForeign(GatewayError):
    """The journal belongs to another gateway or a newer version, or is an older copy of itself. Nothing was
    touched; a person decides.
    """

    exit_code = 3


class JournalDamaged(GatewayError):
    """The journal cannot be trusted beyond a torn tail. Do not start on it; a person decides."""

    exit_code = 3


class JournalFailed(GatewayError):
    """A write was refused by the disk: its outcome is unknown. Stop, start again, read what is there."""


class SinkUnavailable(GatewayError):
    """A database or broker does not answer. Its data waits in the journal; try again after a pause."""


class SinkRefused(GatewayError):
    """A database or broker answers but will not have us (password, rights, version). A person has to act."""


class StartFailed(GatewayError):
    """A part of the process could not start (address in use, no embedded server). Say why and end."""
