"""What changes something: corrections, reasons, commands, the configuration, reconciliation.

What may be sent twice carries a key, made here when none is given: sent again under the same key it is done
once. Failures are as in `reading`; after `NoAnswer` send the same again under the same key.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from api.client.errors import NoAnswer
from api.client.reading import Noun
from api.client.wire import at
from api.commanding import Approval, Armed, CommandView, WantedArm, WantedCommand
from api.compliance import WantedReason
from api.configuring import Difference, Outcome, Revision, RevisionInfo, Running
from api.corrections import WantedCorrection
from api.reconciliation import Reconciliation, ReconciliationRequest
from statemodel.records import ToldCorrection
from statemodel.types import TagValue

#: Longest wait for what may have to reach a device, a database, or begin connections anew.
_LONG_S = 120.0
#: How often what carries a key is sent while nobody answers.
_TRIES = 3


def new_key() -> str:
    """A key for one request that changes something."""
    return str(uuid.uuid4())


class Corrections(Noun):
    """What was told wrongly."""

    def make(self, equipment: str, wanted: WantedCorrection, *, key: str | None = None) -> ToldCorrection:
        """Correct the past of an equipment; the correction as it was recorded."""
        headers = {"idempotency-key": key or new_key()}
        path = at("equipment", equipment, "corrections")
        for _ in range(_TRIES - 1):
            try:
                return self._wire.ask(ToldCorrection, "POST", path, body=wanted, headers=headers)
            except NoAnswer:  # it is not known whether it was done: under its key it is done once
                continue
        return self._wire.ask(ToldCorrection, "POST", path, body=wanted, headers=headers)

    def give_reason(self, equipment: str, seq: int, reason: str) -> Mapping[str, Any]:
        """Say why an equipment was in the state that the transition `seq` led to."""
        path = at("equipment", equipment, "reasons")
        return self._wire.ask(dict, "POST", path, body=WantedReason(seq=seq, reason=reason))


class Commands(Noun):
    """Values for tags, and commands for equipment."""

    def send(self, wanted: WantedCommand, *, key: str | None = None) -> CommandView:
        """Hand in a command once; sent again under its key while nobody answers, it is the same command."""
        headers = {"idempotency-key": key or new_key()}
        for _ in range(_TRIES - 1):
            try:
                return self._sent(wanted, headers)
            except NoAnswer:
                continue
        return self._sent(wanted, headers)

    def _sent(self, wanted: WantedCommand, headers: Mapping[str, str]) -> CommandView:
        return self._wire.ask(
            CommandView, "POST", at("commands"), body=wanted, headers=headers, timeout_s=_LONG_S
        )

    def write(self, tag: str, value: TagValue, **more: Any) -> CommandView:
        """Write a tag; `more` are fields of `WantedCommand`, and `key`."""
        key = more.pop("key", None)
        return self.send(WantedCommand(tag=tag, value=value, **more), key=key)

    def request(self, equipment: str, command: str, **more: Any) -> CommandView:
        """Request a command of an equipment; `more` as for `write`."""
        key = more.pop("key", None)
        return self.send(WantedCommand(equipment=equipment, command=command, **more), key=key)

    def get(self, id_: str) -> CommandView:
        """A command and how far it has come."""
        return self._wire.ask(CommandView, "GET", at("commands", id_))

    def list(self) -> Iterator[CommandView]:
        """Commands in the order they came."""
        return self._items(CommandView, at("commands"), {})

    def arm(self, wanted: WantedArm) -> Armed:
        """Arm a command that has to be."""
        return self._wire.ask(Armed, "POST", at("commands", "arm"), body=wanted)

    def approve(self, id_: str, approval: Approval) -> CommandView:
        """Approve somebody else's command."""
        path = at("commands", id_, "approve")
        return self._wire.ask(CommandView, "POST", path, body=approval, timeout_s=_LONG_S)


class Configuration(Noun):
    """What the gateway runs by, and what it ran by."""

    def get(self) -> Running:
        """What runs, with its hash; secrets are references."""
        return self._wire.ask(Running, "GET", at("config"))

    def put(self, files: Mapping[str, str], reason: str, *, expected: str, dry_run: bool = False) -> Outcome:
        """Run other files in place of those with the hash `expected`, or say what that would mean."""
        body = {"files": dict(files), "reason": reason}
        return self._changed("PUT", at("config"), body, expected, dry_run=dry_run)

    def revisions(self) -> Sequence[RevisionInfo]:
        """Those kept, the newest first."""
        return list(self._items(RevisionInfo, at("config", "revisions"), {}))

    def revision(self, number: int) -> Revision:
        """One of them with its files."""
        return self._wire.ask(Revision, "GET", at("config", "revisions", str(number)))

    def difference(self, old: int, new: int | None = None) -> Difference:
        """What differs between two; None is what runs."""
        path = at("config", "revisions", str(old), "difference")
        return self._wire.ask(Difference, "GET", path, query={"to": new})

    def restore(self, number: int, reason: str, *, expected: str, dry_run: bool = False) -> Outcome:
        """Run an older one again."""
        path = at("config", "revisions", str(number), "restore")
        return self._changed("POST", path, {"reason": reason}, expected, dry_run=dry_run)

    def _changed(self, method: str, path: str, body: Any, expected: str, *, dry_run: bool) -> Outcome:
        return self._wire.ask(
            Outcome,
            method,
            path,
            query={"dry_run": dry_run or None},
            body=body,
            headers={"if-match": f'"{expected}"'},
            timeout_s=_LONG_S,
        )


class Repairs(Noun):
    """Comparing, and mending what can be mended without harm."""

    def reconcile(self, *, repair: bool = False, full: bool = False) -> Reconciliation:
        """Compare memory, journal, database and broker now."""
        body = ReconciliationRequest(repair, full)
        return self._wire.ask(Reconciliation, "POST", at("reconciliations"), body=body, timeout_s=_LONG_S)
