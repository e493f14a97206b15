"""From a configuration to publishers: one for each broker, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from api.commanding import Commands
from connectors.base import Clock
from gateway.config.load import Loaded
from gateway.config.schema import MqttSettings
from gateway.configured import feeding_connections, published_tags
from gateway.control.mqtt_listening import MqttListening
from gateway.control.mqtt_orders import Orders
from gateway.journal.journal import Journal
from gateway.live import Live
from gateway.mqtt.options import link_options
from gateway.publish.availability import Links
from gateway.publish.holdings import Holdings
from gateway.publish.ownership import Ownership, Record
from gateway.publish.publisher import MqttPublisher
from statemodel.records import Recorded

#: Settings of `[mqtt]` that a publisher does not need to connect; of its topics it needs that of the status.
_SAID_LATER = frozenset(("topics", "clear_removed", "cloudevents", "commands"))


class PublisherParts(NamedTuple):
    """What all publishers share. `links` has to hear what is recorded; `ownership` judges what is ours in a
    broker."""

    journal: Journal
    live: Live
    clock: Clock
    links: Links
    ownership: Ownership


def ownership_of(loaded: Loaded, *, clock: Clock, record: Record, last: Mapping[str, Recorded]) -> Ownership:
    """Judges what lies in a broker. `last` has the newest transition of each equipment of before now."""
    return Ownership(record, gateway=loaded.configuration.gateway.id, started_at=clock.now(), last=last)


def publisher_of(
    settings: MqttSettings, loaded: Loaded, parts: PublisherParts, embedded_port: int | None
) -> MqttPublisher:
    """The publisher of one `[mqtt]`, a sink of its own."""
    gateway, live = loaded.configuration.gateway, parts.live
    return MqttPublisher(
        settings,
        journal=parts.journal,
        gateway=gateway,
        equipment={spec.name: (spec.path, partial(live.state, spec.name)) for spec in loaded.equipment},
        models={spec.name: spec.model.name for spec in loaded.equipment},
        tags=published_tags(loaded),
        links=parts.links,
        feeds=feeding_connections(loaded),
        holdings=Holdings(
            loaded.data_dir,
            sink=settings.sink,
            gateway=gateway.id,
            others=[other.sink for other in loaded.configuration.mqtt],
        ),
        ownership=parts.ownership,
        embedded_port=embedded_port if settings.embedded else None,
        clock=parts.clock,
    )


def told_by_publisher(settings: MqttSettings, loaded: Loaded, embedded_port: int | None) -> object:
    """Everything of a configuration that the publisher of one `[mqtt]` depends on: where two configurations
    give the same, the same publisher serves both."""
    gateway = loaded.configuration.gateway
    return (
        settings.model_copy(update={"commands": None}),
        (gateway.id, gateway.enterprise, gateway.site),
        embedded_port if settings.embedded else None,
        tuple((spec.name, spec.path, spec.model.name) for spec in loaded.equipment),
        published_tags(loaded),
        feeding_connections(loaded),
        tuple(connection.name for connection in loaded.configuration.connections),
    )


def connection_of_publisher(settings: MqttSettings, loaded: Loaded, embedded_port: int | None) -> object:
    """Everything of a configuration that decides what the publisher of one `[mqtt]` says when it connects:
    where two give the same, one publisher goes on with the connection of the other."""
    gateway = loaded.configuration.gateway
    return (
        [getattr(settings, name) for name in MqttSettings.model_fields if name not in _SAID_LATER],
        "status" in settings.topics and settings.topics["status"],
        (gateway.id, gateway.enterprise, gateway.site),
        embedded_port if settings.embedded else None,
    )


def told_by_listening(settings: MqttSettings, loaded: Loaded, embedded_port: int | None) -> object:
    """Everything of a configuration that commands over the broker of one `[mqtt]` depend on."""
    gateway = loaded.configuration.gateway
    return (
        settings,
        (gateway.id, gateway.enterprise, gateway.site),
        embedded_port if settings.embedded else None,
        tuple((spec.name, spec.path) for spec in loaded.equipment),
        loaded.configuration.commands,
    )


def listening_of(
    settings: MqttSettings,
    loaded: Loaded,
    *,
    desk: Callable[[], Commands | None],
    clock: Clock,
    embedded_port: int | None,
) -> MqttListening | None:
    """Who listens for commands at the broker of one `[mqtt]`; None where nobody does."""
    commands, gateway = loaded.configuration.commands, loaded.configuration.gateway
    if settings.commands is None or commands is None or not commands.enabled:
        return None
    orders = Orders(
        settings.sink,
        (gateway.enterprise, gateway.site),
        commands.allow,
        {spec.name: spec.path for spec in loaded.equipment},
        commands.expires,
    )
    options = link_options(settings, gateway, embedded_port=embedded_port if settings.embedded else None)
    options = replace(options, client_id=f"{options.client_id}-commands", retain_needed=False)
    return MqttListening(options, orders, settings.commands.principal(), desk, clock)
