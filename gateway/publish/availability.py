"""Who is there: connections, and equipment as far as its connections go. Pure, and told what is on record.

A connection is up from the `source_restored` to the `source_lost` the journal holds; before the first of
them, and after a restart, it is down. Equipment is there while every connection that feeds it is up. Whether
the gateway itself is there is another matter (`presence`); a thing is available when both say so. While a
full journal takes nothing more, the states that are told stand still and nobody asks the connections: nothing
is there then, whatever was on record last.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from connectors.base import Clock
from statemodel.records import Recorded
from statemodel.types import SourceLost, SourceRestored

#: How often it is looked whether the journal takes anything, in seconds. Full at two looks in a row is full:
#: a sink that has just read on makes room at once, and that is nobody's news.
LOOK_S = 1.0


class Links:
    """Which connections are up. One for all brokers; `announce` hears of every durable event, in order."""

    def __init__(self, connections: Iterable[str] = ()) -> None:
        self._up = dict.fromkeys(connections, False)
        self._hearers: list[Callable[[str], None]] = []
        self._recording = True

    @property
    def connections(self) -> Sequence[str]:
        """Their names, in the order of the configuration."""
        return tuple(self._up)

    def exchange(self, connections: Iterable[str]) -> None:
        """These are the connections from now on; those that stay are as they were."""
        self._up = {name: self._up.get(name, False) for name in connections}

    def announce(self, recorded: Sequence[Recorded]) -> None:
        """These are now on record."""
        for item in recorded:
            event = item.event
            if not isinstance(event, SourceLost | SourceRestored):
                continue
            up = isinstance(event, SourceRestored)
            if self._up.get(event.connection, up) is not up:
                self._up[event.connection] = up
                for hear in self._hearers:
                    hear(event.connection)

    @property
    def is_recording(self) -> bool:
        """Whether anything is recorded at all, as far as was looked."""
        return self._recording

    def recording(self, recording: bool) -> None:
        """Whether anything is recorded at all: while nothing is, no connection counts as up."""
        if recording is self._recording:
            return
        self._recording = recording
        for connection, up in self._up.items():
            for hear in self._hearers if up else ():
                hear(connection)

    async def keep_watch(self, is_full: Callable[[], object], clock: Clock) -> None:
        """Look whether the journal is full, for ever."""
        was_full = False
        while True:
            full = bool(is_full())
            self.recording(not (full and was_full))
            was_full = full
            await clock.sleep(LOOK_S)

    def up(self, connection: str) -> bool:
        """Whether it is up, as far as is on record."""
        return self._recording and self._up.get(connection, False)

    def hear(self, hearer: Callable[[str], None]) -> None:
        """From now on tell somebody which connection has changed."""
        self._hearers.append(hearer)

    def unhear(self, hearer: Callable[[str], None]) -> None:
        """Tell somebody no more."""
        self._hearers.remove(hearer)


class Availability:
    """What each of some topics has to say: `online` while all connections it depends on are up.

    `depends` maps a topic to connections. What has changed is `due` until it is taken.
    """

    def __init__(self, links: Links, depends: Mapping[str, Sequence[str]]) -> None:
        self._links = links
        self._depends = {topic: tuple(connections) for topic, connections in depends.items()}
        self._topics: dict[str, list[str]] = {}
        for topic, connections in self._depends.items():
            for connection in connections:
                self._topics.setdefault(connection, []).append(topic)
        self._due: dict[str, None] = {}
        self._news: Callable[[], None] = lambda: None
        links.hear(self._changed)

    @property
    def topics(self) -> Sequence[str]:
        """All topics."""
        return tuple(self._depends)

    def online(self, topic: str) -> bool:
        """What a topic has to say now."""
        return all(map(self._links.up, self._depends[topic]))

    def tell(self, news: Callable[[], None]) -> None:
        """Call this when something is due."""
        self._news = news

    def retire(self) -> None:
        """Nothing is said here any more."""
        self._links.unhear(self._changed)

    def all_due(self, *, but: Container[str] = ()) -> None:
        """Everything has to be said again, but what stands at the broker as it is."""
        self._due = {topic: None for topic in self._depends if topic not in but}

    def is_due(self, topic: str) -> bool:
        """Whether something was not said yet."""
        return topic in self._due

    def take(self) -> str | None:
        """A topic that has to be said, oldest first; None when nothing is due."""
        topic = next(iter(self._due), None)
        if topic is not None:
            del self._due[topic]
        return topic

    def _changed(self, connection: str) -> None:
        topics = self._topics.get(connection, ())
        self._due.update(dict.fromkeys(topics))
        if topics:
            self._news()
