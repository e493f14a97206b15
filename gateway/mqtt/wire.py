"""Bytes to and from a broker: an asyncio transport with the little a link needs of it.

asyncio resolves names, connects and does TLS; what arrives is kept here until it is taken, what is sent is
joined into few writes. It can be told to let nothing in for a while, and tells when nothing more should go
out. It knows nothing of MQTT.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

#: More than this waiting to be written in one turn of the loop is written at once, in bytes.
_JOIN_BYTES_MAX = 64 * 1024

#: Answers to somebody who takes nothing, in bytes: an answer of four to each of the packet identifiers there
#: are, twice for QoS 2, is half of it.
ANSWERS_BYTES_MAX = 1024 * 1024


class Wire(asyncio.Protocol):
    """One connection. `on_data` is called when there is more `received`, `on_lost` once at its end.

    `full` is true while the other side takes less than is sent; `on_room` is called when it ends.
    `chunks_in` and `chunks_out` count what came and went: whether a side has been silent.
    """

    def __init__(
        self,
        on_data: Callable[[], None],
        on_lost: Callable[[Exception | None], None],
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_data = on_data
        self._on_lost = on_lost
        self._on_room = on_room
        self._transport: asyncio.Transport | None = None
        self._to_send: list[bytes] = []
        self._to_send_bytes = 0
        self._untaken_bytes = 0
        self._loop = asyncio.get_running_loop()
        self.received = bytearray()
        """What has arrived and was not taken yet; `taken` takes from its front."""
        self.full = False
        self.chunks_in = self.chunks_out = 0
        self.closed = asyncio.Event()

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        on_data: Callable[[], None],
        on_lost: Callable[[Exception | None], None],
        on_room: Callable[[], None] = lambda: None,
    ) -> Wire:
        """Connect, with TLS when there is a context for it.

        Raises:
            OSError: nobody answers there, or the name is unknown, or TLS fails (`ssl.SSLError`).
        """
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(
            lambda: cls(on_data, on_lost, on_room), host, port, ssl=tls, server_hostname=host if tls else None
        )
        return wire

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.chunks_in += 1
        self._on_data()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed.set()
        self._on_lost(exc)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._untaken_bytes = 0
        self._on_room()

    # --- what we call

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate the other side showed (DER), or None without TLS."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        shown: bytes | None = tls.getpeercert(binary_form=True) if tls is not None else None
        return shown

    def taken(self, size: int) -> None:
        """So many bytes of `received` have been read and are forgotten."""
        del self.received[:size]

    def rest(self) -> None:
        """Let nothing more in until `go_on`; what is on its way waits in the other side's buffers."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Let in again what `rest` kept out."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def send(self, packet: bytes) -> None:
        """Take all of it; it leaves with everything else that is sent in this turn of the loop.

        Raises:
            ConnectionError: the connection is over.
        """
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        if not self._to_send:
            self._loop.call_soon(self._flush)
        self._to_send.append(packet)
        self._to_send_bytes += len(packet)
        if self._to_send_bytes > _JOIN_BYTES_MAX:
            self._flush()

    def answer(self, packet: bytes) -> None:
        """Send what the other side asks for, and no more of it than it takes: here nobody waits for room.

        Raises:
            ConnectionError: the connection is over, or of no use.
        """
        if self.full:
            self._untaken_bytes += len(packet)
            if self._untaken_bytes > ANSWERS_BYTES_MAX:
                raise ConnectionError("the broker takes no answers and goes on asking for them")
        self.send(packet)

    def close(self) -> None:
        """Send what is left, then end the connection."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once; nothing more is sent."""
        self._to_send.clear()
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._to_send and self._transport is not None:
            self._transport.writelines(self._to_send)
            self.chunks_out += 1
        self._to_send.clear()
        self._to_send_bytes = 0
