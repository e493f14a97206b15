"""What a configuration from the network may reach, and what only an administrator may change. Pure.

An engineer may change what is read, how it is judged and where it is told. Four things would let that role
grow by itself, so they need an administrator: who is let in and what may be commanded; where a tag that is
commanded lies, for another place under its name is another command; new references to secrets; and another
address for a secret that is there, which would send it to a stranger. On top of that
nobody may put a reference where its value could be seen: in a name, a path, an address of a device.
Whoever changes the files on the machine itself may do anything; so may its command line, which has proved
that it can read what the gateway reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from api.access import Principal, Role
from api.configuring import Change, Difference
from gateway.config.lines import KeyPath
from gateway.config.load import Loaded
from gateway.config.secrets import SECRET_KEYS, Allowed
from gateway.config.sources import name_of

#: Where a reference may stand: a secret, or an address that may hold one. None of these is ever shown.
REFERENCE_KEYS = SECRET_KEYS | {"dsn", "broker", "user"}
#: Whole sections that decide who is let in, what may be commanded, and what is kept of it.
ADMIN_SECTIONS = frozenset({"api", "access", "commands", "audit", "compliance"})
#: Settings of other sections that do.
ADMIN_KEYS = frozenset(
    {
        "gateway.id",
        "gateway.data_dir",
        "gateway.watch",
        "gateway.audit",
        "sparkplug.commands",
        "sparkplug.caller",
        "mqtt.commands",
    }
)
#: Endings of keys that name a file of the machine: certificates and keys.
_FILE_KEYS = ("_file", "_key", "_certificate", "_dir")
_TLS_FILE_KEYS = frozenset({"tls.ca", "tls.certificate", "tls.key"})
#: Where a secret goes, and how well it is kept on the way.
_DESTINATION_KEYS = frozenset(
    {"broker", "dsn", "endpoint", "protocol", "security", "tls", "ca_file", "host", "port", "server", "user"}
)
#: What may differ of a tag that is written to by commands without another thing being written.
_SAME_WRITE_KEYS = frozenset(
    {
        *("unit", "range", "deadband", "swing", "report_min", "report_max", "heartbeat", "record", "publish"),
        *("stale", "group", "sampling", "queue_size", "server_deadband"),
    }
)
#: Where a device is, beyond that of secrets.
_DEVICE_KEYS = _DESTINATION_KEYS | {"unit", "serial"}


def is_admin(by: Principal) -> bool:
    """Whether somebody may change everything."""
    return Role.ADMIN in by.roles


def references_allowed(by: Principal, running: Loaded) -> Allowed:
    """What to tell the judge about the references in what `by` has sent."""
    present = {(place[-1], text) for place, text in running.references.items()}

    def allowed(place: KeyPath, text: str) -> tuple[str, str] | None:
        key = next((part for part in reversed(place) if isinstance(part, str)), "")
        if by.kind == "local" or (place[-1], text) in present or (key, text) in present:
            return None
        if key not in REFERENCE_KEYS:
            return (
                "is a reference that may not be followed here: its value could be seen",
                f"references stand for {', '.join(sorted(REFERENCE_KEYS))}",
            )
        if not is_admin(by):
            return (
                "is a new reference to a secret, which may not be followed here: that needs an administrator",
                "let an administrator apply it, or keep the reference there is",
            )
        if text.startswith("file:") and _lies_within(text.removeprefix("file:"), running):
            return (
                "leads to the gateway's own files, so it may not be followed here",
                "put secrets outside of data_dir",
            )
        return None

    return allowed


def _lies_within(name: str, running: Loaded) -> bool:
    place = (running.path.parent / name).resolve()
    return not name_of(place, running.data_dir).startswith("..")


def needs_admin(found: Difference, old: Loaded, new: Loaded) -> tuple[str, ...]:
    """The settings in a difference that only an administrator may change, as people write them."""
    held, written = _owners(old) | _owners(new), _written(old) | _written(new)
    return tuple(dict.fromkeys(key for change in found.changes for key in _reserved(change, held, written)))


def _written(loaded: Loaded) -> set[tuple[str, str]]:
    """What commands write to and are read back from, as differences name it. A rule allows a place in a
    device; under the same name another place would be another thing to command."""
    settings = loaded.configuration.commands
    tags: set[str | None] = set()
    for rule in settings.allow if settings is not None else ():
        tags |= {rule.tag, rule.readback.tag}
        if rule.packml is not None:
            tags |= {rule.packml.command, rule.packml.request}
    names = {tag for tag in tags if tag is not None}
    return {("tag", name) for name in names} | {("connection", name.partition("/")[0]) for name in names}


def _reserved(
    change: Change, held: Collection[tuple[str, str]], written: Collection[tuple[str, str]]
) -> Iterator[str]:
    owner = f"{change.kind}.{change.name}" if change.name else change.kind
    if change.kind in ADMIN_SECTIONS:
        yield owner
        return
    moves = change.action != "remove" and (change.kind, change.name) in held
    is_written = (change.kind, change.name) in written
    for edit in change.what:
        top, last = edit.key.partition(".")[0].partition("[")[0], edit.key.rpartition(".")[2]
        there = edit.new is not None
        if (
            f"{change.kind}.{top}" in ADMIN_KEYS
            or (there and edit.secret and edit.old != edit.new)
            or (there and (last.endswith(_FILE_KEYS) or edit.key in _TLS_FILE_KEYS))
            or (moves and top in _DESTINATION_KEYS)
            or (is_written and change.kind == "tag" and top not in _SAME_WRITE_KEYS)
            or (is_written and change.kind == "connection" and top in _DEVICE_KEYS)
        ):
            yield f"{owner}.{edit.key}"


def _owners(loaded: Loaded) -> set[tuple[str, str]]:
    """What holds a secret, as differences name it."""
    found = set()
    for place in loaded.references:
        section = str(place[0])
        item = getattr(loaded.configuration, section)
        if isinstance(item, tuple) and len(place) > 1 and isinstance(place[1], int):
            item = item[place[1]]
        kind = _KIND.get(section, section)
        found.add((kind, str(getattr(item, "name", None) or "")))
    return found


_KIND: Mapping[str, str] = {"connections": "connection", "equipment": "equipment"}


def file_of_reference(text: str, main: Path) -> Path | None:
    """The file a reference leads to; None of one that leads to a variable."""
    return main.parent / text.removeprefix("file:") if text.startswith("file:") else None
