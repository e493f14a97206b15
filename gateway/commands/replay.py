"""`andon replay`: what a changed model would have made of what was recorded, and how that differs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.table import Table

from gateway.commands.lanes import picture
from gateway.commands.show import age_text, err, out, print_json, table_of
from gateway.commands.when import WrongArgument, read_when
from gateway.config.load import Loaded, load, load_model
from gateway.config.problems import ConfigurationRefused
from gateway.recording import Found, read_journal, read_lines
from statemodel.builtin import BUILTIN
from statemodel.engine import EquipmentSpec
from statemodel.model import Model
from statemodel.problems import did_you_mean
from statemodel.replay import (
    Difference,
    Recording,
    Replayed,
    compare,
    inputs_of,
    known_from,
    play,
    spans_of,
    transitions_of,
    unbound,
)
from statemodel.timeline import Span
from statemodel.types import Rejection, SampleBatch, Transition

#: Differing stretches shown to people; `--json` has all.
_ROWS_MAX = 30


class Told(msgspec.Struct, frozen=True):
    """The replay of one equipment: the new timeline, its transitions, and the difference to the old one.

    `warnings` say what the replay could not know.
    """

    equipment: str
    model: str
    difference: Difference
    transitions_before: int
    transitions_after: int
    rejections_after: int
    timeline: tuple[Span, ...]
    transitions: tuple[Transition, ...]
    warnings: tuple[str, ...]


def run_replay(
    config: Path,
    *,
    equipment: Sequence[str],
    model: str | None,
    recording: Path | None,
    from_database: bool,
    from_: str | None,
    to: str | None,
    json: bool,
) -> None:
    """Replay what the gateway of a configuration recorded, and print what is different."""
    loaded = load(config, secrets_of=("historian",) if from_database else ())
    now = datetime.now(UTC)
    begin, end = read_when(from_, "--from", now), read_when(to, "--to", now)
    old = {spec.name: spec for spec in loaded.equipment}
    specs = _with_model(_chosen(loaded.equipment, equipment), model, bool(equipment))
    if from_database:
        if recording is not None:
            raise WrongArgument("--recording and --from-database exclude each other", hint="give one of them")
        found = _read_database(loaded, specs, begin, end)
    else:
        found = _read(loaded, recording, {tag for spec in specs for tag in inputs_of(spec)})
    for line in found.damaged:
        err.print(f"[yellow]left out, for it cannot be read:[/] {line}", markup=True)
    replayed = play(specs, found.recording)
    told = [
        _told(spec, old[spec.name].model, found.recording, replayed, loaded, begin, end) for spec in specs
    ]
    if json:
        for item in told:
            print_json(item)
        return
    colours = _colours([*(spec.model for spec in specs), *(spec.model for spec in old.values())])
    for place, (spec, item) in enumerate(zip(specs, told, strict=True)):
        if place:
            out.print("")
        _show(item, _before(spec, old[spec.name].model, found.recording, item.difference), colours)


# Choosing ---------------------------------------------------------------------------------------------------


def _chosen(specs: Sequence[EquipmentSpec], names: Sequence[str]) -> list[EquipmentSpec]:
    by_name = {spec.name: spec for spec in specs}
    for name in names:
        if name not in by_name:
            raise WrongArgument(
                f'--equipment: no equipment is named "{name}"', hint=did_you_mean(name, by_name)
            )
    return [by_name[name] for name in dict.fromkeys(names)] if names else list(specs)


def _with_model(specs: list[EquipmentSpec], text: str | None, named: bool) -> list[EquipmentSpec]:
    """The equipment with another model: those named, else those whose model has the same name."""
    if text is None:
        return specs
    model = read_named_model(text)
    chosen = specs if named else [spec for spec in specs if spec.model.name == model.name]
    if not chosen:
        raise WrongArgument(
            f'--model: no equipment has a model named "{model.name}"',
            hint="say which equipment to try it on with --equipment",
        )
    for spec in chosen:
        if missing := unbound(spec, model):
            raise WrongArgument(
                f"equipment {spec.name} has no tag for {', '.join(missing)}, which model {model.name} needs",
                hint=f"add to bind (or state) of {spec.name} in the configuration; its tags must be recorded",
            )
    return [replace(spec, model=model) for spec in chosen]


def read_named_model(text: str) -> Model:
    """A built-in model by its name, or one from its file.

    Raises:
        WrongArgument: there is none of this name.
        ConfigurationRefused: the file has problems; all of them.
    """
    if text in BUILTIN:
        return BUILTIN[text]
    if not text.endswith(".toml"):
        raise WrongArgument(
            f'there is no built-in model "{text}", and a model file ends in .toml',
            hint=did_you_mean(text, BUILTIN),
        )
    model, problems = load_model(Path(text))
    if model is None:
        raise ConfigurationRefused(list(problems))
    return model


def _read(loaded: Loaded, recording: Path | None, tags: Iterable[str]) -> Found:
    wanted = frozenset(tags)
    gateway = loaded.configuration.gateway.id
    if recording is None:
        return read_journal(loaded.data_dir / "journal", gateway, wanted)
    found = read_lines(recording, wanted)
    if found.recording.gateway != gateway:
        raise WrongArgument(
            f'--recording: {recording} is of gateway "{found.recording.gateway}", '
            f'the configuration of "{gateway}"',
            hint="name the configuration of that gateway",
        )
    return found


def _read_database(
    loaded: Loaded, specs: Sequence[EquipmentSpec], begin: datetime | None, end: datetime | None
) -> Found:
    from gateway.embedded_postgres import dsn_of_running
    from gateway.historian.recorded import read_database

    settings = loaded.configuration.historian
    if settings is None:
        raise WrongArgument(
            "--from-database: the configuration has no database", hint="leave it out to read the journal"
        )
    dsn = dsn_of_running(loaded.data_dir) if settings.dsn == "embedded" else settings.dsn
    if dsn is None:
        raise WrongArgument(
            "--from-database: the embedded database does not run",
            hint="it runs while the gateway does: start the gateway, or leave this out to read the journal",
        )
    return Found(
        asyncio.run(
            read_database(
                dsn,
                settings,
                loaded.configuration.gateway.id,
                equipment=[spec.name for spec in specs],
                tags={tag for spec in specs for tag in inputs_of(spec)},
                begin=begin,
                end=end,
            )
        )
    )


# Comparing --------------------------------------------------------------------------------------------------


def _told(
    spec: EquipmentSpec,
    old_model: Model,
    recording: Recording,
    replayed: Replayed,
    loaded: Loaded,
    begin: datetime | None,
    end: datetime | None,
) -> Told:
    from_ = max(begin or recording.begin_at, recording.begin_at)
    known = known_from(recording, spec)
    warnings = _warnings(spec, recording, loaded, known)
    if known is not None and known > from_:
        warnings.append(f"compared from {_clock(known)} on, when all its inputs had been seen")
        from_ = known
    if begin is not None and begin < recording.begin_at and loaded.configuration.historian is not None:
        warnings.append(
            f"the recording begins at {_clock(recording.begin_at)}: --from-database may reach further back"
        )
    to = min(end or recording.end_at, recording.end_at)
    warnings += [
        f"from {_clock(max(first, from_))} to {_clock(min(last, to))} not all is there yet: what gathered "
        "while the database was away is still on its way to it; replay again when the gateway has caught up"
        for first, last in recording.lacking
        if first < to and last > from_
    ]
    if from_ >= to:
        raise WrongArgument(
            f"{spec.name}: nothing is recorded between --from and --to",
            hint=f"the recording reaches from {_clock(recording.begin_at)} to {_clock(recording.end_at)}",
        )

    def inside(item: Transition | Rejection) -> bool:
        # what happened in the very last instant of a recording is in it
        return from_ <= item.at and (item.at < to or to == recording.end_at)

    made = tuple(item for item in replayed.transitions if item.equipment == spec.name)
    before = transitions_of(recording, spec.name)
    old_spans = spans_of(before, old_model, from_, to)
    new_spans = spans_of(made, spec.model, from_, to)
    return Told(
        equipment=spec.name,
        model=spec.model.name,
        difference=compare(old_spans, new_spans, from_, to),
        transitions_before=sum(map(inside, before)),
        transitions_after=sum(map(inside, made)),
        rejections_after=sum(inside(item) for item in replayed.rejections if item.equipment == spec.name),
        timeline=new_spans,
        transitions=tuple(filter(inside, made)),
        warnings=tuple(warnings),
    )


def _before(
    spec: EquipmentSpec, model: Model, recording: Recording, difference: Difference
) -> tuple[Span, ...]:
    return spans_of(transitions_of(recording, spec.name), model, difference.from_, difference.to)


def _warnings(spec: EquipmentSpec, recording: Recording, loaded: Loaded, known: datetime | None) -> list[str]:
    """What the replay of an equipment cannot know, each in one sentence."""
    inputs = inputs_of(spec)
    unrecorded = {
        connection.tag_id(tag)
        for connection in loaded.configuration.connections
        for tag in connection.tags()
        if not tag.record
    }
    warnings = [f"{tag} has record = false: replay does not see it" for tag in inputs if tag in unrecorded]
    seen = {
        sample.tag
        for entry in recording.entries
        if isinstance(entry, SampleBatch)
        for sample in entry.samples
    }
    warnings += [
        f"{tag} is not in the recording" for tag in inputs if tag not in seen and tag not in unrecorded
    ]
    if known is None and not warnings:
        warnings.append("not all its inputs were seen")
    return warnings


# Showing ----------------------------------------------------------------------------------------------------


def _colours(models: Iterable[Model]) -> Mapping[str, str]:
    return {state.name: state.colour for model in models for state in model.states}


def _show(told: Told, before: Sequence[Span], colours: Mapping[str, str]) -> None:
    difference = told.difference
    total_s = difference.same_s + difference.different_s
    out.print(f"[bold]{told.equipment}[/] through model {told.model}", end="  ")
    if difference.intervals:
        differs = f"{age_text(difference.different_s)} of {age_text(total_s)}"
        out.print(
            f"[yellow]different for {differs}[/] ({difference.different_s / total_s:.1%}), "
            f"{told.transitions_before} transitions before, {told.transitions_after} after"
        )
    else:
        out.print(f"[green]the same[/] for {age_text(total_s)}, {told.transitions_after} transitions")
    for line in picture(before, told.timeline, colours, width=max(40, min(out.width, 160))):
        out.print(line, no_wrap=True)
    if difference.intervals:
        out.print(_intervals_table(difference))
        out.print(_totals_table(difference))
    for warning in told.warnings:
        out.print(f"note: {warning}", style="yellow", markup=False)


def _intervals_table(difference: Difference) -> Table:
    table = table_of("from (UTC)", "to", "for", "before", "after")
    for item in difference.intervals[:_ROWS_MAX]:
        table.add_row(
            _clock(item.from_),
            _clock(item.to),
            age_text(item.duration_s),
            _state(item.before, item.before_category),
            _state(item.after, item.after_category),
        )
    if len(difference.intervals) > _ROWS_MAX:
        table.add_row(f"and {len(difference.intervals) - _ROWS_MAX} more: --json has all")
    return table


def _totals_table(difference: Difference) -> Table:
    table = table_of("state", "before", "after", "change", right=("before", "after", "change"))
    for name, spent in difference.states.items():
        change = spent.after_s - spent.before_s
        sign = "+" if change > 0 else "-" if change < 0 else ""
        table.add_row(
            name, age_text(spent.before_s), age_text(spent.after_s), f"{sign}{age_text(abs(change))}"
        )
    return table


def _state(name: str, category: str | None) -> str:
    return f"{name} ({category})" if category else name


def _clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
