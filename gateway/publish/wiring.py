"""From a configuration to publishers: one for each broker, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from connectors.base import Clock
from gateway.config.load import Loaded
from gateway.configured import feeding_connections, published_tags
from gateway.journal.journal import Journal
from gateway.live import Live
from gateway.publish.availability import Links
from gateway.publish.holdings import Holdings
from gateway.publish.ownership import Ownership, Record
from gateway.publish.publisher import MqttPublisher, introduce
from statemodel.records import Recorded


class Publishing(NamedTuple):
    """The publishers. `links` has to hear what is recorded; `ownership` judges what is ours in a broker."""

    publishers: Sequence[MqttPublisher]
    links: Links
    ownership: Ownership


def publishing(
    loaded: Loaded,
    *,
    journal: Journal,
    live: Live,
    clock: Clock,
    record: Record,
    last: Mapping[str, Recorded],
    embedded_port: int | None,
) -> Publishing:
    """One publisher for each `[mqtt]`; each is a sink of its own.

    `last` has the newest transition of each equipment before this start.
    """
    gateway = loaded.configuration.gateway
    ownership = Ownership(record, gateway=gateway.id, started_at=clock.now(), last=last)
    links = Links(connection.name for connection in loaded.configuration.connections)
    sinks = [settings.sink for settings in loaded.configuration.mqtt]
    tags, feeds = published_tags(loaded), feeding_connections(loaded)
    publishers = [
        MqttPublisher(
            settings,
            journal=journal,
            gateway=gateway,
            equipment={spec.name: (spec.path, partial(live.state, spec.name)) for spec in loaded.equipment},
            models={spec.name: spec.model.name for spec in loaded.equipment},
            tags=tags,
            links=links,
            feeds=feeds,
            holdings=Holdings(loaded.data_dir, sink=settings.sink, gateway=gateway.id, others=sinks),
            ownership=ownership,
            embedded_port=embedded_port if settings.embedded else None,
            clock=clock,
        )
        for settings in loaded.configuration.mqtt
    ]
    introduce(publishers)
    return Publishing(publishers, links, ownership)
