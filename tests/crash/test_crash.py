"""A share of the crash tests that takes a minute; all of them: `make test-crash`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.order import wrong
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
def test_the_order_of_a_build() -> None:
    _run("order", 1)


_RIGHT = [
    ["mkdir", "/cache", ""], ["fsync", "", ""], ["mkdir", "/cache/a", ""], ["fsync", "/cache", ""],
    ["write", "/cache/t", ""], ["fsync", "/cache/t", ""], ["rename", "/cache/t", "/cache/a/c.0"],
    ["fsync", "/cache/a", ""], ["fsync", "/cache/r", ""],
    ["rename", "/cache/r", "/cache/zarr.json"], ["fsync", "/cache", ""],
]  # fmt: skip


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (None, []),
        (1, ["the folder above the cache was not synced"]),
        (3, ["the name of /cache/a was not durable before the root"]),
        (5, ["/cache/t was not durable when it was named /cache/a/c.0"]),
        (7, ["the name of /cache/a/c.0 was not durable before the root"]),
        (8, ["/cache/r was not durable when it was named /cache/zarr.json"]),
        (10, ["the name of /cache/zarr.json is not durable at the end"]),
    ],
)
def test_an_order_that_is_wrong_is_seen(left_out: int | None, said: list[str]) -> None:
    found = list(wrong([call for k, call in enumerate(_RIGHT) if k != left_out]))
    assert [line for line in found if line in said] == said
    assert bool(found) == bool(said)


@linux
def test_power_cuts() -> None:
    if not may_mount():
        pytest.skip("mounting a file system needs root")
    _run("power", 4)
