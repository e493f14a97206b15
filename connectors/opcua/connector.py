"""The OPC UA connector: one server, session after session.

A session is opened (`opening`), served until it fails (`run`) and closed. What was lost with the connection
alone is remembered, and taken up by the next session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from connectors.base import Link, Write, Written
from connectors.errors import ConnectionLost, ConnectorError
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.datatypes import learn_picked
from connectors.opcua.failures import SubscriptionGone
from connectors.opcua.losses import Losses
from connectors.opcua.opening import open_session
from connectors.opcua.picks import Tags, picks_of
from connectors.opcua.pki import expiry_warning
from connectors.opcua.plan import items_of, tag_ids
from connectors.opcua.resolve import resolve
from connectors.opcua.resume import Memory
from connectors.opcua.run import REFUSED, Run
from connectors.opcua.session import Session
from connectors.opcua.values import bad_sample
from connectors.protocol import Environment
from statemodel.types import TagSample

_log = structlog.get_logger("connectors.opcua")

#: How often the certificates of a session that lasts are looked at again.
_WATCH_S = 3600.0
_CERTIFICATES = {
    "own_certificate": "this gateway's certificate",
    "server_certificate": "the server's certificate",
    "user_certificate": "the user certificate",
}

#: Sessions taken up in vain, one after the other, after which no more are while the process lives.
IN_VAIN_MAX = 2


class OpcuaConnector:
    """One OPC UA server. `losses` counts what is known to be lost, over all sessions."""

    def __init__(self, settings: OpcuaConnection, environment: Environment) -> None:
        self._settings = settings
        self._environment = environment
        self._clock = environment.clock
        self._tags = self._new_tags()
        self._memory: Memory | None = None
        self._run: Run | None = None
        self._in_vain = 0
        self.warnings: dict[str, str] = {}
        """What to see to before it stops the connection, by a short key."""
        self.ranges: dict[str, tuple[float, float]] = {}
        """What the server says its variables go from and to; see `connectors.selfreport`."""
        self.refusals: dict[str, str] = {}
        """See `connectors.selfreport.Refuses`."""
        self.losses = Losses(settings.name, environment.clock)

    @property
    def taken_up(self) -> bool:
        """See `connectors.selfreport.TakesUp`."""
        return self._run is not None and self._run.taken_up

    async def run(self, link: Link) -> None:
        """See `connectors.base.Connector.run`."""
        memory, self._memory = self._memory, None
        session, memory = await self._open(link, memory)
        if memory is None:
            self._tags = self._new_tags()
        self._watch(session.certificates)
        run = Run(
            self._settings,
            self._environment,
            session,
            link,
            self._tags,
            self.losses,
            memory,
            self.warnings,
            self.ranges,
        )
        polite = True
        self._run = run
        watch = asyncio.create_task(self._keep_watch(session.certificates))
        try:
            await run.serve()
        except ConnectionLost as lost:
            if lost.last_seen_at is None:
                lost.last_seen_at = run.feed.last_seen_at
            if self._is_worth_taking_up(lost, run, was_taken_up=memory is not None):
                self._memory = run.remember(lost)
            polite = self._memory is None and run.feed.silent_s <= self._settings.keep_alive.total_seconds()
            raise
        finally:
            watch.cancel()
            self._run = None
            run.feed.end()
            await session.close(polite=polite)

    def _is_worth_taking_up(self, lost: ConnectionLost, run: Run, *, was_taken_up: bool) -> bool:
        """Whether the lost session may go on. Some servers take one up and never publish in it again, and
        every try at that costs seconds in which nobody knows better."""
        if any(stream.resumed for stream in run.feed.streams()):
            self._in_vain += isinstance(lost, SubscriptionGone)
        elif was_taken_up:
            self._in_vain = 0
        if self._in_vain >= IN_VAIN_MAX:
            self.warnings["resume"] = (
                "the server takes lost sessions up and publishes nothing in them: they begin anew, and "
                "outages are gaps"
            )
        return self._settings.resume and self._in_vain < IN_VAIN_MAX

    def _new_tags(self) -> Tags:
        """The tags with nothing known of the server's structures, which are those of one session."""
        return Tags(tag_ids(self._settings), picks_of(self._settings))

    async def _open(self, link: Link, memory: Memory | None) -> tuple[Session, Memory | None]:
        """A session, and what it can take up of the one that was lost."""
        why_not = ""
        if memory is not None and memory.expired(self._clock.monotonic()):
            why_not = "it lasted longer than the server keeps a session"
        ticket = None if memory is None or why_not else memory.use_ticket()
        try:
            session = await open_session(self._settings, self._environment, ticket)
            if memory is not None and not why_not and memory.foreign(session):
                why_not = "the server was started anew"
                if session.reactivated:
                    # A server that counts its sessions from 1: this one belongs to somebody else.
                    session.abandon()
                    session = await open_session(self._settings, self._environment)
        except ConnectorError:
            self._memory = memory
            raise
        self.losses.tell = link.gap
        if memory is None or not why_not:
            return session, memory
        if memory.streams:
            self.losses.outage(memory.lost_at, self._clock.now(), why_not)
        return session, None

    async def write(self, writes: Sequence[Write]) -> Sequence[Written]:
        """See `connectors.base.Writer.write`."""
        if self._run is None:
            raise ConnectionLost(f"{self._settings.endpoint}: there is no session to write through")
        return await self._run.write(writes)

    async def _keep_watch(self, certificates: Mapping[str, datetime]) -> None:
        while True:
            await self._clock.sleep(_WATCH_S)
            known = dict(self.warnings)
            self._watch(certificates)
            for key, text in self.warnings.items():
                if known.get(key) != text:
                    _log.warning("certificate", connection=self._settings.name, reason=text)

    def _watch(self, certificates: Mapping[str, datetime]) -> None:
        """Warn of certificates that end soon."""
        for key, what in _CERTIFICATES.items():
            until = certificates.get(key)
            text = "" if until is None else expiry_warning(what, until, self._clock.now())
            if text:
                self.warnings[key] = text
            else:
                self.warnings.pop(key, None)

    def figures(self) -> Mapping[str, float]:
        """What has been counted since the process began; see `connectors.selfreport`."""
        losses = self.losses
        return {
            "overflows": losses.overflow_count,
            "messages_lost": losses.message_count,
            "messages_republished": losses.republished,
            "strangers": losses.strangers,
            "sessions_resumed": losses.resumed,
        }

    async def read_once(self) -> Sequence[TagSample]:
        """See `connectors.base.Connector.read_once`."""
        session = await open_session(self._settings, self._environment)
        try:
            items = [item for group in items_of(self._settings) for item in group]
            resolved = await resolve(session, items)
            found = [(one.item, one.node) for one in resolved if one.node is not None]
            nodes = [node for _, node in found]
            picks = picks_of(self._settings)
            await learn_picked(session, picks, ((item.handle, node) for item, node in found))
            data = iter(await session.read(nodes))
            self.refusals = {one.item.tag: one.reason for one in resolved if one.node is None}
            now = self._clock.now()
            return [
                bad_sample(one.item.tag, REFUSED, now)
                if one.node is None
                else picks.sample(one.item.handle, one.item.tag, next(data), now)
                for one in resolved
            ]
        finally:
            await session.close(polite=True)
