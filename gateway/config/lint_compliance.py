"""What compliance rules get wrong about the rest of the configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.config.compliance import ComplianceSettings
from gateway.config.lint import Finding
from gateway.config.problems import did_you_mean
from gateway.config.schema import EquipmentSettings


def lint_compliance(
    rules: Sequence[ComplianceSettings | None], equipment: Sequence[EquipmentSettings | None]
) -> Iterator[Finding]:
    """Names given twice, and rules about nothing there is."""
    seen: set[str] = set()
    known = None if None in equipment else [item for item in equipment if item]
    for index, rule in enumerate(rules):
        if rule is None:
            continue
        if rule.name in seen:
            yield ("compliance", index, "name"), f'the name "{rule.name}" is used twice', "name each rule"
        seen.add(rule.name)
        if known is None:
            continue
        names = [item.name for item in known]
        if rule.equipment is not None and rule.equipment not in names:
            reason = f'there is no equipment "{rule.equipment}"'
            yield ("compliance", index, "equipment"), reason, did_you_mean(rule.equipment, names)
        if rule.area is not None and not any(f"{item.path}/".startswith(f"{rule.area}/") for item in known):
            areas = sorted({item.path.rpartition("/")[0] or item.path for item in known})
            reason = f'no equipment lies in "{rule.area}"'
            yield ("compliance", index, "area"), reason, did_you_mean(rule.area, areas)
