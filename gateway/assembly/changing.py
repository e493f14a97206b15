"""The part of a run that changes its configuration: the desk, its revisions, and what reads files again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from api.auditing import Audit
from connectors.base import Clock
from gateway import log
from gateway.changing.admitting import close_begun
from gateway.changing.carrying import Carrier
from gateway.changing.desk import ChangeDesk
from gateway.changing.exchanging import Exchange
from gateway.changing.reach import file_of_reference
from gateway.changing.revisions import Revisions
from gateway.changing.watch import Watch
from gateway.config.load import Loaded
from gateway.snapshots.failures import NotWritten

_log = structlog.get_logger("andon.configuration")


class Changing:
    """Changing the configuration of one run. `open` first, then `run` beside everything else."""

    def __init__(self, exchange: Exchange, audit: Audit, clock: Clock) -> None:
        loaded = exchange.loaded
        self._exchange, self._audit = exchange, audit
        self.revisions = Revisions(loaded.data_dir)
        main = loaded.named or loaded.path
        self._carrier = Carrier(exchange, self.revisions, clock, main, audit)
        self.desk = ChangeDesk(self._carrier, os.environ)
        self._watch = Watch(clock, lambda: self.desk.read_again("watch"), self._watches)
        self.desk.looked_at = lambda paths: self._watch.follow((*paths, *self._secret_files()))
        self._wanted = asyncio.Event()

    async def open(self) -> None:
        """Make room for revisions, and keep what is about to run as one.

        Raises:
            StartFailed: there is no place for them.
        """
        await asyncio.to_thread(self.revisions.open)
        for reason in self.revisions.unreadable:
            _log.warning("revision of the configuration cannot be read", reason=reason)
        try:
            await asyncio.to_thread(self._carrier.note_start)
        except NotWritten as failed:  # what runs is still what the files say
            _log.error("revision of the configuration not kept", reason=failed.reason, hint=failed.hint)
        await close_begun(self._audit, self._carrier.hash)
        main = self._carrier.main
        await self._watch.follow(
            (*(main.parent / name for name in self._carrier.loaded.files), *self._secret_files())
        )

    def read_again(self) -> None:
        """Have the files read again, soon; however often it is asked meanwhile."""
        self._wanted.set()

    async def run(self) -> None:
        """Read the files again whenever that is wanted."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(), name="configuration watch")
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                outcome = await self.desk.read_again("sighup")
                if outcome is not None and outcome.status == "unchanged":
                    _log.info("configuration read again, nothing has changed")

    def health(self) -> Mapping[str, Mapping[str, object]]:
        """The part of the health report, while something is wrong."""
        return self.desk.health()

    def _watches(self) -> bool:
        return self._exchange.loaded.configuration.gateway.watch

    def _secret_files(self) -> tuple[Path, ...]:
        loaded = self._carrier.loaded
        found = (file_of_reference(text, self._carrier.main) for text in loaded.references.values())
        return tuple(path for path in found if path is not None)


def follow_log_level(new: Loaded) -> Callable[[], None]:
    """Log as the new configuration says, from the turn on."""
    return lambda: log.set_level(new.configuration.gateway.log_level)
