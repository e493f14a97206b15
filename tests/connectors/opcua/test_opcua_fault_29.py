"""Fault 29 from the wire to the state: what a PLC may put into its state tag, and what is made of it.

Decoder and engine together, without a socket between them: whatever is no trustworthy code leads to `Unknown`
or nowhere, never to a real state.
"""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta

import pytest

from connectors.opcua.decode import decode_publish
from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentSpec
from statemodel.types import Quality, SampleBatch, Transition
from tests.connectors.opcua.test_opcua_decode import data_change, publish_bytes

START = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
_EPOCH_TICKS = 116_444_736_000_000_000
_EXECUTE, _HELD = 6, 11


def int32(value: int) -> bytes:
    return b"\x06" + struct.pack("<i", value)


class Filler:
    """A machine whose state is read from one tag, as a server tells it."""

    def __init__(self) -> None:
        self.engine = Engine(
            [EquipmentSpec("filler", "a/l/filler", BUILTIN["packml"], state="plc/state")], at=START
        )
        self.at = START

    def hears(
        self, variant: bytes, code: int = 0, source_at: datetime | None = None
    ) -> tuple[Transition, ...]:
        """A notification a second after the last; the transitions it leads to."""
        self.at += timedelta(seconds=1)
        stamp = source_at or self.at
        ticks = _EPOCH_TICKS + round((stamp - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 10**7
        item = struct.pack("<IB", 1, 0x07) + variant + struct.pack("<Iq", code, ticks)
        answer = decode_publish(publish_bytes(data_change(item)), 0, ("", "plc/state"), self.at)
        batch = SampleBatch("plc", self.at, tuple(answer.samples), source_time=True)
        return self.engine.step(batch).transitions


@pytest.fixture
def filler() -> Filler:
    machine = Filler()
    (first,) = machine.hears(int32(_EXECUTE))
    assert (first.to_state, first.cause.inputs[0].quality) == ("Execute", Quality.GOOD)
    return machine


@pytest.mark.parametrize(
    ("variant", "code"),
    [
        pytest.param(int32(_HELD), 0x80310000, id="bad status over a value"),
        pytest.param(b"\x00", 0, id="null"),
        pytest.param(b"\x0b" + struct.pack("<d", math.nan), 0, id="NaN"),
        pytest.param(b"\x0b" + struct.pack("<d", math.inf), 0, id="infinity"),
        pytest.param(b"\x0b" + struct.pack("<d", 11.5), 0, id="a fraction"),
        pytest.param(b"\x86" + struct.pack("<ii", 1, _HELD), 0, id="an array for a scalar"),
        pytest.param(b"\x16\x01\x02\x07\x00\x01" + struct.pack("<ii", 4, _HELD), 0, id="a structure"),
        pytest.param(b"\x0c" + struct.pack("<i", 2) + b"11", 0, id="a text of digits"),
        pytest.param(int32(99), 0, id="a code no state has"),
        pytest.param(int32(_HELD), 0xC0000000, id="a reserved severity"),
    ],
)
def test_fault_29_no_transition_to_a_real_state_from_what_cannot_be_trusted(
    filler: Filler, variant: bytes, code: int
) -> None:
    for transition in filler.hears(variant, code):
        assert transition.to_state == "Unknown"
        assert transition.cause.inputs[0].tag == "plc/state"
    (back,) = filler.hears(int32(_HELD))
    assert back.to_state == "Held", "the next good value is believed again"


def test_fault_29_the_quality_that_decided_is_in_the_evidence(filler: Filler) -> None:
    (left,) = filler.hears(int32(_HELD), 0x808C0000)
    assert (left.to_state, left.cause.rule) == ("Unknown", "bad_quality")
    (evidence,) = left.cause.inputs
    assert (evidence.value, evidence.quality, evidence.substatus) == (None, Quality.BAD, "sensor_failure")


@pytest.mark.parametrize("year", [1601, 1970, 2099, 9999])
def test_fault_29_a_clock_that_was_never_set_does_not_date_a_transition(filler: Filler, year: int) -> None:
    (held,) = filler.hears(int32(_HELD), source_at=datetime(year, 1, 1, tzinfo=UTC))
    assert held.to_state == "Held"
    assert held.at == filler.at, "dated by its receipt"
