"""docs/configuration.md holds every setting, as the settings models declare it, and none besides."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from connectors.modbus.config import ModbusSettings, SerialSettings, TlsSettings
from connectors.modbus.tags import ModbusGroup, ModbusLimits, ModbusTag
from connectors.opcua.config import OpcuaConnection, OpcuaEvents, OpcuaGroup, OpcuaTag, Security
from connectors.registry import default_registry
from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.config.access import OidcSettings
from gateway.config.audit import AuditSettings
from gateway.config.callers import CallerSettings
from gateway.config.compliance import ComplianceSettings
from gateway.config.control import AllowSettings, CommandsSettings, PackmlSettings, ReadbackSettings
from gateway.config.mqtt import TopicSettings
from gateway.config.schema import (
    ApiSettings,
    Configuration,
    EquipmentSettings,
    GatewaySettings,
    HistorianSettings,
    JournalSettings,
    MqttSettings,
    ReconcileSettings,
    SnapshotSettings,
    SparkplugSettings,
)
from gateway.config.serving import ApiTlsSettings
from statemodel.durations import format_duration
from tests.docs.pages import DOCS, tables

PAGE = DOCS / "configuration.md"
HEADER = ("key", "type", "default", "meaning")

#: Heading of the page -> whose settings stand under it.
SECTIONS: dict[str, type[BaseModel]] = {
    "`[gateway]`": GatewaySettings,
    "`[gateway.audit]`": AuditSettings,
    "`[gateway.journal]`": JournalSettings,
    "`[gateway.reconcile]`": ReconcileSettings,
    "`[gateway.snapshots]`": SnapshotSettings,
    "`[historian]`": HistorianSettings,
    "`[mqtt]`": MqttSettings,
    "`[mqtt.commands]`": CallerSettings,
    "`[mqtt.topics]`": TopicSettings,
    "`[sparkplug]`": SparkplugSettings,
    "`[api]`": ApiSettings,
    "`[api.oidc]`": OidcSettings,
    "`[api.tls]`": ApiTlsSettings,
    "`[commands]`": CommandsSettings,
    "`[[commands.allow]]`": AllowSettings,
    "Read-back of a command": ReadbackSettings,
    "Command tags of a PackML machine": PackmlSettings,
    "`[[compliance]]`": ComplianceSettings,
    "`[[connections]]`": ConnectionSettings,
    "Groups": GroupSettings,
    "Tags": TagSettings,
    "A Modbus connection": ModbusSettings,
    "Serial port of a Modbus connection": SerialSettings,
    "Certificates of a Modbus connection": TlsSettings,
    "Limits of a Modbus connection": ModbusLimits,
    "A group of a Modbus connection": ModbusGroup,
    "A tag of a Modbus connection": ModbusTag,
    "An OPC UA connection": OpcuaConnection,
    "Events of an OPC UA connection": OpcuaEvents,
    "Security of an OPC UA connection": Security,
    "A group of an OPC UA connection": OpcuaGroup,
    "A tag of an OPC UA connection": OpcuaTag,
    "`[[equipment]]`": EquipmentSettings,
}
#: Where a protocol only says what its own parts are, the common table has said it all.
_STRUCTURE = {"protocol", "groups", "tags"}
_COMMON = (ConnectionSettings, GroupSettings, TagSettings)


def documented() -> dict[str, dict[str, tuple[str, ...]]]:
    """Heading -> key -> row, of every table of settings on the page."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for table in tables(PAGE):
        if table.header == HEADER:
            keys = [row[0].strip("`") for row in table.rows]
            assert len(set(keys)) == len(keys), f"line {table.line}: a key stands there twice"
            found[table.heading] = dict(zip(keys, table.rows, strict=True))
    return found


def own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """What a section has to show: every setting, or those a protocol adds to, or changes in, the common."""
    common: type[BaseModel] | None = next(
        (base for base in _COMMON if issubclass(model, base) and model is not base), None
    )
    if common is None:
        return dict(model.model_fields)
    declared = set(model.__annotations__) - (_STRUCTURE & set(common.model_fields))
    return {name: field for name, field in model.model_fields.items() if name in declared}


def default_text(field: FieldInfo) -> str:
    """The default as the page writes it: TOML, or a word where TOML has none."""
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "unset"
    if isinstance(default, BaseModel):
        return "`{}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, timedelta):
        return f'`"{format_duration(default)}"`'
    if isinstance(default, str):
        return f'`"{default}"`'
    if isinstance(default, tuple):
        return "`[]`"
    return f"`{default}`"


def type_word(field: FieldInfo) -> str:
    """The kind of value in the words of the page."""
    annotation: Any = field.annotation
    if get_origin(annotation) is not None and type(None) in get_args(annotation):
        annotation = next(item for item in get_args(annotation) if item is not type(None))
    if get_origin(annotation) is Literal or hasattr(annotation, "__members__"):
        return "choice"
    if get_origin(annotation) is tuple:
        return "list of tables" if models_in(annotation) else "list"
    if get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "table"
    metadata = (*field.metadata, *getattr(annotation, "__metadata__", ()))
    if any(isinstance(item, StringConstraints) for item in metadata):
        return "name"
    base = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    words: dict[Any, str] = {
        float | str: "number or percent",
        tuple[float, float]: "two numbers",
        bool: "true or false",
        int: "whole number",
        float: "number",
        timedelta: "duration",
        str: "text",
        SecretStr: "text",
    }
    return words[base]


def limits_of(field: FieldInfo) -> str:
    """The numbers a value may not pass, as the page writes them; empty when there are none."""
    metadata = [*field.metadata]
    for item in get_args(field.annotation):
        metadata += getattr(item, "__metadata__", ())
    limits: list[Any] = [item.ge for item in metadata if isinstance(item, Ge)]
    limits += [item.le for item in metadata if isinstance(item, Le)]
    return " to ".join(f"{limit:.0f}" for limit in limits)


def choices_of(field: FieldInfo) -> list[str]:
    """The texts a choice may be."""
    annotation: Any = field.annotation
    if hasattr(annotation, "__members__"):
        return [str(member.value) for member in annotation]
    return [str(item) for item in get_args(annotation)] if get_origin(annotation) is Literal else []


def plain(text: str) -> str:
    """Numbers without the underscores that make them readable."""
    return re.sub(r"(?<=\d)_(?=\d)", "", text)


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_documents_its_settings_and_no_others(heading: str) -> None:
    rows, fields = documented()[heading], own_fields(SECTIONS[heading])

    assert sorted(rows) == sorted(fields)
    for key, field in fields.items():
        _, kind, default, meaning = rows[key]
        protocols = key == "protocol" and SECTIONS[heading] is ConnectionSettings
        assert plain(default) == default_text(field), key
        assert kind == type_word(field), key
        assert meaning, key
        for choice in choices_of(field):
            assert f'"{choice}"' in meaning, key
        assert re.search(rf"(?<!\d){limits_of(field)}(?!\d)", plain(meaning)), key
        assert not protocols or all(f'"{name}"' in meaning for name in default_registry().protocols)


def test_every_settings_model_has_its_section() -> None:
    seen: set[type[BaseModel]] = set()
    waiting: list[type[BaseModel]] = [
        Configuration,
        *(protocol.settings for protocol in default_registry().protocols.values()),
    ]
    while waiting:
        model = waiting.pop()
        seen.add(model)
        for field in model.model_fields.values():
            waiting += [inner for inner in models_in(field.annotation) if inner not in seen]

    assert seen - {Configuration} == set(SECTIONS.values())
    assert set(documented()) == set(SECTIONS)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings models an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for item in get_args(annotation) for model in models_in(item)]


def test_the_sections_of_a_file_are_those_of_the_page() -> None:
    top = {heading.strip("`[]") for heading in SECTIONS if heading.startswith("`[") and "." not in heading}

    assert top == set(Configuration.model_fields)
