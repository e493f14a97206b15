"""What a kind of problem is, and those of access: who may come in, and who may be let in.

The other kinds stand in `api/problems.py`, which puts all of them together.
"""

from __future__ import annotations

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """One row of the table: `meaning` says when it happens, `hint` what usually helps."""

    code: str
    status: int
    title: str
    meaning: str
    hint: str


ACCESS_KINDS = (
    Kind(
        "unauthenticated",
        401,
        "Unauthenticated",
        "The request does not say who sends it, and what it asks for is not open to everybody.",
        "Send Authorization: Bearer with a session's token or an API key; POST /api/v1/sessions logs in.",
    ),
    Kind(
        "invalid_credentials",
        401,
        "Invalid credentials",
        "The name, the password, the token or the key is not right.",
        "Check them; keys and tokens may have been revoked.",
    ),
    Kind(
        "session_ended",
        401,
        "Session ended",
        "The session of the request is over: by time, by logging out, or because somebody ended it.",
        "Log in again.",
    ),
    Kind(
        "forbidden",
        403,
        "Forbidden",
        "The caller is known and may not do this.",
        "GET /api/v1/sessions/own shows your roles and areas; an admin can change them.",
    ),
    Kind(
        "password_must_change",
        403,
        "Password must be changed",
        "The user's password was given by somebody else and has to be changed before anything else is done.",
        "Send the old and the new one to POST /api/v1/sessions/own/password, then log in again.",
    ),
    Kind(
        "cross_site",
        403,
        "From another site",
        "A page of another site had a browser send the request, or it cannot be told that none did.",
        "Use the pages of the gateway itself, or send a token in the Authorization header.",
    ),
    Kind(
        "wrong_host",
        421,
        "Wrong host",
        "The gateway listens for this machine only, and the request names another host.",
        "Use http://127.0.0.1 and the port of the API, or name the host in [api] hosts.",
    ),
    Kind(
        "locked_out",
        429,
        "Locked out",
        "Too many logins with this name or from this address have failed.",
        "Try again after the time in Retry-After.",
    ),
    Kind(
        "too_many_requests",
        429,
        "Too many requests",
        "More requests came from this caller or this address than the gateway takes.",
        "Ask less often; try again after the time in Retry-After.",
    ),
    Kind(
        "unknown_user",
        404,
        "Unknown user",
        "There is no user of this name.",
        "GET /api/v1/users lists them.",
    ),
    Kind(
        "unknown_key",
        404,
        "Unknown key",
        "There is no API key of this id.",
        "GET /api/v1/keys lists them.",
    ),
    Kind(
        "unknown_session",
        404,
        "Unknown session",
        "No session of this id is open.",
        "GET /api/v1/sessions lists them.",
    ),
    Kind(
        "already_exists",
        409,
        "Exists already",
        "Something of this name is there already.",
        "Take another name, or change the one that is there.",
    ),
    Kind(
        "last_admin",
        409,
        "Last admin",
        "Nobody would be left who could administer users.",
        "Make somebody else an admin first.",
    ),
    Kind(
        "not_allowed_here",
        409,
        "Not for this caller",
        "What is asked for is for users with a password, and the caller is none.",
        "Log in as a user.",
    ),
    Kind(
        "changed_meanwhile",
        412,
        "Changed meanwhile",
        "What If-Match names is not the present version: somebody else has changed it.",
        "Read it again, and decide again.",
    ),
    Kind(
        "weak_password",
        422,
        "Weak password",
        "The password is too short, too well known, or like the name.",
        "Take at least 12 characters that nobody can guess: four words, for example.",
    ),
    Kind(
        "version_required",
        428,
        "If-Match required",
        "What several people may edit is changed only by who says which version was read.",
        "Send If-Match with the ETag of the answer you read.",
    ),
    Kind(
        "headers_too_large",
        431,
        "Headers too large",
        "The headers of the request are larger than any that make sense here.",
        "Send fewer and shorter headers.",
    ),
    Kind(
        "uri_too_long",
        414,
        "Address too long",
        "The address of the request, with its query, is longer than any that makes sense here.",
        "Ask for less at once.",
    ),
    Kind(
        "access_unavailable",
        503,
        "Users and keys unavailable",
        "The files of users and keys cannot be read or written, or the audit trail cannot take the change.",
        "The log and /readyz say what is wrong with them.",
    ),
)
