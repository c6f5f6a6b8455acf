"""A second process at a cache is told who works there, and since when; a kill leaves no lock."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

from dicom2cache.running import holders
from tests.support.caches import run_cli, run_here, tree
from tests.support.faults import slow_run, wait_for

_FLAGS = ("--shard-mib", "1")


def _named(process: subprocess.Popen[str]) -> re.Pattern[str]:
    host = re.escape(platform.node())
    return re.compile(
        rf"pid {process.pid} on {host} \(`dicom2cache convert`, "
        r"since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"
    )


def test_a_second_process_is_told_who_works_there(tmp_path: Path, ct_series: Path) -> None:
    cache = tmp_path / "cache"
    assert run_here("plan", ct_series, cache, *_FLAGS).returncode == 0
    with slow_run("convert", cache, "--jobs", "1") as first:
        wait_for(cache, "build/*/receipts/*", first)
        os.killpg(first.pid, signal.SIGSTOP)  # it is not through before the others are
        other = run_cli("build", ct_series, cache, "--shard-mib", "2", "--jobs", "1")
        assert other.returncode == 2
        assert _named(first).search(other.stderr), other.stderr
        with slow_run("convert", cache, "--jobs", "1") as both:
            assert both.stderr is not None
            said = both.stderr.readline()
            assert _named(first).search(said), said
            assert "both go on" in said
            os.killpg(first.pid, signal.SIGCONT)
            assert both.wait(timeout=60) == 0
        assert first.wait(timeout=60) == 0
    assert holders.others(cache) == []
    assert run_here("commit", cache).returncode == 0


def test_overwrite_says_whose_plan_it_takes(tmp_path: Path, ct_series: Path) -> None:
    cache = tmp_path / "cache"
    assert run_here("plan", ct_series, cache, *_FLAGS).returncode == 0
    with slow_run("convert", cache, "--jobs", "1") as first:
        wait_for(cache, "build/*/receipts/*", first)
        os.killpg(first.pid, signal.SIGSTOP)
        again = ("--shard-mib", "2", "--jobs", "1", "--overwrite")
        new = run_cli("build", ct_series, cache, *again)
        assert new.returncode == 0, new.stderr
        assert "--overwrite takes the plan from" in new.stderr
        assert _named(first).search(new.stderr), new.stderr
        os.killpg(first.pid, signal.SIGCONT)
        _, said = first.communicate(timeout=60)
    assert (first.returncode, "another process has replaced the plan" in said) == (2, True)
    assert tree(cache)


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path, ct_series: Path) -> None:
    cache = tmp_path / "cache"
    assert run_here("plan", ct_series, cache, *_FLAGS).returncode == 0
    with slow_run("convert", cache, "--jobs", "1") as first:
        wait_for(cache, "build/*/receipts/*", first)
        assert [held.by.pid for held in holders.others(cache)] == [first.pid]
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert list(cache.glob("build/*/holders/*"))
    assert holders.others(cache) == []
    ran = run_cli("build", ct_series, cache, *_FLAGS, "--jobs", "1", "--overwrite")
    assert (ran.returncode, "pid" in ran.stderr) == (0, False)


def test_another_process_of_the_same_number_is_not_meant(tmp_path: Path) -> None:
    """Its record is of a process that began at another time."""
    with holders.holding(tmp_path, "convert"):
        (path,) = (tmp_path / "holders").iterdir()
        here = holders.read(path).by
    assert not here.is_dead
    assert replace(here, started=here.started + 1).is_dead
    assert not replace(here, started=here.started + 1, machine="another").is_dead
    assert not list((tmp_path / "holders").iterdir())
