"""Runs the journal through a short life, again and again, each in a process of its own that can be traced.

For every folder named on standard input it forks a process that stops itself, prints its id, waits for it to
be let go and to end, and prints how it ended. So a trial costs a fork and not an interpreter. The process
notes in `acks` each number only after it was acknowledged, by a call that nothing else makes (writev).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import structlog

from gateway.clock import SystemClock
from gateway.config.schema import JournalSettings
from gateway.errors import GatewayError
from gateway.journal import Cursor, Journal, segment
from gateway.journal import journal as journal_module
from gateway.journal.losses import gaps
from statemodel.types import Recordable
from tests.gateway.journal.builders import PATIENCE_S, batch, transition

APPENDS = 30
#: Lives by the first part of their folder's name: bytes of a segment, growth at which its log is folded in.
LIVES = {"turning": (150_000, 4_000_000), "folding": (10**9, 80_000)}


async def live(directory: Path, acks: int) -> None:
    segment_bytes, segment.FOLD_BYTES = LIVES[directory.name.partition("-")[0]]
    changed = {"segment_bytes": segment_bytes, "keep": timedelta(0)}
    settings = JournalSettings.model_construct(**{**JournalSettings().model_dump(), **changed})
    journal = await Journal.open(directory, gateway="line-1", settings=settings, clock=SystemClock())
    try:
        journal.require("reader", events=True, batches=True)
        for n in range(1, APPENDS + 1):
            events: list[Recordable] = [transition(n), *gaps(journal.untold(), ["plc"])]
            async with asyncio.timeout(PATIENCE_S):
                recorded = await journal.append(events, [batch(n, 700)], {"plc": transition(n).at})
            os.writev(acks, [f"{recorded[0].seq} {n} {journal.position.last_batch}\n".encode()])
            await journal.advance("reader", Cursor(recorded[-1].seq, journal.position.last_batch))
    finally:
        await journal.close()


def child(directory: Path) -> int:
    os.kill(os.getpid(), signal.SIGSTOP)
    acks = os.open(directory.with_suffix(".acks"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        asyncio.run(live(directory, acks))
    except GatewayError as error:
        directory.with_suffix(".told").write_text(error.reason)
        return error.exit_code
    except BaseException:
        directory.with_suffix(".traceback").write_text(traceback.format_exc())
        return 99
    return 0


def drop(*_: object) -> NoReturn:
    raise structlog.DropEvent


def main() -> None:
    journal_module._HOUSE_S = 1e6  # its calls come when time has passed: every life makes the same ones
    structlog.configure(processors=[drop])  # log lines are written too, and are not what is tried here
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(child(Path(line.strip())))
        os.waitpid(pid, os.WUNTRACED)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


main()
