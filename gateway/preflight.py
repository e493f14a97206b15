"""Refuses a broken installation before anything starts.

The five packages have everyday names. Another distribution that ships one of them would be imported in its
place without a word, so the owner of each name and the folder they share are checked first.
"""

from __future__ import annotations

from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from gateway.errors import StartFailed

PACKAGES = ("gateway", "connectors", "statemodel", "api", "simulators")
DISTRIBUTION = "andon-gateway"


def check_installation() -> None:
    """Make sure that the five packages are ours and stand side by side.

    Raises:
        StartFailed: they are not; the message names the other distribution.
    """
    owners = packages_distributions()
    for package in PACKAGES:
        others = sorted(set(owners.get(package, [])) - {DISTRIBUTION})
        if others:
            raise StartFailed(
                f'the package "{package}" also belongs to the distribution "{others[0]}"',
                hint="install Andon into an environment of its own: pipx install andon-gateway",
            )
    folders = {package: _folder(package) for package in PACKAGES}
    if len(set(folders.values())) != 1:
        where = ", ".join(f"{package} in {folder}" for package, folder in folders.items())
        raise StartFailed(
            f"the packages of Andon do not stand side by side: {where}",
            hint="install Andon into an environment of its own, and start it from another folder",
        )


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent.parent if spec is not None and spec.origin is not None else None
