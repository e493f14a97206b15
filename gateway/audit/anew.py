"""A way out when the trail was harmed: it is put aside as it is, and a new one begins that says so. Blocks.

A person decides this, with a reason. Nothing of the old trail is changed; anchors of its key are then known
to be of what was put aside.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from api.auditing import AuditEntry, Scalar
from gateway.audit import folder
from gateway.audit.form import ANEW, BadLine
from gateway.audit.reading import Question, read
from gateway.audit.store import AuditStore
from gateway.errors import GatewayError
from gateway.journal.files import Lock, sync_directory


class NotBegunAnew(GatewayError):
    """The old trail cannot be put aside, or the new one not begun."""


def begin_anew(
    data_dir: Path, gateway: str, *, reason: str, actor: str, now: datetime, keys: Iterable[str] = ()
) -> Path:
    """Put the trail aside and begin a new one; returns where the old one is.

    `keys` are further ones whose anchors are known to be of what is gone.

    Raises:
        JournalInUse: a gateway has it open.
        NotBegunAnew: the disk refuses.
    """
    directory = data_dir / folder.FOLDER
    aside = data_dir / f"{folder.FOLDER}-set-aside-{now:%Y%m%dT%H%M%SZ}"
    try:
        lock = Lock(directory)
        try:
            detail = _of_before(directory, keys)
            directory.rename(aside)
            sync_directory(data_dir)
        finally:
            lock.release()
        store = AuditStore(directory, gateway)
        store.open(now)
        try:
            told: dict[str, Scalar] = {**detail, "reason": reason, "set_aside": aside.name}
            store.append(
                [
                    AuditEntry(
                        action=ANEW,
                        actor=actor,
                        kind="local",
                        via="cli",
                        target="audit",
                        result="ok",
                        detail=told,
                    )
                ],
                now,
            )
        finally:
            store.close()
    except OSError as error:
        raise NotBegunAnew(
            f"the audit trail in {directory} cannot be begun anew: {error.strerror or error}",
            hint="may this user write there?",
        ) from error
    return aside


def _of_before(directory: Path, more: Iterable[str]) -> dict[str, Scalar]:
    """What can be said of the old trail: its keys, and its newest head."""
    heads = folder.heads_in(directory)
    keys = sorted({*(head.key for head in heads), *more})
    try:
        for record in read(folder.segments_of(directory), Question(action=ANEW, limit=100)):
            keys += str(record.detail.get("keys_before", "")).split()
    except BadLine:
        keys.append("unreadable")
    newest = max(heads, key=lambda head: head.n, default=None)
    said: dict[str, Scalar] = {"keys_before": " ".join(dict.fromkeys(keys))}
    if newest is not None:
        said |= {"n_before": newest.n, "hash_before": newest.hash}
    return said
