"""Several processes at one cache, and runs that are ended from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dicom2cache import Recipe, build, pipeline
from dicom2cache.frames.isolate import without_interrupts
from dicom2cache.running import execute, job, receipts, target
from dicom2cache.running.job import load_job
from tests.running.claimed import begin_all_and_die
from tests.support.caches import by_path, command, failures, run_cli, run_here, table, tree
from tests.support.dicom_files import pattern, write_dicom
from tests.support.faults import slow_run, wait_for, wavelets, with_fault
from tests.support.plans import sign_plan

_FLAGS = ("--shard-mib", "1")


def _squares(folder: Path, what: str, count: int) -> None:
    for k in range(count):
        write_dicom(folder / f"s{k:02}.dcm", pattern(f"{what}{k}", (512, 512)), InstanceNumber=k)


def _check_squares(cache: Path, what: str, count: int) -> None:
    found = {path: pixels for (path, _), (_, pixels) in by_path(cache).items()}
    assert sorted(found) == [f"s{k:02}.dcm" for k in range(count)]
    for k in range(count):
        assert np.array_equal(found[f"s{k:02}.dcm"], pattern(f"{what}{k}", (512, 512))), k


_SCRIPT = """
import sys
from dicom2cache import Recipe, build

print("begin")
counts = build("source", "cache", Recipe(shard_mib=1), jobs=int(sys.argv[1]))
print(counts["frames_stored"], counts["files_failed"], counts["files_duplicate"])
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_script_without_a_guard(tmp_path: Path, jobs: str) -> None:
    """The README's: a process that decodes in isolation does not run the script once more."""
    _, digest = wavelets(tmp_path / "source")
    shutil.copy(tmp_path / "source" / "j2.dcm", tmp_path / "source" / "copy.dcm")
    (tmp_path / "script.py").write_text(_SCRIPT)
    fault = with_fault("abort-decoder", digest)
    fault["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[2])
    env = {**os.environ, **fault}
    script = [sys.executable, "script.py", jobs]
    run = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "timeout": 60}
    ran = subprocess.run(script, **run, check=False)
    assert (ran.returncode, ran.stdout) == (0, "begin\n5 1 1\n"), ran.stderr
    reasons = {path: reason for (path, _), (_, reason) in failures(tmp_path / "cache").items()}
    assert reasons["j3.dcm"] == "the decoder died (SIGABRT); the file may be damaged"


def test_no_process_to_decode_in(tmp_path: Path) -> None:
    """That is the machine's fault, and no file's."""
    wavelets(tmp_path / "source")
    shutil.copy(tmp_path / "source" / "j2.dcm", tmp_path / "source" / "copy.dcm")
    again = ("build", tmp_path / "source", tmp_path / "cache", *_FLAGS, "--jobs", "1")
    ran = run_cli(*again, env=with_fault("abort-isolated"))
    assert ran.returncode == 2
    assert "the decoding process could not be started: SIGABRT" in ran.stderr
    assert not (tmp_path / "cache" / "zarr.json").exists()


def test_plan_is_replaced_while_another_run_converts(tmp_path: Path) -> None:
    """Shards of one plan never end up under the frames of another."""
    cache = tmp_path / "cache"
    _squares(tmp_path / "old", "old", 12)
    _squares(tmp_path / "new", "new", 12)
    assert run_here("plan", tmp_path / "old", cache, *_FLAGS).returncode == 0
    with slow_run("convert", cache, "--jobs", "2") as old:
        wait_for(cache, "build/*/receipts/*", old)
        new = ("build", tmp_path / "new", cache, *_FLAGS, "--jobs", "1", "--overwrite")
        assert run_here(*new).returncode == 0
        _, said = old.communicate(timeout=60)
    assert old.returncode == 2, said
    assert "another process has replaced the plan of this run" in said
    assert "Traceback" not in said
    _check_squares(cache, "new", 12)
    assert run_here("verify", cache).returncode == 0


def test_same_plan_made_anew_is_another_plan(tmp_path: Path) -> None:
    _squares(tmp_path / "source", "a", 2)
    cache = tmp_path / "cache"
    old = pipeline.plan(tmp_path / "source", cache, jobs=1)
    assert old is not None
    again = pipeline.plan(tmp_path / "source", cache, jobs=1)
    assert again is not None
    assert again.nonce == old.nonce  # a run that goes on
    new = pipeline.plan(tmp_path / "source", cache, jobs=1, overwrite=True)
    assert new is not None
    assert (new.identity, new.nonce == old.nonce) == (old.identity, False)
    with pytest.raises(RuntimeError, match="another process has replaced the plan"):
        execute.convert_task(str(cache), old.nonce, old.tasks[0])
    pipeline.convert(cache, jobs=1)
    pipeline.commit(cache)
    assert not (cache / "build").exists()  # two builds are the same, byte for byte


def test_old_shard_that_cannot_be_removed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    _squares(tmp_path / "old", "old", 4)
    _squares(tmp_path / "new", "new", 4)
    old = ("build", tmp_path / "old", cache, *_FLAGS, "--jobs", "1")
    assert run_here(*old).returncode == 0
    new = ("build", tmp_path / "new", cache, *_FLAGS, "--jobs", "1", "--overwrite")
    ran = run_cli(*new, env=with_fault("keep", "c.1.0.0"))
    assert ran.returncode == 2
    assert f"{cache}/uint16_512x512/c.1.0.0: cannot be removed" in ran.stderr
    assert not (cache / "zarr.json").exists()
    assert run_here(*new).returncode == 0
    _check_squares(cache, "new", 4)


def test_foreign_file_in_the_place_of_a_shard(tmp_path: Path) -> None:
    """As of a cache that was here before: the same size, and the same index, other pixels."""
    cache, before = tmp_path / "cache", tmp_path / "before"
    _squares(tmp_path / "old", "old", 4)
    _squares(tmp_path / "new", "new", 4)
    build(tmp_path / "old", before, Recipe(shard_mib=1), jobs=1)
    pipeline.plan(tmp_path / "new", cache, Recipe(shard_mib=1), jobs=1)
    shutil.copytree(before / "uint16_512x512", cache / "uint16_512x512")
    pipeline.convert(cache, jobs=1)
    pipeline.commit(cache)
    _check_squares(cache, "new", 4)


def test_receipt_of_another_plan_is_refused(tmp_path: Path) -> None:
    cache, other = tmp_path / "cache", tmp_path / "other"
    _squares(tmp_path / "source", "a", 3)  # shards of two frames and of one
    job = pipeline.plan(tmp_path / "source", cache, Recipe(shard_mib=1), jobs=1)
    assert job is not None
    pipeline.convert(cache, jobs=1)
    first, last = (receipts.receipt_path(job, task) for task in job.tasks)
    shutil.copy(cache / "uint16_512x512" / "c.0.0.0", cache / "uint16_512x512" / "c.1.0.0")
    shutil.copy(first, last)
    ran = run_here("commit", cache)
    assert (ran.returncode, "damaged (results of other frames)" in ran.stderr) == (2, True)
    assert not other.exists()


@pytest.mark.parametrize(
    ("number", "jobs"),
    [
        (signal.SIGKILL, 2), (signal.SIGTERM, 2), (signal.SIGINT, 2),
        (signal.SIGKILL, 1), (signal.SIGINT, 1),  # by a worker that was forked
    ],
)  # fmt: skip
def test_workers_end_with_their_run(
    tmp_path: Path, ct_series: Path, number: int, jobs: int
) -> None:
    cache = tmp_path / "cache"
    with slow_run("build", ct_series, cache, *_FLAGS, "--jobs", jobs) as run:
        wait_for(cache, "build/*/receipts/*", run)
        run.send_signal(number)
        # Its end is the end of all processes that can write to its stderr.
        _, said = run.communicate(timeout=30)
    if number == signal.SIGKILL:
        assert run.returncode == -number
        return
    assert run.returncode == 130
    assert said.rstrip().endswith("interrupted; run the same command again to go on"), said
    assert "Traceback" not in said


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupt_from_the_keyboard(tmp_path: Path, ct_series: Path, jobs: int) -> None:
    """Ctrl-C reaches the workers too."""
    cache = tmp_path / "cache"
    with slow_run("build", ct_series, cache, *_FLAGS, "--jobs", jobs) as run:
        wait_for(cache, "build/*/receipts/*", run)
        os.killpg(run.pid, signal.SIGINT)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "interrupted; run the same command again to go on" in said
    assert run_cli("build", ct_series, cache, *_FLAGS, "--jobs", "1").returncode == 0
    assert len(table(cache, "frames")) == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_processes_are_started(number: int) -> None:
    """In the middle it left semaphores behind that nobody knew yet; other threads get it, too."""
    seen = []
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    before = signal.signal(number, lambda *_: seen.append("handled"))
    try:
        with without_interrupts():
            os.kill(os.getpid(), number)
            time.sleep(0.1)
            seen.append("started")
        assert seen == ["started", "handled"]
    finally:
        signal.signal(number, before)
        over.set()


def test_another_run_commits_before_the_receipt_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _squares(tmp_path / "source", "a", 2)
    source, cache = tmp_path / "source", tmp_path / "cache"
    publish = receipts.publish
    others = []

    def publish_and_let_commit(*arguments: object) -> None:
        publish(*arguments)
        others.append(run_cli("build", source, cache, *_FLAGS, "--jobs", "1").returncode)

    monkeypatch.setattr(receipts, "publish", publish_and_let_commit)
    counts = build(source, cache, Recipe(shard_mib=1), jobs=1, backend="threading")
    assert (counts["frames_stored"], others) == (2, [0])


def test_tasks_of_a_run_that_was_killed_go_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, _ = wavelets(tmp_path / "source")
    cache = tmp_path / "cache"
    job = pipeline.plan(tmp_path / "source", cache, Recipe(shard_mib=1), jobs=1)
    assert job is not None
    begin_all_and_die(cache)
    both, publish = threading.Barrier(2, timeout=60), receipts.publish

    def publish_together(*arguments: object) -> None:
        if arguments[1] != job.tasks[-1]:
            both.wait()
        publish(*arguments)

    monkeypatch.setattr(receipts, "publish", publish_together)
    pipeline.convert(cache, jobs=2, backend="threading")
    pipeline.commit(cache)
    found = {path: values for (path, _), (_, values) in by_path(cache).items()}
    assert sorted(found) == sorted(pixels)
    assert all(np.array_equal(found[name], pixels[name]) for name in pixels)


def test_converter_of_other_versions(tmp_path: Path) -> None:
    _squares(tmp_path / "source", "a", 1)
    cache = tmp_path / "cache"
    assert run_here("plan", tmp_path / "source", cache).returncode == 0
    about = json.loads((cache / "build" / "plan.json").read_text())
    here = about["facts"]["software"]["pydicom"], about["facts"]["codecs"]["openjpeg"]
    sign_plan(cache, lambda about: about["facts"]["software"].update(pydicom="2.4.0"))
    sign_plan(cache, lambda about: about["facts"]["codecs"].update(openjpeg="2.4.9"))
    ran = run_here("convert", cache)
    assert ran.returncode == 2
    assert f"openjpeg 2.4.9 planned, {here[1]} here; pydicom 2.4.0 planned, {here[0]}" in ran.stderr
    job = load_job(cache)
    with pytest.raises(ValueError, match=r"openjpeg 2\.4\.9 planned"):  # on a node of Dask
        execute.convert_elsewhere(str(cache), job.nonce, job.tasks[0], False)
    assert not list(cache.glob("*/c.*"))


def test_runs_at_once_share_a_plan(tmp_path: Path) -> None:
    """Several that plan the same at the same time come to one plan."""
    _squares(tmp_path / "source", "a", 2)
    plan = command("plan", tmp_path / "source", tmp_path / "cache")
    runs = [subprocess.Popen(plan, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [run.wait(timeout=60) for run in runs] == [0] * 3
    state = [path for path in (tmp_path / "cache" / "build").iterdir() if path.is_dir()]
    nonce = json.loads((tmp_path / "cache" / "build" / "plan.json").read_text())["nonce"]
    assert [path.name for path in state] == [nonce]
    assert run_here("convert", tmp_path / "cache", "--jobs", "1").returncode == 0
    assert run_here("commit", tmp_path / "cache").returncode == 0
    assert tree(tmp_path / "cache")


def test_a_plan_that_is_named_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process names its plan just after this one found none: no stranger's folder."""
    (tmp_path / "build").mkdir()

    def none_yet(cache: Path) -> None:
        monkeypatch.undo()
        (cache / "build" / "plan.json").write_text('{"identity": "another\'s"}')

    monkeypatch.setattr(job, "planned_identity", none_yet)
    target.check(tmp_path)
    assert job.planned_identity(tmp_path) == "another's"
