"""What a cache makes of its stacks: volumes in space, other tools' types, files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.reading.masks.named import numbers_of
from trainer_adapter.reading.opened import Core
from trainer_adapter.volumes import convert, placed, sidecar
from trainer_adapter.volumes.files import as_nifti, as_text, write_whole
from trainer_adapter.volumes.image import SpatialImage
from trainer_adapter.volumes.predicted import seg, undone
from trainer_adapter.volumes.predicted.originals import Folders, headers
from trainer_adapter.volumes.predicted.seg import Coded
from trainer_adapter.volumes.series import parts_of
from trainer_adapter.volumes.stacks import Stacks


class Conversions(ABC):
    """Methods of Cache: one stack, by its number, in one call."""

    core: Core

    @abstractmethod
    def _known(self) -> Stacks: ...

    def by_stack(self) -> Stacks:
        """The frames of the selection, stack by stack."""
        return self._known()

    @abstractmethod
    def volume(self, stack: int, *, gaps: bool = False, sheared: bool = False) -> NDArray[Any]:
        """The frames of a stack in order, (d, H, W[, C])."""

    @abstractmethod
    def _of_stack(self, stack: int, gaps: bool, sheared: bool) -> Any: ...

    def labelvolume(
        self,
        stack: int,
        classes: Any = None,
        *,
        missing: str = "zeros",
        ignore: int = 255,
        combine: str = "union",
        gaps: bool = False,
        sheared: bool = False,
    ) -> NDArray[Any]:
        """(d, H, W): the label maps of the images of a stack, in the order of `volume`.

        `classes` to `combine` as of `labelmap`, which it raises as, and as `volume`.
        """
        images = self._of_stack(stack, gaps, sheared)
        found: NDArray[Any] = images.labelmap(
            np.arange(len(images)), classes, missing=missing, ignore=ignore, combine=combine
        )
        return found

    def prediction(self, stack: int, labels: Any) -> SpatialImage:
        """Labels (d, H, W) of the stored frames of a stack, on the pixels of its source.

        What the recipe resized or cropped is undone, by nearest; `to_nifti` of it writes it. Raises
        ValueError for labels of other frames, VolumeError for what is no volume.
        """
        core, frames = self.core, self._frames_of(stack)
        name = f"stack {stack} of {core.root.path}"
        made = undone.undone(core, frames, undone.hold_labels(core, frames, labels, name))
        grid = self._grid(stack)
        affine = grid.affine @ undone.back(core, frames)
        return replace(grid, voxels=made, affine=affine, kind="mask", unit="labelmap", fill=0.0)

    def to_seg(
        self,
        stack: int,
        labels: Any,
        path: str | os.PathLike[str] | None = None,
        classes: Any = None,
        *,
        sources: Folders = None,
        key: str | os.PathLike[str] | None = None,
        kind: str = "binary",
        codes: Mapping[str, tuple[Coded, Coded]] | None = None,
        algorithm: tuple[str, str] = ("unnamed", "unknown"),
    ) -> Any:
        """Labels (d, H, W) of the stored frames of a stack as a DICOM segmentation of its source.

        What the recipe resized or cropped is undone, by nearest. A highdicom Segmentation, written
        to `path` if given; it has the patient's data of the source files, whose headers are read
        from where they were, or below `sources`; of a de-identified cache with its `key`. classes:
        as of `labelmap`, new ones too. kind: "binary", or "labelmap" (PS3.3 A.101). codes:
        {class: (category, type)}, each ("SCT:10200004", "Liver"); else those of the cache's own
        masks, or tissue. algorithm: name and version. Raises ValueError, VolumeError for what
        cannot be said, ExportError for files that are not there, MissingLibraryError.
        """
        core, frames = self.core, self._frames_of(stack)
        name = f"stack {stack} of {core.root.path}"
        made = undone.undone(core, frames, undone.hold_labels(core, frames, labels, name))
        numbers = numbers_of(core, classes, new=True)
        read = headers(core, frames, sources, key)
        found = seg.segmentation(
            core, frames, made, read, numbers, kind, codes or {}, algorithm, name
        )
        if path is not None:
            write_whole(Path(path), lambda file: found.save_as(file, enforce_file_format=True))
        return found

    def image(self, stack: int, *, gaps: bool = False, sheared: bool = False) -> SpatialImage:
        """A stack with its place in space: a view where `volume` gives one.

        Of a mask, slices that its file leaves out are empty. Raises VolumeError for what is not
        even, unless `gaps` (then it is made so, linearly), and for what is tilted, unless `sheared`
        (then its axes are not at right angles); `resample` makes both upright.
        """
        stacks = self._known()
        k = stacks.find(stack)
        placed.hold(stacks, k, gaps, sheared)  # before anything is read
        voxels = self.volume(stack, gaps=True, sheared=True)
        return placed.placed(stacks, k, voxels, gaps=gaps, sheared=sheared)

    def resample(
        self,
        stack: int,
        spacing: Sequence[float] | None = None,
        *,
        like: int | SpatialImage | None = None,
        gaps: bool = False,
        across_spaces: bool = False,
        interpolation: str | None = None,
        fill: float | None = None,
    ) -> SpatialImage:
        """A stack upright with `spacing` (z, y, x) in mm, or on the grid of `like`.

        Without either, upright as its slices lie: a tilted one is shifted in its plane only. `like`
        is another stack, or what `image` gave, of another cache too. Masks take the nearest value,
        others lie between. Outside is the file's padding, -1024 HU, or 0, unless `fill`. Raises as
        `image`, but for tilt, and as SpatialImage.resample.
        """
        stacks = self._known()
        k = stacks.find(stack)
        placed.hold(stacks, k, gaps, True)
        voxels = self.volume(stack, gaps=True, sheared=True)
        if like is None:
            return placed.evenly(stacks, k, voxels, spacing, interpolation, fill)
        mine = placed.placed(stacks, k, voxels, gaps=gaps, sheared=True)
        return mine.resample(
            spacing, like=like if isinstance(like, SpatialImage) else self._grid(like),
            across_spaces=across_spaces, interpolation=interpolation, fill=fill,
        )  # fmt: skip

    def _frames_of(self, stack: int) -> NDArray[np.int64]:
        stacks = self._known()
        return stacks.frames(stacks.find(stack))

    def _grid(self, stack: int) -> SpatialImage:
        """Where a stack lies, without its voxels."""
        stacks = self._known()
        k = stacks.find(stack)
        placed.hold(stacks, k, False, False)
        if not placed.even(stacks, k):  # a mask that leaves slices out
            return self.image(stack)
        places, first = self.core.places, stacks.first[k]
        shape = int(stacks.count[k]), int(places.height[first]), int(places.width[first])
        nothing = np.broadcast_to(np.zeros((), np.uint8), shape)
        return placed.image_of(stacks, k, nothing, stacks.affine[k])

    def to_nifti(self, stack: int, path: str | os.PathLike[str] | None = None) -> Any:
        """A stack as a nibabel.Nifti1Image, written to `path` if given: SpatialImage.to_nifti."""
        return self.image(stack).to_nifti(path)

    def series_to_nifti(self, group: int, path: str | os.PathLike[str] | None = None) -> Any:
        """The volumes of one acquisition (`stack_of`) as a 4-D nibabel.Nifti1Image, times in s.

        With `path` it is written, and beside it .bval and .bvec of diffusion. Raises as `series4d`.
        """
        stacks = self.by_stack()
        parts = parts_of(stacks, group, False).tolist()
        images = [self.image(int(stacks.number[k])) for k in parts]
        affine, step = images[0].affine, sidecar.time_step(stacks, parts)
        made = convert.nifti([i.voxels for i in images], affine, images[0].name, step)
        if path is not None:
            stem = Path(path).name.removesuffix(".gz").removesuffix(".nii")
            write = as_nifti(made, Path(path).name)
            for suffix, text in sidecar.fsl(stacks, parts, affine).items():
                write_whole(Path(path).with_name(stem + suffix), as_text(text))
            write_whole(Path(path), write)
        return made

    def to_sitk(self, stack: int) -> Any:
        """A stack as a SimpleITK.Image: SpatialImage.to_sitk."""
        return self.image(stack).to_sitk()

    def to_xarray(self, stack: int) -> Any:
        """A stack as an xarray.DataArray, coordinates in mm: SpatialImage.to_xarray."""
        return self.image(stack).to_xarray()

    def zarr(self) -> Any:
        """The whole cache as zarr-python has it, a read-only Group of an array for each size.

        A frame is at `row` of array number `array` (frames/), in the upper left corner. Nothing is
        held to its checksum. Raises MissingLibraryError without zarr.
        """
        library = convert.library("zarr", "Zarr groups", None)
        return library.open_group(self.core.root.path, mode="r")

    def to_metatensor(self, stack: int) -> Any:
        """A stack as a monai.data.MetaTensor, in RAS: SpatialImage.to_metatensor."""
        return self.image(stack).to_metatensor()

    def to_torchio(self, stack: int) -> Any:
        """A stack as a torchio.ScalarImage or LabelMap: SpatialImage.to_torchio."""
        return self.image(stack).to_torchio()
