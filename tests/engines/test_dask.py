"""Builds on Dask: a scheduler and workers that are processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.caches import built, command, run_cli, tree
from tests.support.dicom_files import write_series
from tests.support.faults import with_fault

_FLAGS = ("--shard-mib", "1")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write_series(folder, 48)
    return folder


@pytest.fixture(scope="module")
def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The cache that a build on this machine alone makes."""
    return tree(built(source, tmp_path_factory.mktemp("local") / "cache", *_FLAGS))


@contextmanager
def _process(module: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
        env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Path]:
    """The file that a running scheduler has written."""
    file = tmp_path / "scheduler.json"
    with _process("dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)):
        while not file.exists():
            time.sleep(0.1)
        yield file


def _worker(scheduler: Path, nanny: bool = True) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker of one thread; converting a shard takes it half a second."""
    return _process(
        "dask_worker", "--scheduler-file", str(scheduler), "--nthreads", "1", "--no-dashboard",
        "--nanny" if nanny else "--no-nanny", **with_fault("slow-publish"),
    )  # fmt: skip


def _holders(cache: Path) -> set[int]:
    """Processes that work on a shard now."""
    found = set()
    for path in cache.glob("build/*/claims/*"):
        try:
            found.add(int(json.loads(path.read_text()[12:])["pid"]))
        except (ValueError, FileNotFoundError):
            continue
    return found


def test_one_worker_is_killed_and_one_comes_late(
    source: Path, local: dict[str, str], scheduler: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    build = command("build", source, cache, *_FLAGS, "--backend", "dask", "--scheduler", scheduler)
    with (
        _worker(scheduler, nanny=False) as first,
        _worker(scheduler),
        subprocess.Popen(build, stderr=subprocess.PIPE, text=True) as run,
    ):
        while len(_holders(cache)) < 2:
            assert run.poll() is None, run.communicate()[1]
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        before, seen = _holders(cache), set()
        with _worker(scheduler) as late:
            while run.poll() is None:
                seen |= _holders(cache)
                time.sleep(0.05)
            assert late.poll() is None
        _, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert seen - before, "the late worker was given nothing"
    assert tree(cache) == local


def test_no_worker_is_there_yet(
    source: Path, local: dict[str, str], scheduler: Path, tmp_path: Path
) -> None:
    """The workers do all of it, be there none or one of one thread when the build begins."""
    cache, seen = tmp_path / "cache", set()
    build = command("build", source, cache, *_FLAGS, "--backend", "dask", "--scheduler", scheduler)
    with subprocess.Popen(build, stderr=subprocess.PIPE, text=True) as run:
        time.sleep(12)  # joblib gives up after 10
        with _worker(scheduler, nanny=False) as first:
            while run.poll() is None:
                seen |= _holders(cache)
                time.sleep(0.05)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert "no worker of Dask is there yet; waiting for one" in said
    assert seen == {first.pid}
    assert tree(cache) == local


def test_by_address_in_steps(
    source: Path, local: dict[str, str], scheduler: Path, tmp_path: Path
) -> None:
    address = json.loads(scheduler.read_text())["address"]
    cache = tmp_path / "cache"
    engine = ("--backend", "dask", "--scheduler", address)
    with _worker(scheduler), _worker(scheduler):
        for arguments in (
            ("plan", source, cache, *_FLAGS, *engine), ("convert", cache, *engine),
            ("commit", cache),
        ):  # fmt: skip
            ran = run_cli(*arguments)
            assert ran.returncode == 0, ran.stderr
    assert tree(cache) == local


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--backend", "dask"), "no client of Dask here; give --scheduler ADDRESS or its file"),
        (("--backend", "dask", "--scheduler", "nonsense://x"), "no scheduler of Dask there"),
        (("--scheduler", "tcp://h:1"), "a scheduler is for dask, not for loky"),
        (("--backend", "ray"), "--backend ray; legal: loky, threading, dask"),
    ],
)
def test_no_cluster(source: Path, tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    ran = run_cli("build", source, tmp_path / "cache", *arguments)
    assert ran.returncode == 2
    assert why in ran.stderr
    assert "Traceback" not in ran.stderr
