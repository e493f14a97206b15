"""Report by exception: what is dropped says nothing new, and what is new always passes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.filters import ChangeFilter, no_communication
from statemodel.types import Quality, SampleBatch, TagSample, TagValue

AT = datetime(2026, 3, 1, tzinfo=UTC)
PLC = ConnectionSettings(
    name="plc",
    protocol="toy",
    endpoint="toy://",
    groups=(
        GroupSettings(
            name="all",
            interval=timedelta(seconds=1),
            tags=(TagSettings(name="speed", deadband=0.5), TagSettings(name="state")),
        ),
    ),
)


def sample(tag: str, value: TagValue, quality: Quality = Quality.GOOD) -> TagSample:
    return TagSample(tag, value, quality, None, AT)


def passed(change_filter: ChangeFilter, *samples: TagSample) -> list[TagValue]:
    return [item.value for item in change_filter.apply(SampleBatch("plc", AT, samples)).samples]


def test_a_repeated_value_is_dropped_and_a_new_one_passes() -> None:
    change_filter = ChangeFilter([PLC])

    assert passed(change_filter, sample("plc/state", 3)) == [3]
    assert passed(change_filter, sample("plc/state", 3)) == []
    assert passed(change_filter, sample("plc/state", 4)) == [4]


def test_a_change_of_type_or_quality_is_news() -> None:
    change_filter = ChangeFilter([PLC])

    assert passed(change_filter, sample("plc/state", 1)) == [1]
    assert passed(change_filter, sample("plc/state", True)) == [True]
    assert passed(change_filter, sample("plc/state", True, Quality.UNCERTAIN)) == [True]


def test_the_deadband_is_measured_from_the_last_value_passed_on() -> None:
    change_filter = ChangeFilter([PLC])
    drift = [10.0, 10.3, 10.5, 10.6, 10.9, 11.2]

    assert [value for step in drift for value in passed(change_filter, sample("plc/speed", step))] == [
        10.0,
        10.6,
        11.2,
    ]


def test_after_a_lost_link_the_same_value_is_news_again() -> None:
    change_filter = ChangeFilter([PLC])
    passed(change_filter, sample("plc/state", 3))

    change_filter.forget("plc")

    assert passed(change_filter, sample("plc/state", 3)) == [3]


def test_a_lost_link_makes_every_tag_bad_from_its_instant() -> None:
    batch = no_communication(PLC, AT)

    assert [(item.tag, item.value, item.quality, item.substatus) for item in batch.samples] == [
        ("plc/speed", None, Quality.BAD, "no_communication"),
        ("plc/state", None, Quality.BAD, "no_communication"),
    ]
    assert {item.received_at for item in batch.samples} == {AT}


@given(st.lists(st.floats(-5, 5), min_size=1))
def test_what_is_known_is_never_further_off_than_the_deadband(values: list[float]) -> None:
    change_filter = ChangeFilter([PLC])
    known: TagValue = None
    for value in values:
        for news in passed(change_filter, sample("plc/speed", value)):
            known = news
        assert isinstance(known, float)
        assert abs(known - value) <= 0.5
