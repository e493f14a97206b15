"""What a group's answers are worth telling: changes only, exceptions by their meaning, bad tags set aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from connectors.modbus.exceptions import MEANINGS
from connectors.modbus.frame import Question
from connectors.modbus.layout import Order, Signal, parse_address, parse_type
from connectors.modbus.plan import Limits
from connectors.modbus.poll import PROBES_PER_CYCLE_MAX, GroupPoll
from statemodel.types import Quality, TagSample

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def signal(address: str, type_: str = "uint16", order: Order = Order.ABCD) -> Signal:
    return Signal(address, parse_address(address), parse_type(type_), order)


@dataclass
class Driver:
    """Runs cycles against a memory of registers; `code` decides on exceptions by address range."""

    poll: GroupPoll
    memory: dict[int, int] = field(default_factory=dict)
    code: Callable[[range], int] = lambda addresses: 0
    now: float = 0.0
    asked: list[range] = field(default_factory=list)

    def at(self) -> datetime:
        return START + timedelta(seconds=self.now)

    def answer(self, question: Question) -> bytes | int:
        start, count = (int.from_bytes(question.pdu[at : at + 2], "big") for at in (1, 3))
        addresses = range(start, start + count)
        self.asked.append(addresses)
        return self.code(addresses) or b"".join(self.memory.get(a, 0).to_bytes(2, "big") for a in addresses)

    def cycle(self, advance_s: float = 1.0) -> list[TagSample]:
        """One cycle; what it told."""
        self.now += advance_s
        self.asked.clear()
        cycle = self.poll.cycle(self.now)
        question = next(cycle, None)
        while question is not None:
            try:
                question = cycle.send((self.answer(question), self.at()))
            except StopIteration:
                question = None
        told = list(self.poll.samples)
        self.poll.samples.clear()
        return told

    def refusals(self) -> list[tuple[str, str]]:
        told = list(self.poll.refusals)
        self.poll.refusals.clear()
        return told


def driver(*signals: Signal, limits: Limits | None = None) -> Driver:
    return Driver(GroupPoll(signals, unit=1, limits=limits or Limits(), busy_max=3, refused_retry_s=30.0))


def brief(samples: list[TagSample]) -> dict[str, object]:
    return {s.tag: s.value if s.quality is Quality.GOOD else s.substatus for s in samples}


REGISTERS = tuple(signal(f"holding:{n}") for n in range(10))


def test_everything_is_told_once_and_then_only_what_changed() -> None:
    plc = driver(*REGISTERS)
    assert len(plc.cycle()) == 10
    assert plc.cycle() == []
    plc.memory[4] = 7
    (sample,) = plc.cycle()
    assert sample == TagSample("holding:4", 7, Quality.GOOD, None, plc.at())
    assert plc.cycle() == []


def test_a_register_read_in_two_ways_tells_the_way_that_changed() -> None:
    plc = driver(signal("holding:0"), signal("holding:0.0", "bool"), signal("holding:0.1", "bool"))
    plc.cycle()
    plc.memory[0] = 2
    assert brief(plc.cycle()) == {"holding:0": 2, "holding:0.1": True}


def test_a_change_between_registers_nobody_wants_is_no_news() -> None:
    plc = driver(signal("holding:0"), signal("holding:5"))
    plc.cycle()
    plc.memory[3] = 9
    assert plc.cycle() == []
    plc.memory[5] = 9
    assert brief(plc.cycle()) == {"holding:5": 9}


def test_bits_that_are_no_number_are_bad_once_and_good_again_when_they_are() -> None:
    plc = driver(signal("holding:0", "float32"), signal("holding:2"))
    plc.memory.update({0: 0x7FC0, 1: 0})
    assert brief(plc.cycle()) == {"holding:0": "not_a_number", "holding:2": 0}
    plc.memory[2] = 1
    assert brief(plc.cycle()) == {"holding:2": 1}, "NaN is not told again because its neighbour changed"
    plc.memory[0] = 0
    assert brief(plc.cycle()) == {"holding:0": 0.0}


@pytest.mark.parametrize(
    "code", [code for code, m in MEANINGS.items() if m.substatus == "device_failure"] + [42]
)
def test_a_failing_device_makes_its_tags_bad_and_the_same_bytes_make_them_good_again(code: int) -> None:
    plc = driver(*REGISTERS[:2])
    plc.cycle()
    plc.code = lambda _: code
    assert brief(plc.cycle()) == {"holding:0": "device_failure", "holding:1": "device_failure"}
    assert plc.cycle() == []
    plc.code = lambda _: 0
    assert brief(plc.cycle()) == {"holding:0": 0, "holding:1": 0}
    assert plc.refusals() == []


@pytest.mark.parametrize(("code", "substatus"), [(5, "busy"), (6, "busy"), (11, "no_communication")])
def test_a_busy_device_is_given_rest_and_its_tags_are_bad_when_it_goes_on(code: int, substatus: str) -> None:
    plc = driver(REGISTERS[0])
    plc.cycle()
    plc.code = lambda _: code
    assert [plc.cycle(), plc.cycle()] == [[], []]
    assert brief(plc.cycle()) == {"holding:0": substatus}
    plc.cycle(0.5)
    assert plc.asked == [], "it rests, for ever longer"
    plc.cycle(0.6)
    assert len(plc.asked) == 1
    rests = []
    for _ in range(8):
        waited = 0.0
        plc.asked.clear()
        while not plc.asked:
            waited += 0.5
            plc.cycle(0.5)
        rests.append(waited)
    assert rests == sorted(rests)
    assert rests[-1] == 30.0
    plc.code = lambda _: 0
    assert brief(plc.cycle(30.0)) == {"holding:0": 0}
    plc.code = lambda _: code
    plc.cycle()
    assert plc.cycle(0.3) == []
    assert len(plc.asked) == 1, "after a good answer the rest is short again"


def test_busy_twice_and_well_again_is_no_news() -> None:
    plc = driver(REGISTERS[0])
    plc.cycle()
    for _ in range(5):
        plc.code = lambda _: 6
        assert plc.cycle() == []
        plc.code = lambda _: 0
        assert plc.cycle() == []


def test_a_dead_path_is_told_at_once_and_probed_sparsely() -> None:
    plc = driver(REGISTERS[0])
    plc.code = lambda _: 10
    assert brief(plc.cycle()) == {"holding:0": "no_communication"}
    plc.cycle(0.2)
    assert plc.asked == []


@pytest.mark.parametrize("code", [2, 3])
def test_a_bad_address_is_found_and_set_aside_and_the_others_go_on(code: int) -> None:
    plc = driver(*REGISTERS)
    plc.code = lambda addresses: code if 6 in addresses else 0
    told = brief(plc.cycle())
    assert told == {**{f"holding:{n}": 0 for n in range(10)}, "holding:6": "configuration_error"}
    assert plc.refusals() == [
        ("holding:6", f"the device refuses holding:6: {MEANINGS[code].name} (exception {code})")
    ]
    assert plc.cycle() == []
    assert plc.asked == [range(6), range(7, 10)], "two requests from now on"


def test_a_tag_set_aside_is_tried_again_and_taken_back() -> None:
    plc = driver(*REGISTERS)
    plc.code = lambda addresses: 2 if 6 in addresses else 0
    plc.cycle()
    plc.refusals()
    plc.cycle(29.0)
    assert range(6, 7) not in plc.asked
    plc.cycle(2.0)
    assert range(6, 7) in plc.asked
    assert plc.refusals() == [], "still refused is no news"
    plc.memory[6] = 5
    plc.code = lambda _: 0
    assert brief(plc.cycle(31.0)) == {"holding:6": 5}
    assert plc.refusals() == [("holding:6", "")]
    assert plc.cycle() == []
    assert plc.asked == [range(10)], "and all is one request again"


def test_a_device_that_refuses_everything_is_probed_a_little_and_wholly_read_when_it_comes_back() -> None:
    plc = driver(*(signal(f"holding:{n}") for n in range(60)))
    plc.code = lambda _: 2
    assert set(brief(plc.cycle()).values()) == {"configuration_error"}
    plc.cycle(31.0)
    assert len(plc.asked) == PROBES_PER_CYCLE_MAX
    plc.code = lambda _: 0
    plc.cycle()
    assert len(brief(plc.cycle())) == 59
    assert plc.asked == [range(60)]
    assert {reason for tag, reason in plc.refusals()[60:]} == {""}


def test_of_many_tags_set_aside_each_has_its_turn() -> None:
    plc = driver(*(signal(f"holding:{n}") for n in range(10)))
    plc.code = lambda _: 2
    plc.cycle()
    tried = set()
    for _ in range(3):
        plc.cycle(31.0)  # all are due each time, and four are tried
        tried.update(plc.asked)
    assert len(tried) == 10


def test_an_unknown_function_sets_the_whole_request_aside_without_a_search() -> None:
    plc = driver(*REGISTERS)
    plc.code = lambda _: 1
    assert set(brief(plc.cycle()).values()) == {"configuration_error"}
    assert len(plc.asked) == 1


def test_a_device_that_takes_fewer_registers_is_read_in_more_requests() -> None:
    plc = driver(*(signal(f"holding:{n}") for n in range(125)))
    plc.code = lambda addresses: 3 if len(addresses) > 100 else 0
    assert len(plc.cycle()) == 125
    assert plc.refusals() == []
    assert plc.cycle() == []
    assert plc.asked == [range(62), range(62, 125)]


def test_a_value_of_two_registers_is_always_read_in_one_request() -> None:
    plc = driver(*(signal(f"holding:{n}", "float32") for n in range(0, 300, 2)))
    plc.code = lambda addresses: 2 if 100 in addresses else 0
    for _ in range(3):
        plc.cycle()
        starts_inside = [a for a in plc.asked if a.start % 2 or a.stop % 2]
        assert starts_inside == []


def test_exceptions_during_a_search_are_taken_as_what_they_are() -> None:
    plc = driver(*REGISTERS)
    plc.code = lambda addresses: 2 if len(addresses) == 10 else 4 if 0 in addresses else 0
    told = brief(plc.cycle())
    assert {told[f"holding:{n}"] for n in range(5)} == {"device_failure"}
    assert {told[f"holding:{n}"] for n in range(5, 10)} == {0}
