"""MosaicML streaming: MDS shards, local."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, cropped
from benchmarks.read.workloads import Workload

PACKAGES = ("mosaicml-streaming", "torch")
SETTINGS = (
    "MDSWriter without compression and hashes, column ndarray of fixed dtype and shape, shards of "
    "64 MiB (its default); StreamingDataset(local, shuffle=True, its default py1e) in "
    "StreamingDataLoader; its own order"
)


def _streaming() -> Any:
    """The package, which imports torchvision for its ready-made vision sets.

    A torchvision that was built for another torch fails at import; those sets are not used here,
    so an empty one does.
    """
    import transformers  # noqa: F401  # looks for the real torchvision

    if "torchvision" not in sys.modules:
        names = {"": [], ".datasets": ["VisionDataset", "CIFAR10"], ".transforms": [],
                 ".transforms.functional": ["to_tensor"]}  # fmt: skip
        for name, members in names.items():
            module = ModuleType(f"torchvision{name}")
            module.__spec__ = ModuleSpec(module.__name__, None)
            for member in members:
                setattr(module, member, object)
            sys.modules[module.__name__] = module
    import streaming

    return streaming


def build(frames: Path, folder: Path, work: Workload) -> None:
    """MDS shards of the frames."""
    sides = ",".join(map(str, work.shape))
    columns = {"image": f"ndarray:{work.dtype}:{sides}", "index": "int"}
    with _streaming().MDSWriter(out=str(folder / "mds"), columns=columns) as writer:
        for k, frame in enumerate(np.load(frames, mmap_mode="r")[: work.frames]):
            writer.write({"image": np.array(frame), "index": k})


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """The shards in StreamingDataLoader; a random crop is cut from each decoded sample."""
    streaming, workers = _streaming(), int(options.get("workers", 0))
    # Two processes may not have the same `local` at a time.
    local = folder / f"mds-{workers}"
    local.symlink_to(folder / "mds")

    whole: Any = streaming.StreamingDataset

    class Cropped(whole):  # type: ignore[misc]
        def __getitem__(self, at: Any) -> Any:
            sample = super().__getitem__(at)
            sample["image"] = cropped(sample["image"], work)
            return sample

    made = Cropped if work.crop else whole
    dataset = made(local=str(local), shuffle=True, batch_size=work.batch)
    batches = streaming.StreamingDataLoader(
        dataset, batch_size=work.batch, num_workers=workers, drop_last=True,
        persistent_workers=workers > 0,
    )  # fmt: skip

    def read(order: Any) -> Iterator[Any]:
        return ((b["image"], b["index"]) for b in batches)

    return read
