"""Floors of the MQTT part: the same bytes to the same broker by a bare socket, or by paho as its manual says.

The socket sends frames made beforehand, with as many in flight as the gateway has, and counts four bytes of
acknowledgement a message (MQTT 3.1.1). What any client must do at the least; it keeps no promise.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.mqtt.frames import publish
from statemodel.records import tell
from tests.benchmarks.journal import START, STREAM, transition
from tests.benchmarks.publisher_mqtt import say

INFLIGHT = 200
#: Different messages; sent again and again.
POOL = 10_000
_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05floor"


def messages(count: int) -> Sequence[tuple[str, bytes]]:
    """Topics and payloads as the gateway would say them."""
    found = []
    for n in range(count):
        told = tell(transition(n), gateway="line-1", stream=STREAM, seq=n + 1, recorded_at=START)
        found.append((f"acme/berlin/{told.path}/_event/{told.type}", told.json))
    return found


@contextmanager
def accepted(port: int) -> Iterator[socket.socket]:
    """A bare socket to a broker that has accepted it (MQTT 3.1.1)."""
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sendall(_CONNECT)
        assert wire.recv(4) == b"\x20\x02\x00\x00"
        yield wire


def raw(port: int, count: int) -> None:
    """Send so many by a bare socket; tell what it took."""
    pool = [publish(topic, payload, n % INFLIGHT + 1) for n, (topic, payload) in enumerate(messages(POOL))]
    frames = [frame for frame in pool if frame is not None]
    with accepted(port) as wire:
        say(ready=count)
        sys.stdin.readline()
        began, cpu = time.monotonic(), time.process_time()
        sent = heard = 0
        while heard < 4 * count:
            room = min(INFLIGHT - (sent - heard // 4), count - sent, POOL - sent % POOL)
            if room:
                at = sent % POOL
                wire.sendall(b"".join(frames[at : at + room]))
                sent += room
            heard += len(wire.recv(65536))
        say(events=count, took_s=time.monotonic() - began, cpu_s=time.process_time() - cpu)


def with_paho(port: int, count: int) -> None:
    """Send so many by paho with its thread; tell what it took."""
    pool = messages(POOL)
    room = threading.BoundedSemaphore(INFLIGHT)
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(INFLIGHT)
    client.on_publish = lambda *_: room.release()
    client.connect("127.0.0.1", port)
    client.loop_start()
    say(ready=count)
    sys.stdin.readline()
    began, cpu = time.monotonic(), time.process_time()
    for n in range(count):
        room.acquire()
        client.publish(*pool[n % POOL], qos=1)
    for _ in range(INFLIGHT):
        room.acquire()
    say(events=count, took_s=time.monotonic() - began, cpu_s=time.process_time() - cpu)
    client.disconnect()
    client.loop_stop()


def lines(count: int) -> None:
    """Write so many payloads to stdout, one a line, for a client that reads them there."""
    payloads = [payload for _, payload in messages(POOL)]
    for n in range(0, count, POOL):
        sys.stdout.buffer.write(b"\n".join([*payloads[: count - n], b""]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=("raw", "paho", "lines"))
    parser.add_argument("--port", type=int)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    if options.how == "lines":
        lines(options.count)
    else:
        {"raw": raw, "paho": with_paho}[options.how](options.port, options.count)


if __name__ == "__main__":
    main()
