"""Publish responses by way of the library's own objects: what our decoder is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import extensionobject_to_binary, struct_from_binary

from connectors.opcua.binary import Reader
from connectors.opcua.decode import Answer
from connectors.opcua.nodes import full_node_text, identifier_text
from connectors.opcua.quality import overflowed
from connectors.opcua.values import UNSUPPORTED, Body, Raw, datetime_text, judge, source_time
from statemodel.types import TagSample


def _text(value: str | None) -> str:
    # The library keeps undecodable bytes as lone surrogates, which no JSON or database takes.
    return "" if value is None else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _node_text(node: Any) -> str:
    identifier = node.Identifier
    if isinstance(identifier, str):
        identifier = _text(identifier)
    uri = getattr(node, "NamespaceUri", None)
    server = getattr(node, "ServerIndex", None)
    return full_node_text(identifier_text(identifier), node.NamespaceIndex, uri, server)


_Type = ua.VariantType
_SCALARS: dict[ua.VariantType, Callable[[Any], Raw]] = {
    _Type.Null: lambda value: None,
    _Type.Boolean: bool,
    _Type.SByte: int,
    _Type.Byte: int,
    _Type.Int16: int,
    _Type.UInt16: int,
    _Type.Int32: int,
    _Type.UInt32: int,
    _Type.Int64: int,
    _Type.UInt64: int,
    _Type.Float: float,
    _Type.Double: float,
    _Type.String: _text,
    _Type.XmlElement: lambda value: _text(value.Value if isinstance(value, ua.XmlElement) else value),
    _Type.DateTime: lambda value: datetime_text(ua.datetime_to_win_epoch(value)),
    _Type.Guid: str,
    _Type.ByteString: lambda value: (value or b"").hex(),
    _Type.NodeId: lambda value: _node_text(value),
    _Type.ExpandedNodeId: lambda value: _node_text(value),
    _Type.StatusCode: lambda value: int(value.value),
    _Type.QualifiedName: lambda value: f"{value.NamespaceIndex}:{_text(value.Name)}",
    _Type.LocalizedText: lambda value: _text(value.Text),
}


def raw_of(variant: ua.Variant | None) -> Raw:
    """What a variant of the library carries, as this gateway's decoder would give it."""
    if variant is None:
        return None
    if not variant.is_array:
        return _element(variant.VariantType, variant.Value)
    if variant.Value is None:
        return None
    sizes = [len(variant.Value)] if variant.Dimensions is None else [int(n) for n in variant.Dimensions]
    return _nested(variant.Value, variant.VariantType, len(sizes))


def _nested(values: list[Any], type_: ua.VariantType, levels: int) -> Raw:
    if levels > 1:
        return [_nested(value, type_, levels - 1) for value in values]
    if type_ is _Type.Variant:
        return [raw_of(value) for value in values]
    return [_element(type_, value) for value in values]


def _element(type_: ua.VariantType, value: Any) -> Raw:
    if type_ is _Type.ExtensionObject:
        return _body(value)
    convert = _SCALARS.get(type_)
    return UNSUPPORTED if convert is None else convert(value)


def _body(value: Any) -> Body:
    """A structure; the library has already taken apart those it knows."""
    if value is None:
        return Body("i=0", None)
    if type(value) is ua.ExtensionObject:
        return Body(_node_text(value.TypeId), value.Body)
    packed = extensionobject_to_binary(value)
    return Reader(packed, 0).extension_object()


def sample_of(tag: str, data: ua.DataValue, received_at: datetime) -> TagSample:
    """A data value of the library as a sample of a tag."""
    code = 0 if data.StatusCode is None else int(data.StatusCode.value)
    value, quality, substatus = judge(raw_of(data.Value), code)
    stamp = data.SourceTimestamp
    source_at = None if stamp is None else source_time(ua.datetime_to_win_epoch(stamp))
    return TagSample(tag, value, quality, source_at, received_at, substatus)


def decode_publish(data: bytes, at: int, tags: Sequence[str], received_at: datetime) -> Answer:
    """The same as `decode.decode_publish`."""
    response = struct_from_binary(ua.PublishResponse, Buffer(data, at))
    result = response.Parameters
    answer = Answer(status=int(response.ResponseHeader.ServiceResult.value))
    answer.subscription = int(result.SubscriptionId)
    answer.available = tuple(int(number) for number in result.AvailableSequenceNumbers or ())
    _message(result.NotificationMessage, answer, tags, received_at)
    return answer


def _message(
    message: ua.NotificationMessage, answer: Answer, tags: Sequence[str], received_at: datetime
) -> None:
    answer.number = int(message.SequenceNumber)
    for notification in message.NotificationData or ():
        answer.has_data = True
        if isinstance(notification, ua.DataChangeNotification):
            _changes(notification.MonitoredItems, answer, tags, received_at)
        elif isinstance(notification, ua.StatusChangeNotification):
            answer.status_change = int(notification.Status.value)


def _changes(
    items: Iterable[ua.MonitoredItemNotification], answer: Answer, tags: Sequence[str], received_at: datetime
) -> None:
    for item in items:
        if not 0 < item.ClientHandle < len(tags):
            answer.strangers += 1
            continue
        tag = tags[item.ClientHandle]
        answer.samples.append(sample_of(tag, item.Value, received_at))
        if item.Value.StatusCode is not None and overflowed(int(item.Value.StatusCode.value)):
            answer.overflowed.append(tag)
