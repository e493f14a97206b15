"""Getting through to a broker: name, TCP and TLS, and what people are told when it fails. No MQTT here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.options import LinkOptions, tls_context
from gateway.mqtt.reasons import SECTION
from gateway.mqtt.wire import Wire

#: Words of TLS alerts (RFC 8446 section 6.2) that judge the certificate we showed, or that we showed none.
_ABOUT_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")


async def reach(
    options: LinkOptions,
    *,
    on_data: Callable[[], None],
    on_lost: Callable[[Exception | None], None],
    on_room: Callable[[], None],
) -> Wire:
    """A connection to the broker, with TLS where it is wanted. Files are read off the loop, each time anew.

    Raises:
        SinkUnavailable: nobody answers, or TLS fails.
        SinkRefused: a file is of no use, or the broker's certificate is not to be trusted.
    """
    tls = await asyncio.to_thread(tls_context, options) if options.tls else None
    try:
        return await Wire.open(
            options.host, options.port, tls, on_data=on_data, on_lost=on_lost, on_room=on_room
        )
    except TimeoutError:  # an OSError too; whoever set the time says how long it was
        raise
    except ssl.SSLError as error:
        raise tls_failure(options, error) from error
    except ConnectionError as error:
        if tls is None or isinstance(error, ConnectionRefusedError):
            raise _away(options, error) from error
        raise SinkUnavailable(  # it was there, and did not like how TLS begins
            f"the broker at {options.address} ends the connection when TLS begins: {error.strerror or error}",
            hint=f"check that this port speaks TLS (mostly 8883); without TLS write mqtt:// in {SECTION}",
        ) from error
    except OSError as error:
        raise _away(options, error) from error


def _away(options: LinkOptions, error: OSError) -> SinkUnavailable:
    return SinkUnavailable(
        f"the broker at {options.address} cannot be reached: {error.strerror or error}",
        hint=f"check that it runs, and the address in {SECTION}",
    )


def tls_failure(options: LinkOptions, error: ssl.SSLError) -> SinkUnavailable | SinkRefused:
    """Why TLS did not come about. With TLS 1.3 a broker judges our certificate after its own part is done."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return SinkRefused(
            f"the certificate of the broker at {options.address} is not trusted: {error.verify_message}",
            hint=f"set ca_file in {SECTION} to the authority that signed it, and use the name it is for",
        )
    reason = error.reason or str(error)
    if "ALERT" in reason and any(word in reason for word in _ABOUT_OUR_CERTIFICATE):
        said = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return SinkRefused(
            f"the broker at {options.address} does not accept our certificate: {said}",
            hint=f"set cert_file and key_file in {SECTION} to a pair that an authority of the broker signed",
        )
    return SinkUnavailable(
        f"TLS with the broker at {options.address} fails: {reason}",
        hint="check that this port speaks TLS, and the client certificate if it wants one",
    )


async def listens(options: LinkOptions) -> bool:
    """Whether the broker still accepts connections. Says nothing to it, so nobody loses a session by this."""
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            wire = await Wire.open(
                options.host, options.port, None, on_data=lambda: None, on_lost=lambda error: None
            )
    except OSError:  # a timeout is one too
        return False
    wire.abort()
    await wire.closed.wait()
    return True
