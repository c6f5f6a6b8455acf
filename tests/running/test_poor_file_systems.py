"""Nodes that share a file system without hard links or direct I/O, see names late, have no clock.

A node is a process of its own whose calls are poorer than the machine's (tests/support/hooks).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom2cache import Recipe, pipeline
from dicom2cache.running.job import load_job
from tests.support.caches import command, run_cli, run_here, tree
from tests.support.dicom_files import pattern, write_dicom
from tests.support.share import stride

_HOOKS = Path(__file__).parents[1] / "support" / "hooks"
_RECIPE = ("--shard-mib", "1", "--intensity", "percentiles", "--codec", "auto")
_SHARDS = 6
_EPERM = f"no-links {errno.EPERM}"


def _fault(*faults: str) -> dict[str, str]:
    return {"PYTHONPATH": str(_HOOKS), "FAULT": ";".join(faults)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of six series for six shards, each stack with percentiles of its own."""
    folder = tmp_path_factory.mktemp("poor")
    for k in range(2 * _SHARDS):
        series = f"1.2.3.{k // 2}"
        write_dicom(
            folder / f"s{k:02}.dcm", pattern(f"{k}", (512, 512)), InstanceNumber=k,
            SeriesInstanceUID=series,
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The cache that one process makes where nothing is missing."""
    cache = tmp_path_factory.mktemp("alone") / "cache"
    assert run_here("build", source, cache, *_RECIPE, "--jobs", "1").returncode == 0
    return tree(cache)


def _start(arguments: list[object], *faults: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), env={**os.environ, **_fault(*faults)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _ended(runs: list[subprocess.Popen[str]]) -> list[str]:
    """What runs said that must all be through."""
    said = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), said
    return [out + err for out, err in said]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV])
def test_without_hard_links(
    source: Path, alone: dict[str, str], tmp_path: Path, number: int
) -> None:
    """Three nodes build the same at once: one plan, and the cache of one process."""
    cache = tmp_path / "cache"
    build = ["build", source, cache, *_RECIPE, "--jobs", "1"]
    said = _ended([_start(build, f"no-links {number}") for _ in range(3)])
    assert any("no hard links here" in text for text in said)
    assert tree(cache) == alone


def test_the_choice_is_the_plan_s(source: Path, alone: dict[str, str], tmp_path: Path) -> None:
    """Other nodes do as the one that planned did, and `info` says so while it runs."""
    cache = tmp_path / "cache"
    ran = run_cli("plan", source, cache, *_RECIPE, env=_fault(_EPERM))
    assert ran.returncode == 0, ran.stderr
    assert "no hard links here" in ran.stderr
    assert json.loads((cache / "build" / "plan.json").read_bytes())["links"] is False
    assert "renaming folders" in run_here("info", cache).stdout
    assert json.loads(run_here("info", cache, "--json").stdout)["hard_links"] is False
    assert run_here("convert", cache, "--jobs", "1").returncode == 0  # it has links itself
    assert run_here("commit", cache).returncode == 0
    assert tree(cache) == alone


def test_a_node_that_lacks_the_links_of_the_others(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run_here("plan", source, cache, *_RECIPE).returncode == 0
    ran = run_cli("convert", cache, "--jobs", "1", env=_fault(_EPERM))
    assert ran.returncode == 2
    assert "no hard links here, and there were where the plan was made" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("first", [0, 4, 8])
def test_killed_at_any_step_without_links(
    source: Path, alone: dict[str, str], tmp_path: Path, first: int
) -> None:
    """Before each call that makes something durable; the next run ends what was begun."""
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(source.iterdir())[:4]:
        shutil.copy(path, few)
    whole = tmp_path / "whole"
    pipeline.build(few, whole, Recipe(shard_mib=1, codec="auto"), jobs=1)
    driver = [
        "-m",
        "tests.support.kill_at_each_step",
        few,
        tmp_path / "f",
        first,
        str(stride(15)),
        "auto",
    ]
    (tmp_path / "f").mkdir()
    ran = subprocess.run(
        [sys.executable, *map(str, driver)], capture_output=True, text=True, timeout=200,
        env={**os.environ, **_fault(_EPERM)}, cwd=Path(__file__).parents[2], check=True,
    )  # fmt: skip
    steps = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(steps) > 2
    for number, name, killed, status, found in steps:
        assert (killed, status) == (-signal.SIGKILL, 0), (number, name, ran.stderr)
        assert found == tree(whole), (number, name)


def test_direct_writes_that_are_refused(
    source: Path, alone: dict[str, str], tmp_path: Path
) -> None:
    for fault in ("no-direct", "no-direct writes"):
        cache = tmp_path / fault
        ran = run_cli("build", source, cache, *_RECIPE, "--jobs", "1", env=_fault(fault))
        assert ran.returncode == 0, ran.stderr
        assert tree(cache) == alone


@pytest.fixture(params=["links", "no links"])
def poor(request: pytest.FixtureRequest) -> list[str]:
    """With hard links, and without."""
    return [] if request.param == "links" else [_EPERM]


def _nodes(log: Path, poor: list[str]) -> Iterator[tuple[str, ...]]:
    """Faults of nodes that see what others name two seconds late, with clocks of their own."""
    for node, clock in (("a", 86_400), ("b", -7200), ("c", 4e8)):
        yield (*poor, f"clock {clock}", f"late {node} {log} 2")


def test_names_seen_late_by_nodes_whose_clocks_are_wrong(
    source: Path, alone: dict[str, str], tmp_path: Path, poor: list[str]
) -> None:
    """One plans, all convert, another one commits at once, and a third one reads."""
    cache = tmp_path / "cache"
    a, b, c = _nodes(tmp_path / "log", poor)
    _ended([_start(["plan", source, cache, *_RECIPE, "--jobs", "1"], *a)])
    runs = [_start(["convert", cache, "--jobs", "1"], *node) for node in (a, b, c)]
    while any(run.poll() is None for run in runs):
        watched = _start(["info", cache, "--json"], *c)
        said, wrong = watched.communicate(timeout=60)
        assert watched.returncode == 0, wrong
        left = json.loads(said)["seconds_left"]
        assert left is None or left >= 0
        time.sleep(1)
    _ended(runs)
    _ended([_start(["commit", cache], *b)])
    assert tree(cache) == alone


def test_builds_at_once_that_see_each_other_late(
    source: Path, alone: dict[str, str], tmp_path: Path, poor: list[str]
) -> None:
    cache = tmp_path / "cache"
    build = ["build", source, cache, *_RECIPE, "--jobs", "1"]
    _ended([_start(build, *node) for node in _nodes(tmp_path / "log", poor)])
    assert tree(cache) == alone


def test_a_receipt_that_was_removed_by_hand(source: Path, tmp_path: Path) -> None:
    """The remedy of a damaged one holds without links, too."""
    cache = tmp_path / "cache"
    assert run_cli("plan", source, cache, *_RECIPE, env=_fault(_EPERM)).returncode == 0
    assert run_here("convert", cache, "--jobs", "1").returncode == 0
    state = load_job(cache).state
    receipt = sorted((state / "receipts").glob("*.arrow"))[0]
    receipt.write_bytes(b"damaged")
    assert "remove it and run `dicom2cache convert` again" in run_here("commit", cache).stderr
    receipt.unlink()
    assert run_here("convert", cache, "--jobs", "1").returncode == 0
    assert run_here("commit", cache).returncode == 0
    assert not (cache / "build").exists()
