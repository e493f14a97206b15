"""OPC UA status codes in the gateway's words: severity to quality, the code's name to a substatus.

A StatusCode (OPC 10000-4 section 7.39) keeps its meaning in the upper 16 bits; the lower 16 are flags that
never change it, so codes are compared after masking. Pure.
"""

from __future__ import annotations

import re
from functools import lru_cache

from asyncua.ua.status_codes import code_to_name_doc

from statemodel.types import Quality

MEANING = 0xFFFF_0000

_INFO_TYPE, _INFO_DATA_VALUE = 0x0C00, 0x0400
_OVERFLOW = 0x0080
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@lru_cache(maxsize=1024)
def quality_of(code: int) -> tuple[Quality, str]:
    """Quality and substatus of a status code: `(bad, "no_communication")` for BadNoCommunication.

    The substatus is empty for plain Good, Uncertain and Bad. Severity 11 is reserved and counts as bad.
    """
    quality = (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD)[code >> 30 & 0b11]
    meaning = code & MEANING
    known = code_to_name_doc.get(meaning)
    if known is None:
        return quality, f"status_{meaning:08x}"
    words = known[0].removeprefix("Good").removeprefix("Uncertain").removeprefix("Bad")
    return quality, _WORD_START.sub("_", words).lower()


def overflowed(code: int) -> bool:
    """Whether values next to this one fell out of the server's queue (data value flags, OPC 10000-4 7.39)."""
    return code & (_INFO_TYPE | _OVERFLOW) == _INFO_DATA_VALUE | _OVERFLOW


def name_of(code: int) -> str:
    """The standard's name of a code, such as `BadNodeIdUnknown`; hexadecimal when it has none."""
    known = code_to_name_doc.get(code & MEANING)
    return known[0] if known else f"0x{code:08X}"


def is_bad(code: int) -> bool:
    """Whether an operation with this result failed."""
    return code & 0x8000_0000 != 0
