"""`andon snapshot`: which there are, whether they are sound, taking one, beginning again from one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

from gateway import log
from gateway.clock import SystemClock
from gateway.commands.show import out, print_json, size_text, table_of
from gateway.commands.when import WrongArgument
from gateway.config.load import Loaded, load
from gateway.errors import GatewayError
from gateway.journal.survey import look
from gateway.snapshots.failures import FileRefused, NotWritten
from gateway.snapshots.folder import SUFFIX, Entry, SnapshotFolder
from gateway.snapshots.keeper import FOLDER, REQUEST
from gateway.snapshots.rescue import rescue
from statemodel.problems import did_you_mean

#: How long a running gateway is given to take one.
_TAKE_S_MAX = 30.0


class NotRunning(GatewayError):
    """Only a running gateway takes snapshots."""


def list_snapshots(config: Path, *, json: bool) -> None:
    """Print the snapshots of a gateway by their headers."""
    _show(_folder(load(config, secrets_of=())).entries(), json=json)


def verify_snapshots(config: Path, *, json: bool) -> None:
    """Read every snapshot to its end and judge every chain.

    Raises:
        FileRefused: one cannot be used (exit code 3).
    """
    judged = _folder(load(config, secrets_of=("gateway",))).verify()
    _show(judged, json=json, judged=True)
    if bad := [entry for entry in judged if entry.problem]:
        raise FileRefused(
            f"{len(bad)} of {len(judged)} snapshots cannot be used",
            hint="the gateway passes them over; delete them when you have looked at them",
        )


def take_snapshot(config: Path, *, json: bool) -> None:
    """Ask the gateway that runs for a snapshot and wait for it.

    Raises:
        NotRunning: none runs.
        NotWritten: it could not write one, or does not answer.
    """
    loaded = load(config)
    survey = look(loaded.data_dir / "journal")
    if survey is None or not survey.holder:
        raise NotRunning(
            f"no gateway runs on {loaded.data_dir}, so nothing can have changed since its last snapshot",
            hint=f"andon snapshot list {config}",
        )
    folder = _folder(loaded)
    before = {entry.file for entry in folder.entries()}
    request = folder.directory / REQUEST
    try:
        folder.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        request.touch(mode=0o600)
    except OSError as error:
        raise NotWritten(
            f"{request} cannot be written: {error.strerror}", hint="ask as the user the gateway runs as"
        ) from error
    deadline_s = time.monotonic() + _TAKE_S_MAX
    while time.monotonic() < deadline_s:
        for entry in folder.entries():
            header = entry.header
            if entry.file not in before and header is not None and header.reason == "command":
                _show([entry], json=json)
                return
        time.sleep(0.1)
    request.unlink(missing_ok=True)
    raise NotWritten(
        "the gateway has taken no snapshot",
        hint="its log and its health say why; are snapshots enabled in [gateway.snapshots]?",
    )


def restore_snapshot(config: Path, name: str, *, json: bool) -> None:
    """Begin a new stream from a snapshot; the journal that is there is set aside.

    Raises:
        WrongArgument: there is no such snapshot.
    """
    loaded = load(config)
    folder = _folder(loaded)
    known = [entry.file.removesuffix(SUFFIX) for entry in folder.entries()]
    if (name := name.removesuffix(SUFFIX)) not in known:
        raise WrongArgument(
            f'{folder.directory}: there is no snapshot "{name}"',
            hint=did_you_mean(name, known) or f"andon snapshot list {config}",
        )
    snapshot = folder.load(name)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        log.configure("critical", json=True, file=nowhere)
        begun = rescue(
            loaded.data_dir / "journal",
            snapshot,
            gateway=loaded.configuration.gateway.id,
            clock=SystemClock(),
        )
    if json:
        print_json({"snapshot": snapshot.header, "stream": begun.stream, "set_aside": str(begun.set_aside)})
        return
    at = f"{snapshot.header.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    out.print(f"the journal begins again as stream {begun.stream}, with the states of {at} UTC")
    out.print(f"    what was there lies in {begun.set_aside}")
    out.print(f"    next: andon run {config}")


def _folder(loaded: Loaded) -> SnapshotFolder:
    return SnapshotFolder(loaded.data_dir / FOLDER, loaded.configuration.gateway.snapshots.encryption_key)


def _show(entries: Sequence[Entry], *, json: bool, judged: bool = False) -> None:
    if json:
        for entry in entries:
            print_json(entry)
        return
    if not entries:
        out.print("no snapshots")
        return
    table = table_of("snapshot", "taken (UTC)", "why", "up to event", "equipment", "size", "")
    for entry in entries:
        header = entry.header
        name = entry.file.removesuffix(SUFFIX)
        if header is None:
            table.add_row(name, "-", "-", "-", "-", size_text(entry.bytes), entry.problem)
            continue
        at = f"{header.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        words = ("sound", judged), ("encrypted", header.seal is not None)
        marks = entry.problem or ", ".join(word for word, true in words if true)
        table.add_row(
            name, at, header.reason, f"{header.seq:,}", str(header.equipment), size_text(entry.bytes), marks
        )
    out.print(table)
