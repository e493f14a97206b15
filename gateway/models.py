"""The state models in use and built in, for those who ask through the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from statemodel.builtin import BUILTIN
from statemodel.describe import describe
from statemodel.model import Model


class ModelCatalogue:
    """Implements `api.ports.Models`."""

    def __init__(self, used: Mapping[str, Model]) -> None:
        self._models = dict(BUILTIN) | dict(used)

    def exchange(self, used: Mapping[str, Model]) -> None:
        """Other models are in use from now on."""
        self._models = dict(BUILTIN) | dict(used)

    def names(self) -> Sequence[str]:
        """Names, built-in ones first."""
        return list(self._models)

    def model(self, name: str) -> Mapping[str, Any] | None:
        """States, transitions and rules of one model, or None."""
        model = self._models.get(name)
        return None if model is None else describe(model)
