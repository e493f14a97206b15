"""Topics, ids, QoS and retain: what can be judged of a publication without reading its payload. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.sparkplug.judging import Verdict, proves
from tests.conformance.sparkplug.story import DEVICE_KINDS, NAMESPACE, NODE_KINDS, Message, Story
from tests.conformance.sparkplug.wire import Publish

_ILLEGAL = frozenset("+/#\0")


def _messages(story: Story) -> list[Message]:
    """Everything an edge node says or has said for it."""
    return sorted([*story.wills, *story.said], key=lambda message: message.number)


def _legal(message: Message, text: str, known: bool) -> Verdict:
    if not text or _ILLEGAL & set(text):
        return Verdict(message.number, f"{text!r} is no legal id")
    return Verdict(message.number, None if known else f"{text!r} is not configured")


@proves("intro-group-id-string", "intro-group-id-chars", "topic-structure-namespace-valid-group-id")
def group_ids_are_legal(story: Story) -> Iterator[Verdict]:
    groups = {node.partition("/")[0] for node in story.facts.nodes}
    for message in _messages(story):
        group = message.node.partition("/")[0]
        yield _legal(message, group, group in groups)


@proves(
    "intro-edge-node-id-string", "intro-edge-node-id-chars", "topic-structure-namespace-valid-edge-node-id"
)
def edge_node_ids_are_legal(story: Story) -> Iterator[Verdict]:
    for message in _messages(story):
        yield _legal(message, message.node.partition("/")[2], message.node in story.facts.nodes)


@proves("intro-device-id-string", "intro-device-id-chars", "topic-structure-namespace-valid-device-id")
def device_ids_are_legal(story: Story) -> Iterator[Verdict]:
    for message in story.of(*DEVICE_KINDS):
        yield _legal(message, message.device, message.device in story.facts.nodes.get(message.node, ()))


@proves(
    "intro-edge-node-id-uniqueness",
    "topic-structure-namespace-unique-edge-node-descriptor",
    "payloads-nbirth-edge-node-descriptor",
)
def an_edge_node_is_connected_once(story: Story) -> Iterator[Verdict]:
    """At no time two connections say that they are the same edge node."""
    for node, sessions in story.by_node.items():
        open_until = 0
        for session in sessions:
            first = session.packets[0].number
            problem = f"{node} is there twice" if first < open_until else None
            yield Verdict(first, problem)
            closed = session.closed
            open_until = max(open_until, closed.number if closed else story.packets[-1].number + 1)


@proves("topic-structure-namespace-unique-device-id")
def a_birth_sequence_names_a_device_once(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        for sequence in session.sequences():
            seen: set[str] = set()
            for message in sequence[1:]:
                if message.kind != "DBIRTH":
                    break
                problem = f"{message.device} is born twice" if message.device in seen else None
                yield Verdict(message.number, problem)
                seen.add(message.device)


@proves("topic-structure-namespace-a")
def the_namespace_is_that_of_sparkplug_b(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        for packet in session.packets:
            if packet.up and isinstance(packet.body, Publish):
                namespace = packet.body.topic.split("/")[0]
                problem = None if namespace == NAMESPACE else f"an edge node publishes to {packet.body.topic}"
                yield Verdict(packet.number, problem)


@proves("topic-structure")
def a_topic_has_the_levels_of_its_kind(story: Story) -> Iterator[Verdict]:
    for message in _messages(story):
        levels = message.publish.topic.split("/")
        wanted = 4 if message.kind in NODE_KINDS else 5 if message.kind in DEVICE_KINDS else 0
        right = len(levels) == wanted and all(levels)
        yield Verdict(message.number, None if right else f"{message.publish.topic} is no Sparkplug topic")


@proves("topic-structure-namespace-device-id-associated-message-types")
def a_device_message_names_its_device(story: Story) -> Iterator[Verdict]:
    for message in story.of(*DEVICE_KINDS):
        yield Verdict(message.number, None if message.device else f"{message.publish.topic} names no device")


@proves("topic-structure-namespace-device-id-non-associated-message-types")
def a_node_message_names_no_device(story: Story) -> Iterator[Verdict]:
    for message in _messages(story):
        if message.kind in NODE_KINDS:
            problem = f"{message.publish.topic} names a device" if message.device else None
            yield Verdict(message.number, problem)


@proves("case-sensitivity-sparkplug-ids")
def ids_differ_by_more_than_case(story: Story) -> Iterator[Verdict]:
    seen: dict[str, str] = {}
    for message in story.of("NBIRTH", "DBIRTH"):
        full = f"{message.node}/{message.device}"
        other = seen.setdefault(full.lower(), full)
        yield Verdict(message.number, None if other == full else f"{full} and {other} differ by case only")


@proves("case-sensitivity-metric-names")
def metric_names_differ_by_more_than_case(story: Story) -> Iterator[Verdict]:
    for message in story.of("NBIRTH", "DBIRTH"):
        names = [metric.name for metric in message.metrics]
        twice = len(names) - len({name.lower() for name in names})
        yield Verdict(message.number, f"{twice} names are there twice, but for case" if twice else None)


def _topic(story: Story, kind: str) -> Iterator[Verdict]:
    """The topic is that of the kind, for the edge node the connection's will names."""
    for session in story.sessions:
        group, _, node = session.node.partition("/")
        for message in session.of(kind):
            wanted = "/".join((NAMESPACE, group, kind, node))
            if kind in DEVICE_KINDS:
                wanted += f"/{message.device}"
                known = bool(message.device) and "/" not in message.device
            else:
                known = not message.device
            right = known and message.publish.topic == wanted
            yield Verdict(message.number, None if right else f"{message.publish.topic} is not {wanted}")


@proves("topics-nbirth-topic", "message-flow-edge-node-birth-publish-nbirth-topic")
def nbirth_has_its_topic(story: Story) -> Iterator[Verdict]:
    return _topic(story, "NBIRTH")


@proves("topics-dbirth-topic", "message-flow-device-birth-publish-dbirth-topic")
def dbirth_has_its_topic(story: Story) -> Iterator[Verdict]:
    return _topic(story, "DBIRTH")


@proves("message-flow-device-birth-publish-dbirth-match-edge-node-topic")
def dbirth_is_of_the_edge_node_born_before(story: Story) -> Iterator[Verdict]:
    for session in story.sessions:
        node = ""
        for message in session.said:
            if message.kind == "NBIRTH":
                node = message.node
            elif message.kind == "DBIRTH":
                problem = None if message.node == node else f"born was {node or 'nobody'}, not {message.node}"
                yield Verdict(message.number, problem)


@proves("topics-ndata-topic")
def ndata_has_its_topic(story: Story) -> Iterator[Verdict]:
    return _topic(story, "NDATA")


@proves("topics-ddata-topic")
def ddata_has_its_topic(story: Story) -> Iterator[Verdict]:
    return _topic(story, "DDATA")


def _unreliable(story: Story, kind: str) -> Iterator[Verdict]:
    """QoS 0 and not retained."""
    for message in story.of(kind):
        wrong = []
        if message.publish.qos != 0:
            wrong.append(f"QoS {message.publish.qos}")
        if message.publish.retain:
            wrong.append("retained")
        yield Verdict(message.number, f"{kind} is {' and '.join(wrong)}" if wrong else None)


@proves(
    "topics-nbirth-mqtt",
    "payloads-nbirth-qos",
    "payloads-nbirth-retain",
    "message-flow-edge-node-birth-publish-nbirth-qos",
    "message-flow-edge-node-birth-publish-nbirth-retained",
)
def nbirth_is_qos_0_and_not_retained(story: Story) -> Iterator[Verdict]:
    return _unreliable(story, "NBIRTH")


@proves(
    "topics-dbirth-mqtt",
    "payloads-dbirth-qos",
    "payloads-dbirth-retain",
    "message-flow-device-birth-publish-dbirth-qos",
    "message-flow-device-birth-publish-dbirth-retained",
)
def dbirth_is_qos_0_and_not_retained(story: Story) -> Iterator[Verdict]:
    return _unreliable(story, "DBIRTH")


@proves("topics-ndata-mqtt", "payloads-ndata-qos", "payloads-ndata-retain")
def ndata_is_qos_0_and_not_retained(story: Story) -> Iterator[Verdict]:
    return _unreliable(story, "NDATA")


@proves("topics-ddata-mqtt", "payloads-ddata-qos", "payloads-ddata-retain")
def ddata_is_qos_0_and_not_retained(story: Story) -> Iterator[Verdict]:
    return _unreliable(story, "DDATA")


@proves("topics-ddeath-topic", "topics-ddeath-mqtt")
def ddeath_has_its_topic_and_is_qos_0(story: Story) -> Iterator[Verdict]:
    yield from _topic(story, "DDEATH")
    yield from _unreliable(story, "DDEATH")
