"""Records written by hand: an edge node that does everything right, to try the checks on. Pure.

Nothing of the gateway is in here. The checks have to be content with these records, and must not be content
any more when one thing is made wrong (`seeds`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.conformance.sparkplug import decoder
from tests.conformance.sparkplug.checks_births import REBIRTH
from tests.conformance.sparkplug.story import (
    AWAY,
    CHANGED,
    LOST,
    RESTORED,
    STOPPED,
    WRITTEN,
    Facts,
    Transcript,
)
from tests.conformance.sparkplug.wire import (
    Body,
    Closed,
    Connack,
    Connect,
    Disconnect,
    Note,
    Packet,
    Publish,
    Subscribe,
)

NODE = "acme/line-1"
HOST = "scada"
NOW_MS = 1_795_000_000_000
_STATE = 4, "Execute"

Fill = Callable[[Any], None]


def metric(
    payload: Any, name: str | None, alias: int | None, datatype: int | None, value: Any, at: int
) -> Any:
    """Add a metric. A name is for births, an alias alone for data; None is null."""
    raw = payload.metrics.add(timestamp=at)
    if name is not None:
        raw.name = name
    if alias is not None:
        raw.alias = alias
    if datatype is not None and name is not None:
        raw.datatype = datatype
    if value is None:
        raw.is_null = True
    elif datatype is not None:
        setattr(raw, decoder.VALUE_FIELDS[datatype], value)
    return raw


def quality(raw: Any, code: int, *, typed: bool = True) -> None:
    """Say how good a metric is."""
    raw.properties.keys.append(decoder.QUALITY)
    raw.properties.values.add(type=decoder.INT32 if typed else None, int_value=code)


def template(raw: Any, *, definition: bool, members: Mapping[str, str], typed: bool = True) -> None:
    """Make a metric a template of texts."""
    raw.template_value.is_definition = definition
    if definition:
        raw.template_value.version = "1"
    else:
        raw.template_value.template_ref = "Lamp"
    for name, value in members.items():
        member = raw.template_value.metrics.add(name=name, string_value=value)
        if typed:
            member.datatype = decoder.STRING


class Script:
    """Writes the packets of one edge node with two devices, `filler` and `oven`."""

    def __init__(
        self, name: str, *, protocol: str = "5", host: bool = False, servers: int = 1, **more: Any
    ) -> None:
        self.packets: list[Packet] = []
        self.at_ms = float(NOW_MS)
        self.seq = 0
        self.bdseq = -1
        self.connection = 0
        self.server = "one"
        names = ("one", "two", "three")[:servers]
        devices = {NODE: frozenset({"filler", "oven"})}
        self.facts = Facts(devices, protocol, HOST if host else None, names, **more)
        self._name = name

    @property
    def transcript(self) -> Transcript:
        return Transcript(self._name, self.facts, tuple(self.packets))

    @property
    def now(self) -> int:
        return int(self.at_ms)

    def add(self, body: Body, *, up: bool = True, after_ms: float = 10.0) -> None:
        self.at_ms += after_ms
        number, away = len(self.packets) + 1, isinstance(body, Note)
        connection, server = (0, "") if away else (self.connection, self.server)
        self.packets.append(Packet(number, self.at_ms, connection, server, up, body))

    def note(self, what: str, about: str = "", value: Any = None) -> None:
        self.add(Note(what, about, value))

    def death(self) -> bytes:
        payload = decoder.empty()
        metric(payload, "bdSeq", None, decoder.INT64, self.bdseq, self.now)
        return bytes(payload.SerializeToString())

    def connect(self, server: str = "one") -> None:
        """CONNECT, its answer, and the subscriptions."""
        self.connection += 1
        self.server = server
        self.bdseq = (self.bdseq + 1) % 256
        will = Publish("spBv1.0/acme/NDEATH/line-1", self.death(), 1)
        self.add(Connect(self.facts.protocol, "andon-line-1-sparkplug", True, will))
        self.add(Connack(0), up=False)
        filters = [("spBv1.0/acme/NCMD/line-1", 1), ("spBv1.0/acme/DCMD/line-1/+", 1)]
        if self.facts.primary_host:
            filters.append((f"spBv1.0/STATE/{HOST}", 1))
        self.add(Subscribe(1, tuple(filters)))

    def say(self, kind: str, device: str, fill: Fill) -> None:
        """A counted message."""
        self.seq = 0 if kind == "NBIRTH" else (self.seq + 1) % 256
        payload = decoder.empty()
        payload.timestamp, payload.seq = self.now + 10, self.seq
        fill(payload)
        topic = f"spBv1.0/acme/{kind}/line-1" + (f"/{device}" if device else "")
        self.add(Publish(topic, payload.SerializeToString()))

    def births(self, *devices: str) -> None:
        """NBIRTH and DBIRTHs."""

        def node(payload: Any) -> None:
            metric(payload, "bdSeq", 1, decoder.INT64, self.bdseq, self.now)
            metric(payload, REBIRTH, None, decoder.BOOLEAN, False, self.now)
            metric(payload, "Connections/plc/Online", 2, decoder.BOOLEAN, True, self.now)
            lamp = metric(payload, "Lamp", 3, decoder.TEMPLATE, None, self.now)
            lamp.ClearField("is_null")
            template(lamp, definition=True, members={"Colour": "", "Text": ""})

        self.say("NBIRTH", "", node)
        for device in devices or ("filler", "oven"):
            self.device_birth(device)

    def device_birth(self, device: str) -> None:
        first = 10 if device == "filler" else 20

        def fill(payload: Any) -> None:
            metric(payload, "State", first, decoder.STRING, "Idle", self.now - 5000)
            speed = metric(payload, "Tags/plc/speed", first + 1, 10, 1.5, self.now - 4000)
            quality(speed, 192)
            metric(payload, "Tags/plc/empty", first + 2, decoder.INT32, None, self.now - 3000)
            lamp = metric(payload, "Lamp of it", first + 3, decoder.TEMPLATE, None, self.now - 2000)
            lamp.ClearField("is_null")
            template(lamp, definition=False, members={"Colour": "red", "Text": "Idle"})

        self.say("DBIRTH", device, fill)

    def speed(self, value: float, device: str = "filler", *, told: bool = True, **more: Any) -> None:
        """The speed changes, and is told."""
        first = 10 if device == "filler" else 20
        self.note(CHANGED, f"{device}:Tags/plc/speed", value)

        def fill(payload: Any) -> None:
            at = more.get("at", self.now)
            raw = metric(payload, None, first + 1, None, value, at)
            raw.double_value = value
            if more.get("historical"):
                raw.is_historical = True
            if "quality" in more:
                quality(raw, more["quality"])

        if told:
            self.say("DDATA", device, fill)

    def online(self, value: bool) -> None:
        """The link changes, as the edge node sees it."""
        self.note(CHANGED, ":Connections/plc/Online", value)

        def fill(payload: Any) -> None:
            raw = metric(payload, None, 2, None, value, self.now)
            raw.boolean_value = value

        self.say("NDATA", "", fill)

    def lamp(self, colour: str) -> None:
        """A member of the template changes."""

        def fill(payload: Any) -> None:
            raw = metric(payload, None, 13, None, "", self.now)
            template(raw, definition=False, members={"Colour": colour}, typed=False)

        self.say("DDATA", "filler", fill)

    def lose(self, device: str) -> None:
        self.note(LOST, device)
        self.say("DDEATH", device, lambda payload: None)

    def restore(self, device: str) -> None:
        self.note(RESTORED, device)
        self.device_birth(device)

    def command(self, kind: str, device: str, fill: Fill | bytes) -> None:
        """Somebody commands; the broker passes it on."""
        payload = decoder.empty()
        payload.timestamp = self.now
        if callable(fill):
            fill(payload)
        data = fill if isinstance(fill, bytes) else payload.SerializeToString()
        topic = f"spBv1.0/acme/{kind}/line-1" + (f"/{device}" if device else "")
        self.add(Publish(topic, data), up=False, after_ms=9000.0)

    def ask_rebirth(self, value: bool = True, *, stamped: bool = True) -> None:
        def fill(payload: Any) -> None:
            raw = metric(payload, REBIRTH, None, decoder.BOOLEAN, value, self.now)
            if not stamped:
                raw.ClearField("timestamp")

        self.command("NCMD", "", fill)

    def state(self, online: bool, timestamp: int, *, host: str = HOST, payload: bytes | None = None) -> None:
        """The host says how it is."""
        said = json.dumps({"online": online, "timestamp": timestamp}).encode() if payload is None else payload
        self.add(Publish(f"spBv1.0/STATE/{host}", said, 1, True), up=False)

    def leave(self) -> None:
        """NDEATH, DISCONNECT, and the end of the connection."""
        self.add(Publish("spBv1.0/acme/NDEATH/line-1", self.death()))
        self.add(Disconnect(4 if self.facts.protocol == "5" else 0))
        self.add(Closed("node"))


def _a_day(script: Script) -> Script:
    script.connect()
    script.births()
    script.speed(2.5)
    script.online(False)
    script.lose("oven")
    script.speed(3.5, quality=500)
    script.restore("oven")
    script.online(True)
    script.lamp("green")
    script.ask_rebirth(stamped=False)
    script.births()
    for step in range(300):
        script.speed(10.0 + step)
    script.ask_rebirth(value=False)
    script.command("NCMD", "", b"\xff\xff\xff")
    script.command("DCMD", "filler", lambda payload: metric(payload, "Nobody", None, 12, "x", script.now))
    script.at_ms += 2000
    script.speed(1.25, "oven")
    script.note(AWAY)
    script.add(Closed("cable"))
    script.connect()
    script.births()
    script.speed(0.5, at=script.now - 20_000, historical=True)
    script.speed(0.75)
    script.note(STOPPED)
    script.leave()
    return script


def plain(protocol: str = "5") -> Transcript:
    """Start, data, a device lost and restored, rebirths, garbage, a cut cable, and a clean stop."""
    return _a_day(Script(f"by hand, {protocol}", protocol=protocol)).transcript


def hosted() -> Transcript:
    """A primary host that is waited for, goes, and is found at the second server."""
    script = Script("by hand, host", host=True, servers=2)
    script.connect("one")
    script.state(True, 100, host="other")
    script.state(False, 100)
    script.state(True, 0, payload=b"ONLINE")
    script.state(True, 50)
    script.state(True, 200)
    script.births()
    script.speed(2.0)
    script.state(False, 150)
    script.speed(3.0)
    script.state(False, 200)
    script.leave()
    script.connect("two")
    script.state(True, 300)
    script.births()
    script.speed(4.0)
    script.note(STOPPED)
    script.leave()
    return script.transcript


def writing() -> Transcript:
    """A host that writes to a device."""
    script = Script("by hand, commands", commands=True)
    script.connect()
    script.births()

    def speed(payload: Any) -> None:
        raw = metric(payload, None, 11, None, 7.5, script.now)
        raw.double_value = 7.5

    script.command("DCMD", "filler", speed)
    script.note(WRITTEN, "filler:Tags/plc/speed", 7.5)
    script.speed(7.5)
    script.command("DCMD", "filler", lambda p: metric(p, "Tags/plc/speed", None, 12, "fast", script.now))
    script.at_ms += 2000
    script.speed(8.5)
    script.note(STOPPED)
    script.leave()
    return script.transcript


def right() -> list[Transcript]:
    """All of them."""
    return [plain("5"), plain("3.1.1"), hosted(), writing()]
