"""What a check is: a pure function from a story to verdicts, under the ids of the rules it proves.

A verdict names the packet that was looked at. A check that gives no verdict had nothing to look at, and then
proves nothing: that counts as a fault of the suite as much as a violation counts as one of the edge node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.conformance.sparkplug.story import Story, Transcript


class Verdict(NamedTuple):
    """One look at one packet: `problem` is None when it was as it must be."""

    packet: int
    problem: str | None = None


Judge = Callable[[Story], Iterator[Verdict]]


class Check(NamedTuple):
    """A check, and the ids (without `tck-id-`) it proves. A guard proves that a rule does not apply."""

    name: str
    ids: tuple[str, ...]
    judge: Judge
    guard: bool


class Violation(NamedTuple):
    """A rule was broken, at this packet of this scenario."""

    id: str
    check: str
    scenario: str
    packet: int
    problem: str

    def __str__(self) -> str:
        return f"{self.id}: {self.scenario}, packet {self.packet}: {self.problem} [{self.check}]"


CHECKS: dict[str, Check] = {}


def proves(*ids: str, guard: bool = False) -> Callable[[Judge], Judge]:
    """Enters a check under the ids it proves; with `guard`, under those it proves not to apply."""

    def enter(judge: Judge) -> Judge:
        name = judge.__name__
        assert name not in CHECKS, f"two checks are called {name}"
        CHECKS[name] = Check(name, ids, judge, guard)
        return judge

    return enter


@dataclass
class Findings:
    """What came of judging: violations, and how often each check had something to look at."""

    violations: list[Violation] = field(default_factory=list)
    looked: Counter[str] = field(default_factory=Counter)
    packets: dict[str, int] = field(default_factory=dict)

    @property
    def violated(self) -> set[str]:
        """The ids that were."""
        return {violation.id for violation in self.violations}


def judge(transcripts: Iterable[Transcript], checks: Iterable[Check] | None = None) -> Findings:
    """Put every check to every transcript."""
    findings = Findings()
    chosen = list(CHECKS.values() if checks is None else checks)
    for transcript in transcripts:
        findings.packets[transcript.name] = len(transcript.packets)
        story = Story(transcript)
        for check in chosen:
            for verdict in check.judge(story):
                findings.looked[check.name] += 1
                if verdict.problem is not None:
                    findings.violations += [
                        Violation(name, check.name, transcript.name, verdict.packet, verdict.problem)
                        for name in check.ids
                    ]
    return findings
