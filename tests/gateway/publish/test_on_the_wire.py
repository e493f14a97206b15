"""Templates, rules and CloudEvents as a consumer of a real broker has them; paho reads the properties."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from jsonschema import Draft202012Validator
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.config.mqtt import MqttSettings
from gateway.publish.schemas import schema
from statemodel.types import Quality, SourceLost, TagSample
from tests.gateway.publish.support import (
    T0,
    HurriedClock,
    Mosquitto,
    Plant,
    Running,
    Subscriber,
    recorded,
    until,
)

pytestmark = pytest.mark.real

TOPICS = {
    "state": {"topic": "{site}/{level1}/{equipment}/state", "expiry": "1h", "qos": 0},
    "event": {"topic": "{site}/events/{type}", "qos": 2, "expiry": "1d"},
    "event/source_lost": {"topic": "{site}/links/{connection}/lost", "qos": 1},
    "tag": {"topic": "{site}/{path}/values/{tag}", "retain": False},
    "status": {"topic": "{site}/gateways/{gateway}"},
}


class Reader(Subscriber):
    """Listens with QoS 2 and keeps messages as paho has them."""

    def __init__(self, port: int) -> None:
        super().__init__(port, protocol="5")
        self.messages: list[paho.MQTTMessage] = []

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        options = SubscribeOptions(qos=2, retainAsPublished=True)
        client.subscribe("#", options=options)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self.messages.append(message)
        super()._on_message(client, userdata, message)

    def last(self, topic: str) -> paho.MQTTMessage:
        return next(message for message in reversed(self.messages) if message.topic == topic)


def user(message: paho.MQTTMessage) -> dict[str, str]:
    return dict(said(message).UserProperty)


def said(message: paho.MQTTMessage) -> Any:
    """The properties, whose names paho makes up as they come."""
    return message.properties


async def told(mosquitto: Mosquitto, **more: Any) -> Reader:
    """What a plant with its own tree says, until a state, two events and two tags have come."""
    plant = Plant("filler-1")
    settings = MqttSettings.model_validate(
        {"broker": f"mqtt://127.0.0.1:{mosquitto.port}", "topics": TOPICS, **more}
    )
    await plant.happen(1)
    publisher = plant.publisher(settings)
    reader = Reader(mosquitto.port)
    async with reader:
        async with Running(publisher):
            await reader.wait(lambda: len(reader.on("/events/transition")) == 1, "what was before")
            await plant.append(recorded(2, SourceLost("filler-plc", T0, "gone")))
            for tag in ("oven-plc/temp", "hall/air"):
                publisher.publish_tag(TagSample(tag, 21.5, Quality.GOOD, T0, T0))
            await reader.wait(lambda: bool(reader.on("/lost")), "an event of a connection")
            await reader.wait(
                lambda: len([heard for heard in reader.heard if "/values/" in heard.topic]) == 2, "tags"
            )
        await reader.wait(lambda: reader.heard[-1].payload == b"offline", "the good-bye")
    return reader


async def test_a_tree_of_the_plants_own(mosquitto: Mosquitto) -> None:
    await mosquitto.start()
    reader = await told(mosquitto)

    state = reader.last("berlin/filling/filler-1/state")
    event = reader.last("berlin/events/transition")
    lost = reader.last("berlin/links/filler-plc/lost")
    air = reader.last("berlin/values/air")
    assert {message.topic for message in reader.messages} >= {"berlin/baking/oven-1/values/temp"}
    assert [(m.qos, m.retain) for m in (state, event, lost, air)] == [
        (0, True),
        (2, False),
        (1, False),
        (1, False),
    ]
    assert 3500 < said(state).MessageExpiryInterval <= 3600
    assert 86_300 < said(event).MessageExpiryInterval <= 86_400
    assert not hasattr(said(air), "MessageExpiryInterval")
    assert user(event) == {"late": "true"}
    assert reader.last("berlin/gateways/line-1").payload == b"offline"


async def test_cloud_events(mosquitto: Mosquitto) -> None:
    await mosquitto.start()
    reader = await told(mosquitto, cloudevents=True)

    found = dict(attributes(reader))
    assert {"andon.state", "andon.transition", "andon.source_lost", "andon.tag"} == found.keys()
    event = found["andon.transition"]
    body = json.loads(reader.last("berlin/events/transition").payload)
    assert (event["id"], event["time"], event["subject"]) == (body["id"], body["at"], "filler-1")
    assert (int(event["sequence"]), event["late"]) == (1, "true")
    assert found["andon.state"]["id"] == f"{body['id']}-state"
    assert found["andon.source_lost"]["subject"] == "filler-plc"
    assert len({attribute["id"] for _, attribute in attributes(reader)}) == 5


def attributes(reader: Reader) -> Iterator[tuple[str, dict[str, str]]]:
    """Each CloudEvent by its type, read as the binding says; its data is valid by the schema it names."""
    for message in reader.messages:
        if getattr(said(message), "ContentType", "") != "application/json":
            assert message.payload in (b"online", b"offline")
            continue
        found = user(message)
        assert {"specversion", "id", "source", "type"} <= found.keys()
        name = found["type"].removeprefix("andon.")
        known = json.loads(schema(name))
        assert known["$id"] == found["dataschema"]
        Draft202012Validator(known).validate(json.loads(message.payload))
        yield found["type"], found


async def test_what_a_frozen_broker_does_not_take_is_not_piled_up(mosquitto: Mosquitto) -> None:
    """QoS 0 has no acknowledgement to wait for, and the socket's buffers are all that may fill."""
    await mosquitto.start()
    plant = Plant("filler-1")
    settings = mosquitto.settings(topics={"tag": {"qos": 0}}, keep_alive="1h")
    publisher = plant.publisher(settings)
    async with Running(publisher):
        await until(publisher.is_heard, "all is well")
        os.kill(mosquitto.pid, signal.SIGSTOP)
        try:
            sent: list[int] = []
            for n in range(20_000):
                text = f"{n} " * 200
                publisher.publish_tag(TagSample("hall/air", text, Quality.GOOD, T0, T0))
                await asyncio.sleep(0)
                sent.append(publisher.status().sent)
        finally:
            os.kill(mosquitto.pid, signal.SIGCONT)
        assert sent[-1] == sent[-5_000], "nothing more goes out"
        assert publisher.status().tags_merged > 4_000


async def test_what_would_expire_is_said_again_while_the_gateway_is_there(mosquitto: Mosquitto) -> None:
    await mosquitto.start()
    plant = Plant("filler-1")
    await plant.happen(1)
    settings = mosquitto.settings(topics={"state": {"expiry": "1h"}, "tag": {"expiry": "10s"}})
    publisher = plant.publisher(settings, clock=HurriedClock())
    reader = Reader(mosquitto.port)
    async with reader, Running(publisher):
        publisher.publish_tag(TagSample("hall/air", 21.5, Quality.GOOD, T0, T0))
        await reader.wait(lambda: len(reader.on("/_state")) > 3, "states, again and again")
        await reader.wait(lambda: len(reader.on("/air")) > 3, "tags, again and again")
    for end, expiry_s in (("/_state", 3600), ("/air", 10)):
        told = [message for message in reader.messages if message.topic.endswith(end)]
        intervals = [said(message).MessageExpiryInterval for message in told]
        # The broker takes off the whole seconds for which it held one.
        assert max(intervals) == expiry_s
        assert min(intervals) > expiry_s - 8, "each is good for as long as the first"
        assert len({message.payload for message in told}) == 1
