"""How long tests wait for what comes some day: a bound costs nothing when the thing comes."""

from __future__ import annotations

#: Longer than a loaded machine takes for anything, and shorter than a test may last, in seconds.
PATIENCE_S = 50.0
