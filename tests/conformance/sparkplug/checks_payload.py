"""Metrics as they are written: names and aliases, data types, properties, data sets, templates. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.conformance.sparkplug.checks_births import REBIRTH, definitions
from tests.conformance.sparkplug.decoder import (
    BASIC_TYPES,
    DATASET,
    GOOD,
    INT32,
    QUALITY,
    properties_of,
    quality_of,
    wrong_value,
)
from tests.conformance.sparkplug.judging import Verdict, proves
from tests.conformance.sparkplug.story import BAD, BIRTHS, DATA, GOOD_AGAIN, STOPPED, Message, Metric, Story
from tests.conformance.sparkplug.wire import Note, Packet

#: Data types by number: all, and those a property may have besides the basic ones.
DATA_TYPES = range(1, 35)
PROPERTY_TYPES = (*BASIC_TYPES, 20, 21)
QUALITIES = (0, 192, 500)


def _metrics(story: Story, *kinds: str) -> Iterator[tuple[Message, Metric]]:
    for message in story.of(*kinds):
        for metric in message.metrics:
            yield message, metric


def _verdict(message: Message, problem: str | None) -> Verdict:
    return Verdict(message.number, problem)


@proves("payloads-name-requirement")
def a_metric_has_a_name_or_a_known_alias(story: Story) -> Iterator[Verdict]:
    for message, metric in _metrics(story, *BIRTHS, *DATA):
        named = bool(metric.raw.name) or (metric.raw.HasField("alias") and metric.born is not None)
        yield _verdict(message, None if named else f"{metric.name} is nobody's")


@proves("payloads-alias-uniqueness")
def an_alias_is_of_one_metric(story: Story) -> Iterator[Verdict]:
    """Over the edge node and all its devices, from an NBIRTH to the next."""
    for session in story.sessions:
        for sequence in session.sequences():
            holders: dict[int, tuple[str, str]] = {}
            for message in sequence:
                if message.kind not in BIRTHS:
                    continue
                for metric in message.metrics:
                    if metric.raw.HasField("alias"):
                        me = message.device, metric.name
                        other = holders.setdefault(metric.raw.alias, me)
                        problem = None if other == me else f"alias {metric.raw.alias} is {other} and {me}"
                        yield _verdict(message, problem)


@proves("payloads-alias-birth-requirement")
def births_have_names_and_aliases(story: Story) -> Iterator[Verdict]:
    """All but the one metric that must not have an alias."""
    for message, metric in _metrics(story, *BIRTHS):
        if metric.name != REBIRTH:
            right = metric.raw.HasField("name") and metric.raw.HasField("alias")
            yield _verdict(message, None if right else f"{metric.name} lacks its name or alias")


@proves("payloads-alias-data-cmd-requirement")
def data_has_aliases_only(story: Story) -> Iterator[Verdict]:
    for message, metric in _metrics(story, *DATA):
        right = metric.raw.HasField("alias") and not metric.raw.HasField("name")
        yield _verdict(message, None if right else f"{metric.name} is not said by its alias alone")


@proves(
    "payloads-metric-datatype-value-type", "payloads-metric-datatype-value", "payloads-metric-datatype-req"
)
def births_give_data_types(story: Story) -> Iterator[Verdict]:
    """A varint of 32 bits, by the schema it is read with; members of templates have theirs too."""
    for message, metric in _metrics(story, *BIRTHS):
        members = metric.raw.template_value.metrics if metric.raw.HasField("template_value") else ()
        for raw in (metric.raw, *members):
            right = raw.HasField("datatype") and raw.datatype in DATA_TYPES
            yield _verdict(message, None if right else f"{raw.name} has data type {raw.datatype}")


@proves("payloads-metric-datatype-not-req")
def data_gives_no_data_types(story: Story) -> Iterator[Verdict]:
    for message, metric in _metrics(story, *DATA):
        has = metric.raw.HasField("datatype")
        yield _verdict(message, f"{metric.name} says its data type again" if has else None)


@proves("topics-ddata-payload", "topics-ndata-payload")
def data_has_values_of_the_type_born(story: Story) -> Iterator[Verdict]:
    for message, metric in _metrics(story, *DATA):
        if metric.born is not None and not metric.raw.is_null:
            wrong = wrong_value(metric.raw, metric.born.datatype)
            yield _verdict(message, f"{metric.name}: {wrong}" if wrong else None)


def _property_sets(story: Story, *kinds: str) -> Iterator[tuple[Message, Metric]]:
    for message, metric in _metrics(story, *kinds):
        if metric.raw.HasField("properties"):
            yield message, metric


@proves("payloads-propertyset-keys-array-size", "payloads-propertyset-values-array-size")
def properties_have_keys_and_values(story: Story) -> Iterator[Verdict]:
    for message, metric in _property_sets(story, *BIRTHS, *DATA):
        keys, values = len(metric.raw.properties.keys), len(metric.raw.properties.values)
        problem = None if keys == values else f"{metric.name} has {keys} keys and {values} values"
        yield _verdict(message, problem)


@proves(
    "payloads-metric-propertyvalue-type-type",
    "payloads-metric-propertyvalue-type-value",
    "payloads-metric-propertyvalue-type-req",
)
def properties_in_births_give_their_types(story: Story) -> Iterator[Verdict]:
    for message, metric in _property_sets(story, *BIRTHS):
        for key, value in properties_of(metric.raw).items():
            problem = None
            if not value.HasField("type") or value.type not in PROPERTY_TYPES:
                problem = f"{metric.name}, property {key}: type {value.type}"
            elif (
                not value.is_null and value.type in BASIC_TYPES and (wrong := wrong_value(value, value.type))
            ):
                problem = f"{metric.name}, property {key}: {wrong}"
            yield _verdict(message, problem)


def _qualities(story: Story) -> Iterator[tuple[Message, Metric, Any]]:
    for message, metric in _property_sets(story, *BIRTHS, *DATA):
        if QUALITY in (found := properties_of(metric.raw)):
            yield message, metric, found[QUALITY]


@proves("payloads-propertyset-quality-value-type")
def quality_is_an_int32(story: Story) -> Iterator[Verdict]:
    for message, metric, quality in _qualities(story):
        problem = None if quality.type == INT32 else f"{metric.name}: quality of type {quality.type}"
        yield _verdict(message, problem)


def _untrue(story: Story) -> Iterator[Verdict]:
    """A birth calls no bad tag good, and what is good again is called so, whatever a host remembers."""
    bad: dict[str, bool] = {}
    said: dict[str, tuple[int, int]] = {}
    stopping = False  # a gateway that stops lets go of its devices, and may say that yet
    events: list[Message | tuple[Packet, Note]] = [
        *story.of(*BIRTHS, *DATA),
        *story.noted(BAD, GOOD_AGAIN, STOPPED),
    ]
    for event in sorted(events, key=_number):
        if not isinstance(event, Message):
            stopping |= event[1].what == STOPPED
            if event[1].what != STOPPED:
                bad[event[1].about] = event[1].what == BAD
            continue
        stopping &= event.kind != "NBIRTH"
        if stopping:
            continue
        for metric in event.metrics if not event.broken else ():
            about, quality = f"{event.device}:{metric.name}", quality_of(metric.raw)
            if about not in bad or metric.raw.is_historical:
                continue
            if event.kind in BIRTHS:
                said[about] = event.number, GOOD if quality is None else quality
                if bad[about]:
                    yield _verdict(event, "a bad tag is born good" if said[about][1] == GOOD else None)
            elif quality is not None:
                said[about] = event.number, quality
    for about, (number, quality) in said.items():
        if not bad[about]:
            yield Verdict(number, None if quality == GOOD else f"{about} is never good again")


def _number(event: Message | tuple[Packet, Note]) -> int:
    return event.number if isinstance(event, Message) else event[0].number


@proves("payloads-propertyset-quality-value-value")
def quality_is_0_192_or_500(story: Story) -> Iterator[Verdict]:
    """And the right one of them, where it is noted how a tag is."""
    yield from _untrue(story)
    for message, metric, quality in _qualities(story):
        right = quality.WhichOneof("value") == "int_value" and quality.int_value in QUALITIES
        yield _verdict(message, None if right else f"{metric.name}: quality {quality.int_value}")


@proves(
    "payloads-dataset-column-size",
    "payloads-dataset-column-num-headers",
    "payloads-dataset-types-num",
    "payloads-dataset-types-def",
    "payloads-dataset-types-type",
    "payloads-dataset-types-value",
    "payloads-dataset-parameter-type-req",
    guard=True,
)
def no_data_set_is_sent(story: Story) -> Iterator[Verdict]:
    for message, metric in _metrics(story, *BIRTHS, *DATA):
        has = metric.raw.HasField("dataset_value") or metric.raw.datatype == DATASET
        yield _verdict(message, f"{metric.name} is a DataSet" if has else None)


# --- templates


def _templates(story: Story, *kinds: str) -> Iterator[tuple[Message, Metric, Any]]:
    for message, metric in _metrics(story, *kinds):
        if metric.raw.HasField("template_value"):
            yield message, metric, metric.raw.template_value


@proves("payloads-template-is-definition")
def templates_say_what_they_are(story: Story) -> Iterator[Verdict]:
    for message, metric, template in _templates(story, *BIRTHS, *DATA):
        has = template.HasField("is_definition")
        yield _verdict(message, None if has else f"{metric.name} lacks is_definition")


def _defined(story: Story) -> Iterator[tuple[Message, Metric, Any]]:
    """What stands in for a definition: what says so, and in an NBIRTH whatever refers to nothing."""
    for message, metric, template in _templates(story, *BIRTHS, *DATA):
        nowhere = message.kind == "NBIRTH" and not template.template_ref
        if template.is_definition or nowhere:
            yield message, metric, template


def _instances(story: Story, *kinds: str) -> Iterator[tuple[Message, Metric, Any, Any]]:
    """Instances and the definition each refers to (None where there is none)."""
    for session in story.sessions:
        for sequence in session.sequences():
            known = definitions(sequence[0])
            for message in sequence:
                for metric in message.metrics if message.kind in kinds else ():
                    if metric.raw.HasField("template_value"):
                        template = metric.raw.template_value
                        if not template.is_definition:
                            yield message, metric, template, known.get(template.template_ref)


@proves("payloads-template-definition-is-definition", "payloads-template-is-definition-definition")
def definitions_say_that_they_are(story: Story) -> Iterator[Verdict]:
    for message, metric, template in _defined(story):
        yield _verdict(message, None if template.is_definition else f"{metric.name} does not say it")


@proves("payloads-template-definition-ref", "payloads-template-ref-definition")
def definitions_refer_to_nothing(story: Story) -> Iterator[Verdict]:
    for message, metric, template in _defined(story):
        has = template.HasField("template_ref")
        yield _verdict(message, f"{metric.name} refers to {template.template_ref!r}" if has else None)


@proves("payloads-template-definition-members")
def definitions_hold_every_member_of_instances(story: Story) -> Iterator[Verdict]:
    return _members(story, *BIRTHS, *DATA)


def _members(story: Story, *kinds: str) -> Iterator[Verdict]:
    for message, metric, template, definition in _instances(story, *kinds):
        known = {} if definition is None else {member.name: member for member in definition.metrics}
        strange = [member.name for member in template.metrics if member.name not in known]
        typed = [
            member.name
            for member in template.metrics
            if member.name in known
            and member.HasField("datatype")
            and member.datatype != known[member.name].datatype
        ]
        problem = f"{metric.name}: members {strange or typed} are not as defined"
        yield _verdict(message, problem if strange or typed else None)


@proves("payloads-template-instance-members")
def instances_hold_defined_members_only(story: Story) -> Iterator[Verdict]:
    return _members(story, *BIRTHS, *DATA)


@proves("payloads-template-instance-members-data")
def instances_in_data_hold_some_of_the_members(story: Story) -> Iterator[Verdict]:
    return _members(story, *DATA)


@proves("payloads-template-instance-members-birth")
def instances_in_births_hold_all_members(story: Story) -> Iterator[Verdict]:
    for message, metric, template, definition in _instances(story, *BIRTHS):
        wanted = set() if definition is None else {member.name for member in definition.metrics}
        missing = wanted - {member.name for member in template.metrics}
        problem = f"{metric.name} lacks {sorted(missing)}" if missing or definition is None else None
        yield _verdict(message, problem)


@proves("payloads-template-instance-is-definition", "payloads-template-is-definition-instance")
def instances_say_that_they_are_none(story: Story) -> Iterator[Verdict]:
    for message, metric, template in _templates(story, "DBIRTH", *DATA):
        right = template.HasField("is_definition") and not template.is_definition
        yield _verdict(message, None if right else f"{metric.name} does not say that it is an instance")


@proves("payloads-template-instance-ref", "payloads-template-ref-instance")
def instances_name_their_definition(story: Story) -> Iterator[Verdict]:
    for message, metric, template, definition in _instances(story, *BIRTHS, *DATA):
        problem = None if definition is not None else f"{metric.name} is of {template.template_ref!r}"
        yield _verdict(message, problem)


@proves("payloads-template-version")
def a_version_is_text(story: Story) -> Iterator[Verdict]:
    """The payload was read by the schema, so that it is UTF-8; a definition says its version."""
    for message, metric, template in _defined(story):
        yield _verdict(message, None if template.version else f"{metric.name} has no version")


@proves(
    "payloads-template-definition-parameters",
    "payloads-template-parameter-name-required",
    "payloads-template-parameter-name-type",
    "payloads-template-parameter-value-type",
    "payloads-template-parameter-type-value",
    "payloads-template-parameter-type-req",
    "payloads-template-parameter-value",
    "payloads-template-instance-parameters",
    "payloads-template-definition-parameters-default",
    "payloads-template-dataset-value",
    guard=True,
)
def templates_have_no_parameters(story: Story) -> Iterator[Verdict]:
    for message, metric, template in _templates(story, *BIRTHS, *DATA):
        problem = f"{metric.name} has parameters" if template.parameters else None
        yield _verdict(message, problem)
