"""All that is retained, in one view: what each of our topics has to say now, whatever it is about."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from gateway.mqtt.link import Link
from gateway.publish import payloads
from gateway.publish.availability import Availability
from gateway.publish.holdings import Held
from gateway.publish.ownership import mark_of_state, mark_of_tag
from gateway.publish.states import States
from gateway.publish.tags import Tags
from gateway.publish.voice import Voice


class Truth:
    """The retained topics of one broker, and who is there among them."""

    def __init__(self, voice: Voice, states: States, tags: Tags, availability: Availability) -> None:
        self._voice, self._states, self._tags, self._availability = voice, states, tags, availability
        self._news = asyncio.Event()
        self._first_said = False
        self._standing: Mapping[str, bytes] = {}
        availability.tell(self._news.set)

    def retire(self) -> None:
        """Nothing is said here any more."""
        self._availability.retire()

    @property
    def topics(self) -> Mapping[str, Held]:
        """Every topic the configuration has, and what it is about."""
        return self._voice.held

    def topics_of(self, kind: str) -> Sequence[str]:
        """Those of one kind."""
        return [topic for topic, held in self._voice.held.items() if held.kind == kind]

    def payloads(self) -> dict[str, bytes]:
        """What the broker should hold."""
        found = ((topic, self._payload(topic, held)) for topic, held in self._voice.held.items())
        return {topic: payload for topic, payload in found if payload is not None}

    def _payload(self, topic: str, held: Held) -> bytes | None:
        """What should be retained on one of our topics; None while there is nothing to say."""
        if held.kind == "state":
            state = self._states.now(held.about)
            return None if state is None else payloads.state(state)
        if held.kind == "tag":
            sample = self._tags.latest(held.about)
            return None if sample is None else self._voice.tag_payload(sample)
        online = held.kind == "status" or self._availability.online(topic)
        return payloads.ONLINE if online else payloads.OFFLINE

    def marked(self) -> dict[str, Held]:
        """Our topics with what helps to know our words again where nothing on record can."""
        marked = dict(self._voice.held)
        for topic, held in marked.items():
            if held.kind == "state" and (state := self._states.now(held.about)) is not None and not state.seq:
                marked[topic] = Held(held.kind, held.about, held.path, mark_of_state(state))
            elif held.kind == "tag" and not held.path and (sample := self._tags.said(held.about)):
                marked[topic] = Held(held.kind, held.about, held.path, mark_of_tag(sample.received_at))
        return marked

    # -- one connection, and then another publisher

    def standing(self) -> Mapping[str, bytes]:
        """What the broker has of us, by topic; only once all that was said was acknowledged.

        What expires is left out: how long it still lasts there is not known.
        """
        if not self._first_said:
            return {}
        held = self._voice.held.items()
        found = {topic: self._payload(topic, it) for topic, it in held if self._is_said(topic, it)}
        return {topic: payload for topic, payload in found.items() if payload is not None}

    def follow(self, before: Truth, standing: Mapping[str, bytes]) -> None:
        """The connection is that of another, with what stands at its broker."""
        self._first_said, self._standing = before._first_said, standing

    def _is_said(self, topic: str, held: Held) -> bool:
        kinds = self._voice.kinds
        if held.kind == "state":
            return kinds.state.refresh_s is None and self._states.is_said(held.about)
        if held.kind == "tag":
            return kinds.tag.refresh_s is None and self._tags.is_said(held.about)
        return held.kind != "status" and not self._availability.is_due(topic)

    def _stand(self) -> Collection[str]:
        """Note what need not be said, once; gives its topics."""
        held, standing = self._voice.held, self._standing
        self._standing = {}
        stands = {topic for topic in standing if self._stands(topic, held.get(topic), standing[topic])}
        for topic in stands:
            if held[topic].kind == "state":
                self._states.stands(held[topic].about)
        for tag, _ in self._tags.all_latest():
            if stands.issuperset(self._voice.tag_topics(tag)):
                self._tags.stands(tag)
        return stands

    def _stands(self, topic: str, held: Held | None, payload: bytes) -> bool:
        return held is not None and self._payload(topic, held) == payload

    # -- saying it

    async def say_first(self, link: Link) -> None:
        """After a connect: every state, and who is there, whatever the broker kept or lost.

        On the connection of another one only what does not stand there as it is: see `follow`. States come
        first: it is by its state that what stands below an equipment is known as ours later.
        """
        self._first_said = False
        stands = self._stand()
        await self._states.say(link, self._states.names, {}, again=not stands)
        self._availability.all_due(but=stands)
        await self._say_availability(link)
        self._first_said = True

    async def say(self, link: Link, topic: str, held: Held) -> None:
        """Say the newest on one of our topics. There is room; nothing is awaited before it is said."""
        if held.kind == "state":
            await self._states.say(link, (held.about,), {}, again=True)
        elif held.kind == "tag":
            self._tags.say_on(link, held.about, topic)
        elif held.kind == "status":
            self._voice.status(link)
        else:
            self._voice.availability(link, topic, online=self._availability.online(topic))

    async def keep_availability(self, link: Link) -> None:
        """Say who comes and goes, until the connection is over."""
        while True:
            self._news.clear()
            await self._say_availability(link)
            await self._news.wait()

    async def say_all_offline(self, link: Link) -> None:
        """Say of every connection and equipment that it is not there, unless nothing was said of it yet."""
        if not self._first_said:
            return
        for topic in self._availability.topics:
            if link.full:
                await link.room()
            self._voice.availability(link, topic, online=False)

    async def _say_availability(self, link: Link) -> None:
        while True:
            if link.full:  # before it is taken: who is ended while waiting has not said it
                await link.room()
            if (topic := self._availability.take()) is None:
                return
            self._voice.availability(link, topic, online=self._availability.online(topic))
