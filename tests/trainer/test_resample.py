"""Volumes on other grids, against literal values and against functions of the place in mm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainer_adapter import SpatialImage, VolumeError
from trainer_adapter.volumes import resample


def worth(affine: Any, shape: tuple[int, ...]) -> Any:
    """3 x - 2 y + 5 z + 100 at the centre of each voxel, x, y, z in mm."""
    z, y, x = np.indices(shape)
    at = np.einsum("ij,j...->i...", affine, np.stack([x, y, z, np.ones(shape)]))
    return 3 * at[0] - 2 * at[1] + 5 * at[2] + 100


def lies(step: Any, shape: tuple[int, ...], dtype: Any = np.float32, **said: Any) -> SpatialImage:
    """A volume of such values, 2 mm between columns, 1.5 between rows, slices `step` apart."""
    affine = np.array([[2.0, 0, 0, -9], [0, 1.5, 0, 4], [0, 0, 0, 7], [0, 0, 0, 1]])
    affine[:3, 2] = step
    return SpatialImage(worth(affine, shape).astype(dtype), affine, **said)


def test_values_lie_between_and_edges_go_on() -> None:
    voxels = np.array([0, 10], np.int16).reshape(2, 1, 1)
    found = SpatialImage(voxels, np.diag([1.0, 1, 2, 1])).resample((1, 1, 1))
    assert found.voxels.ravel().tolist() == [0, 2, 8, 10]  # 0, 2.5, 7.5, 10 to the nearest even
    assert found.affine[:3, 3].tolist() == [0, 0, -0.5]  # half a voxel before the first centre
    assert found.voxels.dtype == np.int16


def test_the_middle_stays_where_it_is() -> None:
    image = lies((0, 0, 3), (7, 12, 9))
    for spacing in ((1, 1, 1), (2.5, 4, 0.7), (3, 1.5, 2)):
        found = image.resample(spacing)
        assert found.spacing == pytest.approx(spacing)
        middles = [
            (i.affine @ [*((n - 1) / 2 for n in i.voxels.shape[::-1]), 1])[:3]
            for i in (image, found)
        ]
        np.testing.assert_allclose(*middles, atol=1e-9)
        inside = np.s_[2:-2, 2:-2, 2:-2]
        np.testing.assert_allclose(
            found.voxels[inside], worth(found.affine, found.voxels.shape)[inside], rtol=1e-5
        )


def test_the_same_spacing_changes_nothing() -> None:
    image = lies((0, 0, 3), (3, 4, 5), np.int16)
    for found in (image.resample(), image.resample(image.spacing)):
        np.testing.assert_array_equal(found.voxels, image.voxels)
        np.testing.assert_allclose(found.affine, image.affine)


def test_a_tilted_volume_becomes_upright() -> None:
    image = lies((0, 0.9, 3), (8, 30, 6), fill=-1024.0)  # 17 degrees
    found = image.resample()
    assert found.voxels.shape == (8, 34, 6)  # 7 * 0.9 / 1.5 rows more
    np.testing.assert_allclose(found.affine[:3, 2], [0, 0, 3], atol=1e-12)
    expected = worth(found.affine, found.voxels.shape)
    there = found.voxels != -1024
    assert 0.8 < there.mean() < 0.95
    inner = there.copy()  # the outermost half pixel of each slice has its edge's value
    inner[:, 1:] &= there[:, :-1]
    inner[:, :-1] &= there[:, 1:]
    inner[:, [0, -1]] = False
    np.testing.assert_allclose(found.voxels[inner], expected[inner], rtol=1e-5)


def test_a_shift_by_whole_pixels_interpolates_nothing() -> None:
    image = lies((0, -1.5, 3), (4, 10, 6), np.int16, fill=-5.0)
    found = image.resample().voxels
    assert found.shape == (4, 13, 6)
    for k in range(4):
        np.testing.assert_array_equal(found[k, 3 - k : 13 - k], image.voxels[k])
        assert (found[k, : 3 - k] == -5).all()
        assert (found[k, 13 - k :] == -5).all()


def test_masks_take_the_nearest_value() -> None:
    voxels = np.zeros((4, 6, 6), np.uint8)
    voxels[1:3, 2:4, 2:4] = 7
    mask = SpatialImage(voxels, np.diag([1.0, 1, 3, 1]), kind="mask")
    assert set(np.unique(mask.resample((1, 0.7, 0.7)).voxels)) == {0, 7}
    linear = mask.resample((1, 0.7, 0.7), interpolation="linear").voxels
    assert len(np.unique(linear)) > 2


def test_what_a_mask_leaves_out_is_empty_and_what_an_image_lacks_is_between() -> None:
    voxels = np.array([1, 3, 5], np.uint8).reshape(3, 1, 1)
    places = np.array([[0, 0, 0], [0, 0, 2], [0, 0, 6]], float)  # one is missing at 4 mm
    slices = resample.Slices(voxels, places, np.eye(3)[0], np.eye(3)[1], (1.0, 1.0), 2.0)
    mask, affine = resample.upright(slices, None, nearest=True, fill=0, hollow=True)
    assert mask.ravel().tolist() == [1, 3, 0, 5]
    assert affine[:3, 2].tolist() == [0, 0, 2]
    image, _ = resample.upright(slices, None, nearest=False, fill=0)
    assert image.ravel().tolist() == [1, 3, 4, 5]


def test_one_volume_on_the_grid_of_another() -> None:
    space = frozenset({"1.2.3"})
    image = lies((0, 0, 3), (20, 30, 25), frames_of_reference=space, fill=-7.0)
    turn = np.radians(25)
    affine = np.eye(4)
    affine[:3, :3] = 1.3 * np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    affine[:3, 3] = [5, 18, 20]
    grid = SpatialImage(np.zeros((9, 8, 7), np.uint8), affine, frames_of_reference=space)
    found = image.resample(like=grid)
    np.testing.assert_allclose(found.voxels, worth(affine, (9, 8, 7)), rtol=1e-4)
    np.testing.assert_array_equal(found.affine, affine)
    affine = affine.copy()
    affine[2, 3] = 7 + 19 * 3 + 1.3  # 1.3 mm above the last slice: within half a voxel, then not
    beyond = image.resample(like=SpatialImage(grid.voxels, affine, frames_of_reference=space))
    assert (beyond.voxels[0] != -7).all()
    assert (beyond.voxels[1:] == -7).all()


def test_colour_is_resampled_each_by_itself() -> None:
    voxels = np.zeros((2, 2, 2, 3), np.uint8)
    voxels[1] = [200, 100, 50]
    found = SpatialImage(voxels, np.diag([1.0, 1, 2, 1])).resample((1, 1, 1)).voxels
    assert found[:, 0, 0].tolist() == [[0, 0, 0], [50, 25, 12], [150, 75, 38], [200, 100, 50]]


def test_other_spaces_are_refused_unless_asked_for() -> None:
    image = lies((0, 0, 3), (3, 4, 5), frames_of_reference=frozenset({"1.2.3"}))
    other = lies((0, 0, 3), (3, 4, 5), frames_of_reference=frozenset({"1.2.4"}), name="the PET")
    with pytest.raises(VolumeError, match="not that of the PET"):
        image.resample(like=other)
    np.testing.assert_array_equal(
        image.resample(like=other, across_spaces=True).voxels, image.voxels
    )
    nowhere = lies((0, 0, 3), (3, 4, 5), name="the dose")
    with pytest.raises(VolumeError, match="nothing says the frame of reference of the dose"):
        image.resample(like=nowhere)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"spacing": (0, 1, 1)}, "legal: three lengths in mm"),
        ({"spacing": (1, 1)}, "legal: three lengths in mm"),
        ({"spacing": (1, float("nan"), 1)}, "legal: three lengths in mm"),
        ({"spacing": (1e-6, 1e-3, 1e-3)}, "legal: up to 4294967296"),  # no memory is asked for
        ({"interpolation": "cubic"}, "legal: linear, nearest"),
        ({"spacing": (1, 1, 1), "like": lies((0, 0, 3), (2, 2, 2))}, "not both"),
    ],
)
def test_what_is_no_grid(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lies((0, 0, 3), (3, 4, 5)).resample(**given)


@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
def test_places_that_are_no_numbers(wrong: float) -> None:
    affine = np.diag([wrong, 1.0, 1.0, 1.0])
    with pytest.raises(VolumeError, match="is no number"):
        SpatialImage(np.zeros((2, 2, 2), np.uint8), affine).resample((1, 1, 1))


@pytest.mark.parametrize("dtype", ["float16", "uint16", "int32", "uint8", "float64"])
def test_types_stay(dtype: str) -> None:
    image = lies((0, 0, 3), (4, 6, 5), dtype)
    found = image.resample((1.5, 1.5, 2))
    assert found.voxels.dtype == dtype
    expected = worth(found.affine, found.voxels.shape)[2:-2]
    np.testing.assert_allclose(found.voxels[2:-2].astype(float), expected, atol=0.51, rtol=1e-3)
