"""The whole OpenAPI document against the application: whatever is sent, sound or not, by whoever.

Held for every answer: no failure of ours, a status the document has, its media type, its shape, and headers.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from api.settings import ApiSettings
from tests.api.access_twin import AccessTwin
from tests.api.desk_twins import whole_ports
from tests.api.twins import Plant

LONG = os.environ.get("ANDON_TEST_PROFILE") == "long"
EXAMPLES = 60 if LONG else 12
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
#: Streams have no end; `test_fuzz` and the tests of streams ask for them.
ENDLESS = ("/api/v1/events", "/api/v1/ws")

_plant = Plant()
_plant.fill(60)
_app = create_app(whole_ports(_plant, AccessTwin()), ApiSettings(heartbeat_s=0.01), now=lambda: _plant.now_at)
_schema = schemathesis.openapi.from_asgi("/openapi.json", _app, headers={"Authorization": "Bearer ak_all"})
#: Mostly somebody who may do everything; the others are turned away as documented.
_TOKENS = st.sampled_from(
    ["ak_all", "ak_all", "ak_all", "ak_operator_scoped", "ak_auditor", "as_limited", ""]
)
_paths = _app.openapi()["paths"]
_PROBLEM = "application/problem+json"
OPERATIONS: list[Any] = [
    found.ok()
    for found in _schema.get_all_operations()
    if isinstance(found, Ok) and found.ok().path not in ENDLESS
]


def test_the_whole_document_is_asked() -> None:
    told = {(path, method.upper()) for path, item in _app.openapi()["paths"].items() for method in item}
    asked = {(one.path, one.method.upper()) for one in OPERATIONS}
    assert (
        asked | {(path, "GET") for path in (*ENDLESS, "/openapi.json")} == told
    )  # the last is how it is read


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_answer_is_a_documented_one(operation: Any) -> None:
    for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=not LONG,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), token=_TOKENS)
        def ask(case: Any, token: str) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {token}"} if token else {})
            case.validate_response(answer, checks=CHECKS)
            if answer.headers.get("content-type", [""])[0] == _PROBLEM:
                told = _paths[operation.path][operation.method]["responses"][str(answer.status_code)]
                assert answer.json()["code"] in told["content"][_PROBLEM]["examples"]

        try:
            ask()
        except Unsatisfiable:  # every text is a name: nothing that could be sent there is wrong
            assert mode is GenerationMode.NEGATIVE
            assert not operation.body
