"""Whether the audit trail is what was written: every line, the chain, the signed head, anchors elsewhere.

Reads a folder, whether a gateway writes there at the same time or not, and trusts nothing in it: what is
changed, missing, out of order, cut off or computed anew is named with its place. Blocks: for a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from api.auditing import AuditFault, AuditHead, Verdict
from gateway.audit import folder
from gateway.audit.folder import Segment
from gateway.audit.form import ANEW, BEGIN, GENESIS, BadLine, Checkpoint, anchor_bytes, check_line, read_line
from gateway.audit.keys import KeyUnusable, is_signed, load_key

#: Most faults that are named; one more says that there are others.
FAULTS_MAX: Final = 100
#: Gentle: so many lines at once, then so long a pause, in which other threads of the process get a turn.
_LINES_AT_ONCE: Final = 500
_PAUSE_S: Final = 0.002
#: A file that is removed under a checkpoint while it is read: the reading begins again so often.
_TRIES: Final = 3


class Anchor(msgspec.Struct, frozen=True):
    """A head as it was told outside of the trail: to the journal, the database, or a file somebody kept."""

    n: int
    hash: str
    key: str
    at: datetime | None = None
    signature: str = ""
    where: str = ""


def verify(
    directory: Path, *, anchors: Sequence[Anchor] = (), key: str | None = None, gentle: bool = False
) -> Verdict:
    """Judge a trail; how long it took is for the caller to say. `key` is the public half it must be signed
    with, when that is known from elsewhere.

    Raises:
        OSError: the folder cannot be read.
    """
    for tried in range(_TRIES):
        try:
            return _Reading(directory, anchors, key, gentle).verdict()
        except FileNotFoundError:
            if tried + 1 == _TRIES or not directory.is_dir():
                raise
    raise AssertionError("the last try returns or raises")


def verify_export(path: Path, *, anchors: Sequence[Anchor] = (), key: str | None = None) -> Verdict:
    """Judge a file of exported records alone: its lines, their chain, and the heads somebody kept. Nothing
    in it is signed: without such a head it may have been computed anew as a whole, which is remarked.

    Raises:
        OSError: the file cannot be read.
    """
    return _Reading(path.parent, anchors, key, gentle=False).of_export(path)


class _Reading:
    def __init__(self, directory: Path, anchors: Sequence[Anchor], key: str | None, gentle: bool) -> None:
        self._directory, self._anchors, self._wanted_key, self._gentle = directory, anchors, key, gentle
        self._faults: list[AuditFault] = []
        #: Never set: waiting for it lets the other threads of the process go on.
        self._pause = threading.Event()
        self._remarks: list[str] = []
        self._more = 0
        self._records = 0
        #: The number expected next and the `previous` it must give, which nobody knows after a bad line.
        self._next, self._hash = 1, GENESIS
        self._trusted = True
        self._first = 0
        self._jumps: list[tuple[int, int, str]] = []
        self._late: set[int] = set()
        #: Numbers whose hashes are compared with heads and anchors, and what they were found to be.
        self._asked: dict[int, str] = {}
        self._previous_keys: set[str] = set()
        self._born_key = ""

    def verdict(self) -> Verdict:
        heads = folder.heads_in(self._directory)  # before the records: they may grow meanwhile
        segments = folder.segments_of(self._directory)
        key = self._key(heads)
        head = folder.newest_sound(heads, key)
        self._begin_at(self._checkpoint(key), segments)
        wanted = {anchor.n for anchor in self._anchors} | ({head.n} if head is not None else set())
        for number, segment in enumerate(segments):
            self._segment(segment, wanted, last=number + 1 == len(segments), head=head)
        self._tell_jumps()
        last_n = self._next - 1
        self._judge_head(heads, head, last_n)
        anchored = self._judge_anchors(key, last_n)
        return self._verdict(last_n, len(segments), anchored, key)

    def _verdict(self, last_n: int, segments: int, anchored: int, key: str) -> Verdict:
        if self._more:
            self._faults.append(AuditFault("more", None, "", f"{self._more} more faults", ""))
        return Verdict(
            sound=not self._faults,
            records=self._records,
            first_n=self._first,
            last_n=last_n if self._records else 0,
            segments=segments,
            anchors=len(self._anchors),
            anchored_n=anchored,
            seconds=0.0,
            key=key,
            faults=tuple(self._faults),
            remarks=tuple(self._remarks),
        )

    def of_export(self, path: Path) -> Verdict:
        segment = Segment(0, path, path.stat().st_size)
        with suppress(BadLine):  # then it is a fault like any other
            if (line := next(folder.lines_of(segment), None)) is not None and (n := check_line(line)[0]) > 1:
                self._next, self._trusted = n, False
                self._remarks.append(f"it begins with record {n}: those before it are elsewhere")
        self._segment(segment, {anchor.n for anchor in self._anchors}, last=True, head=None)
        self._tell_jumps()
        last_n = self._next - 1
        keys = [anchor.key for anchor in self._anchors]
        key = self._wanted_key or self._born_key or (keys[0] if keys else "")
        if self._wanted_key is not None and self._born_key not in ("", self._wanted_key):
            self._fault("key", self._first, path.name, "the first record names another key", "")
        beyond = [anchor for anchor in self._anchors if not self._first <= anchor.n <= last_n]
        self._remarks += [f"{one.where} is of record {one.n}, which is not in it" for one in beyond]
        self._anchors = [anchor for anchor in self._anchors if anchor not in beyond]
        anchored = self._judge_anchors(key, last_n)
        if anchored < last_n:
            what = "none of it" if not anchored else f"nothing after record {anchored}"
            self._remarks.append(
                f"{what} is vouched for by a signed head: --head names one that was kept elsewhere"
            )
        return self._verdict(last_n, 1, anchored, key)

    # -- the parts that are not records

    def _key(self, heads: Sequence[AuditHead]) -> str:
        """The public half that counts: the one asked for, that of the key's file, or that of the head."""
        told = heads[0].key if heads else ""
        try:
            own = load_key(self._directory).public
        except (OSError, KeyUnusable) as error:
            own = ""
            if self._wanted_key is None:
                words = error.strerror if isinstance(error, OSError) else str(error)
                self._remarks.append(
                    f"the key's file was not read ({words}): the head is judged by its own word"
                )
        if self._wanted_key is not None:
            others = {one for one in (own, told) if one and one != self._wanted_key}
            if others:
                self._fault(
                    "key",
                    None,
                    folder.HEAD,
                    f"the trail is signed with the key {min(others)[:16]}..., not {self._wanted_key[:16]}...",
                    "somebody has replaced the trail, or this is not the gateway you mean",
                )
            return self._wanted_key
        return own or told

    def _checkpoint(self, key: str) -> Checkpoint | None:
        try:
            point = folder.checkpoint_in(self._directory)
        except msgspec.MsgspecError:
            self._fault("checkpoint", None, folder.CHECKPOINT, "the checkpoint cannot be read", _RESTORE)
            return None
        if point is None:
            return None
        if not folder.is_sound_checkpoint(point, key):
            self._fault(
                "checkpoint", point.n, folder.CHECKPOINT, "the checkpoint is not signed by the key", _RESTORE
            )
            return None
        self._remarks.append(
            f"records up to {point.n} were removed at {point.at:%Y-%m-%d %H:%M} UTC; "
            f"their export has the SHA-256 {point.exported}"
        )
        return point

    def _begin_at(self, point: Checkpoint | None, segments: Sequence[Segment]) -> None:
        # A removal that was begun and not finished leaves older segments: then it is read from them.
        if point is not None and not (segments and segments[0].first_n <= point.n):
            self._next, self._hash = point.n + 1, point.hash
            self._asked[point.n] = point.hash
        elif segments and point is not None:
            self._next, self._trusted = segments[0].first_n, False

    # -- records

    def _segment(self, segment: Segment, wanted: set[int], *, last: bool, head: AuditHead | None) -> None:
        name = segment.path.name
        count = 0
        for number, line in enumerate(folder.lines_of(segment), 1):
            count += len(line) + 1
            if self._gentle and number % _LINES_AT_ONCE == 0:
                self._pause.wait(_PAUSE_S)
            try:
                n, previous, digest = check_line(line)
                record = read_line(line)
            except BadLine as error:
                self._fault(
                    "changed", self._next, f"{name}:{number}", f"record {self._next}: {error}", _RESTORE
                )
                self._next += 1
                self._trusted = False
                continue
            self._follow(n, previous, f"{name}:{number}")
            if not self._records:
                self._first = n
                self._born_key = str(record.detail.get("key", "")) if record.action in (BEGIN, ANEW) else ""
            if record.action == ANEW:
                self._previous_keys |= set(str(record.detail.get("keys_before", "")).split())
                self._remarks.append(
                    f"the trail was begun anew at {record.at:%Y-%m-%d %H:%M} UTC (record {n})"
                )
            self._records += 1
            if n in wanted:
                self._asked[n] = digest
            self._hash, self._trusted = digest, True
        if count < segment.bytes:
            self._torn(segment, last=last, head=head)

    def _torn(self, segment: Segment, *, last: bool, head: AuditHead | None) -> None:
        if last and head is not None and self._next > head.n:
            self._remarks.append("the last line is not whole: it is being written, or was never acknowledged")
        else:
            reason = f"the last line of {segment.path.name} is not whole"
            self._fault("torn", self._next, segment.path.name, reason, _RESTORE)

    def _follow(self, n: int, previous: str, place: str) -> None:
        """Take a sound line into the chain, and note where it does not fit."""
        if n < self._next:
            self._late.add(n)
            self._fault("reordered", n, place, f"record {n} stands after record {self._next - 1}", _RESTORE)
            self._next = n + 1
            return
        if n > self._next:
            self._jumps.append((self._next, n - 1, place))
        elif self._trusted and previous != self._hash:
            reason = f"record {n} does not follow the one before it: one of the two was written anew"
            self._fault("changed", n, place, reason, _RESTORE)
        self._next = n + 1

    def _tell_jumps(self) -> None:
        for first, last, place in self._jumps:
            if not all(n in self._late for n in (first, last)):
                which = f"record {first} is" if first == last else f"records {first} to {last} are"
                self._fault("missing", first, place, f"{which} missing before this line", _RESTORE)

    # -- what is signed, and what is held elsewhere

    def _judge_head(self, heads: Sequence[AuditHead], head: AuditHead | None, last_n: int) -> None:
        place = folder.HEAD
        if head is None:
            reason = "the head is not signed by the key" if heads else "the signed head is missing"
            self._fault("head", None, place, reason, _RESTORE)
            return
        if self._born_key and self._born_key != head.key:
            self._fault("key", 1, place, "the first record names another key than the head", _RESTORE)
        if head.n > last_n:
            reason = f"records up to {head.n} are signed for, and they end at {last_n}"
            self._fault("truncated", last_n + 1, place, reason, _RESTORE)
        elif head.n and self._asked.get(head.n) not in (None, head.hash):
            reason = f"record {head.n} is not the one that was signed for: the trail was computed anew"
            self._fault("rewritten", head.n, place, reason, _RESTORE)
        elif head.n < last_n:
            self._remarks.append(
                f"records {head.n + 1} to {last_n} were written after the newest signed head"
            )

    def _judge_anchors(self, key: str, last_n: int) -> int:
        """Compare with heads that were told elsewhere; the newest number one of them vouches for."""
        anchored, strange = 0, 0
        known: Mapping[int, str] = self._asked
        for anchor in sorted(self._anchors, key=lambda one: one.n):
            if anchor.key != key:
                strange += anchor.key not in self._previous_keys
                continue
            if anchor.at is not None and anchor.signature:
                data = anchor_bytes(anchor.n, anchor.hash, anchor.at)
                if not is_signed(data, anchor.signature, key):
                    self._fault(
                        "anchor", anchor.n, anchor.where, f"the anchor of record {anchor.n} is forged", ""
                    )
                    continue
            if anchor.n > last_n:
                reason = f"record {anchor.n} is anchored in {anchor.where}, and they end at {last_n}"
                self._fault("truncated", last_n + 1, anchor.where, reason, _RESTORE)
            elif anchor.n in known and known[anchor.n] != anchor.hash:
                reason = f"record {anchor.n} is not the one that was anchored in {anchor.where}"
                self._fault("rewritten", anchor.n, anchor.where, reason, _RESTORE)
            elif anchor.n in known or anchor.n == 0:
                anchored = max(anchored, anchor.n)
        if strange:
            reason = f"{strange} anchors were signed with another key: the trail they are of is gone"
            self._fault(
                "key", None, "", reason, "ask who began a new trail, and look for the old one in backups"
            )
        return anchored

    def _fault(self, kind: str, n: int | None, place: str, reason: str, hint: str) -> None:
        if len(self._faults) < FAULTS_MAX:
            self._faults.append(AuditFault(kind, n, place, reason, hint))
        else:
            self._more += 1


_RESTORE: Final = "keep the folder as it is for whoever investigates; compare it with a backup or an export"
