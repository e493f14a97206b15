"""Bytes of Modbus TCP: requests out, answers in, and whether an answer is the answer to this question. Pure.

After the Modbus Messaging on TCP/IP guide V1.0b (MBAP header) and the Application Protocol V1.1b3. No length
in a frame is trusted: it is compared with the one the question implies.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from connectors.modbus.layout import Table
from connectors.modbus.plan import ReadRequest

#: MBAP header without unit: transaction id, protocol id, length of what follows.
_HEADER = Struct(">HHH")
HEADER_BYTES = _HEADER.size
_REQUEST = Struct(">HHBBHH")
#: Unit id and a PDU of at most 253 bytes.
LENGTH_MAX = 254
#: Unit id, function code and one byte more: nothing shorter says anything.
LENGTH_MIN = 3
FRAME_BYTES_MAX = HEADER_BYTES + LENGTH_MAX

FUNCTION = {Table.COIL: 1, Table.DISCRETE: 2, Table.HOLDING: 3, Table.INPUT: 4}
_EXCEPTION_FLAG = 0x80
_EXCEPTION_LENGTH = 3
#: Where the payload of a read answer begins: header, unit, function, byte count.
PAYLOAD_AT = 9


class BadReply(Exception):
    """The bytes are not an answer to what was asked; `reason` says in words how they differ."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Question:
    """A request, with everything that does not change between its askings worked out once.

    `tail` is the request frame and `head` the beginning of the one right answer, both without their
    transaction id; `size` is the length of that answer's frame.
    """

    request: ReadRequest
    unit: int
    function: int
    payload_bytes: int
    tail: bytes
    head: bytes
    size: int

    def frame(self, transaction: int) -> bytes:
        """The request as it goes out."""
        return transaction.to_bytes(2, "big") + self.tail


def question(request: ReadRequest, unit: int) -> Question:
    """Work out how a request is asked of a unit and what its answer has to look like."""
    function = FUNCTION[request.table]
    payload_bytes = (request.count + 7) // 8 if request.table.of_bits else request.count * 2
    tail = _REQUEST.pack(0, 6, unit, function, request.start, request.count)
    length = payload_bytes + 3
    head = bytes((0, 0, length >> 8, length & 0xFF, unit, function, payload_bytes))
    return Question(request, unit, function, payload_bytes, tail, head, HEADER_BYTES + length)


def frame_bytes(data: bytes | bytearray) -> int | None:
    """Length of the frame that begins here, or None while its header is not complete.

    Raises:
        BadReply: this is no Modbus TCP header; where the next frame begins cannot be known.
    """
    if len(data) < HEADER_BYTES:
        return None
    _, protocol, length = _HEADER.unpack_from(data)
    if protocol != 0:
        raise BadReply(f"the answer has protocol id {protocol}, and Modbus is 0")
    if not LENGTH_MIN <= length <= LENGTH_MAX:
        raise BadReply(
            f"the answer claims a length of {length}, and {LENGTH_MIN} to {LENGTH_MAX} are possible"
        )
    return HEADER_BYTES + int(length)


def transaction_of(frame: bytes) -> int:
    """Transaction id of a whole frame."""
    return int.from_bytes(frame[:2], "big")


def read_answer(asked: Question, frame: bytes) -> bytes | int:
    """Payload of the answer, or the exception code (1 to 255) the device gave instead.

    The frame is whole and carries the right transaction id.

    Raises:
        BadReply: it answers something else.
    """
    if frame.startswith(asked.head, 2) and len(frame) == asked.size:
        return frame[PAYLOAD_AT:]
    length, unit, function = len(frame) - HEADER_BYTES, frame[6], frame[7]
    if unit != asked.unit:
        raise BadReply(f"unit {unit} answered, and unit {asked.unit} was asked")
    if function == asked.function | _EXCEPTION_FLAG:
        if length != _EXCEPTION_LENGTH:
            raise BadReply(f"an exception answer is {_EXCEPTION_LENGTH} bytes long, this one {length}")
        if frame[8] == 0:
            raise BadReply("the answer is an exception with code 0, which there is not")
        return frame[8]
    if function != asked.function:
        raise BadReply(f"function {function} was answered, and function {asked.function} was asked")
    raise BadReply(
        f"the answer holds {min(frame[8], length - 3)} bytes of values "
        f"(it says {frame[8]}, there are {length - 3}), and {asked.payload_bytes} were asked for"
    )
