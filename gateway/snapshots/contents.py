"""What belongs into the backup of a gateway: the configuration with all it names, and its data directory.

References to secrets are not followed to be resolved, so a backup can be made by whoever may read the files,
without the environment the gateway runs in. This module reads the configuration as text and walks folders; it
does not copy anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.access import shelf as access
from gateway.config.load import read_toml
from gateway.config.problems import ConfigurationRefused, Problem
from gateway.config.schema import GatewaySettings
from gateway.control import ledger
from gateway.journal.segment import SegmentId
from gateway.snapshots.archive import SUFFIX, allowed
from gateway.snapshots.durable import PART

#: Keys whose value is the name of a file, and those of them that hold a private key.
_FILE_KEYS: Final = frozenset(
    {
        "tags_csv",
        "ca_file",
        "cert_file",
        "key_file",
        "ca",
        "certificate",
        "key",
        "user_certificate",
        "user_key",
    }
)
_KEY_KEYS: Final = frozenset({"key_file", "key", "user_key"})
_KEY_BYTES: Final = 65_536
#: Parts of a data directory that belong to a server that runs or to nobody.
_DATABASE: Final = ("postgres", "postgres-log", "postgres-socket", "postgres-start.log", "postgres.lock")
_NEVER: Final = frozenset({"lock", "ballast"})
#: The ledger of commands and what lies beside it.
_LEDGER: Final = ledger.PLACE.as_posix()
#: What lets somebody into the gateway that runs, in the clear: no part of what is to come back.
_OF_ONE_START: Final = frozenset({access.LOCAL_KEY, access.FIRST_ADMIN, access.LOCK})


@dataclass(frozen=True)
class Source:
    """A file to be copied: where it is, and its place in the backup."""

    name: str
    path: Path
    secret: bool = False
    origin: str = ""


@dataclass
class Contents:
    """What goes in, besides the journal's segments, and what is left out with the reason."""

    configuration: Path
    gateway: str
    data_dir: Path
    data_dir_text: str
    sources: list[Source] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    historian: str = ""
    """Where its database is: `embedded`, `elsewhere`, or nowhere."""


def contents_of(config: Path, *, keys: bool, secrets: bool) -> Contents:
    """Look at a configuration and its data directory.

    `keys` lets files with private keys in, `secrets` also the files that hold passwords.

    Raises:
        ConfigurationRefused: the configuration cannot be read, or does not say which gateway it is of.
    """
    read = read_toml(config)
    if isinstance(read, Problem):
        raise ConfigurationRefused([read])
    data, _ = read
    gateway = data.get("gateway")
    id_ = gateway.get("id") if isinstance(gateway, dict) else None
    if not isinstance(gateway, dict) or not isinstance(id_, str) or not id_:
        problem = Problem(str(config), None, "gateway.id", "is required but not there", "see `andon check`")
        raise ConfigurationRefused([problem])
    default = str(GatewaySettings.model_fields["data_dir"].default)
    text = str(gateway.get("data_dir", default))
    folder = config.resolve().parent
    found = Contents(config.resolve(), id_, (folder / text).resolve(), text)
    found.sources.append(Source(f"config/{config.name}", config.resolve()))
    historian = data.get("historian")
    if isinstance(historian, dict):
        found.historian = "embedded" if historian.get("dsn") == "embedded" else "elsewhere"
    _add_named(found, data, folder, keys=keys, secrets=secrets)
    _add_data(found, keys=keys)
    return found


# The configuration ------------------------------------------------------------------------------------------


def _add_named(found: Contents, data: Mapping[str, Any], folder: Path, *, keys: bool, secrets: bool) -> None:
    known = {found.configuration}
    outside = 0
    for key, text in sorted(set(_texts(data))):
        if text.startswith("env:"):
            found.left_out.append(f"the environment variable {text[4:]}, which holds a secret")
            continue
        reference = text.startswith("file:")
        is_model = key == "model" and text.endswith(".toml")
        if not reference and not is_model and key not in _FILE_KEYS:
            continue
        path = (folder / text.removeprefix("file:")).resolve()
        if path in known:
            continue
        known.add(path)
        if reference and not secrets:
            found.left_out.append(f"{path}, which holds a secret; --with-secrets takes it in")
            continue
        if path.is_relative_to(found.data_dir):
            continue  # it comes with the data directory
        if path.is_relative_to(folder):
            name = f"config/{path.relative_to(folder).as_posix()}"
        else:
            outside += 1
            name = f"outside/{outside}/{path.name}"
        _add(found, Source(name, path, reference or key in _KEY_KEYS, str(path)), keys=keys or secrets)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a configuration, with the key it stands under."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str):
        yield key, value


# The data directory -----------------------------------------------------------------------------------------


def _add_data(found: Contents, *, keys: bool) -> None:
    root = found.data_dir
    journal = root / "journal"
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        if here == root:
            folders[:] = sorted(name for name in folders if name not in _DATABASE)
        for name in sorted(names):
            path = here / name
            if here == root and name in _DATABASE:
                continue
            if here == journal and (name in _NEVER or _is_segment(name)):
                continue
            if path.relative_to(root).as_posix().startswith(_LEDGER):
                continue  # it is copied in a way of its own
            if here == root / access.FOLDER and name in _OF_ONE_START:
                continue
            if name.endswith((PART, SUFFIX, ".new")):
                continue
            place = f"data/{path.relative_to(root).as_posix()}"
            _add(found, Source(place, path), keys=keys)


def _is_segment(name: str) -> bool:
    """Whether it is a segment of the journal or what lies beside one: they are read in a way of their own."""
    base = name.removesuffix("-wal").removesuffix("-shm")
    return SegmentId.parse(base) is not None


def _add(found: Contents, source: Source, *, keys: bool) -> None:
    path = source.path
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            found.left_out.append(f"{path}, which is no plain file")
            return
        secret = source.secret or holds_private_key(path)
    except OSError as error:
        found.left_out.append(f"{path}, which cannot be read: {error.strerror}")
        return
    if not allowed(source.name):
        found.left_out.append(f"{path}, whose name no backup can hold")
    elif secret and not keys:
        found.left_out.append(f"{path}, a private key; --key encrypts the backup and takes it in")
    else:
        found.sources.append(Source(source.name, path, secret, source.origin))


def holds_private_key(path: Path) -> bool:
    """Whether a file is, or may well be, a private key."""
    if "private" in path.parts[-3:]:
        return True
    with path.open("rb") as file:
        return b"PRIVATE KEY-----" in file.read(_KEY_BYTES)
