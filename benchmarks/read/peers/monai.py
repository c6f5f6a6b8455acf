"""MONAI's PersistentDataset: what the deterministic transforms give is kept as one file each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.read.peers.common import Options, Reader, in_dataloader
from benchmarks.read.peers.pydicom import write_files
from benchmarks.read.workloads import Workload

PACKAGES = ("monai", "pydicom", "torch")
SETTINGS = (
    "PersistentDataset over DICOM files, LoadImaged(PydicomReader, stored dtype) without "
    "MetaTensors (they are slower), weights_only=True as is the default; RandSpatialCropd where a "
    "crop is wanted; in MONAI's DataLoader; uint16 comes as int32, as MONAI makes it"
)


def _dataset(folder: Path, work: Workload) -> Any:
    from monai.data import PersistentDataset, PydicomReader
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        EnsureTyped,
        LoadImaged,
        RandSpatialCropd,
    )

    colour = len(work.shape) == 3
    steps: list[Any] = [
        LoadImaged("image", reader=PydicomReader(swap_ij=False), dtype=work.dtype, image_only=True),
        EnsureChannelFirstd("image", channel_dim=-1 if colour else "no_channel"),
        EnsureTyped("image", track_meta=False),
    ]
    if work.crop:
        steps.append(
            RandSpatialCropd("image", (work.crop, work.crop), random_size=False, random_center=True)
        )
    files = [
        {"image": str(path), "index": k}
        for k, path in enumerate(sorted((folder / "dicom").glob("*.dcm")))
    ]
    return PersistentDataset(files, Compose(steps), cache_dir=folder / "persistent")


def build(frames: Path, folder: Path, work: Workload) -> None:
    """DICOM files, and one epoch over them, which fills the cache."""
    write_files(frames, folder / "dicom", work, compressed=False)
    dataset = _dataset(folder, work)
    for k in range(len(dataset)):
        dataset[k]


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """The dataset in MONAI's DataLoader; batches are (b, C, H, W), seen here as (b, H, W[, C])."""
    from monai.data import DataLoader

    read = in_dataloader(_dataset(folder, work), work, options, DataLoader)

    def last(image: Any) -> Any:
        return image.movedim(1, -1) if len(work.shape) == 3 else image[:, 0]

    return lambda order: ((last(b["image"]), b["index"]) for b in read(order))
