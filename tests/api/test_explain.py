"""Why is it in this state: any past transition is explained, and anything else is named for what it is."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from api.params import write_time
from statemodel.types import CorrectedState, Correction
from tests.api.twins import START, STREAM, Plant

_URL = "/api/v1/equipment/filler-1/explain"


def _of(plant: Plant, name: str = "filler-1") -> list[int]:
    return [item.seq for item in plant.log if item.type == "transition" and item.equipment == name]


async def test_without_parameters_the_present_state_is_explained(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    told = (await client.get(_URL)).json()
    mine = _of(plant)
    assert (told["seq"], told["stream"], told["state"]) == (mine[-1], STREAM, plant.states["filler-1"].state)
    assert told["previous"]["seq"] == mine[-2]
    assert (told["next"], told["lasted_s"], told["incomplete"]) == (None, None, None)
    assert told["inputs"][0]["tag"] == "filler-plc/state"
    assert told["inputs"][0]["received_at"]
    assert told["text"].startswith("filler-1 went from ")


async def test_any_past_transition_is_explained_by_its_number(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    mine = _of(plant)
    for place, seq in enumerate(mine):
        for word in (str(seq), f"{STREAM}:{seq}", f"{STREAM}-{seq}"):
            told = (await client.get(_URL, params={"seq": word})).json()
            assert told["seq"] == seq
        assert (told["previous"] or {"seq": None})["seq"] == (mine[place - 1] if place else None)
        assert (told["next"] or {"seq": None})["seq"] == (mine[place + 1] if place + 1 < len(mine) else None)


async def test_the_state_at_an_instant_is_explained(client: httpx.AsyncClient, plant: Plant) -> None:
    for seq in _of(plant)[:5]:
        at = plant.log[seq - 1].at + timedelta(seconds=1)
        assert (await client.get(_URL, params={"at": write_time(at)})).json()["seq"] == seq


async def test_what_was_corrected_is_told_beside_what_was_recorded(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    recorded = plant.log[_of(plant)[2] - 1]
    begin, end = recorded.at, plant.log[_of(plant)[3] - 1].at
    params = {"at": write_time(begin)}
    before = (await client.get(_URL, params=params)).json()
    assert before["corrected"] == []
    middle = begin + (end - begin) / 2
    over = CorrectedState("Held", 11, "down", begin, middle)
    plant.record(
        Correction("filler-1", recorded.path, "packml", begin, end, (over,), "valve was open.", "anna")
    )
    told = (await client.get(_URL, params=params)).json()
    [said] = told["corrected"]
    assert (said["state"], said["reason"], said["author"]) == ("Held", "valve was open.", "anna")
    assert (said["from"], said["to"]) == (write_time(begin), write_time(middle))
    assert said["seq"] == plant.log[-1].seq
    assert "Corrected: Held from " in told["text"]
    assert f", by anna (event {said['seq']}): valve was open.\n" in told["text"]
    same = {"corrected": [], "text": before["text"]}
    assert told | same == before, "the cause recorded stays as it is"
    assert (await client.get(_URL, params={"at": write_time(middle)})).json() == before
    of_all = (await client.get(_URL, params={"seq": str(recorded.seq)})).json()
    assert of_all["corrected"] == [said]
    away = Correction(
        "filler-1", recorded.path, "packml", begin, end, (), "not so", "otto", withdraws=plant.log[-1].id
    )
    plant.record(away)
    assert (await client.get(_URL, params=params)).json() == before


async def test_moves_refused_around_it_are_told(client: httpx.AsyncClient, plant: Plant) -> None:
    plant.move("filler-1")
    plant.record(plant.refuse("filler-1"))
    told = (await client.get(_URL)).json()
    assert [item["attempted"] for item in told["refused_since"]] == ["Held"]
    plant.move("filler-1")
    assert [item["attempted"] for item in (await client.get(_URL)).json()["refused_before"]] == ["Held"]


@pytest.mark.parametrize(
    ("seq", "status", "code", "words"),
    [
        ("0", 400, "invalid_parameter", "numbered from 1"),
        ("x", 400, "invalid_parameter", "sequence number"),
        ("61", 416, "from_the_future", "last event of the stream is 60"),
        ("other:5", 410, "other_stream", "belongs to stream other"),
        ("4", 410, "too_old", "first one still held is 10"),
        ("19", 404, "unknown_transition", "Event 19 is a source lost, not a transition of filler-1"),
        (
            "27",
            404,
            "unknown_transition",
            "Event 27 is a rejection of capper-2, not a transition of filler-1",
        ),
        ("11", 404, "unknown_transition", "GET /api/v1/equipment/oven-1/explain?seq=11"),
        ("13", 404, "unknown_transition", "is not held any more"),
    ],
)
async def test_what_is_no_transition_is_named_for_what_it_is(
    client: httpx.AsyncClient, plant: Plant, seq: str, status: int, code: str, words: str
) -> None:
    plant.first_seq = 10
    plant.unreadable.add(13)
    answer = await client.get(_URL, params={"seq": seq})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert words in problem["detail"] + problem["hint"], problem


async def test_before_the_first_transition_there_is_nothing_to_explain(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    early = await client.get(_URL, params={"at": write_time(START)})
    assert (early.status_code, early.json()["code"]) == (404, "no_state_yet")
    plant.log.clear()
    never = (await client.get(_URL)).json()
    assert never["code"] == "no_state_yet"
    assert "connections" in never["hint"]


async def test_seq_and_at_together_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get(_URL, params={"seq": "20", "at": write_time(START)})
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, "at")


async def test_an_unknown_equipment_is_named_with_the_nearest(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/api/v1/equipment/filer-1/explain")).json()
    assert (answer["code"], answer["hint"]) == ("unknown_equipment", 'Did you mean "filler-1"?')
