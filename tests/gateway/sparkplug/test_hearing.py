"""What an edge node makes of what it hears of itself: silence, another with its name, what is only late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.terms import Message
from gateway.sparkplug import hearing as room
from gateway.sparkplug.births import BDSEQ, NodeSpec
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.hearing import (
    AGAIN_FIRST,
    AGAIN_MAX,
    DEATH_BYTES_MAX,
    ECHO_BYTES_MAX,
    FORGET_S,
    LEFT_ALONE_S,
    LOOKS,
    OURS_MAX,
    SETTLE_S,
    STANDS_S,
    TAGS_MAX,
    Hearing,
    listen,
)
from gateway.sparkplug.messages import Now
from gateway.sparkplug.names import Names
from gateway.sparkplug.payload import Metric, Payload, encode
from gateway.sparkplug.session import Session
from tests.support.manual_clock import ManualClock

NAMES = Names("acme", "line-1")
BIRTH, DEATH = "spBv1.0/acme/NBIRTH/line-1", "spBv1.0/acme/NDEATH/line-1"


class Ears:
    """A `Hearing` whose broker answers as the test says."""

    def __init__(self, **more: Any) -> None:
        self.clock = ManualClock()
        self.hearing = Hearing(NAMES, sink="sparkplug", section="[sparkplug]", **more)

    def now(self) -> Now:
        return Now(self.clock.now(), self.clock.monotonic())

    async def connect(self, bd_seq: int = 7, *, settled: bool = True) -> None:
        link: Any = FakeLink()
        await self.hearing.ask(link, bd_seq, self.clock)
        if settled:
            self.clock.advance(SETTLE_S)

    def hear(self, body: bytes, topic: str = BIRTH, *, retained: bool = False) -> bool:
        return self.hearing.hear(Message(topic, body, 0, retained), self.now())

    def wait(self, seconds: int) -> int:
        """So many looks, a second apart; how many births were wanted in them. Nothing comes."""
        wanted = 0
        for _ in range(seconds):
            self.clock.advance(1.0)
            if self.hearing.look(self.clock.monotonic()):
                self.hearing.decide(self.clock.monotonic())
            wanted += self.hearing.wants_birth
        return wanted

    @property
    def alarm(self) -> str:
        return self.hearing.trouble.alarm if self.hearing.trouble else ""

    def birth(self, bd_seq: int = 7, *, at: datetime | None = None, **properties: str) -> bytes:
        at = at or self.clock.now()
        metrics = [Metric(BDSEQ, None, DataType.INT64, bd_seq, at)]
        metrics += [
            Metric(f"Properties/{name}", None, DataType.STRING, text, at) for name, text in properties.items()
        ]
        return encode(Payload(at, 0, metrics))

    def death(self, bd_seq: int, *, at: datetime | None = None) -> bytes:
        at = at or self.clock.now()
        return encode(Payload(at, None, (Metric(BDSEQ, None, DataType.INT64, bd_seq, at),)))


class FakeLink:
    """A connection that answers a wish with this failure, if any, and may be over."""

    def __init__(self, why: SinkUnavailable | SinkRefused | None = None, *, over: bool = False) -> None:
        self.why, self.over = why, over
        self.asked: list[dict[str, int]] = []
        self.taken_count = 0
        self.go = asyncio.Event()
        self.go.set()

    async def subscribe(self, filters: dict[str, int]) -> None:
        self.asked.append(dict(filters))
        if self.why is not None:
            raise self.why

    async def taken(self) -> None:
        if self.over:
            assert self.why is not None
            raise self.why
        await self.go.wait()
        self.taken_count += 1


# --- silence


async def test_a_birth_that_comes_back_is_heard() -> None:
    ears = Ears()
    await ears.connect()
    body = ears.birth()
    ears.hearing.said(body)
    assert ears.hearing.heard == ""
    assert ears.hear(body)
    assert ears.wait(100) == 0
    assert (ears.hearing.heard, ears.alarm, ears.hearing.foreign) == ("yes", "", 0)


async def test_a_birth_that_does_not_come_back_in_ten_looks_is_an_alarm_until_one_does() -> None:
    ears = Ears()
    await ears.connect()
    ears.hearing.said(ears.birth())
    ears.wait(LOOKS - 1)
    assert (ears.alarm, ears.hearing.heard) == ("", "")
    ears.wait(1)
    assert (ears.alarm, ears.hearing.heard) == ("unheard", "no")
    trouble = ears.hearing.trouble
    assert trouble is not None
    assert BIRTH in trouble.reason
    assert "access rules" in trouble.hint
    assert "[sparkplug]" in trouble.hint
    assert "any more" not in trouble.reason
    later = ears.birth()
    ears.hearing.said(later)
    ears.hear(later)
    assert (ears.alarm, ears.hearing.heard) == ("", "yes")
    ears.hearing.said(ears.birth(at=ears.clock.now() + timedelta(seconds=1)))
    ears.wait(LOOKS)
    assert "any more" in str(ears.hearing.trouble), "it once worked, so what has changed is the broker"


async def test_it_is_born_again_ever_more_rarely_while_nothing_comes_back() -> None:
    ears = Ears()
    await ears.connect()
    ears.hearing.said(ears.birth())
    at: list[int] = []
    for second in range(12_000):
        if ears.wait(1):
            at.append(second)
            ears.hearing.said(ears.birth())
    pauses = [later - before for before, later in pairwise(at)]
    assert at[0] == LOOKS - 1 + AGAIN_FIRST
    assert pauses[0] == LOOKS + 2 * AGAIN_FIRST
    assert pauses == sorted(pauses)
    assert max(pauses) <= LOOKS + AGAIN_MAX
    assert pauses[-1] >= AGAIN_MAX


async def test_hosts_that_ask_all_the_time_do_not_put_the_alarm_off() -> None:
    ears = Ears()
    await ears.connect()
    for _ in range(4):
        ears.hearing.said(ears.birth())
        ears.wait(5)
    assert ears.alarm == "unheard"


async def test_an_older_birth_that_comes_back_does_not_stand_for_a_younger_one() -> None:
    ears = Ears()
    await ears.connect()
    first = ears.birth()
    ears.hearing.said(first)
    ears.clock.advance(1)
    ears.hearing.said(ears.birth())
    ears.hear(first)
    assert ears.hearing.heard == "yes"
    ears.wait(LOOKS)
    assert ears.alarm == "unheard"


async def test_the_alarm_stays_over_a_lost_connection_and_the_next_one_is_judged_by_its_own_births() -> None:
    ears = Ears()
    await ears.connect(7)
    before = ears.birth(7)
    ears.hearing.said(before)
    ears.wait(LOOKS)
    await ears.connect(8)
    assert ears.alarm == "unheard"
    ears.hearing.said(ears.birth(8))
    ears.hear(before)  # late: says nothing of what the broker does now, and is nobody else's
    assert (ears.alarm, ears.hearing.foreign) == ("unheard", 0)


async def test_with_no_birth_said_nothing_is_missed() -> None:
    ears = Ears()
    await ears.connect()
    assert ears.wait(100) == 0
    assert (ears.alarm, ears.hearing.heard) == ("", "")


# --- not known


async def test_a_broker_that_refuses_is_no_alarm() -> None:
    ears, link = Ears(), FakeLink(SinkRefused("the broker refuses it", hint=""))
    await ears.hearing.ask(link, 7, ears.clock)  # type: ignore[arg-type]
    assert link.asked == [{BIRTH: 0, DEATH: 0}]
    ears.hearing.said(ears.birth())
    assert ears.wait(100) == 0
    assert (ears.alarm, ears.hearing.heard) == ("", "unknown")


@pytest.mark.parametrize(
    "failure", [SinkUnavailable("quota exceeded"), SinkRefused("not authorised", hint="")]
)
async def test_a_broker_that_ends_the_connection_when_asked_is_not_asked_for_a_while(
    failure: SinkUnavailable | SinkRefused,
) -> None:
    ears, link = Ears(), FakeLink(failure, over=True)
    for _ in range(2):
        with pytest.raises(type(failure)):
            await ears.hearing.ask(link, 7, ears.clock)  # type: ignore[arg-type]
    await ears.hearing.ask(link, 7, ears.clock)  # type: ignore[arg-type]
    assert len(link.asked) == 2
    assert ears.hearing.heard == "unknown"
    ears.clock.advance(LEFT_ALONE_S)
    well: Any = FakeLink()
    await ears.hearing.ask(well, 7, ears.clock)
    assert len(well.asked) == 1


@pytest.mark.parametrize("more", [{"wanted": False}, {"tags": TAGS_MAX + 1}])
async def test_it_is_not_asked_for_what_is_not_wanted_or_would_be_too_long(more: dict[str, Any]) -> None:
    ears, link = Ears(**more), FakeLink()
    await ears.hearing.ask(link, 7, ears.clock)  # type: ignore[arg-type]
    assert link.asked == []
    ears.hearing.said(ears.birth())
    ears.wait(100)
    assert (ears.alarm, ears.hearing.heard) == ("", "unknown")


async def test_a_birth_too_long_to_be_read_is_not_missed_and_not_asked_for_again() -> None:
    ears, link = Ears(), FakeLink()
    await ears.connect()
    ears.hearing.said(bytes(ECHO_BYTES_MAX + 1))
    ears.wait(100)
    assert (ears.alarm, ears.hearing.heard) == ("", "unknown")
    await ears.hearing.ask(link, 8, ears.clock)  # type: ignore[arg-type]
    assert link.asked == []
    ears.hearing.said(bytes(100))  # it has become shorter
    await ears.hearing.ask(link, 9, ears.clock)  # type: ignore[arg-type]
    assert len(link.asked) == 1


# --- another with our name


async def test_a_birth_we_never_sent_is_anothers_until_its_session_is_over_for_long() -> None:
    ears = Ears()
    await ears.connect()
    ears.hear(ears.birth(3, Software="Other\x07" + "x" * 100, Version="9.9", Stream="s-1"))
    trouble = ears.hearing.trouble
    assert trouble is not None
    assert (ears.alarm, ears.hearing.foreign) == ("name_taken", 1)
    assert "acme/line-1" in trouble.reason
    assert "version 9.9" in trouble.reason
    assert "journal s-1" in trouble.reason
    assert "\x07" not in trouble.reason
    assert "x" * 61 not in trouble.reason
    assert BIRTH in trouble.hint
    ears.wait(int(FORGET_S) * 3)
    assert ears.alarm == "name_taken", "it only has no reason to be born again"
    ears.hear(ears.death(3), DEATH)
    ears.wait(int(FORGET_S) - 1)
    assert ears.alarm == "name_taken"
    ears.wait(1)
    assert (ears.alarm, ears.hearing.foreign) == ("", 1)


async def test_another_whose_death_was_perhaps_missed_is_forgotten_in_the_end() -> None:
    ears = Ears()
    await ears.connect(7)
    ears.hear(ears.birth(3))
    ears.clock.advance(STANDS_S - 1)
    ears.hearing.look(ears.clock.monotonic())
    assert ears.alarm == "name_taken"
    ears.wait(1)
    assert ears.alarm == ""
    ears.hear(ears.birth(3))
    await ears.connect(8)  # its death may have been said while we were not there
    ears.wait(int(FORGET_S))
    assert ears.alarm == ""


async def test_another_is_never_answered() -> None:
    ears = Ears()
    await ears.connect()
    body = ears.birth()
    ears.hearing.said(body)
    ears.hear(body)
    wanted = 0
    for n in range(200):
        ears.hear(ears.birth(n % 256))
        wanted += ears.wait(3)
    assert (wanted, ears.alarm, ears.hearing.foreign) == (0, "name_taken", 200)


async def test_to_be_unheard_goes_before_another() -> None:
    ears = Ears()
    await ears.connect()
    ears.hearing.said(ears.birth())
    ears.hear(ears.birth(3))
    ears.wait(LOOKS)
    assert ears.alarm == "unheard"


async def test_only_what_is_news_counts() -> None:
    ears = Ears()
    await ears.connect()
    ears.hear(ears.birth(3), retained=True)
    ears.hear(b"")  # somebody clears what was retained
    ears.hear(ears.death(8), DEATH, retained=True)
    assert (ears.alarm, ears.hearing.foreign) == ("", 0)
    assert not ears.hear(b"", "spBv1.0/acme/NCMD/line-1")


async def test_garbage_on_our_topic_is_another_too_and_a_flood_of_it_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ears = Ears()
    await ears.connect()
    read: list[bytes] = []

    def seen(body: bytes) -> Payload:
        read.append(body)
        return Payload(None, None, ())

    monkeypatch.setattr(room, "decode", seen)
    for n in range(1000):
        ears.hear(b"\xff" + n.to_bytes(2, "big"))
    assert (ears.alarm, ears.hearing.foreign, len(read)) == ("name_taken", 1000, 1)
    ears.hear(bytes(DEATH_BYTES_MAX + 1), DEATH)
    assert len(read) == 1


@pytest.mark.parametrize(("number", "foreign"), [(6, 0), (0, 0), (255, 0), (200, 0), (8, 1), (100, 1)])
async def test_deaths_with_earlier_numbers_are_our_own_late_wills(number: int, foreign: int) -> None:
    ears = Ears()
    await ears.connect(7)
    ears.hear(ears.death(number), DEATH)
    ears.wait(2)
    assert ears.hearing.foreign == foreign


async def test_numbers_go_round() -> None:
    ears = Ears()
    await ears.connect(1)
    ears.hear(ears.death(254), DEATH)
    assert ears.hearing.foreign == 0
    await ears.connect(255)
    ears.hear(ears.death(1), DEATH)
    assert ears.hearing.foreign == 1


async def test_our_own_number_is_anothers_only_if_the_connection_outlives_it() -> None:
    ears = Ears()
    await ears.connect(7)
    ears.hear(ears.death(7), DEATH)
    assert ears.hearing.foreign == 0
    await ears.connect(8)  # it was the broker's last word on our connection
    ears.wait(1)
    assert ears.hearing.foreign == 0
    ears.hear(ears.death(8), DEATH)
    ears.wait(1)
    assert (ears.hearing.foreign, ears.alarm) == (1, "name_taken")


async def test_what_an_earlier_process_said_just_before_is_not_anothers() -> None:
    ears = Ears()
    before, after = ears.birth(6), timedelta(seconds=1)
    ears.clock.advance(2)
    await ears.connect(7, settled=False)
    ears.hear(before)
    ears.hear(bytes(100_000))  # too long to be looked into
    ears.hear(ears.death(8, at=ears.clock.now() - after), DEATH)
    assert ears.hearing.foreign == 0
    ears.clock.advance(1)
    ears.hear(ears.birth(6))
    ears.hear(ears.death(8), DEATH)
    assert ears.hearing.foreign == 2, "but what is said after our CONNECT is"
    ears.clock.advance(SETTLE_S)
    ears.hear(before)
    assert ears.hearing.foreign == 3, "and later everything is"


async def test_many_births_in_a_row_stay_ours_and_memory_is_bounded() -> None:
    ears = Ears()
    for number in range(300):
        await ears.connect(number % 256)
        body = ears.birth(number % 256)
        ears.hearing.said(body)
        ears.wait(3)
        ears.hear(body)
        ears.hear(ears.death((number - 1) % 256), DEATH)
        ears.wait(1)
    assert (ears.alarm, ears.hearing.foreign, ears.hearing.heard) == ("", 0, "yes")
    assert len(ears.hearing._ours) == OURS_MAX


# --- a machine that stands still


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Listening:
    """`listen` on a clock by hand."""

    def __init__(self, ears: Ears, born_again: Callable[[], Awaitable[None]] | None = None) -> None:
        self.ears, self.link = ears, FakeLink()
        self.born: list[bytes] = []
        link: Any = self.link
        self.task = asyncio.create_task(listen(ears.hearing, link, ears.clock, born_again or self._born))

    async def _born(self) -> None:
        self.born.append(self.ears.birth())
        self.ears.hearing.said(self.born[-1])

    async def __aenter__(self) -> Listening:
        await turns()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task

    async def pass_s(self, seconds: float) -> None:
        self.ears.clock.advance(seconds)
        await turns()


async def test_a_process_that_was_stopped_raises_no_alarm() -> None:
    ears = Ears()
    await ears.connect()
    body = ears.birth()
    ears.hearing.said(body)
    async with Listening(ears) as listening:
        await listening.pass_s(5)
        await listening.pass_s(20)  # not one turn of the loop in between
        await listening.pass_s(60)
        assert ears.alarm == ""
        ears.hear(body)
        for _ in range(30):
            await listening.pass_s(1)
    assert (ears.alarm, ears.hearing.heard, listening.born) == ("", "yes", [])


async def test_a_broker_that_does_not_answer_raises_no_alarm_before_it_does() -> None:
    ears = Ears()
    await ears.connect()
    body = ears.birth()
    ears.hearing.said(body)
    async with Listening(ears) as listening:
        listening.link.go.clear()
        for _ in range(60):
            await listening.pass_s(1)
        assert ears.alarm == ""
        ears.hear(body)  # in order, before it answers
        listening.link.go.set()
        for _ in range(5):
            await listening.pass_s(1)
    assert (ears.alarm, ears.hearing.heard) == ("", "yes")


async def test_a_birth_that_comes_back_in_the_last_moment_is_no_alarm() -> None:
    ears = Ears()
    await ears.connect()
    body = ears.birth()
    ears.hearing.said(body)
    async with Listening(ears) as listening:
        for _ in range(LOOKS):
            await listening.pass_s(1)
        assert listening.link.taken_count == 1
        ears.hear(body)
        await listening.pass_s(1)
        assert listening.link.taken_count == 2
    assert ears.alarm == ""


async def test_silence_is_tried_again_and_heals() -> None:
    ears = Ears()
    await ears.connect()
    ears.hearing.said(ears.birth())
    async with Listening(ears) as listening:
        for _ in range(LOOKS + 1):
            await listening.pass_s(1)
        assert ears.alarm == "unheard"
        for _ in range(AGAIN_FIRST + 1):
            await listening.pass_s(1)
        assert len(listening.born) == 1
        assert ears.alarm == "unheard"
        ears.hear(listening.born[0])
        assert ears.alarm == ""
        for _ in range(2 * AGAIN_MAX):
            await listening.pass_s(1)
    assert len(listening.born) == 1


def test_the_birth_of_a_real_session_has_what_is_told_of_another() -> None:
    ears = Ears()
    session = Session(Names("acme", "line-1"), NodeSpec("Andon", "1.2", "s-9"), [], started=ears.clock.now())
    session.will(12, ears.clock.now())
    [birth] = session.connected(ears.now())
    ears.hearing.connected(7, Now(ears.clock.now() - timedelta(days=1), 0.0))
    ears.hear(encode(birth.payload))
    assert "software Andon, version 1.2, journal s-9, bdSeq 12" in str(ears.hearing.trouble)
