"""Protocol bugs, put into a record that is right: what an edge node with such a bug would send. Pure.

Each seed changes a record as little as the bug would and names ids that have to be violated by it. It works
on records written by hand and on recorded ones alike; where there is nothing to change it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from tests.conformance.sparkplug import decoder
from tests.conformance.sparkplug.checks_births import REBIRTH
from tests.conformance.sparkplug.story import BIRTHS, DATA, Message, Story, Transcript
from tests.conformance.sparkplug.wire import Connect, Disconnect, Packet, Publish, Subscribe

Change = Callable[[Transcript], Transcript]
Edit = Callable[[Any], None]


class Seed(NamedTuple):
    """A bug, and the ids it has to be caught by."""

    name: str
    change: Change
    ids: frozenset[str]


SEEDS: dict[str, Seed] = {}


def caught_by(*ids: str) -> Callable[[Change], Change]:
    """Enters a seed."""

    def enter(change: Change) -> Change:
        SEEDS[change.__name__] = Seed(change.__name__, change, frozenset(ids))
        return change

    return enter


# --- tools


def replaced(transcript: Transcript, changed: dict[int, Packet | None]) -> Transcript:
    """Packets replaced by number, or left out."""
    found = (changed.get(packet.number, packet) for packet in transcript.packets)
    return replace(transcript, packets=tuple(packet for packet in found if packet is not None))


def _payload(message: Message, edit: Edit) -> Packet:
    payload = decoder.decode(message.publish.payload)
    edit(payload)
    body = message.publish._replace(payload=payload.SerializeToString())
    return message.packet._replace(body=body)


def publishes(
    transcript: Transcript, kinds: Iterable[str], edit: Edit, *, at_most: int = 1 << 30
) -> Transcript:
    """The payloads of the last messages of these kinds, edited."""
    chosen = Story(transcript).of(*kinds)[-at_most:]
    return replaced(transcript, {message.number: _payload(message, edit) for message in chosen})


def headers(transcript: Transcript, kind: str, **more: Any) -> Transcript:
    changed: dict[int, Packet | None] = {
        message.number: message.packet._replace(body=message.publish._replace(**more))
        for message in Story(transcript).of(kind)
    }
    return replaced(transcript, changed)


def connects(transcript: Transcript, edit: Callable[[int, Connect], Connect]) -> Transcript:
    changed: dict[int, Packet | None] = {}
    for packet in transcript.packets:
        if isinstance(packet.body, Connect):
            changed[packet.number] = packet._replace(body=edit(len(changed), packet.body))
    return replaced(transcript, changed)


def wills(transcript: Transcript, edit: Callable[[int, Publish], Publish]) -> Transcript:
    return connects(
        transcript,
        lambda place, connect: connect._replace(will=edit(place, connect.will) if connect.will else None),
    )


def will_payloads(transcript: Transcript, edit: Callable[[int, Any], None]) -> Transcript:
    def change(place: int, will: Publish) -> Publish:
        payload = decoder.decode(will.payload)
        edit(place, payload)
        return will._replace(payload=payload.SerializeToString())

    return wills(transcript, change)


def _bdseq(payload: Any, number: int) -> None:
    for raw in payload.metrics:
        if raw.name == "bdSeq":
            raw.long_value = number


def each(edit: Edit, only: Callable[[Any], bool] = lambda raw: True) -> Edit:
    """Edits all metrics that are meant."""

    def all_of(payload: Any) -> None:
        for raw in payload.metrics:
            if only(raw):
                edit(raw)

    return all_of


# --- numbers


@caught_by("topics-nbirth-seq-num", "payloads-sequence-num-zero-nbirth", "payloads-nbirth-seq")
def seq_is_not_reset_at_nbirth(transcript: Transcript) -> Transcript:
    def all_later(payload: Any) -> None:
        payload.seq = (payload.seq + 7) % 256

    return publishes(transcript, (*BIRTHS, *DATA, "DDEATH"), all_later)


@caught_by("payloads-sequence-num-incrementing", "payloads-ddata-seq-inc", "topics-ddata-seq-num")
def seq_skips_a_number(transcript: Transcript) -> Transcript:
    def skip(payload: Any) -> None:
        payload.seq = (payload.seq + 1) % 256

    return publishes(transcript, ("DDATA",), skip, at_most=1)


@caught_by("payloads-sequence-num-incrementing", "payloads-sequence-num-always-included")
def seq_does_not_wrap_at_255(transcript: Transcript) -> Transcript:
    changed: dict[int, Packet | None] = {}
    for session in Story(transcript).sessions:
        for sequence in session.sequences():
            for place, message in enumerate(m for m in sequence if m.kind != "NDEATH"):

                def count(payload: Any, place: int = place) -> None:
                    payload.seq = place

                changed[message.number] = _payload(message, count)
    return replaced(transcript, changed)


@caught_by("payloads-sequence-num-incrementing", "payloads-dbirth-seq-inc")
def each_device_counts_for_itself(transcript: Transcript) -> Transcript:
    changed: dict[int, Packet | None] = {}
    for session in Story(transcript).sessions:
        counts: dict[str, int] = {}
        for message in session.of(*BIRTHS, *DATA, "DDEATH"):
            if message.kind == "NBIRTH":
                counts.clear()
            counts[message.device] = counts.get(message.device, -1) + 1

            def count(payload: Any, number: int = counts[message.device] % 256) -> None:
                payload.seq = number

            changed[message.number] = _payload(message, count)
    return replaced(transcript, changed)


@caught_by("payloads-sequence-num-always-included", "payloads-ddeath-seq", "payloads-ddeath-seq-number")
def ddeath_without_seq(transcript: Transcript) -> Transcript:
    return publishes(transcript, ("DDEATH",), lambda payload: payload.ClearField("seq"))


@caught_by("topics-ndeath-seq", "payloads-ndeath-seq")
def ndeath_with_seq(transcript: Transcript) -> Transcript:
    return will_payloads(transcript, lambda _, payload: setattr(payload, "seq", 0))


@caught_by("operational-behavior-data-commands-rebirth-action-3", "topics-nbirth-bdseq-matching")
def bdseq_changes_with_a_rebirth(transcript: Transcript) -> Transcript:
    changed: dict[int, Packet | None] = {}
    for session in Story(transcript).sessions:
        for place, birth in enumerate(session.of("NBIRTH")):

            def rise(payload: Any, place: int = place) -> None:
                _bdseq(
                    payload, (next(r for r in payload.metrics if r.name == "bdSeq").long_value + place) % 256
                )

            changed[birth.number] = _payload(birth, rise)
    return replaced(transcript, changed)


@caught_by("topics-nbirth-bdseq-increment", "message-flow-edge-node-birth-publish-will-message-payload-bdSeq")
def bdseq_does_not_rise_with_a_connect(transcript: Transcript) -> Transcript:
    same = will_payloads(transcript, lambda _, payload: _bdseq(payload, 0))
    return publishes(same, ("NBIRTH", "NDEATH"), lambda payload: _bdseq(payload, 0))


@caught_by("topics-nbirth-bdseq-increment")
def bdseq_begins_at_one(transcript: Transcript) -> Transcript:
    def rise(payload: Any) -> None:
        _bdseq(payload, (next(r for r in payload.metrics if r.name == "bdSeq").long_value + 1) % 256)

    later = will_payloads(transcript, lambda _, payload: rise(payload))
    return publishes(later, ("NBIRTH", "NDEATH"), rise)


# --- the session


@caught_by("message-flow-edge-node-birth-publish-will-message", "payloads-ndeath-will-message")
def no_will(transcript: Transcript) -> Transcript:
    return connects(transcript, lambda _, connect: connect._replace(will=None))


@caught_by("message-flow-edge-node-birth-publish-will-message-qos", "payloads-ndeath-will-message-qos")
def the_will_has_qos_0(transcript: Transcript) -> Transcript:
    return wills(transcript, lambda _, will: will._replace(qos=0))


@caught_by(
    "message-flow-edge-node-birth-publish-will-message-will-retained", "payloads-ndeath-will-message-retain"
)
def the_will_is_retained(transcript: Transcript) -> Transcript:
    return wills(transcript, lambda _, will: will._replace(retain=True))


@caught_by("message-flow-edge-node-ncmd-subscribe")
def ncmd_is_subscribed_with_qos_0(transcript: Transcript) -> Transcript:
    changed: dict[int, Packet | None] = {}
    for packet in transcript.packets:
        if isinstance(packet.body, Subscribe):
            filters = tuple((topic, 0) for topic, _ in packet.body.filters)
            changed[packet.number] = packet._replace(body=packet.body._replace(filters=filters))
    return replaced(transcript, changed)


@caught_by(
    "operational-behavior-edge-node-intentional-disconnect-ndeath", "payloads-ndeath-will-message-publisher"
)
def it_leaves_without_ndeath(transcript: Transcript) -> Transcript:
    return replaced(transcript, {message.number: None for message in Story(transcript).of("NDEATH")})


@caught_by("payloads-ndeath-will-message-publisher-disconnect-mqtt50")
def it_leaves_with_reason_0(transcript: Transcript) -> Transcript:
    changed: dict[int, Packet | None] = {
        packet.number: packet._replace(body=Disconnect(0))
        for packet in transcript.packets
        if packet.up and isinstance(packet.body, Disconnect)
    }
    return replaced(transcript, changed)


# --- births


@caught_by("topics-nbirth-mqtt", "payloads-nbirth-retain")
def nbirth_is_retained(transcript: Transcript) -> Transcript:
    return headers(transcript, "NBIRTH", retain=True)


@caught_by("topics-dbirth-mqtt", "payloads-dbirth-qos")
def dbirth_has_qos_1(transcript: Transcript) -> Transcript:
    return headers(transcript, "DBIRTH", qos=1)


@caught_by("payloads-ddata-order")
def data_comes_before_the_birth_of_its_device(transcript: Transcript) -> Transcript:
    """The payloads of a DBIRTH and of the next DDATA of that device change places, their numbers do not."""
    messages = Story(transcript).of("DBIRTH", "DDATA")
    for place, birth in enumerate(messages):
        later = (m for m in messages[place:] if m.kind == "DDATA" and m.device == birth.device)
        if birth.kind == "DBIRTH" and (data := next(later, None)) is not None:
            seq = {birth.number: birth.seq, data.number: data.seq}
            changed: dict[int, Packet | None] = {}
            for here, there in ((birth, data), (data, birth)):

                def number(payload: Any, kept: int | None = seq[here.number]) -> None:
                    payload.seq = kept

                body = _payload(there, number).body
                changed[here.number] = here.packet._replace(body=body)
            return replaced(transcript, changed)
    return transcript


@caught_by("payloads-alias-uniqueness")
def two_devices_share_an_alias(transcript: Transcript) -> Transcript:
    return publishes(
        transcript,
        (*BIRTHS, *DATA),
        each(lambda raw: setattr(raw, "alias", 1), lambda raw: raw.HasField("alias")),
    )


@caught_by("payloads-metric-datatype-req", "topics-dbirth-metrics")
def a_birth_without_data_types(transcript: Transcript) -> Transcript:
    return publishes(transcript, ("DBIRTH",), each(lambda raw: raw.ClearField("datatype")))


@caught_by("operational-behavior-data-publish-dbirth-values")
def null_is_not_said(transcript: Transcript) -> Transcript:
    return publishes(transcript, ("DBIRTH",), each(lambda raw: raw.ClearField("is_null")))


@caught_by("operational-behavior-data-commands-rebirth-name-aliases")
def rebirth_with_an_alias(transcript: Transcript) -> Transcript:
    return publishes(
        transcript,
        ("NBIRTH",),
        each(lambda raw: setattr(raw, "alias", 9999), lambda raw: raw.name == REBIRTH),
    )


@caught_by("topics-nbirth-rebirth-metric", "operational-behavior-data-commands-rebirth-name")
def no_rebirth_metric(transcript: Transcript) -> Transcript:
    return publishes(
        transcript,
        ("NBIRTH",),
        each(lambda raw: setattr(raw, "name", "Node Control/Reboot"), lambda raw: raw.name == REBIRTH),
    )


@caught_by("topics-nbirth-templates", "payloads-template-instance-ref")
def a_template_is_not_defined(transcript: Transcript) -> Transcript:
    def forget(payload: Any) -> None:
        kept = [raw for raw in payload.metrics if not raw.HasField("template_value")]
        del payload.metrics[:]
        payload.metrics.extend(kept)

    return publishes(transcript, ("NBIRTH",), forget)


@caught_by("payloads-dbirth-order", "operational-behavior-data-commands-rebirth-action-2")
def a_rebirth_forgets_a_device(transcript: Transcript) -> Transcript:
    for session in Story(transcript).sessions:
        for sequence in list(session.sequences())[1:]:
            for message in sequence:
                if message.kind == "DBIRTH" and any(m.kind == "DDATA" for m in sequence):
                    # Said after the first data instead of never, so that the rest of the record stays right.
                    data = next(m for m in sequence if m.kind == "DDATA")
                    moved = message.packet._replace(number=data.number, at_ms=data.packet.at_ms)
                    early = data.packet._replace(number=message.number, at_ms=message.packet.at_ms)
                    return replaced(transcript, {message.number: early, data.number: moved})
    return transcript


# --- data


@caught_by("operational-behavior-data-publish-dbirth-order")
def history_is_not_said_to_be_history(transcript: Transcript) -> Transcript:
    return publishes(transcript, DATA, each(lambda raw: raw.ClearField("is_historical")))


@caught_by("payloads-alias-data-cmd-requirement")
def data_says_names_beside_aliases(transcript: Transcript) -> Transcript:
    story = Story(transcript)
    changed: dict[int, Packet | None] = {}
    for message in story.of(*DATA):
        names = [metric.name for metric in message.metrics]

        def name(payload: Any, names: list[str] = names) -> None:
            for raw, said in zip(payload.metrics, names, strict=True):
                raw.name = said

        changed[message.number] = _payload(message, name)
    return replaced(transcript, changed)


@caught_by("payloads-name-birth-data-requirement")
def metrics_without_time(transcript: Transcript) -> Transcript:
    return publishes(transcript, DATA, each(lambda raw: raw.ClearField("timestamp")))


@caught_by("payloads-ddata-timestamp", "payloads-timestamp-in-UTC")
def times_in_local_time(transcript: Transcript) -> Transcript:
    def berlin(payload: Any) -> None:
        payload.timestamp += 3_600_000

    return publishes(transcript, (*BIRTHS, *DATA, "DDEATH"), berlin)


@caught_by("payloads-propertyset-quality-value-value")
def qualities_of_opc_ua(transcript: Transcript) -> Transcript:
    def code(raw: Any) -> None:
        for value in raw.properties.values:
            if value.WhichOneof("value") == "int_value":
                value.int_value = 64

    return publishes(transcript, (*BIRTHS, *DATA), each(code))


@caught_by("operational-behavior-device-ddeath")
def a_lost_device_is_not_said_to_be_dead(transcript: Transcript) -> Transcript:
    return replaced(transcript, {message.number: None for message in Story(transcript).of("DDEATH")})


@caught_by("principles-rbe-recommended", "operational-behavior-data-publish-dbirth-change")
def data_is_said_at_every_tick(transcript: Transcript) -> Transcript:
    """The last data of a device is said twice."""
    story = Story(transcript)
    for session in reversed(story.sessions):
        for before, message in zip(session.said, session.said[1:], strict=False):
            fresh = all(not metric.raw.is_historical for metric in before.metrics)
            if before.kind == message.kind == "DDATA" and fresh:

                def repeat(payload: Any, old: Message = before) -> None:
                    at = max((raw.timestamp for raw in payload.metrics), default=0)
                    del payload.metrics[:]
                    payload.metrics.extend(decoder.decode(old.publish.payload).metrics)
                    for raw in payload.metrics:
                        raw.timestamp = max(raw.timestamp, at)

                packet = _payload(message, repeat)
                assert isinstance(packet.body, Publish)
                body = packet.body._replace(topic=before.publish.topic)
                return replaced(transcript, {message.number: packet._replace(body=body)})
    return transcript


# --- the host


@caught_by(
    "message-flow-edge-node-birth-publish-phid-wait", "operational-behavior-edge-node-birth-sequence-wait"
)
def births_do_not_wait_for_the_host(transcript: Transcript) -> Transcript:
    """The host comes only after the births."""
    return replaced(
        transcript,
        {
            message.number: None
            for session in Story(transcript).sessions
            for message in session.heard
            if message.kind == "STATE" and b"true" in message.publish.payload
        },
    )


@caught_by("operational-behavior-edge-node-termination-host-offline-timestamp")
def an_old_offline_ends_the_session(transcript: Transcript) -> Transcript:
    """The valid offline is made older than the online before it, and the edge node leaves all the same."""
    changed: dict[int, Packet | None] = {}
    for session in Story(transcript).sessions:
        for message in session.heard:
            if message.kind == "STATE" and b"false" in message.publish.payload and session.of("NDEATH"):
                body = message.publish._replace(payload=b'{"online": false, "timestamp": 1}')
                changed[message.number] = message.packet._replace(body=body)
    return replaced(transcript, changed)


@caught_by(
    "operational-behavior-edge-node-termination-host-offline-reconnect",
    "operational-behavior-primary-application-state-with-multiple-servers-walk",
)
def it_comes_back_to_the_same_server(transcript: Transcript) -> Transcript:
    changed: dict[int, Packet | None] = {
        packet.number: packet._replace(server=transcript.facts.servers[0]) for packet in transcript.packets
    }
    return replaced(transcript, changed)
