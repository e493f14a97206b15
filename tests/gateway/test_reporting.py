"""Report times, heartbeats and swinging doors: nothing untold beyond the rule, nothing made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.filters import ChangeFilter
from gateway.reporting import Report, Reporter
from statemodel.types import Quality, SampleBatch, TagSample, TagValue

AT = datetime(2026, 3, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def seconds(moment: datetime) -> float:
    return (moment - AT).total_seconds()


@dataclass
class Line:
    """A tag on its way: filter, then reports. Remembers what went where, with the second it was told."""

    filter: ChangeFilter
    reporter: Reporter
    news: list[TagSample] = field(default_factory=list)
    topics: list[tuple[float, TagSample]] = field(default_factory=list)
    history: list[TagSample] = field(default_factory=list)
    source_time: bool = False
    lost: list[float] = field(default_factory=list)

    def give(self, second: float, *values: TagValue, quality: Quality = Quality.GOOD) -> None:
        """Samples of one batch, after all that was due before it."""
        self.pass_time(second)
        moment = at(second)
        samples = tuple(TagSample("plc/x", value, quality, None, moment) for value in values)
        batch = SampleBatch("plc", moment, samples, self.source_time)
        passed = self.filter.apply(batch)
        self.news += passed.samples
        self._told(second, self.reporter.take(batch, passed), passed.samples)

    def read(self, second: float) -> None:
        """The group is read completely; a heartbeat that is due is proved by that."""
        self.pass_time(second)
        if self.reporter.read("plc/all", at(second)):
            self._told(second, self.reporter.proved("plc/all", at(second), at(second)))

    def pass_time(self, second: float) -> None:
        """Every alarm rings at its own instant until then."""
        while True:
            wakes = [wake for wake in (self.filter.wake_at(), self.reporter.wake_at()) if wake is not None]
            if not wakes or min(wakes) > at(second):
                return
            now = min(wakes)
            for batch in self.filter.due(now):
                self.news += batch.samples
                self._told(seconds(now), self.reporter.take(batch, batch), batch.samples)
            for report in self.reporter.due(now).values():
                self._told(seconds(now), report)

    def end(self, second: float) -> None:
        self.pass_time(second)
        self._told(second, self.reporter.end("plc", at(second)))
        self.filter.forget("plc")
        self.lost.append(second)

    def told(self) -> list[tuple[float, TagValue]]:
        return [(second, sample.value) for second, sample in self.topics]

    def recorded(self) -> list[tuple[float, TagValue]]:
        return [(seconds(sample.received_at), sample.value) for sample in self.history]

    def _told(self, second: float, report: Report | None, passed: Sequence[TagSample] = ()) -> None:
        topics = passed if report is None else report.topics
        self.topics += [(second, sample) for sample in topics]
        self.history += passed if report is None else report.history


def line(*, time: str = "received", **rules: Any) -> Line:
    group = GroupSettings(
        name="all", interval=timedelta(seconds=1), tags=(TagSettings.model_validate({"name": "x", **rules}),)
    )
    plc = ConnectionSettings.model_validate(
        {"name": "plc", "protocol": "toy", "endpoint": "toy://", "time": time, "groups": (group,)}
    )
    return Line(ChangeFilter([plc]), Reporter([plc]), source_time=time == "source")


def test_a_tag_without_rules_passes_through() -> None:
    plain = line()
    batch = SampleBatch("plc", AT, (TagSample("plc/x", 1, Quality.GOOD, None, AT),))

    assert plain.reporter.take(batch, batch) is None
    assert not plain.reporter.read("plc/all", AT)


def test_a_change_within_the_deadband_is_passed_when_report_max_is_over() -> None:
    tag = line(deadband=1.0, report_max="10s")
    tag.give(0, 5.0)
    tag.give(2, 5.4)
    tag.give(4, 5.6)
    tag.pass_time(9.9)
    assert [sample.value for sample in tag.news] == [5.0]

    tag.pass_time(10)

    assert [sample.value for sample in tag.news] == [5.0, 5.6], "the newest, for the state engine too"
    assert tag.recorded() == [(0, 5.0), (4, 5.6)], "with the time it was read"


def test_a_change_within_the_deadband_passes_at_once_when_the_last_is_old() -> None:
    tag = line(deadband=1.0, report_max="10s")
    tag.give(0, 5.0)
    tag.give(60, 5.4)

    assert tag.recorded() == [(0, 5.0), (60, 5.4)]


def test_what_came_back_to_what_is_known_is_not_told() -> None:
    tag = line(deadband=1.0, report_max="10s")
    tag.give(0, 5.0)
    tag.give(2, 5.4)
    tag.give(4, 5.0)
    tag.pass_time(100)

    assert tag.recorded() == [(0, 5.0)]


def test_report_min_tells_the_newest_when_its_time_is_up_and_the_engine_all_at_once() -> None:
    tag = line(report_min="10s")
    for second, value in ((0, 1), (1, 2), (2, 3), (9, 4), (10.5, 5), (30, 6)):
        tag.give(second, value)
    tag.pass_time(100)

    assert [sample.value for sample in tag.news] == [1, 2, 3, 4, 5, 6]
    assert tag.told() == [(0, 1), (10, 4), (20, 5), (30, 6)]
    assert tag.recorded() == [(0, 1), (9, 4), (10.5, 5), (30, 6)]


def test_a_change_of_quality_does_not_wait_for_report_min() -> None:
    tag = line(report_min="10s")
    tag.give(0, 1)
    tag.give(1, 2)
    tag.give(2, 2, quality=Quality.BAD)
    tag.pass_time(100)

    assert tag.told() == [(0, 1), (2, 2)]
    assert tag.topics[-1][1].quality is Quality.BAD


def test_a_heartbeat_needs_a_reading() -> None:
    tag = line(heartbeat="10s")
    tag.give(0, 7)
    tag.read(5)
    tag.pass_time(60)
    assert tag.told() == [(0, 7)], "nobody looked"

    tag.read(61)
    tag.read(62)
    tag.read(71)

    assert tag.told() == [(0, 7), (61, 7), (71, 7)]
    assert tag.recorded() == [(0, 7), (61, 7), (71, 7)]


def test_a_repeated_sample_is_a_reading_too() -> None:
    tag = line(heartbeat="10s")
    for second in range(0, 25, 4):
        tag.give(second, 7)

    assert tag.told() == [(0, 7), (12, 7), (24, 7)]
    assert [sample.value for sample in tag.news] == [7]


def test_a_heartbeat_tells_what_was_read_and_not_what_was_told() -> None:
    tag = line(heartbeat="10s", deadband=1.0)
    tag.give(0, 7.0)
    tag.give(5, 7.5)
    tag.read(10)

    assert tag.told() == [(0, 7.0), (10, 7.5)]


def test_a_lost_connection_has_no_heartbeat_and_leaves_nothing_untold() -> None:
    tag = line(heartbeat="10s", report_min="5s")
    tag.give(0, 7)
    tag.give(1, 8)
    tag.end(2)
    assert tag.told() == [(0, 7), (2, 8)]

    tag.read(60)

    assert tag.told() == [(0, 7), (2, 8)]
    assert tag.reporter.wake_at() is None


def test_what_the_deadband_held_back_dies_with_the_connection() -> None:
    tag = line(deadband=1.0, report_max="10s")
    tag.give(0, 5.0)
    tag.give(1, 5.5)
    tag.end(2)
    tag.pass_time(100)

    assert [sample.value for sample in tag.news] == [5.0]


def test_swing_thins_out_history_and_nothing_else() -> None:
    tag = line(swing=0.5, report_max="1h")
    for second in range(100):
        tag.give(second, 0.1 * second)
    tag.end(100)

    assert len(tag.news) == len(tag.topics) == 100
    assert [second for second, _ in tag.recorded()] == [0, 99]


def test_swing_looks_at_what_the_deadband_drops() -> None:
    tag = line(swing=0.5, deadband=50.0)
    for second, value in enumerate([0.0, 0.0, 5.0, 0.0, 0.0]):
        tag.give(second, value)
    tag.end(5)

    assert len(tag.news) == 1
    assert (2, 5.0) in tag.recorded()


def test_a_value_that_stood_still_is_recorded_at_both_ends() -> None:
    """Connectors send changes only: without the readings, history would show a slow rise that never was."""
    tag = line(swing=0.5, report_max="1h")
    tag.give(0, 10.0)
    for second in range(1, 100):
        tag.read(second)
    tag.give(99.5, 20.0)
    tag.end(101)

    assert tag.recorded() == [(0, 10.0), (99, 10.0), (99.5, 20.0)]


def test_a_reading_after_the_change_says_nothing_of_the_time_before() -> None:
    tag = line(swing=0.5, report_max="1h")
    tag.give(0, 10.0)
    tag.reporter.read("plc/all", at(50))
    tag.reporter.read("plc/all", at(99.6))
    tag.give(99.5, 20.0)
    tag.end(101)

    assert tag.recorded() == [(0, 10.0), (50, 10.0), (99.5, 20.0)]


def test_what_the_door_holds_is_recorded_when_report_max_is_over() -> None:
    tag = line(swing=0.5, report_max="10s")
    tag.give(0, 1.0)
    tag.give(3, 1.1)
    tag.give(7, 1.2)
    tag.pass_time(12.9)
    assert tag.recorded() == [(0, 1.0)]

    tag.pass_time(13)

    assert tag.recorded() == [(0, 1.0), (7, 1.2)]


def test_quality_and_text_go_through_the_door_at_once() -> None:
    tag = line(swing=5.0)
    tag.give(0, 1.0)
    tag.give(1, 1.5)
    tag.give(2, None, quality=Quality.BAD)
    tag.give(3, None, quality=Quality.BAD)
    tag.give(4, "off")
    tag.give(5, 1.5)
    tag.give(6, 1.5, quality=Quality.UNCERTAIN)

    assert tag.recorded() == [(0, 1.0), (1, 1.5), (2, None), (4, "off"), (5, 1.5), (6, 1.5)]


def test_a_percentage_waits_for_the_range_of_the_device() -> None:
    class DeviceTag(TagSettings):
        range_from_device = True

    group = GroupSettings(
        name="all", interval=timedelta(seconds=1), tags=(DeviceTag(name="x", deadband="2%", swing="2%"),)
    )
    plc = ConnectionSettings(name="plc", protocol="toy", endpoint="toy://", groups=(group,))
    tag = Line(ChangeFilter([plc]), Reporter([plc]))
    tag.give(0, 100.0)
    tag.give(1, 101.0)
    assert len(tag.history) == 2, "a percentage of nothing drops nothing"

    tag.end(2)
    tag.filter.set_ranges({"plc/x": (0.0, 400.0)})
    tag.reporter.set_ranges({"plc/x": (0.0, 400.0)})
    tag.give(3, 100.0)
    tag.give(4, 108.0)

    assert [sample.value for sample in tag.news] == [100.0, 101.0, 100.0]
    assert len(tag.history) == 3


def test_nan_is_not_stuck_in_a_deadband() -> None:
    tag = line(deadband=1.0)
    for second, value in enumerate([5.0, float("nan"), 5.0]):
        tag.give(second, value)

    assert len(tag.news) == 3


def test_a_clock_put_back_holds_nothing_for_long() -> None:
    tag = line(report_min="10s", deadband=1.0, report_max="10s")
    tag.give(3_600, 1.0)
    tag.give(3_601, 9.0)
    tag.give(3_602, 9.1)
    assert not tag.filter.due(at(3_603))
    assert not tag.reporter.due(at(3_603))

    for batch in tag.filter.due(at(5)):
        tag.news += batch.samples
    reports = tag.reporter.due(at(5))

    assert [sample.value for sample in tag.news] == [1.0, 9.0, 9.1]
    assert [sample.value for sample in reports["plc"].topics] == [9.0]


RULES = st.fixed_dictionaries(
    {},
    optional={
        "deadband": st.sampled_from([0.5, 2.0]),
        "swing": st.sampled_from([0.5, 3.0]),
        "report_min": st.sampled_from(["500ms", "3s"]),
        "heartbeat": st.sampled_from(["4s", "10s"]),
    },
)
EVENTS = st.lists(
    st.tuples(
        st.integers(1, 4_000),
        st.one_of(
            st.floats(-5, 5).map(lambda value: round(value, 1)),
            st.sampled_from([1, True, "text", None, "read", "read", "lost"]),
        ),
        st.sampled_from([Quality.GOOD, Quality.GOOD, Quality.GOOD, Quality.BAD, Quality.UNCERTAIN]),
    ),
    max_size=60,
)


@given(RULES, st.booleans(), EVENTS)
def test_nothing_is_made_up_and_the_last_word_is_always_told(
    rules: dict[str, Any], with_max: bool, events: list[tuple[int, TagValue, Quality]]
) -> None:
    if with_max and {"deadband", "swing"} & rules.keys():
        rules = {**rules, "report_max": "6s"}
    tag = line(**rules)
    now_ms, said, last = 0, {}, None
    readings: set[tuple[float, TagValue, Quality]] = set()
    for pause_ms, what, quality in events:
        now_ms += pause_ms
        second = now_ms / 1000
        if what == "read":
            tag.read(second)
            if last is not None:
                readings.add((second, last.value, last.quality))
        elif what == "lost":
            tag.end(second)
            last = None
        else:
            tag.give(second, what, quality=quality)
            last = TagSample("plc/x", what, quality, None, at(second))
            said[second] = last
    tag.pass_time(now_ms / 1000 + 1_000)

    for sample in (*tag.news, *tag.history, *(told for _, told in tag.topics)):
        second = seconds(sample.received_at)
        was_said = second in said and sample == said[second]
        assert was_said or (second, sample.value, sample.quality) in readings, "nobody read this"
    times = [sample.received_at for sample in tag.history]
    assert times == sorted(times), "history goes forward"
    if last is not None:
        _the_last_word_is_told(tag, last, rules)
    if "report_min" in rules:
        _not_more_often(tag, timedelta(milliseconds=500 if rules["report_min"] == "500ms" else 3_000))


def _the_last_word_is_told(tag: Line, last: TagSample, rules: dict[str, Any]) -> None:
    exact = "deadband" not in rules or "report_max" in rules
    for told in (tag.news[-1], tag.topics[-1][1], tag.history[-1]):
        assert (told.quality, type(told.value)) == (last.quality, type(last.value)) or not exact
        if exact or ("swing" in rules and told is tag.history[-1]):
            assert told.value == last.value
        elif isinstance(last.value, float) and isinstance(told.value, float):
            assert abs(told.value - last.value) <= rules["deadband"] + 1e-9


def _not_more_often(tag: Line, shortest: timedelta) -> None:
    for (second, told), (next_second, next_told) in zip(tag.topics, tag.topics[1:], strict=False):
        if next_told.quality is told.quality:
            early = timedelta(seconds=next_second - second) < shortest - timedelta(microseconds=10)
            assert not early or _lost_between(tag, second, next_second)


def _lost_between(tag: Line, second: float, next_second: float) -> bool:
    """What waits is told when the connection is lost, and all is new after it."""
    return any(second <= lost <= next_second for lost in tag.lost)
