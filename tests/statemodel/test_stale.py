"""Tags that fall silent."""

from __future__ import annotations

from datetime import timedelta

from statemodel.builtin import BUILTIN
from statemodel.stale import StaleWatch
from statemodel.types import UNKNOWN, Quality
from tests.statemodel.support import after, batch, batch_of, engine_for, sample, states


def test_a_silent_tag_is_stale_once_and_at_its_instant() -> None:
    watch = StaleWatch({"plc/state": timedelta(seconds=5)})
    assert watch.wake_at() is None
    watch.note(batch(10, state=6, other=1))
    assert watch.wake_at() == after(15)
    assert watch.overdue(after(14.9)) == ()
    (found,) = watch.overdue(after(20))
    (stale,) = found.samples
    assert (stale.tag, stale.value, stale.quality, stale.substatus) == ("plc/state", 6, Quality.BAD, "stale")
    assert stale.received_at == found.received_at == after(15)
    assert watch.overdue(after(99)) == ()
    assert watch.wake_at() is None
    watch.note(batch(100, state=6))
    assert watch.wake_at() == after(105), "a fresh sample is watched again"


def test_a_repeated_value_keeps_a_tag_fresh() -> None:
    watch = StaleWatch({"plc/state": timedelta(seconds=5)})
    for second in range(0, 40, 4):
        watch.note(batch(second, state=6))
        assert watch.overdue(after(second)) == ()
    assert watch.overdue(after(40.9)) == ()
    assert watch.wake_at() == after(41)
    assert len(watch.overdue(after(41))) == 1


def test_each_connection_gets_its_own_batch() -> None:
    watch = StaleWatch({tag: timedelta(seconds=s) for tag, s in (("a/x", 5), ("a/y", 3), ("b/z", 4))})
    watch.note(batch_of(0, sample("a/x", 1), sample("a/y", 2), sample("b/z", 3)))
    found = watch.overdue(after(60))
    assert [(b.connection, [s.tag for s in b.samples]) for b in found] == [
        ("a", ["a/y", "a/x"]),
        ("b", ["b/z"]),
    ]


def test_a_lost_connection_has_nothing_left_to_become_stale() -> None:
    watch = StaleWatch({"plc/state": timedelta(seconds=5)})
    watch.note(batch(0, state=6))
    watch.forget("plc")
    assert watch.overdue(after(60)) == ()


def test_the_engine_calls_it_stale() -> None:
    watch, engine = StaleWatch({"plc/state": timedelta(seconds=5)}), engine_for(BUILTIN["packml"])
    watch.note(batch(0, state=6))
    engine.step(batch(0, state=6))
    (found,) = watch.overdue(after(60))
    (transition,) = engine.step(found).transitions
    assert (transition.to_state, transition.cause.rule, transition.at) == (UNKNOWN, "stale", after(5))
    assert transition.duration_s == 5.0
    assert states(engine.step(batch(61, state=6))) == ["Execute"]


def test_a_complete_reading_proves_every_tag_of_its_group_and_no_other() -> None:
    limits = {"plc/slow": timedelta(seconds=5), "plc/other": timedelta(seconds=5)}
    watch = StaleWatch(limits, {"plc/slow": "plc/a", "plc/other": "plc/b"})
    watch.note(batch(0, slow=1, other=1))
    for second in range(1, 9):
        assert not watch.read("plc/a", after(second)), "nothing stale: nothing to prove again"
    assert not watch.read("plc/unwatched", after(8))
    (found,) = watch.overdue(after(8))
    assert [(s.tag, s.received_at) for s in found.samples] == [("plc/other", after(5))]
    assert watch.wake_at() == after(13)


def test_a_stale_tag_is_fresh_again_when_its_group_is_read_and_has_nothing_new_to_say() -> None:
    watch = StaleWatch({"plc/state": timedelta(seconds=5)}, {"plc/state": "plc/a"})
    watch.note(batch(0, state=6))
    watch.overdue(after(5))
    assert watch.read("plc/a", after(9))
    (fresh,) = watch.fresh("plc/a", after(9))
    assert (fresh.tag, fresh.value, fresh.quality, fresh.received_at) == (
        "plc/state",
        6,
        Quality.GOOD,
        after(9),
    )
    assert watch.fresh("plc/a", after(10)) == ()
    watch.note(batch_of(9, fresh))
    assert len(watch.overdue(after(14))) == 1, "and it is watched again"


def test_a_new_sample_is_better_than_the_proof_of_an_old_one() -> None:
    watch = StaleWatch({"plc/state": timedelta(seconds=5)}, {"plc/state": "plc/a"})
    watch.note(batch(0, state=6))
    watch.overdue(after(5))
    assert watch.read("plc/a", after(9))
    watch.note(batch(9, state=9))
    assert watch.fresh("plc/a", after(9)) == ()


def test_what_the_source_itself_calls_bad_does_not_become_stale() -> None:
    watch = StaleWatch({"plc/state": timedelta(seconds=5)})
    watch.note(batch(0, state=6))
    watch.note(batch_of(1, sample("plc/state", None, 1, quality=Quality.BAD, substatus="device_failure")))
    assert watch.overdue(after(60)) == ()
