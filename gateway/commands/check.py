"""`andon check`."""

from __future__ import annotations

from pathlib import Path

from gateway.commands.show import out, print_json
from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused


def check_configuration(path: Path, *, strict: bool = False, json: bool) -> None:
    """Judge a configuration; raises `ConfigurationRefused` with everything that is wrong. With `strict` a
    warning is as good as a problem: the exit code is the same."""
    try:
        loaded = load(path)
    except ConfigurationRefused as refused:
        if not json:
            raise
        print_json({"ok": False, "problems": refused.problems})
        raise SystemExit(refused.exit_code) from None
    configuration = loaded.configuration
    passed = not (strict and loaded.warnings)
    tags = sum(len(connection.tags()) for connection in configuration.connections)
    if json:
        print_json(
            {
                "ok": passed,
                "problems": [],
                "warnings": loaded.warnings,
                "gateway": configuration.gateway.id,
                "connections": len(configuration.connections),
                "tags": tags,
                "equipment": len(configuration.equipment),
            }
        )
        _end(passed=passed)
        return
    for warning in loaded.warnings:
        out.print("[bold yellow]warning:[/] ", end="")
        out.print(str(warning), markup=False)
    if passed:
        out.print(f"[bold green]fine[/]: {path}")
    else:
        out.print(f"[bold red]not without warnings[/]: {path}")
    out.print(
        f"gateway {configuration.gateway.id}: {len(configuration.connections)} connections, {tags} tags, "
        f"{len(configuration.equipment)} equipment"
    )
    off = [name for name in ("historian", "mqtt", "api") if not getattr(configuration, name)]
    if off:
        out.print(f"switched off, since there is no such section: {', '.join(off)}", style="dim")
    if configuration.historian is not None and configuration.historian.dsn == "embedded":
        out.print("the database is embedded: fine for a trial, use TimescaleDB for a plant", style="dim")
    _end(passed=passed)


def _end(*, passed: bool) -> None:
    if not passed:
        raise SystemExit(ConfigurationRefused.exit_code)
