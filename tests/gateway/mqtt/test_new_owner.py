"""A connection that goes on with another owner: what comes in is his, and the one of before hears no more."""

from __future__ import annotations

import pytest

from gateway.mqtt.link import Message, MessageRefused
from tests.gateway.mqtt.support import joined, message, puback
from tests.gateway.publish.support import until


async def test_messages_come_to_the_new_owner() -> None:
    before, after = list[Message](), list[Message]()
    async with joined(on_message=before.append) as (link, talk):
        talk.say(message("t", b"1"))
        await until(lambda: bool(before), "the first message")
        link.aim(after.append)
        talk.say(message("t", b"2"))
        await until(lambda: bool(after), "the second message")
        over = [link.is_over]
    over.append(link.is_over)
    assert over == [False, True]
    assert [one.payload for one in before] == [b"1"]
    assert [one.payload for one in after] == [b"2"]


@pytest.mark.parametrize("reason", [None, 0x87, 0x97])
async def test_nobody_hears_what_comes_of_messages_of_before(reason: int | None) -> None:
    told = list[object]()
    refused: list[MessageRefused] = []
    async with joined() as (link, talk):
        link.publish("t", b"1", on_ack=lambda: told.append("before"), on_refused=refused.append)
        link.publish("t", b"2")  # a refusal of this one would have ended the connection
        await talk.packet()
        await talk.packet()
        link.aim(None)
        assert link.in_flight == 2, "they still take their room"
        link.publish("t", b"3", on_ack=lambda: told.append("after"))
        await talk.packet()
        talk.say(puback(1, reason), puback(2, reason), puback(3))
        await until(lambda: not link.in_flight, "all answered")
    assert (told, refused) == (["after"], [])


async def test_an_alias_stays_known_to_the_broker() -> None:
    async with joined(bytes([0x20, 6, 0, 0, 3, 0x22, 0, 5])) as (link, talk):
        sizes = []
        for payload in (b"1", b"2", b"3"):
            link.publish("a/long/topic", payload)
            sizes.append(len(await talk.packet()))
        link.aim(None)
        link.publish("a/long/topic", b"4")
        assert len(await talk.packet()) == sizes[2] < sizes[0]
