"""RT Dose beside images: a dose that is linear in mm is known at each pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.support.caches import built
from tests.support.dicom_files import uid, write_dicom
from tests.support.drawn import AXIAL, write_ct
from trainer_adapter import (
    Cache,
    CacheLoader,
    Crop,
    FrameDataset,
    LabelError,
    Normalize,
    RandomFlip,
    Target,
    open_cache,
)

ORIGIN, STEP, SHAPE = (-3.0, -2.0, 1.0), (4.0, 3.0, 3.0), (2, 5, 4)
"""mm in x, y, z; between slices, rows, columns"""


def dose_at(x: Any, y: Any, z: Any) -> Any:
    """Gy."""
    return 20 + 0.5 * x + 0.25 * y + 2 * z


def write_dose(path: Path, space: str, **elements: Any) -> Path:
    z, y, x = (o + s * k for o, s, k in zip(ORIGIN[::-1], STEP, np.indices(SHAPE), strict=True))
    stored = np.rint(dose_at(x, y, z) * 1000).astype(np.uint32)
    return write_dicom(
        path, stored, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2", Modality="RTDOSE",
        DoseUnits="GY", DoseType="PHYSICAL", DoseSummationType="PLAN", DoseGridScaling=0.001,
        GridFrameOffsetVector=[STEP[0] * k for k in range(SHAPE[0])],
        SeriesInstanceUID=uid(path.name),
        ImagePositionPatient=list(ORIGIN), ImageOrientationPatient=AXIAL,
        PixelSpacing=list(STEP[1:]), FrameOfReferenceUID=uid(space), **elements,
    )  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The upper left of CT a lies in the dose, its last slice not; b is in another space."""
    folder = tmp_path_factory.mktemp("doses")
    write_ct(folder / "in", "a", 5)
    write_ct(folder / "in", "b", 2)
    write_dose(folder / "in/dose.dcm", "space a")
    return built(folder / "in", folder / "cache")


@pytest.fixture
def cache(path: Path) -> Cache:
    return open_cache(path)


def expected(slice_: int, y: Any, x: Any) -> Any:
    """At pixels of a CT of 1 x 1 x 2 mm; outermost voxels hold half a step beyond their centres."""
    z = np.asarray(2.0 * slice_)
    inside = np.ones(np.broadcast(y, x).shape, bool)
    at = []
    for value, origin, step, count in zip((z, y, x), ORIGIN[::-1], STEP, SHAPE, strict=True):
        last = origin + step * (count - 1)
        inside &= (value >= origin - step / 2) & (value <= last + step / 2)
        at.append(np.clip(value, origin, last))
    return np.where(inside, dose_at(at[2], at[1], at[0]), 0)


def hold(batch: Any, images: Any = None) -> None:
    """Each dose is that of the place that its image's pixel says; outside of the image it is 0."""
    images = (batch.image if images is None else images).numpy()
    assert batch.dose.dtype == torch.float32
    assert batch.dose.shape == images.shape
    for image, dose in zip(images, batch.dose.numpy(), strict=True):
        inside = image < 65535
        place = image[inside].astype(int)
        known = expected(int(place[0]) // 1000, place % 1000 // 20, place % 20)
        np.testing.assert_allclose(dose[inside], known, atol=2e-3)
        assert not dose[~inside].any()


@pytest.mark.parametrize("crop", [None, (7, 5), Crop(20, 8, at="center", fill=65535)])
def test_linear_between_voxels(cache: Cache, crop: Any) -> None:
    loader = CacheLoader(
        cache, 2, shuffle=True, crop=crop, target="dose", missing="drop", threads=2,
        dtype=torch.int32,
    )  # fmt: skip
    seen = 0
    for batch in loader:
        hold(batch)
        assert batch.mask is None
        seen += len(batch.dose)
    assert seen == 5
    assert "; doses>" in repr(loader)


def test_in_other_shapes(cache: Cache) -> None:
    a = cache.select(series_uid=uid("a"))
    for batch in CacheLoader(a, 3, target="dose", context=1, dtype=torch.int32):
        hold(batch, batch.image[:, 1])
    for batch in CacheLoader(a, 3, target="dose", patch=(1, 6, 6), dtype=torch.int32):
        assert batch.dose.shape == (len(batch.image), 1, 6, 6)
        hold(batch, batch.image[:, 0])
    for batch in DataLoader(FrameDataset(a, target="dose", dtype=torch.int32), batch_size=2):
        hold(batch)
    flip = RandomFlip(0.5, 0.5, seed=1)
    for batch in CacheLoader(a, 5, target="dose"):
        x = flip(Normalize()(batch))
        hold(x, x.image[:, 0])


def test_images_without_a_dose(cache: Cache) -> None:
    with pytest.raises(LabelError, match=r"2 of 7 images have no dose .* such as b0\.dcm; give"):
        CacheLoader(cache, target="dose")
    for missing, value in (("zeros", 0), ("ignore", np.nan)):
        (batch,) = CacheLoader(cache, 9, target="dose", missing=missing)
        assert len(batch.dose) == 7
        assert np.array_equal(batch.dose[5:], np.full((2, 16, 12), value), equal_nan=True)
    with pytest.raises(ValueError, match=r"classes .*; a dose has none"):
        CacheLoader(cache, target="dose", classes=["a"])
    with pytest.raises(ValueError, match="a dose has no classes"):
        CacheLoader(cache, target="dose", missing="drop", weights="balanced")


def test_several_doses(tmp_path: Path) -> None:
    """Of one plan and its beams somebody has to say which."""
    write_ct(tmp_path / "in", "a", 5)
    write_dose(tmp_path / "in/dose.dcm", "space a")
    write_dose(tmp_path / "in/beam.dcm", "space a", DoseComment="beam")
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    with pytest.raises(ValueError, match="several doses lie in its frame of reference, stacks"):
        CacheLoader(cache, target="dose")
    rows = cache.select(series_uid=uid("beam.dcm"))
    for batch in CacheLoader(cache, 5, target=Target("dose", rows=rows), dtype=torch.int32):
        hold(batch)
