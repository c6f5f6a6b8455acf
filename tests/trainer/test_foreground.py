"""3-D patches around foreground: CacheLoader(patch=..., foreground=...)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.caches import built
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from tests.support.drawn import write_ct, write_seg
from trainer_adapter import Cache, CacheLoader, Foreground, open_cache
from trainer_adapter.volumes import foreground

SHAPE = (40, 48)
LESIONS = {"a": (slice(1, 4), slice(0, 5), slice(40, 48)), "b": (slice(3, 4), slice(20, 23), 7)}
"""in a corner of one volume, three voxels of another; none in the third"""
COUNT = {"a": 12, "b": 4, "c": 9}


def volume(name: str) -> NDArray[np.int16]:
    """HU: noise from -1000 to -1, and lesions of 100 and more."""
    rng = np.random.default_rng(ord(name))
    voxels = rng.integers(-1000, 0, (COUNT[name], *SHAPE), np.int16)
    if name in LESIONS:
        voxels[LESIONS[name]] += 1100
    return voxels


def write(folder: Path, name: str, **tags: Any) -> None:
    for k, pixels in enumerate(volume(name)):
        write_dicom(
            folder / f"{name}{k:02}.dcm", (pixels + 1024).astype(np.uint16),
            **{"SOPClassUID": CT_IMAGE, "Modality": "CT", "RescaleSlope": 1,
               "RescaleIntercept": -1024} | tags,
            PixelSpacing=[1, 1], ImageType=["ORIGINAL", "PRIMARY"], BitsStored=12, HighBit=11,
            ImagePositionPatient=[0, 0, 3.0 * k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PatientID=name, SeriesInstanceUID=uid(f"foreground {name}"),
        )  # fmt: skip


@pytest.fixture(scope="module", params=["none", "zstd"])
def cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Cache:
    folder = tmp_path_factory.mktemp("foreground")
    for name in "abc":
        write(folder / "in", name)
    flags = ("--codec", request.param, "--shard-mib", "1")
    return open_cache(built(folder / "in", folder / "cache", *flags))


def names(cache: Cache) -> dict[int, str]:
    paths = zip(cache.column("stack").to_pylist(), cache.column("path").to_pylist(), strict=True)
    return {stack: path[0] for stack, path in paths}


def start_of(center: int, side: int, size: int) -> int:
    """MONAI's correct_crop_centers, and then the first voxel of the patch."""
    if size < side:
        return (size - side) // 2  # MONAI refuses that
    low, high = side // 2, int(size + 1 - side / 2)
    return max(min(center, high + (low == high) - 1), low) - side // 2


@pytest.mark.parametrize("patch", [(3, 8, 16), (4, 9, 7), (12, 40, 8), (14, 44, 52)])
def test_centers(cache: Cache, patch: tuple[int, int, int]) -> None:
    """A third of each batch is around a lesion, the rest around what is none, within the volume."""
    of = names(cache)
    voxels = {name: volume(name) for name in "abc"}
    loader = CacheLoader(cache, 6, patch=patch, foreground=0, shuffle=True, seed=3, drop_last=True)
    for batch in loader:
        told = batch.columns
        assert told["positive"].sum() == 2
        rows = zip(batch.image, batch.index.tolist(), told["stack"].tolist(),
                   told["center"].tolist(), told["corner"].tolist(), told["positive"].tolist(),
                   strict=True)  # fmt: skip
        for image, index, stack, center, corner, positive in rows:
            whole = voxels[of[stack]]
            assert cache.column("stack")[index].as_py() == stack
            assert (whole[tuple(center)] > 0) == positive
            assert corner == [
                start_of(c, side, n) for c, side, n in zip(center, patch, whole.shape, strict=True)
            ]
            padded = np.full([n + 100 for n in whole.shape], -1000, np.int16)
            padded[50:-50, 50:-50, 50:-50] = whole
            inside = tuple(slice(c + 50, c + 50 + n) for c, n in zip(corner, patch, strict=True))
            np.testing.assert_array_equal(image[0], padded[inside])
            if positive:
                assert (image > 0).any()


@pytest.mark.parametrize(
    ("size", "share", "expected"),
    [
        (6, 1 / 3, [2, 2, 2, 2]),
        (4, 1 / 3, [1, 1, 2, 1, 1, 2]),  # of any three batches in a row four
        (5, 1 / 3, [1, 2, 2, 1, 2]),
        (1, 1 / 3, [0, 0, 1, 0, 0, 1, 0]),
        (10, 0.1, [1, 1]),
        (4, 0.5, [2, 2, 2, 2, 2, 2]),
        (5, 1, [5, 5, 5, 5, 5]),
    ],
)
def test_how_many(cache: Cache, size: int, share: float, expected: list[int]) -> None:
    wanted = Foreground(above=0, share=share)
    for ranking in ({}, {"rank": 1, "ranks": 3}):
        loader = CacheLoader(cache, size, patch=(3, 8, 8), foreground=wanted, **ranking)
        found = [int(batch.columns["positive"].sum()) for batch in loader]
        full = min(len(loader) - 1, len(expected))
        assert found[:full] == expected[:full]


def test_the_share_is_counted_on_from_epoch_to_epoch(cache: Cache) -> None:
    """Epochs of two patches, a third of which are around foreground: two of three have one."""
    two = cache.select(np.arange(2))
    loader = CacheLoader(two, 2, patch=(2, 8, 8), shuffle=True, foreground=-500)
    found = [int(b.columns["positive"].sum()) for _ in range(6) for b in loader]
    assert found == [0, 1, 1, 0, 1, 1]
    weighted = CacheLoader(
        two, 2, patch=(2, 8, 8), weights=np.ones(2), samples=1, foreground=-500, threads=0
    )
    found = [int(b.columns["positive"].sum()) for _ in range(6) for b in weighted]
    assert found == [0, 0, 1, 0, 0, 1]
    again = CacheLoader(two, 2, patch=(2, 8, 8), shuffle=True, foreground=-500)
    again.set_epoch(4)
    assert [int(b.columns["positive"].sum()) for b in again] == [1]


def test_each_voxel_is_as_likely(cache: Cache) -> None:
    """Of a volume; volumes are as likely as they have slices, those without lesions left out."""
    seen: Counter[tuple[int, ...]] = Counter()
    stacks: Counter[int] = Counter()
    loader = CacheLoader(cache, 25, patch=(1, 1, 1), foreground=Foreground(above=0, share=1))
    for _ in range(200):
        (batch,) = loader
        stacks.update(batch.columns["stack"].tolist())
        told = zip(batch.columns["stack"], batch.columns["center"].tolist(), strict=True)
        seen.update((int(stack), *center) for stack, center in told)
    of = {name: stack for stack, name in names(cache).items()}
    lesion = {name: np.argwhere(volume(name) > 0) for name in "ab"}
    for name, count in (("a", 200 * 12 + 200 * 9 * 12 / 16), ("b", 200 * 4 + 200 * 9 * 4 / 16)):
        assert abs(stacks[of[name]] - count) < 4 * np.sqrt(200 * 9 * 3 / 16)
        found = np.array([seen[of[name], *at] for at in lesion[name].tolist()])
        assert found.sum() == stacks[of[name]]
        mean = found.mean()
        assert abs(((found - mean) ** 2 / mean).sum() - len(found)) < 5 * np.sqrt(2 * len(found))
    assert len(stacks) == 2


def test_the_same_each_time(cache: Cache) -> None:
    """A function of seed, epoch and place in the order, whatever the threads."""

    def taken(**more: Any) -> list[Any]:
        loader = CacheLoader(
            cache, 6, patch=(3, 8, 8), foreground=0, shuffle=True, **{"seed": 1} | more
        )
        return [
            (b.index.tolist(), b.columns["corner"].tolist(), b.image.numpy().tobytes())
            for _ in range(2)
            for b in loader
        ]

    one = taken(threads=0)
    assert taken(threads=3) == one
    assert taken(seed=2) != one
    assert one[:5] != one[5:]


def test_going_on(cache: Cache) -> None:
    told: dict[str, Any] = {"patch": (3, 8, 8), "shuffle": True, "threads": 0}
    loader = CacheLoader(cache, 4, foreground=0, **told)
    batches = iter(loader)
    next(batches)
    again = CacheLoader(cache, 4, foreground=0, **told)
    again.load_state_dict(loader.state_dict())
    for one, other in zip(batches, again, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.columns["center"], other.columns["center"])
    for other_foreground in (None, 50, Foreground(above=0, share=0.5)):
        with pytest.raises(ValueError, match="state is that of another order: foreground"):
            CacheLoader(cache, 4, foreground=other_foreground, **told).load_state_dict(
                loader.state_dict()
            )


@pytest.mark.parametrize("read", ["map", "advise", "pread"])
def test_between_two_values(cache: Cache, read: str) -> None:
    wanted = Foreground(above=-10.5, below=-3, share=1)
    loader = CacheLoader(cache, 25, patch=(1, 1, 1), foreground=wanted, read=read)
    seen = {int(v) for _ in range(20) for batch in loader for v in batch.image.ravel()}
    assert seen == {-10, -9, -8, -7, -6, -5, -4}


def test_of_many_some_are_kept(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and what is kept is spread over each slice."""
    monkeypatch.setattr(foreground, "_KEPT", (4, 8))
    loader = CacheLoader(cache, 25, patch=(1, 1, 1), foreground=Foreground(below=0, share=1))
    seen: dict[tuple[int, int], set[int]] = {}
    for _ in range(400):
        for batch in loader:
            told = zip(batch.columns["stack"], batch.columns["center"].tolist(), strict=True)
            for stack, (z, y, x) in told:
                seen.setdefault((int(stack), z), set()).add(y * 48 + x)
    assert {len(s) for s in seen.values()} == {8}
    rows = np.array([np.sort(list(s)) // 240 for s in seen.values()])
    assert len(rows) == 25
    assert (np.abs(rows - np.arange(8)) <= 1).all()


def test_what_it_says(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    loader = CacheLoader(cache, 4, patch=(3, 8, 8), foreground=0)
    said = capsys.readouterr().err
    assert said.startswith("foreground: 123 voxels (0.26%) in 2 of 3 volumes; found in 0."), said
    assert said.strip() in repr(loader)
    CacheLoader(cache, 4, patch=(3, 8, 8), foreground=0, rank=1, ranks=2)
    assert capsys.readouterr().err == ""


def test_refused(cache: Cache, tmp_path: Path) -> None:
    for wrong in ("liver", Foreground, {}):
        with pytest.raises(ValueError, match="legal: a number"):
            CacheLoader(cache, 4, patch=(3, 8, 8), foreground=wrong)
    for how in ({}, {"above": 1, "masks": True}, {"above": 1, "share": 0}, {"masks": "liver"},
                {"below": float("nan")}):  # fmt: skip
        with pytest.raises(ValueError, match="legal: "):
            Foreground(**how)
    with pytest.raises(ValueError, match="foreground is for patches"):
        CacheLoader(cache, 4, foreground=0)
    with pytest.raises(ValueError, match="no foreground in 3 volumes"):
        CacheLoader(cache, 4, patch=(3, 8, 8), foreground=4000)
    with pytest.raises(ValueError, match="no background in 3 volumes"):
        CacheLoader(cache, 4, patch=(3, 8, 8), foreground=-2000)
    CacheLoader(cache, 4, patch=(3, 8, 8), foreground=Foreground(above=-2000, share=1))


def test_one_threshold_is_of_one_unit(cache: Cache, tmp_path: Path) -> None:
    write(tmp_path / "in", "a")
    mr = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR"}
    write(tmp_path / "in", "b", **mr)
    mixed = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"values in several units \(.*HU"):
        CacheLoader(mixed, 4, patch=(3, 8, 8), foreground=0)
    CacheLoader(mixed.select(modality="CT"), 4, patch=(3, 8, 8), foreground=0)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_where_masks_are_drawn(tmp_path: Path, codec: str) -> None:
    """Of all, or of some classes; volumes that nobody drew in are background."""
    liver, cyst = np.zeros((2, 3, 16, 12), np.uint8)
    liver[1, 2:6, 3:9], cyst[1:, 4:8, 3:5] = 1, 1
    for name in "ab":
        write_ct(tmp_path / "in", name, 3)
    planes = [(1, uid("a1"), 2, liver[1]), (2, uid("a1"), 2, cyst[1]), (2, uid("a2"), 4, cyst[2])]
    write_seg(tmp_path / "in/seg.dcm", planes, {1: "liver", 2: "cyst"})
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache", "--codec", codec))
    drawn: list[tuple[Any, Any]] = [
        ("mask", liver | cyst), (["cyst"], cyst), (Foreground(masks=["liver"]), liver)
    ]  # fmt: skip
    for wanted, expected in drawn:
        for more in ({}, {"stage": tmp_path / "node"}):
            loader = CacheLoader(cache, 6, patch=(2, 4, 4), foreground=wanted, **more)
            seen = set()
            for _ in range(200):
                (batch,) = loader
                of = cache.column("series_uid").take(batch.index.numpy()).to_pylist()
                told = batch.columns
                assert told["positive"].sum() == 2
                for series, center, positive in zip(
                    of, told["center"].tolist(), told["positive"].tolist(), strict=True
                ):
                    here = series == uid("a") and bool(expected[tuple(center)])
                    assert here == positive
                    seen |= {tuple(center)} if positive else set()
            assert seen == set(map(tuple, np.argwhere(expected).tolist()))
    loader = CacheLoader(
        cache, 6, patch=(4, 5, 20), foreground=["cyst"], target="mask", missing="zeros"
    )
    (batch,) = loader
    assert batch.mask.shape == (6, 4, 5, 20)
    numbers = np.pad(np.where(liver, 2, cyst), ((1, 1), (0, 0), (5, 5)))
    of = cache.column("series_uid").take(batch.index.numpy()).to_pylist()
    for mask, corner, series in zip(batch.mask, batch.columns["corner"].tolist(), of, strict=True):
        z, y, x = corner[0] + 1, corner[1], corner[2] + 5
        cut = numbers[z : z + 4, y : y + 5, x : x + 20]
        np.testing.assert_array_equal(mask, cut if series == uid("a") else cut * 0)
    assert batch.mask[2].max() > 0
    with pytest.raises(ValueError, match="'livr'; did you mean liver"):
        CacheLoader(cache, 6, patch=(2, 4, 4), foreground=["livr"])
    with pytest.raises(ValueError, match="no foreground in 1 volume"):
        CacheLoader(cache.select(series_uid=uid("b")), 6, patch=(2, 4, 4), foreground="mask")
