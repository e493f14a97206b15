"""What a command rests on besides its value, as one short text: its rule, and where the tags of it lie.

A command that was asked for and waits is meant for what it rested on then. When the text differs, the same
words would reach something else, and the command has to be asked for anew. Pure. Secrets are left out: the
text is kept in the ledger, and a new password leads to the same device.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from connectors.settings import ConnectionSettings
from gateway.config.control import AllowSettings
from gateway.config.secrets import SECRET_KEYS

#: Who logs in, in an address: it may have a password with it.
_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")
#: Settings of a connection that lead nowhere else: what it reads, and from when on a value is old.
_ELSEWHERE = frozenset(("groups", "stale"))


def basis_of(rule: AllowSettings, connections: Sequence[ConnectionSettings], path: str) -> str:
    """What a command under a rule rests on; `path` is that of its equipment. Alike in every process."""
    packml = rule.packml
    named = {rule.tag, rule.readback.tag} | (set() if packml is None else {packml.command, packml.request})
    parts = [path, _plain(rule)]
    for connection in sorted(connections, key=lambda one: one.name):
        tags = [tag for tag in connection.tags() if connection.tag_id(tag) in named]
        if tags:
            parts.append(_plain(connection, without=_ELSEWHERE))
            parts += sorted(_plain(tag) for tag in tags)
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(raw) + raw)
    return digest.hexdigest()


def _plain(value: Any, *, without: frozenset[str] = frozenset()) -> str:
    if isinstance(value, BaseModel):
        names = sorted(type(value).model_fields.keys() - SECRET_KEYS - without)
        return f"({', '.join(f'{name}={_plain(getattr(value, name))}' for name in names)})"
    if isinstance(value, dict):
        items = sorted((str(key), _plain(item)) for key, item in value.items() if key not in SECRET_KEYS)
        return f"{{{', '.join(f'{key}={text}' for key, text in items)}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_plain(item) for item in value)}]"
    if isinstance(value, set | frozenset):
        return f"<{', '.join(sorted(_plain(item) for item in value))}>"
    if isinstance(value, SecretStr | SecretBytes):
        return ""
    return repr(_LOGIN.sub("", str(value))) if isinstance(value, str) else repr(value)
