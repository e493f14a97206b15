"""The OpenAPI document, made from the operations that are served.

Knows OpenAPI 3.1 and JSON Schema; knows no noun of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from api.body import BODY_CODES
from api.examples import PROBLEM_DETAILS
from api.kinds import Kind
from api.operation import Answer, Operation
from api.params import Param
from api.problems import KINDS, SNAPSHOT, ProblemDetails
from statemodel.records import (
    ToldAuditAnchor,
    ToldCommand,
    ToldCorrection,
    ToldDeviceEvent,
    ToldRejection,
    ToldSource,
    ToldTransition,
)

#: What each noun is, for the head of its section.
TAGS: Mapping[str, str] = {
    "equipment": "Machines and processes: the state now, at any past instant, and how it got there.",
    "events": "The one sequence of all that happens, as a stream that resumes exactly where it stopped.",
    "commands": "Writing to machines: only what a rule allows, at most once, and read back.",
    "accounts": "Loss accounting: what was recorded of each tag, and where each sample and event is now.",
    "reconciliations": "Whether memory, journal, database and retained topics tell the same story.",
    "tags": "The signals the gateway reads, each with value, quality and the times of source and receipt.",
    "connections": "The links to PLCs and other devices: up or down, since when, and why.",
    "models": "The state models that say which states exist and how they may follow one another.",
    "health": "Whether the gateway itself does its work, for orchestrators and for Prometheus.",
    "access": "Who may do what: sessions, users and API keys.",
    "audit": "Who did what, in a chain of records that shows whoever changes it.",
    "compliance": "What the plant promised itself, and where it was not kept.",
    "configuration": "What runs: reading it, replacing it whole, and the way back.",
    "documentation": "This description, for programs and for people.",
}

_INTRODUCTION = """
What state every machine is in, was in, and why. Times are RFC 3339 in UTC, lengths of time are seconds.
Unknown parameters are refused rather than ignored. Every problem is an RFC 9457 document with a stable `code`
and a `hint`. `GET` routes answer `HEAD` too. What changes anything takes JSON.
`x-needs` is the permission a route needs.
"""

_ETAG = {
    "ETag": {
        "description": "Changes with what is told; sent as If-None-Match it gives 304 while nothing does.",
        "schema": {"type": "string"},
    }
}

_REF = "#/components/schemas/{name}"
_EVENT_TYPES = (
    *(ToldTransition, ToldRejection, ToldSource, ToldDeviceEvent, ToldCorrection),
    *(ToldCommand, ToldAuditAnchor),
)


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document for these operations."""
    types = [
        type_
        for operation in operations
        for answer in operation.answers
        for type_ in (answer.schema if isinstance(answer.schema, tuple) else (answer.schema,))
        if isinstance(type_, type)
    ]
    types += [operation.body.type_ for operation in operations if operation.body is not None]
    unique = tuple(dict.fromkeys((ProblemDetails, *_EVENT_TYPES, *types)))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REF)
    references = dict(zip(unique, schemas, strict=True))
    # What travels as ready bytes has no type of its own to msgspec; its real shape is told here.
    components["TransitionList"]["properties"]["items"]["items"] = references[ToldTransition]
    components["CorrectionList"]["properties"]["items"]["items"] = references[ToldCorrection]
    components["Event"] = {
        "description": "What the `data` of an event in the stream can be; `type` tells them apart.",
        "oneOf": [references[type_] for type_ in _EVENT_TYPES],
    }
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.methods[0].lower()] = _operation(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Andon",
            "version": version,
            "description": _INTRODUCTION.strip(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                code: _problem_response([kind], references[ProblemDetails])
                for code, kind in KINDS.items()
                if kind.status == 405 or code in ("not_found", *BODY_CODES)
            },
        },
        "x-problems": [
            {"code": kind.code, "status": kind.status, "meaning": kind.meaning, "hint": kind.hint}
            for kind in KINDS.values()
        ],
    }


def _operation(operation: Operation, references: Mapping[Any, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for answer in operation.answers:
        responses[str(answer.status)] = _answer(answer, references)
        if answer.tagged:
            responses["304"] = {"description": "The client has this already.", "headers": _ETAG}
    by_status: dict[int, list[Kind]] = {}
    for code in operation.codes():
        by_status.setdefault(KINDS[code].status, []).append(KINDS[code])
    for status, kinds in by_status.items():
        response = _problem_response(kinds, references[ProblemDetails])
        responses[str(status)] = _merged(responses.get(str(status)), response)
    told: dict[str, Any] = {
        "operationId": operation.name(),
        "x-needs": operation.needs.value,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": " ".join(operation.description.split()),
        "parameters": [_parameter(param) for param in operation.params],
        "responses": dict(sorted(responses.items())),
    }
    if operation.body is not None:
        examples = {name: {"value": value} for name, value in operation.body.examples.items()}
        schema = references[operation.body.type_]
        content = {"application/json": {"schema": schema, "examples": examples}}
        told["requestBody"] = {"required": True, "content": content}
    return told


def _merged(present: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
    if present is None:
        return more
    return {
        **present,
        "description": f"{present['description']} Or: {more['description']}",
        "content": {**present.get("content", {}), **more["content"]},
    }


def _parameter(param: Param) -> dict[str, Any]:
    return {
        "name": param.name,
        "in": param.place,
        "required": param.place == "path",
        "description": param.description,
        "schema": dict(param.schema),
        "example": int(param.example) if param.schema.get("type") == "integer" else param.example,
    }


def _answer(answer: Answer, references: Mapping[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        told["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    if answer.tagged:
        told["headers"] = {**told.get("headers", {}), **_ETAG}
    if answer.schema is not None:
        schema = answer.schema
        if isinstance(schema, type):
            schema = references[schema]
        elif isinstance(schema, tuple):
            schema = {"anyOf": [references[type_] for type_ in schema]}
        examples = {name: {"value": value} for name, value in answer.examples.items()}
        told["content"] = {answer.media: {"schema": schema, "examples": examples}}
    return told


def _problem_response(kinds: Sequence[Kind], schema: Any) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": " ".join(f"`{kind.code}`: {kind.meaning}" for kind in kinds),
        "content": {
            "application/problem+json": {
                "schema": schema,
                "examples": {kind.code: {"value": problem_example(kind)} for kind in kinds},
            }
        },
    }
    if any(kind.status == 503 for kind in kinds):
        response["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
        }
    return response


def problem_example(kind: Kind) -> dict[str, Any]:
    """A whole problem document of a kind."""
    example: dict[str, Any] = {
        "type": f"/docs#problem-{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.meaning,
        "instance": "/api/v1/equipment/filler-1/state",
        "code": kind.code,
        "hint": kind.hint,
    }
    example.update(PROBLEM_DETAILS.get(kind.code, {}))
    if "last_seq" in example:
        example["snapshot"] = SNAPSHOT
    return example
