"""What health and metrics say of the journal."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.journal.values import JournalPosition, JournalStats


def full(stats: JournalStats) -> str | None:
    """Why nothing is taken any more for now; None while something is."""
    return f"takes nothing more: {stats.full}" if stats.full else None


def trouble(stats: JournalStats) -> str | None:
    """What else is wrong with it; None when all is well."""
    if stats.shedding:
        return f"takes events, but no samples: {stats.shedding}"
    if stats.damaged:
        return f"{len(stats.damaged)} parts cannot be read, the first: {stats.damaged[0].reason}"
    return None


def figures(stats: JournalStats, position: JournalPosition) -> Mapping[str, float]:
    """Gauges by name."""
    return {
        "bytes": stats.bytes,
        "bytes_max": stats.bytes_max,
        "segments": stats.segments,
        "first_seq": position.first_seq,
        "last_seq": position.last_seq,
        "full": bool(stats.full),
        "shedding": bool(stats.shedding),
        "shed_samples": sum(stats.shed.values()),
        "damaged_parts": len(stats.damaged),
    }
