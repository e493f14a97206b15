"""`andon audit`: the trail's own files read from outside, or a running gateway asked for it.

Whoever may read the files needs no gateway, and leaves no trace; whoever asks the gateway is in the trail.
"""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.text import Text

from api.auditing import AuditEntry, AuditHead, AuditRecord, Verdict
from gateway.audit import folder
from gateway.audit.anew import begin_anew
from gateway.audit.form import BadLine
from gateway.audit.offline import anchors_of
from gateway.audit.reading import Question, matches, portions, read
from gateway.audit.store import AuditStore, TrailDamaged
from gateway.audit.verifying import Anchor, verify, verify_export
from gateway.client import Client
from gateway.clock import SystemClock
from gateway.commands.remote import url_from
from gateway.commands.show import out, print_json, table_of
from gateway.commands.when import WrongArgument, read_when, write_when
from gateway.config.load import Loaded, load
from gateway.errors import GatewayError

#: Judging a trail of many millions takes a while.
_TIMEOUT_S = 600.0
_PAGE = 1_000


class NoTrail(GatewayError):
    """There is no audit trail where the configuration says, or it cannot be read."""


class TrailNotSound(GatewayError):
    """The audit trail is not what was written."""

    exit_code = 3


def show_records(
    config: Path | None,
    url: str | None,
    *,
    action: str | None,
    actor: str | None,
    from_: str | None,
    to: str | None,
    last: int,
    json: bool,
) -> None:
    """Print the newest records that match."""
    now = datetime.now(UTC)
    begin, end = read_when(from_, "--from", now), read_when(to, "--to", now)
    if url is None:
        asked = Question(limit=10**9, action=action, actor=actor, from_=begin, to=end)
        with _reading(_directory(config)) as directory:
            found = [one for one in read(folder.segments_of(directory), asked) if matches(one, asked)]
    else:
        words = {"action": action, "actor": actor}
        words |= {"from": None if begin is None else write_when(begin)}
        words |= {"to": None if end is None else write_when(end)}
        given = {name: value for name, value in words.items() if value is not None}
        with _client(config, url) as client:
            if not given:
                given["after"] = str(max(0, client.get("/audit/head")["n"] - last))
            found = [msgspec.convert(item, AuditRecord) for item in client.items("/audit", **given)]
    found = found[-last:]
    if json:
        for record in found:
            print_json(record)
        return
    heads = ("record", "at (UTC)", "who", "via", "what", "on", "result", "")
    table = table_of(*heads, right=("record",), wrapped=("",))
    for record in found:
        table.add_row(
            str(record.n),
            f"{record.at:%Y-%m-%d %H:%M:%S}",
            Text(record.actor),
            record.via,
            Text(record.action, style="bold"),
            Text(record.target),
            Text(record.code or record.result, style="" if record.result in _FINE else "yellow"),
            Text(", ".join(f"{name} {value}" for name, value in record.detail.items()), style="dim"),
        )
    out.print(table)


_FINE = frozenset(("ok", "verified", "accepted", "written"))


def show_verdict(
    config: Path | None,
    url: str | None,
    *,
    key: str | None,
    heads: Sequence[Path],
    database: bool,
    json: bool,
) -> None:
    """Print what a verification found.

    Raises:
        TrailNotSound: there are faults (exit code 3); all are printed before.
    """
    if url is not None:
        if key or heads or database:
            raise WrongArgument(
                "--key, --head and --database go with a configuration",
                hint="a running gateway compares with its journal and database by itself",
            )
        with _client(config, url) as client:
            told = client.get("/audit/verify")
            verdict = msgspec.convert(told, Verdict)
    elif config is not None and _is_export(config):
        if database:
            raise WrongArgument("--database goes with a configuration", hint="an export is judged by itself")
        begun_s = SystemClock().monotonic()
        verdict = verify_export(config, anchors=[_kept_head(path) for path in heads], key=key)
        took_s = round(SystemClock().monotonic() - begun_s, 3)
        verdict = msgspec.structs.replace(verdict, seconds=took_s)
    else:
        loaded = _loaded(config, database=database)
        clock = SystemClock()
        begun_s = clock.monotonic()
        anchors, silent = anchors_of(loaded, database=database)
        kept = [_kept_head(path) for path in heads]
        with _reading(loaded.data_dir / folder.FOLDER) as directory:
            verdict = verify(directory, anchors=(*anchors, *kept), key=key)
        took_s = round(clock.monotonic() - begun_s, 3)
        verdict = msgspec.structs.replace(verdict, remarks=(*verdict.remarks, *silent), seconds=took_s)
    if json:
        print_json(verdict)
    else:
        _print_verdict(verdict)
    if not verdict.sound:
        raise TrailNotSound(
            f"{len(verdict.faults)} faults were found in the audit trail",
            hint="keep its folder as it is; docs/audit.md says how to go on",
        )


def _print_verdict(verdict: Verdict) -> None:
    for fault in verdict.faults:
        line = Text(f"{fault.kind}  ", style="bold red")
        line.append(fault.reason, style="default")
        out.print(line)
        if fault.place:
            out.print(Text(f"    {fault.place}", style="dim"))
    for remark in verdict.remarks:
        out.print(Text(remark, style="yellow"))
    line = Text(*(("sound", "bold green") if verdict.sound else ("not sound", "bold red")))
    line.append(
        f"  records {verdict.first_n} to {verdict.last_n} in {verdict.segments} files, "
        f"{verdict.anchors} anchors up to record {verdict.anchored_n}, {verdict.seconds:.2f} s",
        style="default",
    )
    out.print(line)
    out.print(Text(f"key {verdict.key}", style="dim"))


def show_head(config: Path | None, url: str | None) -> None:
    """Print the newest signed head."""
    if url is not None:
        with _client(config, url) as client:
            print_json(client.get("/audit/head"))
        return
    with _reading(_directory(config)) as directory:
        heads = [head for head in folder.heads_in(directory) if folder.is_sound(head, head.key)]
    if not heads:
        raise NoTrail(
            "the audit trail has no head that is signed", hint="andon audit verify says what is wrong"
        )
    print_json(max(heads, key=lambda head: head.n))


def export_records(
    config: Path | None, url: str | None, *, to: Path, through: int | None, remove: bool, json: bool
) -> None:
    """Write records to a file, and remove them if that is wanted."""
    digest, count, last = hashlib.sha256(), 0, 0
    try:
        fd = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WrongArgument(f"{to} cannot be written: {error.strerror}", hint="name another file") from error
    removed = 0
    with os.fdopen(fd, "wb") as file, _Source(config, url) as source:
        newest = source.head()
        wanted = newest if through is None else min(through, newest)
        for part in source.lines(wanted):
            digest.update(part)
            count += part.count(b"\n")
            file.write(part)
        last = wanted if count else 0
        file.flush()
        os.fsync(file.fileno())
        if remove and count:
            removed = source.remove(wanted, digest.hexdigest())
    told = {
        "file": str(to),
        "records": count,
        "through": last,
        "sha256": digest.hexdigest(),
        "removed_through": removed,
    }
    if json:
        print_json(told)
        return
    out.print(f"{count:,} records up to {last} in {to}", markup=False)
    out.print(Text(f"SHA-256 {digest.hexdigest()}", style="dim"))
    if remove:
        what = (
            f"removed up to record {removed}" if removed else "nothing is removed: no whole file may go yet"
        )
        out.print(what)


def begin_new_trail(config: Path, *, reason: str, json: bool) -> None:
    """Put the trail aside and begin a new one."""
    loaded = _loaded(config)
    gateway = loaded.configuration.gateway.id
    _directory(config)
    anchors, _ = anchors_of(loaded, database=False)
    aside = begin_anew(
        loaded.data_dir,
        gateway,
        reason=reason,
        actor=getpass.getuser(),
        now=datetime.now(UTC),
        keys={anchor.key for anchor in anchors},
    )
    if json:
        print_json({"set_aside": str(aside)})
    else:
        out.print(f"a new trail has begun; the old one is in {aside}", markup=False)


class _Source:
    """Where an export comes from: the files, or the gateway."""

    def __init__(self, config: Path | None, url: str | None) -> None:
        self._config, self._url = config, url
        self._client = None if url is None else _client(config, url)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.__exit__(None, None, None)

    def head(self) -> int:
        """The newest record's number."""
        if self._client is not None:
            return int(self._client.get("/audit/head")["n"])
        return max((head.n for head in folder.heads_in(_directory(self._config))), default=0)

    def lines(self, through: int) -> Iterator[bytes]:
        """All lines up to a record."""
        if self._client is not None:
            yield from self._client.download("/audit/export", through=through)
            return
        with _reading(_directory(self._config)) as directory:
            yield from portions(folder.segments_of(directory), 0, through)

    def remove(self, through: int, sha256: str) -> int:
        """Remove what was exported."""
        if self._client is not None:
            told = self._client.post("/audit/removals", {"through": through, "sha256": sha256})
            return int(told["removed_through"])
        loaded = _loaded(self._config)
        store = AuditStore(loaded.data_dir / folder.FOLDER, loaded.configuration.gateway.id)
        now = datetime.now(UTC)
        try:
            store.open(now)
            return store.remove(through, sha256, _entry(), now)
        except TrailDamaged as error:
            raise TrailNotSound(str(error), hint="andon audit verify says more") from error
        except OSError as error:
            raise NoTrail(f"they cannot be removed: {error.strerror or error}") from error
        finally:
            store.close()


def _entry() -> AuditEntry:
    return AuditEntry(
        action="audit.removed",
        actor=getpass.getuser(),
        kind="local",
        via="cli",
        target="audit",
        result="ok",
    )


class _reading:  # noqa: N801 - used like a function
    """The folder of a trail; what its files or lines refuse is said in our words."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> Path:
        return self._directory

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            raise NoTrail(
                f"the audit trail in {self._directory} cannot be read: {error.strerror or error}",
                hint="it belongs to the user the gateway runs as",
            ) from error
        if isinstance(error, BadLine):
            raise TrailNotSound(
                f"a record is damaged: {error}", hint="andon audit verify says where"
            ) from error


def _loaded(config: Path | None, *, database: bool = False) -> Loaded:
    if config is None:
        raise WrongArgument("which trail?", hint="name a configuration file, or a gateway with --url")
    return load(config, secrets_of=("historian",) if database else ())


def _directory(config: Path | None) -> Path:
    loaded = _loaded(config)
    directory = loaded.data_dir / folder.FOLDER
    if not directory.is_dir():
        raise NoTrail(
            f"there is no audit trail in {directory}",
            hint="check gateway.data_dir; the gateway begins one when it starts",
        )
    return directory


def _is_export(path: Path) -> bool:
    """Whether a file is of records and no configuration: no TOML begins with a brace."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False  # whoever reads it as a configuration says why not


def _kept_head(path: Path) -> Anchor:
    try:
        head = msgspec.json.decode(path.read_bytes(), type=AuditHead)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WrongArgument(
            f"--head: {path} is no head: {error}", hint="it is what `andon audit head` printed"
        ) from error
    return Anchor(head.n, head.hash, head.key, head.at, head.signature, str(path))


def _client(config: Path | None, url: str) -> Client:
    return Client(url_from(config, url), timeout_s=_TIMEOUT_S)
