"""What is in flight and what a ping proves, against models of the standard, for any order of things."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt import frames
from gateway.mqtt.frames import Said
from gateway.mqtt.outbound import ACK, REC, Outbound, Waiting
from gateway.mqtt.pings import Pings
from gateway.mqtt.properties import NotMqtt
from gateway.mqtt.reasons import MessageRefused

KINDS = [frames.PUBACK, frames.PUBREC, frames.PUBCOMP]
#: What each stage of a message is answered with.
AWAITED = {"ack": frames.PUBACK, "rec": frames.PUBREC, "comp": frames.PUBCOMP}

send = st.tuples(st.just("send"), st.sampled_from([1, 2]), st.booleans())
hear = st.tuples(
    st.sampled_from(KINDS), st.integers(1, 8), st.sampled_from([0, 0, 0, 0x10, 0x87, 0x97, 0x91])
)


@given(st.lists(send | hear, max_size=60))
def test_every_message_is_told_of_once_and_its_number_is_free_when_it_may_be(
    steps: list[tuple[str, int, bool] | tuple[int, int, int]],
) -> None:
    out, model = Outbound(v5=True), dict[int, str]()
    told, expected = list[tuple[str, int]](), list[tuple[str, int]]()
    messages, wants = dict[int, int](), dict[int, bool]()
    count = 0

    def refused(message: int, _: MessageRefused) -> None:
        told.append(("refused", message))

    for step in steps:
        if step[0] == "send":
            if len(model) >= 5:
                continue
            number = out.number()
            assert number not in model
            count += 1
            out.waiting[number] = Waiting(
                float(count),
                partial(told.append, ("has it", count)),
                partial(refused, count) if step[2] else None,
                "t",
                ACK if step[1] == 1 else REC,
            )
            model[number], messages[number] = "ack" if step[1] == 1 else "rec", count
            wants[number] = bool(step[2])
            continue
        kind, number, code = int(step[0]), int(step[1]), int(step[2])
        stage = model.get(number)
        repeated = stage == "comp" and kind == frames.PUBREC and code < 0x80
        fits = stage is None or AWAITED[stage] == kind or repeated or kind == frames.PUBCOMP
        lost = stage == "comp" and kind == frames.PUBCOMP and code >= 0x80
        if lost:  # it has dropped what it said it has
            with pytest.raises((SinkRefused, SinkUnavailable)):
                out.receipt(kind, number, Said(code))
            return
        if not fits:
            with pytest.raises(NotMqtt):
                out.receipt(kind, number, Said(code))
            return  # the connection is over
        if code >= 0x80 and stage is not None and kind != frames.PUBCOMP:
            del model[number]
            if code == 0x91 or not wants[number]:
                with pytest.raises((SinkRefused, SinkUnavailable)):
                    out.receipt(kind, number, Said(code))
                return
            assert out.receipt(kind, number, Said(code)) is None
            expected.append(("refused", messages[number]))
        else:
            answer = out.receipt(kind, number, Said(code))
            if kind == frames.PUBREC and code < 0x80:
                assert answer == frames.release(number, 0x92 if stage is None else 0)
            else:
                assert answer is None
            arrived = stage == "ack" and kind == frames.PUBACK
            if arrived or (stage == "comp" and kind == frames.PUBCOMP):
                expected.append(("has it", messages[number]))
                del model[number]
            elif stage == "rec" and kind == frames.PUBREC:
                model[number] = "comp"
        assert set(out.waiting) == set(model)
    for tell in out.told:
        tell()
    assert told == expected
    assert out.acknowledged == sum(1 for what, _ in expected if what == "has it")
    assert out.refused == sum(1 for what, _ in expected if what == "refused")


@given(st.lists(st.sampled_from(["say", "wait", "send", "pong", "idle"]), max_size=60))
def test_an_answered_ping_proves_no_more_than_was_said_before_it(steps: list[str]) -> None:
    """And whoever waits gets a ping as soon as the one before is answered."""
    pings, said, now = Pings(10.0, 0.0), 0, 0.0
    covered = {0: 0}
    waiting: list[tuple[int, int]] = []
    for step in steps:
        now += 1.0
        if step == "say":
            said += 1
        elif step == "wait":
            waiting.append((pings.turn(said), said))
        elif step == "idle":
            pings.alive(now, heard=0, spoken=0)
        elif step == "pong":
            pings.pong()
        if step in ("send", "wait", "pong", "idle") and pings.due(said, now):
            assert pings.sent - pings.answered == 1, "one at a time"
            covered[pings.sent] = said
        assert pings.answered <= pings.sent
        for turn, wanted in waiting:
            if turn <= pings.answered:
                assert covered[turn] >= wanted
            assert turn <= pings.sent + 1
    for _ in range(2):
        pings.pong()
        pings.due(said, now)
    pings.pong()
    assert all(turn <= pings.answered for turn, _ in waiting), "nobody waits for ever"


def test_a_silent_broker_is_dead_after_one_keep_alive_and_a_speaking_one_is_not() -> None:
    pings = Pings(10.0, 0.0)
    assert pings.alive(9.9, heard=0, spoken=1)
    assert not pings.due(1, 9.9)
    assert pings.alive(10.0, heard=0, spoken=2)
    assert pings.due(1, 10.0)
    assert pings.alive(15.0, heard=1, spoken=3)
    assert pings.alive(24.9, heard=1, spoken=9)
    assert pings.waits_s(24.9) == pytest.approx(14.9)
    assert not pings.alive(25.0, heard=1, spoken=9)
    pings.pong()
    assert pings.alive(25.0, heard=2, spoken=9)
    assert pings.waits_s(25.0) == 0.0
