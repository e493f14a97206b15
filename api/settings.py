"""Limits and rhythms of the API, in one frozen value.

It does not know where the numbers come from; the gateway fills it from its configuration.
"""

from __future__ import annotations

import msgspec


class ApiSettings(msgspec.Struct, frozen=True):
    """Every bound a client can meet. Lengths of time are in seconds, sizes in bytes."""

    heartbeat_s: float = 15.0
    """An event stream is never silent for longer than this."""
    stall_s: float = 8.0
    """A stream whose client takes nothing for this long is closed."""
    last_word_s: float = 2.0
    """How long the reason may take to reach a client; then its connection is dropped."""
    first_message_s: float = 10.0
    """How long a WebSocket may take to say what it wants."""
    coalesce_behind_events: int = 100
    """A client that asked for it is told the newest states only while it is behind by more events."""
    retry_ms: int = 2000
    """How long browsers wait before they reconnect a stream."""
    streams_max: int = 2000
    """Event streams open and requests waiting at once; one more is refused with `too_many_streams`."""
    wait_s_max: float = 60.0
    """The longest a request may wait for a state to move."""
    streams_of_one_max: int = 1200
    """How many of them one principal may hold."""
    page_limit: int = 100
    """Items on a page when the request does not say."""
    page_limit_max: int = 1000
    """The most a request may ask for."""
    timeline_s: float = 86_400.0
    """How far back a timeline reaches when the request gives no `from`."""
    buckets_max: int = 2000
    """Buckets one question for figures may have."""
    kpi_intervals_max: int = 100_000
    """Changes of state one question for figures may read."""
    clock_skew_s: float = 5.0
    """How far ahead of our clock a client's `at` may lie before it is called the future."""
    gzip_bytes_min: int = 2048
    """Lists shorter than this are never compressed."""
    hosts: frozenset[str] | None = None
    """Names a request may call this machine by, besides its loopback ones; None: any."""
    requests_per_s: float = 0.0
    """Requests a second of one principal, and of one address; 0: no limit."""
    requests_burst: int = 1000
    """Requests of one of them at once."""
    uri_bytes_max: int = 8192
    """Longest address of a request, with its query."""
    headers_bytes_max: int = 16_384
    """Most bytes of all headers of a request."""
    retry_after_s: int = 5
    """What `Retry-After` says when something is unavailable."""
