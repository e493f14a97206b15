"""From a configuration file to objects that are complete and judged, or to the list of all that is wrong.

This file reads files; what is right and wrong is said by the settings models, the state models' own checks
and, for everything that spans sections, by `lint`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from connectors.protocol import Protocol
from connectors.registry import Registry, default_registry
from connectors.settings import FOLDER, ConnectionSettings
from gateway.config.brokers import BrokerSettings
from gateway.config.compliance import ComplianceSettings
from gateway.config.csvtags import TagFileRefused, TagRows, read_tag_rows
from gateway.config.lines import KeyPath, line_of
from gateway.config.lint import MODEL_FILE, Finding, lint, thinned_inputs
from gateway.config.lint_brokers import broker_warnings, lint_brokers
from gateway.config.lint_compliance import lint_compliance
from gateway.config.lint_control import control_warnings, lint_control
from gateway.config.lint_ways import way_warnings
from gateway.config.problems import (
    ConfigurationRefused,
    Problem,
    did_you_mean,
    explain_all,
    keys_at,
    path_text,
)
from gateway.config.reading import load_model as load_model
from gateway.config.reading import model_warnings
from gateway.config.reading import read_toml as read_toml
from gateway.config.schema import (
    ApiSettings,
    CommandsSettings,
    Configuration,
    EquipmentSettings,
    GatewaySettings,
    HistorianSettings,
    MqttSettings,
    SparkplugSettings,
)
from gateway.config.secrets import Allowed, hidden, is_reference, resolve_all
from gateway.config.sources import DISK, Files, Read
from statemodel.builtin import BUILTIN
from statemodel.engine import EquipmentSpec
from statemodel.model import Model

_SECTIONS: Mapping[str, type[BaseModel]] = {
    "gateway": GatewaySettings,
    "historian": HistorianSettings,
    "api": ApiSettings,
    "commands": CommandsSettings,
}
#: Those that may stand once, [mqtt], or several times, [[mqtt]].
_BROKERS: Mapping[str, type[BrokerSettings]] = {"mqtt": MqttSettings, "sparkplug": SparkplugSettings}
_S = TypeVar("_S", bound=BaseModel)
#: Where a tag stands in a connection, for its keys.
_A_TAG: KeyPath = ("groups", 0, "tags", 0)
_TOP_KEYS = (*_SECTIONS, *_BROKERS, "connections", "equipment", "compliance")


@dataclass(frozen=True)
class Loaded:
    """A configuration ready to run: settings, the models they name, and what the engine needs."""

    path: Path
    configuration: Configuration
    models: Mapping[str, Model]
    equipment: Sequence[EquipmentSpec]
    registry: Registry
    warnings: Sequence[Problem] = ()
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """The files it was read from, as they were, by their names seen from the folder of `path`."""
    named: Path | None = None
    """`path` as it was given, absolute: where it leads when links change."""
    references: Mapping[KeyPath, str] = field(default_factory=dict)
    """Where a value stands for a secret: place in `configuration` -> the reference as written."""

    @property
    def data_dir(self) -> Path:
        """Where the gateway keeps its files."""
        return (self.path.parent / self.configuration.gateway.data_dir).resolve()


def unreadable_files(sections: Mapping[str, Mapping[KeyPath, BrokerSettings | None]]) -> Iterator[Finding]:
    """Certificate files of brokers that cannot be read now: no reason not to start, they may come."""
    for place, settings in ((place, one) for found in sections.values() for place, one in found.items()):
        for key in ("ca_file", "cert_file", "key_file") if settings else ():
            name = getattr(settings, key)
            try:
                if name is not None:
                    Path(name).open("rb").close()
            except OSError as error:
                reason = f'the file "{name}" cannot be read: {error.strerror or error}'
                yield (*place, key), reason, "the broker is out of reach until it can be"


def load(
    path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    secrets_of: Collection[str] | None = None,
    files: Files = DISK,
    allowed: Allowed | None = None,
) -> Loaded:
    """Read and judge a configuration file and everything it names.

    With `secrets_of` only the secrets of those sections must be there: any other reference that leads nowhere
    stays as it is written, for what needs no link and no database. Files come from `files`; `allowed` may
    forbid references to secrets.

    Raises:
        ConfigurationRefused: with every problem found, in the order of the file.
    """
    loader = _Loader(
        path=path,
        environment=os.environ if environment is None else environment,
        registry=registry or default_registry(),
        secrets_of=_TOP_KEYS if secrets_of is None else secrets_of,
        files=Read(files, path),
        allowed=allowed,
    )
    loaded = loader.load()
    if loaded is None or loader.problems:
        main = files.shown(path)
        raise ConfigurationRefused(
            sorted(
                loader.hidden(loader.problems),
                key=lambda problem: (problem.file != main, problem.file, problem.line or 0),
            )
        )
    return loaded


@dataclass
class _Loader:
    path: Path
    environment: Mapping[str, str]
    registry: Registry
    secrets_of: Collection[str]
    files: Read
    allowed: Allowed | None = None
    problems: list[Problem] = field(default_factory=list)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    model_files: dict[Path, Model | None] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)
    #: Values that are kept elsewhere -> their references: no message has the value.
    told_as: dict[str, str] = field(default_factory=dict)
    #: References that lead nowhere and were left as they are, with the reason and the hint.
    left: dict[KeyPath, tuple[str, str]] = field(default_factory=dict)
    #: Connection index -> group index -> path, rows, and how many tags the group has besides the rows.
    tag_files: dict[int, Mapping[int, tuple[Path, TagRows, int]]] = field(default_factory=dict)

    def problem(self, path: KeyPath, reason: str, hint: str = "") -> None:
        reason, hint = self.left.get(path, (reason, hint))  # what is wrong with it is that it leads nowhere
        self.problems.append(
            Problem(self.files.shown(self.path), line_of(self.lines, path), path_text(path), reason, hint)
        )

    def file_problem(self, place: KeyPath, name: str, problem: Problem) -> None:
        """Note what is wrong with a file named here: there, or here when no line of it is to blame."""
        if problem.line is None and not problem.path:
            self.problem(place, f'"{name}": {problem.reason}', problem.hint)
        else:
            self.problems.append(problem)

    def load(self) -> Loaded | None:
        read = read_toml(self.path, self.files)
        if isinstance(read, Problem):
            self.problems.append(read)
            return None
        data, self.lines = read
        references = _references(data)
        written = data
        data, unresolved = resolve_all(data, (), self.environment, self.path.parent, self.allowed)
        self.told_as = _told_as(written, data)
        for place, reason, hint in unresolved:
            if place[0] in self.secrets_of or not is_reference(_at(data, place)):
                self.problem(place, reason, hint)
            else:
                self.left[place] = reason, hint
        bad_places = {place for place, _, _ in unresolved if place not in self.left}
        for key in data:
            if key not in _TOP_KEYS:
                self.problem((key,), "unknown section", did_you_mean(key, _TOP_KEYS))
        sections: dict[str, Any] = {
            name: self.section(name, data.get(name), settings, bad_places)
            for name, settings in _SECTIONS.items()
        }
        brokers = {
            name: self.brokers(name, data.get(name), settings, bad_places)
            for name, settings in _BROKERS.items()
        }
        if "gateway" not in data:
            self.problem(
                ("gateway",), "is required but not there", "add [gateway] with id, enterprise and site"
            )
        connections = [
            self.connection(index, table) for index, table in enumerate(self.tables(data, "connections"))
        ]
        equipment = [
            self.validate(("equipment", index), table, EquipmentSettings, set())
            for index, table in enumerate(self.tables(data, "equipment"))
        ]
        models = {item.model: self.model(index, item) for index, item in enumerate(equipment) if item}
        found = list(lint(connections, equipment, models))
        for place, reason, hint in found:
            self.tag_problem(place, reason, hint)
        specs = [equipment_spec(item, model) for item in equipment if item and (model := models[item.model])]
        sound = [item for item in connections if item]
        # Of what is named twice, every topic would be there twice too.
        named = ([], []) if found else (sound, specs)
        for place, reason, hint in lint_brokers(sections["gateway"], brokers, *named):
            self.problem(place, reason, hint)
        known = None if None in equipment else {item.name for item in equipment if item}
        for place, reason, hint in lint_control(sections["commands"], connections, known):
            self.problem(place, reason, hint)
        rules = [
            self.validate(("compliance", index), table, ComplianceSettings, set())
            for index, table in enumerate(self.tables(data, "compliance"))
        ]
        for place, reason, hint in lint_compliance(rules, equipment):
            self.problem(place, reason, hint)
        self.judge_open_doors(sections["api"])
        if self.problems:
            return None
        configuration = Configuration(
            **{name: value for name, value in sections.items() if value is not None},
            **{name: tuple(found.values()) for name, found in brokers.items()},
            connections=tuple(sound),
            equipment=tuple(item for item in equipment if item),
            compliance=tuple(item for item in rules if item),
        )
        self.warnings += [
            Problem(self.files.shown(self.path), line_of(self.lines, place), path_text(place), reason, hint)
            for place, reason, hint in (
                *broker_warnings(brokers, specs),
                *unreadable_files(brokers),
                *control_warnings(sections["commands"], sound, specs),
                *way_warnings(sections["commands"], brokers),
                *thinned_inputs(configuration.connections, configuration.equipment),
            )
        ]
        return Loaded(
            path=self.path.resolve(),
            configuration=configuration,
            models={model.name: model for model in models.values() if model},
            equipment=specs,
            registry=self.registry,
            warnings=tuple(self.hidden(self.warnings)),
            files=dict(self.files.files),
            named=self.path.absolute(),
            references=references,
        )

    def hidden(self, problems: Sequence[Problem]) -> Sequence[Problem]:
        """The same without any value that is kept elsewhere."""
        return [
            msgspec.structs.replace(
                problem,
                reason=hidden(problem.reason, self.told_as),
                hint=hidden(problem.hint, self.told_as),
            )
            for problem in problems
        ]

    def judge_open_doors(self, api: ApiSettings | None) -> None:
        """An API that the network can reach speaks TLS, or it is said that something else does."""
        if api is None or api.loopback:
            return
        if api.tls is None and not api.insecure:
            self.problem(
                ("api", "listen"),
                "opens the API to the network without TLS: passwords and tokens could be read on their way",
                'set tls = { cert_file = "...", key_file = "..." }, keep "127.0.0.1:8420", or write '
                "insecure = true where a proxy in front speaks TLS",
            )
        elif api.lets_in_anybody:
            line = line_of(self.lines, ("api", "anonymous"))
            reason = "lets everybody in the network read everything"
            hint = 'write anonymous = "none", and give programs API keys'
            self.warnings.append(Problem(self.files.shown(self.path), line, "api.anonymous", reason, hint))

    def tables(self, data: Mapping[str, Any], name: str) -> list[Any]:
        tables = data.get(name, [])
        if isinstance(tables, list):
            return tables
        self.problem((name,), "must be a list of tables", f"write [[{name}]] with two brackets")
        return []

    def brokers(
        self, name: str, tables: Any, settings: type[_S], bad_places: set[KeyPath]
    ) -> dict[KeyPath, _S | None]:
        """The sections of one name, [mqtt] or [[mqtt]], by their places; None where one is wrong."""
        if isinstance(tables, list):
            places: list[tuple[KeyPath, Any]] = [((name, i), table) for i, table in enumerate(tables)]
        else:
            places = [] if tables is None else [((name,), tables)]
        return {place: self.validate(place, table, settings, bad_places) for place, table in places}

    def section(
        self, name: str, table: Any, settings: type[BaseModel], bad_places: set[KeyPath]
    ) -> BaseModel | None:
        return None if table is None else self.validate((name,), table, settings, bad_places)

    def validate(self, place: KeyPath, table: Any, settings: type[_S], bad_places: set[KeyPath]) -> _S | None:
        """The settings, or None with the problems noted. Places already complained about stay quiet."""
        try:
            return settings.model_validate(table, context={FOLDER: self.path.parent})
        except ValidationError as error:
            for inner, reason, hint in explain_all(error, settings):
                if (*place, *inner) not in bad_places:
                    self.problem((*place, *inner), reason, hint)
            return None

    def connection(self, index: int, table: Any) -> ConnectionSettings | None:
        place: KeyPath = ("connections", index)
        if not isinstance(table, dict):
            self.problem(place, "must be a table", "write [[connections]] with two brackets")
            return None
        name = table.get("protocol")
        if name is None:
            known = ", ".join(sorted(self.registry.protocols))
            self.problem((*place, "protocol"), "is required but not there", f"known protocols: {known}")
            return None
        protocol = self.registry.protocols.get(str(name))
        if protocol is None:
            hint = did_you_mean(str(name), self.registry.protocols)
            self.problem((*place, "protocol"), f'there is no protocol "{name}"', hint)
            return None
        before = len(self.problems)
        table, self.tag_files[index] = self.with_tag_files(place, table, protocol)
        try:
            settings = protocol.settings.model_validate(table, context={FOLDER: self.path.parent})
        except ValidationError as error:
            for inner, reason, hint in explain_all(error, protocol.settings):
                self.tag_problem((*place, *inner), reason, hint)
            return None
        # With a tag list unread, what refers to this connection cannot be judged.
        return settings if len(self.problems) == before else None

    def with_tag_files(
        self, place: KeyPath, table: dict[str, Any], protocol: Protocol
    ) -> tuple[dict[str, Any], dict[int, tuple[Path, TagRows, int]]]:
        """The connection with the rows of its `tags_csv` files among its tags, and where they came from."""
        files: dict[int, tuple[Path, TagRows, int]] = {}
        groups = table.get("groups")
        if not isinstance(groups, list):
            return table, files
        filled = []
        for number, group in enumerate(groups):
            if isinstance(group, dict) and isinstance(group.get("tags_csv"), str):
                path = self.path.parent / group["tags_csv"]
                own = group.get("tags", [])
                own = own if isinstance(own, list) else []
                try:
                    rows = read_tag_rows(
                        path, protocol.csv_key, keys_at(protocol.settings, _A_TAG), self.files
                    )
                except TagFileRefused as refused:
                    self.file_problem(
                        (*place, "groups", number, "tags_csv"),
                        group["tags_csv"],
                        Problem(self.files.shown(path), refused.line, "", refused.reason, refused.hint),
                    )
                else:
                    self.problems += [
                        Problem(self.files.shown(path), bad.line, bad.column, bad.reason, bad.hint)
                        for bad in rows.bad
                    ]
                    files[number] = (path, rows, len(own))
                    group = {**group, "tags": [*own, *rows.rows]}
            filled.append(group)
        return {**table, "groups": filled}, files

    def tag_problem(self, place: KeyPath, reason: str, hint: str) -> None:
        """Note a problem where the person wrote the thing: in the TOML file, a row of a CSV file, a model."""
        match place:
            case (str() as first, str() as name, *rest) if first == MODEL_FILE:
                path = self.path.parent / name
                read = read_toml(path, self.files)
                lines = {} if isinstance(read, Problem) else read[1]
                inner = tuple(rest)
                self.problems.append(
                    Problem(self.files.shown(path), line_of(lines, inner), path_text(inner), reason, hint)
                )
                return
            case ("connections", int() as index, "groups", int() as group, "tags", int() as tag, *rest):
                path, rows, own = self.tag_files[index].get(group, (self.path, None, 0))
                if rows is not None and tag >= own:
                    line, column = rows.lines[tag - own], path_text(tuple(rest))
                    hint = hint or _decimal_comma(str(rows.rows[tag - own].get(column, "")))
                    self.problems.append(Problem(self.files.shown(path), line, column, reason, hint))
                    return
            case _:
                pass
        self.problem(place, reason, hint)

    def model(self, index: int, item: EquipmentSettings) -> Model | None:
        place: KeyPath = ("equipment", index, "model")
        if item.model in BUILTIN:
            return BUILTIN[item.model]
        if not item.model.endswith(".toml"):
            hint = (
                did_you_mean(item.model, BUILTIN)
                or "a model of your own is named by its file, ending in .toml"
            )
            self.problem(place, f'there is no built-in model "{item.model}"', hint)
            return None
        path = self.path.parent / item.model
        if path in self.model_files:
            return self.model_files[path]
        model, problems = load_model(path, self.files)
        self.model_files[path] = model
        for problem in problems:
            self.file_problem(place, item.model, problem)
        if model is None:
            return None
        self.warnings += model_warnings(model, path, self.files)
        namesake = next(
            (f for f, m in self.model_files.items() if m and m.name == model.name and f != path), None
        )
        if model.name in BUILTIN or namesake is not None:
            whose = (
                f"that of {self.files.shown(namesake)}"
                if namesake is not None
                else "that of a built-in model"
            )
            self.problem(
                place, f'the model in {item.model} is named "{model.name}", {whose}', "name it otherwise"
            )
        return model


def _at(data: Any, place: KeyPath) -> Any:
    """What stands at a place of parsed TOML."""
    for key in place:
        data = data[key]
    return data


def _references(data: Any, place: KeyPath = ()) -> dict[KeyPath, str]:
    """Every reference to a secret, by its place in the settings made of parsed TOML."""
    if is_reference(data):
        # What stands once, [mqtt], is the first of several among the settings.
        return {((place[0], 0, *place[1:]) if _stands_alone(place) else place): data}
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return {found: text for key, value in inner for found, text in _references(value, (*place, key)).items()}


def _told_as(written: Any, resolved: Any) -> dict[str, str]:
    """Every value that came by a reference, with that reference."""
    if is_reference(written):
        return {} if not resolved or resolved == written else {str(resolved): written}
    keys = written if isinstance(written, dict) else range(len(written)) if isinstance(written, list) else ()
    return {value: text for key in keys for value, text in _told_as(written[key], resolved[key]).items()}


def _stands_alone(place: KeyPath) -> bool:
    return len(place) > 1 and place[0] in _BROKERS and not isinstance(place[1], int)


def _decimal_comma(cell: str) -> str:
    """A hint for a cell that is a number in some spreadsheet programs."""
    whole, comma, rest = cell.partition(",")
    if comma and rest.isdigit() and whole.lstrip("+-").isdigit():
        return f"numbers have a decimal point: {whole}.{rest}"
    return ""


def equipment_spec(item: EquipmentSettings, model: Model) -> EquipmentSpec:
    """An equipment as the engine wants it."""
    state = item.state
    return EquipmentSpec(
        name=item.name,
        path=item.path,
        model=model,
        state=None if isinstance(state, tuple) else state,
        bind=item.bind,
        mode=item.mode,
        state_path=state if isinstance(state, tuple) else (),
        counters=item.counters,
        tags=item.tags,
    )
