"""The secrets a configuration resolved, gathered for whoever has to keep them out of what it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretBytes, SecretStr

from gateway.audit.scrub import password_in
from gateway.config.lines import KeyPath
from gateway.config.load import Loaded
from gateway.config.secrets import SECRET_KEYS, is_reference


def secrets_of(loaded: Loaded) -> Sequence[str]:
    """Values of secret keys, and passwords within addresses; a host behind a reference is no secret."""
    found = set()
    for place in loaded.references:
        value = _value_at(loaded.configuration, place)
        if isinstance(value, (SecretStr, SecretBytes)):
            value = value.get_secret_value()
        if not isinstance(value, str) or is_reference(value):
            continue
        secret = value if place[-1] in SECRET_KEYS else password_in(value)
        if secret:
            found.add(str(secret))
    return tuple(sorted(found))


def _value_at(settings: Any, place: KeyPath) -> Any:
    """What stands at a place of the settings; None where there is nothing of that name."""
    for key in place:
        if isinstance(settings, Mapping):
            settings = settings.get(key)
        elif isinstance(settings, (tuple, list)):
            settings = settings[key] if isinstance(key, int) and key < len(settings) else None
        else:
            settings = getattr(settings, str(key), None)
    return settings
