"""One Modbus connection: sessions on a line it may share with others. The file that awaits.

What to ask and what an answer is worth is said by `poll`, whose turn it is by `line`, what comes over the
wire by the clients; this puts them together and talks to the gateway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from connectors.base import Clock, Link, Write, WriteOutcome, Written
from connectors.errors import ConnectionLost
from connectors.modbus.client import Counts
from connectors.modbus.codec import CannotEncode
from connectors.modbus.config import ModbusSettings
from connectors.modbus.layout import Signal
from connectors.modbus.line import Line
from connectors.modbus.member import Member
from connectors.modbus.plan import ReadRequest, plan_reads
from connectors.modbus.writes import WriteForms, write_question
from connectors.modbus.writing import WriteJob
from connectors.protocol import Shared
from statemodel.types import DeviceEvent, Gap, SampleBatch, TagSample


class ModbusConnector:
    """Reads and writes one Modbus device. `counts` tells what happened on the wire, over all sessions."""

    def __init__(self, settings: ModbusSettings, clock: Clock, shared: Shared | None = None) -> None:
        self.settings = settings
        self.counts = Counts()
        self._clock = clock
        self._place = place = settings.place()
        self._line = (shared or Shared()).of(place.key, lambda: Line(place, settings.name, clock))
        self.refusals: dict[str, str] = {}
        """See `connectors.selfreport.Refuses`."""
        self._member: Member | None = None
        self._signals: dict[str, Signal] = {}
        for tag in settings.tags():
            id_ = settings.tag_id(tag)
            self._signals[id_] = tag.signal(id_)  # type: ignore[attr-defined]
        self._forms = WriteForms(settings.write_multiple, settings.mask_write)

    def figures(self) -> dict[str, float]:
        """What happened on the wire, by the names of `Counts`. See `connectors.selfreport.Counts`."""
        return {name: float(value) for name, value in asdict(self.counts).items()}

    def plan(self) -> dict[str, tuple[ReadRequest, ...]]:
        """The requests of each group's cycle, as first tried."""
        limits = self.settings.limits.for_plan()
        return {
            group.name: plan_reads(
                (tag.signal(self.settings.tag_id(tag)) for tag in group.tags),
                limits,
            )
            for group in self.settings.groups
        }

    async def run(self, link: Link) -> None:
        """Poll until the link fails. See `connectors.base.Connector`."""
        self._member = member = Member(self.settings, self._clock, self.counts, link)
        try:
            await self._serve(member)
        finally:
            self._member = None

    async def read_once(self) -> Sequence[TagSample]:
        """Every tag once, in the order of the configuration. See `connectors.base.Connector`."""
        once = _Once()
        await self._serve(Member(self.settings, self._clock, self.counts, once, once=True))
        self.refusals = once.refusals
        return [once.samples[self.settings.tag_id(tag)] for tag in self.settings.tags()]

    async def write(self, writes: Sequence[Write]) -> Sequence[Written]:
        """Write through the session that runs. See `connectors.base.Writer`."""
        member = self._member
        if member is None or not member.is_up or member.line is None:
            raise ConnectionLost("there is no session to write through", hint="wait until the link is up")
        return [await self._write_one(member, write) for write in writes]

    async def _write_one(self, member: Member, write: Write) -> Written:
        def refused(reason: str) -> Written:
            return Written(write.tag, WriteOutcome.REFUSED, reason)

        signal = self._signals.get(write.tag)
        if signal is None:
            return refused(f'there is no tag "{write.tag}" on this connection')
        try:
            question = write_question(signal, write.value, self.settings.unit, self._forms)
        except CannotEncode as error:
            return refused(str(error))
        if member.gone:
            return refused("never sent: the connection was lost")
        job = WriteJob(member, write, question, self.settings.timeout.total_seconds())
        self._line.write(member, job)
        return await job.done

    async def _serve(self, member: Member) -> None:
        timeout_s = self.settings.connect_timeout.total_seconds()
        try:
            await self._line.join(member, self._place, self.settings.name, timeout_s)
            while await member.pass_on():
                pass
        except ConnectionLost as lost:
            lost.last_seen_at = member.seen_at
            raise
        finally:
            await self._line.leave(member)


class _Once:
    """The link of one reading: it only keeps what it is told."""

    def __init__(self) -> None:
        self.samples: dict[str, TagSample] = {}
        self.refusals: dict[str, str] = {}

    async def up(self) -> None:
        """See `Link`."""

    async def emit(self, batch: SampleBatch) -> None:
        """See `Link`."""
        self.samples.update((sample.tag, sample) for sample in batch.samples)

    async def event(self, event: DeviceEvent) -> None:
        """See `Link`."""

    def seen(self, at: datetime) -> None:
        """See `Link`."""

    def cycle(self, group: str, duration_s: float, lateness_s: float, skipped: int) -> None:
        """See `Link`."""

    def gap(self, gap: Gap) -> None:
        """See `Link`."""

    def refused(self, tag: str, reason: str) -> None:
        """See `Link`."""
        self.refusals[tag] = reason
