"""Event streams: the one sequence, from a cursor on, as server-sent events or over a WebSocket.

`pump` is all that both have in common; `sse` and `websocket` put it on the wire.
"""
