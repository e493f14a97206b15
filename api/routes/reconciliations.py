"""Reconciliations: whether memory, journal, database and broker tell the same story, and mending it."""

from __future__ import annotations

from starlette.responses import Response

from api.access import Permission
from api.examples import RECONCILIATION
from api.operation import PREFIX, Answer, Body, Call, Context, Operation
from api.problems import Problem
from api.reconciliation import AlreadyRunning, Reconciliation, ReconciliationList, ReconciliationRequest
from api.responses import json_answer
from api.routes.audit import on_record
from api.settings import ApiSettings


async def list_reconciliations(context: Context, _: Call) -> Response:
    """The newest reports, newest first."""
    return json_answer(ReconciliationList(context.ports.reconciler.reports()))


async def reconcile(context: Context, call: Call) -> Response:
    """Compare now, and mend if asked to."""
    asked: ReconciliationRequest = call.body
    if not asked.repair:
        return json_answer(await _reconciled(context, asked))
    async with on_record(context, call, "repair", "reconciliation", full=asked.full) as ends:
        report = await _reconciled(context, asked)
        ends["mended"] = sum(one.outcome == "repaired" for one in report.differences)
    return json_answer(report)


async def _reconciled(context: Context, asked: ReconciliationRequest) -> Reconciliation:
    try:
        return await context.ports.reconciler.reconcile(repair=asked.repair, full=asked.full)
    except AlreadyRunning:
        raise Problem(
            "reconciliation_running", "A reconciliation is at work; there is one at a time."
        ) from None


def operations(_: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/reconciliations",
            "reconciliations",
            "The newest reconciliations",
            "The reports of the newest comparisons of memory, journal, database and retained topics, newest "
            "first, those by the clock and those that were asked for; at most twenty.",
            list_reconciliations,
            (
                Answer(
                    200,
                    "The reports.",
                    "application/json",
                    ReconciliationList,
                    {"one": {"items": [RECONCILIATION]}},
                ),
            ),
            needs=Permission.READ,
        ),
        Operation(
            f"{PREFIX}/reconciliations",
            "reconciliations",
            "Compare now",
            "Compares memory, journal, database and retained topics, and answers with the report once it is "
            "done, which takes seconds, or with `full` as long as reading all the journal holds. With "
            "`repair` what can be mended without harm is mended: missing rows are written again from the "
            "journal, retained topics published again, those left over from removed equipment cleared. "
            "Nothing is ever overwritten in the database.",
            reconcile,
            (Answer(200, "The report.", "application/json", Reconciliation, {"mended": RECONCILIATION}),),
            problems=("reconciliation_running", "audit_unavailable"),
            body=Body(
                ReconciliationRequest,
                {"look": {"repair": False}, "mend everything": {"repair": True, "full": True}},
            ),
            needs=Permission.REPAIR,
            method="POST",
        ),
    )
