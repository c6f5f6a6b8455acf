"""zarr-python, from this project's cache, with its own codec pipeline or that of zarrs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, corner, full_batches, in_dataloader
from benchmarks.read.peers.ours import build as build_cache
from benchmarks.read.workloads import Workload

PACKAGES = ("zarr", "zarrs", "numcodecs")
SETTINGS = (
    "the cache's own array; a batch is np.stack of its frames, read side by side: by 4 threads, or "
    "with `gather` by asyncio.gather over an AsyncArray (both faster than array.oindex[indices]); "
    "with `workers` in a DataLoader; zarrs is the documented "
    "setting codec_pipeline.path"
)


def build(frames: Path, folder: Path, work: Workload) -> None:
    """A cache: it is a Zarr store."""
    build_cache(frames, folder, work)


class Frames:
    """A dataset over the array, opened where it is first used: its event loop ends in a fork."""

    def __init__(self, path: Path, work: Workload) -> None:
        self.path, self.work = path, work
        self.array: Any = None

    def __len__(self) -> int:
        return self.work.frames

    def __getitem__(self, i: int) -> tuple[Any, int]:
        import zarr

        if self.array is None:
            self.array = zarr.open_array(self.path, mode="r")
        return self.array[selected(i, self.work)], i


def selected(i: int, work: Workload) -> Any:
    """What to read of frame `i`: it, or a random crop of it."""
    if not work.crop:
        return i
    top, left = corner(work)
    return i, slice(top, top + work.crop), slice(left, left + work.crop)


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """Frames of a batch read side by side."""
    import zarr

    if options.get("pipeline") == "zarrs":
        import zarrs  # noqa: F401

        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    path = next((folder / "cache").glob(f"{work.dtype}_*"))
    if "workers" in options:
        return in_dataloader(Frames(path, work), work, options)
    frames = Frames(path, work)
    one = _by_gather(path) if options.get("gather") else _by_threads(frames)

    def read(order: Any) -> Iterator[Any]:
        for indices in full_batches(order, work):
            yield np.stack(one([selected(int(i), work) for i in indices])), indices

    return read


def _by_threads(frames: Frames) -> Any:
    frames[0]
    threads = ThreadPoolExecutor(4)
    return lambda wanted: list(threads.map(lambda s: frames.array[s], wanted))


def _by_gather(path: Path) -> Any:
    from zarr.api.asynchronous import open_array

    loop = asyncio.new_event_loop()
    array: Any = loop.run_until_complete(open_array(store=path, mode="r"))

    async def all_of(wanted: Any) -> Any:
        return await asyncio.gather(*(array.getitem(s) for s in wanted))

    return lambda wanted: loop.run_until_complete(all_of(wanted))
