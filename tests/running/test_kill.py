"""Whole or absent: processes that are killed, decoders that abort, disks that fill up."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.caches import Ran, attributes, by_path, command, failures, run_cli, table, tree
from tests.support.dicom_files import uid, write_series
from tests.support.faults import wavelets, with_fault
from tests.support.processes import under_way
from tests.support.share import stride


def test_killed_once_the_first_receipt_is_there(
    tmp_path: Path, ct_series: Path, ct_series_cache: Path
) -> None:
    cache = tmp_path / "cache"
    again = ("build", ct_series, cache, "--shard-mib", "1", "--jobs", "2")
    with under_way(cache, again, with_fault("slow-publish;", "all-workers")) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (cache / "zarr.json").exists()
        # Its workers may be at work still: they must not harm who goes on.
        ran = run_cli(*again)
    assert (ran.returncode, ran.stderr) == (0, ran.stderr)
    assert tree(cache) == tree(ct_series_cache)


def test_the_same_command_several_times_at_once(tmp_path: Path, ct_series: Path) -> None:
    cache = tmp_path / "cache"
    again = command("build", ct_series, cache, "--shard-mib", "1", "--jobs", "1")
    runs = [
        subprocess.Popen(again, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ended = [(run.communicate(timeout=300), run.returncode) for run in runs]
    assert [code for _, code in ended] == [0] * 4, ended
    alone = run_cli("build", ct_series, tmp_path / "alone", "--shard-mib", "1", "--jobs", "1")
    assert alone.returncode == 0
    assert tree(cache) == tree(tmp_path / "alone")


@pytest.mark.parametrize(("codec", "every"), [("none", 3), ("auto", 7)])
def test_killed_before_durable_steps(tmp_path: Path, codec: str, every: int) -> None:
    """Before every third, or seventh; before each: `make test-more`."""
    every = stride(every)
    source = tmp_path / "source"
    write_series(source, 2, size=700)  # 0.93 MiB a frame: two shards
    flags = ("--shard-mib", "1", "--jobs", "1", "--codec", codec)
    undisturbed = run_cli("build", source, tmp_path / "whole", *flags)
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = tree(tmp_path / "whole")
    assert len([name for name in expected if "/c." in name]) == 2
    driver = ["-m", "tests.support.kill_at_each_step"]
    halves = [
        subprocess.Popen(
            [sys.executable, *driver, source, tmp_path, str(first), str(2 * every), codec],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )
        for first in (0, every)
    ]  # fmt: skip
    said = [half.communicate(timeout=300) for half in halves]
    steps = [json.loads(line) for out, _ in said for line in out.splitlines()]
    for number, name, killed, status, found in steps:
        where = f"killed before step {number}, {name}: {said[number // every % 2][1]}"
        assert (killed, status) == (-signal.SIGKILL, 0), where
        assert found == expected, where
    # Plan, two shards with their receipts, tables, metadata and root.
    assert {name for _, name, *_ in steps} >= {"fsync", "link"}
    assert len(steps) > 40 // every
    assert [half.returncode for half in halves] == [0, 0]


def _check_one_lost(cache: Path, ran: Ran, pixels: dict[str, np.ndarray]) -> None:
    assert ran.returncode == 1, ran.stderr
    assert failures(cache) == {
        ("j3.dcm", 0): ("failed", "the decoder died (SIGABRT); the file may be damaged")
    }
    found = by_path(cache)
    assert sorted(found) == [(name, 0) for name in sorted(pixels) if name != "j3.dcm"]
    for (name, _), (_, values) in found.items():
        assert np.array_equal(values, pixels[name]), name


@pytest.mark.parametrize(("codec", "fork"), [("none", "no-fork;"), ("auto", "")])
def test_decoder_that_aborts_costs_one_frame(tmp_path: Path, codec: str, fork: str) -> None:
    pixels, digest = wavelets(tmp_path / "source")  # the fourth is what `auto` tries
    fault = with_fault("abort-decoder", digest)
    many = with_fault(f"{fork} abort-decoder", f"{digest};", "all-workers")
    cache, flags = tmp_path / "cache", ("--shard-mib", "1", "--codec", codec)
    ran = run_cli("build", tmp_path / "source", cache, *flags, "--jobs", "3", env=many)
    _check_one_lost(cache, ran, pixels)

    alone = tmp_path / "alone"
    ran = run_cli("build", tmp_path / "source", alone, *flags, "--jobs", "1", env=fault)
    _check_one_lost(alone, ran, pixels)
    assert tree(alone) == tree(cache)

    # In the process that asks the run dies with the decoder; the same command again isolates it.
    within = tmp_path / "within"
    again = ("build", tmp_path / "source", within, *flags, "--jobs", "1", "--backend", "threading")
    for _ in range(2 if codec == "auto" else 1):  # of the choice, and of the frame's own shard
        assert run_cli(*again, env=fault).returncode == -signal.SIGABRT
    ran = run_cli(*again, env=fault)
    _check_one_lost(within, ran, pixels)
    assert tree(within) == tree(cache)


def test_decoder_that_aborts_where_copies_are_compared(tmp_path: Path) -> None:
    source = tmp_path / "source"
    _, digest = wavelets(source)
    for name in ("j2.dcm", "j3.dcm"):  # two files under one UID: planning decodes both
        (source / f"copy-{name}").write_bytes((source / name).read_bytes())
    cache = tmp_path / "cache"
    fault = with_fault("abort-decoder", digest)
    ran = run_cli("build", source, cache, "--shard-mib", "1", "--jobs", "2", env=fault)
    assert ran.returncode == 1, ran.stderr
    outcomes = {key: outcome for key, (outcome, _) in failures(cache).items()}
    assert outcomes == {
        ("j2.dcm", None): "duplicate", ("j3.dcm", 0): "failed", ("copy-j3.dcm", 0): "failed",
    }  # fmt: skip


def test_workers_that_die_at_start_end_the_run(tmp_path: Path, ct_series: Path) -> None:
    cache = tmp_path / "cache"
    again = ("build", ct_series, cache, "--shard-mib", "1", "--jobs", "2")
    ran = run_cli(*again, env=with_fault("abort-workers;", "all-workers"))
    assert ran.returncode == 2
    assert "shards could not be written" in ran.stderr
    assert not (cache / "zarr.json").exists()


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))  # less than a shard


def test_no_room_for_a_shard(tmp_path: Path, ct_series: Path, ct_series_cache: Path) -> None:
    cache = tmp_path / "cache"
    again = ("build", ct_series, cache, "--shard-mib", "1", "--jobs", "2")
    ran = run_cli(*again, preexec_fn=_limited)
    assert ran.returncode == 2
    assert "6 of 6 shards could not be written after 3 tries" in ran.stderr
    assert os.strerror(errno.EFBIG) in ran.stderr
    assert "run the same command again" in ran.stderr
    assert not (cache / "zarr.json").exists()
    assert not list(cache.glob("int16_512x512/*"))
    assert run_cli(*again).returncode == 0
    assert tree(cache) == tree(ct_series_cache)


def test_full_disk(tmp_path: Path, ct_series: Path, ct_series_cache: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root; test_errors_of_the_disk does without")
    try:
        again = ("build", ct_series, disk / "cache", "--shard-mib", "1", "--jobs", "1")
        ran = run_cli(*again)  # weighed before anything is written
        assert (ran.returncode, "are free there" in ran.stderr) == (2, True)
        assert not (disk / "cache").exists()
        ran = run_cli(*again, "--force")
        assert ran.returncode == 2
        assert os.strerror(errno.ENOSPC) in ran.stderr
        assert not (disk / "cache" / "zarr.json").exists()
        larger = ["mount", "-o", "remount,size=64m", disk]
        subprocess.run(larger, check=True)
        assert run_cli(*again).returncode == 0
        assert tree(disk / "cache") == tree(ct_series_cache)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("fsync", errno.ENOSPC),  # a full disk often says so only here
        ("link", errno.EDQUOT),  # over the user's quota
    ],
)
def test_errors_of_the_disk(
    tmp_path: Path, ct_series: Path, ct_series_cache: Path, function: str, number: int
) -> None:
    # The machine's fault, and no file's: nothing is recorded as failed, a later run succeeds.
    cache = tmp_path / "cache"
    again = ("build", ct_series, cache, "--shard-mib", "1", "--jobs", "1")
    ran = run_cli(*again, env=with_fault("errno", function, number))
    assert ran.returncode == 2
    remedy = {errno.ENOSPC: "free some space there", errno.EDQUOT: "a quota is used up"}[number]
    for said in (str(cache), os.strerror(number), remedy, "run the same command again"):
        assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (cache / "zarr.json").exists()
    assert run_cli(*again).returncode == 0
    assert tree(cache) == tree(ct_series_cache)


def test_error_that_passes_is_tried_again(
    tmp_path: Path, ct_series: Path, ct_series_cache: Path
) -> None:
    cache, marker = tmp_path / "cache", tmp_path / "failed-once"
    fault = with_fault("errno", "pread", errno.EIO, marker)
    ran = run_cli("build", ct_series, cache, "--shard-mib", "1", "--jobs", "1", env=fault)
    assert marker.exists()
    assert ran.returncode == 0
    assert tree(cache) == tree(ct_series_cache)


def test_two_runs_at_once(tmp_path: Path, ct_series: Path, ct_series_cache: Path) -> None:
    cache = tmp_path / "cache"
    assert run_cli("plan", ct_series, cache, "--shard-mib", "1").returncode == 0
    both = [
        subprocess.Popen(
            command("convert", cache, "--jobs", "1"),
            env={**os.environ, **with_fault("slow-publish")},
        )
        for _ in range(2)
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert run_cli("commit", cache).returncode == 0
    assert tree(cache) == tree(ct_series_cache)


def test_nothing_of_an_attempt_is_left(tmp_path: Path, ct_series_cache: Path) -> None:
    assert not (ct_series_cache / "build").exists()
    hidden = [path for path in ct_series_cache.rglob(".*")]
    assert hidden == [ct_series_cache / ".spare"]
    assert attributes(ct_series_cache)["counts"]["frames_stored"] == 12
    assert [row["slots"] for row in table(ct_series_cache, "shards")] == [2] * 6
    assert uid("slice000.dcm") == table(ct_series_cache, "frames")[0]["sop_uid"]


def test_a_decoder_that_aborts_where_there_is_no_pgrep(tmp_path: Path) -> None:
    """As in slim containers: joblib ends its other workers by a way that they do not have."""
    pixels, digest = wavelets(tmp_path / "source")
    fault = {**with_fault("no-fork; all-workers; abort-decoder", digest), "PATH": str(tmp_path)}
    cache = tmp_path / "cache"
    # It waited 300 s for a worker that nobody ended.
    ran = run_cli("build", tmp_path / "source", cache, "--shard-mib", "1", "--jobs", "2", env=fault)
    _check_one_lost(cache, ran, pixels)
    assert "AttributeError" not in ran.stderr
