"""What contenders have in common: their interface, the stock DataLoader, random corners.

A contender is a module with `build(frames, folder, work)`, which writes the frames of one .npy in
its own form, and `opened(folder, work, options)`, which gives a Reader. PACKAGES are those whose
versions matter, SETTINGS says how it was set up, and why so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.read.workloads import Workload

Options = dict[str, Any]
"""how one row of the table differs from another of the same contender, such as {"workers": 2}"""
Reader = Callable[[NDArray[np.int64]], Iterator[Any]]
"""an epoch in the order given, or in a random one of its own: (image, index) batches"""


def corner(work: Workload) -> tuple[int, int]:
    """A random (top, left) of a crop."""
    room = work.shape[0] - work.crop
    return random.randint(0, room), random.randint(0, room)


def cropped(frame: Any, work: Workload) -> Any:
    """A random crop of an array or tensor (H, W[, C]), where the workload wants one."""
    if not work.crop:
        return frame
    top, left = corner(work)
    return frame[top : top + work.crop, left : left + work.crop]


def full_batches(order: NDArray[np.int64], work: Workload) -> list[NDArray[np.int64]]:
    """The order in batches; what is left over is dropped."""
    count = len(order) // work.batch
    return list(order[: count * work.batch].reshape(count, work.batch))


class InOrder:
    """A sampler for a DataLoader: the order of the coming epoch."""

    def __init__(self, frames: int) -> None:
        self.order: Sequence[int] = range(frames)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)


def in_dataloader(
    dataset: Any, work: Workload, options: Options, loader: Any = None, **more: Any
) -> Reader:
    """A map-style dataset of (image, index) in a stock DataLoader (or the class `loader`).

    Workers live on between epochs, so that starting them is not counted.
    """
    from torch.utils.data import DataLoader

    sampler, workers = InOrder(len(dataset)), int(options.get("workers", 0))
    batches = (loader or DataLoader)(
        dataset, batch_size=work.batch, sampler=sampler, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0, **more,
    )  # fmt: skip

    def read(order: NDArray[np.int64]) -> Iterator[Any]:
        sampler.order = order.tolist()
        return iter(batches)

    return read
