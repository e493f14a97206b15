"""Who is there: connections, equipment, the gateway; after a stop, a crash and a will that comes late."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.publish import presence
from gateway.publish import publisher as publishing
from gateway.publish.availability import Availability, Links
from statemodel.records import Recorded
from statemodel.types import SourceLost, SourceRestored
from tests.gateway.publish.support import (
    T0,
    WAIT_S,
    BrokerUnderTest,
    HurriedClock,
    Mosquitto,
    Plant,
    Proxy,
    Running,
    Subscriber,
    recorded,
    retained,
    retains,
    until,
    within,
)

STATUS = "andon/line-1/status"
#: As they are, whatever a test makes of them.
STOP_S, STOP_EACH_S = publishing.STOP_S, publishing.STOP_EACH_S
FEEDS = {"filler-1": ("filler-plc",), "capper-1": ("filler-plc", "capper-plc"), "door-1": ()}


def link(name: str) -> str:
    return f"andon/line-1/_connection/{name}"


def of(name: str) -> str:
    return f"acme/berlin/filling/line-1/{name}/_availability"


def lost(seq: int, connection: str) -> Recorded:
    return recorded(seq, SourceLost(connection, T0, "no answer"))


def restored(seq: int, connection: str) -> Recorded:
    return recorded(seq, SourceRestored(connection, T0))


def online(listening: Subscriber) -> int:
    return len([message for message in listening.on("status") if message.payload == b"online"])


def more_online(listening: Subscriber, than: int) -> bool:
    return online(listening) > than


class Site:
    """A plant whose links come and go, as the journal tells of them."""

    def __init__(self, *equipment: str) -> None:
        self.plant = Plant(*(equipment or FEEDS))
        self.links = Links(("filler-plc", "capper-plc"))
        self.more: dict[str, Any] = {"links": self.links, "feeds": FEEDS}

    async def tell(self, *events: Recorded) -> None:
        await self.plant.append(*events)
        self.links.announce(events)


@given(st.lists(st.tuples(st.sampled_from("abcx"), st.booleans())))
def test_a_thing_is_there_while_all_it_depends_on_is(moves: list[tuple[str, bool]]) -> None:
    links = Links("abc")
    depends: dict[str, Sequence[str]] = {"one": "a", "two": "ab", "all": "abc", "none": ""}
    availability = Availability(links, depends)
    told = {topic: availability.online(topic) for topic in depends}
    assert told == {"one": False, "two": False, "all": False, "none": True}
    up = dict.fromkeys("abc", False)
    for seq, (name, is_up) in enumerate(moves, 1):
        links.announce([restored(seq, name) if is_up else lost(seq, name)])
        if name in up:
            up[name] = is_up
        while (topic := availability.take()) is not None:
            told[topic] = availability.online(topic)
        assert told == {topic: all(up[name] for name in names) for topic, names in depends.items()}


async def test_each_connection_and_equipment_says_whether_it_is_there(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    site = Site()
    async with Running(site.plant.publisher(broker.settings(), **site.more)):
        await subscriber.wait(lambda: bool(subscriber.on("status")), "online")
        told = await retained(broker.port)
        assert told[STATUS] == b"online"
        assert {told[link(name)] for name in site.links.connections} == {b"offline"}, "never seen yet"
        assert (told[of("filler-1")], told[of("door-1")]) == (b"offline", b"online")
        await site.tell(restored(1, "filler-plc"), restored(2, "capper-plc"))
        await subscriber.wait(lambda: subscriber.on(of("capper-1"))[-1].payload == b"online", "there")
        await site.tell(lost(3, "capper-plc"))
        await subscriber.wait(lambda: subscriber.on(of("capper-1"))[-1].payload == b"offline", "gone")
        wanted = {
            link("filler-plc"): b"online",
            link("capper-plc"): b"offline",
            of("filler-1"): b"online",
            of("capper-1"): b"offline",
        }
        await retains(broker.port, lambda told: wanted.items() <= told.items(), "what there is")
    told = await retained(broker.port)
    names = [STATUS, *map(link, site.links.connections), *map(of, FEEDS)]
    assert {told[name] for name in names} == {b"offline"}, "a clean stop says so of everything"
    last = [message.topic for message in subscriber.heard if message.payload == b"offline"][-1]
    assert last == STATUS, "of the gateway last"


async def test_nothing_is_there_while_the_journal_takes_nothing(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    """The states stand still then: nobody may take them for the truth."""
    site, full = Site(), [""]
    async with Running(site.plant.publisher(broker.settings(), **site.more)):
        watch = asyncio.create_task(site.links.keep_watch(lambda: full[0], HurriedClock()))
        try:
            await site.tell(restored(1, "filler-plc"))
            await subscriber.wait(lambda: subscriber.on(of("filler-1"))[-1:] != [], "told")
            await subscriber.wait(lambda: subscriber.on(of("filler-1"))[-1].payload == b"online", "there")
            full[0] = "the disk has 0 bytes left"
            await subscriber.wait(lambda: subscriber.on(of("filler-1"))[-1].payload == b"offline", "blind")
            await subscriber.wait(
                lambda: subscriber.on(link("filler-plc"))[-1].payload == b"offline", "blind"
            )
            assert (await retained(broker.port))[STATUS] == b"online", "the gateway itself is there"
            full[0] = ""
            await subscriber.wait(
                lambda: subscriber.on(of("filler-1"))[-1].payload == b"online", "there again"
            )
            assert (await retained(broker.port))[link("capper-plc")] == b"offline", "it never came"
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


async def test_a_journal_that_is_full_for_a_moment_is_nobodys_news() -> None:
    links, heard, looks = Links(("plc",)), list[str](), iter(["", "full", "", "full", "full", ""])
    links.announce([restored(1, "plc")])
    links.hear(heard.append)
    told = []

    class Stepping(SystemClock):
        async def sleep(self, seconds: float) -> None:
            told.append(links.up("plc"))

    with pytest.raises(RuntimeError):  # out of looks
        await links.keep_watch(lambda: next(looks), Stepping())
    assert told == [True, True, True, True, False, True]
    assert heard == ["plc", "plc"]


async def test_what_changed_while_the_broker_was_away_is_said_first(mosquitto: Mosquitto) -> None:
    """The store outlives the outage here: what it held of links is not believed a moment longer."""
    site = Site()
    await mosquitto.start()
    async with Proxy(mosquitto.port) as proxy:
        publisher = site.plant.publisher(mosquitto.settings(proxy.port), **site.more)
        async with Running(publisher):
            await site.tell(restored(1, "filler-plc"))
            await within(site.plant.journal.wait_cursor("mqtt", 1))
            async with Subscriber(mosquitto.port) as listening:
                await listening.wait(lambda: bool(listening.on("status")), "online")
                proxy.target_port = 1
                proxy.cut()
                await listening.wait(lambda: listening.on("status")[-1].payload == b"offline", "the will")
                await site.tell(lost(2, "filler-plc"))
                proxy.target_port = mosquitto.port
                await listening.wait(lambda: listening.on("status")[-1].payload == b"online", "back")
                news = [m for m in listening.heard if not m.retain]
                back = next(i for i, m in enumerate(news) if m.topic == STATUS and m.payload == b"online")
                told = {m.topic: m.payload for m in news[:back]}
                assert (told[of("filler-1")], told[link("filler-plc")]) == (b"offline", b"offline")
            assert publisher.status().connects == 2


async def test_a_thousand_are_said_goodbye_to(mosquitto: Mosquitto) -> None:
    names = [f"machine-{number}" for number in range(1000)]
    mosquitto.lines.append("max_inflight_messages 20")
    await mosquitto.start()
    plant, links = Plant(*names), Links(("plc",))
    feeds = dict.fromkeys(names, ("plc",))
    publisher = plant.publisher(mosquitto.settings(), links=links, feeds=feeds)
    running = Running(publisher)
    async with running:
        links.announce([restored(1, "plc")])
        await until(lambda: publisher.status().connected, "connected")
        await until(lambda: not publisher.status().in_flight, "told")
    told = await retained(mosquitto.port)
    assert {told[of(name)] for name in names} == {b"offline"}
    assert told[STATUS] == b"offline"


async def test_a_goodbye_that_takes_too_long_is_left_to_the_will(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "STOP_S", STOP_S)
    monkeypatch.setattr(publishing, "STOP_EACH_S", STOP_EACH_S)
    assert STOP_EACH_S < STOP_S <= 3.0, "a service manager waits no longer"
    await mosquitto.start()
    site = Site()
    async with Proxy(mosquitto.port) as proxy, Subscriber(mosquitto.port) as listening:
        async with Running(
            site.plant.publisher(mosquitto.settings(proxy.port, keep_alive="1h"), **site.more)
        ):
            await listening.wait(lambda: bool(listening.on("status")), "online")
            proxy.deaf = True  # nothing is acknowledged any more
            await site.tell(restored(1, "filler-plc"))
            await listening.wait(lambda: bool(listening.on("source_restored")), "it arrives")
            began_s = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began_s < WAIT_S, "as long as it likes to"
        proxy.cut()
        await listening.wait(lambda: listening.on("status")[-1].payload == b"offline", "the will")


@pytest.mark.parametrize("readable", [True, False])
async def test_an_old_will_does_not_have_the_last_word(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    """Whether the broker lets us listen to our own status or not: it is put right within seconds."""
    monkeypatch.setattr(presence, "UNHEARD_AFTER_S", tuple(range(1, 100)))
    monkeypatch.setattr(presence, "ECHO_S", WAIT_S)
    if not readable:
        rules = mosquitto._config.with_name("rules")
        rules.write_text("pattern write #\ntopic read acme/#\nuser reader\ntopic readwrite #\n")
        rules.chmod(0o600)
        mosquitto.lines.append(f"acl_file {rules}")
    await mosquitto.start()
    site = Site()
    login = {"user": "reader", "password": ""}
    async with Subscriber(mosquitto.port, protocol="5", **login) as listening:
        publisher = site.plant.publisher(mosquitto.settings(), **site.more)
        async with Running(publisher):
            await listening.wait(lambda: bool(listening.on("status")), "online")
            await until(lambda: publisher._presence.heard or not readable, "it hears itself")
            for _ in range(2):
                said = online(listening)
                await listening.say(STATUS, b"offline")
                await listening.wait(
                    partial(more_online, listening, said),
                    "online again",
                )
            assert publisher._presence.heard is readable
    assert listening.on("status")[-1].payload == b"offline", "and at the end it stays said"


async def test_a_broker_that_lost_its_store_in_silence_is_told_again(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections stand; what it retained is gone. Nobody says so: we look."""
    assert presence.LOOK_EVERY_S + 2 * presence.ECHO_S < 10.0, "so soon it is noticed"
    monkeypatch.setattr(presence, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(presence, "ECHO_S", 0.5)
    await mosquitto.start()
    site = Site()
    await site.plant.happen(6)
    async with Subscriber(mosquitto.port) as someone:
        publisher = site.plant.publisher(mosquitto.settings(), **site.more)
        async with Running(publisher):
            await until(lambda: publisher._presence.heard, "it hears itself")
            before = await retained(mosquitto.port)
            # The status goes while nobody hears of it: as if the store had been emptied underneath. It goes
            # last, for that is what is looked at.
            monkeypatch.setattr(publisher._presence, "_wrong", asyncio.Event())
            for topic in sorted(before, key=STATUS.__eq__):
                await someone.say(topic, b"")

            def said_again(topic: str) -> bool:
                said = [heard.payload for heard in someone.heard if heard.topic == topic]
                return b"" in said and said[-1] == before[topic]

            await someone.wait(lambda: all(map(said_again, before)), "all of it again")
            assert await retained(mosquitto.port) == before
            assert publisher.status().connects == 1


def test_the_journal_alone_says_who_is_there() -> None:
    links = Links(("plc",))
    heard: list[str] = []
    links.hear(heard.append)
    assert not links.up("plc"), "before the first contact"
    links.announce([restored(1, "plc"), restored(2, "plc"), restored(3, "elsewhere")])
    assert links.up("plc")
    assert not links.up("elsewhere")
    links.announce([lost(4, "plc")])
    assert (links.up("plc"), heard) == (False, ["plc", "plc"])
