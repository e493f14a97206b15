"""What a restart has to admit: exactly the time nobody looked, for exactly the connections concerned."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectors.registry import Registry
from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.config.load import Loaded
from gateway.config.schema import Configuration, EquipmentSettings, GatewaySettings
from gateway.restart import lost_while_away, memories_from
from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentSpec
from statemodel.records import Recorded, tell
from statemodel.types import Quality, SampleBatch, TagSample

AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


def connection(name: str) -> ConnectionSettings:
    group = GroupSettings(name="all", interval=timedelta(seconds=1), tags=(TagSettings(name="state"),))
    return ConnectionSettings(name=name, protocol="toy", endpoint="toy://", groups=(group,))


LOADED = Loaded(
    path=Path("andon.toml"),
    configuration=Configuration(
        gateway=GatewaySettings(id="g", enterprise="e", site="s"),
        connections=(connection("one"), connection("two")),
        equipment=tuple(
            EquipmentSettings(name=f"m-{plc}", path=f"a/{plc}", model="packml", state=f"{plc}/state")
            for plc in ("one", "two")
        ),
    ),
    models={"packml": BUILTIN["packml"]},
    equipment=[
        EquipmentSpec(name=f"m-{plc}", path=f"a/{plc}", model=BUILTIN["packml"], state=f"{plc}/state")
        for plc in ("one", "two")
    ],
    registry=Registry(),
)


def history(*moves: tuple[str, int]) -> Mapping[str, Recorded]:
    """The newest transition of each equipment after these (connection, code) samples."""
    engine = Engine(LOADED.equipment, at=AT)
    last: dict[str, Recorded] = {}
    for seq, (plc, code) in enumerate(moves, 1):
        at = AT + timedelta(seconds=seq)
        sample = TagSample(f"{plc}/state", code, Quality.GOOD, None, at)
        for event in engine.step(SampleBatch(plc, at, (sample,))).transitions:
            last[event.equipment] = tell(event, gateway="g", stream="s", seq=seq, recorded_at=at)
    return last


def test_a_connection_that_was_up_is_lost_from_its_last_proof_of_life() -> None:
    proof = AT + timedelta(minutes=5)
    now = AT + timedelta(hours=1)

    lost = lost_while_away({"one": proof}, history(("one", 6)), LOADED, now)

    assert [(words.connection, words.at) for words in lost] == [("one", proof)]
    assert "not running" in lost[0].reason


def test_a_connection_whose_loss_is_on_record_is_not_lost_twice() -> None:
    assert lost_while_away({}, {}, LOADED, AT) == []


def test_equipment_in_a_known_state_without_any_proof_of_life_was_not_looked_at_either() -> None:
    proof = AT + timedelta(minutes=5)

    lost = lost_while_away({"one": proof}, history(("one", 6), ("two", 4)), LOADED, AT + timedelta(hours=1))

    assert [(words.connection, words.at) for words in lost] == [("one", proof), ("two", proof)]


def test_a_clock_that_was_set_back_gives_no_loss_in_the_future() -> None:
    lost = lost_while_away({"one": AT + timedelta(days=1)}, history(("one", 6)), LOADED, AT)

    assert [words.at for words in lost] == [AT]


def test_the_engine_goes_on_where_it_stopped() -> None:
    memories = memories_from(history(("one", 4), ("one", 3), ("one", 6)), LOADED)

    engine = Engine(LOADED.equipment, at=AT + timedelta(hours=1), memory=memories)
    [lost] = lost_while_away(
        {"one": AT + timedelta(seconds=9)}, history(("one", 6)), LOADED, AT + timedelta(hours=1)
    )
    [unknown] = engine.step(lost).transitions

    assert (unknown.from_state, unknown.to_state, unknown.sequence) == ("Execute", "Unknown", 4)
    assert unknown.at == AT + timedelta(seconds=9)
    assert unknown.duration_s == 6
