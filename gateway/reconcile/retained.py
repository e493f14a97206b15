"""Reading what a broker has retained: a short-lived second connection that only listens.

It asks for exact topics, some at a time, so that nothing of anybody else comes in, and it is bounded in
time, topics and bytes. It never publishes and has no will. What was not given in time looks as if it were not
there, so whoever judges looks twice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.link import PAHO_FAILURES
from gateway.mqtt.options import LinkOptions, tls_context
from gateway.mqtt.reasons import failure
from gateway.mqtt.wire import Wire

#: Topics asked for in one packet.
_FILTERS_MAX = 50
#: So long a silence after the last answer means that there is no more.
QUIET_S = 0.4
#: Most bytes taken from the broker in one reading.
BYTES_MAX = 16_000_000
#: Longest reading.
READ_S_MAX = 20.0


async def read_retained(
    options: LinkOptions,
    topics: Sequence[str],
    *,
    quiet_s: float = QUIET_S,
    bytes_max: int = BYTES_MAX,
    timeout_s: float = READ_S_MAX,
) -> Mapping[str, bytes]:
    """The retained payload of each of these topics that has one.

    `options` are those of the publisher; the client id gets `-reconcile` behind it.

    Raises:
        SinkUnavailable: the broker does not answer, not in time, or with more than `bytes_max`.
        SinkRefused: it will not have us, or lets us not read these topics.
    """
    reader = _Reader(replace(options, client_id=f"{options.client_id}-reconcile"), bytes_max)
    try:
        async with asyncio.timeout(timeout_s):
            await reader.connect()
            for at in range(0, len(topics), _FILTERS_MAX):
                await reader.subscribe(topics[at : at + _FILTERS_MAX])
            await reader.until_quiet(len(topics), quiet_s)
    except TimeoutError as error:
        raise SinkUnavailable(f"the broker at {options.address} does not answer in time") from error
    except ssl.SSLError as error:
        raise SinkUnavailable(f"TLS with the broker at {options.address} fails: {error}") from error
    except OSError as error:
        raise SinkUnavailable(f"the broker at {options.address} cannot be reached: {error}") from error
    finally:
        await reader.leave()
    return reader.found


class _Client(Client):
    """paho with our wire for a socket."""

    wire: Wire

    def _create_socket(self) -> Wire:
        return self.wire


class _Reader:
    def __init__(self, options: LinkOptions, bytes_max: int) -> None:
        self.found: dict[str, bytes] = {}
        self._options, self._bytes_left = options, bytes_max
        self._v5 = options.protocol == "5"
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._taken: asyncio.Future[None] | None = None
        self._news = asyncio.Event()
        self._wire: Wire | None = None
        self._client = client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=MQTTv5 if self._v5 else MQTTv311,
            clean_session=None if self._v5 else True,
            reconnect_on_failure=False,
        )
        if options.user is not None:
            client.username_pw_set(options.user, options.password)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_register_write = self._on_want_write
        client.connect_async(options.host, options.port, 60, clean_start=True)

    async def connect(self) -> None:
        options = self._options
        self._wire = self._client.wire = await Wire.open(
            options.host, options.port, tls_context(options), on_data=self._readable, on_lost=self._lost
        )
        self._drive(self._client.reconnect)
        await self._unless_over(self._accepted)

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics; returns when the broker has taken the wish."""
        self._taken = self._loop.create_future()
        if self._v5:
            wishes: Any = [(topic, SubscribeOptions(qos=0)) for topic in topics]
        else:
            wishes = [(topic, 0) for topic in topics]
        self._drive(lambda: self._client.subscribe(wishes))
        await self._unless_over(self._taken)

    async def until_quiet(self, topics: int, quiet_s: float) -> None:
        """Return when every topic has come, or nothing has for a while."""
        while len(self.found) < topics:
            self._news.clear()
            try:
                async with asyncio.timeout(quiet_s):
                    await self._news.wait()
            except TimeoutError:
                break
        if self._over.done():
            self._over.result()

    async def leave(self) -> None:
        """Say goodbye where somebody listens; never waits for an answer."""
        if self._wire is None:
            return
        if not self._over.done():
            self._end(None)
            self._drive(self._client.disconnect)
            self._drive(self._client.loop_write)
            await asyncio.sleep(0)  # what was said leaves in this turn of the loop
        self._wire.close()
        self._wire.abort()
        await self._wire.closed.wait()

    # -- inside

    async def _unless_over(self, awaited: asyncio.Future[None]) -> None:
        await asyncio.wait({awaited, self._over}, return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            self._over.result()
            raise SinkUnavailable(f"the broker at {self._options.address} ended the connection")

    def _drive(self, step: Callable[[], object]) -> None:
        try:
            step()
        except PAHO_FAILURES as error:
            self._end(SinkUnavailable(f"the MQTT client failed: {error!r}"))

    def _readable(self) -> None:
        wire = self._wire
        while wire is not None and not self._over.done() and (unread := wire.unread):
            self._drive(self._client.loop_read)
            self._bytes_left -= unread - wire.unread
            if self._bytes_left < 0:
                self._end(SinkUnavailable(f"the broker at {self._options.address} gives more than is taken"))
            if wire.unread == unread:
                return

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, said: Properties | None
    ) -> None:
        if reason.is_failure:
            self._end(failure(reason.value, "a second connection", connecting=True))
        elif not self._accepted.done():
            self._accepted.set_result(None)

    def _on_subscribe(
        self, client: Client, userdata: Any, number: int, reasons: list[ReasonCode], said: Properties | None
    ) -> None:
        if any(reason.value >= 0x80 for reason in reasons):
            self._end(
                SinkRefused(
                    f"the broker at {self._options.address} lets this client not read its own topics",
                    hint="let it read them in the broker's access rules, or they cannot be compared",
                )
            )
        elif self._taken is not None and not self._taken.done():
            self._taken.set_result(None)

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        if message.payload:
            self.found[message.topic] = bytes(message.payload)
        else:
            self.found.pop(message.topic, None)
        self._news.set()

    def _on_want_write(self, client: Client, userdata: Any, sock: Any) -> None:
        self._loop.call_soon(self._drive, client.loop_write)

    def _on_disconnect(
        self,
        client: Client,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        said: Properties | None,
    ) -> None:
        self._end(SinkUnavailable(f"the connection to read with failed: {str(reason).lower()}"))

    def _lost(self, error: Exception | None) -> None:
        self._end(
            SinkUnavailable(f"the broker ended the connection to read with{f': {error}' if error else ''}")
        )

    def _end(self, why: SinkUnavailable | SinkRefused | None) -> None:
        if self._over.done():
            return
        if why is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(why)
            self._over.exception()  # told; nobody need wait for it
        self._news.set()
