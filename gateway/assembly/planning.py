"""What has to be stopped, started and judged anew where one configuration follows another. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.settings import ConnectionSettings
from gateway.config.load import Loaded
from statemodel.engine import EquipmentSpec
from statemodel.snapshot import Identities


@dataclass(frozen=True)
class Steps:
    """`gone` are connections that have to be stopped, `come` those to be started: one that is read otherwise
    is in both, and in `altered`. Of equipment, `judged` is that whose state is decided otherwise than before.
    """

    gone: tuple[str, ...] = ()
    come: tuple[ConnectionSettings, ...] = ()
    altered: frozenset[str] = frozenset()
    equipment_gone: tuple[str, ...] = ()
    equipment_new: tuple[str, ...] = ()
    judged: frozenset[str] = frozenset()
    #: That of which anything differs, `judged` among them.
    anew: frozenset[str] = frozenset()
    #: Whether anything at all of equipment differs, its path or what is told with it too.
    equipment_differs: bool = False

    def why(self, connection: str) -> str:
        """What a connection that is stopped is lost for, in words."""
        if connection in self.altered:
            return "the configuration was changed"
        return "taken out of the configuration"


def steps(old: Loaded, new: Loaded) -> Steps:
    """What differs for the running parts."""
    before = {item.name: item for item in old.configuration.connections}
    after = {item.name: item for item in new.configuration.connections}
    altered = frozenset(name for name in before if name in after and before[name] != after[name])
    specs = {spec.name: spec for spec in old.equipment}
    later = {spec.name: spec for spec in new.equipment}
    both = specs.keys() & later.keys()
    was, will = Identities(), Identities()
    judged = frozenset(name for name in both if was.of(specs[name]) != will.of(later[name]))
    anew = judged | {name for name in both if _told(specs[name]) != _told(later[name])}
    return Steps(
        gone=tuple(name for name in before if name in altered or name not in after),
        come=tuple(item for name, item in after.items() if name in altered or name not in before),
        altered=altered,
        equipment_gone=tuple(name for name in specs if name not in later),
        equipment_new=tuple(name for name in later if name not in specs),
        judged=judged,
        anew=anew,
        equipment_differs=bool(anew) or list(specs) != list(later),
    )


def _told(spec: EquipmentSpec) -> object:
    """What is told of an equipment besides its state."""
    return (spec.path, spec.model.name, dict(spec.inputs), dict(spec.counters), spec.tags)
