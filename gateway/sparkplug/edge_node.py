"""An edge node of Sparkplug B 3.0: connects, is born, tells, and leaves as the standard wants it; for ever.

Each connection has a number (bdSeq) that is durable before the CONNECT that carries it in its will. Messages
of Sparkplug are QoS 0: what counts as told is what the broker has read, and the last of it is said again as
history after every loss, since nobody knows who still heard it. With a primary host nothing is said while it
is away, and so much more is said again as it may have been gone unnoticed. Servers are tried in turn. What is
said is `session.py`'s affair, how it is read from the journal `telling.py`'s. One that is built for another
configuration can go on with the connection of the one before (`handover.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from connectors.base import Clock
from gateway.config.schema import GatewaySettings
from gateway.config.sparkplug import SparkplugSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.certificates import CHECK_S, CertificateWatch
from gateway.mqtt.link import Link, Will
from gateway.mqtt.options import LinkOptions, link_options
from gateway.mqtt.reach import listens
from gateway.mqtt.reasons import OWN_ID, PROBABLY_TAKEN, ClosedByBroker, Renewed, at
from gateway.mqtt.retry import Failure, Retry
from gateway.sparkplug.births import DeviceSpec, NodeSpec
from gateway.sparkplug.commands import CommandPort, Commands
from gateway.sparkplug.due import DueTags
from gateway.sparkplug.handover import Kept
from gateway.sparkplug.hearing import Hearing, listen
from gateway.sparkplug.host import PrimaryHost, Servers
from gateway.sparkplug.inbox import Inbox, Leaving, Writes, command_figures
from gateway.sparkplug.links import Links
from gateway.sparkplug.messages import Now, Publication
from gateway.sparkplug.names import Names
from gateway.sparkplug.numbers import take_bdseq
from gateway.sparkplug.outbox import Outbox
from gateway.sparkplug.payload import encode
from gateway.sparkplug.present import Present
from gateway.sparkplug.reached import Reached
from gateway.sparkplug.session import Session
from gateway.sparkplug.source import RecordSource
from gateway.sparkplug.status import EdgeStatus
from gateway.sparkplug.telling import Telling
from gateway.together import together
from statemodel.types import TagSample

#: Least time between two writes of the cursor, in seconds.
SAVE_EVERY_S = 0.25
#: Longest time leaving may take, in seconds.
STOP_S = 3.0
#: With several servers: how long one has to say that the primary host is there, in seconds.
HOST_WAIT_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Equipment:
    """What the node shows: itself, its devices, and which connections feed each of these.

    `history_tags` are the tags (full ids) whose samples gathered in an outage are told afterwards.
    """

    node: NodeSpec
    devices: Sequence[DeviceSpec]
    feeds: Mapping[str, Collection[str]]
    history_tags: Collection[str] = ()


@dataclass
class _Counts:
    """Figures of the connections that are over."""

    connects: int = 0
    sent: int = 0
    too_large: int = 0
    left_out: int = 0
    historical: int = 0


class EdgeNode:
    """One edge node. `embedded_port` is that of the embedded broker, where that is used."""

    def __init__(
        self,
        settings: SparkplugSettings,
        *,
        journal: RecordSource,
        gateway: GatewaySettings,
        equipment: Equipment,
        present: Present,
        clock: Clock,
        commands: CommandPort | None = None,
        embedded_port: int | None = None,
        certificates_s: float = CHECK_S,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self.sink = settings.sink
        self._settings, self._gateway, self._embedded_port = settings, gateway, embedded_port
        self._journal, self._present, self._equipment = journal, present, equipment
        self._clock, self._random01 = clock, random01
        has_host = settings.primary_host is not None
        self._session = Session(
            Names(settings.group, settings.edge_node_for(gateway.id)),
            equipment.node,
            equipment.devices,
            started=clock.now(),
            primary_host=has_host,
        )
        self._host = PrimaryHost(settings.primary_host) if settings.primary_host is not None else None
        self._servers = Servers(settings.addresses)
        self._commands = Commands(self._session, writes=settings.commands)
        self._writes = Writes(commands if settings.commands else None, clock, self.sink)
        self._hearing = Hearing(
            self._session.names,
            sink=self.sink,
            section=self._options().section,
            wanted=settings.echo,
            tags=len(equipment.node.tags),
        )
        self._links = Links(equipment.feeds)
        self._due = DueTags(self._session.tags)
        self._retry = Retry()
        self._repeat_s = settings.repeat.total_seconds() if has_host else 0.0
        self._reached = Reached(journal, self.sink, clock, self._host, self._repeat_s)
        #: A number that no CONNECT has carried yet.
        self._unused: int | None = None
        self._papers: dict[str, CertificateWatch] = {}
        self._certificates_s = certificates_s
        self._keeps = False
        self._kept: Kept | None = None
        self._link: Link | None = None
        self._telling: Telling | None = None
        self._outbox: Outbox | None = None
        self._last_error: str | None = None
        self._retry_at: datetime | None = None
        self._counts = _Counts()

    # --- for the rest of the gateway

    async def run(self) -> None:
        """Be an edge node until cancelled; then leave with a death certificate.

        Raises:
            GatewayError: the journal failed. Failures of a broker never end this.
        """
        self._journal.require(
            self.sink, events=True, batches=self._settings.store_tags and bool(self._equipment.history_tags)
        )
        self._keeps = False
        try:
            if self._kept is None:
                await self._reached.begin()
            await together(self._keep_cursor(), self._stay_connected(), self._writes.run())
        finally:
            if not self._keeps:
                await self.let_go()

    def publish_tag(self, sample: TagSample) -> None:
        """Tell the newest value of a tag as soon as it can be told; other tags are passed over."""
        self._due.put(sample)

    @property
    def tags(self) -> Collection[str]:
        """Full ids of the tags whose samples are wanted."""
        return self._session.tags

    def status(self) -> EdgeStatus:
        """How it goes, now. Cheap."""
        link, telling, counts, host = self._link, self._telling, self._counts, self._host
        outbox = self._outbox
        lag = self._reached.lag_events
        options, error = self._options(), self._last_error
        papers = self._papers.get(options.address)
        if link is not None and telling is None and host is not None:
            error = host.waited_for
        trouble = self._hearing.trouble if link is not None else None
        if trouble is not None and error is None:
            error = str(trouble)
        return EdgeStatus(
            connected=telling is not None,
            last_error=error,
            alarm=self._retry.alarm or (trouble.alarm if trouble is not None else ""),
            retry_at=self._retry_at,
            lag_events=lag,
            oldest_unsent_at=self._reached.oldest_at if lag else None,
            backlog=self._reached.progress.backlog(self._clock.now()) if telling is not None else None,
            server=options.address,
            host="" if host is None else "online" if link is not None and host.online else "offline",
            bdseq=self._session.bd_seq if link is not None else None,
            connects=counts.connects,
            births=self._session.counts.births,
            sent=counts.sent + (link.sent if link else 0),
            too_large=counts.too_large + (link.too_large if link else 0),
            historical=counts.historical + (telling.historical if telling else 0),
            tags_merged=self._due.merged,
            left_out=self._session.counts.dropped + counts.left_out + (outbox.left_out if outbox else 0),
            heard=self._hearing.heard if link is not None else "",
            foreign=self._hearing.foreign,
            warnings=(
                *(papers.warnings() if papers else ()),
                *(outbox.warnings.values() if outbox else ()),
            ),
            certificate_days_left=papers.own_days_left if papers else None,
            broker_certificate_days_left=papers.broker_days_left if papers else None,
            commands=command_figures(self._writes),
        )

    # --- a connection that goes on with another configuration

    def connects_like(self, other: object) -> bool:
        """Whether this one could go on with the other's connection: on connecting both say the same."""
        return isinstance(other, EdgeNode) and self._introduction() == other._introduction()

    def keep_link(self) -> None:
        """When `run` is cancelled next, the connection is kept as it is, for `take_link` or `let_go`."""
        self._keeps = True

    def take_link(self, before: object) -> None:
        """Begin with the connection another one has kept, and where that one was. Call before `run`."""
        if not isinstance(before, EdgeNode) or before is self:
            return
        self._unused, before._unused = before._unused, None
        if before._kept is None:
            return
        self._kept, before._kept = before._kept, None
        self._host, self._servers, self._papers = before._host, before._servers, before._papers
        self._reached = before._reached.over(self._repeat_s)
        self._counts, self._hearing = before._counts, before._hearing
        self._due.merged += before._due.merged
        self._writes.take_over(before._writes)

    async def let_go(self) -> None:
        """Leave a connection that was kept, and that nobody takes, as cleanly as ever."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await self._leave(kept.link, kept.session.leave(self._now()))

    def _introduction(self) -> object:
        settings = self._settings
        options = [self._options(address) for address in settings.addresses]
        return self.sink, self._session.names, settings.primary_host, settings.echo, options

    def _go_on(self, kept: Kept) -> tuple[Link, Inbox]:
        """Begin where another one ended; nothing is awaited here."""
        deaths: Sequence[Publication] = ()
        if kept.session is not self._session:
            deaths = self._session.take_over(kept.session, self._now())
            self._links.take_over(kept.links, self._present.is_lost)
        inbox = self._new_inbox()
        inbox.take_over(kept.inbox)
        kept.link.aim(inbox.put)
        if kept.outbox is not None:
            for gone in deaths:
                kept.outbox.warnings.pop(gone.device, None)
            self._outbox, self._telling = kept.outbox, self._teller(kept.outbox)
            self._telling.go_on(deaths)
        log.info("edge node goes on with its connection", sink=self.sink, bdseq=self._session.bd_seq)
        return kept.link, inbox

    async def _rest(self, link: Link, inbox: Inbox) -> bool:
        """Come to rest, so that another can go on. Whether there is a connection to go on with."""
        if self._telling is not None:
            await self._telling.rest()
        if link.is_over or inbox.host_is_gone:
            return False
        outbox = self._outbox if self._telling is not None else None
        self._kept = Kept(link, inbox, self._session, self._links, outbox)
        return True

    # --- connections

    def _now(self) -> Now:
        return Now(self._clock.now(), self._clock.monotonic())

    def _options(self, address: str | None = None) -> LinkOptions:
        options = link_options(
            self._settings,
            self._gateway,
            broker=address or self._servers.current,
            embedded_port=self._embedded_port,
        )
        return replace(options, retain_needed=False)

    async def _stay_connected(self) -> None:
        while True:
            began_s, connects, options = self._clock.monotonic(), self._counts.connects, self._options()
            connects -= self._kept is not None
            pause_s = 0.0
            try:
                await self._session_on(options)
            except Renewed:
                log.info("certificates are new", sink=self.sink)
            except Leaving as leaving:
                self._note(leaving.reason, "", "")
                if not leaving.stay and self._servers.next() and len(self._servers.addresses) > 1:
                    pause_s = self._retry.backoff.failed(0.0, self._random01())
            except (SinkUnavailable, SinkRefused) as failure:
                up_for_s = self._clock.monotonic() - began_s if self._counts.connects > connects else 0.0
                pause_s = await self._pause_s(failure, options, up_for_s)
                if not self._servers.next():
                    pause_s = 0.0
            self._retry_at = self._clock.now() + timedelta(seconds=pause_s)
            await self._clock.sleep(pause_s)

    async def _pause_s(self, failure: Failure, options: LinkOptions, up_for_s: float) -> float:
        # A broker that closes and goes on listening meant us; one that died did not.
        meant = isinstance(failure, ClosedByBroker) and await listens(options)
        pause_s = self._retry.failed(failure, up_for_s=up_for_s, random01=self._random01(), listens=meant)
        reason, hint = failure.reason, failure.hint
        if isinstance(failure, ClosedByBroker) and self._retry.alarm == "client_id_taken":
            reason, hint = PROBABLY_TAKEN, at(OWN_ID, options.section)
        self._note(reason, hint, self._retry.alarm)
        return pause_s

    def _note(self, reason: str, hint: str, alarm: str) -> None:
        told = f"{reason}; {hint}" if hint else reason
        if told != self._last_error:  # once, not at every attempt
            log.warning("edge node not connected", sink=self.sink, reason=reason, hint=hint, alarm=alarm)
        self._last_error = told

    async def _session_on(self, options: LinkOptions) -> None:
        """One connection, from its number to its end; or one that goes on."""
        kept, self._kept = self._kept, None
        if kept is not None and kept.link.is_over:
            if kept.session is not self._session:
                self._session.take_held(kept.session)
            if kept.outbox is not None:
                self._reached.lost()
            kept = None
        link, inbox = await self._connect(options) if kept is None else self._go_on(kept)
        self._link, self._last_error, self._retry_at = link, None, None
        last: Sequence[Publication] = ()
        ready, stays = kept is not None, False
        try:
            if not ready:
                await link.subscribe(self._filters())
                await self._hearing.ask(link, self._session.bd_seq, self._clock)
                ready = True
            papers = self._papers_for(options)
            await together(link.ended(), self._speak(link, inbox), self._settle(), papers.watch(link))
        except (Leaving, Renewed, asyncio.CancelledError) as why:
            stays = (
                self._keeps
                and ready
                and isinstance(why, asyncio.CancelledError)
                and await self._rest(link, inbox)
            )
            if not stays:
                last = self._session.leave(self._now())
            raise
        finally:
            if not stays:
                await self._leave(link, last)
                self._session.lost()
            self._ended(link, stays=stays)

    async def _connect(self, options: LinkOptions) -> tuple[Link, Inbox]:
        number = await take_bdseq(self._journal, self.sink) if self._unused is None else self._unused
        self._unused = None
        death = self._session.will(number, self._clock.now())
        if self._host is not None:
            self._host.connected(options.address)
        inbox = self._new_inbox()
        try:
            link = await Link.open(
                options, self._clock, will=Will(death.topic, encode(death.payload)), on_message=inbox.put
            )
        except (SinkUnavailable, SinkRefused) as failure:
            if isinstance(failure.__cause__, OSError) and not isinstance(failure.__cause__, TimeoutError):
                self._unused = number  # nobody was reached, so no CONNECT has carried it
            raise
        self._counts.connects += 1
        log.info("edge node connected", sink=self.sink, broker=options.address, bdseq=number)
        return link, inbox

    def _new_inbox(self) -> Inbox:
        return Inbox(
            commands=self._commands,
            host=self._host,
            writes=self._writes,
            clock=self._clock,
            hearing=self._hearing,
        )

    async def _leave(self, link: Link, last: Sequence[Publication]) -> None:
        words = [Will(item.topic, encode(item.payload), qos=0) for item in last]
        await link.stop(STOP_S, last=words, with_will=link.protocol == "5")

    def _papers_for(self, options: LinkOptions) -> CertificateWatch:
        """The certificates of one server, over all connections to it."""
        if options.address not in self._papers:
            self._papers[options.address] = CertificateWatch(
                options, self._clock, check_s=self._certificates_s
            )
        return self._papers[options.address]

    def _filters(self) -> Mapping[str, int]:
        names = self._session.names
        filters = {names.node_commands: 1, names.device_commands: 1}
        return filters if self._host is None else {**filters, self._host.topic: 1}

    async def _speak(self, link: Link, inbox: Inbox) -> None:
        outbox, telling = self._outbox, self._telling
        if outbox is None or telling is None:
            outbox, telling = await self._be_born(link, inbox)
        elif inbox.host_is_gone:
            await self._host_gone(inbox)
        self._servers.settled()
        await together(
            outbox.run(),
            telling.run(),
            self._hear(inbox, telling),
            self._host_gone(inbox),
            listen(self._hearing, link, self._clock, telling.reborn),
        )

    async def _be_born(self, link: Link, inbox: Inbox) -> tuple[Outbox, Telling]:
        """The births, as soon as they may be said."""
        self._outbox = outbox = Outbox(link, self._session.names, self._hearing.said)
        birth = self._session.connected
        if self._host is not None:
            self._session.connected(self._now())
            await self._host_there(inbox)
            birth = self._session.host_online
        since = self._reached.born()
        telling = self._teller(outbox)
        telling.be_born(birth, since)
        self._telling = telling
        return outbox, telling

    def _teller(self, outbox: Outbox) -> Telling:
        return Telling(
            session=self._session,
            outbox=outbox,
            journal=self._journal,
            present=self._present,
            progress=self._reached.progress,
            links=self._links,
            due=self._due,
            history_tags=self._equipment.history_tags if self._settings.store_tags else (),
            clock=self._clock,
            devices=[device.name for device in self._equipment.devices],
            connections=self._equipment.node.connections,
        )

    async def _host_there(self, inbox: Inbox) -> None:
        """Wait until the primary host is there; not for long where another server may know it."""
        if len(self._servers.addresses) == 1:
            await inbox.host_online()
            return
        online = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOST_WAIT_S):
                online = await inbox.host_word()
        if not online:
            raise Leaving(f"the primary host is not on {self._options().address}")

    async def _host_gone(self, inbox: Inbox) -> None:
        await inbox.host_offline()
        if self._host is not None and self._host.came_anew:
            raise Leaving("the primary host was not there yet, though the broker said so", stay=True)
        raise Leaving("the primary host is gone")

    async def _hear(self, inbox: Inbox, telling: Telling) -> None:
        await inbox.run(telling.reborn)

    async def _settle(self) -> None:
        await self._clock.sleep(self._retry.backoff.settled_s)
        self._retry.settled()

    def _ended(self, link: Link, *, stays: bool) -> None:
        """The connection has ended, or stays for another one."""
        telling, outbox, counts = self._telling, self._outbox, self._counts
        self._link = self._telling = self._outbox = None
        counts.historical += telling.historical if telling else 0
        if stays:
            return
        counts.sent += link.sent
        counts.too_large += link.too_large
        counts.left_out += outbox.left_out if outbox else 0
        if telling is not None:  # else nothing was told
            self._reached.lost()

    async def _keep_cursor(self) -> None:
        while True:
            await self._clock.sleep(SAVE_EVERY_S)
            telling = self._telling
            await self._reached.note(
                telling=telling is not None,
                owes_tags=telling is not None and telling.owes_tags,
                held_seq=self._session.held_seq,
            )
