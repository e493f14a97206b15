"""A host application to listen to an edge node with: it follows births, numbers and aliases, and keeps all.

paho in a thread of its own; payloads by the product's decoder, which others check. What is wrong by the rules
a host relies on (an order with a hole, an alias nobody announced, data before a birth) lands in `problems`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.payload import Metric, Payload, decode, encode, resolve

WAIT_S = 45.0


class Heard(NamedTuple):
    """One message of an edge node."""

    verb: str
    device: str
    payload: Payload
    qos: int
    retain: bool


class Told(NamedTuple):
    """One value of one metric."""

    value: Any
    at: datetime | None
    historical: bool
    properties: Mapping[str, Any]


class SparkplugHost:
    """Listens to the edge node `group/node`; with a `host_id` it says whether it is there, as hosts do.

    One that is `late` comes when births may be half out: it understands nothing before its first NBIRTH.
    """

    def __init__(
        self, port: int, group: str, node: str, *, host_id: str = "", name: str = "", late: bool = False
    ) -> None:
        self._late = late
        self._port, self._group, self._node, self._host_id = port, group, node, host_id
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv311)
        self._stamp = 0
        self._seq: int | None = None
        self._aliases: dict[int, tuple[str, str, DataType]] = {}
        self._names: dict[tuple[str, str], DataType] = {}
        self.heard: list[Heard] = []
        self.problems: list[str] = []
        self.bdseq: int | None = None
        self.alive: dict[str, bool] = {}
        self.told: dict[tuple[str, str], list[Told]] = {}

    async def __aenter__(self) -> SparkplugHost:
        client = self._client
        client.on_connect, client.on_subscribe, client.on_message = (
            self._on_connect,
            self._on_subscribe,
            self._on_message,
        )
        client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._put_will()
        await asyncio.to_thread(client.connect, "127.0.0.1", self._port, 60)
        client.loop_start()
        async with asyncio.timeout(WAIT_S):
            await self._ready.wait()
        if self._host_id:
            await self.say_online()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    # --- what a host says

    @property
    def _state_topic(self) -> str:
        return f"spBv1.0/STATE/{self._host_id}"

    def _put_will(self) -> None:
        if self._host_id:
            self._stamp = max(self._stamp + 1, int(datetime.now(UTC).timestamp() * 1000))
            body = json.dumps({"online": False, "timestamp": self._stamp})
            self._client.will_set(self._state_topic, body, qos=1, retain=True)

    async def say_online(self, *, anew: bool = False) -> None:
        """STATE: online, with the time that stands in the will; `anew` with a newer one."""
        self._stamp += anew
        await self._say(
            self._state_topic, json.dumps({"online": True, "timestamp": self._stamp}).encode(), retain=True
        )

    async def say_offline(self, *, stamp: int | None = None) -> None:
        """STATE: offline, as of now unless another time is given."""
        now = max(self._stamp, int(datetime.now(UTC).timestamp() * 1000))
        body = {"online": False, "timestamp": now if stamp is None else stamp}
        await self._say(self._state_topic, json.dumps(body).encode(), retain=True)
        self._stamp = now + 1

    async def rebirth(self) -> None:
        """Ask for the births again."""
        metric = Metric("Node Control/Rebirth", None, DataType.BOOLEAN, True, datetime.now(UTC))
        await self.command("", metric)

    async def command(self, device: str, *metrics: Metric) -> None:
        """NCMD, or DCMD for a device."""
        payload = encode(Payload(datetime.now(UTC), None, metrics))
        verb, end = ("DCMD", f"/{device}") if device else ("NCMD", "")
        await self._say(f"spBv1.0/{self._group}/{verb}/{self._node}{end}", payload, qos=0)

    def storm(self, count: int) -> None:
        """So many requests for a rebirth, as fast as they go out."""
        metric = Metric("Node Control/Rebirth", None, DataType.BOOLEAN, True, datetime.now(UTC))
        payload = encode(Payload(datetime.now(UTC), None, (metric,)))
        for _ in range(count):
            self._client.publish(f"spBv1.0/{self._group}/NCMD/{self._node}", payload, qos=0)

    async def raw(self, verb: str, device: str, payload: bytes) -> None:
        """Any bytes as a command."""
        await self._say(f"spBv1.0/{self._group}/{verb}/{self._node}{device and '/' + device}", payload, qos=1)

    async def _say(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        await asyncio.to_thread(info.wait_for_publish, WAIT_S)

    # --- what a host hears

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(f"spBv1.0/{self._group}/#", qos=1)

    def _on_subscribe(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._ready.set)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        copy = (message.topic, bytes(message.payload), message.qos, message.retain)
        self._loop.call_soon_threadsafe(self._hear, *copy)

    def _hear(self, topic: str, body: bytes, qos: int, retain: bool) -> None:
        _, _, verb, node, *device = topic.split("/")
        if node != self._node or verb in ("NCMD", "DCMD"):
            return
        heard = Heard(verb, device[0] if device else "", decode(body), qos, retain)
        if self._late and self._seq is None and verb != "NBIRTH":
            return
        self.heard.append(heard)
        self._follow(heard)
        self._news.set()

    def _follow(self, heard: Heard) -> None:
        verb, device, payload = heard.verb, heard.device, heard.payload
        if verb == "NDEATH":
            if _named(payload, "bdSeq") == self.bdseq:
                self.alive = dict.fromkeys(self.alive, False)
            return
        if verb == "NBIRTH":
            self._aliases.clear()
            self._names.clear()
            self.alive = {"": True}
            self.bdseq = _named(payload, "bdSeq")
            self._seq = -1
        if self._seq is None or payload.seq != (self._seq + 1) % 256:
            self.problems.append(f"{verb} {device}: seq {payload.seq} after {self._seq}")
        self._seq = payload.seq
        if verb == "DDEATH":
            self.alive[device] = False
            return
        if verb == "DBIRTH":
            self.alive[device] = True
        if not self.alive.get(device):
            self.problems.append(f"{verb} of {device or 'the node'}, which was not born")
        for metric in payload.metrics:
            self._take(device, metric, birth=verb in ("NBIRTH", "DBIRTH"))

    def _take(self, device: str, metric: Metric, *, birth: bool) -> None:
        if birth:
            assert metric.name is not None
            assert metric.datatype is not None
            name = metric.name
            self._names[device, name] = metric.datatype
            if metric.alias is not None:
                if metric.alias in self._aliases and self._aliases[metric.alias][:2] != (device, name):
                    self.problems.append(f"alias {metric.alias} is there twice")
                self._aliases[metric.alias] = (device, name, metric.datatype)
        else:
            if metric.alias is not None:
                if metric.alias not in self._aliases:
                    self.problems.append(f"alias {metric.alias} was not announced")
                    return
                of, name, datatype = self._aliases[metric.alias]
                if of != device:
                    self.problems.append(f"alias {metric.alias} is of {of}, not of {device}")
            else:
                name = metric.name or ""
                datatype = self._names[device, name]
            metric = resolve(metric, datatype)
        told = Told(metric.value, metric.at, metric.historical, dict(metric.properties))
        self.told.setdefault((device, name), []).append(told)

    def value(self, device: str, name: str) -> Any:
        """The newest value of a metric that is not history."""
        found = [told for told in self.told.get((device, name), []) if not told.historical]
        return found[-1].value if found else None

    def values(self, device: str, name: str) -> list[Any]:
        """Every value of a metric, in the order in which it was so, each once."""
        told = dict.fromkeys(
            (item.at, item.value) for item in self.told.get((device, name), []) if item.at is not None
        )
        return [value for _, value in sorted(told, key=lambda item: item[0])]  # as heard within a millisecond

    def verbs(self, device: str | None = None) -> list[str]:
        """What came, in order."""
        return [item.verb for item in self.heard if device is None or item.device == device]

    async def wait(self, enough: Callable[[], bool], what: str, within_s: float = WAIT_S) -> None:
        """Wait for messages until `enough`."""
        try:
            async with asyncio.timeout(within_s):
                while not enough():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"never heard: {what}; heard {self.verbs()[-30:]}") from None


def _named(payload: Payload, name: str) -> Any:
    return next((metric.value for metric in payload.metrics if metric.name == name), None)
