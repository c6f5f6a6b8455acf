"""3-D patches of volumes, as CacheLoader(patch=...) gives them."""

from __future__ import annotations

import shutil
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.caches import built
from tests.support.dicom_files import CT_IMAGE, pattern, uid, write_dicom
from trainer_adapter import (
    Cache,
    CacheLoader,
    DamagedError,
    Normalize,
    VolumeError,
    open_cache,
)
from trainer_adapter.loading.crew import Helpers
from trainer_adapter.reading import mapped, shards


def write(folder: Path, name: str, places: list[list[float]]) -> None:
    for k, place in enumerate(places):
        write_dicom(
            folder / f"{name}{k:02}.dcm", pattern(f"{name}{k}", (40, 48)), SOPClassUID=CT_IMAGE,
            Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, PixelSpacing=[1, 1],
            ImageType=["ORIGINAL", "PRIMARY"], ImagePositionPatient=place, BitsStored=12,
            HighBit=11, ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PatientID=name,
            SeriesInstanceUID=uid(f"patches {name}"),
        )  # fmt: skip


def volume(name: str, count: int) -> NDArray[np.int16]:
    slices = [pattern(f"{name}{k}", (40, 48)) for k in range(count)]
    return np.stack(slices).astype(np.int16) - 1024


@pytest.fixture(scope="module", params=["none", "zstd"])
def cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Cache:
    """Volumes of 12 slices (a), and of 4 (b)."""
    folder = tmp_path_factory.mktemp("patches")
    write(folder / "in", "a", [[0, 0, 3.0 * k] for k in range(12)])
    write(folder / "in", "b", [[0, 0, 3.0 * k] for k in range(4)])
    flags = ("--codec", request.param, "--shard-mib", "1")
    return open_cache(built(folder / "in", folder / "cache", *flags))


def names(cache: Cache) -> dict[int, str]:
    paths = zip(cache.column("stack").to_pylist(), cache.column("path").to_pylist(), strict=True)
    return {stack: path[0] for stack, path in paths}


def expected(name: str, corner: list[int], patch: tuple[int, int, int]) -> NDArray[Any]:
    """The patch, with air where the volume has ended."""
    whole = np.full([n + 40 for n in (12 if name == "a" else 4, 40, 48)], -1000, np.int16)
    inner = volume(name, 12 if name == "a" else 4)
    whole[20:-20, 20:-20, 20:-20] = inner
    z, y, x = (c + 20 for c in corner)
    return whole[z : z + patch[0], y : y + patch[1], x : x + patch[2]]


@pytest.mark.parametrize("read", ["map", "advise", "pread"])
@pytest.mark.parametrize("patch", [(3, 8, 16), (6, 8, 8), (1, 40, 48), (14, 44, 10)])
def test_patches(cache: Cache, patch: tuple[int, int, int], read: str) -> None:
    of, seen = names(cache), Counter[tuple[str, int]]()
    loader = CacheLoader(cache, 5, patch=patch, shuffle=True, seed=2, read=read, threads=0)
    for batch in loader:
        assert batch.image.shape[1:] == (1, *patch)
        stacks, corners = batch.columns["stack"].tolist(), batch.columns["corner"].tolist()
        for image, stack, corner in zip(batch.image, stacks, corners, strict=True):
            np.testing.assert_array_equal(image[0], expected(of[stack], corner, patch))
            seen[of[stack], corner[0]] += 1
    firsts = {name: sorted(z for n, z in seen if n == name) for name in "ab"}
    assert (
        firsts
        == {
            (3, 8, 16): {"a": list(range(10)), "b": [0, 1]},
            (6, 8, 8): {"a": list(range(7)), "b": [-1]},
            (1, 40, 48): {"a": list(range(12)), "b": list(range(4))},
            (14, 44, 10): {"a": [-1], "b": [-5]},
        }[patch]
    )
    assert sum(seen.values()) == 16


def test_the_same_patches_each_time(cache: Cache) -> None:
    """A function of seed, epoch and slice: whatever the threads, the batch size and the ranks."""

    def patches(**more: Any) -> dict[int, tuple[list[int], bytes]]:
        found = {}
        for batch in CacheLoader(cache, patch=(3, 8, 8), shuffle=True, seed=4, **more):
            rows = zip(batch.index.tolist(), batch.columns["corner"].tolist(), batch.image,
                       strict=True)  # fmt: skip
            found |= {i: (corner, image.numpy().tobytes()) for i, corner, image in rows}
        return found

    one = patches(batch_size=16, threads=0)
    assert len(one) == 16
    assert patches(batch_size=3, threads=3) == one
    ranked = patches(batch_size=4, rank=0, ranks=2) | patches(batch_size=4, rank=1, ranks=2)
    assert ranked == one
    assert len({tuple(corner) for corner, _ in one.values()}) > 8
    loader = CacheLoader(cache, 16, patch=(3, 8, 8), seed=4, threads=0)
    epochs = [next(iter(loader)).columns["corner"].tolist() for _ in range(2)]
    assert epochs[0] != epochs[1]


def test_going_on_with_patches(cache: Cache) -> None:
    loader = CacheLoader(cache, 4, patch=(3, 8, 8), shuffle=True, threads=0)
    batches = iter(loader)
    next(batches)
    again = CacheLoader(cache, 4, patch=(3, 8, 8), shuffle=True, threads=0)
    again.load_state_dict(loader.state_dict())
    for one, other in zip(batches, again, strict=True):
        assert torch.equal(one.image, other.image)
    with pytest.raises(ValueError, match="patch 3, here 4"):
        CacheLoader(cache, 4, patch=(4, 8, 8), shuffle=True).load_state_dict(loader.state_dict())


def test_patches_of_a_selection_and_staged(cache: Cache, tmp_path: Path) -> None:
    """Patches are of the slices that are selected, and of no others."""
    stack = {name: stack for stack, name in names(cache).items()}["a"]
    middle = cache.select(stack=stack).select(np.arange(4, 9))
    for more in ({}, {"stage": tmp_path / "node"}):
        (batch,) = CacheLoader(middle, 5, patch=(2, 40, 48), threads=0, **more)
        assert batch.columns["corner"][:, 0].tolist() == [0, 0, 1, 2, 3]
        np.testing.assert_array_equal(batch.image[2, 0], volume("a", 12)[5:7])


def test_few_slices_of_a_stack_are_told(cache: Cache) -> None:
    """One that is as thin as it is anyway is none of the user's doing."""
    one = cache.select(np.arange(0, len(cache), 12))
    with pytest.warns(UserWarning, match="of 2 volumes fewer are selected, such as 1 of stack 0"):
        CacheLoader(one, 1, patch=(8, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CacheLoader(cache, 2, patch=(8, 8, 8))
        CacheLoader(one, 1, patch=(1, 8, 8))


def test_normalized(cache: Cache) -> None:
    batch = next(iter(CacheLoader(cache, 2, patch=(8, 8, 8), threads=0)))
    x = Normalize(window=(1000, 4000))(batch.image)
    assert x.shape == (2, 1, 8, 8, 8)
    low = batch.image.double() + 1000
    torch.testing.assert_close(x, (low / 4000).clamp(0, 1).float())
    two = Normalize(window=[(1000, 4000), (0, 100)])(batch.image)
    assert two.shape == (2, 2, 8, 8, 8)
    assert torch.equal(two[:, :1], x)


def test_what_has_no_patches(cache: Cache, tmp_path: Path) -> None:
    for wrong in ((8, 8), (0, 8, 8), 8, (2.0, 8, 8)):
        with pytest.raises(ValueError, match=r"legal: \(d, h, w\) from 1"):
            CacheLoader(cache, 2, patch=wrong)  # type: ignore[arg-type]
    for more in ({"crop": 8}, {"context": 1}):
        with pytest.raises(ValueError, match="without crop and context"):
            CacheLoader(cache, 2, patch=(2, 8, 8), **more)
    write(tmp_path / "in", "c", [[0, 0, z] for z in (0.0, 1, 3, 4)])
    gap = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    with pytest.raises(VolumeError, match=r"flag gap.*select\(stack_regular=True, tilt=None\)"):
        CacheLoader(gap, 2, patch=(2, 8, 8))


@pytest.mark.parametrize("apart", [False, True])
def test_patches_across_shards(
    ct_series_cache: Path, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six shards of two slices: where they lie in one range, a patch is one copy."""
    if apart:
        monkeypatch.setattr(shards, "reserve", lambda spec: None)
    copies: list[tuple[int, ...]] = []
    copy = mapped.copy_rows
    monkeypatch.setattr(mapped, "copy_rows", lambda a, b: (copies.append(b.shape), copy(a, b)))
    slices = [pattern(f"slice{k}", (512, 512)) for k in range(12)]
    whole = np.stack(slices).astype(np.int16) - 1024
    loader = CacheLoader(open_cache(ct_series_cache), 4, patch=(5, 24, 40), seed=1, threads=3)
    for batch in loader:
        for image, (z, y, x) in zip(batch.image, batch.columns["corner"].tolist(), strict=True):
            np.testing.assert_array_equal(image[0], whole[z : z + 5, y : y + 24, x : x + 40])
    assert copies == ([] if apart else [(5, 24, 40)] * 12)


@pytest.mark.parametrize("check", ["never", "first-touch", "always"])
@pytest.mark.parametrize("read", ["map", "pread"])
def test_damage_that_a_patch_meets(
    ct_series_cache: Path, tmp_path: Path, read: str, check: str
) -> None:
    """Without checks of all frames only the first of a shard that is asked for is held to its sum;
    a patch that is elsewhere does not meet it."""
    cache = Path(shutil.copytree(ct_series_cache, tmp_path / "cache"))
    shard = cache / open_cache(cache).arrays[0].shard_name(3)
    data = bytearray(shard.read_bytes())
    data[512 * 512 * 2 + 99] ^= 1  # of slice 7, the second of its shard
    shard.write_bytes(data)
    opened = open_cache(cache, check=check)
    loader = CacheLoader(opened, 1, patch=(3, 512, 512), read=read, threads=0)
    met = []
    for number in range(12):
        loader.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": number})
        try:
            next(iter(loader))
        except DamagedError:
            met.append(number)
    # first slices are 0, 0, 1, 2, ... 9 (spread over ten)
    assert met == ([] if check == "never" else [6, 7, 8, 9])


def test_work_that_is_shared() -> None:
    """Each number once; an error of any thread, and then nothing goes on."""
    helpers = Helpers(3)
    done: list[tuple[int, int]] = []

    def note(k: int) -> None:
        time.sleep(0.002)
        done.append((k, threading.get_ident()))

    helpers.share(note, 30)
    assert sorted(k for k, _ in done) == list(range(30))
    assert len({thread for _, thread in done}) == 3
    done.clear()
    here = threading.get_ident()

    def fail(k: int) -> None:
        note(k)
        if threading.get_ident() != here:
            raise OSError(f"of {k}")

    with pytest.raises(OSError, match="of "):
        helpers.share(fail, 30)
    count = len(done)
    time.sleep(0.01)
    assert len(done) == count
    helpers.shutdown(wait=True)


def test_helpers_leave_threads_to_other_batches() -> None:
    """Where as many batches are under way as there are threads, each is of one thread."""
    helpers, begun, go_on = Helpers(2), threading.Event(), threading.Event()
    seen: set[int] = set()

    def wait(k: int) -> None:
        begun.set()
        assert go_on.wait(30)

    def note(k: int) -> None:
        time.sleep(0.001)
        seen.add(threading.get_ident())

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(helpers.share, wait, 1)
        assert begun.wait(30)
        helpers.share(note, 20)
        assert seen == {threading.get_ident()}
        go_on.set()
        other.result()
    helpers.share(note, 20)
    assert len(seen) == 2
    helpers.shutdown(wait=True)
