"""The start of access: its folder, the local key, and a first admin where there is nobody yet.

There is no default password and nothing that everybody knows: both secrets are made here, lie in files that
only the user of the gateway can read, and are never said; the log says where.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog

from api.access import Role
from connectors.base import Clock
from gateway.access import book, tokens
from gateway.access.desk import AccessDesk
from gateway.access.entries import Damaged
from gateway.access.hashing import Hashing
from gateway.access.shelf import FIRST, FIRST_ADMIN, LOCAL_KEY, USED, Changing, Shelf
from gateway.access.trail import Records
from gateway.config.access import AccessSettings
from gateway.errors import StartFailed
from gateway.snapshots.failures import NotWritten

_log = structlog.get_logger("andon.access")


def open_access(
    data_dir: Path,
    settings: AccessSettings,
    clock: Clock,
    *,
    anonymous: bool,
    audit: Records | None,
    hashing: Hashing | None = None,
    people: bool = True,
) -> AccessDesk:
    """The port, ready to be asked; `run` it then, and `close` it at the end. `people`: somebody can log in.

    Raises:
        StartFailed: its folder cannot be used.
    """
    shelf = Shelf(data_dir)
    shelf.prepare()
    desk = AccessDesk(shelf, settings, clock, anonymous=anonymous, audit=audit, hashing=hashing or Hashing())
    try:
        shelf.put(LOCAL_KEY, f"{desk.local.secret}\n".encode())
        first_admin(shelf, desk.hashing, clock, wanted=people and settings.oidc is None)
    except NotWritten as failure:
        raise StartFailed(failure.reason, hint=failure.hint) from failure
    for path, mode in shelf.wide_open():
        _log.warning(
            "others than the gateway's user can get at users and keys",
            file=str(path),
            mode=mode,
            hint=f"chmod go-rwx {path}",
        )
    desk.keeper.open()
    desk.used.update(_used(shelf))
    return desk


def _used(shelf: Shelf) -> dict[str, datetime]:
    """When keys were used last, as noted before; what is no time is not known."""
    found = {}
    for id_, text in shelf.table(USED).items():
        with suppress(ValueError):
            at = datetime.fromisoformat(text)
            if at.tzinfo is not None:
                found[id_] = at
    return found


def first_admin(shelf: Shelf, hashing: Hashing, clock: Clock, *, wanted: bool) -> None:
    """Make one where there are no users; forget the secret of one who has a password of his own by now.

    Raises:
        NotWritten: the disk refused.
    """
    place = str(shelf.directory / FIRST_ADMIN)
    with Changing(shelf):
        shelf.drop_drafts()
        try:
            users = shelf.users()
        except Damaged:
            return  # said when the files are read; a new admin would be a way around whoever was there
        admin = users.find(FIRST)
        if users.users:
            if admin is None or not admin.must_change_password:
                shelf.drop(FIRST_ADMIN)
            elif (shelf.directory / FIRST_ADMIN).exists():
                _log.warning("the first admin has not logged in yet", user=FIRST, password_in=place)
            return
        if not wanted:
            return
        password = tokens.new_password()
        said = book.Said("gateway", clock.now())
        users, _ = book.add_user(FIRST, hashing.hash_now(password), frozenset((Role.ADMIN,)), said)(users)
        shelf.put(FIRST_ADMIN, f"{password}\n".encode())
        shelf.write(users)
    _log.warning(
        "there was no user: a first admin was made, and has to change the password at the first login",
        user=FIRST,
        password_in=place,
    )
