"""Wishes to hear: how many fit into a packet, and what the broker's answer to each means. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.reasons import failure

#: Filters asked for in one packet: a broker may compare each with all it holds before it does anything else.
FILTERS_MAX = 50
#: Bytes of a SUBSCRIBE besides its filters, at most, and of a filter besides its text.
_HEAD_BYTES, _FILTER_BYTES = 8, 3
#: Filters of one packet, in bytes, however much a broker takes.
_BYTES_MAX = 64 * 1024

READING = "let this client read it in the broker's access rules"


@dataclass
class Wish:
    """One SUBSCRIBE that waits for its answer: a code for each filter."""

    filters: list[str]
    answer: asyncio.Future[bytes]
    asked_at: float
    words: str = ""
    """The broker's own reason, when it gave one."""


def in_packets(filters: Mapping[str, int], packet_max: int) -> Iterator[dict[str, int]]:
    """The filters in groups that each fit into a packet the broker takes.

    Raises:
        SinkRefused: a filter alone is too long for it.
    """
    group: dict[str, int] = {}
    size, most = 0, min(packet_max - _HEAD_BYTES, _BYTES_MAX + _FILTER_BYTES)
    for wish, qos in filters.items():
        bytes_more = len(wish.encode()) + _FILTER_BYTES
        if bytes_more > most or bytes_more > 0xFFFF:
            raise SinkRefused(
                f'the broker does not take packets large enough to ask for "{wish[:200]}"',
                hint="let it take larger packets",
            )
        if group and (size + bytes_more > most or len(group) >= FILTERS_MAX):
            yield group
            group, size = {}, 0
        group[wish] = qos
        size += bytes_more
    if group:
        yield group


def refused(wish: Wish, codes: bytes) -> SinkRefused | SinkUnavailable | None:
    """What went wrong with a wish; None when every filter was granted (0 to 2 is the QoS it got).

    0x80 is all that a broker of 3.1.1 can say; there, and in MQTT 5, it mostly means access rules.
    """
    if len(codes) != len(wish.filters):
        return SinkUnavailable(f"the broker answered {len(codes)} of {len(wish.filters)} subscriptions")
    for name, code in zip(wish.filters, codes, strict=True):
        doing = f'the subscription to "{name}"'
        if code in (0x80, 0x87):
            said = f' ("{wish.words}")' if wish.words else ""
            return SinkRefused(f"the broker refuses {doing}: not authorised{said}", hint=READING)
        if code >= 0x80:
            return failure(code, doing, said=wish.words)
    return None
