"""What counts as read after a write, also when the wall clock is set meanwhile."""

from __future__ import annotations

from datetime import timedelta

from gateway.control.readings import Readings
from statemodel.types import Quality, SampleBatch, TagSample
from tests.support.manual_clock import ManualClock

TAG = "plc/request"


class SetClock(ManualClock):
    """One whose wall time somebody sets, as a time server does."""

    def set_back(self, seconds: float) -> None:
        self._now -= timedelta(seconds=seconds)


def read(readings: Readings, clock: ManualClock, value: bool) -> None:
    now = clock.now()
    readings.batch(SampleBatch("plc", now, (TagSample(TAG, value, Quality.GOOD, None, now),)))


def test_a_reading_of_before_is_none_of_after_because_the_clock_was_set_back() -> None:
    """Else a request that stands would count as taken back by the machine."""
    clock = SetClock()
    readings = Readings(clock, {TAG: "all"})
    read(readings, clock, False)
    clock.set_back(3600.0)
    clock.advance(1.0)
    written = clock.now(), clock.monotonic()
    assert readings.since(TAG, *written) is None
    clock.advance(0.1)
    read(readings, clock, True)
    found = readings.since(TAG, *written)
    assert found is not None
    assert found.value is True


def test_a_reading_of_after_counts_although_the_clock_was_set_back_meanwhile() -> None:
    clock = SetClock()
    readings = Readings(clock, {TAG: "all"})
    written = clock.now(), clock.monotonic()
    clock.set_back(3600.0)
    clock.advance(0.1)
    read(readings, clock, True)
    readings.cycle("plc", "all", 0.0)
    readings.cycle("plc", "all", 0.0)
    assert readings.since(TAG, *written) is not None


def test_what_was_read_before_and_handed_in_after_does_not_count() -> None:
    clock = SetClock()
    readings = Readings(clock, {TAG: "all"})
    now = clock.now()
    clock.advance(1.0)
    written = clock.now(), clock.monotonic()
    clock.advance(0.1)
    readings.batch(SampleBatch("plc", now, (TagSample(TAG, True, Quality.GOOD, None, now),)))
    assert readings.since(TAG, *written) is None
