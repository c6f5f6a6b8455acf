"""What starts with a command: what it and its workers import, and where a fork may be."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.dicom_files import write_series

_TOLD = """
import atexit, os, sys
from dicom2cache.cli import start
from dicom2cache.running import seed
serves = seed.answer
def serve(pipe):
    serves(pipe)
    print("seed" if pipe is seed._pipe else "worker", *sys.modules, flush=True)
seed.answer = serve
atexit.register(lambda: print("command", *sys.modules))
start.main()
"""
SLOW = {
    "pandas", "joblib", "pydicom", "pydantic", "zarr", "torch", "PIL", "imagecodecs._avif", "rich",
    "trainer_adapter", "scipy", "matplotlib", "numcodecs",
    "pyarrow.dataset", "importlib.metadata", "concurrent.futures.process",
}  # fmt: skip
OTHERS = {
    f"dicom2cache.{name}"
    for name in (
        "cli.exporting", "cli.sbatch", "cli.keys", "cli.checking", "running.update",
        "running.repair", "running.verify", "running.merge", "running.proof.apart",
        "planning.continuing",
    )
}  # fmt: skip
"""of ours, what other commands and other files need"""
ONLY_COMMANDS = {
    "typer", "imagecodecs", "dicom2cache.cli.app", "dicom2cache.pipeline",
    "dicom2cache.planning.plan", "dicom2cache.running.commit", "dicom2cache.sources.find",
}  # fmt: skip
"""what no worker needs"""


def _imported(command: str, folder: Path, jobs: str) -> dict[str, set[str]]:
    """{"command", "seed" and "worker": modules that it has at its end}."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", _TOLD, command, "source", "cache", "--jobs", jobs],
        check=False, capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = [line.split() for line in ran.stdout.splitlines()]
    return {who: set(names) for who, *names in told if who in ("seed", "worker", "command")}


@pytest.mark.skipif(sys.platform != "linux", reason="a worker is forked on Linux")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_a_build_of_four_files_imports(tmp_path: Path, jobs: str) -> None:
    for name in ("pandas", "joblib", "pydicom", "torch", "rich"):
        assert find_spec(name), "what is not installed is not imported either"
    write_series(tmp_path / "source", 4, 64)
    found = _imported("build", tmp_path, jobs)
    assert found.keys() == {"command", "seed", "worker"}, "the worker was not forked"
    assert found["worker"] - found["seed"] == set(), "each worker imports it"
    assert not found["command"] & (SLOW | OTHERS)
    assert not found["worker"] & (SLOW | OTHERS | ONLY_COMMANDS)
    own = {who: {n for n in names if n.startswith("dicom2cache.")} for who, names in found.items()}
    assert len(own["command"]) <= 230
    assert len(own["worker"]) <= 150
    found = _imported("update", tmp_path, jobs)
    assert found.keys() == {"command", "seed"}  # there is nothing new
    for names in found.values():
        assert not names & (SLOW | {"dicom2cache.frames.decode", "dicom2cache.planning.plan"})


def test_streams_that_are_closed(tmp_path: Path) -> None:
    """Their numbers are not those of the pipe to the worker, nor of a shard."""
    write_series(tmp_path / "source", 2, 64)
    command = f"exec {sys.executable} -m dicom2cache build source cache --jobs 1 <&- >&-"
    ran = subprocess.run(["/bin/sh", "-c", command], check=False, cwd=tmp_path, timeout=120)
    assert ran.returncode == 0
    assert (tmp_path / "cache" / "zarr.json").exists()


_THREADS = """
import threading
from dicom2cache.sources import system
end = threading.Event()
threading.Thread(target=end.wait).start()
print(system.fork())
end.set()
"""


def test_a_process_with_threads_does_not_fork() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", _THREADS], check=True, capture_output=True, text=True
    )
    assert ran.stdout == "None\n"
