"""Which Sparkplug type a tag has: as declared where the configuration says it, else by the values seen.

A metric has the type of its birth, so a value that does not fit asks for another birth. To keep births few,
a type only ever widens: Boolean, then whole numbers, then Double, then String, which holds everything. A tag
can therefore change its type three times at most after its first value, however its values change. Pure.
"""

from __future__ import annotations

import math

from connectors.settings import TagSettings
from gateway.sparkplug.datatypes import INTEGER_RANGE, UNSIGNED_BITS, DataType
from statemodel.types import TagValue

#: What a tag without a declared type and without a value is said to be. Its first value says better.
UNTOLD = DataType.DOUBLE

_BY_KIND = {
    "bool": DataType.BOOLEAN,
    "integer": DataType.INT64,
    "fraction": DataType.DOUBLE,
    "text": DataType.STRING,
}
#: How protocols call the types that Sparkplug has too. Others are told by what their values are. UInt32 is
#: passed by for Int64: the standard puts it into the field for 32 bits, but many hosts look for it in the one
#: for 64 (as Tahu's libraries long did) and find nothing. Int64 all hosts read alike, and it holds the same.
_BY_WORD = {
    "bool": DataType.BOOLEAN,
    "int16": DataType.INT16,
    "uint16": DataType.UINT16,
    "int32": DataType.INT32,
    "uint32": DataType.INT64,
    "int64": DataType.INT64,
    "uint64": DataType.UINT64,
    "float32": DataType.FLOAT,
    "float64": DataType.DOUBLE,
    "bcd16": DataType.UINT16,
    "bcd32": DataType.INT64,
}
_FLOAT_MAX = 3.4028234663852886e38
_NEVER_NEGATIVE = frozenset({DataType.BOOLEAN, *UNSIGNED_BITS})
#: Wider types have higher ranks; the smaller whole numbers all have 1.
_RANK = {
    DataType.BOOLEAN: 0,
    DataType.INT64: 2,
    DataType.UINT64: 3,
    DataType.FLOAT: 4,
    DataType.DOUBLE: 5,
    DataType.STRING: 6,
}


def declared_type(tag: TagSettings) -> DataType | None:
    """The type a configured tag will have, where its settings tell; None where only the device knows."""
    kind = tag.kind()
    if kind is None:
        return None
    scaled = getattr(tag, "scale", 1) != 1 or getattr(tag, "offset", 0) != 0
    word = None if scaled else _BY_WORD.get(str(getattr(tag, "type", "")))
    return word or _BY_KIND[kind]


def type_of(value: TagValue) -> DataType | None:
    """The type a value has by itself; None for no value."""
    if value is None:
        return None
    if isinstance(value, bool):
        return DataType.BOOLEAN
    if isinstance(value, int):
        for candidate in (DataType.INT64, DataType.UINT64):
            if fits(value, candidate):
                return candidate
        return DataType.DOUBLE if abs(value) < 1 << 1023 else DataType.STRING
    return DataType.DOUBLE if isinstance(value, float) else DataType.STRING


def fits(value: TagValue, datatype: DataType) -> bool:
    """Whether a value can be told as that type: whole and in range; a floating type may round it."""
    if value is None or datatype is DataType.STRING:
        return True
    if datatype is DataType.BOOLEAN:
        return isinstance(value, bool)
    if isinstance(value, str):
        return False
    if datatype is DataType.DOUBLE:
        return isinstance(value, bool | float) or abs(value) < 1 << 1023
    if datatype is DataType.FLOAT:
        return not isinstance(value, int) and (math.isinf(value) or abs(value) <= _FLOAT_MAX)
    low, high = INTEGER_RANGE[datatype]
    return not isinstance(value, float) and low <= value <= high


def widened(datatype: DataType, value: TagValue) -> DataType:
    """The narrowest type that holds both what a tag was until now and a value that does not fit that."""
    if fits(value, datatype):
        return datatype
    for candidate in (DataType.INT64, DataType.UINT64, DataType.DOUBLE):
        if candidate is DataType.UINT64 and datatype not in _NEVER_NEGATIVE:
            continue
        if _rank(candidate) > _rank(datatype) and fits(value, candidate):
            return candidate
    return DataType.STRING


def told(value: TagValue, datatype: DataType) -> TagValue:
    """A value as the type has it. NaN is no value, as everywhere in the gateway."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if datatype is DataType.STRING:
        return value if isinstance(value, str) else _text(value)
    if datatype is DataType.BOOLEAN:
        return bool(value)
    if datatype in (DataType.DOUBLE, DataType.FLOAT):
        return float(value)
    return int(value)


def _text(value: bool | int | float) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else repr(value)


def _rank(datatype: DataType) -> int:
    return _RANK.get(datatype, 1)
