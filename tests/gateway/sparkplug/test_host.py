"""The primary host's words, and the walk from server to server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sparkplug.host import AHEAD_MAX, STATE_BYTES_MAX, PrimaryHost, Servers, Word

AT = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
MS = int(AT.timestamp() * 1000)
TOPIC = "spBv1.0/STATE/scada"
UNHEARD = f"nothing is heard on {TOPIC}: check primary_host, and that we may read this topic"


def word(online: bool, timestamp: int) -> bytes:
    return json.dumps({"online": online, "timestamp": timestamp}).encode()


def test_online_is_online_and_offline_is_offline() -> None:
    host = PrimaryHost("scada")
    assert host.topic == TOPIC
    assert not host.online

    assert host.judge(TOPIC, word(True, MS), AT) is Word.ONLINE
    assert [host.online] == [True]
    assert host.judge(TOPIC, word(False, MS), AT) is Word.OFFLINE, "a will has the time of its birth"
    assert [host.online] == [False]
    assert not host.ignored


def test_an_older_word_than_the_newest_is_none() -> None:
    host = PrimaryHost("scada")
    host.judge(TOPIC, word(True, MS), AT)

    assert host.judge(TOPIC, word(False, MS - 1), AT) is Word.IGNORED
    assert [host.online] == [True]
    assert host.judge(TOPIC, word(False, MS + 1), AT) is Word.OFFLINE
    assert host.judge(TOPIC, word(True, MS), AT) is Word.IGNORED
    assert [host.online] == [False]
    assert host.ignored == {"old": 2}


def test_a_server_may_still_retain_an_old_word_when_we_come_again() -> None:
    host = PrimaryHost("scada")
    host.judge(TOPIC, word(True, MS), AT)
    host.connected()
    assert not host.online, "its word on this connection is still to come"

    assert host.judge(TOPIC, word(True, MS - 60_000), AT) is Word.IGNORED
    assert host.judge(TOPIC, word(True, MS), AT) is Word.ONLINE


def test_a_host_that_comes_to_where_the_broker_said_it_was_has_come_anew() -> None:
    for ahead in (0, 1):
        host = PrimaryHost("scada")
        host.connected()
        host.judge(TOPIC, word(True, MS), AT, retained=True)
        assert not host.came_anew
        host.judge(TOPIC, word(True, MS + ahead), AT)
        assert [host.came_anew] == [True]
    host.connected()
    host.judge(TOPIC, word(True, MS + 1), AT, retained=True)
    host.judge(TOPIC, word(True, MS + 2), AT)
    assert [host.came_anew] == [False], "we came back because it is there: it may say so as often as it likes"


@pytest.mark.parametrize(
    "words", [[(True, False), (True, False)], [(True, True), (False, False), (True, False)]]
)
def test_a_host_that_was_heard_itself_does_not_come_anew(words: list[tuple[bool, bool]]) -> None:
    host = PrimaryHost("scada")
    host.connected()
    for ahead, (online, retained) in enumerate(words):
        host.judge(TOPIC, word(online, MS + ahead), AT, retained=retained)
    assert not host.came_anew


def test_each_server_has_times_of_its_own() -> None:
    """A host dates its words by when it connected to a server, and may have come to the second one first."""
    host = PrimaryHost("scada")
    host.connected("one")
    host.judge(TOPIC, word(True, MS), AT)
    assert host.judge(TOPIC, word(False, MS), AT) is Word.OFFLINE

    host.connected("two")
    assert host.judge(TOPIC, word(True, MS - 60_000), AT) is Word.ONLINE

    host.connected("one")
    assert host.judge(TOPIC, word(True, MS - 60_000), AT) is Word.IGNORED
    assert host.judge(TOPIC, word(True, MS + 1), AT) is Word.ONLINE


@pytest.mark.parametrize(
    "payload",
    [
        b"ONLINE",
        b"OFFLINE",
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"online":true}',
        b'{"timestamp":1}',
        b'{"online":"true","timestamp":1}',
        b'{"online":1,"timestamp":1}',
        b'{"online":true,"timestamp":"1"}',
        b'{"online":true,"timestamp":-1}',
        b'{"online":true,"timestamp":1',
        b"\xff\xfe",
        b'{"online":true,"timestamp":1}' + b" " * STATE_BYTES_MAX,
        b"[" * 1000,
    ],
)
def test_what_is_no_state_is_ignored_and_counted(payload: bytes) -> None:
    host = PrimaryHost("scada")

    assert host.judge(TOPIC, payload, AT) is Word.IGNORED
    assert host.ignored == {"payload": 1}
    assert not host.online


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (None, UNHEARD),
        (word(False, MS), "it says that it is offline"),
        (word(False, MS - 60_000), "its word is older than one before it: check its clock"),
        (b"ONLINE", 'what it says is not of Sparkplug 3.0, which has {"online":true,"timestamp":...}'),
        (b"", UNHEARD),
    ],
)
def test_people_are_told_why_the_host_is_not_there(payload: bytes | None, why: str) -> None:
    host = PrimaryHost("scada")
    host.judge(TOPIC, word(True, MS), AT)
    host.connected()
    host.judge("spBv1.0/STATE/other", word(True, MS), AT)
    if payload is not None:
        host.judge(TOPIC, payload, AT)
    assert host.waited_for == f"waits for the primary host scada: {why}"


@pytest.mark.parametrize(
    "topic", ["STATE/scada", "spBv1.0/STATE/SCADA", "spBv1.0/STATE/scada/x", "spBv1.0/STATE/other", ""]
)
def test_another_hosts_word_is_not_ours(topic: str) -> None:
    host = PrimaryHost("scada")

    assert host.judge(topic, word(True, MS), AT) is Word.IGNORED
    assert host.ignored == {"topic": 1}


def test_a_word_from_a_far_future_does_not_silence_all_that_follow() -> None:
    host = PrimaryHost("scada")
    host.judge(TOPIC, word(True, 1 << 62), AT)

    later = AT + AHEAD_MAX + timedelta(seconds=1)
    assert host.judge(TOPIC, word(False, MS + 1), AT) is Word.IGNORED
    assert host.judge(TOPIC, word(False, int(later.timestamp() * 1000)), later) is Word.OFFLINE


def test_a_gateway_whose_clock_stands_at_1970_still_hears_its_host() -> None:
    host, at = PrimaryHost("scada"), datetime(1970, 1, 1, tzinfo=UTC)

    assert host.judge(TOPIC, word(True, MS), at) is Word.ONLINE
    assert host.judge(TOPIC, word(False, MS), at) is Word.OFFLINE


@given(st.lists(st.tuples(st.booleans(), st.integers(MS - 5, MS + 5)), max_size=30))
def test_what_counts_is_the_newest_word(words: list[tuple[bool, int]]) -> None:
    host, online, newest = PrimaryHost("scada"), False, -1
    for said, timestamp in words:
        host.judge(TOPIC, word(said, timestamp), AT)
        if timestamp >= newest:
            online, newest = said, timestamp

        assert host.online == online


@given(st.binary(max_size=200))
def test_garbage_never_raises(payload: bytes) -> None:
    assert isinstance(PrimaryHost("scada").judge(TOPIC, payload, AT), Word)


def test_servers_are_walked_in_turn_and_a_round_ends_in_a_pause() -> None:
    servers = Servers(("a", "b", "c"))
    walked = [(servers.current, servers.next()) for _ in range(6)]

    assert walked == [("a", False), ("b", False), ("c", True)] * 2


def test_a_walk_begins_anew_where_the_session_was_born() -> None:
    servers = Servers(("a", "b", "c"))
    servers.next()
    servers.next()
    servers.settled()

    assert servers.current == "c"
    assert [servers.next() for _ in range(3)] == [False, False, True]


def test_a_single_server_is_walked_with_a_pause_every_time() -> None:
    servers = Servers(("a",))

    assert [servers.next(), servers.next()] == [True, True]
    assert servers.current == "a"


def test_there_has_to_be_a_server() -> None:
    with pytest.raises(ValueError, match="no server"):
        Servers(())
