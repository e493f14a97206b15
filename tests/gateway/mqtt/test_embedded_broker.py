"""The broker inside the process: it says why it cannot start, keeps what it must, leaves nothing."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.clock import SystemClock
from gateway.config.schema import MqttSettings
from gateway.errors import StartFailed
from gateway.mqtt import embedded_broker
from gateway.mqtt.embedded_broker import EmbeddedBroker
from gateway.mqtt.link import Link
from gateway.mqtt.options import link_options
from tests.gateway.publish.support import (
    GATEWAY,
    WAIT_S,
    Subscriber,
    free_port,
    retained,
    until,
    within,
)


async def linked(broker: EmbeddedBroker) -> Link:
    options = link_options(MqttSettings(broker="embedded"), GATEWAY, embedded_port=broker.port)
    return await within(Link.open(options, SystemClock(), will=None))


async def test_a_port_in_use_is_said_with_what_to_do() -> None:
    first = EmbeddedBroker(free_port())
    await first.start()
    second = EmbeddedBroker(first.port)
    with pytest.raises(StartFailed, match=f"127.0.0.1:{first.port}") as failed:
        await second.start()
    assert "embedded_port" in failed.value.hint
    await second.stop()
    await first.stop()
    await second.start()
    await second.stop()


async def test_it_leaves_no_task_and_no_connection() -> None:
    before = asyncio.all_tasks()
    broker = EmbeddedBroker(0)
    await broker.start()
    link = await linked(broker)
    async with Subscriber(broker.port):
        for number in range(200):
            link.publish("a/b", b"%d" % number)
        await broker.stop()
    with pytest.raises(Exception, match="connection"):
        await within(link.ended())
    await until(lambda: asyncio.all_tasks() == before, "no task left")


async def test_it_forgets_when_it_is_started_again() -> None:
    broker = EmbeddedBroker(0)
    for _ in range(2):
        await broker.start()
        assert await retained(broker.port) == {}
        link = await linked(broker)
        link.publish("a/b", b"x", retain=True)
        await within(link.room(1))
        assert await retained(broker.port) == {"a/b": b"x"}
        await link.stop(WAIT_S)
        await broker.stop()


async def test_many_in_flight_are_all_acknowledged_and_arrive_in_order() -> None:
    broker = EmbeddedBroker(0)
    await broker.start()
    async with Subscriber(broker.port, "n/#") as subscriber:
        link = await linked(broker)
        for number in range(1000):
            await link.room(200)
            link.publish("n/x", b"%d" % number)
        await within(link.room(1))
        await subscriber.wait(lambda: len(subscriber.heard) >= 1000, "all")
        await link.stop(WAIT_S)
    assert [message.payload for message in subscriber.heard] == [b"%d" % number for number in range(1000)]
    await broker.stop()


async def test_it_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        broker = EmbeddedBroker(0)
        await broker.start()
        link = await linked(broker)
        link.abort()
        _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await writer.drain()
        writer.close()
        await broker.stop()
    assert [record for record in caplog.records if record.name.startswith(("amqtt", "transitions"))] == []


@pytest.mark.parametrize(
    ("connect", "answer"),
    [
        (b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc", b"\x20\x03\x00\x84\x00"),
        (b"\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x03abc", b"\x20\x02\x00\x01"),
        (b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc", b"\x20\x02\x00\x00"),
        (b"\x10\x80\x80\x80\x80\x01\x00\x04MQTT", b""),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x10\x0f\x00\x04mqtt\x04", b""),
    ],
)
async def test_a_client_is_told_at_once_whether_it_is_understood(
    connect: bytes, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_broker, "_HELLO_S", 3 * WAIT_S)
    broker = EmbeddedBroker(0)
    await broker.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    writer.write(connect)
    assert await within(reader.read(100)) == answer
    writer.close()
    await broker.stop()
