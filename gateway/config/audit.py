"""Settings of the audit trail: how large it may become, and how often its head is told outside of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, field_validator

from connectors.settings import Duration, Settings


class AuditSettings(Settings):
    """The audit trail under `data_dir/audit`: who did what, in a chain of records."""

    segment_bytes: Annotated[int, Field(ge=100_000)] = 16_000_000
    """Size at which a new segment file is begun; records are removed by whole segments."""
    bytes_max: Annotated[int, Field(ge=1_000_000)] = 1_000_000_000
    """Most disk space for it. At 80 % health warns; when it is full, commands and changes are refused."""
    anchor_every: Duration = timedelta(minutes=1)
    """How often its head is recorded as an event, when it has moved."""

    @field_validator("anchor_every")
    @classmethod
    def _sensible(cls, every: timedelta) -> timedelta:
        if timedelta(seconds=1) <= every <= timedelta(hours=1):
            return every
        raise ValueError('must be between "1s" and "1h": what was written since the last is not vouched for')
