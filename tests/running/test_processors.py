"""Processors that a process may use, beside joblib, which counts them too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

from dicom2cache.records import ShardTask
from dicom2cache.running import pool
from dicom2cache.running.processors import cpu_count

_TWO = os.cpu_count() or 1
pytestmark = pytest.mark.skipif(_TWO < 2, reason="one processor: nothing could be fewer")


def test_as_joblib_here() -> None:
    assert cpu_count() == joblib.cpu_count()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are bound on Linux")
def test_a_process_that_is_bound() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from dicom2cache.running.processors import cpu_count; print(cpu_count())"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "1\n"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),  # version 2: microseconds of a period
        ({"cpu.max": "50000 100000\n"}, 1),  # half a processor
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, _TWO),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, _TWO),  # none
        ({}, _TWO),
    ],
)
def test_a_share_of_time(
    tmp_path: Path, files: dict[str, str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(_TWO)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_count(tmp_path) == min(count, _TWO)


def test_what_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert cpu_count(tmp_path) == 1


@pytest.mark.parametrize(
    ("jobs", "costs", "count"),
    [
        (8, [1.0] * 100, 1),  # a few pixels: a second process would take longer to start
        (8, [float(1 << 30)] * 100, 8),
        (8, [float(1 << 30)] * 4, 4),
        (8, [float(2 << 30)] * 2, 2),
        (8, [float(1 << 30)] * 2, 1),  # 4,096 frames of 512x512: their start would take longer
        (8, [float(64 << 20)] * 16, 1),  # two would take as long
        (8, [float(1 << 30)], 1),  # one shard is done by one process
        (1, [float(1 << 30)] * 9, 1),
    ],
)
def test_no_more_processes_than_there_is_work_for(
    jobs: int, costs: list[float], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_begun", 0)
    assert pool.enough(jobs, [ShardTask(0, k, k, k + 1, c) for k, c in enumerate(costs)]) == count
    monkeypatch.setattr(pool, "_begun", 2)  # those that run already have been paid for
    assert pool.enough(jobs, [ShardTask(0, 0, 0, 1, 1.0)]) == min(jobs, 2)
