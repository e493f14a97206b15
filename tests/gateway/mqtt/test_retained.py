"""Reading what a broker keeps: exact topics, bounded in time and bytes, and gone without a trace."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.retained import read_retained
from tests.gateway.mqtt.support import ACCEPTED_5, Script, Talk, accepted, message, scripted
from tests.gateway.publish.support import until, within


def keeps(*said: bytes, code: int = 0, connack: bytes = ACCEPTED_5, seen: list[bytes]) -> Script:
    """A broker that answers one SUBSCRIBE for two topics with codes and then says all this."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk(reader, writer)
        seen.append(await talk.packet())
        talk.say(connack)
        seen.append(await talk.packet())
        talk.say(bytes([0x90, 5, 0, 1, 0, 0, code]), *said)
        seen.append(await talk.packet())

    return script


async def test_what_is_kept_is_read_and_nothing_else_done() -> None:
    """Also at a broker that would be no use for publishing."""
    seen: list[bytes] = []
    limited = accepted(b"\x24\x00", b"\x25\x00")
    said = [message("a", b"1", retain=True), message("b", b"2", retain=True), message("b", b"", retain=True)]
    async with scripted(keeps(*said, connack=limited, seen=seen), client_id="andon-x") as options:
        found = await within(read_retained(options, ["a", "b"], quiet_s=1.0))
        await until(lambda: len(seen) == 3, "the good-bye")
    assert found == {"a": b"1"}
    connect, subscribe, last = seen
    assert connect.endswith(b"\x00\x11andon-x-reconcile")
    assert connect[9] == 0x02, "a clean start, no will, no user"
    assert subscribe[5:] == b"\x00\x01a\x00\x00\x01b\x00"
    assert last == b"\xe0\x00"


async def test_more_than_is_taken_is_not_taken() -> None:
    seen: list[bytes] = []
    said = [message("a", b"x" * 60, retain=True), message("b", b"x" * 60, retain=True)]
    async with scripted(keeps(*said, seen=seen)) as options:
        with pytest.raises(SinkUnavailable, match="more than is taken"):
            await within(read_retained(options, ["a", "b"], bytes_max=100))
    async with scripted(keeps(*said, seen=seen)) as options:
        assert len(await within(read_retained(options, ["a", "b"], bytes_max=122))) == 2


async def test_topics_that_may_not_be_read_are_named() -> None:
    async with scripted(keeps(code=0x87, seen=[])) as options:
        with pytest.raises(SinkRefused, match=r'cannot be compared.*"b".*not authorised') as refused:
            await within(read_retained(options, ["a", "b"]))
    assert "read it" in refused.value.hint


async def test_a_broker_that_says_nothing_is_not_waited_for_for_ever() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(ACCEPTED_5)
        while await reader.read(65536):
            pass

    async with scripted(silent) as options:
        with pytest.raises(SinkUnavailable, match="does not answer in time"):
            await within(read_retained(replace(options, connect_timeout_s=5.0), ["a"], timeout_s=0.3))
