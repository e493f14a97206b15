"""One inventory: what is served is documented, as it is served, with examples that are true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import WebSocketRoute

import api
from api.ports import ConnectionView, EquipmentView, TagView
from api.problems import KINDS, ProblemDetails
from api.schemas import EquipmentList, KpiReport, Timeline
from api.settings import ApiSettings
from statemodel.explain import Explanation
from statemodel.records import EquipmentState, read_told

_FILES = Path(api.__file__).parent / "docs"


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def _operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, item in document["paths"].items() for operation in item.values()]


def test_routes_served_are_routes_documented(app: FastAPI, document: dict[str, Any]) -> None:
    upgrades = {route.path for route in app.routes if isinstance(route, WebSocketRoute)}
    assert upgrades == {
        path for path, item in document["paths"].items() if "101" in item.get("get", {}).get("responses", {})
    }
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) + len(upgrades) == len(app.routes)
    served = {(route.path, method) for route in routes for method in route.methods or ()}
    documented = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    assert served == documented | {(path, "HEAD") for path, method in documented if method == "GET"}
    assert all(
        ("requestBody" in operation) <= (method in ("post", "put", "patch"))
        for item in document["paths"].values()
        for method, operation in item.items()
    )


def test_every_operation_is_described_and_has_its_own_name(document: dict[str, Any]) -> None:
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    tags = {tag["name"] for tag in document["tags"]}
    assert tags == {tag for operation in operations for tag in operation["tags"]}
    assert all(tag["description"] for tag in document["tags"])
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]


def test_path_parameters_are_those_of_the_path(document: dict[str, Any]) -> None:
    for path, operation in _operations(document):
        told = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
        assert told == re.findall(r"{(\w+)}", path)
        for parameter in operation["parameters"]:
            assert parameter["description"]
            assert parameter["example"] not in ("", None)


def test_every_answer_with_a_body_has_an_example(document: dict[str, Any]) -> None:
    for path, operation in _operations(document):
        for status, response in operation["responses"].items():
            assert response["description"], (path, status)
            assert status in ("101", "204", "304") or response["content"], (path, status)
            for media, content in response.get("content", {}).items():
                assert content["examples"], (path, status, media)


def _problems(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    responses = [
        (status, response)
        for _, operation in _operations(document)
        for status, response in operation["responses"].items()
    ]
    responses += [("", response) for response in document["components"]["responses"].values()]
    for status, response in responses:
        content = response.get("content", {}).get("application/problem+json", {"examples": {}})
        for code, example in content["examples"].items():
            yield status, code, example["value"]


def test_every_problem_is_documented_somewhere_with_a_whole_example(document: dict[str, Any]) -> None:
    found = set()
    for status, code, example in _problems(document):
        problem = msgspec.convert(example, ProblemDetails)
        assert problem.code == code
        assert status in ("", str(problem.status))
        found.add(code)
    assert found == set(KINDS)
    assert {problem["code"] for problem in document["x-problems"]} == set(KINDS)


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for part in value.values():
                yield from references(part)
        elif isinstance(value, list):
            for part in value:
                yield from references(part)

    found = set(references(document))
    assert found
    schemas = document["components"]["schemas"]
    assert all(reference.removeprefix("#/components/schemas/") in schemas for reference in found)


@pytest.mark.parametrize(
    ("path", "type_"),
    [
        ("/api/v1/equipment", EquipmentList),
        ("/api/v1/equipment/{name}", EquipmentView),
        ("/api/v1/equipment/{name}/state", EquipmentState),
        ("/api/v1/equipment/{name}/explain", Explanation),
        ("/api/v1/equipment/{name}/timeline", Timeline),
        ("/api/v1/equipment/{name}/kpi", KpiReport),
        ("/api/v1/tags/{connection}/{name}", TagView),
        ("/api/v1/connections/{name}", ConnectionView),
    ],
)
def test_examples_read_as_the_types_they_stand_for(document: dict[str, Any], path: str, type_: type) -> None:
    content = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    for example in content["examples"].values():
        msgspec.convert(example["value"], type_)


def test_the_example_of_a_transition_is_a_real_one(document: dict[str, Any]) -> None:
    content = document["paths"]["/api/v1/equipment/{name}/transitions"]["get"]["responses"]["200"]["content"]
    item = content["application/json"]["examples"]["one"]["value"]["items"][0]
    assert read_told(msgspec.json.encode(item), "transition").seq == item["seq"]
    assert item["cause"]["inputs"][0]["tag"] == "filler-plc/state"


async def test_the_document_is_served_as_it_is(client: httpx.AsyncClient, app: FastAPI) -> None:
    response = await client.get("/openapi.json")
    assert response.json() == app.openapi()
    again = await client.get("/openapi.json", headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304


async def test_the_page_needs_nothing_from_other_hosts(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    linked = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert {"docs/page.css", "docs/page.js", "openapi.json"} <= set(linked)
    for link in linked:
        assert (await client.get(f"/{link}")).status_code == 200
    for file in _FILES.iterdir():
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+|@import|url\(", file.read_text()), file
    policy = (await client.get("/docs")).headers["content-security-policy"]
    assert "http" not in policy
    assert "unsafe" not in policy


def test_the_page_never_makes_markup_of_what_it_reads() -> None:
    script = (_FILES / "page.js").read_text()
    for risky in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert risky not in script


@pytest.mark.parametrize(
    ("path", "media"),
    [("/docs", "text/html"), ("/docs/page.js", "text/javascript"), ("/docs/page.css", "text/css")],
)
async def test_files_of_the_page_say_what_they_are(client: httpx.AsyncClient, path: str, media: str) -> None:
    response = await client.get(path)
    assert response.headers["content-type"] == f"{media}; charset=utf-8"


def test_the_guide_names_every_route_and_every_problem(document: dict[str, Any]) -> None:
    pages = (Path(__file__).parents[2] / "docs").glob("*.md")
    guide = "".join(page.read_text() for page in sorted(pages))
    for path in document["paths"]:
        assert path in guide or path.startswith("/docs/"), path
    for code in KINDS:
        assert f"`{code}`" in guide, code


def test_the_guide_states_the_limits_there_are() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "rest.md").read_text()
    limits = ApiSettings()
    for sentence in (
        f"{limits.page_limit} unless asked for, at most {limits.page_limit_max}",
        f"| buckets of one `kpi` answer | {limits.buckets_max} |",
        f"| changes of state one `kpi` answer may read | {limits.kpi_intervals_max} |",
        f"| open event streams | {limits.streams_max} |",
        f"At least every {limits.heartbeat_s:g} s there is a comment",
        f"takes nothing for {limits.stall_s:g} s is cut off",
        f"and {limits.last_word_s:g} s later the",
        f"more than {limits.coalesce_behind_events} events behind",
        f"by one principal | {limits.streams_of_one_max} |",
        f"covers the {limits.timeline_s / 3600:g} hours before",
        f"retry: {limits.retry_ms}",
    ):
        assert sentence in guide, sentence
