"""Which retained topics this gateway has published, remembered in a small file beside the journal.

Only what was seen in the broker as we said it is remembered, so what is cleared later was certainly ours. The
file is advice: without it nothing is cleared that the journal itself does not prove.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from gateway.journal.files import write_whole

log = structlog.get_logger(__name__)

#: Topics remembered; beyond it the oldest are forgotten, and would then have to be cleared by hand.
TOPICS_MAX = 20_000
_FILE = "published.json"


class _File(msgspec.Struct, frozen=True):
    version: int
    topics: dict[str, str]


class Remembered:
    """Topic to what it is about: an equipment or a tag. Read once, written when it changes. For one task."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._topics = _read(self._path)

    @property
    def topics(self) -> Mapping[str, str]:
        """What is remembered."""
        return self._topics

    async def add(self, topics: Mapping[str, str]) -> None:
        """These were seen in the broker as this gateway said them."""
        changed = {topic: name for topic, name in topics.items() if self._topics.get(topic) != name}
        if changed:
            self._topics.update(changed)
            while len(self._topics) > TOPICS_MAX:
                del self._topics[next(iter(self._topics))]
            await asyncio.to_thread(self._write, dict(self._topics))

    async def forget(self, topics: set[str]) -> None:
        """These have been cleared."""
        gone = topics & self._topics.keys()
        for topic in gone:
            del self._topics[topic]
        if gone:
            await asyncio.to_thread(self._write, dict(self._topics))

    def _write(self, topics: dict[str, str]) -> None:
        body = msgspec.json.format(msgspec.json.encode(_File(1, topics)), indent=1)
        try:
            write_whole(self._path, body)
        except OSError as error:
            log.warning(
                "the published topics could not be remembered", path=str(self._path), reason=str(error)
            )


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).topics
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("the remembered topics cannot be read; beginning anew", path=str(path), reason=str(error))
        return {}
