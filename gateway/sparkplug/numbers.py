"""The number of a session, bdSeq: one more for every CONNECT, whatever becomes of the process (tck-id-topics-
nbirth-bdseq-increment). A host tells by it whether a death belongs to the births it has seen.
"""

from __future__ import annotations

from gateway.journal.anew import LASTING
from gateway.sparkplug.source import RecordSource

#: bdSeq goes from 0 to 255 and begins again.
_NUMBERS = 256


def following(kept: bytes | None) -> int:
    """The number after the one that was kept; 0 is the first. What cannot be read counts as nothing kept."""
    text = (kept or b"").decode("ascii", "replace")
    return (int(text) + 1) % _NUMBERS if text.isascii() and text.isdigit() and len(text) <= 3 else 0


async def has_number(journal: RecordSource, sink: str) -> bool:
    """Whether a number was ever taken: whether this node has been there before."""
    return await journal.kept(_name(sink)) is not None


def _name(sink: str) -> str:
    return f"{LASTING}bdseq:{sink}"


async def take_bdseq(journal: RecordSource, sink: str) -> int:
    """A number for the next CONNECT, which is durable before it is used.

    Raises:
        JournalFailed: the disk refused.
    """
    name = _name(sink)
    number = following(await journal.kept(name))
    await journal.keep(name, str(number).encode("ascii"), now=True)
    return number
