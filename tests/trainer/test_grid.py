"""Patches that cover a volume, and predictions put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trainer_adapter import PatchGrid

VOLUME = np.arange(7 * 10 * 9, dtype=np.int16).reshape(7, 10, 9)


def test_where_patches_lie() -> None:
    grid = PatchGrid(VOLUME, (4, 5, 9), overlap=0.5)
    assert sorted({tuple(c) for c in grid.corners[:, :2].tolist()}) == [
        (z, y) for z in (0, 2, 3) for y in (0, 2, 5)
    ]  # in steps of up to 2 and 2.5, evenly: 1.5 and 2.5 are rounded to even
    assert set(grid.corners[:, 2].tolist()) == {0}
    corner, patch = grid[4]
    assert patch.base is not None
    np.testing.assert_array_equal(patch, VOLUME[2:6, 2:7])
    assert corner.tolist() == [2, 2, 0]
    assert len(PatchGrid(VOLUME, (7, 5, 9), overlap=0)) == 2


@pytest.mark.parametrize("weights", ["gaussian", "constant"])
@pytest.mark.parametrize("patch", [(4, 5, 9), (3, 3, 3), (8, 12, 4), (1, 10, 9), (20, 20, 20)])
def test_what_is_cut_is_put_together_again(patch: tuple[int, int, int], weights: str) -> None:
    grid = PatchGrid(VOLUME, patch, overlap=0.4, fill=-1)
    parts = [(c, np.concatenate([p, -p], axis=1)) for c, p in grid.batches(3)]
    assert all(c.shape == (len(p), 3) and p.shape[1:] == (2, *patch) for c, p in parts)
    whole = grid.stitch(reversed(parts), weights=weights)
    assert whole.shape == (2, 7, 10, 9)
    np.testing.assert_allclose(whole[0], VOLUME, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(whole[1], -VOLUME.astype(float), rtol=1e-6, atol=1e-5)
    torched = grid.stitch((torch.from_numpy(c), torch.from_numpy(p)) for c, p in parts)
    np.testing.assert_allclose(torched[0], VOLUME, rtol=1e-6, atol=1e-5)


def test_what_is_outside_is_filled() -> None:
    corner, patch = PatchGrid(VOLUME, (9, 10, 12), fill=-5)[0]
    assert corner.tolist() == [-1, 0, -2]
    assert patch.shape == (9, 10, 12)
    np.testing.assert_array_equal(patch[1:8, :, 2:11], VOLUME)
    assert (patch == -5).sum() == 9 * 10 * 12 - VOLUME.size


def test_the_middle_of_a_patch_counts_more() -> None:
    """Two patches that say 0 and 1: at the first rows of the one, the other is believed."""
    grid = PatchGrid(np.zeros((1, 6, 1)), (1, 4, 1), overlap=0.5)
    parts = [
        (grid.corners, np.array([0.0, 1.0])[:, None, None, None, None] * np.ones((1, 1, 1, 4, 1)))
    ]
    constant = grid.stitch(parts, weights="constant")[0, 0, :, 0]
    assert constant.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    gaussian = grid.stitch(parts)[0, 0, :, 0]
    # Weights exp(-x²/2) of x = -3, -1, 1, 3: rows 2 and 3 are 1 and 3 in the one, -3 and -1 else.
    share = np.exp(-4.5) / (np.exp(-4.5) + np.exp(-0.5))
    np.testing.assert_allclose(gaussian, [0, 0, share, 1 - share, 1, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"volume": VOLUME[0], "patch": (1, 2, 3)}, "three sides each"),
        ({"volume": VOLUME, "patch": (2, 3)}, "three sides each"),
        ({"volume": VOLUME, "patch": (2, 0, 3)}, "three sides each"),
        ({"volume": VOLUME, "patch": (2, 2, 3), "overlap": 1}, "from 0 to below 1"),
    ],
)
def test_what_is_no_grid(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PatchGrid(**given)


def test_predictions_that_do_not_fit() -> None:
    grid = PatchGrid(VOLUME, (4, 5, 9))
    parts = list(grid.batches(4))
    # Without (0, 0), (0, 2), (0, 5), (2, 0): rows 0, 1 of slice 2 and all of the two before it.
    with pytest.raises(ValueError, match="no prediction for 198 of 630 voxels"):
        grid.stitch(parts[1:])
    with pytest.raises(ValueError, match="no prediction for 630 of 630 voxels"):
        grid.stitch([])
    with pytest.raises(ValueError, match=r"a prediction \(1, 4, 5, 8\)"):
        grid.stitch((c, p[..., 1:]) for c, p in parts)
    with pytest.raises(ValueError, match="legal: gaussian, constant"):
        grid.stitch(parts, weights="best")
