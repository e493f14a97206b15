"""A small plant for the tests of the session: a filler that is read, an oven by rules, and who feeds them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.sparkplug.births import DeviceSpec, NodeSpec, PublishedTag
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.messages import Now, Publication
from gateway.sparkplug.names import Names
from gateway.sparkplug.session import Session
from statemodel.records import EquipmentState, Recorded, tell
from statemodel.types import UNKNOWN, Cause, Conformance, Quality, TagSample, TagValue, Transition
from tests.gateway.sparkplug.listening_host import ListeningHost

T0 = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
STATES = ("Stopped", "Idle", "Execute", UNKNOWN)
CODES = {"Stopped": 2, "Idle": 4, "Execute": 6, UNKNOWN: None}
STREAM = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

SPEED = PublishedTag("plc/speed", unit="1/min", datatype=DataType.INT16, writable=True)
TEMP = PublishedTag("plc/temp", unit="°C")
LOCK = PublishedTag("oven-plc/lock", datatype=DataType.BOOLEAN)
SETPOINT = PublishedTag("oven-plc/setpoint", datatype=DataType.FLOAT, writable=True)
HALL = PublishedTag("plc/hall")

FILLER = DeviceSpec(
    "filler-1", STATES, mode_tag="plc/mode", modes={1: "Production", 2: "Maintenance"}, tags=(SPEED, TEMP)
)
OVEN = DeviceSpec("oven-1", STATES, {"Execute": "productive"}, tags=(TEMP, LOCK, SETPOINT))
NODE = NodeSpec("Andon", "0.4.0", STREAM, ("plc", "oven-plc"), tags=(HALL,), servers=2)


def now(seconds: float = 0.0) -> Now:
    """So long after the gateway started, by both clocks."""
    return Now(T0 + timedelta(seconds=seconds), 1000.0 + seconds)


def session(*, primary_host: bool = False) -> Session:
    """A session that is not connected."""
    return Session(Names("plant", "line-1"), NODE, (FILLER, OVEN), started=T0, primary_host=primary_host)


def born(bd_seq: int = 7) -> tuple[Session, ListeningHost]:
    """A session whose births a host has heard."""
    made, host = session(), ListeningHost("plant", "line-1")
    host.will(made.will(bd_seq, T0))
    host.hear(made.connected(now()))
    return made, host


def moved(
    seq: int,
    to: str,
    at_s: float,
    *,
    equipment: str = "filler-1",
    sequence: int | None = None,
    frm: str = "Idle",
    lasted_s: float = 1.0,
) -> Recorded:
    """A transition as the journal has it."""
    transition = Transition(
        equipment=equipment,
        path=f"area/{equipment}",
        model="packml",
        sequence=seq if sequence is None else sequence,
        from_state=frm,
        to_state=to,
        code=CODES[to],
        category="productive" if to == "Execute" else None,
        at=T0 + timedelta(seconds=at_s),
        duration_s=lasted_s,
        conformance=Conformance.LEGAL,
        skipped=(),
        cause=Cause("code", (), f"plc/state read {CODES[to]}"),
    )
    return tell(transition, gateway="line-1", stream=STREAM, seq=seq, recorded_at=transition.at)


def known(
    seq: int, state: str, since_s: float, *, equipment: str = "filler-1", reason: str | None = None
) -> EquipmentState:
    """A state as the gateway knows it."""
    return EquipmentState(
        equipment,
        f"area/{equipment}",
        "packml",
        state,
        CODES[state],
        None,
        T0 + timedelta(seconds=since_s),
        seq,
        seq,
        reason,
    )


def read(
    tag: str,
    value: TagValue,
    at_s: float,
    quality: Quality = Quality.GOOD,
    substatus: str = "",
    source_s: float | None = None,
) -> TagSample:
    """A sample."""
    source_at = None if source_s is None else T0 + timedelta(seconds=source_s)
    return TagSample(tag, value, quality, source_at, T0 + timedelta(seconds=at_s), substatus)


def verbs(publications: tuple[Publication, ...]) -> list[str]:
    """What was published, in order: `NBIRTH`, `DBIRTH filler-1`..."""
    return [f"{p.verb} {p.device}".strip() for p in publications]
