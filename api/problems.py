"""What can go wrong for a caller, as RFC 9457 problem details.

The table below is the whole inventory: every code, its status and its meaning, for the answers, for the
OpenAPI document and for the page at `/docs`. Codes are stable; details and hints are for people. Nothing
here knows which route raised what.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from api.auditing import AUDIT_KINDS
from api.configuring import CONFIGURATION_KINDS, RevisionInfo
from api.kinds import ACCESS_KINDS, Kind
from api.refusals import COMMAND_KINDS

#: Where a caller whose cursor is of no use any more starts again.
SNAPSHOT = "/api/v1/equipment"


_KINDS = (
    Kind(
        "unknown_parameter",
        400,
        "Unknown parameter",
        "The request carries a query parameter that this route does not have.",
        "Leave it out, or correct its name.",
    ),
    Kind(
        "invalid_parameter",
        400,
        "Invalid parameter",
        "A parameter cannot be read or lies outside its range; `errors` lists every one of them.",
        "Correct each parameter listed in errors.",
    ),
    Kind(
        "unexpected_body",
        400,
        "Unexpected body",
        "A request carries a body to a route that reads none.",
        "Send the request without a body.",
    ),
    Kind(
        "not_found",
        404,
        "No such route",
        "Nothing is served at this path.",
        "The routes are listed at /docs.",
    ),
    Kind(
        "unknown_equipment",
        404,
        "Unknown equipment",
        "No equipment of this name is configured.",
        "GET /api/v1/equipment lists the names.",
    ),
    Kind(
        "unknown_tag",
        404,
        "Unknown tag",
        "No tag of this connection and name is configured.",
        "GET /api/v1/tags lists the tags.",
    ),
    Kind(
        "unknown_connection",
        404,
        "Unknown connection",
        "No connection of this name is configured.",
        "GET /api/v1/connections lists the names.",
    ),
    Kind(
        "unknown_model",
        404,
        "Unknown model",
        "No state model of this name is built in or in use.",
        "GET /api/v1/models lists the names.",
    ),
    Kind(
        "no_state_yet",
        404,
        "No state yet",
        "At the asked-for instant the equipment had not made its first recorded transition.",
        "Ask for a later instant; its transitions show when the record begins.",
    ),
    Kind(
        "unknown_transition",
        404,
        "Unknown transition",
        "The event of this number is no transition of this equipment, or cannot be read any more.",
        "GET /api/v1/equipment/{name}/transitions lists them with their seq.",
    ),
    Kind(
        "method_not_allowed",
        405,
        "Method not allowed",
        "The route exists, but not for this method; `Allow` says which it takes.",
        "Use one of the methods in the Allow header.",
    ),
    Kind(
        "body_too_slow",
        408,
        "Body too slow",
        "The body of the request did not arrive in time.",
        "Send it in one go.",
    ),
    Kind(
        "stalled",
        408,
        "Nothing was taken",
        "The client of a stream took nothing for as long as it may. Told at the end of the stream.",
        "Continue after the last cursor; read faster, ask for less, or ask with coalesce=true.",
    ),
    Kind(
        "reconciliation_running",
        409,
        "Reconciliation at work",
        "A reconciliation is at work, by the clock or because somebody asked; there is one at a time.",
        "Try again when it is done; GET /api/v1/reconciliations then has its report.",
    ),
    Kind(
        "key_reused",
        422,
        "Key used before",
        "The Idempotency-Key of the request came with another body before.",
        "Use a new key for every new request, and the same only to send the same again.",
    ),
    Kind(
        "too_old",
        410,
        "Cursor too old",
        "The events right after the cursor are no longer held, so a continuation would have a hole.",
        "Take a snapshot at the address in snapshot, then go on after its stream and seq.",
    ),
    Kind(
        "other_stream",
        410,
        "Cursor of another stream",
        "The cursor belongs to a journal that this gateway does not have any more.",
        "Take a snapshot at the address in snapshot, then go on after its stream and seq.",
    ),
    Kind(
        "body_too_large",
        413,
        "Body too large",
        "The body of the request is larger than any that makes sense here.",
        "Send less at once.",
    ),
    Kind(
        "unsupported_media_type",
        415,
        "Not JSON",
        "The body of the request is not said to be JSON.",
        "Send JSON, with the header Content-Type: application/json.",
    ),
    Kind(
        "from_the_future",
        416,
        "Cursor from the future",
        "The cursor lies beyond the last event: it came from another gateway, or this one was restored "
        "from an older backup.",
        "Take a snapshot at the address in snapshot, then go on after its stream and seq.",
    ),
    Kind(
        "invalid_body",
        422,
        "Invalid body",
        "The body cannot be read, or something in it is not what the route takes; `errors` says where.",
        "Compare it with the example at /docs.",
    ),
    Kind(
        "upgrade_required",
        426,
        "Upgrade required",
        "A plain request came to where a WebSocket is served.",
        "Open a WebSocket, or use GET /api/v1/events.",
    ),
    Kind(
        "internal_error",
        500,
        "Internal error",
        "The gateway failed to answer; its log says why under the given reference.",
        "Try again; if it stays, hand the reference to whoever maintains the gateway.",
    ),
    Kind(
        "too_many_streams",
        503,
        "Too many streams",
        "As many event streams are open as the gateway allows.",
        "Close streams you do not need, or raise the limit.",
    ),
    Kind(
        "history_unavailable",
        503,
        "History unavailable",
        "The answer lies in the database, and the database does not answer. Live routes are not affected.",
        "Try again after the time in Retry-After; /readyz shows the state of each part.",
    ),
    Kind(
        "not_recorded",
        503,
        "Not recorded",
        "The journal did not take it in time, so that it is not known to be durable.",
        "Send it again with the same Idempotency-Key: it is done once.",
    ),
    Kind(
        "stopping",
        503,
        "Stopping",
        "The gateway is shutting down and opens no new streams.",
        "Connect again after the time in Retry-After.",
    ),
)

#: Every problem by its code.
KINDS: dict[str, Kind] = {
    kind.code: kind for kind in (*_KINDS, *ACCESS_KINDS, *CONFIGURATION_KINDS, *AUDIT_KINDS, *COMMAND_KINDS)
}


class ParameterError(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with one parameter; `place` is `query`, `header`, `body` (then a path into it) or `file`:
    then `file`, `line` and `code` say more, and `parameter` is the key."""

    place: str
    parameter: str
    reason: str
    hint: str = ""
    file: str = ""
    line: int | None = None
    code: str = ""


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every problem answer (RFC 9457, `application/problem+json`).

    `type` leads to the explanation at `/docs`. `stream`, `first_seq`, `last_seq` and `snapshot` come with
    problems of cursors, `errors` with problems of parameters, `reference` with internal errors,
    `running` where another configuration runs than the caller knew.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    hint: str
    errors: tuple[ParameterError, ...] = ()
    stream: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    snapshot: str | None = None
    reference: str | None = None
    running: RevisionInfo | None = None


class Problem(Exception):
    """Raised anywhere in a route; answered as a problem document.

    `headers` go into the answer besides the usual ones.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: str = "",
        errors: Sequence[ParameterError] = (),
        stream: str | None = None,
        first_seq: int | None = None,
        last_seq: int | None = None,
        snapshot: str | None = None,
        reference: str | None = None,
        running: RevisionInfo | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(detail)
        self.kind = KINDS[code]
        self.detail = detail
        self.hint = hint or self.kind.hint
        self.errors = tuple(errors)
        self.stream = stream
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.snapshot = snapshot
        self.reference = reference
        self.running = running
        self.headers = tuple(headers)

    def details(self, instance: str) -> ProblemDetails:
        """The document for a request of the path `instance`."""
        return ProblemDetails(
            type=f"/docs#problem-{self.kind.code}",
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            instance=instance,
            code=self.kind.code,
            hint=self.hint,
            errors=self.errors,
            stream=self.stream,
            first_seq=self.first_seq,
            last_seq=self.last_seq,
            snapshot=self.snapshot,
            reference=self.reference,
            running=self.running,
        )
