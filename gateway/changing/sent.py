"""Judging a configuration that was sent: the same judge as for files, bounded, and with a fence around it.

Names lead nowhere but into the folder of the configuration; files that were not sent are not there; and what
is sent may point at secrets only where a secret is used, never where its value could be seen. Who may change
what is in `reach`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from api.configuring import MAIN_FILE, FileProblem, Refused
from connectors.registry import Registry
from gateway.changing.canonical import canonical, meaning, on_disk
from gateway.changing.codes import code_of, hint_for
from gateway.changing.revisions import Revisions
from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigurationRefused, Problem
from gateway.config.secrets import Allowed
from gateway.config.sources import SentFiles

FILES_MAX = 200
FILE_BYTES_MAX = 10_000_000
ALL_BYTES_MAX = 12_000_000
NAME_CHARACTERS_MAX = 200
#: What a tag list or a model may be called; the service's other files have other endings.
_ENDINGS = (".toml", ".csv", ".tsv", ".txt")
#: One level of a name. No level begins with a dot: neither `..` nor what is hidden.
_LEVEL = re.compile(r"[\w][\w .,()+@=-]*")
#: Problems told at once; who has more of them has one cause.
PROBLEMS_MAX = 500


def judge(
    files: Mapping[str, str],
    main: Path,
    *,
    data_dir: Path,
    registry: Registry,
    environment: Mapping[str, str],
    allowed: Allowed,
) -> Loaded:
    """A configuration made of files in memory, as if they lay beside `main`, which is one of them.

    Raises:
        Refused: with everything that is wrong with it.
    """
    if wrong := [*_wrong_set(files), *_wrong_names(files, main, data_dir)]:
        raise Refused(wrong)
    sent = SentFiles(main, MAIN_FILE, {name: text.encode() for name, text in files.items()})
    try:
        loaded = load(main, environment=environment, registry=registry, files=sent, allowed=allowed)
    except ConfigurationRefused as refused:
        raise Refused(told(refused.problems)) from refused
    used = {MAIN_FILE if name == main.name else name for name in loaded.files}
    if idle := sorted(files.keys() - used):
        raise Refused(
            [
                FileProblem(
                    name, None, "", "unused_file", "no line of the configuration names it", "leave it out"
                )
                for name in idle
            ]
        )
    return loaded


def told(problems: Sequence[Problem]) -> list[FileProblem]:
    """Problems as they are answered: each with a code and a hint."""
    return [_told(problem) for problem in problems[:PROBLEMS_MAX]]


def _told(problem: Problem) -> FileProblem:
    code = code_of(problem.reason)
    hint = problem.hint or hint_for(code)
    return FileProblem(problem.file, problem.line, problem.path, code, problem.reason, hint)


def check_overwriting(
    names: Iterable[str], files: Mapping[str, str], main: Path, revisions: Revisions
) -> None:
    """Let no file be overwritten that is none of the configuration's, nor ever was as it is now.

    Raises:
        Refused: one would be.
    """
    wrong = []
    for name in sorted(names):
        place = on_disk(name, main)
        if not place.exists():
            continue
        present = meaning(place.read_bytes()) if place.is_file() else None
        if present is not None and (present == canonical(files[name]) or _kept(name, present, revisions)):
            continue
        reason = "is there already and no file of the configuration that runs"
        wrong.append(FileProblem(name, None, "", "file_exists", reason, "give the new one another name"))
    if wrong:
        raise Refused(wrong)


def _kept(name: str, text: str, revisions: Revisions) -> bool:
    kept = (revisions.read(info.number) for info in revisions.infos())
    return any(one is not None and one.files.get(name) == text for one in kept)


def _wrong_set(files: Mapping[str, str]) -> list[FileProblem]:
    if MAIN_FILE not in files:
        reason = "is not there: it is the configuration itself"
        return [FileProblem(MAIN_FILE, None, "", "no_such_file", reason, f'send {{"{MAIN_FILE}": "..."}}')]
    if len(files) > FILES_MAX:
        return [_whole(f"{len(files)} files were sent, and {FILES_MAX} may be", "put tags into fewer lists")]
    sizes = {name: len(text.encode("utf-8", "surrogatepass")) for name, text in files.items()}
    if sum(sizes.values()) > ALL_BYTES_MAX:
        most = f"{ALL_BYTES_MAX // 1_000_000} MB"
        return [_whole(f"the files have more than {most} together", "apply them on the gateway's machine")]
    return [
        FileProblem(
            name, None, "", "too_large", f"is larger than {FILE_BYTES_MAX // 1_000_000} MB", "split it"
        )
        for name, size in sizes.items()
        if size > FILE_BYTES_MAX
    ]


def _whole(reason: str, hint: str) -> FileProblem:
    return FileProblem(MAIN_FILE, None, "", "too_large", reason, hint)


def _wrong_names(files: Mapping[str, str], main: Path, data_dir: Path) -> list[FileProblem]:
    found = []
    for name, text in files.items():
        if (reason := _fault_of(name, main, data_dir)) is not None:
            shown = name[:NAME_CHARACTERS_MAX].encode("unicode_escape").decode()
            hint = "files lie in the folder of the configuration or below it, such as models/oven.toml"
            found.append(FileProblem(shown, None, "", "bad_file_name", reason, hint))
        elif any("\ud800" <= char <= "\udfff" for char in text):
            found.append(FileProblem(name, None, "", "not_utf8", "is not text (half a character)", ""))
    return found


def _fault_of(name: str, main: Path, data_dir: Path) -> str | None:
    """Why a file must not have this name; None when it may."""
    if len(name) > NAME_CHARACTERS_MAX:
        return "has a name that is too long"
    if not all(_LEVEL.fullmatch(level) for level in name.split("/")):
        return "has a name that leads elsewhere, is hidden or cannot be written"
    if not name.lower().endswith(_ENDINGS):
        return f"has a name that ends otherwise than in {', '.join(_ENDINGS)}"
    if name == MAIN_FILE:
        return None
    folder = main.parent.resolve()
    place = (folder / name).resolve()
    if place == main.resolve() or not place.is_relative_to(folder):
        return "has a name that leads elsewhere"
    if place.is_relative_to(data_dir):
        return "lies where the gateway keeps its own files"
    return None
