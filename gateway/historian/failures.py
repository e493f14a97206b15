"""What a database error means for what happens next. Pure."""

from __future__ import annotations

import os
import socket
import ssl

import asyncpg

from gateway.errors import SinkRefused, SinkUnavailable

#: Everything asyncpg and the network raise while talking to a server.
DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

#: Classes of SQLSTATE that speak about a row: cardinality, data, integrity, check option, trigger.
_ROW_CLASSES = ("21", "22", "23", "44", "P0")
#: Classes a person has to do something about: password, no such database, rights, missing table or column.
_PERSON_CLASSES = ("28", "3D", "3F", "42", "0A")
#: Of these, the ones that mean a table, column, key or function is not as our migrations made it.
_SHAPE_CODES = ("3F000", "42P01", "42P10", "42703", "42704", "42804", "42883")


def sqlstate(error: BaseException) -> str:
    """The error's SQLSTATE, or empty."""
    return getattr(error, "sqlstate", None) or ""


def blames_a_row(error: BaseException) -> bool:
    """Whether the server (or the driver) will not take some row, whatever the connection does."""
    return isinstance(error, asyncpg.DataError) or sqlstate(error)[:2] in _ROW_CLASSES


def translate(error: BaseException, place: str) -> SinkUnavailable | SinkRefused:
    """The failure to raise: try again after a pause, or tell a person."""
    said = str(error) or type(error).__name__
    code = sqlstate(error)
    if isinstance(error, TimeoutError):
        return SinkUnavailable(f"the database {place} does not answer in time")
    if code == "25006":
        return SinkUnavailable(
            f"the database {place} is read-only",
            hint="it may be a standby; the gateway goes on trying until it finds the primary",
        )
    if isinstance(error, ssl.SSLCertVerificationError | asyncpg.exceptions.ClientConfigurationError):
        return SinkRefused(f"the database {place}: {said}", hint="check historian.dsn")
    if code in _SHAPE_CODES:
        return SinkRefused(
            f"the database {place} refuses: {said}",
            hint="the schema was changed: put back in the schema `andon` what is missing, or restore it "
            "from a backup; the data waits in the journal",
        )
    if code[:2] in _PERSON_CLASSES:
        hint = {
            "28": "check the user and password in historian.dsn",
            "3D": "create the database, or correct historian.dsn",
        }.get(code[:2], "check the rights of the gateway's database user; it needs to own the schema `andon`")
        return SinkRefused(f"the database {place} refuses: {said}", hint=hint)
    if isinstance(error, OSError):
        return SinkUnavailable(
            f"the database {place}: {_words_of(error)}",
            hint="does it run, and are host and port in historian.dsn right?",
        )
    return SinkUnavailable(f"the database {place}: {said}")


def _words_of(error: OSError) -> str:
    """What the system says of it, without its number and without the address again."""
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, ssl.SSLError) or not error.errno:
        return str(error) or type(error).__name__
    return os.strerror(error.errno)
