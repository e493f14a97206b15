"""A real connector against a device that misbehaves: no wrong value, no hang, and the right words for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.errors import ConnectionLost
from connectors.modbus.config import ModbusSettings
from connectors.modbus.connector import ModbusConnector
from statemodel.types import Quality
from tests.connectors.contract import (
    PATIENT,
    PROMPT_S,
    RecordingLink,
    SystemClock,
    outcome,
    running,
    settled,
)
from tests.connectors.modbus.device import (
    Fault,
    Held,
    Request,
    ScriptedDevice,
    Send,
    frame,
    in_slices,
    instead,
    silent,
    with_exception,
)
from tests.connectors.modbus.patience import impatient


@pytest.fixture
async def device() -> AsyncIterator[ScriptedDevice]:
    device = ScriptedDevice()
    await device.start()
    yield device
    await device.stop()
    await asyncio.sleep(0)


TWO_BLOCKS = [
    {"name": "one", "address": "holding:0", "type": "uint16"},
    {"name": "two", "address": "holding:100", "type": "uint16"},
]


def connector(
    device: ScriptedDevice, tags: list[dict[str, Any]] | None = None, **settings: Any
) -> ModbusConnector:
    return ModbusConnector(
        ModbusSettings.model_validate(
            {
                "name": "plc",
                "endpoint": device.endpoint,
                "timeout": PATIENT,
                "groups": [{"name": "all", "interval": "20ms", "tags": TWO_BLOCKS if tags is None else tags}],
                **settings,
            }
        ),
        SystemClock(),
    )


@asynccontextmanager
async def up(
    device: ScriptedDevice, plc: ModbusConnector
) -> AsyncIterator[tuple[RecordingLink, asyncio.Task[None]]]:
    """A connector that has read everything once: `one` is 1 and `two` is 2."""
    device.hold(0, 1)
    device.hold(100, 2)
    link = RecordingLink()
    async with running(plc, link) as task:
        await link.until_value("plc/one", 1)
        await link.until_value("plc/two", 2)
        yield link, task


# Fault 33, finding 3: late answers.


async def test_a_late_answer_is_never_taken_for_the_next_one(device: ScriptedDevice) -> None:
    plc = connector(device, timeouts_max=50)
    async with up(device, plc) as (link, _):
        await impatient(plc, link)
        held = Held()
        device.faults = [held]
        count = len(device.requests)
        await device.asked(lambda requests: len(requests) >= count + 2)  # the first of them was given up
        device.hold(0, 11)
        device.hold(100, 22)
        held.release()
        await link.until_value("plc/one", 11)
        await link.until_value("plc/two", 22)
        values = {(s.tag, s.value) for s in link.samples}
    assert values == {("plc/one", 1), ("plc/one", 11), ("plc/two", 2), ("plc/two", 22)}
    assert 1 <= plc.counts.late <= plc.counts.timeouts
    assert plc.counts.bad_replies == 0
    assert device.connections == 1, "one slow answer costs no connection"


async def test_a_late_answer_before_the_right_one_in_the_same_segment(device: ScriptedDevice) -> None:
    held: list[bytes] = []

    async def keep(request: Request, right: bytes, send: Send) -> None:
        held.append(right)

    async def both(request: Request, right: bytes, send: Send) -> None:
        send(held.pop() + right)

    plc = connector(device, timeouts_max=50)
    async with up(device, plc) as (link, _):
        await impatient(plc, link)
        device.faults = [keep, both]
        device.hold(0, 11)
        await link.until_value("plc/one", 11)
        await device.asked(lambda requests: not device.faults)
        await link.until(lambda: plc.counts.late >= 1, "the late one counted")
    assert plc.counts.bad_replies == 0


async def test_a_device_that_is_always_late_is_called_slow_not_dead(device: ScriptedDevice) -> None:
    held: list[tuple[bytes, Send]] = []

    async def one_behind(request: Request, right: bytes, send: Send) -> None:
        for answer, to in held:
            to(answer)
        held[:] = [(right, send)]

    plc = connector(device, timeouts_max=3)
    async with up(device, plc) as (link, task):
        await impatient(plc, link)
        device.always = one_behind
        error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert "but later" in error.reason
    assert "raise `timeout`" in error.hint


async def test_silence_ends_the_connection_after_the_set_number_of_timeouts(device: ScriptedDevice) -> None:
    plc = connector(device, timeouts_max=3)
    async with up(device, plc) as (link, task):
        await impatient(plc, link)
        count = len(device.requests)
        device.always = silent
        error = await outcome(task)
        asked_in_vain = len(device.requests) - count
    assert isinstance(error, ConnectionLost)
    assert error.reason == "unit 1 did not answer 3 requests in a row within 0.1 s each"
    assert error.last_seen_at == link.seen_at[-1]
    assert asked_in_vain <= 4
    assert plc.counts.timeouts >= 3


async def test_timeouts_with_answers_between_them_are_only_counted(device: ScriptedDevice) -> None:
    plc = connector(device)
    async with up(device, plc) as (link, _):
        await impatient(plc, link, 0.5)
        device.faults = [silent, None, silent, None, None, silent, None]
        await device.asked(lambda requests: not device.faults)
        device.hold(0, 3)
        await link.until_value("plc/one", 3)
    assert plc.counts.timeouts >= 3
    assert device.connections == 1


# Fault 34, finding 3: answers that do not fit the question.


WRONG: dict[str, tuple[Fault, str]] = {
    "transaction id of nobody": (
        instead(lambda r, right: (r.transaction + 7 & 0xFFFF).to_bytes(2, "big") + right[2:]),
        "the answer has transaction id",
    ),
    "transaction id 0": (
        instead(lambda r, right: b"\x00\x00" + right[2:]),
        "the answer has transaction id 0",
    ),
    "protocol id": (instead(lambda r, right: right[:2] + b"\x00\x01" + right[4:]), "protocol id 1"),
    "unit": (
        instead(lambda r, right: right[:6] + b"\x02" + right[7:]),
        "unit 2 answered, and unit 1 was asked",
    ),
    "function": (instead(lambda r, right: right[:7] + b"\x04" + right[8:]), "function 4 was answered"),
    "exception of another function": (
        instead(lambda r, _: frame(r.transaction, r.unit, b"\x84\x02")),
        "function 132 was answered",
    ),
    "fewer registers": (
        instead(lambda r, _: frame(r.transaction, r.unit, bytes([r.function, 0]))),
        "holds 0 bytes of values",
    ),
    "more registers": (
        instead(lambda r, _: frame(r.transaction, r.unit, bytes([r.function, 4, 0, 9, 0, 9]))),
        "holds 4 bytes of values",
    ),
    "a byte count that lies": (
        instead(lambda r, _: frame(r.transaction, r.unit, bytes([r.function, 2, 0, 9, 0, 9]))),
        "it says 2, there are 4",
    ),
    "length 0": (
        instead(lambda r, _: frame(r.transaction, r.unit, b"\x03\x02\x00\x09", length=0)),
        "length of 0",
    ),
    "length 0xFFFF": (
        instead(lambda r, _: frame(r.transaction, r.unit, b"\x03\x02\x00\x09", length=0xFFFF)),
        "length of 65535",
    ),
    "garbage before the frame": (instead(lambda r, right: b"\xde\xad\xbe\xef" + right), "no answer"),
    "text": (instead(lambda r, _: b"HTTP/1.1 400 Bad Request\r\n\r\n"), "protocol id"),
    "an answer twice": (instead(lambda r, right: right + right), "transaction id"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_an_answer_that_does_not_fit_is_no_value_and_ends_the_connection(
    device: ScriptedDevice, case: str
) -> None:
    fault, reason = WRONG[case]
    plc = connector(device)  # so that nothing here is found out by waiting
    async with up(device, plc) as (link, task):
        device.always = fault
        async with asyncio.timeout(PROMPT_S):
            error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert error.reason.startswith("the device sent what is no answer: ")
    assert reason in error.reason
    assert plc.counts.bad_replies == 1
    assert {(s.tag, s.value) for s in link.samples} == {("plc/one", 1), ("plc/two", 2)}
    # The next session is good.
    device.always = None
    async with up(device, plc):
        pass


async def test_a_length_longer_than_the_frame_is_waited_for_no_longer_than_the_timeout(
    device: ScriptedDevice,
) -> None:
    plc = connector(device)
    async with up(device, plc) as (link, task):
        await impatient(plc, link)
        device.always = instead(
            lambda r, right: frame(r.transaction, r.unit, b"\x03\x02\x00\x09", length=254)
        )
        async with asyncio.timeout(PROMPT_S):
            error = await outcome(task)
    assert isinstance(error, ConnectionLost)


async def test_one_byte_at_a_time_is_a_good_answer(device: ScriptedDevice) -> None:
    plc = connector(device)
    async with up(device, plc) as (link, _):
        device.always = in_slices
        device.hold(0, 5)
        device.hold(100, 6)
        await link.until_value("plc/one", 5)
        await link.until_value("plc/two", 6)
    assert plc.counts.bad_replies == 0


async def test_an_answer_in_two_halves_is_a_good_answer(device: ScriptedDevice) -> None:
    async def halves(request: Request, right: bytes, send: Send) -> None:
        send(right[:8])
        await asyncio.sleep(0.005)
        send(right[8:])

    plc = connector(device)
    async with up(device, plc) as (link, _):
        device.always = halves
        device.hold(0, 5)
        await link.until_value("plc/one", 5)


async def test_what_nobody_asked_for_ends_the_connection_while_it_rests(device: ScriptedDevice) -> None:
    async def and_more(request: Request, right: bytes, send: Send) -> None:
        send(right)
        await asyncio.sleep(0.02)
        send(right)

    plc = connector(device, groups=[{"name": "slow", "interval": "1h", "tags": TWO_BLOCKS[:1]}])
    link = RecordingLink()
    device.always = and_more
    async with running(plc, link) as task:
        async with asyncio.timeout(PROMPT_S):
            error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert "nothing was asked" in error.reason


# Fault 35: exceptions, on the wire. Their meaning is tested in test_poll.


@pytest.mark.parametrize(
    ("code", "substatus"),
    [
        (1, "configuration_error"),
        (2, "configuration_error"),
        (3, "configuration_error"),
        (4, "device_failure"),
        (5, "busy"),
        (6, "busy"),
        (7, "device_failure"),
        (8, "device_failure"),
        (9, "device_failure"),
        (10, "no_communication"),
        (11, "no_communication"),
    ],
)
async def test_each_exception_is_a_quality(device: ScriptedDevice, code: int, substatus: str) -> None:
    device.hold(100, 2)
    device.refused["holding", 0] = code
    plc = connector(device, busy_max=2)
    link = RecordingLink()
    async with running(plc, link):
        sample = await link.until_quality("plc/one", Quality.BAD)
        await link.until_value("plc/two", 2)
    assert (sample.value, sample.substatus) == (None, substatus)
    assert {tag for tag, _ in link.refusals} == ({"plc/one"} if substatus == "configuration_error" else set())
    assert link.ups == 1


async def test_reading_once_takes_busy_for_an_answer(device: ScriptedDevice) -> None:
    device.hold(100, 2)
    device.refused["holding", 0] = 6
    one, two = await connector(device).read_once()
    assert (one.value, one.quality, one.substatus) == (None, Quality.BAD, "busy")
    assert (two.value, two.quality) == (2, Quality.GOOD)


async def test_a_gateways_word_that_the_device_is_dead_is_no_proof_of_its_life(
    device: ScriptedDevice,
) -> None:
    device.always = with_exception(11)
    plc = connector(device, busy_max=1)
    link = RecordingLink()
    async with running(plc, link):
        await link.until_quality("plc/one", Quality.BAD)
        await link.until_quality("plc/two", Quality.BAD)
    assert link.seen_at == []


async def test_one_bad_tag_among_many_is_named_and_the_others_are_read(device: ScriptedDevice) -> None:
    tags = [{"name": f"t{n}", "address": f"holding:{n}", "type": "uint16"} for n in range(200)]
    for n in range(200):
        device.hold(n, n)
    device.refused["holding", 150] = 2
    link = RecordingLink()
    async with running(connector(device, tags), link):
        await link.until(lambda: len(link.latest) == 200, "all tags")
    bad = {tag for tag, sample in link.latest.items() if sample.quality is Quality.BAD}
    assert bad == {"plc/t150"}
    assert all(s.value == int(tag.removeprefix("plc/t")) for tag, s in link.latest.items() if tag not in bad)
    ((tag, reason),) = link.refusals
    assert tag == "plc/t150"
    assert reason == "the device refuses holding:150: illegal data address (exception 2)"


# Fault 36: a device that takes one connection only.


async def test_a_device_with_one_place_that_is_taken_is_lost_at_once_each_time(
    device: ScriptedDevice,
) -> None:
    device.connections_max = 1
    plc = connector(device)
    async with up(device, plc):
        second = RecordingLink()
        for _ in range(3):
            async with running(connector(device), second) as task:
                async with asyncio.timeout(PROMPT_S):
                    error = await outcome(task)
            assert isinstance(error, ConnectionLost)
            assert error.last_seen_at is None
        assert second.ups == 0
    assert device.connections == 4, "one try a run; when to try again is not for a connector to say"


async def test_the_place_is_given_back_on_cancel(device: ScriptedDevice) -> None:
    device.connections_max = 1
    for _ in range(20):
        async with up(device, connector(device)):
            pass
        await free(device)


async def free(device: ScriptedDevice) -> None:
    """Wait until the device has noticed that its client is gone."""
    await settled(lambda: not device._writers)


# Fault 37: see "length", "garbage" above; a reset in the middle of an answer.


async def test_a_reset_in_the_middle_of_an_answer(device: ScriptedDevice) -> None:
    async def half_and_gone(request: Request, right: bytes, send: Send) -> None:
        send(right[:7])
        await asyncio.sleep(0.005)
        device.cut()

    plc = connector(device)
    async with up(device, plc) as (link, task):
        device.always = half_and_gone
        async with asyncio.timeout(PROMPT_S):
            error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert len(link.samples) == 2


# Fault 38: values of two registers.


async def test_two_registers_of_a_value_are_never_read_at_two_instants(device: ScriptedDevice) -> None:
    """The device counts up with every request; a torn value would mix two counts."""
    tags = [{"name": f"n{n}", "address": f"holding:{3 * n}", "type": "uint32"} for n in range(100)]
    asked = 0

    async def counting(request: Request, right: bytes, send: Send) -> None:
        nonlocal asked
        asked += 1
        for n in range(100):
            device.hold(3 * n, asked, asked)
        send(device.answer(request))

    device.always = counting
    link = RecordingLink()
    limits = {"registers_per_request": 7, "gap_max": 2}
    async with running(connector(device, tags, limits=limits), link):
        await link.until(lambda: len(link.cycles) >= 4, "four cycles")
    values = [s.value for s in link.samples]
    assert len(values) >= 300
    assert all(isinstance(v, int) and v >> 16 == v & 0xFFFF for v in values)


# Finding 2: nothing is asked twice behind the caller's back.


async def test_a_slow_answer_is_asked_for_again_only_after_the_timeout_and_nothing_is_ever_written(
    device: ScriptedDevice,
) -> None:
    plc = connector(device)

    async def slow(request: Request, right: bytes, send: Send) -> None:
        await asyncio.sleep(0.2)
        send(right)

    async with up(device, plc) as (_, _):
        device.requests.clear()
        device.faults = [slow]
        await device.asked(lambda requests: len(requests) >= 3)
        transactions = [request.transaction for request in device.requests]
        starts = [request.start for request in device.requests]
    assert len(set(transactions)) == len(transactions)
    assert starts[:3] in ([0, 100, 0], [100, 0, 100]), "each is asked once"
    assert {request.function for request in device.requests} == {3}
    assert plc.counts.timeouts == 0


@asynccontextmanager
async def telling_one_with_two_to_come(
    device: ScriptedDevice,
) -> AsyncIterator[tuple[ModbusConnector, RecordingLink, asyncio.Task[None], Held]]:
    """`one` is being told and the gateway does not take it; the answer for `two` is held."""
    plc = connector(device, pipeline=2)
    async with up(device, plc) as (link, task):
        held = Held()
        count = len(device.requests)
        device.always = held
        await device.asked(lambda requests: len(requests) >= count + 2 and len(held.answers) == 2)
        link.close()
        for answer, send in held.answers:
            send(answer[:-2] + b"\x00\x4d")
            await link.until(lambda: link.waiting > 0)
            break
        del held.answers[0]
        yield plc, link, task, held


async def test_what_comes_while_something_is_told_is_told_next(device: ScriptedDevice) -> None:
    async with telling_one_with_two_to_come(device) as (plc, link, _, held):
        answers = plc.counts.answers
        held.answers[0] = held.answers[0][0][:-2] + b"\x00\x4d", held.answers[0][1]
        held.release()
        await settled(lambda: plc.counts.answers > answers)
        count = len(device.requests)
        link.open()
        await link.until(lambda: [s.value for s in link.samples[-2:]] == [77, 77])
        assert len(device.requests) == count


async def test_what_was_read_before_the_end_is_told_before_it(device: ScriptedDevice) -> None:
    async with telling_one_with_two_to_come(device) as (plc, link, task, held):
        answers = plc.counts.answers
        held.answers[0] = held.answers[0][0][:-2] + b"\x00\x4d", held.answers[0][1]
        held.release()
        await settled(lambda: plc.counts.answers > answers)
        device.cut()
        await settled(lambda: plc._line._client is None)
        link.open()
        error = await outcome(task)
    assert isinstance(error, ConnectionLost)
    assert [sample.value for sample in link.samples[-2:]] == [77, 77]
    assert error.last_seen_at == link.samples[-1].received_at
