"""Questions and answers as the protocol data unit has them: what is asked, and whether this answers it. Pure.

After the Modbus Application Protocol V1.1b3. How a unit of data is wrapped for the wire is for `framing` to
say; that of Modbus TCP is worked out here beforehand, because it is asked thousands of times a second. No
length in an answer is trusted: it is compared with the one the question implies.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from connectors.modbus.layout import Table
from connectors.modbus.plan import ReadRequest

_REQUEST = Struct(">BHH")
#: A protocol data unit is never longer.
PDU_BYTES_MAX = 253

FUNCTION = {Table.COIL: 1, Table.DISCRETE: 2, Table.HOLDING: 3, Table.INPUT: 4}
READ_FUNCTIONS = frozenset(FUNCTION.values())
EXCEPTION_FLAG = 0x80
#: Function code with the flag, exception code.
EXCEPTION_BYTES = 2
#: Where the values of a read answer begin: function, byte count.
VALUES_AT = 2


class BadReply(Exception):
    """The bytes are not an answer to what was asked; `reason` says in words how they differ."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Question:
    """A request, with everything that does not change between its askings worked out once.

    `pdu` is what is asked. The one right answer begins with `expected` and is `answer_bytes` long, without
    unit and frame. For Modbus TCP: `tail` is the request frame and `head` the beginning of the right answer,
    both without transaction id; `size` is the length of that answer's frame.
    """

    unit: int
    pdu: bytes
    expected: bytes
    answer_bytes: int
    tail: bytes
    head: bytes
    size: int

    @property
    def function(self) -> int:
        """The function code."""
        return self.pdu[0]

    @property
    def reads(self) -> bool:
        """Whether it asks for values, and changes nothing."""
        return self.pdu[0] in READ_FUNCTIONS


def ask(unit: int, pdu: bytes, expected: bytes, answer_bytes: int) -> Question:
    """A question of any function."""
    length, answer_length = len(pdu) + 1, answer_bytes + 1
    tail = bytes((0, 0, length >> 8, length & 0xFF, unit)) + pdu
    head = bytes((0, 0, answer_length >> 8, answer_length & 0xFF, unit)) + expected
    return Question(unit, pdu, expected, answer_bytes, tail, head, answer_length + 6)


def read_question(unit: int, function: int, start: int, count: int) -> Question:
    """How addresses are read, and what the answer has to look like."""
    values_bytes = count * 2 if function in (3, 4) else (count + 7) // 8
    pdu = _REQUEST.pack(function, start, count)
    return ask(unit, pdu, bytes((function, values_bytes)), VALUES_AT + values_bytes)


def question(request: ReadRequest, unit: int) -> Question:
    """How a request of the plan is asked of a unit."""
    return read_question(unit, FUNCTION[request.table], request.start, request.count)


def judge(asked: Question, unit: int, pdu: bytes) -> bytes | int:
    """What an answer says: the values read, the rest of what was confirmed, or the exception code (1 to 255).

    Raises:
        BadReply: it answers something else.
    """
    if unit != asked.unit:
        raise BadReply(f"unit {unit} answered, and unit {asked.unit} was asked")
    if pdu.startswith(asked.expected) and len(pdu) == asked.answer_bytes:
        return pdu[VALUES_AT:]
    if len(pdu) < EXCEPTION_BYTES:
        raise BadReply(f"an answer of {len(pdu)} bytes says nothing")
    function = pdu[0]
    if function == asked.function | EXCEPTION_FLAG:
        if len(pdu) != EXCEPTION_BYTES:
            raise BadReply(f"an exception answer is {EXCEPTION_BYTES} bytes long, this one {len(pdu)}")
        if pdu[1] == 0:
            raise BadReply("the answer is an exception with code 0, which there is not")
        return pdu[1]
    if function != asked.function:
        raise BadReply(f"function {function} was answered, and function {asked.function} was asked")
    if not asked.reads:
        raise BadReply("the answer repeats something else than was written")
    there = len(pdu) - VALUES_AT
    raise BadReply(
        f"the answer holds {min(pdu[1], there)} bytes of values "
        f"(it says {pdu[1]}, there are {there}), and {asked.expected[1]} were asked for"
    )
