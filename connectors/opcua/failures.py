"""What went wrong, in words for people, and whether trying again alone will help.

A table of status codes, and a few kinds of operating system errors. Pure.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from connectors.errors import ConnectionLost, ConnectorError, DeviceRefused
from connectors.opcua.binary import Malformed
from connectors.opcua.quality import MEANING, name_of

#: Everything a request to a server can end in, besides our own errors. The last six are what the library
#: raises when an answer does not fit together.
TROUBLE = (
    UaError,
    OSError,
    TimeoutError,
    Malformed,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
)


class SubscriptionGone(ConnectionLost):
    """The server has ended a subscription or itself: there is nothing to come back to."""


@dataclass(frozen=True)
class _Words:
    refused: bool
    reason: str
    hint: str = ""
    gone: bool = False


_CREDENTIALS = _Words(True, "the server does not accept the user or password", 'check "user" and "password"')
_OUR_CERTIFICATE = _Words(
    True, "the server does not trust this gateway's certificate", "approve {own_certificate} on the server"
)
_POLICY = _Words(
    True, "the server does not offer the configured security", 'choose another "security" policy or mode'
)
_SESSION_GONE = _Words(False, "the server has ended the session")
_SHUTDOWN = _Words(False, "the server is shutting down", gone=True)
_FULL = _Words(
    False, "the server has no session left for us", "close other clients, or raise its session limit"
)

_Codes = StatusCodes
_TABLE: dict[int, _Words] = {
    _Codes.BadIdentityTokenRejected: _CREDENTIALS,
    _Codes.BadIdentityTokenInvalid: _CREDENTIALS,
    _Codes.BadUserAccessDenied: _CREDENTIALS,
    _Codes.BadUserSignatureInvalid: _CREDENTIALS,
    _Codes.BadCertificateUntrusted: _OUR_CERTIFICATE,
    _Codes.BadSecurityChecksFailed: _OUR_CERTIFICATE,
    _Codes.BadCertificateInvalid: _OUR_CERTIFICATE,
    _Codes.BadCertificateUseNotAllowed: _OUR_CERTIFICATE,
    _Codes.BadCertificateUriInvalid: _OUR_CERTIFICATE,
    _Codes.BadCertificateChainIncomplete: _OUR_CERTIFICATE,
    _Codes.BadCertificateTimeInvalid: _Words(
        True,
        "the server finds this gateway's certificate expired or not yet valid",
        "compare the clocks; if {own_certificate} has expired, remove it and approve the new one",
    ),
    _Codes.BadCertificateRevoked: _Words(
        True,
        "the server says this gateway's certificate is revoked",
        "remove {own_certificate} to have a new one made",
    ),
    _Codes.BadApplicationSignatureInvalid: _Words(
        True,
        "the server could not verify our signature",
        "its certificate may have changed; trust the new one",
    ),
    _Codes.BadSecurityPolicyRejected: _POLICY,
    _Codes.BadSecurityModeRejected: _POLICY,
    _Codes.BadSecurityModeInsufficient: _POLICY,
    _Codes.BadTcpEndpointUrlInvalid: _Words(
        True, "the server does not know this endpoint", 'compare the path in "endpoint" with the server'
    ),
    _Codes.BadServerUriInvalid: _Words(True, "the server does not know this endpoint", 'check "endpoint"'),
    _Codes.BadServiceUnsupported: _Words(True, "the server does not support subscriptions"),
    _Codes.BadTooManySessions: _FULL,
    _Codes.BadTooManySubscriptions: _Words(
        False, "the server has no subscription left for us", "use fewer groups, or raise its limit"
    ),
    _Codes.BadSessionIdInvalid: _SESSION_GONE,
    _Codes.BadSessionClosed: _SESSION_GONE,
    _Codes.BadSessionNotActivated: _SESSION_GONE,
    _Codes.BadSecureChannelClosed: _SESSION_GONE,
    _Codes.BadSecureChannelIdInvalid: _SESSION_GONE,
    _Codes.BadTcpSecureChannelUnknown: _SESSION_GONE,
    _Codes.BadNoSubscription: _Words(False, "the server has dropped the subscription", gone=True),
    _Codes.BadSubscriptionIdInvalid: _Words(False, "the server has dropped the subscription", gone=True),
    _Codes.BadShutdown: _SHUTDOWN,
    _Codes.BadServerHalted: _SHUTDOWN,
    _Codes.BadTimeout: _Words(False, "the server did not answer in time"),
    _Codes.BadTcpServerTooBusy: _Words(False, "the server is too busy"),
    _Codes.BadRequestTooLarge: _Words(False, "the server finds a request too large"),
    _Codes.BadResponseTooLarge: _Words(False, "an answer would be too large"),
}


def explain_code(code: int, endpoint: str, own_certificate: str = "") -> ConnectorError:
    """The error a status code of a whole service call amounts to."""
    words = _TABLE.get(code & MEANING)
    if words is None:
        return ConnectionLost(f"{endpoint}: the server refused a request ({name_of(code)})")
    hint = words.hint.format(own_certificate=own_certificate or "our certificate")
    kind = DeviceRefused if words.refused else SubscriptionGone if words.gone else ConnectionLost
    return kind(f"{endpoint}: {words.reason} ({name_of(code)})", hint=hint)


def explain(error: BaseException, endpoint: str, own_certificate: str = "") -> ConnectorError:
    """The error that anything in `TROUBLE` amounts to."""
    if isinstance(error, UaStatusCodeError):
        return explain_code(int(error.code), endpoint, own_certificate)
    if isinstance(error, socket.gaierror):
        return ConnectionLost(
            f"{endpoint}: the name cannot be resolved ({error.strerror})",
            hint="check the host name, or use an address",
        )
    if isinstance(error, ConnectionRefusedError):
        return ConnectionLost(
            f"{endpoint}: nothing listens there (connection refused)",
            hint="check the port, and that the OPC UA server is switched on",
        )
    if isinstance(error, TimeoutError):
        return ConnectionLost(f"{endpoint}: no answer in time", hint="check the network and the firewall")
    if isinstance(error, ConnectionError):
        return ConnectionLost(f"{endpoint}: the connection was closed by the other side")
    if isinstance(error, OSError):
        return ConnectionLost(f"{endpoint}: {error.strerror or error}")
    if isinstance(error, UaError) and str(error).startswith("No matching endpoints"):
        words = _POLICY
        return DeviceRefused(f"{endpoint}: {words.reason}", hint=words.hint)
    return ConnectionLost(
        f"{endpoint}: the server's answer cannot be understood ({type(error).__name__}: {error})"
    )


@contextmanager
def told(endpoint: str, own_certificate: str = "") -> Iterator[None]:
    """Say whatever goes wrong in this block in the words of `connectors.errors`."""
    try:
        yield
    except ConnectorError:
        raise
    except TROUBLE as error:
        raise explain(error, endpoint, own_certificate) from error
