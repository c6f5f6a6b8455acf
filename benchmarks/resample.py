"""Resampling by scipy, which it is done by, and by SimpleITK: time and exactness, in one process.

`make bench-resample`: a CT of 100 slices to 1 mm, and onto a grid that is turned; the processor
time of each, their ratio, and how far each is from the same in float64 by NumPy alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from trainer_adapter import SpatialImage

SHAPE, SPACING, WANTED = (100, 256, 256), (2.5, 0.8, 0.8), (1.0, 1.0, 1.0)
TIMES = 5


def volume() -> SpatialImage:
    """Noise as of a CT: what interpolation finds hardest."""
    voxels = np.random.default_rng(0).normal(0, 300, SHAPE).astype(np.int16)
    return SpatialImage(voxels, np.diag([*SPACING[::-1], 1.0]), fill=-1024.0)


def turned() -> SpatialImage:
    """A grid that is turned by 20 degrees about the patient's axis."""
    a = np.radians(20)
    affine = np.eye(4)
    affine[:3, :3] = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    affine[:3, 3] = [60, -20, 20]
    return SpatialImage(np.zeros((200, 150, 150), np.int16), affine)


def by_simpleitk(image: SpatialImage, like: SpatialImage) -> NDArray[Any]:
    """In float32, rounded: into int16 SimpleITK cuts fractions off."""
    made = SimpleITK.Resample(
        image.to_sitk(), like.to_sitk(), SimpleITK.Transform(), SimpleITK.sitkLinear, image.fill,
        SimpleITK.sitkFloat32,
    )  # fmt: skip
    rounded: NDArray[Any] = np.rint(SimpleITK.GetArrayViewFromImage(made)).astype(np.int16)
    return rounded


def exactly(image: SpatialImage, like: SpatialImage) -> NDArray[np.float64]:
    """Linear, in float64, by NumPy alone; NaN outside."""
    z, y, x = np.indices(like.voxels.shape)
    index = np.linalg.inv(image.affine) @ like.affine
    at = np.einsum("ij,j...->i...", index, np.stack([x, y, z, np.ones(z.shape)]))[2::-1]
    sizes = np.array(image.voxels.shape).reshape(3, 1, 1, 1)
    outside = ((at < -0.5) | (at > sizes - 0.5)).any(0)
    at = np.clip(at, 0, sizes - 1)
    low = np.minimum(at.astype(np.int64), sizes - 2)
    share = at - low
    found = np.zeros(z.shape)
    for corner in np.ndindex(2, 2, 2):
        step = np.array(corner).reshape(3, 1, 1, 1)
        weight = np.where(step == 1, share, 1 - share).prod(0)
        found += weight * image.voxels[tuple(low + step)]
    found[outside] = np.nan
    return found


def seconds(call: Callable[[], Any]) -> float:
    """The least processor time of several calls."""
    found = []
    for _ in range(TIMES):
        begun = time.process_time()
        call()
        found.append(time.process_time() - begun)
    return min(found)


def main() -> None:
    """Measure, print."""
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = volume()

    def resampled() -> SpatialImage:
        return image.resample(WANTED)

    def onto() -> SpatialImage:
        return image.resample(like=turned(), across_spaces=True)

    for name, ours in (("to 1 mm", resampled), ("onto a turned grid", onto)):
        like = ours()
        exact = exactly(image, like)
        inside = ~np.isnan(exact)
        mine, theirs = like.voxels, by_simpleitk(image, like)
        one, other = seconds(ours), seconds(partial(by_simpleitk, image, like))
        off = [np.abs(v - exact)[inside].max() for v in (mine, theirs)]
        print(
            f"{name}: {like.voxels.shape}; scipy {one:.2f} s of a processor, SimpleITK {other:.2f} "
            f"({other / one:.2f} of it); from float64 at most {off[0]:.3f} and {off[1]:.3f} HU "
            "(0.5 is rounding)"
        )


if __name__ == "__main__":
    main()
