"""Prometheus figures, read from the parts when asked for: the hot path counts nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api.accounting import Accounts
from connectors.base import Clock
from connectors.selfreport import figures_of, warnings_of
from gateway.health import SinkOf
from gateway.pipeline import Pipeline
from gateway.sparkplug.status import EdgeStatus
from gateway.supervisor import Supervised


class Exposition(Collector):
    """Implements `api.ports.Metrics`. Labels are names from the configuration, so their number is bounded."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        supervised: Collection[Supervised],
        sinks: Mapping[str, SinkOf],
        accounts: Accounts,
        journal: Callable[[], Mapping[str, float]],
        more: Callable[[], Iterator[Metric]] = lambda: iter(()),
        snapshots: Callable[[datetime], Mapping[str, float]] = lambda _: {},
        clock: Clock,
        version: str,
    ) -> None:
        self._pipeline = pipeline
        self._supervised = supervised
        self._sinks = sinks
        self._accounts = accounts
        self._journal, self._snapshots = journal, snapshots
        self._more = more
        self._clock = clock
        self._version = version
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> tuple[bytes, str]:
        """Body and content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """All families, in a fixed order."""
        info = GaugeMetricFamily("andon_info", "Version of the gateway.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield from self._connections()
        yield from self._flow()
        yield from self._sink_figures()
        yield from self._edge_figures()
        yield from self._order_figures()
        yield from self._account_figures()
        yield from self._more()
        for name, value in self._journal().items():
            yield GaugeMetricFamily(
                f"andon_journal_{name}", f"Journal: {name.replace('_', ' ')}.", value=value
            )

        for name, value in self._snapshots(self._clock.now()).items():
            yield GaugeMetricFamily(
                f"andon_snapshot_{name}", f"Snapshots: {name.replace('_', ' ')}.", value=value
            )

    def _connections(self) -> Iterator[Metric]:
        label = ["connection"]
        up = GaugeMetricFamily("andon_connection_up", "1 while the link is up.", labels=label)
        late = GaugeMetricFamily("andon_poll_lateness_seconds_max", "Latest a poll has begun.", labels=label)
        skipped = CounterMetricFamily(
            "andon_poll_cycles_skipped", "Cycles left out, not queued.", labels=label
        )
        bad = GaugeMetricFamily(
            "andon_connection_tags_refused", "Tags the device will not serve.", labels=label
        )
        surprises = CounterMetricFamily(
            "andon_connector_unexpected_failures", "Failures nobody foresaw.", labels=label
        )
        gaps = CounterMetricFamily("andon_connection_gaps", "Losses known and recorded.", labels=label)
        warnings = GaugeMetricFamily(
            "andon_connection_warnings", "What the connector warns of at present.", labels=label
        )
        counts = CounterMetricFamily(
            "andon_connector_count", "What the protocol counts on its wire.", labels=["connection", "what"]
        )
        for item in self._supervised:
            name = [item.settings.name]
            up.add_metric(name, 1 if item.link == "up" else 0)
            late.add_metric(name, item.late_s_max)
            skipped.add_metric(name, item.skipped_cycles)
            bad.add_metric(name, len(item.bad_tags))
            surprises.add_metric(name, item.surprises)
            gaps.add_metric(name, item.gaps)
            warnings.add_metric(name, len(warnings_of(item.connector)))
            for what, value in figures_of(item.connector).items():
                counts.add_metric([*name, what], value)
        yield from (up, late, skipped, bad, surprises, gaps, warnings, counts)
        yield from self._groups()

    def _groups(self) -> Iterator[Metric]:
        """Poll groups: their number is that of the configuration."""
        label = ["connection", "group"]
        count = CounterMetricFamily("andon_poll_cycles", "Readings of a group.", labels=label)
        took = CounterMetricFamily("andon_poll_cycle_seconds", "Time they took in all.", labels=label)
        late = CounterMetricFamily(
            "andon_poll_lateness_seconds", "How late they began, added up.", labels=label
        )
        worst = GaugeMetricFamily(
            "andon_poll_cycle_seconds_max", "The longest of the last minute.", labels=label
        )
        for item in self._supervised:
            recent = item.cycles()
            for group, cycles in item.polled.items():
                names = [item.settings.name, group]
                count.add_metric(names, cycles.count)
                took.add_metric(names, cycles.duration_s)
                late.add_metric(names, cycles.lateness_s)
                worst.add_metric(names, recent[group].get("duration_max_s", 0.0))
        yield from (count, took, late, worst)

    def _flow(self) -> Iterator[Metric]:
        counts = self._pipeline.counts
        yield CounterMetricFamily("andon_samples", "Samples from connectors.", value=counts.samples)
        yield CounterMetricFamily("andon_bad_samples", "Of these, of bad quality.", value=counts.bad_samples)
        yield CounterMetricFamily(
            "andon_samples_passed", "Samples that said something new.", value=counts.passed
        )
        yield CounterMetricFamily("andon_samples_recorded", "Samples journalled.", value=counts.recorded)
        yield CounterMetricFamily("andon_transitions", "Transitions journalled.", value=counts.transitions)
        yield CounterMetricFamily("andon_rejections", "Moves the models refused.", value=counts.rejections)
        yield CounterMetricFamily(
            "andon_corrections", "Corrections of the past journalled.", value=counts.corrections
        )
        yield CounterMetricFamily(
            "andon_device_events", "Events of devices journalled.", value=counts.device_events
        )
        yield CounterMetricFamily(
            "andon_device_events_repeated",
            "Events of devices that were told again and are on record.",
            value=counts.repeated_events,
        )
        yield CounterMetricFamily("andon_journal_commits", "Durable commits.", value=counts.commits)
        yield GaugeMetricFamily(
            "andon_pipeline_backlog_events", "Events waiting.", value=self._pipeline.backlog
        )

    def _account_figures(self) -> Iterator[Metric]:
        """The books of all tags together; `recorded` is the sum of the rest for each sink."""
        view = self._accounts.view()
        yield CounterMetricFamily(
            "andon_accounts_recorded_samples", "Samples recorded since the books began.", value=view.recorded
        )
        yield CounterMetricFamily(
            "andon_accounts_shed_samples", "Samples for which the journal had no room.", value=view.shed
        )
        yield GaugeMetricFamily(
            "andon_accounts_difference", "Samples unaccounted for; 0 when all is well.", value=view.difference
        )
        samples = GaugeMetricFamily(
            "andon_sink_samples", "Samples recorded, by what became of them.", labels=["sink", "what"]
        )
        for sink in view.sinks:
            if sink.samples is not None:
                for what in ("delivered", "buffered", "set_aside", "missing"):
                    samples.add_metric([sink.sink, what], getattr(sink.samples, what))
        yield samples

    def _sink_figures(self) -> Iterator[Metric]:
        label = ["sink"]
        up = GaugeMetricFamily("andon_sink_up", "1 while the sink reaches its server.", labels=label)
        lag = GaugeMetricFamily("andon_sink_lag_events", "Events not yet handed over.", labels=label)
        age = GaugeMetricFamily(
            "andon_sink_oldest_unsent_seconds", "Age of the oldest of them.", labels=label
        )
        events = GaugeMetricFamily(
            "andon_sink_backlog_events",
            "Those that gathered in an outage.",
            labels=label,
        )
        batches = GaugeMetricFamily(
            "andon_sink_backlog_batches", "The same of batches of samples.", labels=label
        )
        left = GaugeMetricFamily(
            "andon_sink_backlog_seconds", "How long that will take, once it is known.", labels=label
        )
        rate = GaugeMetricFamily(
            "andon_sink_drain_events_per_second",
            "How fast what gathered is handed over, once that is known.",
            labels=label,
        )
        days = GaugeMetricFamily(
            "andon_sink_certificate_days_left",
            "Days until a certificate of the connection ends.",
            labels=["sink", "whose"],
        )
        for name, sink in self._sinks.items():
            status = sink.status()
            for whose, field in (
                ("own", "certificate_days_left"),
                ("broker", "broker_certificate_days_left"),
            ):
                if (left_days := getattr(status, field, None)) is not None:
                    days.add_metric([name, whose], left_days)
            backlog, now = status.backlog, self._clock.now()
            events.add_metric([name], 0 if backlog is None else backlog.events)
            batches.add_metric([name], 0 if backlog is None else backlog.batches)
            if backlog is None or backlog.caught_up_at is not None:
                done_at = now if backlog is None else backlog.caught_up_at
                left.add_metric([name], max(0.0, ((done_at or now) - now).total_seconds()))
            if backlog is not None and backlog.events_per_s is not None:
                rate.add_metric([name], backlog.events_per_s)
            up.add_metric([name], 1 if status.connected else 0)
            lag.add_metric([name], status.lag_events)
            age.add_metric([name], _age_s(status.oldest_unsent_at, self._clock.now()))
        yield from (up, lag, age, events, batches, left, rate, days)

    def _edge_figures(self) -> Iterator[Metric]:
        """Edge nodes of Sparkplug; nothing where there is none."""
        nodes = [
            (name, status)
            for name, sink in self._sinks.items()
            if isinstance(status := sink.status(), EdgeStatus)
        ]
        if not nodes:
            return
        label = ["sink"]
        host = GaugeMetricFamily("andon_sparkplug_host_online", "1 while the primary host is.", labels=label)
        heard = GaugeMetricFamily(
            "andon_sparkplug_heard",
            "1 while the broker passes on the births; absent: not known.",
            labels=label,
        )
        foreign = CounterMetricFamily(
            "andon_sparkplug_foreign", "Births and deaths under its name that are not its own.", labels=label
        )
        births = CounterMetricFamily("andon_sparkplug_births", "Births of the node.", labels=label)
        sent = CounterMetricFamily("andon_sparkplug_messages", "Messages sent.", labels=label)
        past = CounterMetricFamily("andon_sparkplug_historical", "Values told as history.", labels=label)
        merged = CounterMetricFamily(
            "andon_sparkplug_tags_merged", "Values overtaken by newer ones on a slow link.", labels=label
        )
        lost = CounterMetricFamily(
            "andon_sparkplug_left_out",
            "Messages too large for the broker, and events of dead devices beyond those kept.",
            labels=label,
        )
        commands = CounterMetricFamily(
            "andon_sparkplug_commands", "Commands, by what became of them.", labels=["sink", "what"]
        )
        for name, status in nodes:
            if status.host:
                host.add_metric([name], status.host == "online")
            if status.heard in ("yes", "no"):
                heard.add_metric([name], status.heard == "yes")
            foreign.add_metric([name], status.foreign)
            births.add_metric([name], status.births)
            sent.add_metric([name], status.sent)
            past.add_metric([name], status.historical)
            merged.add_metric([name], status.tags_merged)
            lost.add_metric([name], status.too_large + status.left_out)
            for what, count in status.commands.items():
                commands.add_metric([name, what], count)
        yield from (host, heard, foreign, births, sent, past, merged, lost, commands)

    def _order_figures(self) -> Iterator[Metric]:
        """Requests on the command topics of brokers; nothing where nobody listens for them."""
        counted = CounterMetricFamily(
            "andon_mqtt_commands",
            "Requests on command topics, by what became of them.",
            labels=["sink", "what"],
        )
        for name, sink in self._sinks.items():
            for what, count in getattr(sink.status(), "orders", {}).items():
                counted.add_metric([name, what], count)
        if counted.samples:
            yield counted


def _age_s(at: datetime | None, now: datetime) -> float:
    return max(0.0, (now - at).total_seconds()) if at is not None else 0.0
