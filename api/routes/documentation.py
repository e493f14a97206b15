"""The description of the API, as OpenAPI and as a page that needs nothing from outside the plant."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from starlette.responses import Response

from api.access import Permission
from api.operation import Answer, Call, Context, Operation
from api.responses import PAGE_HEADERS, tagged_answer
from api.settings import ApiSettings

_FILES = Path(__file__).parent.parent / "docs"


class OpenApiDocument:
    """Holds the document until all operations, these among them, are known."""

    def __init__(self) -> None:
        self.json = b"{}"

    async def openapi(self, _: Context, call: Call) -> Response:
        """The OpenAPI document."""
        return tagged_answer(self.json, "openapi", call.headers)

    def operations(self, _: ApiSettings) -> tuple[Operation, ...]:
        """The routes of this file."""
        return (
            Operation(
                "/openapi.json",
                "documentation",
                "This API as OpenAPI 3.1",
                "For generated clients and tools.",
                self.openapi,
                (
                    Answer(200, "The document.", "application/json", {"type": "object"}, {"head": _HEAD}),
                    Answer(304, "The client has it already."),
                ),
                needs=Permission.READ,
                scoped=True,
            ),
            _page("/docs", "page.html", "text/html", "read_docs", "This page"),
            _page("/", "page.html", "text/html", "read_front", "This page, for who types only the address"),
            _page("/docs/page.js", "page.js", "text/javascript", "read_docs_script", "Script of the page"),
            _page("/docs/page.css", "page.css", "text/css", "read_docs_style", "Style of the page"),
        )


_HEAD: dict[str, Any] = {"openapi": "3.1.0", "info": {"title": "Andon"}}


def _page(path: str, file: str, media: str, name: str, summary: str) -> Operation:
    body = (_FILES / file).read_bytes()
    handler = _serve(body, media, name)
    return Operation(
        path,
        "documentation",
        summary,
        "Served by the gateway itself; loads nothing from other hosts.",
        handler,
        (
            Answer(200, "The file.", media, {"type": "string"}, {"begins": body.decode().splitlines()[0]}),
            Answer(304, "The client has it already."),
        ),
        needs=Permission.READ,
        scoped=True,
    )


def _serve(body: bytes, media: str, name: str) -> Callable[[Context, Call], Coroutine[Any, Any, Response]]:
    async def serve(_: Context, call: Call) -> Response:
        return tagged_answer(body, name, call.headers, f"{media}; charset=utf-8".encode(), PAGE_HEADERS)

    serve.__name__ = name
    return serve
