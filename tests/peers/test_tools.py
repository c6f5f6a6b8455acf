"""xarray, napari and zarr-python on caches; docs/tools.md is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
import xarray as xr
import zarr
from napari.components import ViewerModel
from pydicom import dcmread

from tests.oracles.series import Series, one_volume
from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import VolumeError, open_cache

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"


def series(folder: Path, kind: str) -> Path:
    (folder / "in").mkdir()
    getattr(one_volume, kind)(Series(folder / "in"))
    return built(folder / "in", folder / "cache")


@pytest.mark.parametrize("kind", ["ct", "sagittal", "oblique"])
def test_coordinates_are_where_dicom_has_the_voxels(tmp_path: Path, kind: str) -> None:
    cache = open_cache(series(tmp_path, kind))
    volume = cache.to_xarray(0)
    assert isinstance(volume, xr.DataArray)
    assert volume.dims == ("z", "y", "x")
    assert np.shares_memory(volume.values, cache.volume(0))
    if kind == "ct":
        assert volume.attrs == {"units": "HU"}
    files = [dcmread(p) for p in sorted((tmp_path / "in").rglob("*.dcm"))]
    assert len(files) == volume.sizes["z"]
    directions = [np.array(volume[k].attrs["direction"]) for k in "zyx"]
    assert {volume[k].attrs["units"] for k in "zyx"} == {"mm"}
    for ds in files:
        first = np.array(ds.ImagePositionPatient, float)
        row, column = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        down, right = map(float, ds.PixelSpacing)
        place = first + 3 * column * down + 2 * row * right
        at = {k: float(place @ d) for k, d in zip("zyx", directions, strict=True)}
        found = volume.sel(at, method="nearest", tolerance=1e-3)
        slope, intercept = getattr(ds, "RescaleSlope", 1), getattr(ds, "RescaleIntercept", 0)
        assert float(found) == pytest.approx(ds.pixel_array[3, 2] * float(slope) + float(intercept))
        mm = [float(found[k]) * d for k, d in zip("zyx", directions, strict=True)]
        np.testing.assert_allclose(sum(mm), place, atol=1e-3)


def test_what_is_tilted_is_refused(tmp_path: Path) -> None:
    cache = open_cache(series(tmp_path, "tilted"))
    with pytest.raises(VolumeError, match=r"tilted|shift in their plane|right angles"):
        cache.to_xarray(0)
    with pytest.raises(VolumeError, match="not at right angles; resample makes it upright"):
        cache.image(0, sheared=True).to_xarray()
    assert cache.resample(0).to_xarray().dims == ("z", "y", "x")


def test_colour_and_the_group(tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "a.dcm", pattern("a", (2, 6, 5, 3), "uint8", 255))
    write_dicom(tmp_path / "in" / "b.dcm", pattern("b", (7, 9)))
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    group = cache.zarr()
    assert isinstance(group, zarr.Group)
    assert sorted(group) == sorted(a.name for a in cache.arrays)
    for k, frame in enumerate(cache):
        array, row = (cache.column(c)[k].as_py() for c in ("array", "row"))
        stored: Any = group[cache.arrays[array].name]
        np.testing.assert_array_equal(stored[row, : frame.shape[0], : frame.shape[1]], frame)
    with pytest.raises(ValueError, match=r"read.?only"):
        group.create_array("x", shape=(1,), dtype="u1")


BLOCKS = re.findall(r"## (\S+)\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize(("tool", "code"), BLOCKS)
def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, code: str) -> None:
    cache = open_cache(series(tmp_path, "ct"))
    monkeypatch.chdir(tmp_path)
    # No screen here: the viewer's own model, which holds the layers and calls no Qt.
    monkeypatch.setattr(napari, "Viewer", ViewerModel)
    made: dict[str, Any] = {}
    exec(code, made)
    if tool == "napari":
        layer, frames = made["viewer"].layers
        for index in ((0, 0, 0), (3, 2, 1)):
            *world, _ = cache.affine(0) @ [*index[::-1], 1]
            np.testing.assert_allclose(layer.data_to_world(index), world[::-1], atol=1e-4)
        assert frames.data.shape[0] == len(cache)
    elif tool == "xarray":
        np.testing.assert_allclose(np.diff(made["volume"].z), 3.0)
        assert made["slab"].dims == ("y", "x")
    else:
        np.testing.assert_array_equal(made["frame"], cache[0])


def test_the_page_has_all_three() -> None:
    assert [tool for tool, _ in BLOCKS] == ["zarr-python", "xarray", "napari"]
