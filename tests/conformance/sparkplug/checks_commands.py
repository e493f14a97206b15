"""Commands: which are obeyed and how, and that nothing else changes anything. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.sparkplug.checks_births import REBIRTH, alive_by_session
from tests.conformance.sparkplug.checks_session import bdseq_of
from tests.conformance.sparkplug.decoder import value_of, wrong_value
from tests.conformance.sparkplug.judging import Verdict, proves
from tests.conformance.sparkplug.story import (
    COMMANDS,
    DATA,
    LOST,
    NAMESPACE,
    WRITTEN,
    Message,
    Metric,
    Session,
    Story,
)
from tests.conformance.sparkplug.wire import Closed, Disconnect

#: An edge node may leave so long between two births, however many are asked for (our rule), in milliseconds.
REBIRTH_EVERY_MS = 5000.0
#: What may lie on top of it before a session that ends is held to owe an answer.
SLACK_MS = 3000.0
#: How long an answer may take on a busy machine, in milliseconds: as long as whoever plays the host waits.
ANSWER_MS_MAX = 30_000.0
#: What was on its way when the command came, in milliseconds; a busy machine may read the two far apart.
IN_FLIGHT_MS = 5000.0


def asks_for_rebirth(message: Message, node: str) -> bool:
    """Whether a message is a rebirth request: NCMD to the node, by name, Boolean true."""
    if message.kind != "NCMD" or message.node != node or message.device:
        return False
    for metric in message.metrics:
        raw = metric.raw
        if raw.name == REBIRTH and raw.WhichOneof("value") == "boolean_value" and raw.boolean_value:
            return not raw.is_historical
    return False


def _requests(story: Story) -> Iterator[tuple[Session, Message, bool]]:
    """Rebirth requests to a born edge node, and whether the last birth was too short a time ago."""
    for session in story.sessions:
        for message in session.heard:
            if not asks_for_rebirth(message, session.node):
                continue
            births = [birth for birth in session.of("NBIRTH") if birth.number < message.number]
            if births:
                since_ms = message.packet.at_ms - births[-1].packet.at_ms
                yield session, message, since_ms < REBIRTH_EVERY_MS + 500.0


def _answer(session: Session, request: Message) -> Message | None:
    return next((birth for birth in session.of("NBIRTH") if birth.number > request.number), None)


def _gone(session: Session, request: Message) -> bool:
    """Whether the session ended before an answer was due."""
    due_ms = request.packet.at_ms + REBIRTH_EVERY_MS + SLACK_MS
    return session.closed is not None and session.closed.at_ms < due_ms


def _answered(session: Session, request: Message) -> str | None:
    answer = _answer(session, request)
    if answer is None:
        return None if _gone(session, request) else "the rebirth never came"
    took_ms = answer.packet.at_ms - request.packet.at_ms
    return None if took_ms <= ANSWER_MS_MAX else f"the rebirth took {took_ms:.0f} ms"


@proves("operational-behavior-data-commands-rebirth-action-1")
def data_stops_when_a_rebirth_is_asked_for(story: Story) -> Iterator[Verdict]:
    """Judged where the birth may come at once; a request too soon after a birth counts when it is due."""
    for session, request, too_soon in _requests(story):
        answer = _answer(session, request)
        if too_soon:
            continue
        end = session.packets[-1].number if answer is None else answer.number
        between = [
            message.number
            for message in session.of(*DATA)
            if request.number < message.number < end
            and message.packet.at_ms - request.packet.at_ms > IN_FLIGHT_MS
        ]
        yield Verdict(request.number, f"data at {between[:3]} before the birth" if between else None)


@proves("operational-behavior-data-commands-rebirth-action-2")
def a_rebirth_is_a_whole_birth_sequence(story: Story) -> Iterator[Verdict]:
    requests = list(_requests(story))
    for _, request, _ in requests:
        session = next(s for s in story.sessions if request in s.heard)
        yield Verdict(request.number, _answered(session, request))
    for session, sequence, up in alive_by_session(story):
        if sequence[0] is session.of("NBIRTH")[0]:
            continue
        missing = set(up)
        for message in sequence[1:]:
            if message.kind not in ("DBIRTH", "DDEATH"):
                break
            missing.discard(message.device)
        lost = {note.about for p, note in story.noted(LOST) if p.number < sequence[-1].number}
        left = sorted(missing - lost)
        yield Verdict(sequence[0].number, f"not born again: {left}" if left else None)


@proves("operational-behavior-data-commands-rebirth-action-3")
def a_rebirth_keeps_bdseq(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        for birth in session.of("NBIRTH")[1:]:
            wanted, found = bdseq_of(session.will), bdseq_of(birth)
            problem = None if found == wanted else f"bdSeq {found}, and {wanted} in the will"
            yield Verdict(birth.number, problem)


@proves(
    "operational-behavior-data-commands-ncmd-rebirth-verb",
    "operational-behavior-data-commands-ncmd-rebirth-name",
    "operational-behavior-data-commands-ncmd-rebirth-value",
)
def only_a_rebirth_request_brings_a_rebirth(story: Story) -> Iterator[Verdict]:
    """Whatever else was sent: other verbs, other names, false. A birth of its own has new metrics to tell."""
    for session in story.sessions:
        births = session.of("NBIRTH")
        for place, birth in enumerate(births[1:], 1):
            before = births[place - 1]
            asked = any(
                asks_for_rebirth(message, session.node)
                for message in session.heard
                if before.number - 1 < message.number < birth.number
                or 0 <= before.packet.at_ms - message.packet.at_ms < REBIRTH_EVERY_MS + SLACK_MS
            )
            new = _shape(before) != _shape(birth)
            yield Verdict(birth.number, None if asked or new else "nobody had asked for this birth")
    for session, request, _ in _requests(story):
        yield Verdict(request.number, _answered(session, request))


def _shape(birth: Message) -> set[tuple[str, int]]:
    return {(metric.name, metric.raw.datatype) for metric in birth.metrics}


@proves(
    "topics-ncmd-topic",
    "operational-behavior-data-commands-ncmd-verb",
)
def node_commands_are_taken_from_their_topic(story: Story) -> Iterator[Verdict]:
    for session, request, _ in _requests(story):
        group, _, node = session.node.partition("/")
        if request.publish.topic == f"{NAMESPACE}/{group}/NCMD/{node}":
            yield Verdict(request.number, _answered(session, request))


@proves("payloads-name-cmd-requirement")
def a_command_needs_no_timestamp(story: Story) -> Iterator[Verdict]:
    """Requests are answered whether their metric has a timestamp or not."""
    for session, request, _ in _requests(story):
        yield Verdict(request.number, _answered(session, request))


@proves("payloads-ncmd-seq", "payloads-dcmd-seq")
def commands_have_no_seq(story: Story) -> Iterator[Verdict]:
    """The edge node sends none, and obeys those that come without."""
    for message in story.said:
        yield Verdict(message.number, f"it sends {message.kind}" if message.kind in COMMANDS else None)
    for session, request, _ in _requests(story):
        if request.seq is None:
            yield Verdict(request.number, _answered(session, request))


def compatible(metric: Metric) -> bool:
    """Whether a command names a metric that is born and has a value of its type."""
    return metric.born is not None and (
        not metric.raw.is_null and wrong_value(metric.raw, metric.born.datatype) is None
    )


def _refused(story: Story, kind: str) -> Iterator[tuple[Session, Message]]:
    """Commands that cannot be obeyed: garbage, nobody's metric, a value of another type."""
    for session in story.sessions:
        for message in session.heard:
            if message.kind == kind and not asks_for_rebirth(message, session.node):
                wrong = message.payload is None or not all(compatible(metric) for metric in message.metrics)
                if wrong or not message.metrics:
                    yield session, message


def _unmoved(story: Story, kind: str) -> Iterator[Verdict]:
    """The session goes on after it: something is said later, and it did not end within a second."""
    for session, command in _refused(story, kind):
        ends = [
            packet
            for packet in session.packets
            if packet.number > command.number
            and isinstance(packet.body, Closed | Disconnect)
            and packet.at_ms - command.packet.at_ms < 1000.0
        ]
        went_on = any(message.number > command.number for message in session.said)
        problem = "the session ended after it" if ends else None if went_on else "nothing was said after it"
        yield Verdict(command.number, problem)


@proves(
    "operational-behavior-data-commands-ncmd-metric-name",
    "operational-behavior-data-commands-ncmd-metric-value",
)
def a_wrong_node_command_changes_nothing(story: Story) -> Iterator[Verdict]:
    return _unmoved(story, "NCMD")


@proves(
    "operational-behavior-data-commands-dcmd-metric-name",
    "operational-behavior-data-commands-dcmd-metric-value",
)
def a_wrong_device_command_changes_nothing(story: Story) -> Iterator[Verdict]:
    yield from _unmoved(story, "DCMD")
    yield from _writes(story, obeyed=False)


def _writes(story: Story, *, obeyed: bool) -> Iterator[Verdict]:
    """Writes to devices reach the equipment once when they can be obeyed, else never.

    Whoever plays the host asks for each value once.
    """
    written = [(packet.number, note.about, note.value) for packet, note in story.noted(WRITTEN)]
    for session in story.sessions if story.facts.commands else ():
        for command in session.heard:
            if command.kind != "DCMD" or command.payload is None:
                continue
            for metric in command.metrics:
                if compatible(metric) != obeyed or metric.born is None:
                    continue
                value = value_of(metric.raw, metric.born.datatype)
                about = f"{command.device}:{metric.name}"
                times = sum(n > command.number and (a, v) == (about, value) for n, a, v in written)
                wanted = int(obeyed)
                problem = None if times == wanted else f"{about} = {value!r} was written {times} times"
                yield Verdict(command.number, problem)


@proves("topics-dcmd-topic", "operational-behavior-data-commands-dcmd-verb")
def device_commands_are_taken_from_their_topic(story: Story) -> Iterator[Verdict]:
    return _writes(story, obeyed=True)
