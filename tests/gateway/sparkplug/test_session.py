"""The session, rule by rule, as a host hears it."""

from __future__ import annotations

from datetime import timedelta

from gateway.sparkplug.births import INSTANCE, STATE_MEMBERS
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.messages import HISTORY_METRICS_MAX
from gateway.sparkplug.payload import Template
from gateway.sparkplug.pictures import PublishedTag, sampled_at
from gateway.sparkplug.session import HELD_MAX, Phase
from statemodel.types import UNKNOWN, Quality, TagValue
from tests.gateway.sparkplug.listening_host import ListeningHost
from tests.gateway.sparkplug.session_parts import T0, born, known, moved, now, read, session, verbs

BIRTHS = ["NBIRTH", "DBIRTH filler-1", "DBIRTH oven-1"]


def test_births_come_first_and_all_of_them() -> None:
    made, host = born()

    assert host.verbs == BIRTHS
    assert made.phase is Phase.BORN
    assert host.devices["filler-1"].alive
    assert host.devices["oven-1"].alive


def test_nothing_is_said_before_there_is_a_connection() -> None:
    made = session()

    assert made.events([moved(1, "Idle", 1)], now(1)) == ()
    assert made.samples([read("plc/speed", 10, 1)], now(1)) == ()
    assert made.link("oven-1", False, now(1)) == ()
    assert made.connection("plc", True, now(1)) == ()
    assert made.rebirth(now(1)) == ()
    assert made.leave(now(1)) == ()


def test_what_was_told_before_the_births_is_in_them() -> None:
    made, host = session(), ListeningHost("plant", "line-1")
    made.events([moved(1, "Execute", 1)], now(1))
    made.samples([read("plc/speed", 10, 2), read("plc/hall", 21.5, 2)], now(2))
    made.link("oven-1", False, now(2))
    made.connection("plc", True, now(2))
    host.will(made.will(0, T0))
    host.hear(made.connected(now(3)))

    assert host.verbs == ["NBIRTH", "DBIRTH filler-1"]
    assert host.devices["filler-1"].value("State") == "Execute"
    assert host.devices["filler-1"].value("Tags/plc/speed") == 10
    assert host.node.value("Tags/plc/hall") == 21.5
    assert host.node.value("Connections/plc/Online") is True
    assert host.node.value("Connections/oven-plc/Online") is None


def test_with_a_primary_host_births_wait_for_it() -> None:
    made, host = session(primary_host=True), ListeningHost("plant", "line-1")
    host.will(made.will(0, T0))

    assert made.connected(now()) == ()
    assert made.phase is Phase.WAITING
    assert made.events([moved(1, "Execute", 1)], now(1)) == ()
    assert made.rebirth(now(1)) == ()
    host.hear(made.host_online(now(2)))

    assert host.verbs == BIRTHS
    assert made.host_online(now(3)) == (), "a host that says so twice is not told twice"


def test_a_host_that_says_it_is_there_without_a_connection_is_told_nothing() -> None:
    assert session(primary_host=True).host_online(now()) == ()


def test_leaving_says_ndeath_first_and_then_nothing() -> None:
    made, host = born(bd_seq=255)

    host.hear(made.leave(now(1)))

    assert host.verbs[-1] == "NDEATH"
    assert not host.node.alive
    assert made.events([moved(1, "Idle", 2)], now(2)) == ()
    assert made.leave(now(2)) == ()


def test_leaving_while_waiting_for_the_host_says_ndeath_too() -> None:
    made = session(primary_host=True)
    made.will(3, T0)
    made.connected(now())

    assert verbs(made.leave(now(1))) == ["NDEATH"]


def test_a_new_connection_has_its_own_number_and_counts_from_nought() -> None:
    made, host = born(bd_seq=7)
    host.hear(made.events([moved(1, "Execute", 1)], now(1)))
    made.lost()
    host.dropped()

    host.will(made.will(8, T0))
    host.hear(made.connected(now(2)))

    assert host.node.value("bdSeq") == 8
    assert host.next_seq == 3


def test_seq_goes_on_from_255_with_nought_and_over_node_and_devices_alike() -> None:
    made, host = born()

    for number in range(600):
        host.hear(made.connection("plc", number % 2 == 0, now(number)))
        host.hear(made.events([moved(number + 1, ("Idle", "Execute")[number % 2], number)], now(number)))

    assert host.verbs[3:] == ["NDATA", "DDATA filler-1"] * 600  # the host counts


def test_only_changes_are_said() -> None:
    made, host = born()
    host.hear(made.samples([read("plc/speed", 10, 1)], now(1)))

    assert made.samples([read("plc/speed", 10, 2)], now(2)) == ()
    assert made.connection("plc", True, now(2)) != ()
    assert made.connection("plc", True, now(3)) == ()
    assert made.backlog(0, now(3)) == ()
    assert made.events([moved(1, "Idle", 3)], now(3)) != ()
    assert made.know(known(1, "Idle", 3), now(4)) == ()


def test_a_transition_says_what_changed_with_its_own_time() -> None:
    made, host = born()

    host.hear(made.events([moved(1, "Execute", 5, lasted_s=2.5)], now(6)))

    filler = host.devices["filler-1"]
    told = {name: filler.value(name) for name in ("State", "State Code", "Sequence", "Seq", "Previous State")}
    assert told == {"State": "Execute", "State Code": 6, "Sequence": 1, "Seq": 1, "Previous State": "Idle"}
    assert filler.value("Cause") == "plc/state read 6"
    assert filler.value("Durations/Idle") == 2.5
    assert filler.metrics["State"].at == filler.value("Since") == T0 + timedelta(seconds=5)


def test_the_template_says_the_same_as_the_metrics() -> None:
    made, host = born()
    host.hear(made.events([moved(1, "Execute", 5), moved(2, UNKNOWN, 6)], now(6)))

    filler = host.devices["filler-1"]
    shown = filler.value(INSTANCE)
    assert isinstance(shown, Template)
    members = {member.name: member.value for member in shown.metrics}
    assert members == {name: filler.value(name) for name in STATE_MEMBERS}
    assert members["State"] == UNKNOWN
    assert filler.value("Reason") == "plc/state read None"


def test_time_in_a_state_counts_from_the_start_of_the_gateway() -> None:
    made, host = born()

    host.hear(made.events([moved(1, "Execute", 10, lasted_s=3600.0)], now(10)))
    host.hear(made.events([moved(2, "Idle", 15, frm="Execute", lasted_s=5.0)], now(15)))
    host.hear(made.events([moved(3, "Execute", 16, lasted_s=1.0)], now(16)))

    assert host.devices["filler-1"].value("Durations/Idle") == 11.0
    assert host.devices["filler-1"].value("Durations/Execute") == 5.0


def test_history_is_marked_and_changes_nothing_that_is_shown() -> None:
    made, host = session(), ListeningHost("plant", "line-1")
    made.know(known(9, "Execute", 9), now(9))
    host.will(made.will(0, T0))
    host.hear(made.connected(now(10)))

    host.hear(made.history([moved(7, "Idle", 5), read("plc/speed", 3, 6), moved(8, "Stopped", 7)], now(11)))

    assert host.devices["filler-1"].value("State") == "Execute"
    assert host.devices["filler-1"].value("Tags/plc/speed") is None
    heard = [
        (p.name, p.value, p.at) for p in host.history if p.name in ("State", "Sequence", "Tags/plc/speed")
    ]
    at = [T0 + timedelta(seconds=s) for s in (5, 6, 7)]
    assert ("State", "Idle", at[0]) in heard
    assert ("Tags/plc/speed", 3, at[1]) in heard
    assert heard.index(("State", "Idle", at[0])) < heard.index(("State", "Stopped", at[2]))
    assert ("Sequence", 8, at[2]) in heard


def test_events_older_than_the_state_shown_are_history_by_themselves() -> None:
    made, host = born()
    host.hear(made.know(known(9, "Execute", 9), now(9)))

    host.hear(made.events([moved(8, "Idle", 8), moved(9, "Execute", 9), moved(10, "Stopped", 10)], now(10)))

    assert [p.value for p in host.history if p.name == "State"] == ["Idle", "Execute"]
    assert host.devices["filler-1"].value("State") == "Stopped"


def test_time_in_states_that_only_history_tells_is_counted_once() -> None:
    made, host = born()
    host.hear(made.events([moved(1, "Execute", 1, lasted_s=1.0)], now(1)))
    host.hear(made.know(known(4, "Stopped", 14), now(14)))
    host.hear(made.events([moved(5, "Idle", 15, frm="Stopped", lasted_s=1.0)], now(15)))
    behind = [
        moved(2, "Idle", 6, frm="Execute", lasted_s=5.0),
        moved(3, "Execute", 8, lasted_s=2.0),
        moved(4, "Stopped", 14, frm="Execute", lasted_s=6.0),
    ]

    for _ in range(2):
        host.hear(made.history(behind, now(16)))

    filler = host.devices["filler-1"]
    assert {name: filler.value(f"Durations/{name}") for name in ("Idle", "Execute", "Stopped")} == {
        "Idle": 3.0,
        "Execute": 11.0,
        "Stopped": 1.0,
    }


def test_long_history_comes_in_messages_of_bounded_size() -> None:
    made, host = born()
    samples = [read("plc/speed", number % 100, number) for number in range(2 * HISTORY_METRICS_MAX + 1)]

    publications = made.history(samples, now(5000))
    host.hear(publications)

    assert [len(p.payload.metrics) for p in publications] == [HISTORY_METRICS_MAX, HISTORY_METRICS_MAX, 1]
    assert [p.value for p in host.history] == [number % 100 for number in range(2 * HISTORY_METRICS_MAX + 1)]


def test_metrics_of_one_message_are_in_chronological_order() -> None:
    made, host = born()
    publications = made.samples(
        [read("plc/speed", 1, 9), read("plc/temp", 2.5, 4), read("plc/speed", 2, 10)], now(11)
    )
    host.hear(publications)  # judges the order

    assert host.devices["filler-1"].value("Tags/plc/speed") == 2


def test_a_clock_that_goes_back_does_not_make_the_older_value_the_last() -> None:
    made, host = born()
    host.hear(made.samples([read("plc/speed", 1, 9), read("plc/speed", 2, 3)], now(10)))

    assert host.devices["filler-1"].value("Tags/plc/speed") == 2


def test_a_lost_link_is_a_ddeath_and_nothing_of_the_device_after_it() -> None:
    made, host = born()
    host.hear(made.events([moved(1, UNKNOWN, 1)], now(1)))
    host.hear(made.link("filler-1", False, now(1)))

    assert not host.devices["filler-1"].alive
    assert host.devices["oven-1"].alive
    assert made.link("filler-1", False, now(2)) == ()
    host.hear(made.samples([read("plc/temp", 20.0, 3)], now(3)))
    assert host.devices["oven-1"].value("Tags/plc/temp") == 20.0
    assert made.samples([read("plc/speed", 20, 4)], now(4)) == ()
    assert made.rebirth(now(4), "filler-1") == ()


def test_a_restored_link_is_a_dbirth_with_what_is_true_and_then_what_was_missed() -> None:
    made, host = born()
    host.hear(made.link("filler-1", False, now(1)))
    host.dead.add("filler-1")
    assert made.events([moved(1, UNKNOWN, 2), moved(2, "Execute", 3)], now(3)) == ()
    assert made.held_seq == 1

    host.hear(made.link("filler-1", True, now(4)))

    assert host.verbs[-2:] == ["DBIRTH filler-1", "DDATA filler-1"]
    assert host.devices["filler-1"].value("State") == "Execute"
    assert [p.value for p in host.history if p.name == "State"] == [UNKNOWN, "Execute"]
    assert made.held_seq is None


def test_history_of_a_dead_device_waits_for_it() -> None:
    made, host = born()
    host.hear(made.link("oven-1", False, now(1)))
    host.dead.add("oven-1")

    host.hear(made.history([read("plc/temp", 3.5, 0), moved(1, "Idle", 0, equipment="oven-1")], now(2)))
    assert {p.device for p in host.history} == {"filler-1"}
    host.hear(made.link("oven-1", True, now(3)))

    assert [(p.name, p.value) for p in host.history if p.device == "oven-1" and "Tags" in p.name] == [
        ("Tags/plc/temp", 3.5)
    ]
    assert [p.value for p in host.history if p.device == "oven-1" and p.name == "State"] == ["Idle"]


def test_what_was_held_over_a_reconnect_comes_after_all_births() -> None:
    made, host = born()
    host.hear(made.link("filler-1", False, now(1)))
    made.events([moved(1, "Execute", 2)], now(2))
    made.lost()
    host.dropped()
    made.link("filler-1", True, now(3))

    host.will(made.will(8, T0))
    host.hear(made.connected(now(4)))

    assert host.verbs[-4:] == [*BIRTHS, "DDATA filler-1"]
    assert [p.value for p in host.history if p.name == "State"] == ["Execute"]


def test_what_is_held_for_the_dead_is_bounded_and_what_is_lost_counted() -> None:
    made, host = born()
    host.hear(made.link("filler-1", False, now(1)))
    made.events([moved(n, ("Idle", "Execute")[n % 2], n) for n in range(1, HELD_MAX + 11)], now(2))

    assert made.counts.dropped == 10
    assert made.held_seq == 11


def test_a_rebirth_is_a_whole_new_sequence_with_the_same_number() -> None:
    made, host = born(bd_seq=9)
    host.hear(made.events([moved(1, "Execute", 1)], now(1)))
    host.hear(made.rebirth(now(2)))

    assert host.verbs[-3:] == BIRTHS
    assert host.node.value("bdSeq") == 9
    assert host.devices["filler-1"].value("State") == "Execute"


def test_a_storm_of_requests_is_answered_once_and_once_more() -> None:
    made, host = born()
    before = len(host.verbs)
    for number in range(1000):
        host.hear(made.rebirth(now(1 + number / 1000)))

    assert host.verbs[before:] == BIRTHS
    assert [made.due_s] == [now(6).monotonic_s]
    host.hear(made.tick(now(5.9)))
    assert host.verbs[before:] == BIRTHS
    host.hear(made.tick(now(6)))
    assert host.verbs[before:] == BIRTHS * 2
    assert made.due_s is None
    host.hear(made.tick(now(20)))
    assert host.verbs[before:] == BIRTHS * 2
    assert (made.counts.rebirths, made.counts.rebirths_merged) == (2, 998)


def test_data_goes_on_while_a_rebirth_is_owed() -> None:
    made, host = born()
    host.hear(made.rebirth(now(1)))
    assert made.rebirth(now(2)) == ()

    host.hear(made.events([moved(1, "Execute", 3)], now(3)))

    assert host.verbs[-1] == "DDATA filler-1"


def test_what_is_owed_ends_with_the_connection() -> None:
    made, _ = born()
    made.rebirth(now(1))
    made.rebirth(now(2))
    made.lost()

    assert made.due_s is None
    assert made.tick(now(60)) == ()


def test_a_device_can_be_born_again_alone() -> None:
    made, host = born()
    host.hear(made.rebirth(now(1), "oven-1"))
    host.hear(made.rebirth(now(2), "oven-1"))

    assert host.verbs[3:] == ["DBIRTH oven-1"]
    host.hear(made.tick(now(6)))
    assert host.verbs[3:] == ["DBIRTH oven-1"] * 2
    assert made.rebirth(now(7), "nobody") == ()


def test_a_device_that_dies_is_owed_no_birth() -> None:
    made, host = born()
    host.hear(made.rebirth(now(1), "oven-1"))
    assert made.rebirth(now(2), "oven-1") == ()
    host.hear(made.link("oven-1", False, now(3)))

    assert made.due_s is None
    assert made.tick(now(60)) == ()


def test_a_value_of_another_type_asks_for_a_new_birth_and_never_is_wrapped() -> None:
    made, host = born()
    host.hear(made.samples([read("plc/speed", 40_000, 1)], now(1)))

    assert host.verbs[3:] == ["DBIRTH filler-1"]
    speed = host.devices["filler-1"].metrics["Tags/plc/speed"]
    assert (speed.datatype, speed.value) == (DataType.INT64, 40_000)
    host.hear(made.samples([read("plc/speed", 5, 2)], now(2)))
    assert host.verbs[4:] == ["DDATA filler-1"]


def test_types_only_widen_so_that_births_come_to_an_end() -> None:
    made, host = born()
    values: tuple[TagValue, ...] = (True, 3, 2.5, "x", False, 7, 1.25, "y") * 5
    for number, value in enumerate(values):
        host.hear(made.samples([read("plc/temp", value, number)], now(number)))

    # the first value, a whole number, a fraction, a text
    assert host.verbs[3:].count("DBIRTH filler-1") == 4
    assert host.devices["filler-1"].metrics["Tags/plc/temp"].datatype is DataType.STRING


def test_the_node_is_not_born_again_for_every_value() -> None:
    made, host = born()
    host.hear(made.samples([read("plc/hall", 5, 1)], now(1)))
    assert host.verbs[3:] == BIRTHS
    host.hear(made.samples([read("plc/hall", 5.5, 2)], now(2)))
    assert host.verbs[6:] == []
    host.hear(made.connection("plc", True, now(3)))
    assert host.verbs[6:] == ["NDATA"]

    host.hear(made.tick(now(7)))

    assert host.verbs[7:] == BIRTHS
    assert host.node.value("Tags/plc/hall") == 5.5


def test_history_of_a_wider_type_comes_after_a_new_birth() -> None:
    made, host = born()
    host.hear(made.samples([read("plc/hall", 5, 1)], now(1)))
    before = len(host.verbs)

    host.hear(made.history([read("plc/hall", 4, 0), read("plc/hall", 0.5, 0.5)], now(2)))

    assert host.verbs[before:] == [*BIRTHS, "NDATA"]
    assert [(p.name, p.value) for p in host.history] == [("Tags/plc/hall", 4.0), ("Tags/plc/hall", 0.5)]
    assert host.node.value("Tags/plc/hall") == 5.0


def test_quality_is_said_in_births_and_when_it_matters() -> None:
    made, host = born()
    speed = host.devices["filler-1"].metrics["Tags/plc/speed"]
    assert (speed.quality, speed.unit, speed.value) == (500, "1/min", None)

    host.hear(made.samples([read("plc/speed", 10, 1)], now(1)))
    assert speed.quality == 192
    (said,) = made.samples([read("plc/speed", 11, 2)], now(2))
    assert not said.payload.metrics[0].properties
    host.hear((said,))
    for quality, substatus, code in (
        (Quality.BAD, "device_failure", 0),
        (Quality.BAD, "no_communication", 500),
        (Quality.UNCERTAIN, "", 0),
        (Quality.BAD, "stale", 500),
        (Quality.GOOD, "", 192),
    ):
        host.hear(made.samples([read("plc/speed", 11, 3, quality, substatus)], now(3)))
        assert speed.quality == code, (quality, substatus)


def test_why_a_value_was_bad_is_taken_back_when_it_is_good_again() -> None:
    made, _ = born()
    made.samples([read("plc/speed", 10, 1)], now(1))

    (bad,) = made.samples([read("plc/speed", 10, 2, Quality.BAD, "device_failure")], now(2))
    (good,) = made.samples([read("plc/speed", 10, 3)], now(3))
    (later,) = made.samples([read("plc/speed", 11, 4)], now(4))

    said = [
        {name: p.value for name, p in m.payload.metrics[0].properties.items()} for m in (bad, good, later)
    ]
    assert said == [
        {"Quality": 0, "Substatus": "device_failure"},
        {"Quality": 192, "Substatus": None},
        {},
    ]


def test_a_value_that_is_lost_is_null() -> None:
    made, host = born()
    host.hear(made.samples([read("plc/speed", 10, 1)], now(1)))
    host.hear(made.samples([read("plc/speed", None, 2, Quality.BAD, "no_communication")], now(2)))

    speed = host.devices["filler-1"].metrics["Tags/plc/speed"]
    assert (speed.value, speed.quality) == (None, 500)
    host.hear(made.samples([read("plc/temp", float("nan"), 3)], now(3)))
    assert host.devices["filler-1"].value("Tags/plc/temp") is None
    assert made.samples([read("plc/temp", float("nan"), 4)], now(4)) == ()


def test_the_unit_mode_is_what_its_tag_shows() -> None:
    made, host = born()
    assert "plc/mode" in made.tags
    filler = host.devices["filler-1"]
    for value, quality, mode in (
        (1, Quality.GOOD, "Production"),
        (2, Quality.GOOD, "Maintenance"),
        (2, Quality.BAD, None),
    ):
        host.hear(made.samples([read("plc/mode", value, 1, quality)], now(1)))
        assert filler.value("Mode") == mode
    assert "Mode" not in host.devices["oven-1"].metrics


def test_aliases_stay_the_same_over_births_and_sessions() -> None:
    made, host = born()
    first = {(d, m.name): m.alias for d, known in host.devices.items() for m in known.metrics.values()}
    host.hear(made.rebirth(now(1)))
    again = {(d, m.name): m.alias for d, known in host.devices.items() for m in known.metrics.values()}
    _, other = born()
    elsewhere = {(d, m.name): m.alias for d, known in other.devices.items() for m in known.metrics.values()}

    assert first == again == elsewhere


def test_source_times_are_told_where_they_are_believed() -> None:
    tag = PublishedTag("plc/speed", source_time=True)
    assert sampled_at(read("plc/speed", 1, 100, source_s=90), tag) == T0 + timedelta(seconds=90)
    assert sampled_at(read("plc/speed", 1, 100, source_s=-8000), tag) == T0 + timedelta(seconds=100)
    assert sampled_at(read("plc/speed", 1, 100, source_s=200), tag) == T0 + timedelta(seconds=100)
    untimed = PublishedTag("plc/speed")
    assert sampled_at(read("plc/speed", 1, 100, source_s=90), untimed) == T0 + timedelta(seconds=100)


def test_what_is_offered_to_commands_is_what_has_been_born() -> None:
    made, host = born()
    alias = host.devices["filler-1"].metrics["Tags/plc/speed"].alias

    found = made.offered("filler-1", alias=alias, name=None)
    assert found is not None
    assert (found.tag, found.writable, found.datatype) == ("plc/speed", True, DataType.INT16)
    assert made.offered("filler-1", alias=alias, name="Tags/plc/speed") == found
    assert made.offered("filler-1", alias=alias, name="State") is None
    assert made.offered("oven-1", alias=alias, name=None) is None
    assert made.offered("", alias=None, name="Node Control/Rebirth") is not None
    host.hear(made.link("filler-1", False, now(1)))
    assert made.offered("filler-1", alias=alias, name=None) is None
