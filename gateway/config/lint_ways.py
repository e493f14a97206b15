"""Ways for commands that lead nowhere: rules nobody can reach, and brokers whose commands no rule allows.

Pure: takes sections that are right in themselves. A gateway that was upgraded may have edge nodes that took
writes without any rule; whoever looks after it is told here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.config.brokers import BrokerSettings
from gateway.config.control import CommandsSettings, Via
from gateway.config.lines import KeyPath
from gateway.config.lint import Finding
from gateway.config.mqtt import MqttSettings
from gateway.config.sparkplug import SparkplugSettings

Sections = Mapping[KeyPath, BrokerSettings | None]

_HINTS: Mapping[Via, str] = {
    "mqtt": 'write commands = { name = "..." } in [mqtt], or take it out',
    "sparkplug": "write commands = true in [sparkplug], or take it out",
}


def way_warnings(commands: CommandsSettings | None, brokers: Mapping[str, Sections]) -> Iterator[Finding]:
    """What is odd about the ways by which commands come."""
    open_: dict[Via, list[KeyPath]] = {"mqtt": [], "sparkplug": []}
    for sections in brokers.values():
        for place, settings in sections.items():
            if isinstance(settings, MqttSettings) and settings.commands is not None:
                open_["mqtt"].append((*place, "commands"))
            elif isinstance(settings, SparkplugSettings) and settings.commands:
                open_["sparkplug"].append((*place, "commands"))
    rules = () if commands is None or not commands.enabled else commands.allow
    used = {via for rule in rules for via in rule.via}
    for via in ("mqtt", "sparkplug"):
        for place in open_[via] if via not in used else ():
            reason = (
                f'is of no use: no rule that is in force allows anything over "{via}", so nothing is written'
            )
            yield (
                place,
                reason,
                f'add [[commands.allow]] with via = ["{via}"], and enabled = true in [commands]',
            )
    for number, rule in enumerate(rules):
        for via in (via for via in rule.via if via in open_):
            where = ("commands", "allow", number, "via")
            if not open_[via]:
                yield where, f'names "{via}", and nothing comes that way', _HINTS[via]
            if rule.arm:
                reason = (
                    f'names "{via}", over which nothing can be armed; the rule never allows anything there'
                )
                yield where, reason, 'leave "rest" alone, or take arm out'
