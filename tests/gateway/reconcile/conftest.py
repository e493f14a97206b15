"""The databases and brokers of the other rooms' tests, so that every comparison runs on real ones."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[3])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from tests.gateway.historian.conftest import database, embedded_dsn, slow_machine  # noqa: E402
from tests.gateway.publish.conftest import broker, mosquitto  # noqa: E402

__all__ = ["broker", "database", "embedded_dsn", "mosquitto", "slow_machine"]
