"""The port through which the configuration of a running gateway is seen and changed, and its values.

What differs, what a change touches, what was refused and why: all as plain values, ready for JSON. Knows no
file format and no gateway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from api.access import Principal
from api.kinds import Kind

Action = Literal["add", "remove", "change"]
#: Where a revision came from: a request, the command line, a file that was read again because somebody asked
#: or because it had changed, a start that found other files than ran last, an older revision.
Source = Literal["rest", "cli", "sighup", "watch", "start", "rollback"]

#: What the file of the configuration itself is called wherever files are handed over, whatever it is called
#: on the disk.
MAIN_FILE = "andon.toml"
#: What a change touches that touches nothing.
UNDISTURBED = "nothing is disturbed"


#: Problems of these routes, besides those of every change that names a version.
CONFIGURATION_KINDS = (
    Kind(
        "configuration_needs_admin",
        403,
        "Needs an administrator",
        "The configuration changes who is let in, what may be commanded, or what a secret is used for.",
        "Ask an administrator to apply it, or leave the settings named in detail as they are.",
    ),
    Kind(
        "unknown_revision",
        404,
        "Unknown revision",
        "There is no revision of this number, or it is not kept any more.",
        "GET /api/v1/config/revisions lists them.",
    ),
    Kind(
        "configuration_edited_on_disk",
        409,
        "Edited on the disk",
        "A file on the gateway's disk was changed and not applied; this would overwrite it.",
        "Have the files read again (systemctl reload andon), or put the file back.",
    ),
    Kind(
        "configuration_needs_restart",
        409,
        "Needs a restart",
        "Something of it cannot change while the gateway runs.",
        "Stop the gateway, change the file, and start it again; or leave it as it is.",
    ),
    Kind(
        "configuration_not_exchanged",
        409,
        "Not exchanged",
        "The new configuration is sound and could still not be made to run; what ran before runs.",
        "The detail says which part would not start.",
    ),
    Kind(
        "invalid_configuration",
        422,
        "Invalid configuration",
        "Something is wrong with the files; `errors` lists all of it. What ran before runs.",
        "Correct each place listed in errors.",
    ),
    Kind(
        "configuration_not_writable",
        503,
        "Not writable",
        "The files cannot be written on the gateway's disk, so nothing was changed.",
        "Let the gateway's user write in the folder of its configuration; is there room on the disk?",
    ),
    Kind(
        "configuration_unavailable",
        503,
        "Configuration unavailable",
        "The gateway has no part that knows its configuration.",
        "Try again when it has started.",
    ),
)


class Edit(msgspec.Struct, frozen=True):
    """One setting that differs: its key below what it belongs to, and both values as people write them.

    None is a setting that is not there. Of a secret only the reference is shown, never what it leads to; with
    `secret` and two equal texts it is what it leads to that changed.
    """

    key: str
    old: str | None = None
    new: str | None = None
    secret: bool = False


class Change(msgspec.Struct, frozen=True):
    """One thing that is added, removed or changed: a section, a connection, a tag, an equipment, a model.

    `kind` is `gateway`, `connection`, `tag`, `equipment`, `model` or the name of a section; `name` tells
    several of a kind apart and is empty for sections that stand once; a tag is `connection/tag`. `touches`
    says in sentences what the change disturbs. `needs_restart` is the reason why it cannot be made while the
    gateway runs, empty where it can.
    """

    kind: str
    name: str
    action: Action
    what: tuple[Edit, ...] = ()
    touches: tuple[str, ...] = ()
    needs_restart: str = ""


class Difference(msgspec.Struct, frozen=True):
    """All that differs between two configurations, in the order of the sections. Equal ones give none."""

    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def needs_restart(self) -> tuple[Change, ...]:
        """What cannot be done while the gateway runs."""
        return tuple(change for change in self.changes if change.needs_restart)

    def of(self, kind: str) -> tuple[Change, ...]:
        """The changes of one kind."""
        return tuple(change for change in self.changes if change.kind == kind)

    def touches(self) -> tuple[str, ...]:
        """What all of it disturbs, each sentence once; that nothing is, only where nothing at all is."""
        told = dict.fromkeys(line for change in self.changes for line in change.touches)
        return tuple(line for line in told if line != UNDISTURBED or len(told) == 1)


class FileProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong with what was sent: `file` as it was named, `line` from 1 where known."""

    file: str
    line: int | None
    key: str
    code: str
    reason: str
    hint: str = ""


class RevisionInfo(msgspec.Struct, frozen=True):
    """One configuration that ran: its number, when, by whom, why; `hash` is the same for the same files."""

    number: int
    at: datetime
    author: str
    reason: str
    hash: str
    source: Source
    #: Number of the revision it was restored from.
    restored: int | None = None


class Revision(msgspec.Struct, frozen=True):
    """A revision with its files: names relative to the folder of the configuration, secrets as references."""

    info: RevisionInfo
    files: Mapping[str, str]


class Running(msgspec.Struct, frozen=True):
    """What runs. `trouble` is why the files on the disk are not what runs, empty where they are."""

    hash: str
    files: Mapping[str, str]
    revision: RevisionInfo | None
    warnings: tuple[FileProblem, ...] = ()
    trouble: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a wish: `planned` (dry run), `applied`, or `unchanged`, which did nothing at all."""

    status: Literal["planned", "applied", "unchanged"]
    hash: str
    revision: RevisionInfo | None
    difference: Difference
    warnings: tuple[FileProblem, ...] = ()


class Refused(Exception):
    """The files are wrong; `problems` is everything that is wrong with them. What ran still runs."""

    def __init__(self, problems: Sequence[FileProblem]) -> None:
        count = len(problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the configuration")
        self.problems = tuple(problems)


NotDoneCode = Literal[
    "changed_meanwhile",
    "configuration_edited_on_disk",
    "configuration_needs_restart",
    "configuration_needs_admin",
    "configuration_not_writable",
    "configuration_not_exchanged",
    "unknown_revision",
    "audit_unavailable",
]


class NotDone(Exception):
    """The wish is sound but cannot be carried out; `code` is the code of the problem it is answered with.

    `running` is the newest revision, where another one than the caller knew is the cause; `keys` are the
    settings to blame, where some are.
    """

    def __init__(
        self,
        code: NotDoneCode,
        reason: str,
        hint: str = "",
        *,
        running: RevisionInfo | None = None,
        keys: Sequence[str] = (),
    ) -> None:
        super().__init__(reason)
        self.code: NotDoneCode = code
        self.reason = reason
        self.hint = hint
        self.running = running
        self.keys = tuple(keys)


class Wish(msgspec.Struct, frozen=True):
    """A configuration somebody wants to run, and the hash of the one it is meant to replace."""

    files: Mapping[str, str]
    reason: str
    expected: str
    dry_run: bool = False


class Configuring(Protocol):
    """Seeing and changing the configuration of a running gateway. One change is made at a time."""

    def running(self) -> Running:
        """What runs, its files without any secret."""
        ...

    async def apply(self, wish: Wish, by: Principal, peer: str = "") -> Outcome:
        """Judge a configuration, and run it unless it is a dry run: whole, or not at all.

        Raises:
            Refused: it is wrong.
            NotDone: it cannot be carried out.
        """
        ...

    async def restore(
        self, number: int, reason: str, expected: str, by: Principal, peer: str = "", *, dry_run: bool = False
    ) -> Outcome:
        """Run an older revision again, as `apply` would.

        Raises:
            Refused: it is wrong by now, a secret it names is gone for example.
            NotDone: there is no such revision any more, or it cannot be carried out.
        """
        ...

    async def revisions(self) -> Sequence[RevisionInfo]:
        """Those kept, the newest first."""
        ...

    async def revision(self, number: int) -> Revision | None:
        """One of them with its files."""
        ...

    async def compare(self, old: int, new: int | None) -> Difference:
        """What differs between two revisions; None is what runs.

        Raises:
            Refused: one of them cannot be read as a configuration any more.
            NotDone: there is no such revision.
        """
        ...
