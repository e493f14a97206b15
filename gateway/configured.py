"""What follows from a configuration together with the record: what feeds what, and what a restart knows.

Plain functions from values to values; the process that uses them is `app`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from gateway.config.load import Loaded
from gateway.config.published import published
from gateway.publish.tags import PublishedTag
from statemodel.engine import EquipmentSpec
from statemodel.types import TagSample


class TagFeed:
    """Passes on the samples of tags that are to be published."""

    def __init__(self, wanted: Collection[str], publish: Callable[[TagSample], None]) -> None:
        self._wanted = frozenset(wanted)
        self._publish = publish

    def samples(self, samples: Sequence[TagSample]) -> None:
        wanted = self._wanted
        if wanted:
            for sample in samples:
                if sample.tag in wanted:
                    self._publish(sample)


def inputs_of(spec: EquipmentSpec) -> Sequence[str]:
    """The tags (full ids) that decide the state of an equipment."""
    return list(spec.inputs.values())


def feeding_connections(loaded: Loaded) -> Mapping[str, Sequence[str]]:
    """For each equipment the connections its state depends on."""
    return {
        spec.name: tuple(dict.fromkeys(tag.partition("/")[0] for tag in inputs_of(spec)))
        for spec in loaded.equipment
    }


def unrecorded_tags(loaded: Loaded) -> frozenset[str]:
    """The tags whose samples go to no history."""
    return frozenset(
        connection.tag_id(tag)
        for connection in loaded.configuration.connections
        for tag in connection.tags()
        if not tag.record
    )


def published_tags(loaded: Loaded) -> Mapping[str, PublishedTag]:
    """The tags that are topics of their own, with the equipment they belong to."""
    return {
        id_: PublishedTag(found.tag.unit, tuple(dict.fromkeys(spec.path for spec in found.equipment)))
        for id_, found in published(loaded.configuration.connections, loaded.equipment).items()
    }
