"""Cache: views, columns, selections, batches, volumes."""

from __future__ import annotations

import pickle
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from tests.support.caches import built
from tests.support.dicom_files import CT_IMAGE, pattern, uid, write_dicom, write_series
from trainer_adapter import Cache, MixedShapesError, VolumeError, open_cache


def test_length_and_index(examples_cache: Path) -> None:
    cache = open_cache(examples_cache)
    assert len(cache) == 51
    np.testing.assert_array_equal(cache[-1], cache[50])
    np.testing.assert_array_equal(cache[np.int64(3)], cache[3])
    for i in (51, -52):
        with pytest.raises(IndexError, match=f"frame {i} of 51"):
            cache[i]


def test_a_frame_is_a_read_only_view(ct_series_cache: Path) -> None:
    cache = open_cache(ct_series_cache)
    view = cache[0]
    assert not view.flags.writeable
    assert not view.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1
    again = open_cache(ct_series_cache)[0]
    assert cache[0].__array_interface__["data"][0] == view.__array_interface__["data"][0]
    np.testing.assert_array_equal(view, again)


def test_a_view_outlives_its_cache(ct_series_cache: Path) -> None:
    view = open_cache(ct_series_cache)[5]
    np.testing.assert_array_equal(view, pattern("slice5", (512, 512)).astype(np.int16) - 1024)


def test_shape_of_a_frame(examples_cache: Path) -> None:
    cache = open_cache(examples_cache)
    shapes = [cache.shape_of(i) for i in range(51)]
    assert shapes == [frame.shape for frame in cache]
    assert {len(shape) for shape in shapes} == {2, 3}  # grey and colour


def test_frames_is_the_table(examples_cache: Path) -> None:
    cache = open_cache(examples_cache)
    assert cache.frames.num_rows == 51
    assert cache.column("modality").to_pylist() == cache.frames["modality"].to_pylist()
    with pytest.raises(KeyError, match="no column patient_name"):
        cache.column("patient_name")


@pytest.mark.parametrize(
    ("rows", "equals", "expected"),
    [
        (None, {"kind": "dose"}, 15),
        (None, {"kind": "image"}, 36),
        (None, {"modality": ["CT", "MR"]}, 3),  # a list: any of them
        (None, {"modality": "US", "photometric": "RGB"}, 1),  # both hold
        (None, {"unit": None}, 33),  # None: null
        (pc.field("unit") == "HU", {}, 1),
        (pc.field("max") > 255, {}, 3),
        (pc.field("unit") == "HU", {"modality": "MR"}, 0),
        ([0, 2], {}, 2),
        ([], {}, 0),
    ],
)
def test_select(
    examples_cache: Path, rows: object, equals: dict[str, object], expected: int
) -> None:
    cache = open_cache(examples_cache)
    few = cache.select(rows, **equals)
    assert len(few) == len(few.frames) == expected
    for k, sample in enumerate(few.indices):
        np.testing.assert_array_equal(few[k], cache[sample])


def test_select_of_a_selection(examples_cache: Path) -> None:
    us = open_cache(examples_cache).select(modality="US")
    mask = np.zeros(len(us), bool)
    mask[[1, 4]] = True
    few = us.select(mask)
    assert few.indices.tolist() == us.indices[[1, 4]].tolist()
    assert us.select([4, 1]).indices.tolist() == us.indices[[4, 1]].tolist()
    assert us[2:4].indices.tolist() == us.indices[2:4].tolist()
    with pytest.raises(ValueError, match="mask of shape"):
        us.select(mask[:3])
    with pytest.raises(KeyError, match="no column modalty"):
        us.select(modalty="US")


def test_gather(ct_series_cache: Path) -> None:
    cache = open_cache(ct_series_cache)
    wanted = [7, 0, 7, 11]
    expected = np.stack([cache[i] for i in wanted])
    np.testing.assert_array_equal(cache.gather(wanted), expected)
    out = np.empty((4, 512, 512), np.int16)
    assert cache.gather(wanted, out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(cache[2:].gather([5]), expected[:1])  # indices of the selection


@pytest.mark.parametrize(
    "out",
    [
        np.empty((3, 512, 512), np.int16),  # too few
        np.empty((4, 512, 512), np.uint16),  # another type
        np.broadcast_to(np.int16(0), (4, 512, 512)),  # read-only
    ],
)
def test_gather_refuses_an_out_that_does_not_fit(ct_series_cache: Path, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="these frames need"):
        open_cache(ct_series_cache).gather([0, 1, 2, 3], out)


def test_gather_of_several_shapes_says_how_to_group(examples_cache: Path) -> None:
    cache = open_cache(examples_cache)
    with pytest.raises(MixedShapesError, match="GroupedBatchSampler"):
        cache.gather(range(51))
    groups = cache.groups()
    assert sorted(chain(*groups.values())) == list(range(51))
    for (_, shape), indices in groups.items():
        assert cache.gather(indices).shape == (len(indices), *shape)


def test_volume_is_a_view(ct_series: Path, ct_series_cache: Path, tmp_path: Path) -> None:
    expected = np.stack([pattern(f"slice{k}", (512, 512)) for k in range(12)]).astype(np.int16)
    across = open_cache(ct_series_cache).volume(0)
    one_shard = open_cache(built(ct_series, tmp_path / "cache")).volume(0)
    for volume in (across, one_shard):
        np.testing.assert_array_equal(volume, expected - 1024)
        assert not volume.flags.owndata
        assert not volume.flags.writeable


def test_a_cine_is_a_volume(examples_cache: Path) -> None:
    cache = open_cache(examples_cache)
    (stack,) = set(cache.select(path="examples_ybr_color.dcm").column("stack").to_pylist())
    assert cache.volume(stack).shape == (30, 240, 320, 3)


def test_volume_refuses_a_gap(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in", 6, size=32)
    paths[2].unlink()
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    with pytest.raises(
        VolumeError, match=r"slices are missing between others \(flag gap\); give gaps"
    ):
        cache.volume(0)
    assert cache.volume(0, gaps=True).shape == (5, 32, 32)
    with pytest.raises(VolumeError, match="no stack 7"):
        cache.volume(7)


def _slices(
    folder: Path, positions: list[list[float]], oriented: bool = True, numbered: bool = False
) -> Cache:
    """A cache of 8 x 8 slices of these values: number of the slice."""
    elements: dict[str, Any] = {"PixelSpacing": [1, 1]}
    if oriented:
        elements["ImageOrientationPatient"] = [1, 0, 0, 0, 1, 0]
    for k, position in enumerate(positions):
        values = np.full((8, 8), k, np.uint16)
        elements |= {"InstanceNumber": k} if numbered else {}
        write_dicom(folder / "in" / f"{k}.dcm", values, ImagePositionPatient=position, **elements)
    return open_cache(built(folder / "in", folder / "cache"))


def test_volume_refuses_a_sheared_stack_unless_asked(tmp_path: Path) -> None:
    cache = _slices(tmp_path, [[0, -2.0 * k, 5.0 * k] for k in range(4)])
    with pytest.raises(VolumeError, match=r"21\.8 degrees.*sheared; give sheared=True"):
        cache.volume(0, gaps=True)
    assert cache.volume(0, sheared=True)[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert cache.column("stack_regular").to_pylist() == [True] * 4
    assert cache.column("stack_flags").to_pylist() == [["tilted"]] * 4
    assert cache.column("tilt")[0].as_py() == pytest.approx(21.80140949)


@pytest.mark.parametrize(
    ("positions", "oriented", "why"),
    [
        ([[0, 0, 0]] * 3, True, r"lie at one place.*flag one-place"),
        ([[0, 0, z] for z in (0, 1, 7.4)], True, r"steps are uneven.*flag uneven"),
        ([[0, 0, 0]] * 3, False, r"their order.*flag order-unknown"),
    ],
)
def test_volume_says_why_a_stack_is_none(
    positions: list[list[float]], oriented: bool, why: str, tmp_path: Path
) -> None:
    cache = _slices(tmp_path, positions, oriented)
    with pytest.raises(VolumeError, match=why):
        cache.volume(0)
    assert sorted(cache.volume(0, gaps=True)[:, 0, 0].tolist()) == [0, 1, 2]


def test_volumes_over_time(tmp_path: Path) -> None:
    cache = _slices(tmp_path, [[0, 0, z] for z in (0, 1, 2, 0, 1, 2)], numbered=True)
    assert [cache.volume(k).shape for k in (0, 1)] == [(3, 8, 8)] * 2
    assert cache.column("stack_of").to_pylist() == [0] * 6
    assert cache.column("part").to_pylist() == [0] * 3 + [1] * 3


def test_volumes_over_time_that_nothing_tells_apart(tmp_path: Path) -> None:
    cache = _slices(tmp_path, [[0, 0, z] for z in (0, 1, 2, 0, 1, 2)])
    with pytest.raises(VolumeError, match="which of repeated places belong together"):
        cache.volume(0)


def test_volume_refuses_a_failed_frame(tmp_path: Path) -> None:
    for k in range(4):
        values = np.full((8, 8), 60000 if k == 1 else k, np.uint16)  # 60000 is no int16
        write_dicom(
            tmp_path / "in" / f"{k}.dcm", values, SOPClassUID=CT_IMAGE, RescaleSlope=1,
            RescaleIntercept=0, ImageType=["ORIGINAL", "PRIMARY"], SOPInstanceUID=uid(f"f{k}"),
            ImagePositionPatient=[0, 0, k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )  # fmt: skip
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache", status=1))
    assert len(cache) == 3
    with pytest.raises(VolumeError, match=r"frames \[1\] of it are not stored"):
        cache.volume(0)
    assert cache.volume(0, gaps=True)[:, 0, 0].tolist() == [0, 2, 3]


def test_pickles_small_and_reads_again(ct_series_cache: Path) -> None:
    cache = open_cache(ct_series_cache)
    assert cache.frames.num_rows == 12  # loaded tables and maps stay behind
    first = cache[0].copy()
    data = pickle.dumps(cache)
    assert len(data) < 2048
    again: Cache = pickle.loads(data)
    np.testing.assert_array_equal(again[0], first)
    few: Cache = pickle.loads(pickle.dumps(cache.select([3, 5])))
    assert few.indices.tolist() == [3, 5]
