"""Publish responses read by the library, for messages our own decoder does not know. Slow, seldom used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary

from connectors.opcua.decode import Answer
from connectors.opcua.quality import overflowed
from connectors.opcua.values import sample_of


def decode_publish(data: bytes, at: int, tags: Sequence[str], received_at: datetime) -> Answer:
    """The same as `decode.decode_publish`, by the library. Raises whatever the library raises."""
    response = struct_from_binary(ua.PublishResponse, Buffer(data, at))
    result = response.Parameters
    answer = Answer(status=int(response.ResponseHeader.ServiceResult.value))
    answer.subscription = int(result.SubscriptionId)
    answer.available = tuple(int(number) for number in result.AvailableSequenceNumbers or ())
    _message(result.NotificationMessage, answer, tags, received_at)
    return answer


def decode_republish(data: bytes, at: int, tags: Sequence[str], received_at: datetime) -> Answer:
    """The same as `decode.decode_republish`."""
    response = struct_from_binary(ua.RepublishResponse, Buffer(data, at))
    answer = Answer(status=int(response.ResponseHeader.ServiceResult.value))
    _message(response.NotificationMessage, answer, tags, received_at)
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
