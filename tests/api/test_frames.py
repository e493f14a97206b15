"""What clients are told as bytes: made once, the same in every form, few writes for many events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.utils import ClientDisconnected
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from api.app import create_app
from api.messages import Messages
from api.server import Server
from api.settings import ApiSettings
from api.streaming.frames import EventStreamFrames, FramedMessages, MessageFrames, Once
from statemodel.records import Recorded
from tests.api.listening import PATIENCE_S
from tests.api.twins import STREAM, Plant, make_ports


def _connect(server: Server) -> connect:
    return connect(f"ws://127.0.0.1:{server.port}/api/v1/ws", open_timeout=PATIENCE_S)


def log(*sizes: int) -> Sequence[Recorded]:
    """Events whose JSON has at least these sizes."""
    plant = Plant()
    plant.fill(len(sizes))
    return [
        msgspec.structs.replace(event, json=event.json + b" " * size)
        for event, size in zip(plant.log, sizes, strict=True)
    ]


def read(wire: bytes) -> list[str]:
    """The texts a client of the library reads."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(wire)
    assert client.parser_exc is None
    frames = [event for event in client.events_received() if isinstance(event, Frame)]
    return [bytes(frame.data).decode() for frame in frames]


@given(st.lists(st.sampled_from([0, 90, 9_000, 40_000, 70_000]), max_size=12))
def test_frames_carry_the_messages_one_by_one(sizes: list[int]) -> None:
    events = log(*sizes)
    pieces = list(FramedMessages().events(events))
    texts = list(MessageFrames().events(events))
    assert read(b"".join(piece for piece, _ in pieces)) == [text for text, _ in texts]
    told = 0
    for piece, last_seq in pieces:  # the cursor of each piece is that of the last message in it
        told += len(read(piece))
        assert last_seq == events[told - 1].seq
    assert told == len(events)


def test_small_events_share_a_write_and_large_ones_do_not() -> None:
    for frames in (FramedMessages(), EventStreamFrames()):
        assert len(list(frames.events(log(*[0] * 20)))) == 1
        assert len(list(frames.events(log(*[40_000] * 3)))) == 3


def test_an_event_is_made_once_for_all_who_hear_it() -> None:
    made: list[int] = []

    def make(event: Recorded) -> bytes:
        made.append(event.seq)
        return event.json

    events = log(0, 0, 0)
    once = Once(make, events_max=2)
    for event in (*events[:2], *events[:2]):
        assert once.of(event) == event.json
    assert made == [1, 2]
    once.of(events[2])  # there is no room for the first any more
    assert once.of(events[0]) == events[0].json
    assert made == [1, 2, 3, 1]


def test_events_of_one_number_are_not_taken_for_one_another() -> None:
    once = Once(lambda event: event.json)
    for _ in range(50):
        one, other = log(0)[0], log(5)[0]
        assert (once.of(one), once.of(other)) == (one.json, other.json)


async def test_who_catches_up_takes_few_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = Plant()
    plant.batch_max = 500
    plant.fill(300)
    sent: list[int] = []
    send = Messages.send

    async def counted(self: Messages, message: dict[str, object]) -> None:
        sent.append(1)
        await send(self, message)

    monkeypatch.setattr(Messages, "send", counted)
    app = create_app(make_ports(plant), ApiSettings(), now=lambda: plant.now_at)
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    cursors: list[str] = []
    async with _connect(server) as client, asyncio.timeout(PATIENCE_S):
        await client.send('{"after": 0}')
        while len(cursors) < 300:
            message = msgspec.json.decode(await client.recv())
            if message["type"] == "event":
                cursors.append(message["cursor"])
        taken = len(sent)
    await server.stop()
    assert cursors == [f"{STREAM}:{seq}" for seq in range(1, 301)]
    assert taken < 30


async def test_frames_for_somebody_who_has_closed_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = Plant()
    serving: list[Messages] = []
    run = Messages.run_asgi

    async def noted(self: Messages) -> None:
        serving.append(self)
        await run(self)

    monkeypatch.setattr(Messages, "run_asgi", noted)
    app = create_app(make_ports(plant), ApiSettings(), now=lambda: plant.now_at)
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    async with _connect(server) as client, asyncio.timeout(PATIENCE_S):
        await client.send("{}")
        await client.recv()
    [theirs] = serving
    with pytest.raises(ClientDisconnected):
        await theirs.send({"type": "websocket.send", "frames": b"x"})
    await server.stop()
    assert app.state.streams.open_count == 0
