"""What LightlyTrain and torch would call now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightly_train._data import file_helpers
from lightly_train._data.file_helpers import ImageMode
from torch.utils.data import DataLoader

DOORS = ("open_image_numpy", "open_image_tensor", "_open_image_numpy__with_pydicom")


def doors() -> list[Any]:
    """What LightlyTrain and torch would call now."""
    return [*(getattr(file_helpers, name) for name in DOORS), DataLoader._get_iterator]


def opened(path: Path | str, mode: ImageMode = ImageMode.RGB) -> Any:
    """What LightlyTrain's datasets get for a path."""
    return file_helpers.open_image_numpy(Path(path), mode)
