"""The words everything else is said in: samples, events, transitions, outcomes.

These are values only. Nothing here knows where a sample came from, who will read a transition, or what
time it is. All are frozen msgspec structs, so they are cheap to make and safe to share between tasks.
All times are aware UTC datetimes; durations are seconds as floats and say so in their names.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

#: Value of a tag. `None` means the source gave no value; its quality is then never good.
TagValue = bool | int | float | str | None

#: Name of the state every model has besides its own: nothing trustworthy is known.
UNKNOWN = "Unknown"


class Quality(StrEnum):
    """Trust in a value, after the severity of an OPC UA StatusCode."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class TagSample(msgspec.Struct, frozen=True, gc=False):
    """What one tag said at one instant.

    `tag` is the full id, `connection/name`. `source_at` is the device's own time stamp, if it gives one;
    `received_at` is the gateway's. `substatus` says more about the quality in one snake_case word, such as
    `no_communication`, `device_failure`, `configuration_error`, `stale`; empty when there is nothing to say.
    """

    tag: str
    value: TagValue
    quality: Quality
    source_at: datetime | None
    received_at: datetime
    substatus: str = ""


class SampleBatch(msgspec.Struct, frozen=True):
    """The samples of one poll block or one publish response of one connection, oldest first.

    With `source_time` the connection asks that transitions carry the samples' source time where it is
    plausible; otherwise they carry the time of receipt.
    """

    connection: str
    received_at: datetime
    samples: tuple[TagSample, ...]
    source_time: bool = False


class Tick(msgspec.Struct, frozen=True):
    """Nothing happened but time passed: it is now `at`."""

    at: datetime


class SourceLost(msgspec.Struct, frozen=True):
    """A connection no longer answers. `at` is its last proof of life: from then on nothing is known."""

    connection: str
    at: datetime
    reason: str


#: Reason of a `SourceRestored` after which the device tells all that happened while the connection was lost.
TAKEN_UP = "taken up where it was lost"


class SourceRestored(msgspec.Struct, frozen=True):
    """A connection answers again. Its tags stay bad until each has a fresh sample.

    `reason` is empty or `TAKEN_UP`.
    """

    connection: str
    at: datetime
    reason: str = ""


#: What the engine is fed with.
Event = SampleBatch | Tick | SourceLost | SourceRestored


class Conformance(StrEnum):
    """How a move stands to the model's table of transitions."""

    LEGAL = "legal"
    LEGAL_BY_CLOSURE = "legal-by-closure"
    ILLEGAL = "illegal"


class CauseInput(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tag value that decided a move, as it was known at that moment."""

    tag: str
    value: TagValue
    quality: Quality
    source_at: datetime | None
    received_at: datetime | None
    substatus: str = ""


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a move was made or refused: enough to answer the question years later.

    `rule` is `code` (a state code read from a tag), the text of the rule that matched, or one of the
    reserved words `source_lost`, `bad_quality`, `stale`, `undecided`, `unknown_code`, `model_changed`,
    `taken_out`, `timeout`.
    A unit mode that is refused has the rule "mode".
    `text` says it to people in one sentence.
    """

    rule: str
    inputs: tuple[CauseInput, ...]
    text: str = ""


class Transition(msgspec.Struct, frozen=True):
    """One equipment left a state for another.

    `sequence` counts the transitions of this equipment from 1 without a gap. `code` is the numeric code of
    `to_state` in its model, or the raw code that was read when no state has it. `category` is that of
    `to_state`. `duration_s` is how long `from_state` lasted. `skipped` lists the states that a move
    legal by closure must have passed through unseen.
    """

    equipment: str
    path: str
    model: str
    sequence: int
    from_state: str
    to_state: str
    code: int | None
    category: str | None
    at: datetime
    duration_s: float
    conformance: Conformance
    skipped: tuple[str, ...]
    cause: Cause


class Rejection(msgspec.Struct, frozen=True):
    """A move the model refused. The equipment stays in `state`."""

    equipment: str
    path: str
    model: str
    state: str
    attempted: str
    at: datetime
    reason: str
    cause: Cause


class Gap(msgspec.Struct, frozen=True):
    """Samples of a connection between `at` and `until` are known to be lost; `tag` is empty when all are.

    When it is the device's own events that are lost, `tag` is `connection/_events` (see `lost_events`), which
    no tag can be named.
    """

    connection: str
    at: datetime
    until: datetime
    reason: str
    tag: str = ""


class Late(msgspec.Struct, frozen=True):
    """A sample told of an instant that an equipment had been judged beyond: it was taken as received."""

    equipment: str
    at: datetime
    received_at: datetime


class Outcome(msgspec.Struct, frozen=True):
    """What a step of the engine asks for, in this order.

    `transitions` and `rejections` must be journalled before anyone hears of them. `wake_at` is the
    earliest instant at which time alone may change a state: hand in a `Tick` then, or any event. `late` are
    samples that would have been judged otherwise had they come in time.
    """

    transitions: tuple[Transition, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    wake_at: datetime | None = None
    late: tuple[Late, ...] = ()


def lost_events(connection: str) -> str:
    """What stands in a gap's `tag` when events of a device are lost and not samples."""
    return f"{connection}/_events"


#: Most characters of the message of a device's event, and of its other texts; longer ones are cut.
MESSAGE_CHARS_MAX, TEXT_CHARS_MAX = 2000, 256


class DeviceEvent(msgspec.Struct, frozen=True):
    """What a device itself says has happened: one of its events, or a change of one of its alarms.

    `at` is the device's own time where the connection says so and it is plausible, else the time of receipt;
    `source_at` and `received_at` are the two. `kind` is the type of event in the device's terms, `source`
    what raised it, `severity` runs from 1 (least) to 1000. `event_id` is the device's own identity of the
    event, empty when it gave none.

    `condition` and all after it are for alarms and other conditions, those an operator may have to act upon:
    its name, the node it lives at, which of its branches this is about (empty: the present one), and its
    state, None where the device does not say. `refreshed` marks what was asked for after connecting: it
    happened earlier, and holds now. Texts longer than the bounds above are cut and end in an ellipsis.
    """

    connection: str
    at: datetime
    kind: str
    source: str
    severity: int | None
    message: str
    event_id: str
    source_at: datetime | None
    received_at: datetime
    source_node: str = ""
    condition: str = ""
    condition_node: str = ""
    branch: str = ""
    active: bool | None = None
    acknowledged: bool | None = None
    confirmed: bool | None = None
    suppressed: bool | None = None
    retain: bool | None = None
    comment: str = ""
    user: str = ""
    refreshed: bool = False

    def __post_init__(self) -> None:
        for name in _DEVICE_TEXTS:
            text = getattr(self, name)
            kept = _bounded(text, MESSAGE_CHARS_MAX if name == "message" else TEXT_CHARS_MAX)
            if kept is not text:
                msgspec.structs.force_setattr(self, name, kept)


_DEVICE_TEXTS = (
    "kind",
    "source",
    "message",
    "event_id",
    "source_node",
    "condition",
    "condition_node",
    "branch",
    "comment",
    "user",
)


def _bounded(text: str, chars_max: int) -> str:
    """Text that is not too long and that every encoding holds (no half surrogate pairs)."""
    if len(text) > chars_max:
        text = text[: chars_max - 1] + "\u2026"
    if text.isascii():
        return text
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return text if whole == text else whole


class CorrectedState(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """The state an equipment was in from `from_` to before `to`, as a correction tells it."""

    state: str
    code: int | None
    category: str | None
    from_: datetime
    to: datetime


class Correction(msgspec.Struct, frozen=True):
    """What was recorded of an equipment between `at` and `until` was wrong; this is what is known now.

    Nothing that is recorded is changed by it: see `corrected.py` for how it is laid over. `intervals` are in
    order and lie within [at, until); where they leave a hole, what was told stands. `withdraws` is the id of
    an earlier correction that no longer counts; then there are no intervals, and the bounds are those of the
    one withdrawn. `author` is the name whoever asked for it gave, or `late samples`; `cause` has the evidence
    of a correction that the gateway made itself. `key` is the caller's own identity of what was asked for.
    """

    equipment: str
    path: str
    model: str
    at: datetime
    until: datetime
    intervals: tuple[CorrectedState, ...]
    reason: str
    author: str
    withdraws: str | None = None
    key: str | None = None
    cause: Cause | None = None


class CommandStatus(StrEnum):
    """How far a command has come; all but `accepted` are final.

    `accepted`: judged, durable, waiting for an approval or on its way. `refused`: nothing was sent.
    `written`: the device took it and nobody could read it back. `verified`: read back as it was written.
    `mismatch`: read back otherwise. `expired`: its time was over before anything was sent. `unknown`: it was
    sent, or may have been, and no answer says what became of it.
    """

    ACCEPTED = "accepted"
    REFUSED = "refused"
    WRITTEN = "written"
    VERIFIED = "verified"
    MISMATCH = "mismatch"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class CommandTold(msgspec.Struct, frozen=True):
    """A command has come this far: once when it is accepted, once when it ends.

    `command_id` is its identity, the same both times. It names either a `tag` (full id) and a `value`, or a
    `command` of `equipment`; what it does not name is empty. `equipment` and `path` are of whom it is for,
    empty when nothing configured allows it. `code` and `reason` say why it was refused, or what is doubtful.
    `read` is what was read back. With `dry_run` nothing is written whatever the status says.
    """

    command_id: str
    equipment: str
    path: str
    tag: str
    command: str
    value: TagValue
    requested_by: str
    via: str
    status: CommandStatus
    at: datetime
    code: str = ""
    reason: str = ""
    read: TagValue = None
    approved_by: str = ""
    dry_run: bool = False
    key: str = ""


class AuditAnchor(msgspec.Struct, frozen=True):
    """Where the audit trail stood at `at`: record `n` ends its chain with `hash` (both hexadecimal, as is
    `signature`, made with the key `key` names). Kept outside of the trail, it shows later that nothing up to
    there was changed or taken away.
    """

    n: int
    hash: str
    signature: str
    key: str
    at: datetime


#: What the journal numbers with `seq`.
Recordable = (
    Transition
    | Rejection
    | SourceLost
    | SourceRestored
    | Gap
    | DeviceEvent
    | Correction
    | CommandTold
    | AuditAnchor
)
