"""Connecting, the will, subscribing, and leaving: what frames a Sparkplug session. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tests.conformance.sparkplug.decoder import INT64
from tests.conformance.sparkplug.judging import Verdict, proves
from tests.conformance.sparkplug.story import BIRTHS, KILLED, NAMESPACE, STOPPED, Message, Session, Story
from tests.conformance.sparkplug.wire import Closed, Connack, Connect, Publish

BDSEQ = "bdSeq"

#: MQTT 5.0, 3.14.2.1: the broker is asked to publish the will although the client leaves in order.
WITH_WILL = 0x04


def _connects(story: Story) -> Iterator[tuple[Session, int, Connect]]:
    for session in story.sessions:
        if session.connect is not None and session.connect_packet is not None:
            yield session, session.connect_packet.number, session.connect


def bdseq_of(message: Message | None) -> int | None:
    """The number of the session in an NBIRTH or NDEATH; None when it is not there as it must be."""
    metric = None if message is None or message.payload is None else message.metric(BDSEQ)
    if metric is None or metric.raw.WhichOneof("value") != "long_value":
        return None
    return int(metric.raw.long_value)


@proves("principles-birth-certificates-order")
def the_first_publication_is_a_birth(story: Story) -> Iterator[Verdict]:
    """An edge node that leaves before it was born may say so: its NDEATH then comes first."""
    for session in story.sessions:
        first = next((p for p in session.packets if p.up and isinstance(p.body, Publish)), None)
        if first is not None:
            kind = session.said[0].kind if session.said and session.said[0].packet is first else ""
            right = kind in ("NBIRTH", "NDEATH")
            yield Verdict(first.number, None if right else f"the first publication is {kind or 'another'}")


@proves("principles-persistence-clean-session-311")
def a_3_1_1_session_is_clean(story: Story) -> Iterator[Verdict]:
    for _, number, connect in _connects(story):
        if connect.protocol == "3.1.1":
            yield Verdict(number, None if connect.clean else "Clean Session is 0")


@proves("principles-persistence-clean-session-50")
def a_5_session_starts_clean_and_does_not_last(story: Story) -> Iterator[Verdict]:
    for _, number, connect in _connects(story):
        if connect.protocol == "5":
            right = connect.clean and connect.session_expiry_s == 0
            said = f"Clean Start {connect.clean}, expiry {connect.session_expiry_s} s"
            yield Verdict(number, None if right else said)


def _subscribed(session: Session, filters: tuple[str, ...], before: int) -> str | None:
    """What is wrong with a subscription to one of these filters before a packet."""
    for packet, subscribe in session.subscriptions:
        for topic, qos in subscribe.filters:
            if topic in filters and packet.number < before:
                return None if qos == 1 else f"{topic} is subscribed with QoS {qos}"
    return f"no subscription to {filters[0]} before packet {before}"


@proves("message-flow-edge-node-ncmd-subscribe")
def ncmd_is_subscribed_before_the_birth(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        group, _, node = session.node.partition("/")
        for birth in session.of("NBIRTH")[:1]:
            wanted = (f"{NAMESPACE}/{group}/NCMD/{node}",)
            yield Verdict(birth.number, _subscribed(session, wanted, birth.number))


@proves("message-flow-device-dcmd-subscribe")
def dcmd_is_subscribed_where_devices_can_be_written(story: Story) -> Iterator[Verdict]:
    for session in story.sessions if story.facts.commands else ():
        group, _, node = session.node.partition("/")
        for birth in session.of("DBIRTH"):
            own = f"{NAMESPACE}/{group}/DCMD/{node}"
            wanted = (f"{own}/{birth.device}", f"{own}/+", f"{own}/#")
            yield Verdict(birth.number, _subscribed(session, wanted, birth.number))


@proves("message-flow-edge-node-birth-publish-connect")
def births_come_after_the_broker_accepted(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        answers = (p for p in session.packets if isinstance(p.body, Connack) and p.body.reason == 0)
        accepted = next(answers, None)
        for birth in session.of(*BIRTHS):
            right = accepted is not None and accepted.number < birth.number
            yield Verdict(birth.number, None if right else f"{birth.kind} before the broker accepted")


@proves("message-flow-edge-node-birth-publish-will-message", "payloads-ndeath-will-message")
def connect_carries_an_ndeath(story: Story) -> Iterator[Verdict]:
    for session, number, _ in _connects(story):
        right = session.will is not None and session.will.kind == "NDEATH"
        yield Verdict(number, None if right else "CONNECT without an NDEATH as its will")


@proves("message-flow-edge-node-birth-publish-will-message-topic", "topics-ndeath-topic")
def ndeath_has_its_topic(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        deaths = session.of("NDEATH") if session.will is None else [session.will, *session.of("NDEATH")]
        for death in deaths:
            group, _, node = death.node.partition("/")
            wanted = f"{NAMESPACE}/{group}/NDEATH/{node}"
            right = death.publish.topic == wanted and death.node in story.facts.nodes
            yield Verdict(death.number, None if right else f"{death.publish.topic} is no topic of ours")


@proves("message-flow-edge-node-birth-publish-will-message-payload")
def the_will_is_a_payload(story: Story) -> Iterator[Verdict]:
    for will in story.wills:
        yield Verdict(will.number, will.broken or None)


@proves("message-flow-edge-node-birth-publish-will-message-payload-bdSeq")
def the_will_counts_connects(story: Story) -> Iterator[Verdict]:
    """One more than in the CONNECT before, on whichever server; 0 follows 255; an Int64."""
    for sessions in story.by_node.values():
        before: int | None = None
        for session in sessions:
            assert session.will is not None
            number, metric = bdseq_of(session.will), session.will.metric(BDSEQ)
            problem = None
            if number is None or metric is None or metric.raw.datatype != INT64 or not 0 <= number <= 255:
                problem = f"bdSeq is {number}"
            elif before is not None and number != (before + 1) % 256:
                problem = f"bdSeq is {number} after {before}"
            yield Verdict(session.will.number, problem)
            before = number


@proves("topics-nbirth-bdseq-increment")
def bdseq_starts_at_zero_and_rises_by_one(story: Story) -> Iterator[Verdict]:
    """Every scenario begins with a gateway that has never run."""
    for sessions in story.by_node.values():
        numbers = [bdseq_of(session.will) for session in sessions]
        assert sessions[0].will is not None
        problem = None if numbers[0] == 0 else f"the first bdSeq is {numbers[0]}"
        yield Verdict(sessions[0].will.number, problem)
        for session, (before, now) in zip(sessions[1:], pairwise(numbers), strict=True):
            assert session.will is not None
            right = before is not None and now == (before + 1) % 256
            yield Verdict(session.will.number, None if right else f"bdSeq is {now} after {before}")


@proves("message-flow-edge-node-birth-publish-will-message-qos", "payloads-ndeath-will-message-qos")
def the_will_is_qos_1(story: Story) -> Iterator[Verdict]:
    for will in story.wills:
        yield Verdict(will.number, None if will.publish.qos == 1 else f"QoS {will.publish.qos}")


@proves(
    "message-flow-edge-node-birth-publish-will-message-will-retained", "payloads-ndeath-will-message-retain"
)
def the_will_is_not_retained(story: Story) -> Iterator[Verdict]:
    for will in story.wills:
        yield Verdict(will.number, "the will is to be retained" if will.publish.retain else None)


def _deaths(story: Story) -> list[Message]:
    return [*story.wills, *story.of("NDEATH")]


@proves("topics-ndeath-payload")
def ndeath_holds_bdseq_and_nothing_else(story: Story) -> Iterator[Verdict]:
    for death in _deaths(story):
        names = [metric.name for metric in death.metrics]
        yield Verdict(death.number, None if names == [BDSEQ] else f"NDEATH holds {names}")


@proves("topics-ndeath-seq", "payloads-ndeath-seq")
def ndeath_has_no_seq(story: Story) -> Iterator[Verdict]:
    for death in _deaths(story):
        yield Verdict(death.number, None if death.seq is None else f"NDEATH has seq {death.seq}")


@proves("payloads-ndeath-bdseq", "topics-nbirth-bdseq-matching", "payloads-nbirth-bdseq-repeat")
def births_and_deaths_have_the_bdseq_of_the_will(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        wanted = bdseq_of(session.will)
        for message in session.of("NBIRTH", "NDEATH"):
            found = bdseq_of(message)
            right = found is not None and found == wanted
            yield Verdict(message.number, None if right else f"bdSeq {found}, and {wanted} in the will")


def _left(session: Session) -> tuple[int, Message | None] | None:
    """Where an edge node left by its own will, and the NDEATH before; None where it did not leave."""
    closed = session.closed
    end = session.disconnect
    if end is None and closed is not None and isinstance(closed.body, Closed) and closed.body.by == "node":
        end = closed
    if end is None or not session.of("NBIRTH"):
        return None
    deaths = [death for death in session.of("NDEATH") if death.number < end.number]
    return end.number, deaths[-1] if deaths else None


@proves(
    "operational-behavior-edge-node-intentional-disconnect-ndeath", "payloads-ndeath-will-message-publisher"
)
def ndeath_is_said_before_leaving(story: Story) -> Iterator[Verdict]:
    killed = {note.about for _, note in story.noted(KILLED)}
    for session in story.sessions:
        left = _left(session)
        if left is not None and (session.disconnect is not None or str(session.number) not in killed):
            yield Verdict(left[0], None if left[1] else "it left and did not say NDEATH")
    for packet, _ in story.noted(STOPPED):
        for session in story.sessions:
            if session.packets[0].number < packet.number and _open(session, packet.number):
                right = _left(session) is not None or not session.of("NBIRTH")
                yield Verdict(packet.number, None if right else "it was asked to stop and did not leave")


def _open(session: Session, number: int) -> bool:
    return session.closed is None or session.closed.number > number


@proves("payloads-ndeath-will-message-publisher-disconnect-mqtt311")
def ndeath_is_said_before_a_3_1_1_disconnect(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        left = _left(session)
        if session.connect and session.connect.protocol == "3.1.1" and session.disconnect and left:
            yield Verdict(left[0], None if left[1] else "DISCONNECT without an NDEATH before")


@proves("operational-behavior-edge-node-intentional-disconnect-packet")
def nothing_but_disconnect_follows_ndeath(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        for death in session.of("NDEATH"):
            after = [p for p in session.packets if p.up and isinstance(p.body, Publish)]
            late = [packet.number for packet in after if packet.number > death.number]
            yield Verdict(death.number, f"packets {late[:3]} were published after it" if late else None)


@proves("payloads-ndeath-will-message-publisher-disconnect-mqtt50")
def a_5_disconnect_asks_for_the_will(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        end = session.disconnect
        if end is not None and session.connect is not None and session.connect.protocol == "5":
            reason = getattr(end.body, "reason", 0)
            problem = None if reason == WITH_WILL else f"DISCONNECT has reason {reason:#04x}"
            yield Verdict(end.number, problem)
