"""Health and metrics, outside the versioned prefix because orchestrators and scrapers expect them there."""

from __future__ import annotations

from starlette.responses import Response

from api.access import Permission
from api.examples import LIVE, METRICS, READY
from api.operation import Answer, Call, Context, Operation
from api.responses import Ready, json_answer
from api.schemas import Liveness
from api.settings import ApiSettings


async def healthz(context: Context, _: Call) -> Response:
    """Whether the process runs and its loops move."""
    alive = context.ports.health.live()
    return json_answer(Liveness("ok" if alive else "failing"), 200 if alive else 503)


async def readyz(context: Context, call: Call) -> Response:
    """Whether the gateway does its work; part by part for callers who may see everything."""
    report = context.ports.health.report()
    if call.by.areas is not None or not call.by.may(Permission.READ):
        report = {"status": report["status"], "ready": report["ready"]}
    return json_answer(report, 200 if report["ready"] else 503)


async def metrics(context: Context, _: Call) -> Response:
    """Prometheus text."""
    body, media = context.ports.metrics.render()
    return Ready(body, media=media.encode())


_REPORT = {
    "type": "object",
    "required": ["status", "ready"],
    "properties": {
        "status": {"type": "string", "enum": ["ok", "degraded", "failing"]},
        "ready": {"type": "boolean"},
        "parts": {"type": "object", "description": "Each part of the gateway, with its reason."},
    },
}


def operations(_: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            "/healthz",
            "health",
            "Liveness",
            "200 while the process runs and its loops move; otherwise 503, and it should be restarted. Lost "
            "connections or a missing database do not fail it.",
            healthz,
            (
                Answer(200, "It lives.", "application/json", Liveness, {"ok": LIVE}),
                Answer(503, "It does not.", "application/json", Liveness, {"failing": {"status": "failing"}}),
            ),
            needs=Permission.PUBLIC,
            scoped=True,
        ),
        Operation(
            "/readyz",
            "health",
            "Readiness",
            "The report of every part with its reason: 200 when the gateway is ready, 503 when it is not. "
            "Callers who may not see everything are told `status` and `ready` alone.",
            readyz,
            (
                Answer(200, "Ready, perhaps degraded.", "application/json", _REPORT, {"degraded": READY}),
                Answer(
                    503,
                    "Not ready.",
                    "application/json",
                    _REPORT,
                    {"failing": READY | {"status": "failing", "ready": False}},
                ),
            ),
            needs=Permission.PUBLIC,
            scoped=True,
        ),
        Operation(
            "/metrics",
            "health",
            "Metrics",
            "Counters and gauges for Prometheus, with the prefix `andon_`.",
            metrics,
            (Answer(200, "Prometheus text.", "text/plain", {"type": "string"}, {"link": METRICS}),),
            needs=Permission.READ,
        ),
    )
