"""What one edge node leaves to the next, when another configuration is told on the same connection.

The session goes on for hosts: no death of the node, no other number (bdSeq), and births only of what differs.
Commands that come in between are kept by the inbox, as is the primary host's word.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.mqtt.link import Link
from gateway.sparkplug.inbox import Inbox
from gateway.sparkplug.links import Links
from gateway.sparkplug.outbox import Outbox
from gateway.sparkplug.session import Session


@dataclass(frozen=True)
class Kept:
    """A connection that nobody speaks on until somebody takes it.

    `outbox` is None where nothing was said on it yet: the primary host is waited for.
    """

    link: Link
    inbox: Inbox
    session: Session
    links: Links
    outbox: Outbox | None
