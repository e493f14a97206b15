"""The library's transport with bounds on what a server may make this process hold.

The library announces limits it does not keep, takes over those the server names, and collects an endless
chunk for ever. Here the limits are ours. It knows framing only: no session, no subscription.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from asyncua import ua
from asyncua.client.ua_client import UaClient, UASocketProtocol
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import Buffer
from asyncua.crypto import security_policies
from asyncua.ua.ua_binary import header_to_binary, struct_to_binary

# Everything the library could report comes to us as an error and is told once, in our words; its own lines
# would flood the log when a device is off, and at its debug level they hold whole requests with passwords.
logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)

CHUNK_BYTES_MAX = 65_536
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
#: The smallest buffer an implementation may have (OPC 10000-6 section 7.1.2.3).
_BUFFER_MIN = 8192
_CHUNKS_MAX = MESSAGE_BYTES_MAX // _BUFFER_MIN


class _OurLimits(TransportLimits):
    """What we take is for us to say; the server only says what it takes."""

    def update_client_limits(self, msg: ua.Acknowledge) -> None:
        if msg.ReceiveBufferSize:
            self.max_send_buffer = max(_BUFFER_MIN, min(self.max_send_buffer, int(msg.ReceiveBufferSize)))


class _Socket(UASocketProtocol):
    """The library's framing with bounds, and Publish requests nobody has to wait for."""

    def __init__(self, timeout: float, policy: security_policies.SecurityPolicy) -> None:
        limits = _OurLimits(CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, _CHUNKS_MAX, MESSAGE_BYTES_MAX)
        super().__init__(timeout, policy, limits)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.receive_buffer is not None and len(self.receive_buffer) > CHUNK_BYTES_MAX:
            # A chunk longer than the server was told to send: it would be collected for ever.
            self.abort()

    async def send_hello(self, url: str, max_messagesize: int = 0, max_chunkcount: int = 0) -> ua.Acknowledge:
        hello: Any = ua.Hello()
        hello.EndpointUrl = url
        hello.ReceiveBufferSize = hello.SendBufferSize = CHUNK_BYTES_MAX
        hello.MaxMessageSize, hello.MaxChunkCount = MESSAGE_BYTES_MAX, _CHUNKS_MAX
        answer: asyncio.Future[ua.Acknowledge] = asyncio.get_running_loop().create_future()
        self._callbackmap[0] = answer
        if self.transport is None:
            raise ConnectionError("connection lost")
        body = struct_to_binary(hello)
        new_header: Any = ua.Header
        header = new_header(ua.MessageType.Hello, ua.ChunkType.Single)
        header.body_size = len(body)
        self.transport.write(header_to_binary(header) + body)
        async with asyncio.timeout(self.timeout):
            return await answer

    def publish(self, request: ua.PublishRequest) -> asyncio.Future[Buffer]:
        return self._send_request(request, timeout=0)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Wire(UaClient):
    """The library's service calls over a socket with bounds."""

    protocol: _Socket | None

    def _make_protocol(self) -> _Socket:
        protocol = _Socket(self._timeout, self.security_policy)
        protocol.on_connection_lost = self._on_transport_lost
        protocol.is_session_closing = self._is_session_closing
        self.protocol = protocol
        return protocol

    async def connect_socket(self, host: str, port: int) -> None:
        await asyncio.get_running_loop().create_connection(self._make_protocol, host, port)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection to send anything over."""
        return self.protocol is not None and self.protocol.transport is not None

    async def ask(self, request: Any) -> Buffer:
        return await self._send_request(request)

    def abort(self) -> None:
        if self.protocol is not None:
            self.protocol.abort()
