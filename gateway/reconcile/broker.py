"""The retained topics of this gateway against what is true: the part that asks the broker.

Only exact topics are asked for: those the configuration has, those remembered as published, and those of
equipment the journal knows from before. Topics of others are never read, let alone touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gateway.errors import GatewayError
from gateway.mqtt.options import LinkOptions
from gateway.mqtt.retained import read_retained
from gateway.publish.topics import Place, Topics
from gateway.reconcile.compare import compare_retained, is_ours, read_state, read_tag
from gateway.reconcile.kinds import Finding
from gateway.reconcile.parts import Look, NotCompared
from gateway.reconcile.remembered import Remembered
from statemodel.records import Recorded, state_after
from statemodel.types import Transition

#: Topics read in one look. The embedded broker compares each wish with all it holds, in this very process.
TOPICS_MAX = 5_000
EMBEDDED_TOPICS_MAX = 300


class Publisher(Protocol):
    """What is needed of the publisher."""

    @property
    def options(self) -> LinkOptions:
        """The broker."""
        ...

    @property
    def topics(self) -> Topics:
        """Where things are said."""
        ...

    def own_topics(self) -> Mapping[str, str]:
        """Every retained topic of the configuration, and what it is about."""
        ...

    def retained(self) -> Mapping[str, bytes]:
        """What the broker should hold; nothing while there is no connection."""
        ...

    def say_again(self, topics: Sequence[str]) -> None:
        """Publish the newest once more."""
        ...

    def clear(self, topics: Sequence[str]) -> None:
        """Clear topics that are no longer ours."""
        ...


class Record(Protocol):
    """Where it is looked up what this gateway recorded."""

    async def last_transitions(self) -> Mapping[str, Recorded]:
        """The newest of each equipment, also of equipment that is gone."""
        ...

    async def event(self, seq: int) -> Recorded | None:
        """One event of the present stream, or None when it cannot be read."""
        ...


class BrokerPart:
    """Compares and mends retained topics. What was said under an old topic after `started_at` is not ours."""

    name = "broker"

    def __init__(
        self,
        publisher: Publisher,
        record: Record,
        remembered: Remembered,
        *,
        embedded: bool,
        started_at: datetime,
        connected: Callable[[], bool],
    ) -> None:
        self._publisher, self._record, self._remembered = publisher, record, remembered
        self._topics_max = EMBEDDED_TOPICS_MAX if embedded else TOPICS_MAX
        self._started_at, self._connected = started_at, connected
        self._next = 0

    async def look(self, *, full: bool, focus: Sequence[Finding] | None) -> Look:
        if not self._connected():
            raise NotCompared("the publisher is not connected to the broker")
        publisher, own = self._publisher, self._publisher.own_topics()
        expected = publisher.retained()
        old = await self._old_topics(own)
        candidates = [*expected, *old]
        if focus is not None:
            wanted = {finding.topic for finding in focus}
            asked = [topic for topic in candidates if topic in wanted]
        else:
            asked = self._turn(candidates)
        held = await read_retained(publisher.options, asked)
        if not self._connected():
            raise NotCompared("the publisher lost its connection meanwhile")
        # What it should be is asked again, and a message on its way is then at most a difference of one look.
        now = publisher.retained()
        expected = {topic: now.get(topic, expected[topic]) for topic in asked if topic in expected}
        findings = compare_retained(expected, held, own)
        wrong = {finding.topic for finding in findings}
        await self._remembered.add({t: own[t] for t in expected if t not in wrong and own.get(t)})
        unproven = 0
        for topic in asked:
            if topic not in old or topic not in held:
                continue
            proof = await self._proof(topic, old[topic], held[topic])
            if proof:
                told = held[topic][:200].decode("utf-8", "replace")
                findings.append(Finding("left_over", topic, "nothing", told, old[topic], topic=topic))
            unproven += proof is None
        return Look(findings, len(asked), _reason(len(asked), len(candidates), unproven, focus))

    async def repair(self, findings: Sequence[Finding]) -> None:
        left = [finding.topic for finding in findings if finding.kind == "left_over"]
        again = [finding.topic for finding in findings if finding.kind != "left_over"]
        if left:
            self._publisher.clear(left)
        if again:
            self._publisher.say_again(again)

    async def forget(self, topics: set[str]) -> None:
        """These were cleared and are gone."""
        await self._remembered.forget(topics)

    def _turn(self, candidates: list[str]) -> list[str]:
        """All candidates, or as many as one look may have, taking turns."""
        if len(candidates) <= self._topics_max:
            return candidates
        begin = self._next % len(candidates)
        self._next = begin + self._topics_max
        return [*candidates, *candidates][begin : begin + self._topics_max]

    async def _old_topics(self, own: Mapping[str, str]) -> dict[str, str]:
        """Topics that once were this gateway's and are no longer configured, and what they were about."""
        topics = self._publisher.topics
        known = {
            topics.state(Place(name, recorded.path, getattr(recorded.event, "model", ""))): name
            for name, recorded in (await self._record.last_transitions()).items()
        }
        known.update(self._remembered.topics)
        return {topic: name for topic, name in known.items() if topic not in own}

    async def _proof(self, topic: str, name: str, payload: bytes) -> bool | None:
        """Whether a left-over is what this gateway itself said; None: perhaps, but nothing proves it."""
        if (state := read_state(payload)) is not None and topic.endswith("/_state"):
            if state.equipment != name:
                return False
            last = (await self._record.last_transitions()).get(name)
            if last is None or last.seq != state.seq:
                try:
                    last = await self._record.event(state.seq)
                except GatewayError:
                    last = None
            if last is None:
                return None
            if not isinstance(last.event, Transition) or last.equipment != name:
                return False
            return is_ours(topic, payload, state_after(last.event, last.seq))
        if (tag := read_tag(payload)) is not None:
            return self._remembered.topics.get(topic) == tag.tag and tag.received_at < self._started_at
        return False


def _reason(asked: int, candidates: int, unproven: int, focus: Sequence[Finding] | None) -> str | None:
    words = []
    if asked < candidates and focus is None:
        words.append(f"{asked} of {candidates} topics; the others in turn")
    if unproven:
        words.append(f"{unproven} topics may be left over from this gateway, but nothing on record proves it")
    return "; ".join(words) or None
