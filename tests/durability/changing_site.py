"""Sites that follow one another at random, every one of them sound."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tests.gateway.assembly.living_site import Machine, Site

REGISTERS = 6
#: Never a part of a change, and on a device of their own.
ANCHORS = ("anchor-0", "anchor-1")


class Plc(Protocol):
    """A device, as far as a configuration names it."""

    @property
    def port(self) -> int: ...


class Device(NamedTuple):
    """One that runs elsewhere."""

    port: int


def beginning(plcs: Sequence[Plc]) -> Site:
    site = Site(links={f"plc-{n}": (plc.port, REGISTERS, 20) for n, plc in enumerate(plcs[:3])})
    site.machines = {name: Machine(f"plc-0/r{n}") for n, name in enumerate(ANCHORS)}
    site.machines["press"] = Machine("plc-1/r0")
    site.models["other"] = ("Off", "Warm", "Hot", "Done")
    site.listen = "127.0.0.1:0"
    return site


class Changer:
    """Makes one change after the other out of the site as it stands; every one of them is a sound one."""

    def __init__(self, site: Site, plcs: Sequence[Plc], chance: random.Random) -> None:
        self.site, self.plcs, self.chance = site, plcs, chance
        self.number = 0

    def another(self) -> Site:
        site = self.site.copy()
        self.number += 1
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            self.chance.choice((self._link, self._unlink, self._period, self._machine, self._machine))(site)
            self.chance.choice((self._scrap, self._move, self._model, self._path))(site)
        self.site = site
        return site

    def _link(self, site: Site) -> None:
        free = [n for n in range(1, len(self.plcs)) if f"plc-{n}" not in site.links]
        if free:
            n = self.chance.choice(free)
            site.links[f"plc-{n}"] = (self.plcs[n].port, REGISTERS, 20)

    def _unlink(self, site: Site) -> None:
        if name := self._any([name for name in site.links if name != "plc-0"]):
            del site.links[name]
            for machine in [m for m, it in site.machines.items() if it.tag.startswith(f"{name}/")]:
                del site.machines[machine]

    def _period(self, site: Site) -> None:
        if name := self._any([name for name in site.links if name != "plc-0"]):
            port, registers, _ = site.links[name]
            site.links[name] = (port, registers, self.chance.choice((20, 30, 40)))

    def _tag(self, site: Site) -> str:
        return f"{self.chance.choice(list(site.links))}/r{self.chance.randrange(REGISTERS)}"

    def _machine(self, site: Site) -> None:
        site.machines.setdefault(f"machine-{self.chance.randrange(8)}", Machine(self._tag(site)))

    def _some(self, site: Site) -> str | None:
        return self._any([name for name in site.machines if name not in ANCHORS])

    def _any(self, names: list[str]) -> str | None:
        return self.chance.choice(names) if names else None

    def _scrap(self, site: Site) -> None:
        if name := self._some(site):
            del site.machines[name]

    def _move(self, site: Site) -> None:
        if name := self._some(site):
            site.machines[name].tag = self._tag(site)

    def _model(self, site: Site) -> None:
        site.models["other"] = ("Off", *self.chance.sample(("Warm", "Hot", "Busy", "Idle"), 2), "Done")
        if name := self._some(site):
            site.machines[name].model = self.chance.choice(("ring", "other"))

    def _path(self, site: Site) -> None:
        if name := self._some(site):
            site.machines[name].path = f"area-{self.chance.randrange(3)}/{name}"


class BrokerChanger(Changer):
    """Changes the brokers and the database as well; the broker `main` is never taken out."""

    def __init__(
        self, site: Site, plcs: Sequence[Plc], chance: random.Random, brokers: tuple[str, str], dsn: str
    ) -> None:
        super().__init__(site, plcs, chance)
        (self.broker, self.second), self.dsn = brokers, dsn

    def another(self) -> Site:
        site = super().another()
        self.chance.choice((self._second, self._node, self._database, self._flush, lambda _: None))(site)
        return site

    def _second(self, site: Site) -> None:
        if site.mqtt.pop("second", None) is None:
            site.mqtt["second"] = self.second

    def _node(self, site: Site) -> None:
        site.sparkplug = "" if site.sparkplug else self.broker

    def _database(self, site: Site) -> None:
        site.historian = "" if site.historian else self.dsn

    def _flush(self, site: Site) -> None:
        site.flush_ms = self.chance.choice((50, 100, 150))
