"""Staging: copies of shards on the node's own storage, whole or absent, shared, checked."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom, write_series
from tests.support.signed import adopt
from trainer_adapter import CacheLoader, DamagedError, StageError, open_cache

SLICES = 12


@pytest.fixture
def cache(ct_series_cache: Path, tmp_path: Path) -> Path:
    """A copy of the CT cache: six shards of two frames; frame k is `hu(k)`."""
    return Path(shutil.copytree(ct_series_cache, tmp_path / "cache"))


def hu(k: int) -> np.ndarray:
    return np.asarray(pattern(f"slice{k}", (512, 512)).astype(np.int16) - 1024)


def staged_shards(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*/*/c.*") if re.fullmatch(r"c[.\d]+", p.name))


@pytest.mark.parametrize("read", ["auto", "pread"])
def test_frames_come_from_the_copy(cache: Path, tmp_path: Path, read: str) -> None:
    loader = CacheLoader(open_cache(cache), 4, shuffle=True, stage=tmp_path / "node", read=read)
    shutil.rmtree(cache)  # all that follows is read from the copy
    seen = []
    for batch in loader:
        for image, i in zip(batch.image.numpy(), batch.index.tolist(), strict=True):
            np.testing.assert_array_equal(image, hu(i))
            seen.append(i)
    assert sorted(seen) == list(range(SLICES))


def test_only_the_shards_of_a_selection_are_copied(cache: Path, tmp_path: Path) -> None:
    node = tmp_path / "node"
    few = open_cache(cache).select([0, 1, 7])
    (batch,) = CacheLoader(few, 4, stage=node)
    assert batch.index.tolist() == [0, 1, 7]
    np.testing.assert_array_equal(batch.image[2].numpy(), hu(7))
    assert staged_shards(node) == ["c.0.0.0", "c.3.0.0"]
    CacheLoader(open_cache(cache).select([2]), 4, stage=node)
    assert staged_shards(node) == ["c.0.0.0", "c.1.0.0", "c.3.0.0"]


def test_a_second_run_copies_nothing(cache: Path, tmp_path: Path) -> None:
    node = tmp_path / "node"
    CacheLoader(open_cache(cache), 4, stage=node)
    before = {p: p.stat().st_ino for p in node.rglob("c.*") if p.suffix != ".lock"}
    assert len(before) == 6
    CacheLoader(open_cache(cache), 4, stage=node)
    assert {p: p.stat().st_ino for p in before} == before


def test_caches_do_not_share_a_copy(cache: Path, tmp_path: Path) -> None:
    node = tmp_path / "node"
    write_dicom(tmp_path / "in" / "a", pattern("a", (8, 8)), Modality="OT")
    other = built(tmp_path / "in", tmp_path / "other")
    CacheLoader(open_cache(cache), 4, stage=node)
    (batch,) = CacheLoader(open_cache(other), 4, stage=node)
    np.testing.assert_array_equal(batch.image[0].numpy(), pattern("a", (8, 8)))
    assert len(list(node.iterdir())) == 2


def test_a_damaged_source_is_not_copied(cache: Path, tmp_path: Path) -> None:
    shard = cache / "int16_512x512" / "c.4.0.0"
    data = bytearray(shard.read_bytes())
    data[512 * 512 * 2 + 77] ^= 1  # a bit of frame 9: its size and index are still right
    shard.write_bytes(data)
    node = tmp_path / "node"
    with pytest.raises(DamagedError, match=r"c\.4\.0\.0: frame 9 has another CRC-32C"):
        CacheLoader(open_cache(cache), 4, stage=node)
    assert "c.4.0.0" not in staged_shards(node)
    assert not list(node.glob("*/*/*.part"))


@pytest.mark.parametrize("loss", ["missing", "short"])
def test_a_lost_source_is_named(cache: Path, tmp_path: Path, loss: str) -> None:
    shard = cache / "int16_512x512" / "c.4.0.0"
    if loss == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DamagedError, match=r"c\.4\.0\.0"):
        CacheLoader(open_cache(cache), 4, stage=tmp_path / "node")
    assert "c.4.0.0" not in staged_shards(tmp_path / "node")


def test_what_does_not_fit_is_refused(cache: Path, tmp_path: Path) -> None:
    # A shard that says it is of an exbibyte: no test machine has room for it.
    table = cache / "shards" / "0.parquet"
    rows = pq.read_table(table)
    sizes = rows["bytes"].to_pylist()
    sizes[3] = 1 << 60
    place = rows.schema.get_field_index("bytes")
    pq.write_table(rows.set_column(place, rows.schema.field("bytes"), pa.array(sizes)), table)
    adopt(cache, "shards")
    node = tmp_path / "node"
    with pytest.raises(StageError, match=r"bytes of shards are to be copied, .* are free"):
        CacheLoader(open_cache(cache), 4, stage=node)
    assert staged_shards(node) == []
    CacheLoader(open_cache(cache).select([0]), 4, stage=node)  # what fits is staged all the same


COPY = """
import sys
from trainer_adapter import CacheLoader, open_cache
loader = CacheLoader(open_cache(sys.argv[1]), 16, stage=sys.argv[2])
print("staged", flush=True)
print(sum(int(b.image.sum()) for b in loader))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of 96 slices in 48 shards: 48 MiB."""
    folder = tmp_path_factory.mktemp("large")
    write_series(folder / "in", 96)
    return built(folder / "in", folder / "cache", "--shard-mib", "1")


def test_processes_of_a_node_share_the_work(large: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", COPY, large, tmp_path / "node"]
    ran = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    said = [p.communicate(timeout=120)[0].split() for p in ran]
    assert [p.returncode for p in ran] == [0, 0, 0]
    total = sum(int(image.sum()) for image in open_cache(large))
    assert said == [[b"staged", str(total).encode()]] * 3
    assert len(staged_shards(tmp_path / "node")) == 48


def test_a_killed_copy_is_gone_on_with(large: Path, tmp_path: Path) -> None:
    node = tmp_path / "node"
    command = [sys.executable, "-c", COPY, large, node]
    killed = 0
    for some in (1, 10, 25):  # killed once so many shards are there
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        while len(staged_shards(node)) < some and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        for path in node.glob("*/*/c.*.0"):  # what has its name is whole
            source = large / path.parent.name / path.name
            assert path.read_bytes() == source.read_bytes()
    assert killed
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    total = sum(int(image.sum()) for image in open_cache(large))
    assert done.stdout.split() == [b"staged", str(total).encode()]


def test_threads_of_one_process(cache: Path, tmp_path: Path) -> None:
    opened = open_cache(cache)
    for k in range(5):
        with ThreadPoolExecutor(4) as threads:
            jobs = [
                threads.submit(CacheLoader, opened, 12, stage=tmp_path / f"node{k}")
                for _ in range(4)
            ]
            for job in jobs:
                (batch,) = job.result()
                np.testing.assert_array_equal(batch.image[7].numpy(), hu(7))


def test_a_place_that_cannot_be_written_is_a_stage_error(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match="Not a directory"):
        CacheLoader(open_cache(cache), 4, stage=tmp_path / "file")


def test_a_copy_is_not_mixed_with_a_later_build(cache: Path, tmp_path: Path) -> None:
    opened = open_cache(cache)
    write_dicom(tmp_path / "in" / "a", pattern("a", (8, 8)), Modality="OT")
    built(tmp_path / "in", cache, "--overwrite")
    with pytest.raises(DamagedError, match="another cache was built here"):
        CacheLoader(opened, 4, kind=None, stage=tmp_path / "node")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_reads_what_is_staged(cache: Path) -> None:
    with tempfile.TemporaryDirectory() as open_to_all:  # pytest closes its own again
        Path(open_to_all).chmod(0o755)
        _read_by_another(Path(shutil.copytree(cache, Path(open_to_all, "cache"))))


def _read_by_another(cache: Path) -> None:
    node = cache.parent / "node"
    CacheLoader(open_cache(cache), 4, stage=node)
    code = f"""
import os
from trainer_adapter import CacheLoader, open_cache
def total():
    (batch,) = CacheLoader(open_cache({str(cache)!r}), 12, stage={str(node)!r})
    return int(batch.image.sum())
total()  # all modules are loaded: nobody may not read them everywhere
os.seteuid(65534)
print(total())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == sum(int(hu(k).sum()) for k in range(SLICES))
