"""Several processes, and nodes, share a plan: who does which shard, and what is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dicom2cache import CacheError, Recipe, pipeline
from dicom2cache.running import claims, execute
from dicom2cache.running.job import Job
from dicom2cache.running.shares import Share, share_of
from tests.running.claimed import begin_all_and_die, claim_elsewhere
from tests.support.caches import run_cli, run_here, tree
from tests.support.dicom_files import pattern, write_dicom
from tests.support.faults import with_fault

_CONVERT = """
import logging, sys
from dicom2cache import convert
logging.basicConfig(level=logging.INFO)
convert(sys.argv[1], jobs=int(sys.argv[2]))
"""
_SHARDS = 12


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files for twelve shards of 1 MiB."""
    folder = tmp_path_factory.mktemp("claims")
    for k in range(2 * _SHARDS):
        write_dicom(folder / f"s{k:02}.dcm", pattern(f"{k}", (512, 512)), InstanceNumber=k)
    return folder


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The cache that one process makes."""
    cache = tmp_path_factory.mktemp("alone") / "cache"
    pipeline.build(source, cache, Recipe(shard_mib=1), jobs=1)
    return tree(cache)


def _planned(source: Path, cache: Path) -> Job:
    job = pipeline.plan(source, cache, Recipe(shard_mib=1), jobs=1)
    assert job is not None
    assert len(job.tasks) == _SHARDS
    return job


def _converting(cache: Path, jobs: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _CONVERT, str(cache), str(jobs)], start_new_session=True,
        env={**os.environ, **with_fault("slow-publish")}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_several_take_what_is_not_done(source: Path, alone: dict[str, str], tmp_path: Path) -> None:
    """Three commands without a part: the work is shared out, and few shards are done twice."""
    cache = tmp_path / "cache"
    _planned(source, cache)
    runs = [_converting(cache, jobs) for jobs in (1, 1, 2)]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    assert sum(text.count("was done twice") for text in said) <= 2
    pipeline.commit(cache)
    assert tree(cache) == alone


def test_one_of_several_is_killed(source: Path, alone: dict[str, str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    _planned(source, cache)
    runs = [_converting(cache, 1) for _ in range(2)]
    while not list(cache.glob("build/*/receipts/*")):
        assert [run.poll() for run in runs] == [None, None]
        time.sleep(0.02)
    os.killpg(runs[0].pid, signal.SIGKILL)
    runs[0].communicate(timeout=60)
    _, said = runs[1].communicate(timeout=120)
    assert runs[1].returncode == 0, said
    pipeline.commit(cache)
    assert tree(cache) == alone


def test_a_claim_of_another_machine_is_waited_for(
    source: Path, alone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its counter is raised it is left alone; once that stops, it is taken over."""
    monkeypatch.setattr(claims, "STALE", 3.0)
    monkeypatch.setattr(execute, "_LOOK", 0.1)
    cache = tmp_path / "cache"
    job = _planned(source, cache)
    claim_elsewhere(job, job.tasks[4])
    over = threading.Event()

    def beat() -> None:
        number = 1
        while not over.wait(0.2):
            claim_elsewhere(job, job.tasks[4], number)
            number += 1

    def convert() -> None:
        pipeline.convert(cache, jobs=1)

    heart, run = threading.Thread(target=beat), threading.Thread(target=convert)
    heart.start()
    run.start()
    while len(list(job.state.glob("receipts/*"))) < _SHARDS - 1:
        time.sleep(0.1)
    time.sleep(4.0)  # more than it takes to be stale
    assert not (job.state / "receipts" / f"{job.tasks[4].name}.arrow").exists()
    over.set()
    heart.join()
    run.join(timeout=60)
    pipeline.commit(cache)
    assert tree(cache) == alone


def test_claims_of_processes_that_are_gone_are_taken_over_at_once(
    source: Path, tmp_path: Path
) -> None:
    job = _planned(source, tmp_path / "cache")
    begin_all_and_die(tmp_path / "cache")
    free, left = claims.Watch(job).look(job.tasks)
    assert (len(free), len(left)) == (_SHARDS, _SHARDS)
    claim = claims.take(job, job.tasks[0])
    assert claim is not None
    assert claim.left_behind


def test_a_number_that_another_process_got_is_not_the_holder(source: Path, tmp_path: Path) -> None:
    job = _planned(source, tmp_path / "cache")
    claim = claims.take(job, job.tasks[0])
    assert claim is not None
    assert claims.take(job, job.tasks[0]) is None  # this process holds it
    said = claim.path.read_text()
    holder = json.loads(said[12:])
    claim.path.write_text(said[:13] + json.dumps({**holder, "started": holder["started"] - 1}))
    assert claims.take(job, job.tasks[0]) is not None


@pytest.mark.parametrize(
    "said",
    ["", "x", "000000000000 {", '000000000000 {"host": 1}', "000000000000 []", "\x00" * 99],
)
def test_a_claim_that_says_nothing(
    source: Path, tmp_path: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node may have died between two writes: it counts as held until it is stale."""
    job = _planned(source, tmp_path / "cache")
    (job.state / "claims" / job.tasks[0].name).write_text(said)
    watch = claims.Watch(job)
    assert len(watch.look(job.tasks)[0]) == _SHARDS - 1
    monkeypatch.setattr(claims, "STALE", 0.0)
    free, left = watch.look(job.tasks)
    assert (len(free), list(left.values())) == (_SHARDS, [said])
    claim = claims.take(job, job.tasks[0], over=said)
    assert claim is not None
    assert claim.left_behind


def test_a_beat_raises_the_counter_of_its_own_claim_only(source: Path, tmp_path: Path) -> None:
    job = _planned(source, tmp_path / "cache")
    claim = claims.take(job, job.tasks[0])
    assert claim is not None
    assert claim.beat()
    assert claim.path.read_text().startswith("000000000001 {")
    claim_elsewhere(job, job.tasks[0], 7)
    assert not claim.beat()
    assert claim.path.read_text().startswith("000000000007 {")


def test_an_interrupted_run_leaves_no_claim(source: Path, tmp_path: Path) -> None:
    """What another node then does need not wait, and nothing has died of a frame."""
    cache = tmp_path / "cache"
    job = _planned(source, cache)
    run = _converting(cache, 1)
    while not list(job.state.glob("receipts/*")):
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert list(job.state.glob("claims/*")) == []


SHARES = [
    ("0/1", None, Share(0, 1)),
    ("3/64", None, Share(3, 64)),
    ((3, 64), None, Share(3, 64)),
    ("slurm/64", "63", Share(63, 64, True)),
    ("slurm/64", "0", Share(0, 64, True)),
]


@pytest.mark.parametrize(("said", "task", "expected"), SHARES)
def test_shares(said: str | tuple[int, int], task: str | None, expected: Share) -> None:
    environment = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1"}
    if task is not None:
        environment["SLURM_ARRAY_TASK_ID"] = task
    assert share_of(said, environment) == expected


@pytest.mark.parametrize(
    ("said", "task", "why"),
    [
        ("slurm/64", "64", "SLURM_ARRAY_TASK_ID=64; legal: I/N with I from 0 to N-1"),
        ("slurm/64", "-1", "SLURM_ARRAY_TASK_ID=-1"),
        ("slurm/64", None, "SLURM_ARRAY_TASK_ID is not set; submit an array"),
        ("slurm", "0", "legal: I/N"),
        ("slurm/0", "0", "legal: I/N"),
        ("slurm/x", "0", "legal: I/N"),
        ("2/2", None, "legal: I/N"),
        ("1", None, "legal: I/N"),
        ((-1, 2), None, "legal: I/N"),
    ],
)
def test_no_share(said: str | tuple[int, int], task: str | None, why: str) -> None:
    environment = {} if task is None else {"SLURM_ARRAY_TASK_ID": task}
    with pytest.raises(ValueError, match=why):
        share_of(said, environment)


def test_all_tasks_of_an_array_share_the_plan_alike(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    _planned(source, cache)
    for task in ("0", "3"):
        env = {"SLURM_ARRAY_TASK_ID": task}
        ran = run_cli("convert", cache, "--part", "slurm/4", "--jobs", "1", env=env)
        assert ran.returncode == 0, ran.stderr
    ran = run_cli("convert", cache, "--part", "slurm/5", env={"SLURM_ARRAY_TASK_ID": "1"})
    assert ran.returncode == 2
    assert "the first part here was one of 4, this one is of 5" in ran.stderr
    assert "--part slurm/4, or no --part" in ran.stderr
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    with pytest.raises(CacheError, match="one of 4"):
        pipeline.convert(cache, part="slurm/8", jobs=1)
    assert run_here("convert", cache, "--part", "1/3", "--jobs", "1").returncode == 0


def test_info_says_how_far_it_is(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    job = _planned(source, cache)
    ran = run_here("info", cache)
    assert ran.returncode == 0
    assert "converting: 0 of 12 shards, 0 of 24 frames" in ran.stdout
    assert "nobody works on it" in ran.stdout
    assert run_here("convert", cache, "--part", "0/2", "--jobs", "1").returncode == 0
    open_tasks = [t for t in job.tasks if not (job.state / f"receipts/{t.name}.arrow").exists()]
    claim_elsewhere(job, open_tasks[0])
    ran = run_here("info", cache)
    assert "converting: 6 of 12 shards, 12 of 24 frames, about " in ran.stdout
    assert f"on node7: 1 ({open_tasks[0].name})" in ran.stdout
    said = json.loads(run_here("info", cache, "--json").stdout)
    assert (said["shards_done"], said["holders"]) == (6, {"node7": [open_tasks[0].name]})


def test_info_watches_until_the_cache_is_there(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    job = _planned(source, cache)
    with subprocess.Popen(
        [sys.executable, "-m", "dicom2cache", "info", str(cache), "--watch"],
        stdout=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        assert "0 of 12 shards" in watching.stdout.readline()
        pipeline.convert(cache, jobs=1)
        pipeline.commit(cache)
        said = watching.stdout.read()
        assert watching.wait(timeout=60) == 0
    assert "24 frames of 24 files" in said
    assert job.tasks
