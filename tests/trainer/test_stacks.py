"""Stacks of a cache: a table of them, where their voxels lie, and volumes over time."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.caches import built
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from tests.support.signed import rewrite
from trainer_adapter import Cache, VolumeError, open_cache

AXIAL = [1, 0, 0, 0, 1, 0]
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def write(folder: Path, series: str, places: list[list[float]], **elements: Any) -> None:
    """A series of slices 6 x 4 whose values are the number of the file."""
    for k, place in enumerate(places):
        said = {
            "SOPClassUID": MR_IMAGE, "Modality": "MR", "SeriesInstanceUID": uid(series),
            "ImageType": ["ORIGINAL", "PRIMARY"], "ImagePositionPatient": place,
            "ImageOrientationPatient": AXIAL, "PixelSpacing": [2, 0.5], "InstanceNumber": k + 1,
        }  # fmt: skip
        said |= {name: of[k] if isinstance(of, tuple) else of for name, of in elements.items()}
        write_dicom(folder / f"{series}{k}.dcm", np.full((6, 4), k, np.uint16), **said)


def cache_of(tmp_path: Path, *flags: str, status: int = 0) -> Cache:
    return open_cache(built(*flags, tmp_path / "in", tmp_path / "cache", status=status))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Series a: sagittal; b: sheared; c: a slice is missing; d: one picture without a place."""
    folder = tmp_path_factory.mktemp("stacks")
    write(
        folder / "in", "a", [[10.0 + 3 * k, -5, 7] for k in range(4)],
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
    )  # fmt: skip
    write(folder / "in", "b", [[0, -2.0 * k, 5.0 * k] for k in range(3)], SOPClassUID=CT_IMAGE,
          Modality="CT", RescaleSlope=1, RescaleIntercept=0)  # fmt: skip
    write(folder / "in", "c", [[0, 0, z] for z in (0.0, 1, 3, 4)])
    colour = np.zeros((5, 3, 3), np.uint8)
    write_dicom(folder / "in" / "d.dcm", colour, Modality="OT", SeriesInstanceUID=uid("d"))
    return built(folder / "in", folder / "cache")


def rows(cache: Cache) -> dict[str, dict[str, Any]]:
    names = {uid(name): name for name in "abcd"}
    return {names[row["series"]]: row for row in cache.stacks().to_pylist()}


def test_a_row_for_each_stack(several: Path) -> None:
    found = rows(open_cache(several))
    a, b, c, d = (found[name] for name in "abcd")
    assert sorted(row["stack"] for row in found.values()) == [0, 1, 2, 3]
    assert [row["shape"] for row in (a, b, c, d)] == [[4, 6, 4], [3, 6, 4], [4, 6, 4], [1, 5, 3, 3]]
    assert [row["dtype"] for row in (a, b, c, d)] == ["uint16", "int16", "uint16", "uint8"]
    assert [row["modality"] for row in (a, b, c, d)] == ["MR", "CT", "MR", "OT"]
    # The normal of a, row direction x column direction, is (-1, 0, 0): from 19 down to 10.
    assert a["affine"] == [0, 0, -3, 19, 0.5, 0, 0, -5, 0, -2, 0, 7, 0, 0, 0, 1]
    assert a["spacing"] == [3, 2, 0.5]
    assert (a["regular"], a["flags"], a["tilt"]) == (True, None, None)
    assert b["affine"] == [0.5, 0, 0, 0, 0, 2, -2, 0, 0, 0, 5, 0, 0, 0, 0, 1]
    assert b["spacing"] == [pytest.approx(29**0.5), 2, 0.5]
    assert (b["regular"], b["flags"]) == (True, ["tilted"])
    assert b["tilt"] == pytest.approx(21.80140949)
    assert (c["affine"], c["spacing"]) == (None, [None, 2, 0.5])
    assert (c["regular"], c["flags"]) == (False, ["gap"])
    assert (d["affine"], d["spacing"], d["holes"]) == (None, [None, None, None], False)
    assert all(row["stack_of"] == row["stack"] and row["part"] == 0 for row in found.values())


def test_affine(several: Path) -> None:
    cache = open_cache(several)
    found = rows(cache)
    affine = cache.affine(found["a"]["stack"])
    assert affine.shape == (4, 4)
    assert (affine @ [3, 5, 1, 1]).tolist() == [16, -3.5, -3, 1]  # column 3, row 5, slice 1
    affine[:] = 0
    assert cache.affine(found["a"]["stack"])[0, 2] == -3
    assert cache.affine(found["b"]["stack"])[1, 2] == -2
    with pytest.raises(VolumeError, match="flag gap"):
        cache.affine(found["c"]["stack"])
    with pytest.raises(VolumeError, match="no stack 9"):
        cache.affine(9)


def test_a_stack_without_a_place_has_no_affine(tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "cine.dcm", np.zeros((3, 4, 4), np.uint8))
    cache = cache_of(tmp_path)
    with pytest.raises(VolumeError, match="do not say where in the patient it lies"):
        cache.affine(0)


def test_a_selection_has_its_own_stacks(several: Path) -> None:
    whole = open_cache(several)
    a, b = (rows(whole)[name]["stack"] for name in "ab")
    few = whole.select(stack=a).select([2, 1, 1])
    assert few.volume(a)[:, 0, 0].tolist() == [2, 1]  # files 3, 2, 1, 0 in the order of the stack
    (row,) = few.stacks().to_pylist()
    assert row["shape"] == [2, 6, 4]
    assert row["affine"][3] == few.affine(a)[0, 3] == 16
    assert whole.volume(a)[:, 0, 0].tolist() == [3, 2, 1, 0]
    with pytest.raises(VolumeError, match=f"no stack {b} in this selection"):
        few.volume(b)
    ends = whole.select(stack=a).select([0, 3])
    with pytest.raises(VolumeError, match=r"frames \[1, 2\] of it are not in this selection"):
        ends.volume(a)
    assert ends.volume(a, gaps=True)[:, 0, 0].tolist() == [3, 0]
    (row,) = ends.stacks().to_pylist()
    assert (row["holes"], row["affine"]) == (True, None)
    one = whole.select(stack=a).select([3])
    assert one.affine(a).tolist() == [[0, 0, -3, 10], [0.5, 0, 0, -5], [0, -2, 0, 7], [0, 0, 0, 1]]
    assert whole.select([]).stacks().num_rows == 0
    assert whole.select([]).stacks().schema == whole.stacks().schema
    again = pickle.loads(pickle.dumps(few))
    assert again.volume(a)[:, 0, 0].tolist() == [2, 1]
    assert len(pickle.dumps(few)) < 2048


def test_a_failed_frame_is_a_hole_in_a_selection_too(tmp_path: Path) -> None:
    for k in range(4):
        values = np.full((4, 4), 60000 if k == 0 else k, np.uint16)  # 60000 is no int16
        write_dicom(
            tmp_path / "in" / f"{k}.dcm", values, SOPClassUID=CT_IMAGE, RescaleSlope=1,
            RescaleIntercept=0, ImageType=["ORIGINAL", "PRIMARY"], ImagePositionPatient=[0, 0, k],
            ImageOrientationPatient=AXIAL, PixelSpacing=[1, 1],
        )  # fmt: skip
    cache = cache_of(tmp_path, status=1)
    for some in (cache, cache.select([0, 1, 2])):
        with pytest.raises(VolumeError, match=r"frames \[0\] of it are not stored"):
            some.volume(0)
        assert some.stacks()["holes"].to_pylist() == [True]
    assert cache.select([1, 2]).volume(0)[:, 0, 0].tolist() == [2, 3]


def test_a_cache_of_before(several: Path, tmp_path: Path) -> None:
    """Columns that came later are null; the tilt is that of the positions."""
    new = rows(open_cache(several))
    old = Path(shutil.copytree(several, tmp_path / "old"))
    gone = ["tilt", "stack_flags", "stack_of", "part", "matrix_row", "study_uid"]
    rewrite(old, "frames", lambda table: table.drop_columns(gone))
    found = rows(open_cache(old))
    for name, row in found.items():
        assert row["affine"] == new[name]["affine"]
        assert (row["flags"], row["stack_of"], row["part"]) == (None, None, None)
    assert found["b"]["tilt"] == pytest.approx(21.80140949)
    assert found["a"]["tilt"] is None


B_VALUES, TIMES = (0.0, 700.0, 700.0), (30.0, 40.0, 50.0)
GRADIENTS = ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8])


@pytest.fixture(scope="module", params=["none", "zstd"])
def diffusion(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Three volumes of four slices, each in turn of a slice, told apart by their directions."""
    folder = tmp_path_factory.mktemp("diffusion")
    places = [[0, 0, 3.0 * (k // 3)] for k in range(12)]
    write(
        folder / "in", "a", places, SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
        DiffusionBValue=tuple(B_VALUES[k % 3] for k in range(12)),
        DiffusionGradientOrientation=tuple(GRADIENTS[k % 3] for k in range(12)),
        FrameReferenceTime=tuple(TIMES[k % 3] + k // 3 for k in range(12)),
    )  # fmt: skip
    return built(folder / "in", folder / "cache", "--codec", request.param)


def test_a_series_over_directions(diffusion: Path) -> None:
    cache = open_cache(diffusion)
    found = cache.series4d(0)
    assert found.image.shape == (3, 4, 6, 4)
    assert found.image[:, :, 0, 0].tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert found.affine.tolist() == cache.affine(0).tolist()
    assert found.affine[2].tolist() == [0, 0, 3, 0]
    assert found.b_value.tolist() == list(B_VALUES)
    assert found.time.tolist() == list(TIMES)
    np.testing.assert_array_equal(found.gradient[1:], GRADIENTS[1:])
    assert found.parts["stack"].to_pylist() == found.parts["part"].to_pylist() == [0, 1, 2]
    assert found.parts["echo_time"].to_pylist() == [None] * 3
    assert found.image.flags.writeable == (cache.arrays[0].codec == "zstd")  # a copy, or the map


def test_a_series_of_a_selection(diffusion: Path) -> None:
    cache = open_cache(diffusion)
    weighted = cache.select(b_value=700.0).series4d(0)
    assert weighted.image[:, :, 0, 0].tolist() == [[1, 4, 7, 10], [2, 5, 8, 11]]
    assert weighted.parts["part"].to_pylist() == [1, 2]
    middle = cache.select(cache.column("stack_index").to_numpy() % 3 > 0)
    assert middle.series4d(0).image[:, :, 0, 0].tolist() == [[3, 6], [4, 7], [5, 8]]
    assert middle.series4d(0).affine[2].tolist() == [0, 0, 3, 3]


def test_what_is_no_series(diffusion: Path, several: Path) -> None:
    cache = open_cache(diffusion)
    with pytest.raises(VolumeError, match="no acquisition 1; the column `stack_of`"):
        cache.series4d(1)
    unlike = cache.select(np.flatnonzero(cache.column("part").to_numpy() < 2)[:-1])
    with pytest.raises(VolumeError, match="stacks 0 and 1 differ in shape or dtype"):
        unlike.series4d(0)
    of = cache.column("stack").to_numpy(), cache.column("stack_index").to_numpy()
    moved = cache.select(((of[0] == 0) & (of[1] < 3)) | ((of[0] == 1) & (of[1] > 0)))
    with pytest.raises(VolumeError, match="stacks 0 and 1 differ in place"):
        moved.series4d(0)
    other = open_cache(several)
    sheared = rows(other)["b"]["stack"]
    with pytest.raises(VolumeError, match="give sheared=True"):
        other.series4d(sheared)
    assert other.series4d(sheared, sheared=True).image.shape == (1, 3, 6, 4)
