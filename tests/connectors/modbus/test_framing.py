"""Frames of the serial framings: vectors by hand, and answers found among garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.debts import OWED_S, Debts
from connectors.modbus.frame import Question, read_question
from connectors.modbus.framing import Ascii, Found, Rtu, SerialFraming, crc16, lrc
from connectors.modbus.serial_client import Pace
from connectors.modbus.writes import write_registers

ONE = read_question(1, 3, 0, 1)
#: Unit 1 holds 0x1234 there. CRC and LRC worked out by hand.
ANSWERS: dict[str, tuple[SerialFraming, bytes]] = {
    "rtu": (Rtu(), bytes.fromhex("01 03 02 1234 B533")),
    "ascii": (Ascii(), b":0103021234B4\r\n"),
}


def test_the_check_of_rtu() -> None:
    assert crc16(b"123456789") == 0x4B37
    assert crc16(b"") == 0xFFFF
    assert Rtu().frame(ONE) == bytes.fromhex("01 03 0000 0001 840A")
    # Serial Line V1.02, 6.2.2: 02 07 has the check 41 12, low byte first.
    assert crc16(bytes.fromhex("0207")) == 0x1241


def test_the_check_of_ascii() -> None:
    assert lrc(bytes.fromhex("01 03 0000 0001")) == 0xFB
    assert Ascii().frame(ONE) == b":010300000001FB\r\n"
    assert lrc(b"") == 0


@pytest.mark.parametrize("framing", ANSWERS)
def test_an_answer_is_found_when_its_last_byte_is_there(framing: str) -> None:
    port, answer = ANSWERS[framing]
    for end in range(len(answer)):
        assert port.find(answer[:end], ONE) is None
    assert port.find(answer, ONE) == Found(bytes.fromhex("03 02 1234"), 0, len(answer))
    assert port.answer_bytes(ONE) == len(answer)


@pytest.mark.parametrize("framing", ANSWERS)
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00",
        b"\x01\x03\x02",
        b"\x01\x03\x02\x12\x34\x00\x00",
        b":",
        b":01",
        b":\r\n",
        b"\r\n",
        b"\xff" * 200,
    ],
)
def test_an_answer_is_found_behind_garbage(framing: str, garbage: bytes) -> None:
    port, answer = ANSWERS[framing]
    found = port.find(garbage + answer + b"\x01\x03:", ONE)
    assert found == Found(bytes.fromhex("03 02 1234"), len(garbage), len(garbage) + len(answer))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (ONE, "01 83 02 C0F1"),
        (ONE, "01 83 06 C132"),
        (write_registers(1, 1, [3]), "01 06 0001 0003 980B"),
    ],
)
def test_exceptions_and_echoes_have_lengths_of_their_own(question: Question, answer: str) -> None:
    data = bytes.fromhex(answer)
    assert Rtu().find(data, question) == Found(data[1:-2], 0, len(data))


@given(st.binary(max_size=300))
def test_noise_is_no_answer(noise: bytes) -> None:
    for port, answer in ANSWERS.values():
        found = port.find(noise, ONE)
        if found is not None:  # noise that is right by chance
            assert noise[found.start : found.end][:1] in (b"\x01", b":")
            assert found.end - found.start <= len(answer)


def test_small_letters_are_digits_too() -> None:
    assert Ascii().find(b":0103021234b4\r\n", ONE) is not None


def test_the_silence_between_frames() -> None:
    # Serial Line V1.02, 2.5.1.1: 3.5 characters of 11 bits; above 19200 baud 1.750 ms.
    assert Pace.of(9600).silence_s == pytest.approx(0.004010, abs=1e-6)
    assert Pace.of(19200).silence_s == pytest.approx(0.002005, abs=1e-6)
    assert Pace.of(38400).silence_s == 0.00175
    assert Pace.of(9600).character_s == pytest.approx(11 / 9600)


# What is owed.


OTHER = read_question(1, 3, 100, 1)
VALUES = b"\x12\x34"


def test_who_owes_nothing_is_asked_at_once() -> None:
    debts = Debts()
    assert debts.probe_before(ONE, 0.0) is None
    assert debts.certain(ONE, VALUES)


def test_what_cannot_be_mistaken_is_asked_at_once() -> None:
    debts = Debts()
    debts.gave_up(ONE, 0.0)
    assert debts.probe_before(OTHER, 0.0) is not None
    assert debts.probe_before(ONE, 0.0) is not None, "an exception would say nothing"
    assert debts.probe_before(read_question(2, 3, 0, 1), 0.0) is None, "another unit"
    assert debts.probe_before(read_question(1, 4, 0, 1), 0.0) is None, "another function"


def test_the_first_answer_of_a_shape_that_is_owed_settles_and_is_not_believed() -> None:
    debts = Debts()
    debts.gave_up(ONE, 0.0)
    debts.gave_up(read_question(1, 3, 0, 7), 0.0)
    assert not debts.certain(OTHER, VALUES), "it may be the answer to the first"
    assert debts.certain(OTHER, VALUES), "that has come, so this is the answer"
    assert debts.probe_before(OTHER, 0.0) is None, "and it came after all that was owed"


def test_an_exception_may_be_to_anything_of_its_function() -> None:
    debts = Debts()
    debts.gave_up(read_question(1, 3, 0, 7), 0.0)
    assert not debts.certain(ONE, 6)
    debts.gave_up(read_question(1, 4, 0, 7), 0.0)
    assert debts.certain(ONE, 6)


def test_probes_take_turns_and_look_like_nothing_owed() -> None:
    debts = Debts()
    many = read_question(1, 3, 0, 10)
    debts.gave_up(many, 0.0)
    debts.gave_up(read_question(1, 3, 50, 9), 0.0)
    kinds = []
    for _ in range(6):
        probe = debts.probe_before(many, 0.0)
        assert probe is not None
        assert probe.unit == 1
        assert probe.function in (1, 2, 3, 4, 8), "a probe changes nothing"
        owed = {(debt.question.expected, debt.question.answer_bytes) for debt in debts._owed[1]}
        assert (probe.expected, probe.answer_bytes) not in owed
        kinds.append(probe.function)
        debts.gave_up(probe, 0.0)
    assert {3, 8} < set(kinds)


def test_a_part_of_a_read_stays_within_it() -> None:
    debts = Debts()
    many = read_question(1, 3, 20, 10)
    debts.gave_up(many, 0.0)
    probe = debts.probe_before(many, 0.0)
    assert probe is not None
    assert probe.pdu == bytes.fromhex("03 0014 0009")


def test_what_is_owed_too_long_is_forgotten() -> None:
    debts = Debts()
    debts.gave_up(ONE, 0.0)
    assert debts.probe_before(ONE, OWED_S - 0.001) is not None
    assert debts.probe_before(ONE, OWED_S) is None
    assert debts.certain(ONE, VALUES)
