"""Voxels and their place in the types of other tools; pure, and each tool is imported at its call.

nibabel writes NIfTI: a header by hand is 348 bytes long, and its traps are older than this code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import MissingLibraryError, VolumeError
from trainer_adapter.volumes.geometry import tilts

Floats = NDArray[np.float64]
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""LPS, which DICOM and ITK have, to RAS, which NIfTI, MONAI and torchio have, and back"""
_NIFTI = {"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"}
_SCANNER = 1
"""NIFTI_XFORM_SCANNER_ANAT"""


def sheared(affine: Floats, slices: int) -> bool:
    """Whether the slices shift in their plane so far that a stack is called tilted."""
    first, steps = affine[:3, 3], max(slices - 1, 0)
    lengths = np.linalg.norm(affine[:3, :2], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # no numbers are no tilt
        orientation = np.concatenate([affine[:3, 0] / lengths[0], affine[:3, 1] / lengths[1]])
    ends = first[None], (first + steps * affine[:3, 2])[None]
    return bool(np.isfinite(tilts(*ends, orientation[None], lengths[None, ::-1]))[0])


def nifti(
    parts: Sequence[NDArray[Any]],
    affine: Floats,
    name: str = "",
    step: float | None = None,
) -> Any:
    """A nibabel.Nifti1Image of (d, H, W[, 3]) voxels, as they are stored; several are its times.

    `affine` is in LPS; sform and qform are in RAS, both "scanner", the qform only where it can say
    the same. mm and s; `step` is the time from part to part in s. Colour of 8 bits is RGB24.
    Raises VolumeError for what NIfTI-1 cannot hold.
    """
    nibabel = library("nibabel", "NIfTI files")
    if parts[0].ndim == 4 and len(parts) > 1:
        raise VolumeError(f"{name}: colour over time is not for NIfTI-1; give one stack")
    voxels = np.stack(parts) if len(parts) > 1 else parts[0]
    if parts[0].ndim == 4:
        voxels = _rgb24(voxels, name)
    if voxels.dtype == np.float16:
        voxels = voxels.astype(np.float32)
    if voxels.dtype.names is None and voxels.dtype.str[1:] not in _NIFTI:
        raise VolumeError(f"{name}: NIfTI-1 has no {voxels.dtype}")
    if max(voxels.shape) > 32767:
        raise VolumeError(
            f"{name}: shape {voxels.shape}; NIfTI-1 holds 32767 along an axis; write npy"
        )
    image = nibabel.Nifti1Image(voxels.T, RAS @ affine, dtype=voxels.dtype)  # (x, y, z[, t])
    image.set_sform(RAS @ affine, _SCANNER)
    if sheared(affine, len(parts[0])):
        image.set_qform(None, 0)
    else:
        image.set_qform(RAS @ affine, _SCANNER)
    if step is not None and len(parts) > 1:
        image.header["pixdim"][4] = step
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(1.0, 0.0)
    return image


def _rgb24(voxels: NDArray[Any], name: str) -> NDArray[Any]:
    if voxels.dtype != np.uint8 or voxels.shape[-1] != 3:
        raise VolumeError(f"{name}: NIfTI-1 has colour of 8 bits only, this is {voxels.dtype}")
    rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return np.ascontiguousarray(voxels).view(rgb)[..., 0]


def sitk(voxels: NDArray[Any], affine: Floats, name: str = "") -> Any:
    """A SimpleITK.Image of (d, H, W[, C]) voxels, which it copies; its space is LPS, as theirs.

    Raises VolumeError for axes that are not at right angles: ITK has no others.
    """
    simpleitk = library("SimpleITK", "SimpleITK's images", extra=None)
    if sheared(affine, len(voxels)):
        raise VolumeError(f"{name}: its axes are not at right angles; `resample` makes it upright")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    kept = voxels.astype(np.float32) if voxels.dtype == np.float16 else voxels
    image = simpleitk.GetImageFromArray(np.ascontiguousarray(kept), isVector=voxels.ndim == 4)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


def metatensor(voxels: NDArray[Any], affine: Floats) -> Any:
    """A monai.data.MetaTensor (C, x, y, z) with the affine in RAS, as its LoadImage has it."""
    monai = library("monai.data", "MONAI's tensors", extra=None)
    import torch

    place = torch.from_numpy(RAS @ affine)
    about = {"affine": place, "original_affine": (RAS @ affine), "space": "RAS",
             "spatial_shape": np.array(voxels.shape[2::-1]), "original_channel_dim": 0}  # fmt: skip
    return monai.MetaTensor(_channels_first(voxels), affine=place, meta=about)


def torchio(voxels: NDArray[Any], affine: Floats, labels: bool) -> Any:
    """A torchio.ScalarImage, or LabelMap, (C, x, y, z), with the affine in RAS."""
    tio = library("torchio", "torchio's images", extra=None)
    kind = tio.LabelMap if labels else tio.ScalarImage
    return kind(tensor=_channels_first(voxels), affine=RAS @ affine)


def xarray(voxels: NDArray[Any], affine: Floats, unit: str | None, name: str) -> Any:
    """An xarray.DataArray (z, y, x[, channel]) of the voxels themselves, with mm along the axes.

    A coordinate is the distance from the patient's origin along its axis, whose direction (LPS) is
    its attribute: a voxel lies at the sum of coordinate times direction. Raises VolumeError for
    axes that are not at right angles.
    """
    array = library("xarray", "labelled arrays", None).DataArray
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    along = affine[:3, :3] / steps
    if sheared(affine, len(voxels)):
        raise VolumeError(f"{name}: its axes are not at right angles; resample makes it upright")
    coordinates = {}
    for axis, (dimension, length) in enumerate(zip("zyx", voxels.shape, strict=False)):
        k = 2 - axis
        mm = float(affine[:3, 3] @ along[:, k]) + np.arange(length) * steps[k]
        told = {"units": "mm", "direction": along[:, k].tolist()}
        coordinates[dimension] = (dimension, mm, told)
    about = {} if unit is None else {"units": unit}
    dimensions = ("z", "y", "x", "channel")[: voxels.ndim]
    return array(voxels, coordinates, dimensions, attrs=about)


def _channels_first(voxels: NDArray[Any]) -> Any:
    """(d, H, W[, C]) as a tensor (C, W, H, d), a copy; of a dtype that torch calculates with."""
    import torch

    wider = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
    data = voxels if voxels.ndim == 4 else voxels[..., None]
    data = data.transpose(3, 2, 1, 0).astype(wider.get(voxels.dtype.name, voxels.dtype))
    return torch.from_numpy(np.ascontiguousarray(data))


def fsl_directions(gradients: Floats, affine: Floats) -> Floats:
    """(n, 3): directions in LPS, in the axes of the image as FSL's .bvec has them.

    Where the axes are right-handed FSL's x runs against the first one.
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    along: Floats = gradients @ axes
    if np.linalg.det(axes) > 0:
        along[:, 0] *= -1
    return along


def library(name: str, what: str, extra: str | None = "volumes") -> Any:
    """A library that is imported late. Raises MissingLibraryError."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as e:
        raise MissingLibraryError(name.split(".")[0], what, extra) from e
