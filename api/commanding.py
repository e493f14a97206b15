"""What it takes to command a machine through the gateway: what is asked, what comes of it, the port.

The same request comes over REST, MQTT and Sparkplug; the desk behind the port (gateway/control/) judges and
carries out. Knows nothing of rules, ledgers or protocols. The codes of refusals are in `api.refusals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Protocol

import msgspec

from api.access import Principal
from statemodel.types import CommandStatus, TagValue

#: Longest text of a name, of a value that is a text, and of a note.
TEXT_CHARS_MAX = 256
#: Longest key; visible ASCII.
KEY_CHARS_MAX = 128

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
Value = bool | int | float | Annotated[str, msgspec.Meta(max_length=TEXT_CHARS_MAX)]


class WantedCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value for a tag, or a command by name for an equipment.

    `tag` is the full id (`connection/tag`) and comes with `value`; `equipment` comes with `command`. After
    `expires` (a duration such as "10s") nothing is sent any more. With `dry_run` all is judged and told, and
    nothing is written. `arm` is what `POST /commands/arm` gave. `note` is for people and kept with it.
    """

    tag: Text | None = None
    value: Value | None = None
    equipment: Text | None = None
    command: Text | None = None
    expires: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] | None = None
    dry_run: bool = False
    arm: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | None = None
    note: Annotated[str, msgspec.Meta(max_length=TEXT_CHARS_MAX)] = ""


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A command as the desk takes it. `key` is the caller's own identity of it: under one key, one command.

    Either `tag` and `value`, or `equipment` and `command`. `expires_s` counts from when it is handed in, None
    is what the configuration says; `not_after` is an instant after which it is stale, whatever that says.
    `peer` is the address it came from, for the audit trail.
    """

    key: str
    tag: str = ""
    value: TagValue = None
    equipment: str = ""
    command: str = ""
    expires_s: float | None = None
    not_after: datetime | None = None
    dry_run: bool = False
    arm: str = ""
    note: str = ""
    peer: str = ""

    @property
    def target(self) -> str:
        """What it is for, in one word."""
        return self.tag or f"{self.equipment}:{self.command}"


class CommandView(msgspec.Struct, frozen=True, kw_only=True):
    """A command and how far it has come.

    `status` is final unless it is `accepted`; then `waits_for` says for what: `approval`, or `device`.
    `code` and `reason` say why it was refused or what is doubtful, `hint` what usually helps. `read` is what
    was read back, and `previous` the last good value before. `sends` says what goes to the device, in words.
    """

    id: str
    key: str
    status: CommandStatus
    tag: str
    value: TagValue
    equipment: str
    path: str
    command: str
    requested_by: str
    requested_at: datetime
    via: str
    expires_at: datetime
    waits_for: str = ""
    approved_by: str = ""
    finished_at: datetime | None = None
    code: str = ""
    reason: str = ""
    hint: str = ""
    previous: TagValue = None
    read: TagValue = None
    sends: str = ""
    dry_run: bool = False
    note: str = ""


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the second person approves: the value, or the command, as that person understands it."""

    value: Value | None = None
    command: Text | None = None


class WantedArm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be commanded within the next minute: exactly this, by whoever asks now."""

    tag: Text | None = None
    value: Value | None = None
    equipment: Text | None = None
    command: Text | None = None


class Armed(msgspec.Struct, frozen=True):
    """Good for one command, until `expires_at`."""

    arm: str
    expires_at: datetime


class CommandRefused(Exception):
    """It will not be done, and nothing was sent.

    `code` is one of `api.refusals.REFUSALS`. `view` is the command as it is kept; None when it is not (so the
    same key may be tried again). `retry_after_s` says when that makes sense, if it is known.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        hint: str = "",
        *,
        view: CommandView | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.hint = hint
        self.view = view
        self.retry_after_s = retry_after_s


class UnknownCommand(Exception):
    """There is no command of this id, or it is kept no more."""


class Commands(Protocol):
    """Where commands are handed in. Whoever calls has been let in: `by` says who it is."""

    async def submit(self, request: CommandRequest, by: Principal, via: str) -> CommandView:
        """Judge a command and carry it out; returns when its end is known, or what it waits for.

        The same key with the same request gives what came of it the first time, whoever asks how often.
        What has begun goes on when the caller stops waiting.

        Raises:
            CommandRefused: also when it was refused the first time.
        """
        ...

    async def approve(self, id_: str, approval: Approval, by: Principal, peer: str = "") -> CommandView:
        """The second person: carry out what waits.

        Raises:
            CommandRefused: this person, this value or this moment will not do. What waits goes on waiting.
            UnknownCommand: there is none.
        """
        ...

    async def arm(self, wanted: WantedArm, by: Principal, via: str, peer: str = "") -> Armed:
        """Make ready for one command.

        Raises:
            CommandRefused: it would not be taken now.
        """
        ...

    async def find(self, id_: str) -> CommandView | None:
        """One command, while it is kept."""
        ...

    async def list(self, after: int, limit: int) -> tuple[Sequence[CommandView], int]:
        """Commands in the order they came, from after a place; and the place of the last one."""
        ...
