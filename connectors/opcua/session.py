"""One session with one server: what the gateway asks of the library.

The library carries the protocol (framing, security, services). What it does around that is left out, because
it hides losses: its automatic reconnect, its publish loop, its subscription objects and its health tasks.
A session is opened once (`opening`) and closed once; the next one is a new object. It knows nothing of tags
or samples.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.ua_binary import struct_from_binary

from connectors.opcua.binary import Malformed
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.decode import decode_read, decode_texts
from connectors.opcua.event_filter import event_filter
from connectors.opcua.failures import TROUBLE, told
from connectors.opcua.nodes import node_id, numbered
from connectors.opcua.plan import PER_CALL_MAX, Item, Limits, SubscriptionPlan
from connectors.opcua.quality import is_bad, name_of
from connectors.opcua.values import Reading
from connectors.opcua.wire import Wire
from connectors.opcua.write import NodeType, decode_types

_T = TypeVar("_T")
_R = TypeVar("_R")

#: How long a server that has stopped answering may hold up the end of a session.
_GOODBYE_S = 0.5
_ROOT, _NAMESPACE_ARRAY, _START_TIME, _SERVER_STATE = 84, 2255, 2257, 2259
_CONDITION_TYPE, _CONDITION_REFRESH = 2782, 3875
#: OperationLimits and ServerCapabilities (OPC 10000-5 section 6.3.2), in the order of `Limits`.
_LIMITS = (11705, 11714, 11712, 24104, 11707)
#: Results of a whole call that mean: the same in smaller parts.
_TOO_MUCH = frozenset({0x8010_0000, 0x80B8_0000, 0x80B9_0000, 0x8008_0000})
_UNSUPPORTED = frozenset({0x800B_0000, 0x8040_0000})
#: Those of `_TOO_MUCH` that say that nothing has been done yet, so that a write may be asked for again.
_NOT_BEGUN = _TOO_MUCH - {0x80B9_0000}
_NOT_CONNECTED = 0x808A_0000
#: No subscription to be had: there is no such service, or BadTooManySubscriptions.
_NO_SUBSCRIPTIONS = _UNSUPPORTED | {0x8077_0000}
#: BadMessageNotAvailable, or the server has no such service.
_NOT_REPUBLISHED = _UNSUPPORTED | {0x807B_0000}
#: Results of one item that mean: the same with less for the server to filter; deadbands first, then events.
_NO_FILTER = frozenset(
    {
        *(0x8043_0000, 0x8044_0000, 0x8045_0000, 0x808E_0000),
        *(0x8047_0000, 0x8048_0000, 0x8049_0000, 0x80C1_0000, 0x80C2_0000, 0x80C4_0000, 0x80C5_0000),
    }
)


@dataclass(frozen=True)
class Ticket:
    """What proves to the server that a session is ours: kept while the connection is lost, never shown."""

    token: ua.NodeId = field(repr=False)
    nonce: bytes | None = field(repr=False)
    policies: tuple[ua.UserTokenPolicy, ...] = field(repr=False)
    timeout_ms: float


class Session:
    """An activated session. Every method raises `ConnectionLost` or `DeviceRefused` and nothing else."""

    def __init__(
        self,
        settings: OpcuaConnection,
        client: Client,
        wire: Wire,
        own_certificate: str,
        *,
        reactivated: bool = False,
    ) -> None:
        self._settings = settings
        self._client = client
        self._wire = wire
        self._own_certificate = own_certificate
        self.reactivated = reactivated
        """Whether the server has had this session before, with its subscriptions."""
        self.certificates: dict[str, datetime] = {}
        """When the certificates this session stands on end, by key of the warning."""
        #: How many things the server takes at once, where it has refused more.
        self._sizes: dict[str, int] = {}
        self.namespaces: tuple[str, ...] = ()
        self.started = ""
        """When the server says it was started; empty when it does not say."""
        self.limits = Limits()
        self.queue_of: dict[Item, int] = {}
        """Values the server keeps of an item, where that is less than was asked for."""

    def ticket(self) -> Ticket | None:
        """What to come back with after the connection is lost."""
        token = self._wire.session.authentication_token
        if token.is_null():
            return None
        # The library keeps what it needs for the next activation to itself.
        held: Any = self._client
        return Ticket(token, held._server_nonce, tuple(held._policy_ids), float(held.session_timeout))

    @property
    def lifetime_s(self) -> float:
        """How long the server keeps this session when it hears nothing, as it granted it."""
        return float(self._client.session_timeout) / 1000

    @property
    def channel_lifetime_s(self) -> float:
        """How long the secure channel lasts unless it is renewed, as the server granted it."""
        return self._client.secure_channel_timeout / 1000

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say whatever goes wrong in the words of `connectors.errors`."""
        with told(self._settings.endpoint, self._own_certificate):
            yield

    async def prepare(self) -> None:
        """Read what every session needs anew: namespace array, start time and limits of the server."""
        with self._told():
            self.namespaces = decode_texts(await self._read_request([numbered(_NAMESPACE_ARRAY)]), 0)
            asked = [numbered(id_) for id_ in (_START_TIME, *_LIMITS)]
            started, *limits = decode_read(await self._read_request(asked), 0)
            self.started = started.value if isinstance(started.value, str) else ""
            self.limits = Limits(*(_limit(reading) for reading in limits))

    async def server_state(self) -> int:
        """ServerState (OPC 10000-5 section 12.6): 0 while all is well."""
        (reading,) = await self.read([numbered(_SERVER_STATE)])
        return reading.value if isinstance(reading.value, int) else 0

    async def read(self, nodes: Sequence[ua.NodeId]) -> list[Reading]:
        """Values of nodes, one each."""

        async def some(part: Sequence[ua.NodeId]) -> list[Reading]:
            return decode_read(await self._read_request(part), 0)

        return await self._in_parts("read", nodes, self.limits.nodes_per_read, some)

    async def _in_parts(
        self, what: str, things: Sequence[_T], limit: int, ask: Callable[[Sequence[_T]], Awaitable[list[_R]]]
    ) -> list[_R]:
        """One result for each thing, asked for in parts; a part the server finds too much, in halves.

        What it took is remembered for the rest of the session.
        """
        results: list[_R] = []
        with self._told():
            while len(results) < len(things):
                size = self._sizes.get(what, limit or PER_CALL_MAX)
                part = things[len(results) : len(results) + size]
                try:
                    answer = await ask(part)
                except ua.uaerrors.UaStatusCodeError as error:
                    if error.code not in _TOO_MUCH or len(part) == 1:
                        raise
                    self._sizes[what] = len(part) // 2
                    continue
                if len(answer) != len(part):
                    raise Malformed(f"{len(answer)} answers to {len(part)} questions ({what})")
                results.extend(answer)
        return results

    async def _read_request(self, nodes: Sequence[ua.NodeId]) -> bytes:
        request: Any = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in nodes
        ]
        return bytes(await self._wire.ask(request))

    async def ask(self, request: Any, read: Callable[[bytes], _T]) -> _T | None:
        """Any other service: its answer as `read` makes it out; None when the server finds that too much."""
        with self._told():
            try:
                return read(bytes(await self._wire.ask(request)))
            except ua.uaerrors.UaStatusCodeError as error:
                if error.code not in _TOO_MUCH:
                    raise
                return None

    async def translate(self, paths: Sequence[ua.RelativePath]) -> list[list[ua.NodeId] | int]:
        """The nodes at the end of paths from the root folder; a status code where there is none."""
        return await self.follow([(numbered(_ROOT), path) for path in paths])

    async def follow(self, paths: Sequence[tuple[ua.NodeId, ua.RelativePath]]) -> list[list[ua.NodeId] | int]:
        """The same from other nodes than the root folder."""

        async def some(part: Sequence[tuple[ua.NodeId, ua.RelativePath]]) -> list[list[ua.NodeId] | int]:
            asked = [ua.BrowsePath(StartingNode=start, RelativePath=path) for start, path in part]
            answer = await self._wire.session.translate_browsepaths_to_nodeids(asked)
            return [
                int(result.StatusCode.value) or [_plain(target.TargetId) for target in result.Targets]
                for result in answer
            ]

        return await self._in_parts("translate", paths, self.limits.paths_per_call, some)

    async def types(self, nodes: Sequence[ua.NodeId]) -> list[NodeType]:
        """What variables hold, one each: to write in their own type."""

        async def some(part: Sequence[ua.NodeId]) -> list[NodeType]:
            request: Any = ua.ReadRequest()
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
            request.Parameters.NodesToRead = [
                ua.ReadValueId(NodeId=node, AttributeId=attribute)
                for node in part
                for attribute in (AttributeIds.Value, AttributeIds.DataType)
            ]
            return decode_types(bytes(await self._wire.ask(request)))

        return await self._in_parts("types", nodes, (self.limits.nodes_per_read + 1) // 2, some)

    async def write(self, values: Sequence[tuple[ua.NodeId, ua.Variant]]) -> list[int | None]:
        """Write values, each sent at most once; the status code of each, None where no answer came.

        Raises:
            ConnectionLost: there is no connection, and nothing has been sent.
        """
        codes: list[int | None] = []

        async def some(part: Sequence[tuple[ua.NodeId, ua.Variant]]) -> list[int | None]:
            if not self._wire.is_open:
                if not codes:
                    raise ConnectionError("the connection is lost")
                return [_NOT_CONNECTED] * len(part)
            codes.extend(answer := await self._write_part(part))
            return answer

        return await self._in_parts("write", values, self.limits.nodes_per_write, some)

    async def _write_part(self, values: Sequence[tuple[ua.NodeId, ua.Variant]]) -> list[int | None]:
        request: Any = ua.WriteRequest()
        # Without status and times, which many servers refuse to take from a client.
        request.Parameters.NodesToWrite = [
            ua.WriteValue(
                NodeId=node, AttributeId=AttributeIds.Value, Value=ua.DataValue(value, StatusCode=None)
            )
            for node, value in values
        ]
        try:
            data = await self._wire.ask(request)
            results = struct_from_binary(ua.WriteResponse, data).Results
        except ua.uaerrors.UaStatusCodeError as error:
            if error.code in _NOT_BEGUN and len(values) > 1:
                raise
            return [int(error.code)] * len(values)
        except TROUBLE:
            return [None] * len(values)
        if len(results) != len(values):
            return [None] * len(values)
        return [int(result.value) for result in results]

    async def subscribe(self, plan: SubscriptionPlan) -> tuple[int, float, int] | str:
        """Create a subscription: its id, publishing interval in seconds and keep-alive count as granted.

        Where the server has none to give, now or ever, the name of its answer.
        """
        request: Any = ua.CreateSubscriptionRequest()
        asked = request.Parameters
        asked.RequestedPublishingInterval = plan.publishing_s * 1000
        asked.RequestedLifetimeCount = plan.lifetime_count
        asked.RequestedMaxKeepAliveCount = plan.keep_alive_count
        asked.MaxNotificationsPerPublish = 0
        asked.PublishingEnabled = True
        asked.Priority = 0
        with self._told():
            try:
                data = await self._wire.ask(request)
            except ua.uaerrors.UaStatusCodeError as error:
                if error.code not in _NO_SUBSCRIPTIONS:
                    raise
                return name_of(int(error.code))
            response = struct_from_binary(ua.CreateSubscriptionResponse, data)
            response.ResponseHeader.ServiceResult.check()
            made = response.Parameters
            return (
                int(made.SubscriptionId),
                float(made.RevisedPublishingInterval) / 1000,
                int(made.RevisedMaxKeepAliveCount),
            )

    async def transfer(self, subscriptions: Sequence[int]) -> list[int]:
        """Take subscriptions over from a session that is gone; the status code of each.

        Nothing is asked to be sent anew: what the server still has follows by itself, and values that did
        not change are read. A server that will not have it answers with one code for all.
        """
        asked: Any = ua.TransferSubscriptionsParameters()
        asked.SubscriptionIds = list(subscriptions)
        asked.SendInitialValues = False
        with self._told():
            try:
                results = await self._wire.session.transfer_subscriptions(asked)
            except ua.uaerrors.UaStatusCodeError as error:
                return [int(error.code)] * len(subscriptions)
            return _one_each([int(result.StatusCode.value) for result in results], subscriptions)

    async def enable_publishing(self, subscriptions: Sequence[int]) -> list[int]:
        """Say that subscriptions are to publish, as they should be doing; tells which are ours."""
        asked: Any = ua.SetPublishingModeParameters()
        asked.PublishingEnabled = True
        asked.SubscriptionIds = list(subscriptions)
        with self._told():
            if not subscriptions:
                return []
            try:
                results = await self._wire.session.set_publishing_mode(asked)
            except ua.uaerrors.UaStatusCodeError as error:
                # A server without this service cannot be asked; silence will tell.
                code = 0 if error.code in _UNSUPPORTED else int(error.code)
                return [code] * len(subscriptions)
            return _one_each([int(result.value) for result in results], subscriptions)

    async def unsubscribe(self, subscriptions: Sequence[int]) -> None:
        """Delete subscriptions; those the server does not know are gone already."""
        request: Any = ua.DeleteSubscriptionsRequest()
        request.Parameters.SubscriptionIds = list(subscriptions)
        with self._told():
            try:
                if subscriptions:
                    await self._wire.ask(request)
            except ua.uaerrors.UaStatusCodeError:
                return

    async def monitor(self, subscription: int, items: Sequence[tuple[Item, ua.NodeId]]) -> list[int]:
        """Create monitored items; the status code of each.

        A call the server finds too large is made again in halves. An item whose deadband or event filter the
        server will not apply is asked for again with less of it.
        """

        def asking(conceded: int) -> Callable[[Sequence[tuple[Item, ua.NodeId]]], Awaitable[list[int]]]:
            return lambda part: self._monitor_part(subscription, part, conceded)

        limit = self.limits.items_per_call
        codes = await self._in_parts("monitor", items, limit, asking(0))
        for conceded in range(1, max((item.concessions for item, _ in items), default=0) + 1):
            plain = [
                at
                for at, code in enumerate(codes)
                if code & 0xFFFF_0000 in _NO_FILTER and items[at][0].concessions >= conceded
            ]
            again = await self._in_parts("monitor", [items[at] for at in plain], limit, asking(conceded))
            for at, code in zip(plain, again, strict=True):
                codes[at] = code
        return codes

    async def _monitor_part(
        self, subscription: int, items: Sequence[tuple[Item, ua.NodeId]], conceded: int = 0
    ) -> list[int]:
        asked: Any = ua.CreateMonitoredItemsParameters()
        asked.SubscriptionId = subscription
        asked.TimestampsToReturn = ua.TimestampsToReturn.Source
        asked.ItemsToCreate = [_item_request(item, node, conceded, self.namespaces) for item, node in items]
        try:
            results = await self._wire.session.create_monitored_items(asked)
        except ua.uaerrors.UaStatusCodeError as error:
            if items[0][0].events is None or error.code in _TOO_MUCH:
                raise
            # A server without events goes on serving values.
            return [int(error.code)] * len(items)
        for (item, _), result in zip(items, results, strict=True):
            if 0 < result.RevisedQueueSize < item.queue_size:
                self.queue_of[item] = int(result.RevisedQueueSize)
        return [int(result.StatusCode.value) for result in results]

    async def refresh_conditions(self, subscription: int) -> int:
        """Have the server tell a subscription every condition that holds; the status code of the answer."""
        asked: Any = ua.CallMethodRequest()
        asked.ObjectId, asked.MethodId = numbered(_CONDITION_TYPE), numbered(_CONDITION_REFRESH)
        asked.InputArguments = [ua.Variant(subscription, ua.VariantType.UInt32)]
        with self._told():
            try:
                results = await self._wire.session.call([asked])
            except ua.uaerrors.UaStatusCodeError as error:
                return int(error.code)
            return _one_each([int(result.StatusCode.value) for result in results], [subscription])[0]

    def publish(self, acknowledged: Sequence[tuple[int, int]]) -> asyncio.Future[Buffer]:
        """Send a Publish request with acknowledgements (subscription, number); its answer may take long."""
        request: Any = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(SubscriptionId=subscription, SequenceNumber=number)
            for subscription, number in acknowledged
        ]
        with self._told():
            if self._wire.protocol is None:
                raise ConnectionError("connection lost")
            return self._wire.protocol.publish(request)

    async def republish(self, subscription: int, number: int) -> Buffer | None:
        """Ask for a notification message again; None when the server no longer has it."""
        request: Any = ua.RepublishRequest()
        request.Parameters.SubscriptionId = subscription
        request.Parameters.RetransmitSequenceNumber = number
        with self._told():
            try:
                return await self._wire.ask(request)
            except ua.uaerrors.UaStatusCodeError as error:
                if error.code not in _NOT_REPUBLISHED:
                    raise
                return None

    async def renew(self) -> None:
        """Get new keys for the secure channel."""
        with self._told():
            await self._client.open_secure_channel(renew=True)
            self._wire.revolve_security_token()

    def abandon(self) -> None:
        """Drop the connection and leave the session to the server: it may be taken up again."""
        self._wire.abort()

    async def close(self, *, polite: bool) -> None:
        """End the session; politely where the server listens, so that it need not wait for its timeout."""
        try:
            if polite:
                async with asyncio.timeout(_GOODBYE_S):
                    await self._client.close_session()
                    await self._client.close_secure_channel()
        except TROUBLE:
            # The server is gone before we are; there is nobody to be polite to.
            pass
        finally:
            self._wire.abort()


def _one_each(codes: list[int], asked: Sequence[object]) -> list[int]:
    if len(codes) != len(asked):
        raise Malformed(f"{len(codes)} results for {len(asked)} subscriptions")
    return codes


def _limit(reading: Reading) -> int:
    return reading.value if isinstance(reading.value, int) and not is_bad(reading.code) else 0


def _plain(target: ua.ExpandedNodeId) -> ua.NodeId:
    return numbered(target.Identifier, int(target.NamespaceIndex))


def _item_request(
    item: Item, node: ua.NodeId, conceded: int, namespaces: Sequence[str]
) -> ua.MonitoredItemCreateRequest:
    request: Any = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor.NodeId = node
    request.ItemToMonitor.AttributeId = AttributeIds.Value
    request.MonitoringMode = ua.MonitoringMode.Reporting
    asked = request.RequestedParameters
    asked.ClientHandle = item.handle
    asked.SamplingInterval = item.sampling_s * 1000
    asked.QueueSize = item.queue_size
    asked.DiscardOldest = True
    if item.events is not None:
        types = [node_id(type_, namespaces) for type_ in item.events.types]
        request.ItemToMonitor.AttributeId = AttributeIds.EventNotifier
        asked.Filter = event_filter(item.events.severity_min, types, where=conceded < 1, basic=conceded >= 2)
    elif (item.deadband or item.deadband_percent) and not conceded:
        deadband: Any = ua.DataChangeFilter()
        deadband.Trigger = ua.DataChangeTrigger.StatusValue
        kind = ua.DeadbandType.Absolute if item.deadband else ua.DeadbandType.Percent
        deadband.DeadbandType = kind
        deadband.DeadbandValue = item.deadband or item.deadband_percent
        asked.Filter = deadband
    made: ua.MonitoredItemCreateRequest = request
    return made
