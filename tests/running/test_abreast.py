"""Frames of a shard side by side, as many processes as pay: the same bytes whatever the jobs."""

from __future__ import annotations

import os
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread

from dicom2cache.planning import crew
from dicom2cache.records import Candidate, ShardTask
from dicom2cache.running.worth import worth
from dicom2cache.sources.archives.listed import candidate_at
from tests.support.caches import built, failures, run_cli, tree
from tests.support.dicom_files import pattern, uid, write_dicom, write_series
from tests.support.faults import wavelets, with_fault

_CT, _J2K = float(128 << 20), 65.0 * (128 << 20)  # cost of a whole shard of 256 files


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, str]]:
    """(six files of JPEG 2000 and one that is cut, digest of the fourth, the cache by one job)."""
    folder = tmp_path_factory.mktemp("waves")
    _, digest = wavelets(folder / "in")
    cut = dcmread(folder / "in" / "j1.dcm")
    cut.SOPInstanceUID = cut.file_meta.MediaStorageSOPInstanceUID = uid("cut")  # it is no copy
    cut.save_as(folder / "in" / "cut.dcm")
    os.truncate(folder / "in" / "cut.dcm", (folder / "in" / "cut.dcm").stat().st_size // 2)
    ran = run_cli("build", folder / "in", folder / "one", "--jobs", "1")
    assert ran.returncode == 1, ran.stderr
    assert len(list((folder / "one").glob("int16_512x512/c.*"))) == 1  # all in one shard
    return folder / "in", digest, tree(folder / "one")


@pytest.mark.parametrize("count", [2, 3])
def test_as_many_at_once_as_jobs(
    tmp_path: Path, waves: tuple[Path, str, dict[str, str]], count: int
) -> None:
    source, _, expected = waves
    fault = with_fault("together", count)
    ran = run_cli("build", source, tmp_path / "cache", "--jobs", count, env=fault)
    assert ran.returncode == 1, ran.stderr
    assert tree(tmp_path / "cache") == expected  # of decoders that have not met frames would fail
    assert [name for name, _ in failures(tmp_path / "cache")] == ["cut.dcm"]


def test_no_more_at_once_than_jobs(tmp_path: Path, waves: tuple[Path, str, dict[str, str]]) -> None:
    """That the fault of the test before is one: alone, the first waits for nobody and fails."""
    source, _, expected = waves
    hook = Path(__file__).parents[1] / "support" / "hooks" / "sitecustomize.py"
    quick = tmp_path / "hooks"
    quick.mkdir()
    (quick / "sitecustomize.py").write_text(hook.read_text().replace("wait(60)", "wait(0.1)"))
    fault = {**with_fault("together", 2), "PYTHONPATH": str(quick)}
    ran = run_cli("build", source, tmp_path / "cache", "--jobs", "1", env=fault)
    assert ran.returncode == 1, ran.stderr
    assert len(failures(tmp_path / "cache")) > 1
    assert tree(tmp_path / "cache") != expected


def test_a_worker_that_is_killed_amid_a_shard(
    tmp_path: Path, waves: tuple[Path, str, dict[str, str]]
) -> None:
    source, digest, expected = waves
    fault = with_fault("kill", digest, tmp_path / "killed")
    ran = run_cli("build", source, tmp_path / "cache", "--jobs", "2", env=fault)
    assert ran.returncode == 1, ran.stderr
    assert (tmp_path / "killed").exists()
    assert tree(tmp_path / "cache") == expected


def test_shards_that_processes_share(
    tmp_path: Path, waves: tuple[Path, str, dict[str, str]]
) -> None:
    """Several workers, each with threads, where any work is worth them."""
    source, _, _ = waves
    flags = ("--shard-mib", "1", "--codec", "auto")
    for name, jobs, fault in (("one", 1, {}), ("five", 5, with_fault("all-workers"))):
        ran = run_cli("build", source, tmp_path / name, *flags, "--jobs", jobs, env=fault)
        assert ran.returncode == 1, ran.stderr
    assert tree(tmp_path / "five") == tree(tmp_path / "one")


def test_frames_of_one_file(tmp_path: Path) -> None:
    """Threads share the file that a frame after the other comes from; and what it fails of."""
    frames = [pattern(f"frame {k}", (64, 64)) for k in range(12)]
    streams = [imagecodecs.jpeg2k_encode(f, level=0, codecformat="J2K") for f in frames]
    streams = [s + bytes(len(s) % 2) for s in streams]
    streams[7] = streams[7][:200]
    write_dicom(
        tmp_path / "in" / "many.dcm", np.stack(frames), syntax="1.2.840.10008.1.2.4.90",
        encoded=streams, BitsStored=12, HighBit=11, NumberOfFrames=12,
    )  # fmt: skip
    one = built(tmp_path / "in", tmp_path / "one", "--jobs", "1", status=1)
    fault = with_fault("together", 4)
    ran = run_cli("build", tmp_path / "in", tmp_path / "four", "--jobs", "4", env=fault)
    assert ran.returncode == 1, ran.stderr
    assert tree(tmp_path / "four") == tree(one)
    assert [frame for _, frame in failures(one)] == [7]


_IMAGE = (np.add.outer(np.arange(1500), np.arange(1500)) % 4093).astype(np.uint16)


@pytest.mark.parametrize(
    ("encode", "decode"),
    [
        (imagecodecs.jpeg2k_encode, imagecodecs.jpeg2k_decode),
        (imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
        (imagecodecs.jpegxl_encode, imagecodecs.jpegxl_decode),
        (imagecodecs.ljpeg_encode, imagecodecs.jpeg8_decode),
    ],
)
def test_decoders_let_go_of_the_interpreter(
    encode: Callable[..., bytes], decode: Callable[..., Any]
) -> None:
    """Python code runs while they work, though nobody takes it from them."""
    lossless = {"lossless": True} if encode is imagecodecs.jpegxl_encode else {}
    data = encode(_IMAGE, **lossless)
    inside, met = threading.Event(), threading.Event()

    def decoded() -> None:
        for _ in range(100):
            inside.set()
            decode(data)
            inside.clear()
            if met.is_set():
                return

    before = sys.getswitchinterval()
    thread = threading.Thread(target=decoded)
    try:
        sys.setswitchinterval(100)
        thread.start()
        while thread.is_alive() and not met.is_set():
            if inside.is_set():
                met.set()
            time.sleep(0.0002)
        thread.join()
    finally:
        sys.setswitchinterval(before)
    assert met.is_set()


def _tasks(*costs: float, abreast: int = 32) -> list[ShardTask]:
    return [ShardTask(0, k, k, k + 1, cost, abreast) for k, cost in enumerate(costs)]


@pytest.mark.parametrize(
    ("jobs", "tasks", "started", "forked"),
    [
        (2, _tasks(_CT, abreast=1), 1, 1),
        (2, _tasks(_CT, _CT / 8, abreast=1), 1, 1),  # 288 files that are not compressed
        (2, _tasks(*[_CT] * 2, abreast=1), 1, 2),
        (2, _tasks(*[_CT] * 10, abreast=1), 1, 2),  # 2,560
        (2, _tasks(*[_CT] * 20, abreast=1), 2, 2),  # 5,120
        (64, _tasks(*[_CT] * 40, abreast=1), 5, 40),
        (2, _tasks(*[_J2K] * 2), 1, 1),  # 512 of JPEG 2000: two threads do as well
        (64, _tasks(*[_J2K] * 40), 11, 11),
        (64, _tasks(*[_J2K] * 4000), 64, 64),
        (8, _tasks(*[_CT * 100] * 3, abreast=1), 3, 3),  # never more than shards
        (8, [], 1, 1),
    ],
)  # fmt: skip
def test_processes_where_they_pay(
    jobs: int, tasks: list[ShardTask], started: int, forked: int
) -> None:
    assert crew.for_tasks(jobs, tasks) == started
    assert crew.for_tasks(jobs, tasks, forked=True) == forked


@pytest.mark.parametrize(
    ("jobs", "workers", "tasks", "counts"),
    [
        (2, 2, _tasks(1, 1, 1), [1, 1, 2]),  # the last has nobody beside it
        (2, 1, _tasks(1, 1, 1), [2, 2, 2]),
        (2, 2, _tasks(10, 1), [2, 1]),
        (64, 40, _tasks(*[1.0] * 40), [2] * 40),
        (64, 64, _tasks(*[1.0] * 65), [1] * 64 + [32]),  # its threads are at their best by then
        (8, 8, _tasks(*[1.0] * 16, abreast=1), [1] * 16),
        (1, 1, _tasks(3, 2), [1, 1]),
        (4, 1, _tasks(0, 0), [4, 4]),
    ],
)  # fmt: skip
def test_threads_for_what_is_left(
    jobs: int, workers: int, tasks: list[ShardTask], counts: list[int]
) -> None:
    assert crew.side_by_side(jobs, workers, tasks) == counts


def test_workers_that_start_before_the_plan(tmp_path: Path) -> None:
    """By what some files name as their syntax, and the sizes of all."""
    plain = write_series(tmp_path / "plain", 1)[0]
    wavelets(tmp_path / "waves")
    here = [str(tmp_path)]
    ct = [Candidate(0, plain.relative_to(tmp_path).as_posix(), 525_000, 0)] * 40_000
    j2k = [Candidate(0, "waves/j0.dcm", 200_000, 0)] * 512
    none = [Candidate(0, "not-there.dcm", 525_000, 0)] * 1024
    assert worth(64, here, ct[:1024], 128 << 20) == 1
    assert worth(64, here, ct, 128 << 20) == 16
    assert worth(64, here, ct, 128 << 20, forked=True) == 1
    assert worth(2, here, j2k, 128 << 20) == 1
    assert worth(8, here, j2k * 100, 128 << 20) == 8
    with zipfile.ZipFile(tmp_path / "j.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(tmp_path / "waves" / "j0.dcm", "j0.dcm")
    member = candidate_at(str(tmp_path), 0, "j.zip!/j0.dcm")
    assert member is not None
    assert worth(8, here, [replace(member, size=200_000)] * 2_500, 128 << 20) == 3
    assert worth(8, here, none, 128 << 20) == 1
    assert worth(8, here, [], 128 << 20) == 1
