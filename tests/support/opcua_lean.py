"""Just enough of an OPC UA server to feed one client faster than it can read: the wire half of `opcua_plant`.

It speaks OPC 10000-4 and 10000-6 without security: session, read, subscriptions, republish. It does not check
what a client does wrong, and knows no browsing, no deadband, no transfer of subscriptions.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, struct_to_binary

# The library's annotations ask for its own number types where it takes plain ones.
_ua: Any = ua

_EPOCH_TICKS = 116_444_736_000_000_000
_CHUNK_BYTES = 65_536
_CHUNK_HEAD = struct.Struct("<4sIIIII")
_WRITE_BUFFER_BYTES = 4 * 1024 * 1024
_REPUBLISHED_MAX = 16
_QUEUE_MAX = 1000
_NO_SECURITY = "http://opcfoundation.org/UA/SecurityPolicy#None"
_TRANSPORT = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"


def ticks_now() -> int:
    """Now, in 100 ns since 1601."""
    return time.time_ns() // 100 + _EPOCH_TICKS


def _type_id(name: str) -> int:
    return int(getattr(ua.ObjectIds, f"{name}_Encoding_DefaultBinary"))


_REQUESTS: dict[int, Any] = {
    _type_id(name): getattr(ua, name)
    for name in (
        *("GetEndpointsRequest", "CreateSessionRequest", "ActivateSessionRequest", "CloseSessionRequest"),
        *("ReadRequest", "CreateSubscriptionRequest", "DeleteSubscriptionsRequest"),
        *("CreateMonitoredItemsRequest", "PublishRequest", "RepublishRequest"),
    )
}
_PUBLISH_RESPONSE, _REPUBLISH_RESPONSE = _type_id("PublishResponse"), _type_id("RepublishResponse")


class Feed(Protocol):
    """Where the notifications of one subscription come from."""

    def monitor(self, name: str, handle: int, queue: int) -> bool:
        """Add an item; false when there is none of this name. Items of one call end with `created`."""
        ...

    def created(self) -> None:
        """The items of one call have all been added."""
        ...

    def news(self) -> bool:
        """Whether anything waits."""
        ...

    def take(self) -> tuple[int, list[bytes]]:
        """Everything that waits: how many notifications, and their bytes (OPC 10000-4 section 7.25.2)."""
        ...

    def close(self) -> None:
        """Nobody listens any more."""
        ...


class Source(Protocol):
    """The plant as a connection sees it."""

    flat_out: bool

    def namespaces(self) -> Sequence[str]:
        """The server's NamespaceArray."""
        ...

    def value(self, name: str) -> ua.Variant | None:
        """The present value of `nsu=urn:plant;s=NAME`."""
        ...

    def feed(self) -> Feed:
        """For a new subscription."""
        ...

    def advance(self) -> None:
        """Flat out: the next values."""
        ...


@dataclass
class Subscription:
    """What one client wants published, and when."""

    id: int
    interval_s: float
    keep_alive_count: int
    feed: Feed
    timer: asyncio.TimerHandle | None = None
    number: int = 1
    idle: int = 0
    late: bool = False
    told: bool = False
    kept: OrderedDict[int, bytes] = field(default_factory=OrderedDict)


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, source: Source, endpoint: Callable[[], str]) -> None:
        self._source = source
        self._endpoint = endpoint
        self._buffer = bytearray()
        self._request = bytearray()
        self._numbers = itertools.count(1)
        self._subscriptions: dict[int, Subscription] = {}
        self._ids = itertools.count(1)
        self._item_ids = itertools.count(1)
        #: Request id, request handle and number of acknowledgements of each Publish request that waits.
        self._publish: deque[tuple[int, int, int]] = deque()
        self._writable = True
        self._pumping = False
        self._turn = 0

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)

    def connection_lost(self, error: Exception | None) -> None:
        self._delete_all()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._flat_out()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= 8:
            (size,) = struct.unpack_from("<I", self._buffer, at + 4)
            if len(self._buffer) - at < size:
                break
            self._chunk(bytes(self._buffer[at : at + size]))
            at += size
        del self._buffer[:at]

    def _chunk(self, chunk: bytes) -> None:
        kind, final = chunk[:3], chunk[3:4]
        if kind == b"HEL":
            answer = struct.pack("<IIIII", 0, _CHUNK_BYTES, _CHUNK_BYTES, 0, 0)
            self._transport.write(b"ACKF" + struct.pack("<I", 8 + len(answer)) + answer)
        elif kind == b"OPN":
            self._open(chunk)
        elif kind == b"CLO":
            self._transport.close()
        else:
            self._request += chunk[24:]
            if final == b"F":
                (number,) = struct.unpack_from("<I", chunk, 20)
                whole, self._request = bytes(self._request), bytearray()
                self._serve(number, whole)

    def _send(self, number: int, *parts: bytes) -> None:
        body = b"".join(parts)
        most = _CHUNK_BYTES - _CHUNK_HEAD.size
        written: list[bytes] = []
        for at in range(0, len(body), most):
            part = body[at : at + most]
            kind = b"MSGF" if at + most >= len(body) else b"MSGC"
            size = _CHUNK_HEAD.size + len(part)
            written += (_CHUNK_HEAD.pack(kind, size, 1, 1, next(self._numbers), number), part)
        self._transport.write(b"".join(written))

    # Services that are asked for a few times

    def _open(self, chunk: bytes) -> None:
        at = 12
        for _ in range(3):  # policy, certificate, thumbprint
            (length,) = struct.unpack_from("<i", chunk, at)
            at += 4 + max(0, length)
        (number,) = struct.unpack_from("<I", chunk, at + 4)
        request = struct_from_binary(_ua.OpenSecureChannelRequest, Buffer(chunk[at + 8 :]))
        answer = _ua.OpenSecureChannelResponse()
        answer.ResponseHeader.RequestHandle = request.RequestHeader.RequestHandle
        token = answer.Parameters.SecurityToken
        token.ChannelId = token.TokenId = 1
        token.RevisedLifetime = request.Parameters.RequestedLifetime
        policy = _NO_SECURITY.encode()
        head = struct.pack("<I", len(policy)) + policy
        head += struct.pack("<iiII", -1, -1, next(self._numbers), number)
        whole = head + struct_to_binary(answer)
        self._transport.write(b"OPNF" + struct.pack("<II", 12 + len(whole), 1) + whole)

    def _serve(self, number: int, body: bytes) -> None:
        buffer = Buffer(body)
        type_id: Any = nodeid_from_binary(buffer).Identifier
        type_ = _REQUESTS.get(type_id)
        if type_ is None:
            fault = _ua.ServiceFault()
            fault.ResponseHeader.RequestHandle = struct_from_binary(ua.RequestHeader, buffer).RequestHandle
            fault.ResponseHeader.ServiceResult = _ua.StatusCode(ua.StatusCodes.BadServiceUnsupported)
            self._send(number, struct_to_binary(fault))
            return
        request = struct_from_binary(type_, Buffer(body))
        handle: int = request.RequestHeader.RequestHandle
        name = type_.__name__.removesuffix("Request")
        if name == "Publish":
            self._take_publish(number, handle, request.Parameters.SubscriptionAcknowledgements or ())
            return
        answer = getattr(ua, f"{name}Response")()
        answer.ResponseHeader.RequestHandle = handle
        handlers: dict[str, Callable[[Any, Any], bytes | None]] = {
            "GetEndpoints": self._get_endpoints,
            "CreateSession": self._create_session,
            "CloseSession": self._close_session,
            "Read": self._read,
            "CreateSubscription": self._create_subscription,
            "DeleteSubscriptions": self._delete_subscriptions,
            "CreateMonitoredItems": self._create_items,
            "Republish": self._republish,
        }
        handler = handlers.get(name)
        # Some requests have no parameters worth a name.
        message = None if handler is None else handler(getattr(request, "Parameters", None), answer)
        if message is None:
            self._send(number, struct_to_binary(answer))
        else:
            self._send(number, _head(_REPUBLISH_RESPONSE, handle), message)
        self._flat_out()

    def _endpoints(self) -> list[Any]:
        endpoint = _ua.EndpointDescription()
        endpoint.EndpointUrl = self._endpoint()
        endpoint.SecurityMode = ua.MessageSecurityMode.None_
        endpoint.SecurityPolicyUri = _NO_SECURITY
        endpoint.TransportProfileUri = _TRANSPORT
        token = _ua.UserTokenPolicy()
        token.PolicyId, token.TokenType = "anonymous", ua.UserTokenType.Anonymous
        endpoint.UserIdentityTokens = [token]
        return [endpoint]

    def _get_endpoints(self, asked: Any, answer: Any) -> None:
        answer.Endpoints = self._endpoints()

    def _create_session(self, asked: Any, answer: Any) -> None:
        made = answer.Parameters
        made.SessionId, made.AuthenticationToken = _ua.NodeId(1, 1), _ua.NodeId(2, 1)
        made.RevisedSessionTimeout = asked.RequestedSessionTimeout
        made.ServerNonce = bytes(32)
        made.ServerEndpoints = self._endpoints()

    def _close_session(self, asked: Any, answer: Any) -> None:
        self._delete_all()

    def _read(self, asked: Any, answer: Any) -> None:
        answer.Results = [self._value(wanted.NodeId) for wanted in asked.NodesToRead]

    def _value(self, node: ua.NodeId) -> ua.DataValue:
        key: Any = node.Identifier
        value: ua.Variant | None = None
        if node.NamespaceIndex == 0:
            if key == ua.ObjectIds.Server_NamespaceArray:
                value = ua.Variant(list(self._source.namespaces()), ua.VariantType.String)
            elif key == ua.ObjectIds.Server_ServerStatus_State:
                value = ua.Variant(0, ua.VariantType.Int32)
        elif isinstance(key, str):
            value = self._source.value(key)
        if value is None:
            return ua.DataValue(StatusCode=_ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown))
        return ua.DataValue(value)

    def _create_subscription(self, asked: Any, answer: Any) -> None:
        interval_s = max(0.01, asked.RequestedPublishingInterval / 1000)
        keep_alive_count = max(1, asked.RequestedMaxKeepAliveCount)
        one = Subscription(next(self._ids), interval_s, keep_alive_count, self._source.feed())
        self._subscriptions[one.id] = one
        made = answer.Parameters
        made.SubscriptionId = one.id
        made.RevisedPublishingInterval = interval_s * 1000
        made.RevisedLifetimeCount = asked.RequestedLifetimeCount
        made.RevisedMaxKeepAliveCount = keep_alive_count
        loop = asyncio.get_running_loop()
        one.timer = loop.call_at(loop.time() + interval_s, self._due, one, loop.time() + interval_s)

    def _delete_subscriptions(self, asked: Any, answer: Any) -> None:
        gone, unknown = _ua.StatusCode(0), _ua.StatusCode(ua.StatusCodes.BadSubscriptionIdInvalid)
        answer.Results = [gone if self._delete(id_) else unknown for id_ in asked.SubscriptionIds]

    def _delete(self, id_: int) -> bool:
        one = self._subscriptions.pop(id_, None)
        if one is None:
            return False
        if one.timer is not None:
            one.timer.cancel()
        one.feed.close()
        return True

    def _delete_all(self) -> None:
        for id_ in list(self._subscriptions):
            self._delete(id_)

    def _create_items(self, asked: Any, answer: Any) -> None:
        one = self._subscriptions.get(asked.SubscriptionId)
        if one is None:
            answer.ResponseHeader.ServiceResult = _ua.StatusCode(ua.StatusCodes.BadSubscriptionIdInvalid)
            return
        answer.Results = []
        for item in asked.ItemsToCreate:
            result = _ua.MonitoredItemCreateResult()
            answer.Results.append(result)
            wanted = item.RequestedParameters
            queue = min(max(1, wanted.QueueSize), _QUEUE_MAX)
            name = item.ItemToMonitor.NodeId.Identifier
            if not isinstance(name, str) or not one.feed.monitor(name, wanted.ClientHandle, queue):
                result.StatusCode = _ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown)
                continue
            result.MonitoredItemId = next(self._item_ids)
            result.RevisedSamplingInterval = float(wanted.SamplingInterval)
            result.RevisedQueueSize = queue
        one.feed.created()

    def _republish(self, asked: Any, answer: Any) -> bytes | None:
        one = self._subscriptions.get(asked.SubscriptionId)
        message = None if one is None else one.kept.get(asked.RetransmitSequenceNumber)
        if message is None:
            answer.ResponseHeader.ServiceResult = _ua.StatusCode(ua.StatusCodes.BadMessageNotAvailable)
        return message

    # Publishing

    def _take_publish(self, number: int, handle: int, acknowledged: Sequence[Any]) -> None:
        for one in acknowledged:
            held = self._subscriptions.get(one.SubscriptionId)
            if held is not None:
                held.kept.pop(one.SequenceNumber, None)
        self._publish.append((number, handle, len(acknowledged)))
        for subscription in self._subscriptions.values():
            if subscription.late and self._publish:
                self._answer(subscription)
        self._flat_out()

    def _due(self, one: Subscription, at_s: float) -> None:
        """A publishing time has come: tell the news, or a keep-alive when it is time for one."""
        loop = asyncio.get_running_loop()
        next_s = max(at_s + one.interval_s, loop.time())
        one.timer = loop.call_at(next_s, self._due, one, next_s)
        one.idle += 1
        if self._source.flat_out and one.told and self._publish:
            return
        if one.feed.news() or not one.told or one.idle >= one.keep_alive_count:
            self._answer(one)

    def _flat_out(self) -> None:
        if self._source.flat_out and not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """One answer, then the socket has its turn."""
        self._pumping = False
        if not self._writable or not self._publish:
            return
        self._source.advance()
        ready = [one for one in self._subscriptions.values() if one.told and one.feed.news()]
        if ready:
            self._turn += 1
            self._answer(ready[self._turn % len(ready)])
            self._flat_out()

    def _answer(self, one: Subscription) -> None:
        """Answer a Publish request with what waits; without a request, be late."""
        if not self._publish:
            one.late = True
            return
        one.late, one.idle, one.told = False, 0, True
        number, handle, acknowledged = self._publish.popleft()
        count, parts = one.feed.take() if one.feed.news() else (0, [])
        if count:
            body = b"".join((struct.pack("<i", count), *parts, struct.pack("<i", -1)))
            head = struct.pack("<IqiBBHBi", one.number, ticks_now(), 1, 1, 0, 811, 1, len(body))
            message = one.kept[one.number] = head + body
            if len(one.kept) > _REPUBLISHED_MAX:
                one.kept.popitem(last=False)
            one.number = 1 if one.number == 0xFFFF_FFFF else one.number + 1
        else:
            message = struct.pack("<Iqi", one.number, ticks_now(), 0)
        held = struct.pack(f"<Ii{len(one.kept)}IB", one.id, len(one.kept), *one.kept, 0)
        results = struct.pack("<i", acknowledged) + bytes(4 * acknowledged) + struct.pack("<i", -1)
        self._send(number, _head(_PUBLISH_RESPONSE, handle), held, message, results)


def _head(type_id: int, handle: int) -> bytes:
    """Type and header of a good response."""
    return struct.pack("<BBHqIIBiBBB", 1, 0, type_id, ticks_now(), handle, 0, 0, -1, 0, 0, 0)
