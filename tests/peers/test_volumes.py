"""Volumes as MONAI and torchio have them, against what they read of the same files themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.data
import monai.transforms as mt
import numpy as np
import pytest
import torch
import torchio as tio
from monai.transforms.utils import correct_crop_centers

from tests.oracles.series import Series, one_volume
from tests.support.caches import built
from trainer_adapter import Cache, SpatialImage, open_cache
from trainer_adapter.volumes.patches import starts

KINDS = (one_volume.ct, one_volume.sagittal, one_volume.oblique, one_volume.beds)


def folder_and_cache(tmp_path: Path, kind: Callable[[Series], None]) -> tuple[Path, Cache]:
    folder = tmp_path / "in"
    folder.mkdir()
    kind(Series(folder))
    return folder, open_cache(built(folder, tmp_path / "cache"))


@pytest.mark.parametrize("kind", KINDS[1:])  # of the first it orders slices by Instance Number
def test_monai_reads_the_same(tmp_path: Path, kind: Callable[[Series], None]) -> None:
    folder, cache = folder_and_cache(tmp_path, kind)
    ours = cache.to_metatensor(0)
    assert isinstance(ours, monai.data.MetaTensor)
    assert ours.dtype == torch.int16
    read = mt.LoadImage(reader=monai.data.PydicomReader(), ensure_channel_first=True)
    canonical = mt.Orientation(axcodes="RAS", labels=None)
    mine, theirs = canonical(ours.float()), canonical(read(str(folder)))
    np.testing.assert_allclose(mine.affine, theirs.affine, atol=2e-3)
    np.testing.assert_allclose(mine.array, theirs.array, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_torchio_reads_the_same(tmp_path: Path, kind: Callable[[Series], None]) -> None:
    folder, cache = folder_and_cache(tmp_path, kind)
    ours = cache.to_torchio(0)
    assert isinstance(ours, tio.ScalarImage)
    mine, theirs = tio.ToCanonical()(ours), tio.ToCanonical()(tio.ScalarImage(folder))
    np.testing.assert_allclose(mine.affine, theirs.affine, atol=2e-3)
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-3)


def image(dtype: Any, **said: Any) -> SpatialImage:
    voxels = np.zeros((4, 5, 6), dtype)
    voxels[1:3, 1:4, 2:4] = 3
    return SpatialImage(voxels, np.diag([0.5, 0.7, 2.0, 1.0]), **said)


def test_masks_are_label_maps(tmp_path: Path) -> None:
    mask = image(np.uint8, kind="mask").to_torchio()
    assert isinstance(mask, tio.LabelMap)
    again = tio.Resample((0.4, 0.4, 0.4))(mask)
    assert set(np.unique(again.numpy())) == {0, 3}


def test_what_torch_cannot_calculate_with_is_wider() -> None:
    for given, dtype in ((np.uint16, torch.int32), (np.uint32, torch.int64)):
        assert image(given).to_metatensor().dtype == dtype
        assert image(given).to_torchio().data.dtype == dtype


def test_colour_is_channels() -> None:
    rgb = SpatialImage(np.arange(48, dtype=np.uint8).reshape(2, 2, 4, 3), np.eye(4))
    found = rgb.to_metatensor()
    assert tuple(found.shape) == (3, 4, 2, 2)
    assert found[:, 1, 0, 0].tolist() == [3, 4, 5]
    assert tuple(rgb.to_torchio().shape) == (3, 4, 2, 2)


def test_transforms_of_monai_take_them(tmp_path: Path) -> None:
    sample = {"image": image(np.int16).to_metatensor().float(),
              "label": image(np.uint8, kind="mask").to_metatensor()}  # fmt: skip
    crops = mt.RandCropByPosNegLabeld(["image", "label"], "label", (3, 3, 2), num_samples=2)(sample)
    assert [tuple(c["image"].shape) for c in crops] == [(1, 3, 3, 2)] * 2
    spaced = mt.Spacing((1.0, 1.0, 1.0))(sample["image"])
    np.testing.assert_allclose(np.diag(spaced.affine)[:3], [-1, -1, 1], atol=1e-6)


def test_patches_lie_around_a_voxel_as_monais_do() -> None:
    """As RandCropByPosNegLabeld moves them, to be inside of the volume."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        sizes = rng.integers(1, 40, 3)
        sides = [int(rng.integers(1, n + 1)) for n in sizes]
        center = [int(rng.integers(n)) for n in sizes]
        theirs = correct_crop_centers(center, sides, sizes.tolist(), allow_smaller=False)
        ours = [
            int(starts(np.array([c]), side, np.array([n]))[0])
            for c, side, n in zip(center, sides, sizes.tolist(), strict=True)
        ]
        assert ours == [int(c) - side // 2 for c, side in zip(theirs, sides, strict=True)]
