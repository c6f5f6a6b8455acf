"""Shards are mapped one behind the other: views across them, and what happens when they go."""

from __future__ import annotations

import gc
import mmap
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.caches import built, run_here
from tests.support.dicom_files import pattern, write_series
from trainer_adapter import open_cache
from trainer_adapter.format.members import Array
from trainer_adapter.reading import ranges, shards

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere shards have maps apart")


@pytest.fixture(params=["in a range", "apart"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "apart":
        monkeypatch.setattr(shards, "reserve", lambda spec: None)
    return str(request.param)


def frames(count: int = 12) -> NDArray[np.int16]:
    """The pixels of `ct_series`."""
    slices = [pattern(f"slice{k}", (512, 512)) for k in range(count)]
    return np.stack(slices).astype(np.int16) - 1024


def maps(cache: Path) -> list[str]:
    """Which shards of a cache this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [Path(line.split()[-1]).name for line in lines if str(cache) in line]


@pytest.fixture
def cache(ct_series_cache: Path, tmp_path: Path) -> Path:
    """Six shards of two frames."""
    return Path(shutil.copytree(ct_series_cache, tmp_path / "cache"))


def test_a_stack_across_shards_is_one_view(cache: Path) -> None:
    opened = open_cache(cache)
    volume = opened.volume(0)
    np.testing.assert_array_equal(volume, frames())
    assert volume.__array_interface__["data"] == opened[0].__array_interface__["data"]
    with pytest.raises(ValueError, match="WRITEABLE"):
        volume.flags.writeable = True
    few = opened.select(np.arange(3, 8)).volume(0)
    assert few.__array_interface__["data"] == opened[3].__array_interface__["data"]


def test_frames_and_batches(cache: Path, way: str) -> None:
    opened, expected = open_cache(cache), frames()
    wanted = [11, 0, 7, 7, 4]
    np.testing.assert_array_equal(opened.gather(wanted), expected[wanted])
    for k in range(12):
        np.testing.assert_array_equal(opened[k], expected[k])
    np.testing.assert_array_equal(opened.volume(0), expected)
    assert opened.volume(0).flags.owndata == (way == "apart")
    slanted = np.empty((512, 512, 5), np.int16).transpose(2, 0, 1)
    np.testing.assert_array_equal(opened.gather(wanted, slanted), expected[wanted])


def test_views_outlive_eviction(cache: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(shards, "_MOST_MAPS", 1)
    opened, expected = open_cache(cache), frames()
    views = [opened[k] for k in (0, 2, 4)]  # each of a shard of its own
    for view, k in zip(views, (0, 2, 4), strict=True):
        np.testing.assert_array_equal(view, expected[k])
    assert sorted(maps(cache)) == ["c.0.0.0", "c.1.0.0", "c.2.0.0"]
    part = views[1][5:, ::2]
    np.testing.assert_array_equal(opened.gather([1, 3, 5, 7]), expected[[1, 3, 5, 7]])
    volume = opened.volume(0)
    del views, view
    for k in range(12):
        np.testing.assert_array_equal(opened[k], expected[k])
    np.testing.assert_array_equal(part, expected[2][5:, ::2])
    np.testing.assert_array_equal(volume, expected)
    del volume
    for k in (0, 6, 8):
        np.testing.assert_array_equal(opened[k], expected[k])
    assert sorted(maps(cache)) == ["c.1.0.0", "c.4.0.0"]  # one is held by us, one by the cache
    np.testing.assert_array_equal(part, expected[2][5:, ::2])


def test_batches_do_not_keep_what_was_evicted(
    cache: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(shards, "_MOST_MAPS", 1)
    opened, expected = open_cache(cache), frames()
    for k in (0, 2, 4, 6, 8, 10):  # each of a shard of its own
        np.testing.assert_array_equal(opened.gather([k]), expected[[k]])
    assert len(maps(cache)) <= 2


def test_threads_that_evict_from_each_other(
    cache: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(shards, "_MOST_MAPS", 1)
    opened, expected = open_cache(cache), frames()

    def look(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        wanted = rng.integers(0, 12, 3)
        same = np.array_equal(opened.gather(wanted), expected[wanted])
        view = opened[int(wanted[0])]
        return (
            same
            and np.array_equal(opened.volume(0)[wanted[1]], expected[wanted[1]])
            and (np.array_equal(view, expected[wanted[0]]))
        )

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(look, range(100)))
    assert opened[0].shape == opened[2].shape
    assert len(maps(cache)) <= 2


def test_a_range_goes_with_its_last_view(cache: Path, way: str) -> None:
    opened, expected = open_cache(cache), frames()
    volume = opened.volume(0)
    opened.gather([0, 5])
    del opened
    gc.collect()
    np.testing.assert_array_equal(volume, expected)
    view = volume[3]
    del volume
    np.testing.assert_array_equal(view, expected[3])
    del view
    assert maps(cache) == []


def test_a_shard_that_was_replaced(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """On a network a file is looked at again: old views stay as they are, new ones are of it."""
    monkeypatch.setattr(shards, "is_remote", lambda path: True)
    monkeypatch.setattr(shards, "_LOOK", 0.0)
    opened, expected, shard = open_cache(cache), frames(), cache / "int16_512x512" / "c.1.0.0"
    old, whole = opened[2], opened.volume(0)
    kept = tmp_path / "kept"
    shutil.copy(shard, kept)
    data = bytearray(shard.read_bytes())
    data[512 * 1024 + 2] ^= 1  # the second frame: the first one is what is checked
    (tmp_path / "new").write_bytes(data)
    os.replace(tmp_path / "new", shard)
    np.testing.assert_array_equal(opened[2], expected[2])
    assert (opened[3] != expected[3]).sum() == 1
    assert (opened.gather([3, 4])[0] != expected[3]).sum() == 1
    assert (opened.volume(0) != expected).sum() == 1
    np.testing.assert_array_equal(old, expected[2])
    np.testing.assert_array_equal(whole, expected)
    os.replace(kept, shard)
    del old, whole
    np.testing.assert_array_equal(opened.volume(0), expected)
    assert opened.volume(0).flags.owndata == (way == "apart")


def test_gaps_between_shards(tmp_path: Path, way: str) -> None:
    """A shard that is not full is followed by rows that are no frames, and by no memory."""
    paths = write_series(tmp_path / "in", 7, size=128)
    for path in paths[3:]:
        path.rename(tmp_path / path.name)
    cache = built(tmp_path / "in", tmp_path / "cache", "--jobs", "1")
    for path in paths[3:]:
        (tmp_path / path.name).rename(path)
    assert run_here("update", tmp_path / "in", cache, "--jobs", "1").returncode == 0
    opened = open_cache(cache)
    assert opened.core.places.row.tolist() == [0, 1, 2, 4096, 4097, 4098, 4099]
    expected = np.stack(
        [pattern(f"slice{k}", (128, 128)).astype(np.int16) - 1024 for k in range(7)]
    )
    names = [int(path[5:8]) for path in opened.column("path").to_pylist()]
    np.testing.assert_array_equal(opened.gather(range(7)), expected[names])
    for stack in opened.column("stack").unique().to_pylist():
        mine = np.flatnonzero(opened.column("stack").to_numpy() == stack)
        np.testing.assert_array_equal(opened.volume(stack), expected[np.array(names)[mine]])


def test_under_a_limit_of_addresses_shards_are_mapped_apart(cache: Path) -> None:
    code = f"""
import resource
from trainer_adapter import open_cache
resource.setrlimit(resource.RLIMIT_AS, (64 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
opened = open_cache({str(cache)!r})
print(opened.volume(0).flags.owndata, opened.gather([1, 9]).sum(), opened.core.store._ranges)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split(maxsplit=2) == [
        "True", str(frames()[[1, 9]].sum()), "{0: None}\n",
    ], done.stderr  # fmt: skip


@pytest.mark.parametrize("taken", [False, True])
def test_a_system_that_refuses_a_map(
    cache: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """It may free the place nevertheless, and another thread may get it: that is left alone."""
    libc, refused = ranges._libc(), []
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

    def refuse(place: int | None, size: int, access: int, flags: int, file: int, at: int) -> Any:
        if file < 0 or not flags & ranges._FIXED or len(refused):
            return libc.mmap(place, size, access, flags, file, at)
        refused.append(place)
        assert libc.munmap(place, size) == 0
        if taken:
            other = mmap.PROT_READ | mmap.PROT_WRITE, private | ranges._FIXED
            assert libc.mmap(place, size, *other, -1, 0) == place
        return ranges._FAILED

    monkeypatch.setattr(ranges, "_libc", lambda: SimpleNamespace(mmap=refuse, munmap=libc.munmap))
    opened, expected = open_cache(cache), frames()
    for k in range(12):
        np.testing.assert_array_equal(opened[k], expected[k])
    np.testing.assert_array_equal(opened.volume(0), expected)
    (place,) = refused
    address = opened[2].__array_interface__["data"][0]
    assert (address == place + (1 << 20)) is not taken  # the next shard is in its place, or apart
    del opened
    gc.collect()
    assert maps(cache) == []
    if taken:
        import ctypes

        other = (ctypes.c_char * 4).from_address(place)
        other.value = b"mine"
        assert other.value == b"mine"


def test_after_a_fork(cache: Path) -> None:
    opened, expected = open_cache(cache), frames()
    volume = opened.volume(0)
    child = os.fork()
    if not child:
        same = np.array_equal(volume, expected) and np.array_equal(opened[3], expected[3])
        again = np.array_equal(open_cache(cache).volume(0), expected)
        os._exit(0 if same and again else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(volume, expected)


@pytest.mark.parametrize(
    ("slot", "slots", "codec"),
    [
        ((512, 512), 1, "zstd"),
        ((511, 511), 1, "none"),  # no whole pages
        ((512, 512), 1 << 26, "none"),  # 32 TiB
    ],
)
def test_arrays_that_have_no_range(slot: tuple[int, ...], slots: int, codec: str) -> None:
    spec = Array("a", np.dtype("<i2"), slot, slots, 16, codec)
    assert ranges.reserve(spec) is None
