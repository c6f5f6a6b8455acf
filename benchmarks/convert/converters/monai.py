"""MONAI's PersistentDataset built from DICOM: the first pass, which writes its files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.convert.converters.common import Options, Pixels, Work, each
from benchmarks.convert.sources import Kind

PACKAGES = ("monai", "pydicom", "torch")
SETTINGS = (
    "first pass of PersistentDataset over LoadImaged(PydicomReader, int16 or uint8), "
    "EnsureChannelFirstd, EnsureTyped without MetaTensors (they are slower), which writes a file "
    "for each item"
)


def _dataset(kind: Kind, files: Sequence[Path], out: Path) -> Any:
    from monai.data import PersistentDataset, PydicomReader
    from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged

    steps = Compose([
        LoadImaged("image", reader=PydicomReader(swap_ij=False),
                   dtype="uint8" if kind.colour else "int16", image_only=True),
        EnsureChannelFirstd("image", channel_dim=-1 if kind.colour else "no_channel"),
        EnsureTyped("image", track_meta=False),
    ])  # fmt: skip
    return PersistentDataset([{"image": str(p)} for p in files], steps, cache_dir=out)


def _one(path: Path, out: Path, kind: Kind) -> None:
    _dataset(kind, [path], out)[0]


def opened(kind: Kind, files: Sequence[Path], options: Options) -> Work:
    """The dataset, each item asked for once."""
    import monai.data  # noqa: F401
    import torch

    torch.set_num_threads(1)
    if int(options.get("processes", 1)) == 1:

        def work(files: Sequence[Path], out: Path) -> None:
            dataset = _dataset(kind, files, out)
            for k in range(len(dataset)):
                dataset[k]

        return work
    return each(partial(_one, kind=kind), options)  # making a dataset takes microseconds


def pixels(kind: Kind, files: Sequence[Path], out: Path) -> Pixels:
    """What the dataset gives the second time, from its files."""
    before, dataset = len(list(out.iterdir())), _dataset(kind, files, out)
    for k, path in enumerate(files):
        image = dataset[k]["image"].numpy()
        yield int(path.stem), np.moveaxis(image, 0, -1) if kind.colour else image
    assert len(list(out.iterdir())) == before, "decoded again"
