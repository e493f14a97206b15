"""Ids and topics."""

from __future__ import annotations

import pytest

from gateway.sparkplug.names import (
    ID_BYTES_MAX,
    Address,
    Names,
    Verb,
    clashes,
    fault_of_group,
    fault_of_id,
    state_topic,
)


@pytest.mark.parametrize("text", ["plant", "Ofen 1", "filler-1", "µ", "STATE", "a" * ID_BYTES_MAX])
def test_ids(text: str) -> None:
    assert fault_of_id(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("a+b", '"+"'),
        ("a/b", '"/"'),
        ("#", '"#"'),
        ("a\x00", "nobody can read"),
        ("a\nb", "nobody can read"),
        ("\ud800", "nobody can read"),
        ("a" * (ID_BYTES_MAX + 1), "bytes"),
    ],
)
def test_no_ids(text: str, reason: str) -> None:
    fault = fault_of_id(text)
    assert fault is not None
    assert reason in fault


def test_a_group_must_not_look_like_a_host() -> None:
    assert fault_of_group("STATE") is not None
    with pytest.raises(ValueError, match='group id "STATE"'):
        Names("STATE", "line-1")
    with pytest.raises(ValueError, match='edge node id "a/b"'):
        Names("plant", "a/b")


def test_topics() -> None:
    names = Names("plant", "line-1")

    assert names.topic(Verb.NBIRTH) == "spBv1.0/plant/NBIRTH/line-1"
    assert names.topic(Verb.DDATA, "filler-1") == "spBv1.0/plant/DDATA/line-1/filler-1"
    assert names.node_commands == "spBv1.0/plant/NCMD/line-1"
    assert names.device_commands == "spBv1.0/plant/DCMD/line-1/+"
    assert state_topic("scada") == "spBv1.0/STATE/scada"


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        ("spBv1.0/plant/NCMD/line-1", Address(Verb.NCMD, "plant", "line-1")),
        ("spBv1.0/plant/DCMD/line-1/filler-1", Address(Verb.DCMD, "plant", "line-1", "filler-1")),
        ("spBv1.0/plant/NCMD/line-1/filler-1", None),
        ("spBv1.0/plant/DCMD/line-1", None),
        ("spBv1.0/plant/DCMD/line-1/", None),
        ("spBv1.0/plant/NCMD/line-2", None),
        ("spBv1.0/plants/NCMD/line-1", None),
        ("spAv1.0/plant/NCMD/line-1", None),
        ("spBv1.0/plant/XCMD/line-1", None),
        ("spBv1.0/STATE/scada", None),
        ("spBv1.0/plant/DCMD/line-1/a/b", None),
        ("", None),
    ],
)
def test_a_topic_is_ours_or_not(topic: str, address: Address | None) -> None:
    assert Names("plant", "line-1").address(topic) == address


def test_names_that_only_case_tells_apart() -> None:
    assert clashes(["Filler", "oven", "filler", "FILLER"]) == [("Filler", "filler"), ("Filler", "FILLER")]
    assert clashes(["a", "b", "a"]) == []
