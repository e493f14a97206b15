"""The audit trail of a running gateway: entries wait together for one fsync, and fail together.

It fails closed: an entry that is not durable raises, and whoever needed it must not go on. It comes back by
itself: while it cannot be written it tries every second, and then records how long that was and how much was
refused. Implements `api.auditing.Audit`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog

from api.auditing import AuditEntry, AuditHead, AuditRecord, AuditUnavailable, ExportDiffers, Scalar, Verdict
from connectors.base import Clock
from gateway.audit.folder import FOLDER, segments_of
from gateway.audit.form import GENESIS, REMOVED, RESUMED, BadLine
from gateway.audit.reading import Question, portions, read
from gateway.audit.scrub import Scrubber
from gateway.audit.store import AuditStore, Limits, Standing, TrailDamaged, TrailFull
from gateway.audit.verifying import Anchor, verify
from gateway.errors import GatewayError
from gateway.journal.worker import Worker

log = structlog.get_logger(__name__)

#: Most entries that wait; whoever hands one in waits for it, so these are callers at once.
WAITING_MAX: Final = 5_000
#: Most entries of one fsync.
GROUP_MAX: Final = 500
#: Longest wait for the disk.
RECORD_S_MAX: Final = 5.0
#: How often it is tried again while it cannot be written.
RETRY_S: Final = 1.0
#: When the gateway verifies the trail by itself: once the first anchors may be there, and daily.
VERIFY_AFTER_S: Final = 90.0
VERIFY_EVERY_S: Final = 86_400.0
#: The share of `bytes_max` at which it is warned of.
_WARN_SHARE: Final = 0.8
#: What may still be recorded when the trail is full, so that there is a way out.
_WAY_OUT: Final = frozenset((REMOVED, "export", "audit.read", "audit.verify"))
_NEVER_OPENED: Final = "it has not been opened yet"
_STOPS: Final = "the gateway stops"

#: Anchors held outside the trail, and a sentence for each place that could not be asked.
Anchors = tuple[Sequence[Anchor], Sequence[str]]


class _Waiting(msgspec.Struct):
    entry: AuditEntry
    done: asyncio.Future[int]


class AuditTrail:
    """One trail. `open` it, keep `run` going, `close` it at the end."""

    def __init__(
        self,
        data_dir: Path,
        *,
        gateway: str,
        clock: Clock,
        limits: Limits | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        self.directory = data_dir / FOLDER
        self._limits = limits or Limits()
        self._store = AuditStore(self.directory, gateway, self._limits)
        self._gateway, self._clock = gateway, clock
        self.scrubber = Scrubber(secrets)
        self._worker: Worker | None = None
        self._waiting: deque[_Waiting] = deque()
        self._busy, self._busy_since_s = False, 0.0
        self._standing: Standing | None = None
        self._trouble: str | None = _NEVER_OPENED
        self._closing = False
        #: Since when it cannot be written, and how many entries were refused for it.
        self._since: datetime | None = None
        self.refused = 0
        self._refused_now = 0
        self._verifying = asyncio.Lock()
        self.verdict: Verdict | None = None
        #: Where anchors of this trail are held besides; asked by `verify`.
        self.anchors: Callable[[], Awaitable[Anchors]] = _no_anchors

    async def open(self) -> None:
        """Find the end of the trail or begin one. What fails, `available` tells and `run` tries again."""
        self._worker = Worker("audit")
        await self._try()

    def hide(self, secrets: Sequence[str]) -> None:
        """Take these out of what is recorded from now on: another configuration has others."""
        self.scrubber = Scrubber(secrets)

    async def run(self) -> None:
        """Come back when it could not be written, until cancelled."""
        while True:
            await self._clock.sleep(RETRY_S)
            if self._trouble is not None and not self._busy:
                await self._try()

    async def keep_verifying(self) -> None:
        """Verify soon after the start and then once a day, for health, until cancelled."""
        wait_s = VERIFY_AFTER_S
        while True:
            await self._clock.sleep(wait_s)
            wait_s = VERIFY_EVERY_S
            try:
                await self.verify()
            except AuditUnavailable as error:
                log.warning("the audit trail could not be verified", reason=error.reason)

    async def close(self) -> None:
        """Take nothing more, let what waits be written, then let go of the files; `RECORD_S_MAX` in all."""
        if self._worker is None:
            return
        self._closing = True
        closed, until_s = asyncio.Event(), asyncio.get_running_loop().time() + RECORD_S_MAX
        try:
            if self._waiting:
                await asyncio.wait([one.done for one in self._waiting], timeout=RECORD_S_MAX)
        finally:
            worker, self._worker = self._worker, None
            worker.submit(self._store.close, lambda _, __: closed.set())
            worker.stop()
            for one in self._waiting:
                if not one.done.done():
                    one.done.set_exception(AuditUnavailable(_STOPS))
            self._waiting.clear()
        with suppress(TimeoutError):  # its thread is a daemon: nobody has to wait for a disk that hangs
            async with asyncio.timeout_at(until_s):
                await closed.wait()
        if not closed.is_set():
            log.error("the audit trail is not closed: its disk does not answer")

    # -- api.auditing.Audit

    async def record(self, entry: AuditEntry) -> int:
        """See `api.auditing.Audit.record`. Recorded also when the caller stops waiting."""
        if (reason := self._cannot_take(entry)) is not None:
            self._count_refused(1)
            raise AuditUnavailable(reason)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_heard)
        self._waiting.append(_Waiting(self.scrubber.entry(entry), done))
        self._next()
        try:
            async with asyncio.timeout(RECORD_S_MAX):
                return await asyncio.shield(done)
        except TimeoutError:
            done.cancel()
            reason = f"the disk under {self.directory} has not taken a record within {RECORD_S_MAX:g} s"
            self._failed(reason)
            self._count_refused(1)
            raise AuditUnavailable(reason) from None

    def available(self) -> str | None:
        """See `api.auditing.Audit.available`."""
        return self._trouble or self._full()

    async def read(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        action: str | None = None,
        actor: str | None = None,
        from_: datetime | None = None,
        to: datetime | None = None,
    ) -> Sequence[AuditRecord]:
        """See `api.auditing.Audit.read`."""
        asked = Question(after, limit, action, actor, from_, to)
        standing = self._standing
        try:
            # What cannot be opened for writing can be read all the same.
            segments = (
                standing.segments
                if standing is not None
                else await asyncio.to_thread(segments_of, self.directory)
            )
            return await asyncio.to_thread(read, segments, asked)
        except OSError as error:
            raise AuditUnavailable(f"the audit trail cannot be read: {error.strerror or error}") from error
        except BadLine as error:
            raise AuditUnavailable(f"a record of the audit trail is damaged: {error}") from error

    async def verify(self) -> Verdict:
        """See `api.auditing.Audit.verify`. One at a time; it takes turns with the gateway's work."""
        async with self._verifying:
            begun_s = self._clock.monotonic()
            anchors, silent = await self.anchors()
            try:
                verdict = await asyncio.to_thread(verify, self.directory, anchors=anchors, gentle=True)
            except OSError as error:
                raise AuditUnavailable(
                    f"the audit trail cannot be read: {error.strerror or error}"
                ) from error
            took_s = round(self._clock.monotonic() - begun_s, 3)
            verdict = msgspec.structs.replace(verdict, remarks=(*verdict.remarks, *silent), seconds=took_s)
            if not verdict.sound:
                log.error(
                    "the audit trail is not what was written", faults=[f.reason for f in verdict.faults[:3]]
                )
            self.verdict = verdict
            return verdict

    def head(self) -> AuditHead:
        """See `api.auditing.Audit.head`."""
        if self._standing is None:
            return AuditHead(0, GENESIS, self._clock.now(), "", "")
        return self._standing.head

    # -- for health and metrics, and for who frees room

    def standing(self) -> Standing | None:
        """Where it stands, None when it was never opened."""
        return self._standing

    def trouble(self) -> str | None:
        """What is wrong with it, None when all is well."""
        if (reason := self.available()) is not None:
            return f"the audit trail cannot be written, so commands and changes are refused: {reason}"
        if self.verdict is not None and not self.verdict.sound:
            return f"the audit trail is not what was written: {self.verdict.faults[0].reason}"
        if self._standing is not None and self._standing.bytes >= _WARN_SHARE * self._limits.bytes_max:
            return (
                f"the audit trail takes {self._standing.bytes} of {self._limits.bytes_max} bytes; "
                "when it is full commands are refused: export and remove its oldest records"
            )
        return None

    async def export(self, after: int, through: int) -> AsyncIterator[bytes]:
        """See `api.auditing.Audit.export`."""
        try:
            standing = self._standing
            segments = standing.segments if standing else await asyncio.to_thread(segments_of, self.directory)
            parts = portions(segments, after, through)
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                yield part
        except (OSError, BadLine) as error:
            raise AuditUnavailable(f"the audit trail cannot be read: {_words(error)}") from error

    async def remove(self, through: int, sha256: str, by: AuditEntry) -> int:
        """See `api.auditing.Audit.remove`."""
        digest = hashlib.sha256()
        async for part in self.export(0, through):
            digest.update(part)
        if digest.hexdigest() != sha256:
            raise ExportDiffers
        by = self.scrubber.entry(by)
        return await self._call(lambda: self._store.remove(through, sha256, by, self._clock.now()))

    # -- inside

    def _cannot_take(self, entry: AuditEntry) -> str | None:
        """Why an entry is refused without trying."""
        if self._closing:
            return self._trouble or _STOPS
        if self._worker is None:
            return self._trouble or _NEVER_OPENED
        if len(self._waiting) >= WAITING_MAX:
            return f"{WAITING_MAX} entries wait for the disk"
        if self._busy and self._clock.monotonic() - self._busy_since_s > RECORD_S_MAX:
            return f"the disk under {self.directory} does not answer"
        return None if entry.action in _WAY_OUT else self._full()

    def _full(self) -> str | None:
        """Why only what leads to more room is taken."""
        if self._standing is None or self._standing.bytes < self._limits.bytes_max:
            return None
        return (
            f"the audit trail takes {self._standing.bytes} bytes of the {self._limits.bytes_max} it may; "
            "export and remove its oldest records"
        )

    async def _call(self, work: Callable[[], int]) -> int:
        if self._worker is None:
            raise AuditUnavailable(_NEVER_OPENED)
        if self._trouble is not None:
            raise AuditUnavailable(self._trouble)
        try:
            result = await self._worker.call(work)
        except OSError as error:
            self._failed(_words(error))
            raise AuditUnavailable(_words(error)) from error
        except TrailFull as error:
            raise AuditUnavailable(str(error)) from error
        self._standing = self._store.standing()
        return result

    async def _try(self) -> None:
        """Open it, or record that it can be written again."""
        assert self._worker is not None, "opened"
        self._busy, self._busy_since_s = True, self._clock.monotonic()
        try:
            await self._worker.call(self._ready)
        except (OSError, TrailDamaged, TrailFull, GatewayError) as error:
            self._failed(_words(error))
        else:
            self._well()
        finally:
            self._busy = False
            self._next()

    def _ready(self) -> None:
        """In the thread: open, and after a failure leave a record of it."""
        now = self._clock.now()
        if not self._store.is_open:
            self._store.open(now)
        if self._since is not None:
            self._store.append([self._resumed(self._since, now)], now)

    def _resumed(self, since: datetime, now: datetime) -> AuditEntry:
        detail: dict[str, Scalar] = {
            "refused": self._refused_now,
            "from": since.isoformat(),
            "to": now.isoformat(),
            "reason": self._trouble or "",
        }
        return self.scrubber.entry(
            AuditEntry(
                action=RESUMED,
                actor=self._gateway,
                kind="gateway",
                via="gateway",
                target="audit",
                result="ok",
                detail=detail,
            )
        )

    def _next(self) -> None:
        """Hand the next group to the thread, unless it is at work."""
        if self._busy or self._worker is None:
            return
        group: list[_Waiting] = []
        while self._waiting and len(group) < GROUP_MAX:
            one = self._waiting.popleft()
            if not one.done.cancelled():
                group.append(one)
        if not group:
            return
        self._busy, self._busy_since_s = True, self._clock.monotonic()
        entries = [one.entry for one in group]

        def work() -> int:
            self._ready()
            return self._store.append(entries, self._clock.now())

        self._worker.submit(work, lambda n, error: self._answer(group, n, error))

    def _answer(self, group: Sequence[_Waiting], n: int, error: BaseException | None) -> None:
        """On the loop: tell the callers of a group."""
        self._busy = False
        if error is None:
            self._well()
            for number, one in enumerate(group, n - len(group) + 1):
                if not one.done.done():
                    one.done.set_result(number)
        else:
            if not isinstance(error, TrailFull):
                self._failed(_words(error))
            self._count_refused(len(group))
            for one in group:
                if not one.done.done():
                    one.done.set_exception(AuditUnavailable(_words(error)))
        self._next()

    def _well(self) -> None:
        self._standing = self._store.standing()
        if self._trouble is not None and self._since is not None:
            log.info("the audit trail can be written again", refused=self._refused_now)
        self._trouble, self._since, self._refused_now = None, None, 0

    def _failed(self, reason: str) -> None:
        if reason != self._trouble:
            log.error("the audit trail cannot be written; commands and changes are refused", reason=reason)
        self._trouble = reason
        if self._since is None:
            self._since = self._clock.now()

    def _count_refused(self, count: int) -> None:
        self.refused += count
        self._refused_now += count


async def _no_anchors() -> Anchors:
    return (), ()


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, GatewayError):
        return error.reason
    return str(error)


def _heard(done: asyncio.Future[int]) -> None:
    """A failure nobody waits for any more has been answered."""
    if not done.cancelled():
        done.exception()
