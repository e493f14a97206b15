"""Loss accounting as it is told: the whole, every tag, those of which something is lost, one tag."""

from __future__ import annotations

import httpx
import pytest


async def test_the_books_are_told_with_every_sink(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/api/v1/accounts")).json()
    assert (answer["adds_up"], answer["difference"], answer["recorded"], answer["shed"]) == (True, 0, 20, 2)
    (sink,) = answer["sinks"]
    line = sink["samples"]
    parts = ("delivered", "buffered", "set_aside", "missing", "difference")
    assert line["recorded"] == sum(line[part] for part in parts) == 20
    flow = answer["flow"]
    assert flow["received"] + flow["made"] == sum(
        flow[part] for part in ("unchanged", "by_rules", "not_recorded", "recorded", "shed", "in_hand")
    )


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ("", ["filler-plc/gone", "filler-plc/speed", "filler-plc/state"]),
        ("?only=lost", ["filler-plc/speed"]),
        ("?after=filler-plc/gone&limit=1", ["filler-plc/speed"]),
        ("?only=lost&after=filler-plc/gone", ["filler-plc/speed"]),
        ("?only=lost&after=filler-plc/state", []),
        ("?after=filler-plc/much", ["filler-plc/speed", "filler-plc/state"]),
    ],
)
async def test_accounts_of_tags_can_be_narrowed_down(
    client: httpx.AsyncClient, query: str, tags: list[str]
) -> None:
    answer = (await client.get(f"/api/v1/accounts/tags{query}")).json()
    assert [item["tag"] for item in answer["items"]] == tags


async def test_one_tag_has_its_account(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/api/v1/tags/filler-plc/speed/account")).json()
    assert answer["sinks"]["historian"]["set_aside"] == 3
    assert answer["shed"] == 2
    unrecorded = (await client.get("/api/v1/tags/oven-plc/temp/account")).json()
    assert (unrecorded["recorded"], unrecorded["adds_up"]) == (0, True)
    unknown = await client.get("/api/v1/tags/oven-plc/tempo/account")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_tag")
