"""What the rules for commands get wrong about the rest of the configuration, and what is odd about them.

Pure: takes sections that are right in themselves. What leads nowhere is a problem; a rule that can never
match, or lets more through than somebody may have meant, is a warning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from connectors.settings import ConnectionSettings, TagSettings
from gateway.config.control import AllowSettings, CommandsSettings
from gateway.config.lines import KeyPath
from gateway.config.lint import Finding
from gateway.config.problems import did_you_mean
from statemodel.engine import EquipmentSpec
from statemodel.packml import COMMAND_CODES
from statemodel.types import UNKNOWN


def lint_control(
    commands: CommandsSettings | None,
    connections: Sequence[ConnectionSettings | None],
    equipment: Collection[str] | None,
) -> Iterator[Finding]:
    """References of rules that lead nowhere. `equipment` is None where some of it is wrong in itself."""
    if commands is None:
        return
    tags = None if None in connections else {c.tag_id(t) for c in connections if c for t in c.tags()}
    for number, rule in enumerate(commands.allow):
        place: KeyPath = ("commands", "allow", number)
        if equipment is not None and rule.equipment not in equipment:
            reason = f'there is no equipment "{rule.equipment}"'
            yield (*place, "equipment"), reason, did_you_mean(rule.equipment, equipment)
        for where, tag in _tags(place, rule):
            if tags is not None and tag not in tags:
                hint = did_you_mean(tag, tags) or "write connection/tag, as both are named in [[connections]]"
                yield where, f'there is no tag "{tag}"', hint


def _tags(place: KeyPath, rule: AllowSettings) -> Iterator[tuple[KeyPath, str]]:
    if rule.tag is not None:
        yield (*place, "tag"), rule.tag
    if rule.readback.tag is not None:
        yield (*place, "readback", "tag"), rule.readback.tag
    if rule.packml is not None:
        yield (*place, "packml", "command"), rule.packml.command
        yield (*place, "packml", "request"), rule.packml.request


def control_warnings(
    commands: CommandsSettings | None,
    connections: Sequence[ConnectionSettings],
    equipment: Sequence[EquipmentSpec],
) -> Iterator[Finding]:
    """What is odd about the rules but no reason to refuse them."""
    if commands is None:
        return
    tags = {c.tag_id(tag): tag for c in connections for tag in c.tags()}
    specs = {spec.name: spec for spec in equipment}
    if commands.enabled and not commands.allow:
        hint = "add [[commands.allow]] with what may be commanded"
        yield ("commands", "enabled"), "switches commands on, and no rule allows any", hint
    if not commands.enabled and commands.allow:
        yield ("commands",), "has rules, and commands are off", "write enabled = true to switch them on"
    for number, rule in enumerate(commands.allow):
        place: KeyPath = ("commands", "allow", number)
        yield from _of_rule(place, rule, tags, specs[rule.equipment])
        for before, other in enumerate(commands.allow[:number]):
            if _same_thing(rule, other) and set(rule.via) & set(other.via) and rule.roles == other.roles:
                reason = f"allows what commands.allow[{before}] allows too; the more generous one counts"
                yield place, reason, "make one rule of the two, unless they differ in states on purpose"
                break


def _same_thing(rule: AllowSettings, other: AllowSettings) -> bool:
    return rule.tag is not None and rule.tag == other.tag and set(rule.states) == set(other.states)


def _of_rule(
    place: KeyPath, rule: AllowSettings, tags: Mapping[str, TagSettings], spec: EquipmentSpec
) -> Iterator[Finding]:
    known = {state.name for state in spec.model.states}
    wrong = [state for state in rule.states if state not in known]
    for state in wrong:
        reason = f'the model "{spec.model.name}" has no state "{state}"'
        if state == UNKNOWN:
            reason = f"nothing is commanded while a state is {UNKNOWN}, whatever a rule says"
        never = "; the rule never allows anything" if len(wrong) == len(rule.states) else ""
        yield (*place, "states"), reason + never, did_you_mean(state, known)
    for where, tag in _tags(place, rule):
        is_written = where[-2:] != ("readback", "tag")
        if is_written and (reason := tags[tag].read_only()):
            yield where, f"{tag} {reason}; the rule never allows anything", "name a tag that can be written"
    if rule.packml is not None:
        if not rule.packml.commands:
            hint = f"commands = [...] of {', '.join(COMMAND_CODES)}"
            yield (*place, "packml"), "allows no command by name", hint
        for name in rule.packml.commands:
            if name not in COMMAND_CODES:
                yield (
                    (*place, "packml", "commands"),
                    f'"{name}" is no PackML command',
                    did_you_mean(name, COMMAND_CODES),
                )
        return
    assert rule.tag is not None, "a rule has one of the two"
    kind = tags[rule.tag].kind()
    limits = [key for key in ("min", "max", "step") if getattr(rule, key) is not None]
    if kind in ("bool", "text") and limits:
        reason = f"limits a {kind} as if it were a number; the rule never allows anything"
        yield (*place, limits[0]), reason, f"take {', '.join(limits)} out"
    elif kind not in ("bool", "text"):
        missing = [key for key in ("min", "max") if getattr(rule, key) is None]
        if missing:
            reason = f"has no {' and no '.join(missing)}: any number is allowed there"
            yield place, reason, "say how far the value may go; the PLC should know too"
