"""The rest of the seeds: at least one for every check, so that each is seen to find something. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.conformance.sparkplug import decoder
from tests.conformance.sparkplug.checks_births import alive_by_session
from tests.conformance.sparkplug.seeds import (
    SEEDS,
    caught_by,
    connects,
    each,
    headers,
    publishes,
    replaced,
    will_payloads,
    wills,
)
from tests.conformance.sparkplug.story import BIRTHS, DATA, LOST, WRITTEN, Message, Session, Story, Transcript
from tests.conformance.sparkplug.wire import (
    Body,
    Closed,
    Connack,
    Disconnect,
    Note,
    Packet,
    Publish,
    Subscribe,
)

__all__ = ["SEEDS"]

_GARBAGE = b"\xff\xff\xff\xff"


# --- tools


def _drop(transcript: Transcript, which: Callable[[Packet], bool]) -> Transcript:
    return replaced(transcript, {packet.number: None for packet in transcript.packets if which(packet)})


def _topics(
    transcript: Transcript, kinds: Iterable[str], old: str, new: str, *, first: int = 1 << 30
) -> Transcript:
    changed: dict[int, Packet | None] = {}
    for message in Story(transcript).of(*kinds)[:first]:
        topic = message.publish.topic.replace(old, new)
        changed[message.number] = message.packet._replace(body=message.publish._replace(topic=topic))
    return replaced(transcript, changed)


def _sessions(transcript: Transcript) -> list[Session]:
    return Story(transcript).sessions


def _swapped(transcript: Transcript, one: Message | None, other: Message | None) -> Transcript:
    """Two messages change places; nothing else of them does."""
    if one is None or other is None:
        return transcript
    here = one.packet._replace(body=other.packet.body)
    there = other.packet._replace(body=one.packet.body)
    return replaced(transcript, {one.number: here, other.number: there})


def _first(messages: Iterable[Message]) -> Message | None:
    return next(iter(messages), None)


def _bodies(transcript: Transcript, kind: type, edit: Callable[[Any], Body]) -> Transcript:
    changed: dict[int, Packet | None] = {
        packet.number: packet._replace(body=edit(packet.body))
        for packet in transcript.packets
        if isinstance(packet.body, kind)
    }
    return replaced(transcript, changed)


def _raw(transcript: Transcript, kind: str, change: Callable[[Any], None], **more: Any) -> Transcript:
    """Every metric of these messages, edited."""
    return publishes(transcript, (kind,), each(change, **more))


def _is_template(raw: Any) -> bool:
    return bool(raw.HasField("template_value"))


def _has_properties(raw: Any) -> bool:
    return bool(raw.HasField("properties"))


# --- topics and ids


@caught_by("intro-group-id-string", "intro-group-id-chars", "topic-structure-namespace-valid-group-id")
def a_group_with_a_wildcard(transcript: Transcript) -> Transcript:
    return _topics(transcript, (*BIRTHS, *DATA), "/acme/", "/ac+me/")


@caught_by("intro-edge-node-id-string", "topic-structure-namespace-valid-edge-node-id")
def an_edge_node_with_a_wildcard(transcript: Transcript) -> Transcript:
    return _topics(transcript, (*BIRTHS, *DATA), "/line-1", "/line#1")


@caught_by("intro-device-id-string", "topic-structure-namespace-valid-device-id")
def a_device_with_a_wildcard(transcript: Transcript) -> Transcript:
    return _topics(transcript, ("DBIRTH", "DDATA"), "/filler", "/fil+ler")


@caught_by(
    "intro-edge-node-id-uniqueness",
    "operational-behavior-primary-application-state-with-multiple-servers-single-server",
)
def connections_are_not_given_up(transcript: Transcript) -> Transcript:
    return _drop(transcript, lambda packet: isinstance(packet.body, Closed))


@caught_by("topic-structure-namespace-unique-device-id")
def two_devices_have_one_id(transcript: Transcript) -> Transcript:
    return _topics(transcript, ("DBIRTH",), "/oven", "/filler")


@caught_by("topic-structure-namespace-a")
def another_namespace(transcript: Transcript) -> Transcript:
    return _topics(transcript, ("NDATA", "DDATA"), "spBv1.0", "spAv1.0")


@caught_by("topic-structure", "topics-ddata-topic")
def a_level_too_many(transcript: Transcript) -> Transcript:
    return _topics(transcript, ("DDATA",), "/filler", "/filler/speed")


@caught_by("topic-structure-namespace-device-id-associated-message-types")
def a_device_message_without_device(transcript: Transcript) -> Transcript:
    return _topics(transcript, ("DDATA",), "/filler", "")


@caught_by("topic-structure-namespace-device-id-non-associated-message-types", "topics-ndata-topic")
def a_node_message_with_a_device(transcript: Transcript) -> Transcript:
    return _topics(transcript, ("NDATA",), "/line-1", "/line-1/filler")


@caught_by("case-sensitivity-sparkplug-ids")
def a_device_in_capitals(transcript: Transcript) -> Transcript:
    return _topics(transcript, ("DBIRTH",), "/filler", "/FILLER", first=1)


@caught_by("case-sensitivity-metric-names")
def a_metric_in_capitals(transcript: Transcript) -> Transcript:
    def twice(payload: Any) -> None:
        payload.metrics.add().CopyFrom(payload.metrics[0])
        payload.metrics[-1].name = payload.metrics[0].name.upper()

    return publishes(transcript, ("DBIRTH",), twice)


@caught_by("message-flow-device-birth-publish-dbirth-match-edge-node-topic", "topics-dbirth-topic")
def a_device_of_another_edge_node(transcript: Transcript) -> Transcript:
    return _topics(transcript, ("DBIRTH",), "/line-1/", "/line-2/")


@caught_by("topics-ndata-mqtt", "payloads-ndata-retain")
def ndata_is_retained(transcript: Transcript) -> Transcript:
    return headers(transcript, "NDATA", retain=True)


@caught_by("topics-ddata-mqtt", "payloads-ddata-qos")
def ddata_has_qos_1(transcript: Transcript) -> Transcript:
    return headers(transcript, "DDATA", qos=1)


# --- the session


@caught_by("principles-birth-certificates-order")
def the_first_birth_is_lost(transcript: Transcript) -> Transcript:
    births = [message.number for session in _sessions(transcript) for message in session.of("NBIRTH")[:1]]
    return _drop(transcript, lambda packet: packet.number in births)


@caught_by("message-flow-edge-node-birth-publish-phid-wait-timestamp")
def an_old_word_of_the_host_is_enough(transcript: Transcript) -> Transcript:
    """The word on account of which it was born is lost; an older one was there."""
    if transcript.facts.primary_host is None:
        return transcript
    changed: dict[int, Packet | None] = {}
    for session in _sessions(transcript):
        for birth in session.of("NBIRTH")[:1]:
            words = [m for m in session.heard if m.kind == "STATE" and m.number < birth.number]
            online = [m for m in words if b'"online": true' in m.publish.payload]
            if len(online) > 1:
                changed[online[-1].number] = None
    return replaced(transcript, changed)


@caught_by("principles-persistence-clean-session-311", "principles-persistence-clean-session-50")
def sessions_are_kept(transcript: Transcript) -> Transcript:
    return connects(transcript, lambda _, connect: connect._replace(clean=False))


@caught_by("principles-persistence-clean-session-50")
def sessions_outlive_connections(transcript: Transcript) -> Transcript:
    return connects(transcript, lambda _, connect: connect._replace(session_expiry_s=60))


@caught_by("message-flow-edge-node-birth-publish-connect")
def births_before_the_answer(transcript: Transcript) -> Transcript:
    return _drop(transcript, lambda packet: isinstance(packet.body, Connack))


@caught_by("topics-ndeath-topic", "message-flow-edge-node-birth-publish-will-message-topic")
def the_death_of_somebody_else(transcript: Transcript) -> Transcript:
    return wills(transcript, lambda _, will: will._replace(topic="spBv1.0/acme/NDEATH/line-9"))


@caught_by("message-flow-edge-node-birth-publish-will-message-payload")
def a_will_in_json(transcript: Transcript) -> Transcript:
    return wills(transcript, lambda _, will: will._replace(payload=b'{"bdSeq": 0}'))


@caught_by("topics-ndeath-payload")
def ndeath_says_more(transcript: Transcript) -> Transcript:
    def more(_: int, payload: Any) -> None:
        payload.metrics.add(name="Reason", datatype=decoder.STRING, string_value="gone")

    return will_payloads(transcript, more)


@caught_by("operational-behavior-edge-node-intentional-disconnect-packet")
def it_speaks_after_its_death(transcript: Transcript) -> Transcript:
    for session in _sessions(transcript):
        for death in session.of("NDEATH"):
            before = [message for message in session.of("DDATA") if message.number < death.number]
            if before:
                return _swapped(transcript, death, before[-1])
    return transcript


@caught_by(
    "operational-behavior-primary-application-state-with-multiple-servers-state-subs",
    "message-flow-device-dcmd-subscribe",
)
def only_ncmd_is_subscribed(transcript: Transcript) -> Transcript:
    return _bodies(transcript, Subscribe, lambda body: body._replace(filters=body.filters[:1]))


# --- births


@caught_by("message-flow-edge-node-birth-publish-nbirth-payload")
def an_nbirth_of_noise(transcript: Transcript) -> Transcript:
    return headers(transcript, "NBIRTH", payload=_GARBAGE)


@caught_by("message-flow-device-birth-publish-dbirth-payload")
def a_dbirth_of_noise(transcript: Transcript) -> Transcript:
    return headers(transcript, "DBIRTH", payload=_GARBAGE)


@caught_by(
    "topics-nbirth-metric-reqs", "operational-behavior-data-publish-nbirth", "payloads-name-requirement"
)
def ndata_of_a_metric_nobody_knows(transcript: Transcript) -> Transcript:
    return _raw(transcript, "NDATA", lambda raw: setattr(raw, "alias", 4711))


@caught_by("topics-nbirth-metrics", "operational-behavior-data-publish-nbirth-values")
def a_node_metric_without_a_value(transcript: Transcript) -> Transcript:
    return _raw(transcript, "NBIRTH", lambda raw: raw.ClearField("boolean_value"))


@caught_by("message-flow-device-birth-publish-nbirth-wait")
def a_dbirth_before_the_nbirth(transcript: Transcript) -> Transcript:
    session = _sessions(transcript)[0]
    return _swapped(transcript, _first(session.of("NBIRTH")), _first(session.of("DBIRTH")))


@caught_by("payloads-ndata-order")
def ndata_before_the_births(transcript: Transcript) -> Transcript:
    """What was said before a rebirth is said in the middle of it, before a living device is born again."""
    story = Story(transcript)
    lost = [(packet.number, note.about) for packet, note in story.noted(LOST)]
    for session, sequence, up in alive_by_session(story):
        data = [message for message in session.of("NDATA") if message.number < sequence[0].number]
        births = [
            message
            for message in sequence
            if message.kind == "DBIRTH"
            and message.device in up
            and not any(about == message.device for number, about in lost if number < message.number)
        ]
        if data and births:
            return _swapped(transcript, data[-1], births[0])
    return transcript


@caught_by(
    "payloads-template-definition-nbirth-only",
    "payloads-template-instance-is-definition",
    "payloads-template-is-definition-instance",
)
def every_template_is_a_definition(transcript: Transcript) -> Transcript:
    def define(raw: Any) -> None:
        raw.template_value.is_definition = True

    return publishes(transcript, ("DBIRTH", "DDATA"), each(define, _is_template))


@caught_by("payloads-template-is-definition")
def templates_do_not_say_what_they_are(transcript: Transcript) -> Transcript:
    return publishes(
        transcript,
        (*BIRTHS, *DATA),
        each(lambda raw: raw.template_value.ClearField("is_definition"), _is_template),
    )


@caught_by("payloads-template-definition-is-definition", "payloads-template-is-definition-definition")
def a_definition_passes_for_an_instance(transcript: Transcript) -> Transcript:
    return publishes(
        transcript,
        ("NBIRTH",),
        each(lambda raw: setattr(raw.template_value, "is_definition", False), _is_template),
    )


@caught_by("payloads-template-definition-ref", "payloads-template-ref-definition")
def a_definition_refers_to_itself(transcript: Transcript) -> Transcript:
    return publishes(
        transcript,
        ("NBIRTH",),
        each(lambda raw: setattr(raw.template_value, "template_ref", raw.name), _is_template),
    )


@caught_by("payloads-template-version")
def a_definition_has_no_version(transcript: Transcript) -> Transcript:
    return publishes(
        transcript, ("NBIRTH",), each(lambda raw: raw.template_value.ClearField("version"), _is_template)
    )


@caught_by("payloads-template-parameter-name-required", "payloads-template-definition-parameters")
def a_template_has_a_parameter(transcript: Transcript) -> Transcript:
    def parameter(raw: Any) -> None:
        raw.template_value.parameters.add(type=decoder.STRING, string_value="x")

    return publishes(transcript, ("NBIRTH",), each(parameter, _is_template))


@caught_by("payloads-template-definition-members", "payloads-template-instance-members")
def an_instance_has_a_member_of_its_own(transcript: Transcript) -> Transcript:
    def member(raw: Any) -> None:
        raw.template_value.metrics.add(name="Extra", datatype=decoder.STRING, string_value="x")

    return publishes(transcript, ("DBIRTH", "DDATA"), each(member, _is_template))


@caught_by("payloads-dataset-types-num", "payloads-dataset-column-size")
def a_data_set_is_sent(transcript: Transcript) -> Transcript:
    def table(payload: Any) -> None:
        payload.metrics.add(name="Table", datatype=decoder.DATASET).dataset_value.num_of_columns = 1

    return publishes(transcript, ("DBIRTH",), table)


# --- metrics


@caught_by("operational-behavior-data-publish-nbirth-change", "principles-rbe-recommended")
def a_node_metric_is_said_again(transcript: Transcript) -> Transcript:
    return publishes(
        transcript,
        ("NDATA", "NBIRTH"),
        each(lambda raw: setattr(raw, "boolean_value", False), lambda raw: raw.HasField("boolean_value")),
    )


@caught_by("payloads-metric-datatype-not-req")
def data_says_its_types(transcript: Transcript) -> Transcript:
    return _raw(transcript, "DDATA", lambda raw: setattr(raw, "datatype", 10))


@caught_by("payloads-propertyset-keys-array-size", "payloads-propertyset-values-array-size")
def a_property_without_a_value(transcript: Transcript) -> Transcript:
    return publishes(
        transcript,
        (*BIRTHS, *DATA),
        each(lambda raw: raw.properties.keys.append("Note"), _has_properties),
    )


@caught_by("payloads-metric-propertyvalue-type-req", "payloads-propertyset-quality-value-type")
def properties_without_types(transcript: Transcript) -> Transcript:
    def bare(raw: Any) -> None:
        for value in raw.properties.values:
            value.ClearField("type")

    return publishes(transcript, (*BIRTHS, *DATA), each(bare, _has_properties))


# --- commands


@caught_by(
    "topics-ncmd-topic",
    "payloads-name-cmd-requirement",
    "payloads-ncmd-seq",
    "operational-behavior-data-commands-ncmd-rebirth-verb",
    "operational-behavior-data-commands-rebirth-action-1",
    "operational-behavior-data-commands-rebirth-action-2",
)
def rebirths_are_refused(transcript: Transcript) -> Transcript:
    changed: dict[int, Packet | None] = {}
    for session in _sessions(transcript):
        for sequence in list(session.sequences())[1:]:
            for message in sequence:
                if message.kind not in BIRTHS:
                    break
                changed[message.number] = None
    return replaced(transcript, changed)


@caught_by("operational-behavior-data-commands-ncmd-metric-name")
def garbage_ends_the_session(transcript: Transcript) -> Transcript:
    changed: dict[int, Packet | None] = {}
    for session in _sessions(transcript):
        for command in session.heard:
            if command.kind == "NCMD" and command.payload is None and not changed:
                for packet in session.packets:
                    if packet.number > command.number:
                        soon = packet._replace(at_ms=command.packet.at_ms + 5)
                        changed[packet.number] = soon if isinstance(packet.body, Closed) else None
    return replaced(transcript, changed)


@caught_by("topics-dcmd-topic", "operational-behavior-data-commands-dcmd-verb")
def writes_do_not_arrive(transcript: Transcript) -> Transcript:
    return _drop(transcript, lambda packet: isinstance(packet.body, Note) and packet.body.what == WRITTEN)


# --- the host


@caught_by(
    "message-flow-edge-node-birth-publish-phid-wait-id", "message-flow-edge-node-birth-publish-phid-wait"
)
def any_host_will_do(transcript: Transcript) -> Transcript:
    own = f"spBv1.0/STATE/{transcript.facts.primary_host}"
    return _drop(
        transcript,
        lambda packet: (
            isinstance(packet.body, Publish) and packet.body.topic == own and b"true" in packet.body.payload
        ),
    )


@caught_by(
    "operational-behavior-edge-node-termination-host-offline",
    "message-flow-edge-node-birth-publish-phid-offline",
)
def it_stays_without_its_host(transcript: Transcript) -> Transcript:
    if transcript.facts.primary_host is None:
        return transcript
    first = _sessions(transcript)[0].number
    return _drop(
        transcript,
        lambda packet: (
            packet.connection == first
            and (
                isinstance(packet.body, Closed | Disconnect)
                or (isinstance(packet.body, Publish) and "/NDEATH/" in packet.body.topic)
            )
        ),
    )
