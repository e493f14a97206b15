"""The client's end of the wire without a wire: any bytes in any pieces, and no value made up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from connectors.errors import ConnectionLost
from connectors.modbus.client import Client, Exchange, NoAnswer
from connectors.modbus.frame import BadReply, question
from connectors.modbus.framing import TCP_FRAME_BYTES_MAX
from connectors.modbus.layout import Table
from connectors.modbus.plan import ReadRequest
from connectors.modbus.tcp_client import TcpClient


class Wire(asyncio.Transport):
    """Remembers what was written, and ends when told to."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            asyncio.get_running_loop().call_soon(self.client.connection_lost, None)


ASKED = question(ReadRequest(Table.HOLDING, 0, 3, ()), 1)


class Asking(Exchange):
    """Asks the same question again and again."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.question = ASKED
        self.timeout_s = 60.0
        self.deadline = self.asked_at = 0.0
        self.sent = False

    def answered(self, answer: bytes | int, at: datetime) -> None:
        self.talk.answers.append(answer)
        self.talk.left -= 1
        if self.talk.left:
            self.talk.client.ask(self)

    def failed(self, why: NoAnswer | BadReply | ConnectionLost) -> None:
        self.talk.failures.append(why)
        if isinstance(why, BadReply):
            self.talk.client.lose(ConnectionLost("no answer"))

    def came_late(self) -> None:
        self.talk.late += 1

    def saw_garbage(self, count: int) -> None:
        raise AssertionError("Modbus TCP knows no garbage")


class Talk:
    """A conversation that asks the same question `count` times."""

    def __init__(self, count: int) -> None:
        self.client = TcpClient(self, lambda: datetime.now(UTC))
        self.wire = Wire(self.client)
        self.client.connection_made(self.wire)
        self.left = count
        self.late = 0
        self.answers: list[bytes | int] = []
        self.failures: list[NoAnswer | BadReply | ConnectionLost] = []
        self.unasked_for: list[BadReply] = []
        self.client.ask(Asking(self))

    def lost(self, error: Exception) -> None:
        assert isinstance(error, ConnectionLost)

    def unasked(self, unit: int | None, error: BadReply) -> None:
        self.unasked_for.append(error)
        self.client.lose(ConnectionLost("no answer"))

    async def end(self) -> bool:
        """Close; whether the conversation came to its end before."""
        await self.client.close()
        return self.left == 0


def right(transaction: int, payload: bytes) -> bytes:
    return transaction.to_bytes(2, "big") + bytes.fromhex("0000 0009 01 03 06") + payload


async def test_questions_follow_answers_without_waiting_for_a_task() -> None:
    talk = Talk(3)
    for transaction in (1, 2, 3):
        talk.client.data_received(right(transaction, bytes(6)))
    assert len(talk.wire.written) == 3
    assert [frame[:2] for frame in talk.wire.written] == [b"\x00\x01", b"\x00\x02", b"\x00\x03"]
    assert await talk.end()
    assert len(talk.answers) == 3


async def test_transaction_ids_begin_again_after_the_last() -> None:
    talk = Talk(65540)
    for transaction in range(1, 65541):
        talk.client.data_received(right(transaction & 0xFFFF, bytes(6)))
    assert await talk.end()


async def test_an_answer_ahead_of_its_question_is_no_answer() -> None:
    """Two good-looking frames in one segment: the second was not asked for when it was sent."""
    talk = Talk(2)
    talk.client.data_received(right(1, bytes(6)) + right(2, bytes(6)))
    assert talk.wire.aborted
    assert talk.answers == [bytes(6)]
    await talk.end()


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        yield data[start:end]


@given(st.lists(st.binary(min_size=6, max_size=6), min_size=1, max_size=5), st.lists(st.integers(0, 200)))
async def test_the_cutting_of_the_stream_means_nothing(payloads: list[bytes], cuts: list[int]) -> None:
    talk = Talk(len(payloads))
    for number, payload in enumerate(payloads, 1):
        for piece in pieces(right(number, payload), cuts):
            talk.client.data_received(piece)
    assert await talk.end()
    assert talk.answers == payloads


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, 14), st.integers(0, 255)), min_size=1, max_size=3),
    st.lists(st.integers(0, 40)),
    st.sampled_from(["change", "insert", "delete"]),
)
async def test_damaged_bytes_end_the_connection_or_are_part_of_the_values(
    damage: list[tuple[int, int]], cuts: list[int], how: str
) -> None:
    talk = Talk(3)
    payload = b"\x12\x34\x56\x78\x9a\xbc"
    stream = bytearray(right(1, payload))
    for place, byte in damage:
        if how == "change":
            stream[place] = byte
        elif how == "insert":
            stream.insert(place, byte)
        else:
            del stream[min(place, len(stream) - 1)]
    for piece in pieces(bytes(stream), cuts):
        if talk.wire.aborted:
            break
        talk.client.data_received(piece)
        assert len(talk.client._buffer) <= TCP_FRAME_BYTES_MAX
    for answer in talk.answers:
        if isinstance(answer, bytes):
            assert stream[:9] == right(1, payload)[:9], "a value from a frame that is not the answer"
            assert answer == bytes(stream[9:15])
        else:
            assert stream[7] == 0x83
            assert answer == stream[8]
    assert not await talk.end(), "the conversation wanted three answers"
    assert len(talk.unasked_for) + len(talk.failures) <= 1 + talk.wire.aborted


@given(st.lists(st.binary(max_size=300), max_size=10))
async def test_noise_is_never_an_answer_nor_piles_up(noise: list[bytes]) -> None:
    talk = Talk(1)
    for piece in noise:
        if talk.wire.aborted:
            break
        talk.client.data_received(piece)
        assert len(talk.client._buffer) <= TCP_FRAME_BYTES_MAX
    # Noise that happens to be the whole right header is no noise, and is not drawn again.
    assume(not talk.answers)
    await talk.end()
