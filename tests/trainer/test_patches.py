"""3-D patches of volumes, as CacheLoader(patch=...) gives them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.caches import built
from tests.support.dicom_files import CT_IMAGE, pattern, uid, write_dicom
from trainer_adapter import Cache, CacheLoader, Normalize, VolumeError, open_cache


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
    for wrong in ((8, 8), (0, 8, 8)):
        with pytest.raises(ValueError, match=r"legal: \(d, h, w\) from 1"):
            CacheLoader(cache, 2, patch=wrong)  # type: ignore[arg-type]
    for more in ({"crop": 8}, {"context": 1}):
        with pytest.raises(ValueError, match="without crop and context"):
            CacheLoader(cache, 2, patch=(2, 8, 8), **more)
    write(tmp_path / "in", "c", [[0, 0, z] for z in (0.0, 1, 3, 4)])
    gap = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    with pytest.raises(VolumeError, match="flag gap"):
        CacheLoader(gap, 2, patch=(2, 8, 8))
