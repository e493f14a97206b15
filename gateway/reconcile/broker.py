"""The retained topics of this gateway on one broker against what is true: the part that asks the broker.

Only exact topics are asked for: those the configuration has, those remembered as published, and those of
equipment the journal knows from before. Topics of others are never read, let alone touched. Whose a topic is
that the configuration no longer has is judged by `publish.ownership`, as when the publisher clears by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from gateway.publish.holdings import Held, Holdings
from gateway.publish.ownership import Ownership, Record
from gateway.publish.topics import Place, Topics
from gateway.reconcile.compare import compare_retained
from gateway.reconcile.kinds import Finding
from gateway.reconcile.parts import Look, NotCompared

#: Topics read in one look. The embedded broker compares each wish with all it holds, in this very process.
TOPICS_MAX = 5_000
EMBEDDED_TOPICS_MAX = 300


class Publisher(Protocol):
    """What is needed of the publisher."""

    @property
    def topics(self) -> Topics:
        """Where things are said."""
        ...

    @property
    def holdings(self) -> Holdings:
        """What the broker has retained of us."""
        ...

    @property
    def elsewhere(self) -> Collection[str]:
        """Retained topics that another section of this gateway says at this very broker."""
        ...

    def own_topics(self) -> Mapping[str, Held]:
        """Every retained topic of the configuration, and what it is about."""
        ...

    def retained(self) -> Mapping[str, bytes]:
        """What the broker should hold; nothing while there is no connection."""
        ...

    def is_heard(self) -> bool:
        """Whether the broker is known to give us what is said on our topics, or cannot be known not to."""
        ...

    async def read(self, topics: Sequence[str]) -> Mapping[str, bytes]:
        """What it does hold there; raises SinkUnavailable, SinkRefused."""
        ...

    def say_again(self, topics: Sequence[str]) -> None:
        """Publish the newest once more."""
        ...

    def clear(self, topics: Sequence[str]) -> None:
        """Clear topics that are no longer ours."""
        ...


class BrokerPart:
    """Compares and mends the retained topics of one broker. `broker` is its name, empty for the only one.

    `clear_removed`: what is left over of what was removed may be cleared without being asked.
    """

    def __init__(
        self,
        publisher: Publisher,
        record: Record,
        ownership: Ownership,
        *,
        embedded: bool,
        connected: Callable[[], bool],
        broker: str = "",
        clear_removed: bool = False,
    ) -> None:
        self.name = f"broker {broker}" if broker else "broker"
        self.clear_removed = clear_removed
        self._broker = broker
        self._publisher, self._record, self._ownership = publisher, record, ownership
        self._topics_max = EMBEDDED_TOPICS_MAX if embedded else TOPICS_MAX
        self._connected = connected
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
        held = await publisher.read(asked)
        if not self._connected():
            raise NotCompared("the publisher lost its connection meanwhile")
        if focus is None and expected and not held and not publisher.is_heard():
            # Some brokers grant a subscription and then give nothing: that is no broker that lost its store.
            raise NotCompared(
                "the broker gives this client nothing of what it has retained; "
                "let it read its topics in the broker's access rules"
            )
        # What it should be is asked again, and a message on its way is then at most a difference of one look.
        now = publisher.retained()
        expected = {topic: now.get(topic, expected[topic]) for topic in asked if topic in expected}
        names = {topic: it.about for topic, it in own.items() if it.kind == "state"}
        findings = compare_retained(expected, held, names)
        unproven = 0
        for topic in asked:
            if topic not in old or topic not in held:
                continue
            proof = await self._proof(topic, old, own, held, asked=False)
            by_asking = proof is None and await self._proof(topic, old, own, held, asked=True)
            if proof or by_asking:
                told = held[topic][:200].decode("utf-8", "replace")
                about = old[topic].about
                findings.append(
                    Finding("left_over", topic, "nothing", told, about, topic=topic, certain=bool(proof))
                )
            unproven += proof is None and not by_asking
        findings = [self._placed(finding) for finding in findings]
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
        await self._publisher.holdings.forget(topics)

    def _placed(self, finding: Finding) -> Finding:
        """With the broker in its place, where there are several."""
        if not self._broker:
            return finding
        return Finding(
            finding.kind,
            f"{finding.place} on broker {self._broker}",
            finding.expected,
            finding.found,
            finding.equipment,
            finding.seq,
            finding.topic,
            finding.certain,
        )

    def _turn(self, candidates: list[str]) -> list[str]:
        """All candidates, or as many as one look may have, taking turns."""
        if len(candidates) <= self._topics_max:
            return candidates
        begin = self._next % len(candidates)
        self._next = begin + self._topics_max
        return [*candidates, *candidates][begin : begin + self._topics_max]

    async def _old_topics(self, own: Mapping[str, Held]) -> dict[str, Held]:
        """Topics that once were this gateway's and are no longer configured, and what they were about."""
        topics = self._publisher.topics
        known = {
            topics.state(Place(name, recorded.path, getattr(recorded.event, "model", ""))): Held(
                "state", name, recorded.path
            )
            for name, recorded in (await self._record.last_transitions()).items()
        }
        known.update(self._publisher.holdings.topics)
        kept = self._publisher.elsewhere
        return {topic: held for topic, held in known.items() if topic not in own and topic not in kept}

    async def _proof(
        self,
        topic: str,
        old: Mapping[str, Held],
        own: Mapping[str, Held],
        held: Mapping[str, bytes],
        *,
        asked: bool,
    ) -> bool | None:
        """Whether a left-over is what this gateway itself said; None: perhaps, but nothing proves it."""

        async def owns_path(path: str) -> bool:
            if any(it.kind == "state" and it.path == path for it in own.values()):
                return True
            anchor = next((t for t, it in old.items() if it.kind == "state" and it.path == path), None)
            return anchor is not None and anchor in held and bool(await judge(anchor))

        async def judge(topic: str) -> bool | None:
            return await self._ownership.proof(
                topic, old[topic], held[topic], owns_path=owns_path, asked=asked
            )

        return await judge(topic)


def _reason(asked: int, candidates: int, unproven: int, focus: Sequence[Finding] | None) -> str | None:
    words = []
    if asked < candidates and focus is None:
        words.append(f"{asked} of {candidates} topics; the others in turn")
    if unproven:
        words.append(f"{unproven} topics may be left over from this gateway, but nothing on record proves it")
    return "; ".join(words) or None
