"""What a running gateway offers to those who change its configuration."""

from __future__ import annotations

from typing import Any, Protocol

from api.configuring import Difference
from gateway.config.load import Loaded
from gateway.errors import GatewayError


class ExchangeFailed(GatewayError):
    """The new configuration could not be made to run; the old one runs again, as if nobody had asked."""


class Exchange(Protocol):
    """The running parts, which can go on with another configuration."""

    @property
    def loaded(self) -> Loaded:
        """What runs."""
        ...

    async def apply(self, new: Loaded, difference: Difference) -> Any:
        """Run another configuration, whole or not at all. It has been judged, and nothing in it needs a
        restart.

        Raises:
            ExchangeFailed: it could not be made to run; `loaded` runs.
        """
        ...
