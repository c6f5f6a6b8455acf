"""The batch script, submitted to a real Slurm of two nodes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.caches import built, run_here, tree
from tests.support.dicom_files import write_series

_FLAGS = ("--shard-mib", "1")
_PATIENCE = 150  # seconds


@dataclass(frozen=True)
class Jobs:
    """What was submitted."""

    environment: dict[str, str]
    folder: Path
    cache: Path
    script: Path

    def run(self, *command: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def states(self, job: str) -> dict[str, str]:
        """{task, or job: its state} of a job, while Slurm remembers it."""
        said = self.run("scontrol", "show", "job", "--oneliner", job)
        found = {}
        for line in said.splitlines():
            about = dict(re.findall(r"(\w+)=(\S*)", line))
            found[about.get("ArrayTaskId", about["JobId"])] = about["JobState"]
        return found

    def wait(self, job: str) -> dict[str, str]:
        """The states once none of the job's tasks waits or runs."""
        self.until(
            lambda: (
                not {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"}
                & set(self.states(job).values())
            ),
            f"{job} to end",
        )
        return self.states(job)

    def until(self, true: Callable[[], object], what: str) -> None:
        """Wait for something; says what the jobs printed if it does not come."""
        end = time.monotonic() + _PATIENCE
        while not true():
            assert time.monotonic() < end, f"waited for {what}; {self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """What the jobs printed."""
        queue = self.run("squeue", "-a")
        return queue + "\n".join(f"{p.name}: {p.read_text()}" for p in self.folder.glob("*.log"))

    def workers(self) -> dict[str, int]:
        """{shard: number of the process that works on it}."""
        found = {}
        for path in self.cache.glob("build/*/claims/*"):
            try:
                found[path.name] = int(json.loads(path.read_text()[12:])["pid"])
            except (ValueError, KeyError, FileNotFoundError):
                continue
        return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "my scans"  # a name that must be quoted
    write_series(folder, 48)
    (folder / "broken.dcm").write_bytes((folder / "slice000.dcm").read_bytes()[:3000])
    return folder


@pytest.fixture(scope="module")
def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The cache that a build on one machine makes."""
    cache = tmp_path_factory.mktemp("local") / "cache"
    return tree(built(source, cache, *_FLAGS, status=1))


def _jobs(slurm: dict[str, str], source: Path, folder: Path, *options: object) -> Jobs:
    cache, script = folder / "cache", folder / "job.sbatch"
    ran = run_here(
        "slurm", source, cache, *_FLAGS, "--time", "10:00", "--cpus", "1", "-o", script, *options
    )
    assert ran.returncode == 0, ran.stderr
    return Jobs(slurm, folder, cache, script)


def _submitted(jobs: Jobs) -> dict[str, str]:
    """{step: number of its job}."""
    said = jobs.run("bash", str(jobs.script))
    return dict(re.findall(r"(plan|convert|commit) (\d+)", said))


def test_the_script_makes_the_cache(
    slurm: dict[str, str], source: Path, local: dict[str, str], tmp_path: Path
) -> None:
    """Bad files are status 1, and stop nothing."""
    jobs = _jobs(slurm, source, tmp_path, "--nodes", "2", "--array", "6")
    numbers = _submitted(jobs)
    jobs.wait(numbers["commit"])
    assert (jobs.cache / "zarr.json").exists(), jobs.logs()
    assert tree(jobs.cache) == local
    assert set(jobs.states(numbers["convert"])) == set("012345")


def _parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def test_tasks_that_are_killed_cancelled_and_requeued(
    slurm: dict[str, str], source: Path, local: dict[str, str], tmp_path: Path
) -> None:
    """What is left is done by a smaller array, which takes whatever is not done."""
    jobs = _jobs(slurm, source, tmp_path, "--nodes", "2", "--array", "4")
    numbers = _submitted(jobs)
    array = numbers["convert"]
    jobs.until(jobs.workers, "a task to begin")
    worker = next(iter(jobs.workers().values()))
    command = _parent(_parent(worker))  # a worker alone, or what it was forked from, is replaced
    os.kill(command, signal.SIGKILL)  # the node's memory killer, say
    jobs.run("scancel", f"{array}_3")
    jobs.until(lambda: "FAILED" in jobs.states(array).values(), "a task to have failed")
    jobs.until(lambda: "RUNNING" in jobs.states(array).values(), "a task to run")
    running = [task for task, state in jobs.states(array).items() if state == "RUNNING"]
    jobs.until(jobs.workers, "a shard to be under way")
    jobs.run("scontrol", "requeue", f"{array}_{running[0]}")
    time.sleep(1)
    jobs.run("scontrol", "update", f"JobId={array}_{running[0]}", "StartTime=now")
    states = jobs.wait(array)
    assert "FAILED" in states.values(), f"{states}; {jobs.logs()}"
    assert states.get("3") in (None, "CANCELLED"), f"{states}; {jobs.logs()}"
    jobs.wait(numbers["commit"])
    assert not (jobs.cache / "zarr.json").exists(), "commit was to refuse: shards are missing"
    assert "is not converted" in jobs.logs()

    said = jobs.run("sbatch", "--parsable", "--array=0-1", str(jobs.script), "rest").strip()
    assert set(jobs.wait(said).values()) == {"COMPLETED"}, jobs.logs()
    last = jobs.run("sbatch", "--parsable", str(jobs.script), "commit").strip()
    jobs.wait(last)
    assert (jobs.cache / "zarr.json").exists(), jobs.logs()
    assert tree(jobs.cache) == local
