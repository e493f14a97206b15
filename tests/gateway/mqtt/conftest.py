"""Makes the other test packages importable however pytest was started; lends the brokers of `publish`."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[3])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from tests.gateway.publish.conftest import broker, mosquitto, subscriber  # noqa: E402

__all__ = ["broker", "mosquitto", "subscriber"]
