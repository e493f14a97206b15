"""What times in states are worth: ISO 22400-2 factors and OEE, SEMI E10 metrics.

Every figure is a plain quotient, unrounded and not clamped: rounding is for whoever shows it, and a figure
above 1 says that a planned cycle is too slow. A figure without a denominator is None, never 0 or 1. Time in
`Unknown` is in no figure: it is told beside them, as what was not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import msgspec

from statemodel.timeline import Durations, Span, durations, entries


def quotient(numerator: float, denominator: float) -> float | None:
    """A figure; None without a denominator."""
    return numerator / denominator if denominator else None


@dataclass(frozen=True, slots=True)
class E10Times:
    """Seconds in the six states of SEMI E10, which cover all time that was seen; `unknown_s` was not.

    The sums are those of the standard's time model.
    """

    productive_s: float
    standby_s: float
    engineering_s: float
    scheduled_down_s: float
    unscheduled_down_s: float
    non_scheduled_s: float
    unknown_s: float = 0.0

    @property
    def manufacturing_s(self) -> float:
        """Productive and standby."""
        return self.productive_s + self.standby_s

    @property
    def uptime_s(self) -> float:
        """Manufacturing and engineering."""
        return self.manufacturing_s + self.engineering_s

    @property
    def operations_s(self) -> float:
        """Uptime and all downtime."""
        return self.uptime_s + self.scheduled_down_s + self.unscheduled_down_s

    @property
    def total_s(self) -> float:
        """All six."""
        return self.operations_s + self.non_scheduled_s


class E10Metrics(msgspec.Struct, frozen=True):
    """Metrics of SEMI E10, as ratios and seconds; None where there is nothing to divide by.

    `mtbf_productive_s` is productive time per failure while productive, `mtbf_uptime_s` uptime per failure
    in uptime, `mttr_s` unscheduled downtime per repair, `mtol_s` downtime per downtime event. Without a
    failure a mean time between failures is not infinite but unknown: None, and the time without failure in
    `mtbf_productive_least_s` is its lower bound.
    """

    operational_uptime: float | None
    total_uptime: float | None
    operational_utilization: float | None
    total_utilization: float | None
    mtbf_productive_s: float | None
    mtbf_productive_least_s: float
    mtbf_uptime_s: float | None
    mttr_s: float | None
    mtol_s: float | None


def e10_times(spent: Durations) -> E10Times:
    """Times by E10 state. They and `unknown_s` sum to the total."""

    def seconds(category: str | None) -> float:
        return spent.in_category(category).total_seconds()

    return E10Times(
        seconds("productive"),
        seconds("standby"),
        seconds("engineering"),
        seconds("scheduled-down"),
        seconds("unscheduled-down"),
        seconds("non-scheduled"),
        seconds(None),
    )


def e10_metrics(
    times: E10Times,
    *,
    failures_productive: int,
    failures_uptime: int,
    repairs: int,
    downtime_events: int,
) -> E10Metrics:
    """The metrics, from times and counts. `downtime_events` counts entries into either downtime."""
    downtime_s = times.scheduled_down_s + times.unscheduled_down_s
    return E10Metrics(
        operational_uptime=quotient(times.uptime_s, times.operations_s),
        total_uptime=quotient(times.uptime_s, times.total_s),
        operational_utilization=quotient(times.productive_s, times.operations_s),
        total_utilization=quotient(times.productive_s, times.total_s),
        mtbf_productive_s=quotient(times.productive_s, failures_productive),
        mtbf_productive_least_s=times.productive_s,
        mtbf_uptime_s=quotient(times.uptime_s, failures_uptime),
        mttr_s=quotient(times.unscheduled_down_s, repairs),
        mtol_s=quotient(downtime_s, downtime_events),
    )


class E10Counts(msgspec.Struct, frozen=True):
    """How often what the metrics divide by happened within a stretch of time."""

    failures_productive: int
    failures_uptime: int
    repairs: int
    downtime_events: int


def e10_counts(spans: Sequence[Span], *, before: Span | None = None) -> E10Counts:
    """Count failures (entries into unscheduled downtime), repairs and downtime events in a timeline.

    `before` is the span that ended exactly where the first begins, so that what happened at that very instant
    is counted, and counted once, however time is cut. A stay that lasts at the end counts as a failure but
    not as a repair. One that comes out of `Unknown` is neither: what led to it was not seen. Downtime that
    turns from scheduled to unscheduled is one event of downtime, and no failure in uptime.
    """
    down = ("scheduled-down", "unscheduled-down")
    up = ("productive", "standby", "engineering")
    whole = spans if before is None else (before, *spans)
    pairs = list(pairwise(whole))
    return E10Counts(
        failures_productive=entries(whole, "unscheduled-down", from_category="productive"),
        failures_uptime=sum(b.category == "unscheduled-down" and a.category in up for a, b in pairs),
        repairs=sum(
            a.category == "unscheduled-down" != b.category and b.category is not None for a, b in pairs
        ),
        downtime_events=sum(
            b.category in down and a.category is not None and a.category not in down for a, b in pairs
        ),
    )


def e10_of(spans: Sequence[Span], *, before: Span | None = None) -> tuple[E10Times, E10Metrics]:
    """Times and metrics of a timeline, counted as `e10_counts` says."""
    times, counts = e10_times(durations(spans)), e10_counts(spans, before=before)
    return times, e10_metrics(times, **msgspec.structs.asdict(counts))


@dataclass(frozen=True, slots=True)
class IsoTimes:
    """Time elements of ISO 22400-2 in seconds: planned busy, actual production, actual unit processing
    (production and setup), actual unit delay; and what was not seen, which is in none of them."""

    pbt_s: float
    apt_s: float
    aupt_s: float
    adet_s: float
    unknown_s: float = 0.0


def iso_times(spent: Durations, *, setup: timedelta = timedelta(0)) -> IsoTimes:
    """Time elements from times by category.

    Planned busy time is everything seen but non-scheduled and scheduled downtime; productive time is
    production, unscheduled downtime delay. Time of setup is known to whoever plans, not to the categories:
    hand it in where it counts.
    """
    times = e10_times(spent)
    return IsoTimes(
        pbt_s=times.total_s - times.non_scheduled_s - times.scheduled_down_s,
        apt_s=times.productive_s,
        aupt_s=times.productive_s + setup.total_seconds(),
        adet_s=times.unscheduled_down_s,
        unknown_s=times.unknown_s,
    )


class IsoFactors(msgspec.Struct, frozen=True):
    """Factors of ISO 22400-2; None where there is nothing to divide by, or where an amount is not known.

    `oee` is availability x effectiveness x quality_ratio, multiplied unrounded; `nee` the same with
    allocation for processing (setup counts as used) in place of availability.
    """

    availability: float | None
    effectiveness: float | None
    quality_ratio: float | None
    oee: float | None
    nee: float | None
    technical_efficiency: float | None
    scrap_ratio: float | None
    rework_ratio: float | None


def iso_factors(
    times: IsoTimes,
    *,
    run_s_per_item: float | None = None,
    produced: float | None = None,
    good: float | None = None,
    scrap: float | None = None,
    rework: float | None = None,
) -> IsoFactors:
    """The factors. `run_s_per_item` is the planned run time per item (PRI)."""
    availability = quotient(times.apt_s, times.pbt_s)
    effectiveness = None
    if run_s_per_item is not None and produced is not None:
        effectiveness = quotient(run_s_per_item * produced, times.apt_s)
    quality_ratio = _share(good, produced)
    return IsoFactors(
        availability=availability,
        effectiveness=effectiveness,
        quality_ratio=quality_ratio,
        oee=_product(availability, effectiveness, quality_ratio),
        nee=_product(quotient(times.aupt_s, times.pbt_s), effectiveness, quality_ratio),
        technical_efficiency=quotient(times.apt_s, times.apt_s + times.adet_s),
        scrap_ratio=_share(scrap, produced),
        rework_ratio=_share(rework, produced),
    )


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or whole is None else quotient(part, whole)


def _product(*factors: float | None) -> float | None:
    product = 1.0
    for factor in factors:
        if factor is None:
            return None
        product *= factor
    return product
