"""Commands that come over brokers: what is taken, what is turned away and counted, and what is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from api.access import Principal, Role
from api.commanding import CommandRefused, CommandRequest, CommandView
from connectors.base import WriteOutcome
from gateway.clock import SystemClock
from gateway.config.callers import CallerSettings
from gateway.config.control import AllowSettings
from gateway.config.load import load
from gateway.control import mqtt_listening
from gateway.control.mqtt_listening import ANSWERS_MAX, WAITING_MAX, Ear, MqttListening
from gateway.control.mqtt_orders import KINDS, REQUEST_BYTES_MAX, Asked, Orders, TurnedAway
from gateway.control.over_sparkplug import SparkplugOrders
from gateway.mqtt.options import link_options
from gateway.mqtt.terms import Message
from statemodel.types import CommandStatus
from tests.gateway.publish.support import GATEWAY, Embedded, Subscriber, until
from tests.support.manual_clock import START

TOPIC = "acme/berlin/filling/filler-1/_command"
TAG = "plc/speed_sp"
RULES = [
    AllowSettings.model_validate({"equipment": "filler-1", "tag": TAG, "via": ["mqtt", "rest"]}),
    AllowSettings.model_validate({"equipment": "filler-1", "tag": "plc/other", "via": ["rest"]}),
    AllowSettings.model_validate({"equipment": "oven-1", "tag": "plc/temp_sp", "via": ["mqtt"]}),
    AllowSettings.model_validate({"equipment": "gone-1", "tag": "plc/gone", "via": ["mqtt"]}),
]
PATHS = {"filler-1": "filling/filler-1", "oven-1": "baking/oven-1", "capper-1": "filling/capper-1"}
CALLER = CallerSettings(name="mqtt-host", areas=("filling",)).principal()


def orders() -> Orders:
    return Orders("mqtt", ("acme", "berlin"), RULES, PATHS, timedelta(seconds=10))


def request(**changed: Any) -> bytes:
    fields = {"id": "c-1", "sent_at": START.isoformat(), "tag": TAG, "value": 90.0, **changed}
    return json.dumps({key: value for key, value in fields.items() if value is not ...}).encode()


def message(payload: bytes, *, topic: str = TOPIC, qos: int = 1, retained: bool = False) -> Message:
    return Message(topic, payload, qos, retained)


def view(request: CommandRequest, status: CommandStatus = CommandStatus.VERIFIED, **more: Any) -> CommandView:
    fields: dict[str, Any] = {
        "id": "0001",
        "key": request.key,
        "status": status,
        "tag": request.tag,
        "value": request.value,
        "equipment": "filler-1",
        "path": "filling/filler-1",
        "command": request.command,
        "requested_by": "mqtt-host",
        "requested_at": START,
        "via": "mqtt",
        "expires_at": START,
        "finished_at": START,
        "read": request.value,
    }
    return CommandView(**{**fields, **more})


# What a message says ----------------------------------------------------------------------------------------


def test_only_equipment_that_mqtt_may_command_is_listened_for() -> None:
    assert orders().topics == (TOPIC, "acme/berlin/baking/oven-1/_command")


def test_a_request_becomes_a_command_under_its_own_id() -> None:
    found = orders().read(message(request(expires="5s", requested_by="jane", dry_run=True)), START)
    assert found == Asked(
        CommandRequest(
            key="mqtt:c-1",
            tag=TAG,
            value=90.0,
            expires_s=5.0,
            not_after=START + timedelta(seconds=5),
            dry_run=True,
            note="jane",
            peer="mqtt",
        ),
        "c-1",
        f"{TOPIC}/c-1",
    )


def test_a_command_by_name_is_for_the_equipment_of_its_topic() -> None:
    found = orders().read(message(request(tag=..., value=..., command="Start")), START)
    assert isinstance(found, Asked)
    assert (found.request.equipment, found.request.command, found.request.tag) == ("filler-1", "Start", "")


def test_what_was_held_back_is_late_by_when_it_was_sent() -> None:
    found = orders().read(message(request()), START + timedelta(minutes=5))
    assert isinstance(found, Asked)
    assert found.request.not_after == START + timedelta(seconds=10), "the desk refuses it as expired"


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 4000,
    b'{"id":' + b"[" * 4000,
    request(id=...),
    request(id="a/b"),
    request(id="#"),
    request(id="a" * 65),
    request(id=7),
    request(sent_at=...),
    request(sent_at="2026-03-01T08:00:00"),
    request(sent_at="yesterday"),
    request(value=...),
    request(tag=...),
    request(command="Start"),
    request(value=[1]),
    request(value={"a": 1}),
    request(value="x" * 257),
    request(extra=1),
    request(arm="word"),
    request(expires="soon"),
    request(expires="0s"),
    request(expires="2h"),
    request(expires=5),
    request().replace(b"90.0", b"NaN"),
    request().replace(b"90.0", b"1e999"),
]


@pytest.mark.parametrize("payload", GARBAGE)
def test_what_is_no_request_never_reaches_the_desk(payload: bytes) -> None:
    found = orders().read(message(payload), START)
    assert isinstance(found, TurnedAway)
    assert found.kind == "garbage"
    assert "/" not in found.id
    assert found.answer_to in ("", f"{TOPIC}/{found.id}")


@pytest.mark.parametrize(
    ("kind", "given", "answered"),
    [
        ("retained", message(request(), retained=True), False),
        ("qos", message(request(), qos=0), True),
        ("too_large", message(request(requested_by="x" * REQUEST_BYTES_MAX)), False),
        ("too_large", message(request() + b" " * REQUEST_BYTES_MAX), True),
        ("ahead", message(request(sent_at=(START + timedelta(seconds=6)).isoformat())), True),
        ("elsewhere", message(request(tag="plc/temp_sp")), True),
        ("elsewhere", message(request(tag="plc/other")), True),
        ("elsewhere", message(request(), topic="acme/berlin/filling/capper-1/_command"), True),
    ],
)
def test_what_comes_the_wrong_way_is_turned_away_with_its_kind(
    kind: str, given: Message, answered: bool
) -> None:
    found = orders().read(given, START)
    assert isinstance(found, TurnedAway)
    assert (found.kind, bool(found.answer_to)) == (kind, answered)
    assert kind in KINDS


def test_a_caller_has_the_name_roles_and_areas_of_the_settings() -> None:
    assert (
        Principal("mqtt-host", "key", frozenset({Role.OPERATOR}), ("filling",), "broker:mqtt-host") == CALLER
    )
    for roles in (["viewer"], ["admin"], ["operator", "auditor"], []):
        with pytest.raises(ValueError, match="roles"):
            CallerSettings.model_validate({"roles": roles})


# Over a broker ----------------------------------------------------------------------------------------------


class Desk:
    """Takes commands, knows which came twice, and lets a test say when and how they end."""

    def __init__(self) -> None:
        self.asked: list[tuple[CommandRequest, Principal, str]] = []
        self.running: set[str] = set()
        self.go = asyncio.Event()
        self.go.set()
        self.refusal: CommandRefused | None = None
        self.done: dict[str, CommandView] = {}

    async def submit(self, request: CommandRequest, by: Principal, via: str) -> CommandView:
        if request.key in self.running:
            raise CommandRefused("key_running", "it is being worked on")
        if request.key not in self.done:
            self.running.add(request.key)
            self.asked.append((request, by, via))
            await self.go.wait()
            self.running.discard(request.key)
            if self.refusal is not None:
                raise self.refusal
            self.done[request.key] = view(request)
        return self.done[request.key]

    async def approve(self, *_: Any) -> CommandView:
        raise AssertionError

    arm: Any = approve
    find: Any = approve
    list: Any = approve


class Host:
    """A host application with a client that is not ours."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self._port = port

    async def __aenter__(self) -> Host:
        await asyncio.to_thread(self._client.connect, "127.0.0.1", self._port)
        self._client.loop_start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def say(self, payload: bytes, *, qos: int = 1, retain: bool = False, topic: str = TOPIC) -> None:
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        await asyncio.to_thread(info.wait_for_publish, 45)


def now() -> str:
    return datetime.now(UTC).isoformat()


class Site:
    def __init__(self, broker: Embedded, listening: MqttListening, desk: Desk) -> None:
        self.broker, self.listening, self.desk = broker, listening, desk


def listening_at(broker: Embedded, desk: Any) -> MqttListening:
    options = link_options(broker.settings(), GATEWAY)
    options = replace(options, client_id="andon-commands", retain_needed=False)
    return MqttListening(options, orders(), CALLER, lambda: desk, SystemClock(), lambda: 0.0)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    broker, desk = Embedded(), Desk()
    await broker.start()
    listening = listening_at(broker, desk)
    running = asyncio.create_task(listening.run())
    async with asyncio.timeout(45):
        await listening.connected.wait()
    yield Site(broker, listening, desk)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await broker.kill()


def answers(ear: Subscriber, id_: str = "c-1") -> Sequence[dict[str, Any]]:
    return [json.loads(heard.payload) for heard in ear.on(f"/_command/{id_}")]


async def test_a_request_reaches_the_desk_and_is_answered_under_its_id(site: Site) -> None:
    async with Host(site.broker.port) as host, Subscriber(site.broker.port) as ear:
        await host.say(request(sent_at=now(), requested_by="jane"))
        await ear.wait(lambda: bool(answers(ear)), "the answer")
        (answer,) = answers(ear)
    assert (answer["status"], answer["read"], answer["command_id"]) == ("verified", 90.0, "0001")
    ((asked, by, via),) = site.desk.asked
    assert (asked.key, asked.note, by, via) == ("mqtt:c-1", "jane", CALLER, "mqtt")
    (heard,) = ear.on("/_command/c-1")
    assert not heard.retain


async def test_one_id_is_one_command_however_often_it_comes(site: Site) -> None:
    site.desk.go.clear()
    async with Host(site.broker.port) as host, Subscriber(site.broker.port) as ear:
        payload = request(sent_at=now())
        for _ in range(3):
            await host.say(payload)
        await until(lambda: site.listening.counts["taken"] == 3, "three requests")
        site.desk.go.set()
        await ear.wait(lambda: len(answers(ear)) == 1, "the one answer")
        await host.say(payload)
        await ear.wait(lambda: len(answers(ear)) == 2, "the same answer again")
        first, second = answers(ear)
    assert first == second
    assert len(site.desk.asked) == 1


async def test_a_refusal_is_answered_with_its_code(site: Site) -> None:
    site.desk.refusal = CommandRefused("out_of_range", "500 is not within 0 to 120", "less")
    async with Host(site.broker.port) as host, Subscriber(site.broker.port) as ear:
        await host.say(request(sent_at=now(), value=500))
        await ear.wait(lambda: bool(answers(ear)), "the answer")
        (answer,) = answers(ear)
    assert (answer["status"], answer["code"], answer["hint"]) == ("refused", "out_of_range", "less")
    assert site.listening.figures()["refused"] == 1


async def test_what_is_turned_away_is_counted_and_the_desk_hears_nothing(site: Site) -> None:
    async with Host(site.broker.port) as host, Subscriber(site.broker.port) as ear:
        await host.say(b"{")
        await host.say(request(sent_at=now(), id="c-2", tag="plc/temp_sp"))
        await host.say(request(sent_at=now(), id="c-3") + b" " * REQUEST_BYTES_MAX)
        await ear.wait(lambda: len(ear.on("/_command/c-3")) == 1, "the last answer")
    counts = site.listening.figures()
    assert [counts[kind] for kind in ("garbage", "elsewhere", "too_large")] == [1, 1, 1]
    assert [answer["code"] for answer in answers(ear, "c-2")] == ["elsewhere"]
    assert site.desk.asked == []


async def test_a_retained_request_is_never_carried_out() -> None:
    broker, desk = Embedded(), Desk()
    await broker.start()
    async with Host(broker.port) as host:
        await host.say(request(sent_at=now()), retain=True)
    listening = listening_at(broker, desk)
    running = asyncio.create_task(listening.run())
    await until(lambda: listening.counts["retained"] == 1, "the retained request")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await broker.kill()
    assert desk.asked == []


async def test_too_many_at_once_are_refused_and_the_rest_carried_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(mqtt_listening.log, "warning", lambda *args, **more: said.append(more))
    site.desk.go.clear()
    many = WAITING_MAX + mqtt_listening.AT_DESK_MAX + 5
    async with Host(site.broker.port) as host:
        for number in range(many):
            await host.say(request(sent_at=now(), id=f"n{number}"))
        await until(
            lambda: sum(site.listening.counts[k] for k in ("taken", "overrun")) == many, "all of them"
        )
        assert site.listening.counts["overrun"] == 5
        site.desk.go.set()
        await until(lambda: site.listening.counts["done"] == many - 5, "those that were taken")
    assert [more["kind"] for more in said] == ["overrun"], "and little is said of it"


async def test_answers_wait_for_the_broker_and_are_bounded(site: Site) -> None:
    site.desk.go.clear()
    async with Host(site.broker.port) as host:
        await host.say(request(sent_at=now()))
        await until(lambda: len(site.desk.asked) == 1, "the request")
    await site.broker.kill()
    site.desk.go.set()
    await until(lambda: site.listening.counts["done"] == 1, "the end")
    await site.broker.start()
    async with Subscriber(site.broker.port) as ear:
        await ear.wait(lambda: bool(answers(ear)), "the answer after all")
    for number in range(ANSWERS_MAX + 7):
        site.listening._say(f"a/{number}", b"")
    assert site.listening.counts["unanswered"] == 7


async def test_without_a_desk_everything_is_refused() -> None:
    broker = Embedded()
    await broker.start()
    listening = listening_at(broker, None)
    running = asyncio.create_task(listening.run())
    async with asyncio.timeout(45):
        await listening.connected.wait()
    async with Host(broker.port) as host, Subscriber(broker.port) as ear:
        await host.say(request(sent_at=now()))
        await ear.wait(lambda: bool(answers(ear)), "the answer")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await broker.kill()
    assert answers(ear)[0]["code"] == "writes_off"


async def test_another_configuration_is_listened_with_from_then_on() -> None:
    broker, desk, ear = Embedded(), Desk(), Ear()
    await broker.start()
    running = asyncio.create_task(ear.run())
    first, second = listening_at(broker, desk), listening_at(broker, desk)
    ear.use("one", lambda: first)
    async with asyncio.timeout(45):
        await first.connected.wait()
    ear.use("one", lambda: second)
    assert ear.listening is first, "nothing has changed"
    ear.use("two", lambda: second)
    async with asyncio.timeout(45):
        await second.connected.wait()
    assert not first.connected.is_set()
    ear.use("none", lambda: None)
    await until(lambda: not second.connected.is_set(), "nobody listens")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await broker.kill()


# Sparkplug --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (CommandStatus.VERIFIED, WriteOutcome.ACCEPTED),
        (CommandStatus.WRITTEN, WriteOutcome.ACCEPTED),
        (CommandStatus.MISMATCH, WriteOutcome.UNKNOWN),
        (CommandStatus.UNKNOWN, WriteOutcome.UNKNOWN),
        (CommandStatus.ACCEPTED, WriteOutcome.UNKNOWN),
        (CommandStatus.EXPIRED, WriteOutcome.REFUSED),
        (CommandStatus.REFUSED, WriteOutcome.REFUSED),
    ],
)
async def test_a_write_of_a_host_goes_to_the_desk_and_comes_back_as_it_ended(
    status: CommandStatus, outcome: WriteOutcome
) -> None:
    class Ends(Desk):
        async def submit(self, request: CommandRequest, by: Principal, via: str) -> CommandView:
            self.asked.append((request, by, via))
            return view(request, status, code="why")

    desk = Ends()
    port = SparkplugOrders("sparkplug", CALLER, lambda: desk)
    for _ in range(2):
        written = await port.write("filler-1", TAG, 5, "sparkplug DCMD")
        assert (written.tag, written.outcome) == (TAG, outcome)
    (first, by, via), (second, _, _) = desk.asked
    assert (first.tag, first.value, by, via) == (TAG, 5, CALLER, "sparkplug")
    assert first.key != second.key, "each is a command of its own"


async def test_what_the_desk_refuses_a_host_is_refused_and_without_a_desk_everything() -> None:
    desk = Desk()
    desk.refusal = CommandRefused("state", "it is in Execute")
    written = await SparkplugOrders("sparkplug", CALLER, lambda: desk).write(None, TAG, 5, "x")
    assert (written.outcome, written.reason) == (WriteOutcome.REFUSED, "state: it is in Execute")
    written = await SparkplugOrders("sparkplug", CALLER, lambda: None).write(None, TAG, 5, "x")
    assert (written.outcome, written.reason[:10]) == (WriteOutcome.REFUSED, "writes_off")


# What `andon check` says of it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broker", "more", "words"),
    [
        ("mqtt://10.0.0.9:1883", "", ["without TLS", "asks nobody"]),
        ("mqtt://10.0.0.9:1883", 'user = "andon"\n', ["without TLS"]),
        ("mqtts://10.0.0.9:8883", "", ["asks nobody"]),
        ("mqtts://10.0.0.9:8883", 'user = "andon"\n', []),
        ("mqtt://127.0.0.1:1883", 'user = "andon"\n', []),
    ],
)
def test_commands_over_a_broker_that_anybody_may_use_are_warned_of(
    tmp_path: Path, broker: str, more: str, words: list[str]
) -> None:
    path = tmp_path / "andon.toml"
    head = '[gateway]\nid = "line-1"\nenterprise = "acme"\nsite = "berlin"\n[mqtt]\n'
    path.write_text(f'{head}broker = "{broker}"\n{more}commands = {{ name = "host" }}\n', encoding="utf-8")
    warnings = [one for one in load(path).warnings if one.path == "mqtt.commands" and "use" not in one.reason]
    assert [any(word in warning.reason for warning in warnings) for word in words] == [True] * len(words)
    assert len(warnings) == len(words)


WAYS = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
{api}
[mqtt]
broker = "mqtt://127.0.0.1:1883"
user = "andon"
{mqtt}
[sparkplug]
broker = "mqtt://127.0.0.1:1883"
group = "acme"
{sparkplug}
[commands]
enabled = {enabled}
[[commands.allow]]
equipment = "filler-1"
tag = "plc/speed_sp"
min = 0.0
max = 1.0
via = {via}
{arm}
[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "tcp://10.0.0.6:502"
[[connections.groups]]
name = "all"
interval = "1s"
tags = [
  {{ name = "state", address = "holding:0", type = "uint16" }},
  {{ name = "speed_sp", address = "holding:1", type = "uint16" }},
]
[[equipment]]
name = "filler-1"
path = "filling/filler-1"
model = "packml"
state = "plc/state"
"""
_MQTT, _NODE, _API = 'commands = { name = "host" }', "commands = true", '[api]\nlisten = "127.0.0.1:0"'


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        ({"via": '["mqtt", "sparkplug", "rest"]'}, []),
        ({"via": '["mqtt", "sparkplug"]', "api": ""}, []),
        ({"via": '["rest"]'}, ["mqtt.commands", "sparkplug.commands"]),
        ({"enabled": "false"}, ["mqtt.commands", "sparkplug.commands"]),
        ({"via": '["rest"]', "mqtt": "", "sparkplug": ""}, []),
        ({"mqtt": ""}, ["commands.allow[0].via"]),
        ({"sparkplug": ""}, ["commands.allow[0].via"]),
        ({"arm": "arm = true"}, ["commands.allow[0].via"] * 2),
    ],
)
def test_ways_that_lead_nowhere_are_warned_of(
    tmp_path: Path, changed: dict[str, str], warned: list[str]
) -> None:
    ways = {"via": '["mqtt", "sparkplug", "rest"]', "mqtt": _MQTT, "sparkplug": _NODE, "api": _API}
    path = tmp_path / "andon.toml"
    path.write_text(WAYS.format(**{"enabled": "true", "arm": "", **ways, **changed}), encoding="utf-8")
    words = ("is of no use", "nothing comes that way", "nothing can be armed")
    found = [one.path for one in load(path).warnings if any(word in one.reason for word in words)]
    assert found == warned
