"""Read a cache of dicom2cache at memory speed: NumPy views, and datasets for PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer_adapter.cache import Cache, open_cache
from trainer_adapter.errors import (
    CacheError,
    DamagedError,
    FormatError,
    LabelError,
    MixedShapesError,
    NotACacheError,
    VolumeError,
)

if TYPE_CHECKING:
    from trainer_adapter.dataset import FrameDataset, Sample
    from trainer_adapter.normalize import Normalize
    from trainer_adapter.sampler import GroupedBatchSampler

__all__ = [
    "Cache",
    "CacheError",
    "DamagedError",
    "FormatError",
    "FrameDataset",
    "GroupedBatchSampler",
    "LabelError",
    "MixedShapesError",
    "Normalize",
    "NotACacheError",
    "Sample",
    "VolumeError",
    "open_cache",
]
_LATE = {
    "FrameDataset": "dataset",
    "Sample": "dataset",
    "Normalize": "normalize",
    "GroupedBatchSampler": "sampler",
}


def __getattr__(name: str) -> Any:  # PEP 562: reading frames needs no torch
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(f"trainer_adapter.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
