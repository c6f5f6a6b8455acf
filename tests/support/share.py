"""How much a test tries of what it could: a share, or TEST_TIMES as much."""

from __future__ import annotations

import os

TIMES = int(os.environ.get("TEST_TIMES", "1"))
"""`make test-more` says 10"""


def stride(steps: int) -> int:
    """Every so many of the steps that a test kills at, or of the places that it damages."""
    return max(1, steps // TIMES)
