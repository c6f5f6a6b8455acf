"""Read a cache of dicom2cache at memory speed: NumPy views, and datasets for PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer_adapter.cache import Cache, open_cache
from trainer_adapter.errors import (
    CacheError,
    DamagedError,
    ErrataWarning,
    ExportError,
    FormatError,
    LabelError,
    MissingCodecError,
    MissingLibraryError,
    MixedShapesError,
    NewerWarning,
    NotACacheError,
    SplitError,
    StageError,
    VolumeError,
    WorkersWarning,
)
from trainer_adapter.order.crop import Crop
from trainer_adapter.reading.split.made import Splits

if TYPE_CHECKING:
    from trainer_adapter.device.augment import RandomFlip, RandomResizedCrop
    from trainer_adapter.device.normalize import Normalize
    from trainer_adapter.loading.dataset import FrameDataset, Sample
    from trainer_adapter.loading.loader import Batch, CacheLoader
    from trainer_adapter.loading.new import load
    from trainer_adapter.loading.options import Labels, Order, Ranks, Target
    from trainer_adapter.loading.waveforms.dataset import Recording, WaveformDataset
    from trainer_adapter.loading.waveforms.loader import WaveformLoader
    from trainer_adapter.order.grouped import GroupedBatchSampler
    from trainer_adapter.volumes.export import Exported, export
    from trainer_adapter.volumes.foreground import Foreground
    from trainer_adapter.volumes.grid import PatchGrid
    from trainer_adapter.volumes.image import SpatialImage

__all__ = [
    "Batch",
    "Cache",
    "CacheError",
    "CacheLoader",
    "Crop",
    "DamagedError",
    "ErrataWarning",
    "ExportError",
    "Exported",
    "Foreground",
    "FormatError",
    "FrameDataset",
    "GroupedBatchSampler",
    "LabelError",
    "Labels",
    "MissingCodecError",
    "MissingLibraryError",
    "MixedShapesError",
    "NewerWarning",
    "Normalize",
    "NotACacheError",
    "Order",
    "PatchGrid",
    "RandomFlip",
    "RandomResizedCrop",
    "Ranks",
    "Recording",
    "Sample",
    "SpatialImage",
    "SplitError",
    "Splits",
    "StageError",
    "Target",
    "VolumeError",
    "WaveformDataset",
    "WaveformLoader",
    "WorkersWarning",
    "export",
    "load",
    "open_cache",
]
_LATE = {
    "Ranks": "loading.options",
    "Order": "loading.options",
    "Labels": "loading.options",
    "Target": "loading.options",
    "FrameDataset": "loading.dataset",
    "Sample": "loading.dataset",
    "load": "loading.new",
    "WaveformDataset": "loading.waveforms.dataset",
    "Recording": "loading.waveforms.dataset",
    "WaveformLoader": "loading.waveforms.loader",
    "CacheLoader": "loading.loader",
    "Batch": "loading.loader",
    "Normalize": "device.normalize",
    "RandomFlip": "device.augment",
    "RandomResizedCrop": "device.augment",
    "GroupedBatchSampler": "order.grouped",
    "Foreground": "volumes.foreground",
    "SpatialImage": "volumes.image",
    "Exported": "volumes.export",
    "PatchGrid": "volumes.grid",
    "export": "volumes.export",
}


def __getattr__(name: str) -> Any:  # PEP 562: reading frames needs no torch
    if name in _LATE:
        from importlib import import_module

        try:
            return getattr(import_module(f"trainer_adapter.{_LATE[name]}"), name)
        except ModuleNotFoundError as e:
            if e.name != "torch":
                raise
            raise MissingLibraryError(
                "torch", f"trainer_adapter.{name} and its like", "train"
            ) from e
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
