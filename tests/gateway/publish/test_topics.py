"""The tree of topics: as it is without settings, as templates make it, and what no topic may be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.publish.templates import BYTES_MAX, NotATemplate, Template, Unfilled, template, wrong
from gateway.publish.topics import DEFAULTS, OFFERS, Place, Topics
from statemodel.records import Recorded, tell
from statemodel.types import Cause, Conformance, Recordable, SourceLost, Transition

AT = datetime(2026, 11, 21, 22, 7, 3, tzinfo=UTC)
FILLER = Place("filler-1", "filling/line-1/filler-1", "packml")
MOVED = Transition(
    *FILLER,
    sequence=37,
    from_state="Idle",
    to_state="Starting",
    code=3,
    category="productive",
    at=AT,
    duration_s=41.25,
    conformance=Conformance.LEGAL,
    skipped=(),
    cause=Cause("code", ()),
)


def recorded(event: Recordable) -> Recorded:
    return tell(event, gateway="line-1", stream="s", seq=1, recorded_at=AT)


def topics(**templates: str) -> Topics:
    return Topics("acme", "berlin", "line-1", {key.replace("__", "/"): t for key, t in templates.items()})


def test_the_tree_without_settings() -> None:
    tree = topics()
    assert tree.status == "andon/line-1/status"
    assert tree.connection("filler-plc") == "andon/line-1/_connection/filler-plc"
    assert tree.state(FILLER) == "acme/berlin/filling/line-1/filler-1/_state"
    assert tree.availability(FILLER) == "acme/berlin/filling/line-1/filler-1/_availability"
    moved = recorded(MOVED)
    assert tree.event(moved) == f"acme/berlin/{moved.path}/_event/transition"
    assert tree.event(recorded(SourceLost("plc", AT, ""))) == "andon/line-1/_event/source_lost"
    assert tree.tag("plc/speed", FILLER) == "acme/berlin/filling/line-1/filler-1/_tag/plc/speed"
    assert tree.tag("plc/speed") == "acme/berlin/_tag/plc/speed"


def test_a_tree_of_the_plants_own() -> None:
    tree = topics(
        state="{site}/{level1}/{level2}/{equipment}/status",
        event="{site}/events/{type}/{equipment}",
        event__source_lost="{site}/links/{connection}/lost",
        tag="{site}/{path}/values/{tag}",
        status="{site}/gateways/{gateway}",
        connection="{site}/links/{connection}",
        availability="up/{model}/{equipment}",
    )
    moved = recorded(MOVED)
    assert tree.state(FILLER) == "berlin/filling/line-1/filler-1/status"
    assert tree.event(moved) == tree.event(moved) == "berlin/events/transition/filler-1"
    for plc in ("a", "b"):  # of a type that tells connections apart, nothing is mixed up
        assert tree.event(recorded(SourceLost(plc, AT, ""))) == f"berlin/links/{plc}/lost"
    assert tree.tag("plc/speed", FILLER) == "berlin/filling/line-1/filler-1/values/speed"
    assert tree.tag("plc/speed") == "berlin/values/speed"
    assert (tree.status, tree.connection("plc")) == ("berlin/gateways/line-1", "berlin/links/plc")
    assert tree.availability(FILLER) == "up/packml/filler-1"


def test_a_tag_of_several_equipment_is_said_once_on_each_topic() -> None:
    oven = Place("oven-1", "baking/oven-1", "oven")
    assert len(topics().tags("plc/speed", (FILLER, oven))) == 2
    assert topics(tag="all/{connection}/{tag}").tags("plc/speed", (FILLER, oven)) == ("all/plc/speed",)
    assert topics().tags("plc/speed", ()) == ("acme/berlin/_tag/plc/speed",)


def test_what_happened_to_equipment_that_is_gone_has_a_topic_in_any_case() -> None:
    tree = topics(event="{site}/{level4}/{type}", state="{site}/{level4}")
    moved = recorded(MOVED)
    assert tree.event(moved) == f"acme/berlin/{moved.path}/_event/transition"
    assert tree.state(FILLER) == "acme/berlin/filling/line-1/filler-1/_state"
    odd = Place("filler-1", "filling/filler-1", "a model + more")
    assert topics(state="{model}/{equipment}").state(odd) == "acme/berlin/filling/filler-1/_state"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a/{sit}", '"{sit}"'), ("a/{b", '"{"'), ("a}/b", '"}"'), ("a/{}", '"{}"'), ("{level10}", "level10")],
)
def test_what_is_no_template(text: str, reason: str) -> None:
    with pytest.raises(NotATemplate) as refused:
        Template(text)
    assert reason in refused.value.reason
    assert refused.value.hint


def test_what_a_thing_does_not_have_is_named() -> None:
    with pytest.raises(Unfilled) as caught:
        topics(state="x/{level4}").filled("state", FILLER)
    assert caught.value.placeholder == "level4"
    with pytest.raises(Unfilled) as caught:
        topics(tag="x-{path}/{tag}").filled("tag", None, connection="plc", tag="speed")
    assert caught.value.placeholder == "path"


@pytest.mark.parametrize(
    "topic",
    ["", "a/+", "a+b", "#", "a/#b", "a\0b", "a\u007f", "a\ufffe", "$SYS/x", "/a", "a//b", "a/", "spBv1.0/g",
     "SPBV1.0", "/".join("a" * 201), "ä" * (BYTES_MAX // 2 + 1)],
)  # fmt: skip
def test_what_no_topic_may_be(topic: str) -> None:
    assert wrong(topic) is not None


@pytest.mark.parametrize(
    "topic",
    ["a", "a b/c", "a/$b", "ä/ö", "spBv1.0x/a", "a/spBv1.0", "/".join("a" * 200), "ä" * (BYTES_MAX // 2)],
)
def test_what_a_topic_may_be(topic: str) -> None:
    assert wrong(topic) is None


def test_the_tree_without_settings_uses_what_each_kind_has() -> None:
    for key, text in DEFAULTS.items():
        assert template(text).names <= OFFERS[key], key
