"""Whatever the bytes are: a payload or refused with the reason, soon, and nothing else."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.sparkplug import sparkplug_b_pb2
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.payload import (
    DataSet,
    Metric,
    NotSparkplug,
    Payload,
    Property,
    Template,
    decode,
    encode,
)
from tests.support.sparkplug_payloads import payloads

ROOT = Path(__file__).parents[3]
AT = datetime(2026, 11, 22, 9, 30, 0, 125_000, tzinfo=UTC)
T = DataType
#: Of work. Far above what any of it takes; a payload that stops the process for longer is an attack.
SECONDS_MAX = 5.0


def judge(data: bytes) -> bool:
    """Decode; whether it was a payload. What it was has to be possible to say and, if typed, to send."""
    began = time.thread_time()
    try:
        found = decode(data)
    except NotSparkplug:
        return False
    finally:
        assert time.thread_time() - began < SECONDS_MAX
    assert repr(found)
    if found.typed and (found.seq is None or found.seq < 256):
        again = decode(encode(found))
        assert repr(again) == repr(found)
    return True


#: Values of each kind of field: what payloads hold, and what no payload should.
_LEAVES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_UINT32: st.integers(0, 40) | st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 300) | st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: st.text(max_size=5),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=20),
}
#: Fields that are often there, so that many messages are nearly right; and what they nearly always hold.
_OFTEN = {"datatype", "type", "types", "template_ref", "is_definition", "num_of_columns", "columns", "keys"}
_TYPES = st.integers(1, 34) | st.integers(0, 40)


@st.composite
def wild(draw: st.DrawFn, descriptor: Any, depth: int = 4) -> Message:
    """A message of the schema that holds anything: fields in any mixture, with any value they can hold."""
    message: Message = GetMessageClass(descriptor)()
    one_of = [*descriptor.oneofs[0].fields, None] if descriptor.oneofs else [None]
    chosen = {draw(st.sampled_from(one_of)), draw(st.sampled_from([*descriptor.fields, None]))}
    for field in descriptor.fields:
        there = field in chosen or field.name == "name" or (field.name in _OFTEN and draw(st.booleans()))
        if not there or (field.message_type is not None and depth == 0):
            continue
        count = draw(st.integers(1, 3)) if field.is_repeated else 1
        number = field.type == FieldDescriptor.TYPE_UINT32 and "type" in field.name
        leaf = _TYPES if number else _LEAVES.get(field.type)
        for _ in range(count):
            if field.message_type is not None:
                inner = draw(wild(field.message_type, depth - 1))
                if field.is_repeated:
                    getattr(message, field.name).append(inner)
                else:
                    getattr(message, field.name).CopyFrom(inner)
            elif leaf is not None and field.is_repeated:
                getattr(message, field.name).append(draw(leaf))
            elif leaf is not None:
                setattr(message, field.name, draw(leaf))
    return message


@given(metric=wild(sparkplug_b_pb2.Metric.DESCRIPTOR))
@settings(max_examples=500)
def test_any_mixture_of_fields_is_a_payload_or_refused(metric: Any) -> None:
    message = sparkplug_b_pb2.Payload()
    message.metrics.append(metric)
    judge(message.SerializeToString())


@given(data=st.binary(max_size=200))
@example(data=b"\x12\x04\x10\x00\x38\x01")
def test_bytes_at_random_are_a_payload_or_refused(data: bytes) -> None:
    judge(data)


@given(payload=payloads, changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))))
@settings(max_examples=300)
def test_a_payload_with_changed_bytes_is_one_or_refused(
    payload: Payload, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(encode(payload))
    for place, octet in changes:
        if data:
            data[int(place * len(data))] = octet
    judge(bytes(data))


def _nest(depth: int) -> Metric:
    one = Metric("m", None, T.INT8, 1, None)
    for _ in range(depth):
        one = Metric("m", None, T.TEMPLATE, Template((one,), ref="T"), None)
    return one


def _nest_properties(depth: int) -> Metric:
    one = Property(T.INT8, 1)
    for index in range(depth - 1):
        if index % 2:
            one = Property(T.PROPERTY_SET, {"p": one})
        else:
            one = Property(T.PROPERTY_SET_LIST, ({"p": one},))
    return Metric("m", None, T.INT8, 1, None, properties={"p": one})


def test_ten_thousand_broken_payloads_are_payloads_or_refused() -> None:
    dice = random.Random(67)
    whole = [
        encode(
            Payload(
                AT,
                5,
                (
                    Metric(
                        "State", 1, T.STRING, "Execute", AT, properties={"Quality": Property(T.INT32, 192)}
                    ),
                    Metric("Speed", 2, T.DOUBLE, 1.5, AT),
                    Metric("Wave", 3, T.INT16_ARRAY, (1, -1, 30_000), AT),
                    Metric("Names", 4, T.STRING_ARRAY, ("a", "b"), AT),
                    Metric("Bits", 5, T.BOOLEAN_ARRAY, (True, False) * 5, AT),
                    Metric("Table", 6, T.DATASET, DataSet(("a", "b"), (T.INT8, T.UUID), ((1, None),)), AT),
                    _nest(3),
                    _nest_properties(3),
                ),
            )
        )
    ]
    taken = 0
    for _ in range(10_000):
        data = bytearray(dice.choice(whole))
        for _ in range(dice.randrange(1, 6)):
            place = dice.randrange(len(data))
            match dice.randrange(4):
                case 0:
                    data[place] = dice.randrange(256)
                case 1:
                    del data[place : place + dice.randrange(1, 8)]
                case 2:
                    data[place:place] = dice.randbytes(dice.randrange(1, 8))
                case _:
                    data[place] ^= 1 << dice.randrange(8)
            data = data or bytearray(b"\0")
        taken += judge(bytes(data))

    # Of each kind enough to have looked at both ways out.
    assert 100 < taken < 9_900


_PURE = """
from google.protobuf.internal import api_implementation
from gateway.sparkplug.datatypes import DataType as T
from gateway.sparkplug.payload import Metric, NotSparkplug, Payload, WrongValue, decode, encode

assert api_implementation.Type() == "python"
payload = Payload(None, 1, (Metric("m", None, T.INT8, -23, None), Metric("t", None, T.TEXT, "\\ud800", None)))
assert [one.value for one in decode(encode(payload)).metrics] == [-23, "?"]
for data in (b"\\x12\\x06\\x0a\\x02\\xff\\xfe\\x38\\x01", b"\\xff\\xff", b"\\x12\\x02\\x50\\x05"):
    try:
        decode(data)
    except NotSparkplug:
        continue
    raise SystemExit(f"taken: {data!r}")
for one in (Metric("\\ud800", None, T.INT8, 1, None), Metric("m", 2**64, T.INT8, 1, None)):
    try:
        encode(Payload(None, 1, (one,)))
    except WrongValue:
        continue
    raise SystemExit(f"written: {one!r}")
"""


def test_it_is_so_where_protobuf_is_pure_python_too() -> None:
    """Where no C library comes with protobuf, it says other things at other times."""
    done = subprocess.run(
        [sys.executable, "-c", _PURE],
        cwd=ROOT,
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
