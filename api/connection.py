"""One connection of the server: how much of a request it waits for, and for how long.

The library's protocol reads heads of any length for any time, and waits without end for an answer to be
taken; here both are bounded, and so is the number of connections of one address. Knows nothing of what is
asked.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.limits import network
from api.streaming.pump import TRANSPORT

#: Longest head of a request that is read at all; the application refuses shorter ones with words.
HEAD_BYTES_MAX = 65_536

#: What says who asks, and whom: of two, a proxy in front may have judged one and we the other (of Host also
#: RFC 9112, 3.2).
_ONCE = frozenset((b"host", b"authorization", b"origin", b"cookie"))

_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nretry-after: 5\r\n"
    b"connection: close\r\n\r\n"
)


class _SaidTwice(Exception):
    """A request says twice what may be said once; the parser makes a bad request of it."""


class Connections:
    """How many stand from each address, of IPv6 from each network of one, and what was turned away."""

    def __init__(self, of_one_max: int) -> None:
        self.of_one_max = of_one_max
        self.by_address: Counter[str] = Counter()
        self.refused_count = 0

    def enter(self, address: str) -> bool:
        """Count one more; whether there is room for it."""
        self.by_address[address] += 1
        if self.by_address[address] <= self.of_one_max:
            return True
        self.refused_count += 1
        return False

    def leave(self, address: str) -> None:
        """Count one less."""
        self.by_address[address] -= 1
        if self.by_address[address] <= 0:
            del self.by_address[address]


class Connection(HttpToolsProtocol):
    """The server's own protocol, which may cut off a client that does not read or does not ask."""

    request_s: float = 10.0
    untaken_s: float = 20.0
    connections_of: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Hand over what it takes to cut this connection off; start the clock of its first request."""
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, TRANSPORT: transport}
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        self._upgraded = False
        self._await_head()
        self._address = network(self.client[0]) if self.client else ""
        if not self.connections_of.enter(self._address):
            transport.write(_TOO_MANY)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._head_is_there()
        self._taken()
        self.connections_of.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head of a request has no end, or what comes belongs to none that waits."""
        super().data_received(data)
        if self._upgraded or self.transport.is_closing():
            return
        answered = self.cycle is not None and self.cycle.response_complete
        if self._deadline is None and answered:
            # An empty line, or the rest of a body nobody wanted: the library has stopped its clock for it.
            self._await_head()
        if self._deadline is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                if not (answered and self.cycle.more_body):
                    self.transport.write(_TOO_LONG)
                self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins: its head has to come within a time."""
        super().on_message_begin()
        if self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_is_there()
        said = [name for name, _ in self.headers if name in _ONCE]
        if len(said) != len(set(said)):
            raise _SaidTwice
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client does not take what was written: it has a time to take some of it."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """It took it."""
        if not self.transport.is_closing():
            self._taken()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """The answer is written; where that was the last one, the client has a time to take it."""
        super().on_response_complete()
        self._await_taking_the_last()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more is asked: the same."""
        super().timeout_keep_alive_handler()
        self._await_taking_the_last()

    def handle_websocket_upgrade(self) -> None:
        """The request has arrived as a whole."""
        self._upgraded = True
        self._head_is_there()
        self._taken()
        self.connections_of.leave(self._address)  # another protocol takes over, and the streams count it
        super().handle_websocket_upgrade()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.call_later(self.request_s, self._give_up)

    def _head_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.abort()

    def _await_taking_the_last(self) -> None:
        if self.transport.is_closing() and self._untaken is None and self.transport.get_write_buffer_size():
            self._await_taking()

    def _left(self) -> int:
        """Bytes the client has not taken: here, and in the system, whose buffer takes more in large steps."""
        found = self.transport.get_write_buffer_size()
        own = self.transport.get_extra_info("socket")
        if own is not None and own.fileno() >= 0:
            found += int.from_bytes(fcntl.ioctl(own.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return found

    def _await_taking(self) -> None:
        """Nothing is written meanwhile, so that what is left says whether anything was taken."""
        self._taken()
        self._untaken = self.loop.call_later(self.untaken_s, self._judge_taking, self._left())

    def _judge_taking(self, before: int) -> None:
        self._untaken = None
        if self._left() >= before:
            self.transport.abort()
        else:
            self._await_taking()

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None
