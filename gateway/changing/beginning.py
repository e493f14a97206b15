"""The configuration at the start: a change that was cut off is finished first, then the files are judged."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from gateway.changing.placing import go_on
from gateway.changing.revisions import Revisions
from gateway.config.load import Loaded, load
from gateway.config.problems import Problem
from gateway.config.reading import read_toml

_log = structlog.get_logger("andon.configuration")


def begin(path: Path) -> Loaded:
    """The configuration a gateway starts with.

    A process that was killed while it wrote a new configuration leaves the old files, or the new ones as a
    revision that counts: then they are put in their place now, and the log says so.

    Raises:
        ConfigurationRefused: with everything that is wrong with it.
        NotPlaced: the files of the new one cannot be written.
    """
    folder = _data_dir(path)
    if folder is not None and Revisions(folder).pending() is not None:
        with _alone(folder) as alone:
            if alone:
                _go_on(path, folder)
    return load(path)


def _go_on(path: Path, folder: Path) -> None:
    revisions = Revisions(folder)
    revisions.open()
    if (found := go_on(path, revisions)) is None:
        return
    what, revision = found
    if what == "completed":
        said = "the gateway was cut off while it changed: the new configuration is complete now"
    else:
        said = "a change was cut off, and files were edited since: they are taken as they are"
    _log.warning(
        "configuration taken up", revision=revision.info.number, author=revision.info.author, what=said
    )


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process has the journal, and so none is about to finish by itself; none takes it
    meanwhile."""
    try:
        fd = os.open(folder / "journal" / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield True  # there is no journal yet
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _data_dir(path: Path) -> Path | None:
    """Where the gateway keeps its files, as far as the file says so; it cannot change while one runs."""
    read = read_toml(path)
    if isinstance(read, Problem):
        return None
    gateway = read[0].get("gateway", {})
    name = gateway.get("data_dir", "./data") if isinstance(gateway, dict) else None
    return (path.resolve().parent / name).resolve() if isinstance(name, str) else None
