"""What can be wrong with a snapshot or a backup, named by what a person does next."""

from __future__ import annotations

from gateway.errors import GatewayError


class FileRefused(GatewayError):
    """A snapshot or backup is not what was written, or not of ours. Nothing of it was used."""

    exit_code = 3


class KeyRefused(GatewayError):
    """It is encrypted, and there is no key or another one."""

    exit_code = 2


class TargetRefused(GatewayError):
    """The place something is to be written to is not free. Nothing was touched."""

    exit_code = 2


class NotWritten(GatewayError):
    """The disk refused while something was written. What was there before is as it was."""
