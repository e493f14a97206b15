"""Judges what was recorded against the plant's own ledger. Pure; knows no process and no wire.

The ledger is the truth. Recorded transitions must be the ledger's, one for one and in order, except inside
intervals recorded as `Unknown`; and there may be such intervals only where the test made trouble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Allowance:
    """How much later than the truth a transition may be seen: a poll period, a dwell, a busy machine.

    Less than two states last together, or one move is taken for the same move of the round before.
    """

    before: timedelta = timedelta(milliseconds=5)
    after: timedelta = timedelta(milliseconds=1800)


@dataclass(frozen=True)
class Trouble:
    """A stretch of time in which the test kept the gateway from seeing a machine."""

    equipment: frozenset[str]
    from_: datetime
    to: datetime


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def faults(
    recorded: Sequence[Mapping[str, Any]],
    ledger: Sequence[Mapping[str, Any]],
    *,
    delays: Mapping[tuple[str, str], timedelta] | None = None,
    troubles: Sequence[Trouble] = (),
    allowance: Allowance = Allowance(),
) -> list[str]:
    """Everything that is wrong, in words; empty when the record is right.

    `delays` are dwell times of the model by (equipment, state entered), which the truth does not have.
    """
    found: list[str] = []
    machines = sorted({line["equipment"] for line in ledger})
    strangers = {event["equipment"] for event in recorded} - set(machines)
    found += [f"{name}: is not in the plant" for name in sorted(strangers)]
    for machine in machines:
        found += _chain([event for event in recorded if event["equipment"] == machine])
        found += _truth(
            machine,
            [event for event in recorded if event["equipment"] == machine],
            [line for line in ledger if line["equipment"] == machine],
            delays or {},
            allowance,
        )
        found += _unknown(machine, [e for e in recorded if e["equipment"] == machine], troubles)
    return found


def _chain(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sequence without a gap, each move from where the last one led, durations that add up."""
    found = []
    for place, event in enumerate(events, 1):
        name = f"{event['equipment']} #{event['sequence']}"
        if event["sequence"] != place:
            found.append(f"{name}: is at place {place}")
        if event["conformance"] != "legal":
            found.append(f"{name}: {event['from_state']} to {event['to_state']} is {event['conformance']}")
    for last, event in pairwise(events):
        name = f"{event['equipment']} #{event['sequence']}"
        if event["from_state"] != last["to_state"]:
            found.append(f"{name}: leaves {event['from_state']}, but was in {last['to_state']}")
        if event["seq"] <= last["seq"]:
            found.append(f"{name}: seq {event['seq']} after {last['seq']}")
        lasted = (parse(event["at"]) - parse(last["at"])).total_seconds()
        if lasted < 0 or abs(lasted - event["duration_s"]) > 1e-5:
            found.append(f"{name}: says {event['duration_s']} s, lasted {lasted} s")
    return found


def _truth(
    machine: str,
    events: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
    delays: Mapping[tuple[str, str], timedelta],
    allowance: Allowance,
) -> list[str]:
    """Seen moves are true moves, in order; what was not seen lies inside an Unknown interval."""
    found = []
    dark = _dark(events)
    moves = [line for line in lines if line["from"] is not None]
    seen = [event for event in events if UNKNOWN not in (event["from_state"], event["to_state"])]
    place = 0
    for event in seen:
        at = parse(event["at"])
        delay = delays.get((machine, event["to_state"]), timedelta())
        while place < len(moves) and (
            (moves[place]["from"], moves[place]["to"]) != (event["from_state"], event["to_state"])
            or parse(moves[place]["at"]) + delay < at - allowance.after
        ):
            found += _unseen(machine, moves[place], dark, delays, allowance)
            place += 1
        if place == len(moves):
            found.append(
                f"{machine} #{event['sequence']}: {event['from_state']} to {event['to_state']} is not true"
            )
            continue
        true_at = parse(moves[place]["at"]) + delay
        if not -allowance.before <= at - true_at <= allowance.after:
            found.append(f"{machine} #{event['sequence']}: at {at}, but it was {true_at}")
        place += 1
    for move in moves[place:]:
        found += _unseen(machine, move, dark, delays, allowance)
    for event in events:
        if event["from_state"] == UNKNOWN:
            true = _true_states(lines, parse(event["at"]), allowance, delays)
            if event["to_state"] not in true:
                found.append(f"{machine} #{event['sequence']}: comes back as {event['to_state']}, was {true}")
    return found


def _unseen(
    machine: str,
    move: Mapping[str, Any],
    dark: Sequence[tuple[datetime, datetime]],
    delays: Mapping[tuple[str, str], timedelta],
    allowance: Allowance,
) -> list[str]:
    at = parse(move["at"])
    slack = allowance.after + delays.get((machine, move["to"]), timedelta())
    if any(start - slack <= at <= end for start, end in dark):
        return []
    return [f"{machine}: {move['from']} to {move['to']} at {at} (line {move['n']}) was not recorded"]


def _dark(events: Sequence[Mapping[str, Any]]) -> list[tuple[datetime, datetime]]:
    """The intervals in which the record says that nothing is known."""
    if not events:
        return []
    dark = []
    since: datetime | None = parse(events[0]["at"]) - timedelta(days=1)
    for event in events:
        if event["to_state"] == UNKNOWN:
            since = parse(event["at"])
        elif since is not None:
            dark.append((since, parse(event["at"])))
            since = None
    if since is not None:
        dark.append((since, since + timedelta(days=1)))
    return dark


def _true_states(
    lines: Sequence[Mapping[str, Any]],
    at: datetime,
    allowance: Allowance,
    delays: Mapping[tuple[str, str], timedelta],
) -> set[str]:
    """States the machine was in shortly before an instant."""
    longest = max(delays.values(), default=timedelta())
    states: set[str] = set()
    for line in lines:
        if parse(line["at"]) <= at - allowance.after - longest:
            states = {line["to"]}
        elif parse(line["at"]) <= at + allowance.before:
            states.add(line["to"])
    return states


def _unknown(machine: str, events: Sequence[Mapping[str, Any]], troubles: Sequence[Trouble]) -> list[str]:
    """Unknown only before the first sight and where the test made trouble."""
    found = []
    for event in events:
        if event["to_state"] != UNKNOWN:
            continue
        at = parse(event["at"])
        slack = timedelta(seconds=3)
        if not any(machine in t.equipment and t.from_ - slack <= at <= t.to for t in troubles):
            found.append(f"{machine} #{event['sequence']}: Unknown at {at} without trouble: {event['cause']}")
    return found
