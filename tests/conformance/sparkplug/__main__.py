"""`make conformance`: plays every scenario, judges what was on the wire, gives each of the 215 ids a verdict.

Ends with 1 when a rule is violated, was never looked at, or is missing from the list. Needs a real Mosquitto.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.sparkplug import catalogue
from tests.conformance.sparkplug.checks import checks
from tests.conformance.sparkplug.judging import judge
from tests.conformance.sparkplug.scenarios import SCENARIOS, record_all
from tests.conformance.sparkplug.story import Transcript
from tests.conformance.sparkplug.wire import Publish


def record(names: Sequence[str]) -> list[Transcript]:
    """Play these scenarios."""
    with tempfile.TemporaryDirectory(prefix="andon-conformance-") as directory:
        return asyncio.run(
            record_all(names, Path(directory), lambda name: print(f"played: {name}", file=sys.stderr))
        )


def show(transcript: Transcript) -> str:
    """A record for people, a packet a line."""
    return "\n".join(
        f"{number:5d} {'>' if up else '<'} {server:5s} {connection} {_short(body)}"
        for number, _, connection, server, up, body in transcript.packets
    )


def _short(body: object) -> str:
    if isinstance(body, Publish):
        return f"PUBLISH {body.topic} q{body.qos}{' retained' * body.retain} {len(body.payload)} bytes"
    return str(body)


def main() -> int:
    """Everything, or one scenario."""
    options = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    options.add_argument("--json", action="store_true", help="the report as one JSON document")
    options.add_argument("--out", type=Path, help="write the report to this file too")
    options.add_argument("--only", choices=SCENARIOS, help="one scenario; what it leaves out is no fault")
    options.add_argument("--page", action="store_true", help="the table of docs/sparkplug-conformance.md")
    options.add_argument("--packets", action="store_true", help="show what was on the wire")
    chosen = options.parse_args()
    listed = catalogue.rules()
    wrong = catalogue.faults(listed)
    if chosen.page:
        sys.stdout.write(catalogue.table())
        return 0
    transcripts = record([chosen.only] if chosen.only else list(SCENARIOS))
    findings = judge(transcripts, checks().values())
    lines = catalogue.report(listed, findings)
    made = (
        json.dumps(catalogue.document(lines, findings), indent=1)
        if chosen.json
        else catalogue.text(lines, findings)
    )
    if chosen.packets:
        sys.stdout.write("\n\n".join(map(show, transcripts)) + "\n")
    sys.stdout.write(made + "\n")
    if chosen.out is not None:
        chosen.out.write_text(made + "\n", encoding="utf-8")
    for line in (*wrong, *map(str, findings.violations)):
        sys.stderr.write(line + "\n")
    return int(bool(wrong) or catalogue.failed(lines, partly=chosen.only is not None))


if __name__ == "__main__":
    sys.exit(main())
