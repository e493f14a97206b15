"""The durable local log: every event and sample batch, numbered once, before anyone hears of it."""

from gateway.journal.journal import Journal
from gateway.journal.values import Cursor, Damage, JournalPosition, JournalStats, JournalWatcher

__all__ = ["Cursor", "Damage", "Journal", "JournalPosition", "JournalStats", "JournalWatcher"]
