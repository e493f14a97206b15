"""One WebSocket of the server: it also takes messages that stand in frames already.

The library frames one message a call, and each call costs as much as several events. Who has frames ready,
several of them in one piece, hands them over as `{"type": "websocket.send", "frames": bytes}` where the scope
offers the extension `FRAMES`. Everything else is the library's. Knows nothing of what is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

#: Key in the extensions of a scope.
FRAMES = "andon.frames"


class Messages(WebSocketsSansIOProtocol):
    """The server's own protocol, with a shorter way for frames."""

    async def run_asgi(self) -> None:
        """Offer the extension, and serve."""
        self.scope["extensions"][FRAMES] = {}
        await super().run_asgi()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Hand over a message, or frames; waits for those before to be taken.

        Raises:
            ClientDisconnected: there is nobody any more.
        """
        frames: bytes | None = message.get("frames")
        if frames is None:
            await super().send(message)  # type: ignore[arg-type]
            return
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(frames)
