"""The JSON Schemas (2020-12) of all payloads that are JSON, as files: one for each kind of message."""

from __future__ import annotations

from importlib.resources import files

from gateway.publish.cloudevents import TYPES

#: Names of the payloads that have a schema: `state`, `tag` and the types of events.
NAMES = tuple(sorted(TYPES, key=("state", "tag", *TYPES).index))


def schema(name: str) -> str:
    """The schema of a payload as it lies in its file.

    Raises:
        KeyError: there is no such payload.
    """
    if name not in NAMES:
        raise KeyError(name)
    return (files(__package__) / f"{name}.json").read_text(encoding="utf-8")
