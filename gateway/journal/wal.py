"""What a write-ahead log of SQLite says about itself, judged before SQLite opens it.

SQLite stops at the first frame whose checksum is wrong and silently forgets all behind it. That is right for
a tail torn by a crash, and wrong for a damaged frame in the middle, behind which acknowledged commits lie:
their numbers would be used again. A commit is synced before the next one begins, so whatever was written
after a whole further commit proves that the bad frame had been acknowledged. Pure: takes bytes.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
import sys
from array import array

import msgspec

_MAGIC = (0x377F0682, 0x377F0683)  # the second: checksums over big-endian words
_HEADER_BYTES, _FRAME_BYTES = 32, 24
_WORD = 0xFFFFFFFF
_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")


class Verdict(msgspec.Struct, frozen=True):
    """`valid_bytes` will be used. `torn_bytes` behind them were being written when the process ended.

    `broken` is empty, or says why commits that had been acknowledged cannot be used any more.
    """

    valid_bytes: int = 0
    torn_bytes: int = 0
    broken: str = ""


def judge(data: bytes) -> Verdict:
    """Judge the bytes of a log."""
    if len(data) < _HEADER_BYTES + _FRAME_BYTES:
        torn = len(data) if len(data) < _HEADER_BYTES else len(data) - _HEADER_BYTES
        return Verdict(torn_bytes=torn if any(data) else 0)
    magic, _, page_bytes, _, *salts, sum0, sum1 = _HEADER.unpack_from(data)
    big = magic == _MAGIC[1]
    if magic not in _MAGIC or _sum(data[:24], 0, 0, big) != (sum0, sum1):
        return _without_header(data)
    frame_bytes = _FRAME_BYTES + page_bytes
    running = (sum0, sum1)
    end = valid = _HEADER_BYTES
    while end + frame_bytes <= len(data):
        _, size, salt0, salt1, sum0, sum1 = _FRAME.unpack_from(data, end)
        if [salt0, salt1] != salts:
            break
        running = _sum(data[end : end + 8], *running, big)
        running = _sum(data[end + _FRAME_BYTES : end + frame_bytes], *running, big)
        if running != (sum0, sum1):
            break
        end += frame_bytes
        if size:
            valid = end
    return _behind(data, valid, frame_bytes, salts)


def folded(file: bytes, log: bytes) -> bytes:
    """What a database's file holds once all commits of its log are folded in, whatever part of them was."""
    end = judge(log).valid_bytes
    if end <= _HEADER_BYTES:
        return file
    page_bytes = _HEADER.unpack_from(log)[2]
    whole, pages = bytearray(file), 0
    for at in range(_HEADER_BYTES, end, _FRAME_BYTES + page_bytes):
        number, size, *_ = _FRAME.unpack_from(log, at)
        begin, body = (number - 1) * page_bytes, at + _FRAME_BYTES
        whole.extend(bytes(max(0, begin + page_bytes - len(whole))))
        whole[begin : begin + page_bytes] = log[body : body + page_bytes]
        pages = size or pages
    return bytes(whole[: pages * page_bytes])


def _behind(data: bytes, valid: int, frame_bytes: int, salts: list[int]) -> Verdict:
    """What lies behind the last commit that can be used: nothing of this log, a torn commit, or more."""
    last = valid  # end of the last frame that belongs to this log
    commits, after_commit = 0, False
    for at in range(valid, len(data) - _FRAME_BYTES + 1, frame_bytes):
        _, size, *salts_here, _, _ = _FRAME.unpack_from(data, at)
        if salts_here != salts:
            continue
        last = min(at + frame_bytes, len(data))
        after_commit = after_commit or commits > 0
        commits += bool(size)
    if after_commit:
        return Verdict(
            valid,
            last - valid,
            f"the write-ahead log is damaged at byte {valid} or soon after, and commits lie behind it",
        )
    return Verdict(valid, last - valid)


def _without_header(data: bytes) -> Verdict:
    """The header itself is damaged. It is written before the first frame and never torn from it."""
    if not any(data[_HEADER_BYTES:]):
        return Verdict(torn_bytes=_HEADER_BYTES if any(data) else 0)
    return Verdict(0, len(data), "the header of the write-ahead log is damaged")


def _sum(data: bytes, sum0: int, sum1: int, big: bool) -> tuple[int, int]:
    words = array("I", data)
    if big == (sys.byteorder == "little"):
        words.byteswap()
    pairs = iter(words)
    for word in pairs:
        sum0 = (sum0 + word + sum1) & _WORD
        sum1 = (sum1 + next(pairs) + sum0) & _WORD
    return sum0, sum1
