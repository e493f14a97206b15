"""The models that come with Andon, by the names configuration files use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from statemodel.industry import (
    ISA88,
    ISA95_JOB_ORDER,
    ISA95_SUBSTATES,
    MTCONNECT,
    SEMI_E10,
    SEMI_E10_SUBSTATES,
)
from statemodel.model import Edge, Model, State
from statemodel.packml import PACKML_2015, PACKML_2022

#: For equipment that shows one bit. It cannot tell why a machine stands, so a stop counts as standby.
RUN_STOP: Final = Model(
    name="run-stop",
    initial="Stopped",
    states=(State("Stopped", 0, "standby"), State("Running", 1, "productive")),
    transitions=(Edge("Stopped", "Running"), Edge("Running", "Stopped")),
    title="Running or stopped, from one bit",
)

BUILTIN: Final[Mapping[str, Model]] = MappingProxyType(
    {
        model.name: model
        for model in (
            PACKML_2022,
            PACKML_2015,
            SEMI_E10,
            SEMI_E10_SUBSTATES,
            ISA95_JOB_ORDER,
            ISA95_SUBSTATES,
            ISA88,
            MTCONNECT,
            RUN_STOP,
        )
    }
)
