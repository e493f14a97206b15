"""Commands: what is carried out, what is refused, and that nothing else comes of anything."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sparkplug.commands import (
    COMMAND_METRICS_MAX,
    KINDS,
    Commands,
    NextServer,
    Order,
    Rebirth,
    Refused,
    WriteOrder,
)
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.payload import DataSet, Metric, Payload, encode
from tests.gateway.sparkplug.listening_host import ListeningHost
from tests.gateway.sparkplug.session_parts import T0, born, now

NCMD = "spBv1.0/plant/NCMD/line-1"
DCMD = "spBv1.0/plant/DCMD/line-1/filler-1"
REBIRTH = "Node Control/Rebirth"
SPEED = "Tags/plc/speed"
T = DataType


def metric(
    name: str | int,
    value: Any,
    datatype: DataType = T.BOOLEAN,
    *,
    at: datetime | None = T0,
    historical: bool = False,
) -> Metric:
    """One metric of a command, by name or alias."""
    by_name, alias = (name, None) if isinstance(name, str) else (None, name)
    return Metric(by_name, alias, datatype, value, at, historical=historical)


def said(*metrics: Metric, seq: int | None = None, typed: bool = True, at: datetime | None = T0) -> bytes:
    """A command as bytes."""
    return encode(Payload(at, seq, metrics, typed=typed))


def commands(*, writes: bool = True) -> tuple[Commands, ListeningHost]:
    """A judge for a session that has been born, and the host that knows its aliases."""
    session, host = born()
    return Commands(session, writes=writes), host


def kinds(orders: tuple[Order, ...]) -> list[str]:
    """Why each was refused."""
    return [order.kind if isinstance(order, Refused) else "done" for order in orders]


def test_a_rebirth_is_asked_for_with_true() -> None:
    judge, _ = commands(writes=False)

    assert judge.judge(NCMD, said(metric(REBIRTH, True)), T0) == (Rebirth(),)
    assert judge.judge(NCMD, said(metric(REBIRTH, True), typed=False), T0) == (Rebirth(),)
    assert judge.judge(NCMD, said(metric(REBIRTH, True, at=None), at=None), T0) == (Rebirth(),)
    assert judge.judge(DCMD, said(metric("Device Control/Rebirth", True)), T0) == (Rebirth("filler-1"),)
    assert not judge.refused


@pytest.mark.parametrize(
    ("value", "datatype", "kind"),
    [
        (False, T.BOOLEAN, "value"),
        (1, T.INT32, "type"),
        ("true", T.STRING, "type"),
        (None, T.BOOLEAN, "null"),
    ],
)
def test_anything_else_is_no_rebirth(value: Any, datatype: DataType, kind: str) -> None:
    judge, _ = commands()

    assert kinds(judge.judge(NCMD, said(metric(REBIRTH, value, datatype)), T0)) == [kind]
    assert judge.refused == {kind: 1}


def test_a_host_whose_clock_is_wrong_gets_its_rebirth_all_the_same() -> None:
    judge, _ = commands()
    then = T0 - timedelta(days=9000)

    assert judge.judge(NCMD, said(metric(REBIRTH, True, at=then), at=then), T0) == (Rebirth(),)


def test_asking_twice_in_one_message_is_asking_once() -> None:
    judge, _ = commands()

    assert judge.judge(NCMD, said(metric(REBIRTH, True), metric(REBIRTH, True)), T0) == (Rebirth(),)


def test_the_next_server_is_asked_for_by_name_or_alias() -> None:
    judge, host = commands()
    alias = host.node.metrics["Node Control/Next Server"].alias
    assert alias is not None

    for name in ("Node Control/Next Server", alias):
        assert judge.judge(NCMD, said(metric(name, True)), T0) == (NextServer(),)
    stale = said(metric(alias, True, at=T0 - timedelta(hours=2)))
    assert kinds(judge.judge(NCMD, stale, T0)) == ["time"]


def test_a_write_is_handed_on_in_the_tags_own_words() -> None:
    judge, host = commands()
    alias = host.devices["filler-1"].metrics[SPEED].alias
    assert alias is not None
    wanted = (WriteOrder("filler-1", "plc/speed", -5, "sparkplug DCMD"),)

    assert judge.judge(DCMD, said(metric(alias, -5, T.INT16), typed=False), T0) == wanted
    assert judge.judge(DCMD, said(metric(alias, -5, T.INT16)), T0) == wanted
    assert judge.judge(DCMD, said(metric(SPEED, -5, T.INT32)), T0) == wanted, "nothing is lost of it"
    assert judge.judge(DCMD, said(metric(SPEED, -5, T.INT16), seq=4), T0) == wanted


def test_commands_are_off_until_somebody_turns_them_on() -> None:
    judge, _ = commands(writes=False)

    assert judge.judge(DCMD, said(metric(SPEED, 5, T.INT16)), T0) == (Refused("off", "commands are off"),)
    assert judge.refused == {"off": 1}


@pytest.mark.parametrize(
    ("name", "value", "datatype", "kind"),
    [
        ("Tags/plc/none", 5, T.INT16, "unknown"),
        (987654, 5, T.INT16, "unknown"),
        ("State", "Idle", T.STRING, "read_only"),
        ("Tags/plc/temp", 5.0, T.DOUBLE, "read_only"),
        (SPEED, 40_000, T.INT32, "value"),
        (SPEED, -40_000, T.INT32, "value"),
        (SPEED, 5.0, T.DOUBLE, "type"),
        (SPEED, "5", T.STRING, "type"),
        (SPEED, True, T.BOOLEAN, "type"),
        (SPEED, T0, T.DATETIME, "type"),
        (SPEED, b"5", T.BYTES, "type"),
        (SPEED, (1, 2), T.INT16_ARRAY, "type"),
        (SPEED, DataSet(("a",), (T.INT16,), ((1,),)), T.DATASET, "type"),
        (SPEED, None, T.INT16, "null"),
    ],
)
def test_what_does_not_fit_is_refused(name: str | int, value: Any, datatype: DataType, kind: str) -> None:
    judge, _ = commands()

    orders = judge.judge(DCMD, said(metric(name, value, datatype)), T0)

    assert kinds(orders) == [kind]
    assert judge.refused == {kind: 1}
    assert isinstance(orders[0], Refused)
    assert orders[0].reason


def test_a_number_no_float_holds_is_refused() -> None:
    judge, _ = commands()
    oven, setpoint = "spBv1.0/plant/DCMD/line-1/oven-1", "Tags/oven-plc/setpoint"

    for value in (float("nan"), float("inf"), 1e39):
        assert kinds(judge.judge(oven, said(metric(setpoint, value, T.DOUBLE)), T0)) == ["value"]
    assert judge.judge(oven, said(metric(setpoint, 3, T.INT16)), T0) == (
        WriteOrder("oven-1", "oven-plc/setpoint", 3.0, "sparkplug DCMD"),
    )


def test_the_past_cannot_be_written() -> None:
    judge, _ = commands()
    long_ago = T0 - timedelta(hours=1, seconds=1)
    ahead = T0 + timedelta(hours=1, seconds=1)

    assert kinds(judge.judge(DCMD, said(metric(SPEED, 5, T.INT16, historical=True)), T0)) == ["historical"]
    for at in (long_ago, ahead):
        assert kinds(judge.judge(DCMD, said(metric(SPEED, 5, T.INT16, at=at)), T0)) == ["time"]
        assert kinds(judge.judge(DCMD, said(metric(SPEED, 5, T.INT16, at=None), at=at), T0)) == ["time"]
    assert kinds(judge.judge(DCMD, said(metric(SPEED, 5, T.INT16, at=None), at=None), T0)) == ["done"]


def test_two_values_for_one_tag_are_both_refused_and_the_rest_is_done() -> None:
    judge, host = commands()
    alias = host.devices["filler-1"].metrics[SPEED].alias
    assert alias is not None
    message = said(
        metric(SPEED, 5, T.INT16), metric("Device Control/Rebirth", True), metric(alias, 6, T.INT16)
    )

    assert kinds(judge.judge(DCMD, message, T0)) == ["duplicate", "done", "duplicate"]


def test_a_retained_command_is_refused_as_a_whole() -> None:
    judge, _ = commands()

    assert kinds(judge.judge(NCMD, said(metric(REBIRTH, True)), T0, retained=True)) == ["retained"]


def test_a_command_for_a_device_that_is_dead_or_unknown_is_refused() -> None:
    session, host = born()
    judge = Commands(session, writes=True)
    host.hear(session.link("filler-1", False, now(1)))

    assert kinds(judge.judge(DCMD, said(metric(SPEED, 5, T.INT16)), T0)) == ["unknown"]
    nobody = "spBv1.0/plant/DCMD/line-1/nobody"
    assert kinds(judge.judge(nobody, said(metric(SPEED, 5, T.INT16)), T0)) == ["unknown"]


@pytest.mark.parametrize(
    ("topic", "payload", "kind"),
    [
        ("spBv1.0/plant/NCMD/line-2", said(metric(REBIRTH, True)), "topic"),
        ("spBv1.0/plant/NDATA/line-1", said(metric(REBIRTH, True)), "topic"),
        ("", b"", "topic"),
        (NCMD, b"rebirth please", "garbage"),
        (NCMD, b"", "empty"),
        (NCMD, said(*[metric(REBIRTH, True)] * (COMMAND_METRICS_MAX + 1)), "too_many"),
        (DCMD, said(metric(REBIRTH, True)), "unknown"),
    ],
)
def test_whole_messages_that_come_to_nothing(topic: str, payload: bytes, kind: str) -> None:
    judge, _ = commands()

    assert kinds(judge.judge(topic, payload, T0)) == [kind]
    assert judge.refused == {kind: 1}


@given(st.binary(max_size=300), st.sampled_from([NCMD, DCMD]))
def test_garbage_never_raises_and_never_writes(payload: bytes, topic: str) -> None:
    judge, _ = commands()
    orders = judge.judge(topic, payload, T0)

    assert not [order for order in orders if isinstance(order, WriteOrder | NextServer)]
    assert judge.refused.keys() <= set(KINDS)


def test_mutated_commands_never_raise_and_write_only_what_fits() -> None:
    judge, _ = commands()
    dice = random.Random(4)
    whole = said(metric(SPEED, 5, T.INT16), metric("State", "x", T.STRING), metric(17, 4.5, T.DOUBLE))
    for _ in range(3000):
        payload = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            payload[dice.randrange(len(payload))] = dice.randrange(256)
        for order in judge.judge(DCMD, bytes(payload[: dice.randint(1, len(payload))]), T0):
            if isinstance(order, WriteOrder):
                assert order.tag == "plc/speed"
                assert isinstance(order.value, int)
                assert -32768 <= order.value <= 32767
    assert judge.refused.keys() <= set(KINDS)
