"""Floor of the Sparkplug part: the same messages, made by the bare protobuf library, sent by a bare socket.

The payloads are parsed before it begins, and serialized one by one while it is measured; they leave in large
writes with QoS 0. It ends when the broker has answered a ping that follows them. It keeps no promise.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec

from gateway.mqtt.frames import PING, publish
from gateway.sparkplug.sparkplug_b_pb2 import Payload
from tests.benchmarks.floor_mqtt import accepted
from tests.benchmarks.publisher_mqtt import say

_WRITE_BYTES = 64 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    told = msgspec.msgpack.decode(options.messages.read_bytes(), type=list[tuple[str, bytes]])
    parsed = [(topic, Payload.FromString(payload)) for topic, payload in told]
    with accepted(options.port) as wire:
        say(ready=len(parsed))
        sys.stdin.readline()
        began, cpu = time.monotonic(), time.process_time()
        waiting = bytearray()
        for topic, payload in parsed:
            waiting += publish(topic, payload.SerializeToString(), 0, qos=0) or b""
            if len(waiting) > _WRITE_BYTES:
                wire.sendall(waiting)
                waiting.clear()
        wire.sendall(waiting + PING)
        assert wire.recv(2)
        say(events=len(parsed), took_s=time.monotonic() - began, cpu_s=time.process_time() - cpu)


if __name__ == "__main__":
    main()
