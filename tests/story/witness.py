"""What the outside saw: an MQTT subscriber and an SSE client that keep going whatever happens."""

from __future__ import annotations

import asyncio
import json
import threading
from types import TracebackType
from typing import Any, Self

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode


class MqttWitness:
    """A subscriber with a lasting session: what is published while it is away waits for it in the broker."""

    def __init__(self, port: int, *, lasting: bool) -> None:
        self.events: list[dict[str, Any]] = []
        self.bodies: dict[str, bytes] = {}
        self.retained: dict[str, dict[str, Any]] = {}
        self.status = ""
        self.backwards: list[str] = []
        self._port = port
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        version = MQTTProtocolVersion.MQTTv5 if lasting else MQTTProtocolVersion.MQTTv311
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"witness-{port}", protocol=version)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.reconnect_delay_set(1, 1)
        self._properties: Properties | None = None
        if lasting:
            self._properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            self._properties.SessionExpiryInterval = 3600

    def __enter__(self) -> Self:
        if self._properties is not None:
            self._client.connect_async(
                "127.0.0.1", self._port, clean_start=False, properties=self._properties
            )
        else:
            self._client.connect_async("127.0.0.1", self._port)
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_subscribed(self, within_s: float = 60.0) -> None:
        assert self._subscribed.wait(within_s), "the broker did not take the subscription"

    @property
    def first_copies(self) -> list[dict[str, Any]]:
        """Events in the order they came, later copies of the same id left out."""
        with self._lock:
            seen: dict[str, dict[str, Any]] = {}
            for event in self.events:
                seen.setdefault(event["id"], event)
            return list(seen.values())

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, _code: ReasonCode, _properties: Any
    ) -> None:
        client.subscribe("#", qos=1)

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed.set()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._lock:
            if message.topic.endswith("/status"):
                self.status = message.payload.decode()
            elif "/_event/" in message.topic:
                event = json.loads(message.payload)
                body = bytes(message.payload)
                assert self.bodies.setdefault(event["id"], body) == body
                self.events.append(event)
            elif message.topic.endswith("/_state") and not message.payload:
                self.retained.pop(message.topic, None)  # cleared: the equipment has left the configuration
            elif message.topic.endswith("/_state"):
                state = json.loads(message.payload)
                last = self.retained.get(message.topic)
                if last is not None and state["seq"] < last["seq"]:
                    self.backwards.append(f"{message.topic}: {last['seq']} then {state['seq']}")
                self.retained[message.topic] = state


class SseWitness:
    """Follows the event stream from the first event on, resuming where it stopped."""

    def __init__(self, url: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.resumed = 0
        self._url = f"{url}/api/v1/events"
        self._cursor = "0"
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        timeout = httpx.Timeout(60.0)
        async with httpx.AsyncClient(trust_env=False, timeout=timeout) as http:
            while True:
                try:
                    async with http.stream(
                        "GET", self._url, headers={"Last-Event-ID": self._cursor}
                    ) as response:
                        if response.status_code == 503:  # it is being stopped
                            await asyncio.sleep(0.1)
                            continue
                        assert response.status_code == 200, await response.aread()
                        pending = data = type_ = ""
                        async for line in response.aiter_lines():
                            if line.startswith("id:"):
                                pending = line[3:].strip()
                            elif line.startswith("event:"):
                                type_ = line[6:].strip()
                            elif line.startswith("data:"):
                                data = line[5:]
                            elif not line and data:
                                if type_ != "problem":  # why the stream ends is no event
                                    self.events.append(json.loads(data))
                                    self._cursor = pending
                                data = ""
                except httpx.HTTPError:
                    self.resumed += 1
                    await asyncio.sleep(0.1)
