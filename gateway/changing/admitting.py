"""At the start: closes the record of a change that a kill left open, by what runs now.

A change is told as `begun` before anything is done, and as `ok` or `failed` after it. A process that dies in
between says neither; the next one knows, since it runs the old files or the new ones. Knows no files.
"""

from __future__ import annotations

import structlog

from api.auditing import Audit, AuditEntry, AuditRecord, AuditUnavailable

_log = structlog.get_logger("andon.configuration")

_PAGE = 1000
#: How far back is looked: what a kill left open stands near the end of the trail.
_PAGES_MAX = 20


async def close_begun(audit: Audit, running: str) -> None:
    """Close what the newest change left open, if it did. `running` is the hash of what runs."""
    try:
        begun = await _newest(audit)
        if begun is None or begun.result != "begun":
            return
        wanted = begun.detail.get("hash")
        runs = wanted == running
        detail = {
            "hash": wanted,
            "revision": begun.detail.get("revision"),
            "begun": begun.n,
            "why": "the gateway was stopped in the middle of it; "
            + ("it runs" if runs else "another one runs"),
        }
        await audit.record(
            AuditEntry(
                action=begun.action,
                actor=begun.actor,
                kind=begun.kind,
                via="gateway",
                target=begun.target,
                result="ok" if runs else "failed",
                code="interrupted",
                detail=detail,
            )
        )
    except AuditUnavailable as failed:  # the next start looks again
        _log.warning("an open change is not closed in the audit trail", reason=failed.reason)


async def _newest(audit: Audit) -> AuditRecord | None:
    """The newest record that tells how far a change has come; a wish that was refused changes nothing."""
    upper = audit.head().n
    for _ in range(_PAGES_MAX):
        lower = max(0, upper - _PAGE)
        found = await audit.read(after=lower, limit=_PAGE, action="config")
        told = [one for one in found if one.n <= upper and one.result in ("begun", "ok", "failed")]
        if told or lower == 0:
            return told[-1] if told else None
        upper = lower
    return None
