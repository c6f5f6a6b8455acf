"""Read a cache of dicom2cache at memory speed: NumPy views, and datasets for PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer_adapter.cache import Cache, open_cache
from trainer_adapter.crop import Crop
from trainer_adapter.errors import (
    CacheError,
    DamagedError,
    FormatError,
    LabelError,
    MissingCodecError,
    MixedShapesError,
    NotACacheError,
    StageError,
    VolumeError,
)

if TYPE_CHECKING:
    from trainer_adapter.augment import RandomFlip, RandomResizedCrop
    from trainer_adapter.dataset import FrameDataset, Sample
    from trainer_adapter.loader import Batch, CacheLoader
    from trainer_adapter.normalize import Normalize
    from trainer_adapter.sampler import GroupedBatchSampler

__all__ = [
    "Batch",
    "Cache",
    "CacheError",
    "CacheLoader",
    "Crop",
    "DamagedError",
    "FormatError",
    "FrameDataset",
    "GroupedBatchSampler",
    "LabelError",
    "MissingCodecError",
    "MixedShapesError",
    "Normalize",
    "NotACacheError",
    "RandomFlip",
    "RandomResizedCrop",
    "Sample",
    "StageError",
    "VolumeError",
    "open_cache",
]
_LATE = {
    "FrameDataset": "dataset",
    "Sample": "dataset",
    "CacheLoader": "loader",
    "Batch": "loader",
    "Normalize": "normalize",
    "RandomFlip": "augment",
    "RandomResizedCrop": "augment",
    "GroupedBatchSampler": "sampler",
}


def __getattr__(name: str) -> Any:  # PEP 562: reading frames needs no torch
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(f"trainer_adapter.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
