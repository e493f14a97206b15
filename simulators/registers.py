"""Values to Modbus registers: every type and word order the map of the plant uses."""

from __future__ import annotations

import struct
from typing import Final

from simulators.machine import Value

_FORMATS: Final[dict[str, str]] = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "uint64": ">Q",
    "float32": ">f",
    "float64": ">d",
}
_WRAPS: Final[dict[str, int]] = {"uint16": 1 << 16, "uint32": 1 << 32, "bcd16": 10**4, "bcd32": 10**8}
"""Counters start again at zero when they outgrow their registers, as a PLC's do."""


def encode(kind: str, value: Value, *, order: str = "ABCD", scale: float = 1.0) -> list[int]:
    """The registers of one value, first address first. `order` is that of the bytes of each 32 bits.

    Raises:
        ValueError: the value does not fit the type.
    """
    if kind.startswith("string"):
        size = int(kind[len("string(") : -1])
        data = str(value).encode("ascii").ljust(size, b"\0")
        if len(data) > size:
            raise ValueError(f'"{value}" is longer than {kind}')
    elif isinstance(value, str):
        raise ValueError(f'"{value}" is text and {kind} is not')
    else:
        data = _number(kind, value, scale)
    words = [data[place : place + 2] for place in range(0, len(data), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return [int.from_bytes(word, "big") for word in words]


def _number(kind: str, value: float, scale: float) -> bytes:
    if kind in ("float32", "float64"):
        return struct.pack(_FORMATS[kind], value / scale)
    whole = round(value / scale)
    if kind in _WRAPS:
        whole %= _WRAPS[kind]
    if kind in ("bcd16", "bcd32"):
        return bytes.fromhex(f"{whole:0{4 if kind == 'bcd16' else 8}d}")
    try:
        return struct.pack(_FORMATS[kind], whole)
    except struct.error:
        raise ValueError(f"{value} does not fit {kind} with scale {scale}") from None
