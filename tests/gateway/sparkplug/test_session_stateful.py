"""Whatever happens in whatever order: the host's view is right, and no rule is broken on the way.

The host hears bytes and knows nothing of the session; what should be true is kept here, beside it.
"""

from __future__ import annotations

import math
import random
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.messages import Now
from gateway.sparkplug.payload import Template
from gateway.sparkplug.session import Session
from statemodel.records import Recorded, state_after
from statemodel.types import UNKNOWN, Quality, TagSample, TagValue, Transition
from tests.gateway.sparkplug.listening_host import ListeningHost
from tests.gateway.sparkplug.session_parts import STATES, T0, moved, read, session

DEVICES = ("filler-1", "oven-1")
TAGS = {"plc/speed": ("filler-1",), "plc/temp": DEVICES, "oven-plc/lock": ("oven-1",), "plc/hall": ("",)}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 32767, 32768, -(1 << 63), 1 << 63, (1 << 64) - 1, 1 << 64]),
    st.floats(),
    st.sampled_from(["", "on", "µ"]),
)
QUALITIES = st.sampled_from(
    [
        (Quality.GOOD, "", 192),
        (Quality.BAD, "device_failure", 0),
        (Quality.BAD, "no_communication", 500),
        (Quality.UNCERTAIN, "", 0),
    ]
)


def shows(seen: object, value: TagValue, datatype: DataType) -> bool:
    """Whether a host sees a value as it should in a metric of that type.

    A text may be that of a narrower type the value was told in first: `0` for False, `1.0` for 1.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return seen is None
    if datatype in (DataType.DOUBLE, DataType.FLOAT) and not isinstance(value, str):
        return seen == float(value)
    if datatype is not DataType.STRING or isinstance(value, str):
        return seen == value
    return seen == str(value).lower() if seen in ("true", "false") else float(str(seen)) == float(value)


def plain(value: object) -> object:
    """A value without the times a template's members have besides."""
    return {m.name: m.value for m in value.metrics} if isinstance(value, Template) else value


class SessionMachine(RuleBasedStateMachine):
    """The gateway, the broker and the host around one session."""

    @initialize(primary_host=st.booleans(), offline=st.booleans())
    def start(self, primary_host: bool, offline: bool) -> None:
        self.primary_host = primary_host
        self.session: Session = session(primary_host=primary_host)
        self.host = ListeningHost("plant", "line-1")
        self.at_s = 0.0
        self.seq = 0
        self.bd_seq = -1
        self.connected = self.listening = False
        self.links = dict.fromkeys(DEVICES, True)
        self.state: dict[str, Recorded | None] = dict.fromkeys(DEVICES)
        self.sequence = dict.fromkeys(DEVICES, 0)
        self.spent: dict[tuple[str, str], float] = {}
        self.told: set[int] = set()
        self.behind: list[Recorded | TagSample] = []
        self.tags: dict[str, tuple[TagValue, int]] = {}
        self.online: bool | None = None
        self.rebirths_at: list[float] = []
        self.past_wanted: list[tuple[str, int]] = []
        if not offline:
            self.connect()
            if primary_host:
                self.host_comes()

    # --- time

    @property
    def now(self) -> Now:
        return Now(T0 + timedelta(seconds=self.at_s), 500.0 + self.at_s)

    @rule(seconds=st.sampled_from([0.001, 1.0, 4.9, 60.0]))
    def pass_time(self, seconds: float) -> None:
        self.at_s += seconds

    @rule()
    def tick(self) -> None:
        due = self.session.due_s
        publications = self.session.tick(self.now)
        assert (due is not None and due <= self.now.monotonic_s) == bool(publications)
        self._node_births(len([p for p in publications if p.verb == "NBIRTH"]))
        self.host.hear(publications)

    # --- the broker and the host

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.bd_seq = (self.bd_seq + 1) % 256
        self.host.will(self.session.will(self.bd_seq, self.now.at))
        publications = self.session.connected(self.now)
        assert bool(publications) != self.primary_host
        self.connected, self.listening = True, not self.primary_host
        self.rebirths_at = []
        self.host.dead = {name for name, up in self.links.items() if not up}
        self.host.hear(publications)

    @precondition(lambda self: self.connected and not self.listening)
    @rule()
    def host_comes(self) -> None:
        self.listening = True
        self.host.dead = {name for name, up in self.links.items() if not up}
        publications = self.session.host_online(self.now)
        assert publications[0].verb == "NBIRTH"
        self.host.hear(publications)

    @precondition(lambda self: self.connected)
    @rule(cleanly=st.booleans())
    def disconnect(self, cleanly: bool) -> None:
        if cleanly:
            publications = self.session.leave(self.now)
            assert [p.verb for p in publications] == ["NDEATH"]
            self.host.hear(publications)
        else:
            self.session.lost()
            self.host.dropped()
        self.connected = self.listening = False

    # --- the plant

    @rule(
        device=st.sampled_from(DEVICES),
        to=st.sampled_from(STATES),
        fed=st.booleans(),
        lasted_s=st.sampled_from([0.0, 0.5, 1e6]),
    )
    def transition(self, device: str, to: str, fed: bool, lasted_s: float) -> None:
        """One that the session is fed with, or only told the outcome of; that one comes later as history."""
        self.seq += 1
        self.sequence[device] += 1
        before = self.state[device]
        frm = before.event.to_state if before and isinstance(before.event, Transition) else UNKNOWN
        item = moved(
            self.seq,
            to,
            self.at_s,
            equipment=device,
            sequence=self.sequence[device],
            frm=frm,
            lasted_s=lasted_s,
        )
        self.state[device] = item
        assert isinstance(item.event, Transition)
        if fed:
            publications = self.session.events([item], self.now)
            self._spend(item)
            if self.listening:
                self.past_wanted += [] if self.links[device] else [(device, self.sequence[device])]
        else:
            publications = self.session.know(
                state_after(item.event, item.seq), self.now, item.event.cause.text
            )
            self.behind.append(item)
        assert self.listening or not publications
        self.host.hear(publications)

    @precondition(lambda self: self.listening and self.behind)
    @rule(count=st.integers(1, 5), twice=st.booleans())
    def replay(self, count: int, twice: bool) -> None:
        page, self.behind = self.behind[:count], self.behind[count:]
        view = self._view()
        for _ in range(1 + twice):
            publications = self.session.history(page, self.now)
            self._node_births(0)
            self.host.hear(publications)
        for item in page:
            if isinstance(item, Recorded):
                self._spend(item)
                self.past_wanted.append((item.equipment, item.event.sequence))  # type: ignore[union-attr]
        for key, value in self._view().items():
            if not key[1].startswith(("Durations/", "Tags/")):
                assert view.get(key, value) == value, f"history changed {key}"

    @rule(tag=st.sampled_from(sorted(TAGS)), value=VALUES, quality=QUALITIES, live=st.booleans())
    def sample(self, tag: str, value: TagValue, quality: tuple[Quality, str, int], live: bool) -> None:
        sample = read(tag, value, self.at_s, quality[0], quality[1])
        if not live:
            self.behind.append(sample)
            return
        self.tags[tag] = (value, quality[2])
        publications = self.session.samples([sample], self.now)
        self._node_births(len([p for p in publications if p.verb == "NBIRTH"]))
        self.host.hear(publications)

    @rule(online=st.booleans())
    def connection(self, online: bool) -> None:
        publications = self.session.connection("plc", online, self.now)
        assert bool(publications) == (self.listening and online != self.online)
        self.online = online
        self.host.hear(publications)

    @rule(device=st.sampled_from(DEVICES), up=st.booleans())
    def link(self, device: str, up: bool) -> None:
        if not up or self.links[device] != up:
            self.host.dead.add(device)
        self.links[device] = up
        self.host.hear(self.session.link(device, up, self.now))

    # --- what hosts ask for

    @rule(device=st.sampled_from(("", *DEVICES)), times=st.integers(1, 3))
    def ask_for_rebirth(self, device: str, times: int) -> None:
        for _ in range(times):
            publications = self.session.rebirth(self.now, device)
            if not device:
                self._node_births(len([p for p in publications if p.verb == "NBIRTH"]))
            assert self.listening or not publications
            self.host.hear(publications)

    # --- what must hold

    def _node_births(self, count: int) -> None:
        """Births nobody needs at once are rationed."""
        for _ in range(count):
            assert not self.rebirths_at or self.at_s - self.rebirths_at[-1] >= 5.0 - 1e-6
            self.rebirths_at.append(self.at_s)

    def _spend(self, item: Recorded) -> None:
        event = item.event
        assert isinstance(event, Transition)
        began = max(T0, event.at - timedelta(seconds=event.duration_s))
        key = (event.equipment, f"Durations/{event.from_state}")
        self.spent[key] = self.spent.get(key, 0.0) + (event.at - began).total_seconds()

    def _view(self) -> dict[tuple[str, str], object]:
        return {
            (name, metric.name): plain(metric.value)
            for name, known in (("", self.host.node), *self.host.devices.items())
            if known.alive
            for metric in known.metrics.values()
        }

    @invariant()
    def who_is_alive(self) -> None:
        assert self.host.node.alive == self.listening
        alive = {name for name, known in self.host.devices.items() if known.alive}
        assert alive == {name for name, up in self.links.items() if up and self.listening}

    @invariant()
    def what_is_true(self) -> None:
        view = self._view()
        for device in DEVICES:
            state = self.state[device]
            if (device, "State") not in view:
                continue
            event = state.event if state is not None else None
            if not isinstance(event, Transition) or state is None:
                assert view[device, "State"] is None
                continue
            shown_state = {
                "State": event.to_state,
                "State Code": event.code,
                "Since": self._to_the_millisecond(event.at),
                "Sequence": event.sequence,
                "Seq": state.seq,
                "Cause": event.cause.text,
                "Reason": event.cause.text if event.to_state == UNKNOWN else None,
            }
            assert {name: view[device, name] for name in shown_state} == shown_state
            template = view[device, "Equipment State"]
            assert isinstance(template, dict)
            assert {name: template[name] for name in shown_state} == shown_state
        for (device, name), seconds in self.spent.items():
            if (device, name) in view:
                found = view[device, name]
                assert isinstance(found, float)
                assert math.isclose(found, seconds, abs_tol=1e-3), (device, name)

    @staticmethod
    def _to_the_millisecond(at: datetime) -> datetime:
        return at.replace(microsecond=at.microsecond // 1000 * 1000)

    @invariant()
    def what_tags_say(self) -> None:
        for tag, (value, code) in self.tags.items():
            for device in TAGS[tag]:
                known = self.host.devices.get(device) if device else self.host.node
                if known is None or not known.alive:
                    continue
                metric = known.metrics[f"Tags/{tag}"]
                if device == "" and self.session.due_s is not None:
                    continue  # a wider type is owed
                assert shows(metric.value, value, metric.datatype), (device, tag, value, metric)
                assert metric.quality == code

    @invariant()
    def nothing_of_history_is_missing(self) -> None:
        heard = {(p.device, p.value) for p in self.host.history if p.name == "Sequence"}
        alive = {name for name, known in self.host.devices.items() if known.alive}
        assert {item for item in self.past_wanted if item[0] in alive} <= heard


TestSession = SessionMachine.TestCase
TestSession.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("seed", range(4))
def test_a_long_life(seed: int) -> None:
    """The same over thousands of steps of one session, several times around the sequence numbers."""
    dice = random.Random(seed)
    machine = SessionMachine()
    machine.start(primary_host=seed % 2 == 1, offline=False)
    values: list[TagValue] = [0, 1, 2, -1, 40_000, 0.5, 2.5, True, False, None, "on"]
    qualities = [(Quality.GOOD, "", 192)] * 5 + [(Quality.BAD, "stale", 500), (Quality.BAD, "", 0)]
    for step in range(3000):
        choice = dice.random()
        device = dice.choice(DEVICES)
        if choice < 0.3:
            machine.transition(device, dice.choice(STATES), dice.random() < 0.8, dice.choice([0.0, 0.5, 1e6]))
        elif choice < 0.7:
            # values that outgrow their types come late, or everything would be text from the start
            value = dice.choice(values[: 3 + step * len(values) // 2000])
            machine.sample(dice.choice(sorted(TAGS)), value, dice.choice(qualities), dice.random() < 0.8)
        elif choice < 0.8:
            machine.pass_time(dice.choice([0.001, 1.0, 4.9]))
            machine.tick()
        elif choice < 0.84:
            machine.link(device, dice.random() < 0.7)
        elif choice < 0.86:
            machine.ask_for_rebirth(dice.choice(("", *DEVICES)), dice.randint(1, 3))
        elif choice < 0.93:
            machine.connection(dice.random() < 0.5)
        elif choice < 0.99 and machine.listening and machine.behind:
            machine.replay(dice.randint(1, 5), dice.random() < 0.2)
        elif choice > 0.995:
            _reconnect(machine, cleanly=dice.random() < 0.5)
        for holds in (
            machine.who_is_alive,
            machine.what_is_true,
            machine.what_tags_say,
            machine.nothing_of_history_is_missing,
        ):
            holds()

    assert {verb.split()[0] for verb in machine.host.verbs} >= {
        "NBIRTH",
        "DBIRTH",
        "NDATA",
        "DDATA",
        "DDEATH",
    }
    assert len(machine.host.verbs) > 1000


def _reconnect(machine: SessionMachine, *, cleanly: bool) -> None:
    if machine.connected:
        machine.disconnect(cleanly)
    machine.connect()
    if machine.primary_host:
        machine.host_comes()
