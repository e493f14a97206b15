"""How a protocol data unit travels: Modbus TCP, RTU, ASCII. Bytes in, frames out; pure, and never waits.

After the Messaging on TCP/IP guide V1.0b and Modbus over Serial Line V1.02. Modbus TCP frames carry a
transaction id, so an answer is known by it. The two serial framings carry none: what is looked for in their
bytes is the answer to the one open question, and everything else is garbage.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Protocol

from connectors.modbus.frame import EXCEPTION_BYTES, EXCEPTION_FLAG, PDU_BYTES_MAX, BadReply, Question

#: MBAP header without unit: transaction id, protocol id, length of what follows.
_HEADER = Struct(">HHH")
HEADER_BYTES = _HEADER.size
#: Unit id and a PDU.
LENGTH_MAX = PDU_BYTES_MAX + 1
#: Unit id, function code and one byte more: nothing shorter says anything.
LENGTH_MIN = 3
TCP_FRAME_BYTES_MAX = HEADER_BYTES + LENGTH_MAX
#: Where the values of a read answer begin in a frame of Modbus TCP: header, unit, function, byte count.
TCP_VALUES_AT = 9


@dataclass(frozen=True, slots=True)
class TcpFrame:
    """A whole frame of Modbus TCP, taken apart."""

    transaction: int
    unit: int
    pdu: bytes


def tcp_frame(question: Question, transaction: int) -> bytes:
    """The request as it goes out over Modbus TCP."""
    return transaction.to_bytes(2, "big") + question.tail


def take_tcp_frame(buffer: bytearray) -> TcpFrame | None:
    """Cut the first frame off the buffer; None while it is not complete.

    Raises:
        BadReply: this is no Modbus TCP header; where the next frame begins cannot be known.
    """
    if len(buffer) < HEADER_BYTES:
        return None
    transaction, protocol, length = _HEADER.unpack_from(buffer)
    if protocol != 0:
        raise BadReply(f"the answer has protocol id {protocol}, and Modbus is 0")
    if not LENGTH_MIN <= length <= LENGTH_MAX:
        raise BadReply(
            f"the answer claims a length of {length}, and {LENGTH_MIN} to {LENGTH_MAX} are possible"
        )
    size = HEADER_BYTES + length
    if len(buffer) < size:
        return None
    frame = TcpFrame(transaction, buffer[HEADER_BYTES], bytes(buffer[HEADER_BYTES + 1 : size]))
    del buffer[:size]
    return frame


class SerialFraming(Protocol):
    """A framing without transaction ids: one question at a time, and its answer is looked for."""

    bytes_max: int
    """No frame is longer."""

    def frame(self, question: Question) -> bytes:
        """The request as it goes out."""
        ...

    def find(self, buffer: bytes | bytearray, question: Question) -> Found | None:
        """The first sound answer or exception to the question, wherever it begins; None when not yet."""
        ...

    def answer_bytes(self, question: Question) -> int:
        """Length of the right answer on the wire."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """An answer in a buffer: its PDU, and where its frame begins and ends."""

    pdu: bytes
    start: int
    end: int


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes | bytearray) -> int:
    """CRC-16 of Modbus (Serial Line V1.02, 6.2.2): reflected 0xA001, from 0xFFFF; travels low byte first."""
    crc, table = 0xFFFF, _CRC
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def lrc(data: bytes | bytearray) -> int:
    """Longitudinal redundancy check (Serial Line V1.02, 6.2.1): what makes the sum of all bytes 0."""
    return -sum(data) & 0xFF


class Rtu:
    """Binary frames: unit, PDU, CRC.

    A frame has no mark at its beginning, so its length has to follow from what was asked. Garbage is passed
    over to the first place at which an answer with a right check stands.
    """

    bytes_max = 1 + PDU_BYTES_MAX + 2

    def frame(self, question: Question) -> bytes:
        """Unit, PDU, CRC with its low byte first."""
        body = bytes((question.unit,)) + question.pdu
        return body + crc16(body).to_bytes(2, "little")

    def answer_bytes(self, question: Question) -> int:
        """Unit, PDU, CRC."""
        return 1 + question.answer_bytes + 2

    def find(self, buffer: bytes | bytearray, question: Question) -> Found | None:
        """See `SerialFraming`."""
        unit = bytes((question.unit,))
        exception = bytes((question.unit, question.function | EXCEPTION_FLAG))
        return self._first(buffer, unit + question.expected, question.answer_bytes) or self._first(
            buffer, exception, EXCEPTION_BYTES
        )

    @staticmethod
    def _first(buffer: bytes | bytearray, head: bytes, pdu_bytes: int) -> Found | None:
        start = buffer.find(head)
        while start >= 0:
            checked = start + 1 + pdu_bytes
            end = checked + 2
            if end > len(buffer):
                return None
            if crc16(buffer[start:checked]) == buffer[checked] | buffer[checked + 1] << 8:
                return Found(bytes(buffer[start + 1 : checked]), start, end)
            start = buffer.find(head, start + 1)
        return None


_HEX = frozenset(b"0123456789ABCDEFabcdef")


class Ascii:
    """Frames of characters: a colon, two hexadecimal digits a byte, LRC, CR LF."""

    bytes_max = 1 + 2 * (1 + PDU_BYTES_MAX + 1) + 2

    def frame(self, question: Question) -> bytes:
        """Colon, unit, PDU, LRC, CR LF."""
        body = bytes((question.unit,)) + question.pdu
        return b":" + (body + bytes((lrc(body),))).hex().upper().encode() + b"\r\n"

    def answer_bytes(self, question: Question) -> int:
        """Two characters for each byte, and three around them."""
        return 1 + 2 * (1 + question.answer_bytes + 1) + 2

    def find(self, buffer: bytes | bytearray, question: Question) -> Found | None:
        """See `SerialFraming`. A frame begins anew with each colon; lower-case digits are read too."""
        end = 0
        while (end := buffer.find(b"\r\n", end) + 2) >= 2:
            start = buffer.rfind(b":", 0, end)
            if start < 0:
                continue
            body = self._body(bytes(buffer[start + 1 : end - 2]))
            if body is None or body[0] != question.unit:
                continue
            pdu = body[1:-1]
            right = pdu.startswith(question.expected) and len(pdu) == question.answer_bytes
            refused = pdu[:1] == bytes((question.function | EXCEPTION_FLAG,)) and len(pdu) == EXCEPTION_BYTES
            if right or refused:
                return Found(pdu, start, end)
        return None

    @staticmethod
    def _body(digits: bytes) -> bytes | None:
        """Unit, PDU and LRC, if that is what the digits are and the LRC is right."""
        if len(digits) % 2 or len(digits) < 2 * (1 + 1 + 1) or not _HEX.issuperset(digits):
            return None
        body = bytes.fromhex(digits.decode("ascii"))
        return body if sum(body) & 0xFF == 0 else None
