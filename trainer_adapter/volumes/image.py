"""A volume and where it lies: what other tools' types are made of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import VolumeError
from trainer_adapter.volumes import convert, resample
from trainer_adapter.volumes.convert import Floats
from trainer_adapter.volumes.files import as_nifti, write_whole

INTERPOLATIONS = ("linear", "nearest")


@dataclass(frozen=True, eq=False, repr=False)
class SpatialImage:
    """Voxels on an even grid in the patient's space."""

    voxels: NDArray[Any]
    """(d, H, W[, C]) of the stored dtype; read-only where it is a view of the cache"""
    affine: Floats
    """(4, 4): (column, row, slice, 1) to mm, LPS, as DICOM and ITK have it"""
    unit: str | None = None
    """of the values, as in frames/"""
    kind: str = "image"
    """`image`, `dose`, `map` or `mask`"""
    frames_of_reference: frozenset[str] = frozenset()
    """UIDs of the space; empty: not known"""
    fill: float = 0.0
    """what lies outside"""
    name: str = "the volume"
    """for messages"""

    def __repr__(self) -> str:
        spacing = " x ".join(f"{v:.4g}" for v in self.spacing)
        what = f"{self.voxels.shape} {self.voxels.dtype}"
        return f"<SpatialImage {what} {self.unit or self.kind}, {spacing} mm: {self.name}>"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between slices, rows, columns."""
        z, y, x = np.linalg.norm(self.affine[:3, 2::-1], axis=0).tolist()
        return z, y, x

    @property
    def labels(self) -> bool:
        """Whether values are names, not amounts, so that nothing lies between two of them."""
        return self.kind == "mask"

    def resample(
        self,
        spacing: Sequence[float] | None = None,
        *,
        like: SpatialImage | None = None,
        across_spaces: bool = False,
        interpolation: str | None = None,
        fill: float | None = None,
    ) -> SpatialImage:
        """The volume upright, with `spacing` (z, y, x) in mm, or on the grid of `like`.

        Linear, or `interpolation="nearest"`, as for masks by default. Outside lies `fill`. Raises
        VolumeError where `like` is in another frame of reference, or nobody says in which, unless
        `across_spaces`; ValueError for a spacing, or an interpolation, that is none.
        """
        if like is not None and spacing is not None:
            raise ValueError("give spacing or like, not both: like has a spacing of its own")
        nearest = self.nearest(interpolation)
        value = self.fill if fill is None else fill
        skewed = convert.sheared(self.affine, len(self.voxels))
        mine = self
        if like is None or skewed:
            slices = resample.slices_of(self.voxels, self.affine)
            try:
                voxels, affine = resample.upright(slices, spacing, nearest=nearest, fill=value)
            except VolumeError as e:
                raise VolumeError(f"{self.name}: {e}") from None
            mine = replace(self, voxels=voxels, affine=affine, fill=value)
        if like is None:
            return mine
        if not across_spaces:
            self._hold_space(like)
        shape = like.voxels.shape[:3]
        voxels = resample.onto(
            mine.voxels, mine.affine, shape, like.affine, nearest=nearest, fill=value
        )
        return replace(mine, voxels=voxels, affine=like.affine, fill=value)

    def nearest(self, interpolation: str | None = None) -> bool:
        """Whether values are taken from the nearest voxel. Raises ValueError."""
        chosen = interpolation or ("nearest" if self.labels else "linear")
        if chosen not in INTERPOLATIONS:
            raise ValueError(f"interpolation {chosen!r}; legal: {', '.join(INTERPOLATIONS)}")
        return chosen == "nearest"

    def _hold_space(self, like: SpatialImage) -> None:
        mine, other = self.frames_of_reference, like.frames_of_reference
        if mine and mine == other:
            return
        if mine and other:
            why = f"its frame of reference is not that of {like.name}"
        else:
            unknown = self.name if not mine else like.name
            why = f"nothing says the frame of reference of {unknown}"
        raise VolumeError(
            f"{self.name}: {why} (Frame of Reference UID (0020,0052)), so positions need not mean "
            "the same; register them, or give across_spaces=True if you know that they do"
        )

    def to_nifti(self, path: str | os.PathLike[str] | None = None) -> Any:
        """A nibabel.Nifti1Image; with `path` (.nii or .nii.gz) it is written, whole or not at all.

        The values as stored, slope 1; RAS, mm. Raises VolumeError for what NIfTI-1 cannot hold,
        MissingLibraryError without nibabel.
        """
        image = convert.nifti([self.voxels], self.affine, self.name)
        if path is not None:
            write_whole(Path(path), as_nifti(image, Path(path).name))
        return image

    def to_sitk(self) -> Any:
        """A SimpleITK.Image, a copy; LPS, mm. Raises MissingLibraryError without SimpleITK."""
        return convert.sitk(self.voxels, self.affine, self.name)

    def to_xarray(self) -> Any:
        """An xarray.DataArray (z, y, x[, channel]) with coordinates in mm; nothing is copied.

        Along each axis from the patient's origin, with its direction (LPS). Raises VolumeError for
        a sheared volume, MissingLibraryError without xarray.
        """
        return convert.xarray(self.voxels, self.affine, self.unit, self.name)

    def to_metatensor(self) -> Any:
        """A monai.data.MetaTensor (C, x, y, z), a copy; its affine in RAS, mm.

        Of uint16, uint32 and uint64 it is int32 and int64, since torch calculates with no others.
        Raises MissingLibraryError without MONAI.
        """
        return convert.metatensor(self.voxels, self.affine)

    def to_torchio(self) -> Any:
        """A torchio.ScalarImage, of masks a LabelMap, (C, x, y, z), a copy; RAS, mm.

        Types as `to_metatensor`. Raises MissingLibraryError without torchio.
        """
        return convert.torchio(self.voxels, self.affine, self.labels)
