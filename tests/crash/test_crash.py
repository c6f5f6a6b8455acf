"""A share of the crash tests that takes a minute; all of them: `make test-crash`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.power import may_mount

linux = pytest.mark.skipif(sys.platform != "linux", reason="the disk that fails is Linux's")


def _run(kind: str, count: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.crash", kind, "--count", str(count), "--seed", "7"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert f"{kind}: {count} done, 0 wrong" in ran.stdout


@linux
@pytest.mark.parametrize(("kind", "count"), [("kills", 12), ("faults", 16), ("interrupts", 6)])
def test_a_share(kind: str, count: int) -> None:
    _run(kind, count)


@linux
def test_power_cuts() -> None:
    if not may_mount():
        pytest.skip("mounting a file system needs root")
    _run("power", 4)
