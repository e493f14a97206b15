"""The rules, as `ids.toml` lists them, and what came of judging them: the report."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.conformance.sparkplug.checks import checks
from tests.conformance.sparkplug.judging import Findings

FILE = Path(__file__).with_name("ids.toml")

#: How many ids an edge node has to answer for.
IDS = 215

PREFIX = "tck-id-"
PROVED, NOT_APPLICABLE, VIOLATED, NEVER = "proved", "not applicable", "VIOLATED", "NEVER EXERCISED"


class Rule(NamedTuple):
    """One id: what it says, the checks that prove it, or why it does not apply and what guards that."""

    id: str
    says: str
    proved_by: tuple[str, ...]
    does_not_apply: str
    guard: tuple[str, ...]


class Line(NamedTuple):
    """One line of the report. `why` is in words; `times` is how often the wire was looked at for it."""

    rule: Rule
    verdict: str
    why: str
    times: int


def rules(path: Path = FILE) -> list[Rule]:
    """Every id of the file, in its order."""
    entries: list[Mapping[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["rule"]
    return [
        Rule(
            id_,
            entry["says"],
            tuple(entry.get("proved_by", ())),
            entry.get("does_not_apply", ""),
            tuple(entry.get("guard", ())),
        )
        for entry in entries
        for id_ in entry["ids"]
    ]


def table(path: Path = FILE) -> str:
    """The rules for a page of the manual: what each says, its ids, and what proves it."""
    rows = ["| rule | ids (each begins with `tck-id-`) | proved by |", "| --- | --- | --- |"]
    entries: list[Mapping[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["rule"]
    for entry in entries:
        ids = ", ".join(f"`{id_}`" for id_ in entry["ids"])
        by = ", ".join(f"`{name}`" for name in entry.get("proved_by", ()))
        rows.append(f"| {entry['says']} | {ids} | {by or 'does not apply: ' + entry['does_not_apply']} |")
    return "\n".join(rows) + "\n"


def faults(listed: Sequence[Rule]) -> list[str]:
    """What is wrong with the list itself: ids twice or too few, checks that are not there, nothing said."""
    found = [f"{id_} is listed {count} times" for id_, count in _counted(listed) if count > 1]
    if len(listed) != IDS:
        found.append(f"{len(listed)} ids are listed, not {IDS}")
    known = checks()
    for rule in listed:
        if not rule.says.strip():
            found.append(f"{rule.id}: no words")
        if bool(rule.proved_by) == bool(rule.does_not_apply.strip()):
            found.append(f"{rule.id}: either checks prove it or it does not apply, and why")
        for name in (*rule.proved_by, *rule.guard):
            if name not in known or rule.id not in known[name].ids:
                found.append(f"{rule.id}: there is no check {name} that proves it")
            elif known[name].guard != (name in rule.guard):
                found.append(f"{rule.id}: {name} is {'a' if known[name].guard else 'no'} guard")
    ids = {rule.id for rule in listed}
    found += [
        f"{check.name} proves {id_}, which is not listed"
        for check in known.values()
        for id_ in check.ids
        if id_ not in ids
    ]
    found += [
        f"{check.name} proves {rule.id}, and the list does not say so"
        for rule in listed
        for check in known.values()
        if rule.id in check.ids and check.name not in (*rule.proved_by, *rule.guard)
    ]
    return found


def _counted(listed: Sequence[Rule]) -> list[tuple[str, int]]:
    return list(Counter(rule.id for rule in listed).items())


def report(listed: Sequence[Rule], findings: Findings) -> list[Line]:
    """A verdict for every rule."""
    violated = {violation.id: violation for violation in reversed(findings.violations)}
    lines = []
    for rule in listed:
        names = rule.proved_by or rule.guard
        times = sum(findings.looked[name] for name in names)
        idle = [name for name in names if not findings.looked[name]]
        if rule.id in violated:
            first = violated[rule.id]
            why = f"{first.scenario}, packet {first.packet}: {first.problem} ({first.check})"
            lines.append(Line(rule, VIOLATED, why, times))
        elif idle:
            lines.append(Line(rule, NEVER, f"nothing to look at for {', '.join(idle)}", times))
        elif rule.does_not_apply:
            lines.append(Line(rule, NOT_APPLICABLE, rule.does_not_apply, times))
        else:
            lines.append(Line(rule, PROVED, ", ".join(rule.proved_by), times))
    return lines


def totals(lines: Sequence[Line]) -> dict[str, int]:
    """How many ids have which verdict."""
    counted = Counter(line.verdict for line in lines)
    return {verdict: counted[verdict] for verdict in (PROVED, NOT_APPLICABLE, VIOLATED, NEVER)}


def failed(lines: Sequence[Line], *, partly: bool = False) -> bool:
    """Whether a rule is violated or was never looked at; the latter is no fault where not all was played."""
    bad = (VIOLATED,) if partly else (VIOLATED, NEVER)
    return any(line.verdict in bad for line in lines)


def document(lines: Sequence[Line], findings: Findings) -> dict[str, Any]:
    """The report for machines."""
    return {
        "standard": "Sparkplug B 3.0.0",
        "totals": totals(lines),
        "scenarios": dict(findings.packets),
        "ids": [
            {
                "id": PREFIX + line.rule.id,
                "says": line.rule.says,
                "verdict": line.verdict,
                "why": line.why,
                "judged": line.times,
            }
            for line in lines
        ],
        "violations": [violation._asdict() for violation in findings.violations],
    }


def text(lines: Sequence[Line], findings: Findings) -> str:
    """The report for people: a line for each id, then the totals."""
    width = max(len(line.rule.id) for line in lines)
    told = [f"{line.rule.id:<{width}}  {line.verdict}: {line.why} [{line.times}]" for line in lines]
    told.append("")
    told += [f"{name}: {packets} packets" for name, packets in findings.packets.items()]
    told.append("")
    told += [f"{count:4d} {verdict}" for verdict, count in totals(lines).items()]
    told.append(f"{len(lines):4d} ids of Sparkplug B 3.0.0 for an edge node")
    return "\n".join(told)
