"""What a birth has to say: completeness, values, order, templates, and that births come first. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.sparkplug.checks_session import BDSEQ, bdseq_of
from tests.conformance.sparkplug.decoder import BOOLEAN, INT64, TEMPLATE, wrong_value
from tests.conformance.sparkplug.judging import Verdict, proves
from tests.conformance.sparkplug.story import BIRTHS, DATA, LOST, RESTORED, Message, Session, Story

REBIRTH = "Node Control/Rebirth"

#: A message is stamped when it is sent; a busy machine may take this long between the two, in milliseconds.
#: What it tells from UTC is at least a quarter of an hour away, as local times are.
SENDING_MS_MAX = 60_000


def _readable(story: Story, kind: str) -> Iterator[Verdict]:
    for message in story.of(kind):
        yield Verdict(message.number, message.broken or None)


@proves("message-flow-edge-node-birth-publish-nbirth-payload")
def nbirth_is_a_payload(story: Story) -> Iterator[Verdict]:
    return _readable(story, "NBIRTH")


@proves("message-flow-device-birth-publish-dbirth-payload")
def dbirth_is_a_payload(story: Story) -> Iterator[Verdict]:
    return _readable(story, "DBIRTH")


@proves(
    "topics-nbirth-seq-num",
    "payloads-nbirth-seq",
    "payloads-sequence-num-req-nbirth",
    "payloads-sequence-num-zero-nbirth",
    "message-flow-edge-node-birth-publish-nbirth-payload-seq",
)
def nbirth_has_seq_0(story: Story) -> Iterator[Verdict]:
    for message in story.of("NBIRTH"):
        yield Verdict(message.number, None if message.seq == 0 else f"NBIRTH has seq {message.seq}")


def sent_at(message: Message) -> str | None:
    """What is wrong with the time a message says it was sent."""
    if message.payload is None or not message.payload.HasField("timestamp"):
        return f"{message.kind} has no timestamp"
    off_ms = message.payload.timestamp - message.packet.at_ms
    return None if abs(off_ms) <= SENDING_MS_MAX else f"stamped {off_ms:.0f} ms from when it was sent"


@proves("topics-nbirth-timestamp", "payloads-nbirth-timestamp")
def nbirth_is_stamped(story: Story) -> Iterator[Verdict]:
    for message in story.of("NBIRTH"):
        yield Verdict(message.number, sent_at(message))


@proves("topics-dbirth-timestamp", "payloads-dbirth-timestamp")
def dbirth_is_stamped(story: Story) -> Iterator[Verdict]:
    for message in story.of("DBIRTH"):
        yield Verdict(message.number, sent_at(message))


def _all_were_born(story: Story, kind: str) -> Iterator[Verdict]:
    for message in story.of(kind):
        unborn = [metric.name for metric in message.metrics if metric.born is None]
        yield Verdict(message.number, f"never born: {unborn[:3]}" if unborn else None)


@proves("topics-nbirth-metric-reqs", "operational-behavior-data-publish-nbirth")
def nbirth_had_every_metric_of_ndata(story: Story) -> Iterator[Verdict]:
    return _all_were_born(story, "NDATA")


@proves("topics-dbirth-metric-reqs", "operational-behavior-data-publish-dbirth")
def dbirth_had_every_metric_of_ddata(story: Story) -> Iterator[Verdict]:
    return _all_were_born(story, "DDATA")


def _defined(story: Story, kind: str) -> Iterator[Verdict]:
    """Name, data type, and a value of it unless null."""
    for message in story.of(kind):
        for metric in message.metrics:
            raw = metric.raw
            problem = None
            if not raw.name or not raw.HasField("datatype"):
                problem = f"{metric.name!r} lacks its name or data type"
            elif not raw.is_null and (wrong := wrong_value(raw, raw.datatype)):
                problem = f"{metric.name}: {wrong}"
            yield Verdict(message.number, problem)


@proves("topics-nbirth-metrics")
def nbirth_metrics_have_name_type_and_value(story: Story) -> Iterator[Verdict]:
    return _defined(story, "NBIRTH")


@proves("topics-dbirth-metrics")
def dbirth_metrics_have_name_type_and_value(story: Story) -> Iterator[Verdict]:
    return _defined(story, "DBIRTH")


def _nulls(story: Story, *kinds: str) -> Iterator[Verdict]:
    """A value, or said to be null; never both, never neither."""
    for message in story.of(*kinds):
        for metric in message.metrics:
            has = metric.raw.WhichOneof("value") is not None
            right = has != metric.raw.is_null
            said = "null and a value" if has else "neither null nor a value"
            yield Verdict(message.number, None if right else f"{metric.name} has {said}")


@proves("operational-behavior-data-publish-nbirth-values")
def node_metrics_have_a_value_or_are_null(story: Story) -> Iterator[Verdict]:
    return _nulls(story, "NBIRTH", "NDATA")


@proves("operational-behavior-data-publish-dbirth-values")
def device_metrics_have_a_value_or_are_null(story: Story) -> Iterator[Verdict]:
    return _nulls(story, "DBIRTH", "DDATA")


def _chronological(story: Story, *kinds: str) -> Iterator[Verdict]:
    """Times of what is not historical do not go back: in a payload, and of the values of a metric.

    The second is our reading: a value that is older than the one before would undo it. Null has no time.
    """
    for session in story.sessions:
        newest: dict[tuple[str, str], int] = {}
        for message in session.of(*kinds):
            problem, last = None, 0
            for metric in message.metrics:
                if metric.raw.is_historical:
                    continue
                at, key = metric.raw.timestamp, (message.device, metric.name)
                if at < last:
                    problem = f"{metric.name} is {last - at} ms older than the metric before it"
                elif at < newest.get(key, 0) and message.kind in DATA:
                    problem = f"{metric.name} goes {newest[key] - at} ms back and is not historical"
                last = max(last, at)
                newest[key] = newest.get(key, 0) if metric.raw.is_null else at
            yield Verdict(message.number, problem)


@proves("operational-behavior-data-publish-nbirth-order")
def node_metrics_are_in_order_of_time(story: Story) -> Iterator[Verdict]:
    return _chronological(story, "NBIRTH", "NDATA")


@proves("operational-behavior-data-publish-dbirth-order")
def device_metrics_are_in_order_of_time(story: Story) -> Iterator[Verdict]:
    return _chronological(story, "DBIRTH", "DDATA")


@proves(
    "topics-nbirth-bdseq-included",
    "payloads-nbirth-bdseq",
    "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
)
def nbirth_has_bdseq(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        for birth in session.of("NBIRTH"):
            metric, number = birth.metric(BDSEQ), bdseq_of(birth)
            right = metric is not None and metric.raw.datatype == INT64 and number == bdseq_of(session.will)
            yield Verdict(birth.number, None if right else f"bdSeq is {number}")


@proves(
    "topics-nbirth-rebirth-metric",
    "payloads-nbirth-rebirth-req",
    "operational-behavior-data-commands-rebirth-name",
    "operational-behavior-data-commands-rebirth-datatype",
    "operational-behavior-data-commands-rebirth-value",
)
def nbirth_offers_rebirth(story: Story) -> Iterator[Verdict]:
    for birth in story.of("NBIRTH"):
        metric = birth.metric(REBIRTH)
        right = metric is not None and metric.raw.datatype == BOOLEAN and metric.value is False
        yield Verdict(birth.number, None if right else f"no {REBIRTH}, Boolean, false")


@proves("operational-behavior-data-commands-rebirth-name-aliases")
def rebirth_has_no_alias(story: Story) -> Iterator[Verdict]:
    for birth in story.of("NBIRTH"):
        metric = birth.metric(REBIRTH)
        if metric is not None:
            has = metric.raw.HasField("alias")
            yield Verdict(birth.number, f"{REBIRTH} has alias {metric.raw.alias}" if has else None)


@proves("message-flow-device-birth-publish-nbirth-wait")
def dbirth_comes_after_nbirth(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        first = next((message.number for message in session.of("NBIRTH")), None)
        for birth in session.of("DBIRTH"):
            right = first is not None and first < birth.number
            yield Verdict(birth.number, None if right else f"{birth.device} is born before its edge node")


def alive_by_session(story: Story) -> Iterator[tuple[Session, list[Message], set[str]]]:
    """Each birth sequence, and the devices that were up before it: born, not died, link not noted as lost."""
    up: dict[str, set[str]] = {}
    notes = list(story.noted(LOST, RESTORED))
    done = 0
    for session in sorted(story.sessions, key=lambda one: one.packets[0].number):
        for sequence in session.sequences():
            devices = up.setdefault(session.node, set())
            while done < len(notes) and notes[done][0].number < sequence[0].number:
                if notes[done][1].what == LOST:
                    devices.discard(notes[done][1].about)
                done += 1
            yield session, sequence, set(devices)
            for message in sequence:
                if message.kind == "DBIRTH":
                    devices.add(message.device)
                elif message.kind == "DDEATH":
                    devices.discard(message.device)


def _births_first(story: Story, kind: str) -> Iterator[Verdict]:
    """A message comes after the births of everything that is up, and of its own device."""
    restored = [(packet.number, note.about) for packet, note in story.noted(RESTORED)]
    for session in story.sessions:
        before = [message for message in session.of(kind) if not session.of("NBIRTH")]
        for message in before:
            yield Verdict(message.number, f"{kind} without a birth")
    for _, sequence, up in alive_by_session(story):
        born: set[str] = set()
        missing = set(up)
        for place, message in enumerate(sequence):
            if message.kind == "DBIRTH":
                born.add(message.device)
                missing.discard(message.device)
            elif message.kind == "DDEATH":
                born.discard(message.device)
                missing.discard(message.device)
            elif message.kind == kind:
                problem = None
                lost = {note.about for p, note in story.noted(LOST) if p.number < message.number}
                if missing - lost:
                    problem = f"{kind} before the birth of {sorted(missing - lost)}"
                elif kind == "DDATA" and message.device not in born:
                    problem = f"DDATA of {message.device}, which is not born"
                yield Verdict(message.number, problem)
            if kind == "DBIRTH" and message.kind == "DBIRTH":
                yield Verdict(message.number, _late_birth(sequence, place, message, up, restored))


def _late_birth(
    sequence: list[Message], place: int, message: Message, up: set[str], restored: list[tuple[int, str]]
) -> str | None:
    """Why a DBIRTH after DATA is wrong; it is right for a device that was away, or that has changed."""
    earlier = sequence[1:place]
    data = next((m for m in earlier if m.kind in DATA), None)
    if data is None or message.device not in up:
        return None
    again = any(m.device == message.device and m.kind in ("DBIRTH", "DDEATH") for m in earlier)
    back = any(number > sequence[0].number and name == message.device for number, name in restored)
    return None if again or back else f"{message.device} is born only after {data.kind} {data.number}"


@proves("payloads-dbirth-order")
def dbirths_follow_nbirth_before_data(story: Story) -> Iterator[Verdict]:
    return _births_first(story, "DBIRTH")


@proves("payloads-ndata-order")
def ndata_comes_after_all_births(story: Story) -> Iterator[Verdict]:
    return _births_first(story, "NDATA")


@proves("payloads-ddata-order")
def ddata_comes_after_all_births(story: Story) -> Iterator[Verdict]:
    return _births_first(story, "DDATA")


def definitions(birth: Message) -> dict[str, Message]:
    """The template definitions of an NBIRTH by name."""
    return {
        metric.name: metric.raw.template_value
        for metric in birth.metrics
        if metric.raw.datatype == TEMPLATE and metric.raw.template_value.is_definition
    }


@proves("topics-nbirth-templates", "payloads-template-definition-nbirth")
def every_instance_has_its_definition_in_nbirth(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        for sequence in session.sequences():
            known = definitions(sequence[0])
            for message in sequence:
                for metric in message.metrics:
                    template = metric.raw.template_value
                    if metric.raw.HasField("template_value") and not template.is_definition:
                        right = template.template_ref in known
                        problem = None if right else f"no definition of {template.template_ref!r}"
                        yield Verdict(message.number, problem)


@proves("payloads-template-definition-nbirth-only")
def definitions_are_in_nbirth_only(story: Story) -> Iterator[Verdict]:
    for message in story.of(*BIRTHS, *DATA):
        for metric in message.metrics:
            if metric.raw.HasField("template_value") and metric.raw.template_value.is_definition:
                problem = None if message.kind == "NBIRTH" else f"{message.kind} defines {metric.name}"
                yield Verdict(message.number, problem)
