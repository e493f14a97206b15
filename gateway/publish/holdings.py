"""What one broker has retained of us, remembered in a small file beside the journal.

A topic is remembered before anything is published on it, so that whatever leaves the configuration later is
known, also after a crash, also to a broker that was away meanwhile. The file lies outside the journal: it
says what a broker holds, which a journal that begins anew changes nothing of. It proves nothing by itself:
whether a topic is still ours is judged by what lies there (`ownership`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import structlog

from gateway.journal.files import write_whole

log = structlog.get_logger(__name__)

#: Topics remembered; beyond it the oldest are forgotten, and would then have to be cleared by hand.
TOPICS_MAX = 200_000

#: Beginnings of one state that are remembered, newest last.
_MARKS_MAX = 32

#: The sink there was before brokers had names.
_UNNAMED = "mqtt"


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What a retained topic is about.

    `kind` is `state`, `tag`, `availability`, `connection` or `status`; `about` the equipment, tag or
    connection; `path` that of the equipment it stands below, empty for none. `mark` is what helps to know our
    own words again where the journal cannot: of a state before the first transition its `since`.
    """

    kind: str
    about: str
    path: str = ""
    mark: str = ""


class _File(msgspec.Struct, frozen=True):
    version: int
    topics: dict[str, Held]
    gateway: str = ""


class _First(msgspec.Struct, frozen=True):
    """The file as the first version wrote it."""

    version: int
    topics: dict[str, str]


class Holdings:
    """Topic to what it is about, for one sink. Read once, written when it changes. For one loop."""

    def __init__(
        self,
        directory: Path | None,
        *,
        sink: str = _UNNAMED,
        gateway: str = "",
        others: Iterable[str] | None = None,
    ) -> None:
        """Without a directory nothing outlives the process.

        `others` are all sinks of the configuration. A sink without a file then begins with what was
        remembered of those that are gone: it may be one of them under a new name, and what this broker does
        not hold is forgotten at the first look.
        """
        self._path = None if directory is None else directory / _name(sink)
        self._gateway = gateway
        self._topics, self.gateway = ({}, gateway) if self._path is None else _read(self._path, gateway)
        if self._path is not None and others is not None and not self._path.exists():
            present = {_name(other) for other in others}
            for path in sorted(self._path.parent.glob("published*.json")):
                if path.name not in present:
                    self._topics.update(_read(path, gateway)[0])
        self._turn, self._asked, self._written = threading.Lock(), 0, 0

    @property
    def topics(self) -> Mapping[str, Held]:
        """What is remembered."""
        return self._topics

    async def add(self, topics: Mapping[str, Held]) -> None:
        """These are about to be published, or are seen to be ours."""
        news = {topic: _with_mark(held, self._topics.get(topic)) for topic, held in topics.items()}
        changed = {topic: held for topic, held in news.items() if self._topics.get(topic) != held}
        if changed:
            self._topics.update(changed)
            while len(self._topics) > TOPICS_MAX:
                del self._topics[next(iter(self._topics))]
            await self._keep()

    async def forget(self, topics: Iterable[str]) -> None:
        """These are gone from the broker."""
        gone = self._topics.keys() & set(topics)
        for topic in gone:
            del self._topics[topic]
        if gone:
            await self._keep()

    async def _keep(self) -> None:
        if self._path is None:
            return
        self._asked += 1
        file = _File(2, dict(self._topics), self._gateway)
        await asyncio.to_thread(self._write, self._path, file, self._asked)

    def _write(self, path: Path, file: _File, number: int) -> None:
        # One draft at a time, also when nobody waits for the one before any more; never an older one last.
        with self._turn:
            if number < self._written:
                return
            self._written = number
            try:
                write_whole(path, msgspec.json.encode(file).replace(b'],"', b'],\n"'))
            except OSError as error:
                log.warning("the published topics could not be remembered", path=str(path), reason=str(error))


def _with_mark(held: Held, before: Held | None) -> Held:
    """Where nothing newer was said on a topic, what was said before still lies there.

    A state is remembered before it is said, and may never be: the beginnings before it stay known beside it.
    """
    if before is None or msgspec.structs.replace(before, mark=held.mark) != held:
        return held
    if not held.mark:
        return before
    if held.kind != "state":
        return held
    marks = [mark for mark in before.mark.split() if mark != held.mark]
    return msgspec.structs.replace(held, mark=" ".join([*marks, held.mark][-_MARKS_MAX:]))


def _name(sink: str) -> str:
    return "published.json" if sink == _UNNAMED else f"published-{sink}.json"


def _read(path: Path, gateway: str) -> tuple[dict[str, Held], str]:
    try:
        body = path.read_bytes()
        if msgspec.json.decode(body, type=dict[str, msgspec.Raw]).get("version") == msgspec.Raw(b"1"):
            first = msgspec.json.decode(body, type=_First)
            return {topic: _of_first(topic, about) for topic, about in first.topics.items()}, gateway
        file = msgspec.json.decode(body, type=_File)
        return file.topics, file.gateway
    except FileNotFoundError:
        return {}, gateway
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.warning("the remembered topics cannot be read; beginning anew", path=str(path), reason=str(error))
        return {}, gateway


def _of_first(topic: str, about: str) -> Held:
    """The first version knew one tree only: `enterprise/site/path/_state`, `.../_tag/connection/tag`."""
    place = topic.split("/", 2)[-1]
    if place.endswith("/_state"):
        return Held("state", about, place.removesuffix("/_state"))
    return Held("tag", about, place.rpartition("_tag/")[0].rstrip("/"))
