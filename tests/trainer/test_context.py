"""Slices with their neighbours, as CacheLoader(context=...) gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.caches import built
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from trainer_adapter import Cache, CacheLoader, Crop, Normalize, open_cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Series a: slices 10 to 14; b: 20 to 24, of which 22 is lost; c: 30, 31, in no known order; d:
    40 to 45, of which the file of 43 is not there."""
    folder = tmp_path_factory.mktemp("context")
    for number, (name, places) in enumerate(
        {"a": range(5), "b": range(5), "c": range(2), "d": (0, 1, 2, 4, 5)}.items(), 1
    ):
        for k in places:
            values = np.full((16, 12), 10 * number + k, np.uint16)
            values[5, 7] += 100
            if (name, k) == ("b", 2):
                values[:] = 60000  # is no int16
            place = {} if name == "c" else {
                "ImagePositionPatient": [0, 0, 2.0 * k], "PixelSpacing": [1, 1],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            }  # fmt: skip
            write_dicom(
                folder / "in" / f"{name}{k}.dcm", values, SOPClassUID=CT_IMAGE, RescaleSlope=1,
                RescaleIntercept=0, ImageType=["ORIGINAL", "PRIMARY"], Modality="CT",
                SeriesInstanceUID=uid(f"context {name}"), **place,
            )  # fmt: skip
    return open_cache(built(folder / "in", folder / "cache", status=1))


NEAR = {
    10: [10, 10, 10, 11, 12], 11: [10, 10, 11, 12, 13], 12: [10, 11, 12, 13, 14],
    13: [11, 12, 13, 14, 14], 14: [12, 13, 14, 14, 14],
    20: [20, 20, 20, 21, 21], 21: [20, 20, 21, 21, 21],
    23: [23, 23, 23, 24, 24], 24: [23, 23, 24, 24, 24],
    30: [30] * 5, 31: [31] * 5,
    40: [40, 40, 40, 41, 42], 41: [40, 40, 41, 42, 42], 42: [40, 41, 42, 42, 42],
    44: [44, 44, 44, 45, 45], 45: [44, 44, 45, 45, 45],
}  # fmt: skip
"""of each frame, by its value, those of context=2"""


@pytest.mark.parametrize("read", ["map", "advise", "pread"])
@pytest.mark.parametrize("context", [1, 2])
def test_neighbours(cache: Cache, context: int, read: str) -> None:
    seen = {}
    loader = CacheLoader(cache, 4, shuffle=True, seed=3, context=context, read=read, threads=0)
    for batch in loader:
        assert batch.image.shape[1:] == (2 * context + 1, 16, 12)
        for image, sample in zip(batch.image, batch.index.tolist(), strict=True):
            middle = int(image[context, 0, 0])
            assert cache[sample][0, 0] == middle
            seen[middle] = image[:, 0, 0].tolist()
            assert (image[:, 5, 7] - image[:, 0, 0]).tolist() == [100] * (2 * context + 1)
    assert seen == {k: near[2 - context : 3 + context] for k, near in NEAR.items()}


def test_neighbours_that_are_not_selected(cache: Cache, tmp_path: Path) -> None:
    """They are there all the same, and are staged too."""
    values = [int(frame[0, 0]) for frame in cache]
    few = cache.select([values.index(12)])
    for more in ({}, {"stage": tmp_path / "node"}):
        (batch,) = CacheLoader(few, 1, context=1, threads=0, **more)
        assert batch.image[0, :, 0, 0].tolist() == [11, 12, 13]
        assert batch.index.tolist() == few.indices.tolist()


def test_a_crop_is_the_same_in_all_slices(cache: Cache) -> None:
    plain = CacheLoader(cache, 3, crop=(8, 8), seed=5, threads=0)
    around = CacheLoader(cache, 3, crop=(8, 8), seed=5, context=1, threads=0)
    for one, several in zip(plain, around, strict=True):
        assert torch.equal(several.image[:, 1], one.image)
        marks = (several.image > 100).flatten(2)
        assert torch.equal(marks[:, 0], marks[:, 1])
        assert torch.equal(marks[:, 2], marks[:, 1])
    (batch,) = CacheLoader(
        cache.select([0]), 1, crop=Crop(20, 20, at="center", fill=-7), context=1, threads=0
    )
    assert batch.image[0, :, 0, 0].tolist() == [-7] * 3


def test_normalized(cache: Cache) -> None:
    (batch,) = CacheLoader(cache.select([0, 1]), 2, context=1, threads=0)
    x = Normalize(window=(100, 200))(batch.image)
    assert x.shape == (2, 3, 16, 12)
    np.testing.assert_allclose(x.numpy(), batch.image.numpy().astype(float) / 200, rtol=1e-6)
    two = Normalize(window=[(100, 200), (50, 100)])(batch.image)
    assert two.shape == (2, 6, 16, 12)
    assert torch.equal(two[:, ::2], x)
    assert torch.equal(two[:, 1::2], (batch.image / 100).clamp(0, 1).float())
    assert torch.equal(Normalize(window=(100, 200))(batch.image.float()), x)


def test_a_state_with_neighbours(cache: Cache) -> None:
    loader = CacheLoader(cache, 4, shuffle=True, context=1, threads=0)
    first = next(iter(loader))
    again = CacheLoader(cache, 4, shuffle=True, context=1, threads=0)
    again.load_state_dict(loader.state_dict())
    assert len(list(again)) == len(loader) - 1
    assert first.image.shape == (4, 3, 16, 12)
    with pytest.raises(ValueError, match="context None, here 1"):
        again.load_state_dict(CacheLoader(cache, 4, shuffle=True, threads=0).state_dict())


def test_what_has_no_neighbours(cache: Cache, examples_cache: Path) -> None:
    with pytest.raises(ValueError, match="context -1; legal: from 0"):
        CacheLoader(cache, 2, context=-1)
    colour = open_cache(examples_cache).select(photometric="RGB")
    with pytest.raises(ValueError, match="context is for grey frames, and some are of uint8_"):
        CacheLoader(colour, 1, context=1)
