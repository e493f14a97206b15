"""The floor of the REST face: a route of the same framework on the same server that returns ready bytes."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response


def main() -> None:
    port, size = int(sys.argv[1]), int(sys.argv[2])
    body = b'{"ready":"' + b"x" * (size - 12) + b'"}'
    app = FastAPI(openapi_url=None)

    @app.get("/ready")
    async def ready() -> Response:
        return Response(body, media_type="application/json")

    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="error"
    )


if __name__ == "__main__":
    main()
