"""The connections: each a connector of its protocol, supervised."""

from __future__ import annotations

from collections.abc import Collection

from connectors.base import Clock, Connector
from connectors.protocol import Environment
from connectors.settings import ConnectionSettings
from gateway.config.load import Loaded
from gateway.control.readings import Readings
from gateway.pipeline import Pipeline
from gateway.supervisor import Supervised
from gateway.turnstile import Turnstile


class Builder:
    """Builds connections for one pipeline; they share the turnstile that says when each may connect."""

    def __init__(self, pipeline: Pipeline, clock: Clock, readings: Readings | None = None) -> None:
        self._pipeline, self._clock, self._readings = pipeline, clock, readings
        self._turnstile = Turnstile()

    def supervise(
        self, settings: ConnectionSettings, connector: Connector, *, known_down: bool
    ) -> Supervised:
        """One connection, not started. With `known_down` its loss is on record already."""
        return Supervised(
            settings,
            connector,
            self._pipeline,
            self._clock,
            known_down=known_down,
            turnstile=self._turnstile,
            readings=self._readings,
        )

    def build_all(self, loaded: Loaded, lost: Collection[str]) -> dict[str, Supervised]:
        """All of a configuration, by name; the losses of those in `lost` are on record already."""
        return {
            settings.name: self.supervise(
                settings, connector_of(settings, loaded, self._clock), known_down=settings.name in lost
            )
            for settings in loaded.configuration.connections
        }


def connector_of(settings: ConnectionSettings, loaded: Loaded, clock: Clock) -> Connector:
    """The connector of a connection, as its protocol builds it."""
    environment = Environment(clock=clock, data_dir=loaded.data_dir)
    return loaded.registry.protocols[settings.protocol].build(settings, environment)
