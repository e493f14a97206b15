"""Questions and answers: the bytes of the standard, and every way an answer can fail to be the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.frame import BadReply, Question, judge, question
from connectors.modbus.framing import TcpFrame, take_tcp_frame, tcp_frame
from connectors.modbus.layout import Table
from connectors.modbus.plan import ReadRequest


def asking(table: Table, start: int, count: int, unit: int = 0x11) -> Question:
    return question(ReadRequest(table, start, count, ()), unit)


def read_answer(asked: Question, data: bytes) -> bytes | int:
    """The answer within a whole frame of Modbus TCP."""
    return judge(asked, data[6], data[7:])


def test_the_request_of_the_standards_example() -> None:
    # Application Protocol V1.1b3, 6.3: read holding registers 108-110.
    asked = asking(Table.HOLDING, 0x6B, 3)
    assert tcp_frame(asked, 0x1501) == bytes.fromhex("1501 0000 0006 11 03 006B 0003")


@pytest.mark.parametrize(
    ("table", "function"), [(Table.COIL, 1), (Table.DISCRETE, 2), (Table.HOLDING, 3), (Table.INPUT, 4)]
)
def test_each_table_has_its_function(table: Table, function: int) -> None:
    assert tcp_frame(asking(table, 0, 1), 0)[7] == function


def test_the_answer_of_the_standards_example() -> None:
    answer = bytes.fromhex("1501 0000 0009 11 03 06 022B 0000 0064")
    assert read_answer(asking(Table.HOLDING, 0x6B, 3), answer) == bytes.fromhex("022B 0000 0064")


def test_bits_come_in_whole_bytes() -> None:
    answer = bytes.fromhex("0001 0000 0006 11 01 03 CD6B05")
    assert read_answer(asking(Table.COIL, 19, 19), answer) == bytes.fromhex("CD6B05")


def test_the_longest_answer_has_250_bytes_of_values() -> None:
    assert asking(Table.HOLDING, 0, 125).size == 259
    assert asking(Table.COIL, 0, 2000).size == 259


def test_an_exception_is_its_code() -> None:
    assert read_answer(asking(Table.HOLDING, 0, 3), bytes.fromhex("0001 0000 0003 11 83 02")) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("0001 0000 0009 12 03 06 022B 0000 0064", "unit 18 answered, and unit 17 was asked"),
        ("0001 0000 0009 11 04 06 022B 0000 0064", "function 4 was answered, and function 3"),
        ("0001 0000 0007 11 03 04 022B 0000", "4 bytes of values"),
        ("0001 0000 000B 11 03 08 022B 0000 0064 0001", "8 bytes of values"),
        ("0001 0000 0009 11 03 05 022B 0000 0064", "it says 5, there are 6"),
        ("0001 0000 0007 11 03 06 022B 0000", "it says 6, there are 4"),
        ("0001 0000 0009 11 03 06 022B 0000 00", "it says 6, there are 5"),
        ("0001 0000 0003 11 84 02", "function 132 was answered"),
        ("0001 0000 0004 11 83 02 00", "2 bytes long, this one 3"),
        ("0001 0000 0003 11 83 00", "exception with code 0"),
        ("0001 0000 0003 11 83", "an answer of 1 bytes says nothing"),
    ],
)
def test_an_answer_to_something_else_is_told_apart(answer: str, reason: str) -> None:
    with pytest.raises(BadReply, match=reason):
        read_answer(asking(Table.HOLDING, 0x6B, 3), bytes.fromhex(answer))


@pytest.mark.parametrize("given_bytes", range(12))
def test_a_part_of_a_frame_says_nothing_yet(given_bytes: int) -> None:
    buffer = bytearray(bytes.fromhex("0001 0000 0006 11 03 006B 0003")[:given_bytes])
    assert take_tcp_frame(buffer) is None
    assert len(buffer) == given_bytes


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("0001 0001 0009", "protocol id 1"),
        ("0001 0000 0000", "length of 0"),
        ("0001 0000 0002", "length of 2"),
        ("0001 0000 00FF", "length of 255"),
        ("0001 0000 FFFF", "length of 65535"),
    ],
)
def test_a_header_that_is_none_is_refused(header: str, reason: str) -> None:
    with pytest.raises(BadReply, match=reason):
        take_tcp_frame(bytearray.fromhex(header))


def test_frames_are_cut_off_one_by_one() -> None:
    buffer = bytearray.fromhex("1501 0000 0003 11 83 02  1502 0000 0003 12 83 04  15")
    assert take_tcp_frame(buffer) == TcpFrame(0x1501, 0x11, b"\x83\x02")
    assert take_tcp_frame(buffer) == TcpFrame(0x1502, 0x12, b"\x83\x04")
    assert take_tcp_frame(buffer) is None
    assert buffer == b"\x15"


@given(st.binary(min_size=9, max_size=300), st.sampled_from(Table), st.integers(1, 125))
def test_no_bytes_give_a_value_they_do_not_hold(data: bytes, table: Table, count: int) -> None:
    asked = asking(table, 0, count)
    try:
        answer = read_answer(asked, data)
    except BadReply:
        return
    if isinstance(answer, bytes):
        assert len(answer) == asked.expected[1]
    else:
        assert 1 <= answer <= 255


@given(st.binary(min_size=250, max_size=250), st.integers(0, 252), st.integers(0, 255))
def test_a_changed_byte_is_noticed_or_part_of_the_values(values: bytes, place: int, byte: int) -> None:
    right = bytes.fromhex("11 03 FA") + values
    wrong = right[:place] + bytes([byte]) + right[place + 1 :]
    try:
        answer = judge(asking(Table.HOLDING, 0, 125), wrong[0], wrong[1:])
    except BadReply:
        return
    assert isinstance(answer, bytes)
    assert answer == wrong[3:]
    assert place >= 3 or wrong == right
