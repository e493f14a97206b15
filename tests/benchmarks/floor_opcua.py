"""The least a Python program can spend on W2: every notification walked with a struct, and counted.

The library shakes hands and subscribes; then the socket is ours, and what arrives is only cut into chunks,
joined and walked. No quality, no times, no tags. It knows the layout of the one plant it reads.
Runs until stdin ends.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from struct import Struct
from typing import Any, cast

import uvloop
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.ua_binary import struct_to_binary

_CHUNK = Struct("<4sIIIII")
_U32 = Struct("<I")
#: Handle, mask, type, Double, status, source time.
_ITEM = Struct("<IBBdIq")
#: Type and header of the response; then what lies between the two arrays it holds.
_HEAD_BYTES, _MESSAGE_BYTES = 4 + 24 + 4, 1 + 4 + 8 + 4 + 4 + 1 + 4
_OUTSTANDING = 4
_ITEMS_PER_CALL = 1000


class Walker(asyncio.Protocol):
    """Reads publish responses and asks for more."""

    def __init__(self, transport: asyncio.Transport, request: bytes, channel: tuple[int, int]) -> None:
        self._transport, self._request, self._channel = transport, request, channel
        self._number = 1_000_000
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self.news = 0
        for _ in range(_OUTSTANDING):
            self._ask()

    def _ask(self) -> None:
        self._number += 1
        head = (b"MSGF", _CHUNK.size + len(self._request), *self._channel, self._number, self._number)
        self._transport.write(_CHUNK.pack(*head) + self._request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 8 and len(buffer) >= (size := _U32.unpack_from(buffer, 4)[0]):
            final = buffer[3] == ord("F")
            self._parts.append(bytes(buffer[_CHUNK.size : size]))
            del buffer[:size]
            if final:
                body = b"".join(self._parts)
                self._parts.clear()
                self._walk(body)
                self._ask()

    def _walk(self, body: bytes) -> None:
        at = _HEAD_BYTES + 4 + 4 * _U32.unpack_from(body, _HEAD_BYTES)[0] + _MESSAGE_BYTES
        if at + 4 > len(body):
            return  # nothing but a sign of life
        count = _U32.unpack_from(body, at)[0]
        items = memoryview(body)[at + 4 : at + 4 + count * _ITEM.size]
        for _handle, _mask, _type, _value, status, _source in _ITEM.iter_unpack(items):
            if not status:
                self.news += 1


async def walk(options: argparse.Namespace) -> None:
    """Subscribe and walk until stdin ends."""
    _ua: Any = ua
    client = Client(options.endpoint)
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    await client.create_session()
    await client.activate_session()
    asked = _ua.CreateSubscriptionParameters()
    asked.RequestedPublishingInterval = options.period_ms
    asked.RequestedMaxKeepAliveCount, asked.RequestedLifetimeCount = 10, 1000
    asked.PublishingEnabled = True
    subscription = await _made(client, asked)
    namespace = await client.get_namespace_index("urn:plant")
    for start in range(0, options.items, _ITEMS_PER_CALL):
        wanted = _ua.CreateMonitoredItemsParameters()
        wanted.SubscriptionId, wanted.TimestampsToReturn = subscription, ua.TimestampsToReturn.Source
        for number in range(start, min(start + _ITEMS_PER_CALL, options.items)):
            item = _ua.MonitoredItemCreateRequest()
            item.ItemToMonitor.NodeId = _ua.NodeId(f"V{number}", namespace)
            item.ItemToMonitor.AttributeId = ua.AttributeIds.Value
            item.MonitoringMode = ua.MonitoringMode.Reporting
            item.RequestedParameters.ClientHandle, item.RequestedParameters.QueueSize = number + 1, 10
            wanted.ItemsToCreate.append(item)
        await client.uaclient.session.create_monitored_items(wanted)
    protocol: Any = client.uaclient.protocol
    transport = cast(asyncio.Transport, protocol.transport)
    request = _ua.PublishRequest()
    request.RequestHeader.AuthenticationToken = protocol.authentication_token
    channel = (1, 1)
    transport.set_protocol(Walker(transport, struct_to_binary(request), channel))
    ended = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), sys.stdin)
    await ended.read()


async def _made(client: Client, asked: Any) -> int:
    request: Any = ua.CreateSubscriptionRequest()
    request.Parameters = asked
    answer = await client.uaclient._send_request(request)
    response = ua.ua_binary.struct_from_binary(ua.CreateSubscriptionResponse, answer)
    return int(response.Parameters.SubscriptionId)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=5000)
    options.add_argument("--period-ms", type=float, default=500.0)
    options.add_argument("endpoint")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(walk(options.parse_args()))


if __name__ == "__main__":
    main()
