"""The data types of Sparkplug B 3.0 and what is fixed about each: range, width, type of the elements.

Tables only. How a value of a type is written as bytes is said in `scalars.py` and `arrays.py`.
"""

from __future__ import annotations

from enum import IntEnum


class DataType(IntEnum):
    """What a value is, by the numbers of the standard (chapter 6, "Sparkplug Data Types").

    The Python value of each: `int` for the integers, `float` for Float (32 bits) and Double, `bool`, `str`
    for String and Text, aware `datetime` (whole milliseconds) for DateTime, `uuid.UUID`, `bytes` for Bytes
    and File, a tuple of the element's Python values for an array, and `DataSet`, `Template`, a mapping of
    names to `Property` and a tuple of such mappings for the rest. None is the null of every type.
    """

    UNKNOWN = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTY_SET = 20
    PROPERTY_SET_LIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATETIME_ARRAY = 34


T = DataType

#: Bits of the integers. The signed ones are two's complement.
SIGNED_BITS = {T.INT8: 8, T.INT16: 16, T.INT32: 32, T.INT64: 64}
UNSIGNED_BITS = {T.UINT8: 8, T.UINT16: 16, T.UINT32: 32, T.UINT64: 64}

#: Smallest and largest value of the integers.
INTEGER_RANGE: dict[DataType, tuple[int, int]] = {
    **{type_: (-(1 << bits - 1), (1 << bits - 1) - 1) for type_, bits in SIGNED_BITS.items()},
    **{type_: (0, (1 << bits) - 1) for type_, bits in UNSIGNED_BITS.items()},
}

#: What an array is made of.
ELEMENT: dict[DataType, DataType] = {
    T.INT8_ARRAY: T.INT8,
    T.INT16_ARRAY: T.INT16,
    T.INT32_ARRAY: T.INT32,
    T.INT64_ARRAY: T.INT64,
    T.UINT8_ARRAY: T.UINT8,
    T.UINT16_ARRAY: T.UINT16,
    T.UINT32_ARRAY: T.UINT32,
    T.UINT64_ARRAY: T.UINT64,
    T.FLOAT_ARRAY: T.FLOAT,
    T.DOUBLE_ARRAY: T.DOUBLE,
    T.BOOLEAN_ARRAY: T.BOOLEAN,
    T.STRING_ARRAY: T.STRING,
    T.DATETIME_ARRAY: T.DATETIME,
}

#: Types every place has a field for: metrics, properties, parameters of templates, elements of a DataSet.
SCALARS = frozenset(
    {
        *INTEGER_RANGE,
        T.FLOAT,
        T.DOUBLE,
        T.BOOLEAN,
        T.STRING,
        T.DATETIME,
        T.TEXT,
        T.UUID,
    }
)

#: Types only a property has, and all a property may have.
PROPERTY_ONLY = frozenset({T.PROPERTY_SET, T.PROPERTY_SET_LIST})
OF_PROPERTIES = SCALARS | PROPERTY_ONLY

#: All a metric may have.
OF_METRICS = frozenset(DataType) - PROPERTY_ONLY - {T.UNKNOWN}


def shown(datatype: DataType) -> str:
    """The name the standard gives a type."""
    return _NAMES[datatype]


#: Where the standard's spelling is not that of our names, word by word.
_SPELLING = {"INT": "Int", "UINT": "UInt", "DATETIME": "DateTime", "DATASET": "DataSet", "UUID": "UUID"}


def _name(datatype: DataType) -> str:
    words = []
    for word in datatype.name.split("_"):
        stem = word.rstrip("0123456789")
        words.append(_SPELLING.get(stem, stem.capitalize()) + word[len(stem) :])
    return "".join(words)


_NAMES = {datatype: _name(datatype) for datatype in DataType}
