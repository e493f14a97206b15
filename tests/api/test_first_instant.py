"""The first instant there is may be asked for: what lies before it is nothing, and no fault of ours."""

from __future__ import annotations

import httpx
import pytest

FIRST, NEXT = "0001-01-01T00:00:00Z", "0001-01-02T00:00:00Z"
RANGES = [
    "/api/v1/equipment/filler-1/timeline",
    "/api/v1/equipment/filler-1/kpi",
    "/api/v1/tags/filler-plc/speed/history",
    "/api/v1/compliance/violations",
]


@pytest.mark.parametrize("path", RANGES)
async def test_nothing_lies_before_the_first_instant(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, params={"to": FIRST})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert (await client.get(path, params={"to": NEXT})).status_code in (200, 404)
