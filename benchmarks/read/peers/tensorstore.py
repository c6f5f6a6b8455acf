"""tensorstore, from this project's cache: a batch of frames in one read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, corner, full_batches
from benchmarks.read.peers.ours import build as build_cache
from benchmarks.read.workloads import Workload

PACKAGES = ("tensorstore",)
SETTINGS = (
    "driver zarr3 on the cache's own array, store[indices].read() for each batch, the next batch "
    "being read ahead; copy concurrency as many as cores, no chunk cache"
)


def build(frames: Path, folder: Path, work: Workload) -> None:
    """A cache: it is a Zarr store."""
    build_cache(frames, folder, work)


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """Batched reads; crops are read one by one, and written into one batch."""
    import tensorstore as ts

    path = next((folder / "cache").glob(f"{work.dtype}_*"))
    store = ts.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}},
        open=True, read=True, recheck_cached_data=False, recheck_cached_metadata=False,
    ).result()  # fmt: skip

    def asked(indices: Any) -> Any:
        if not work.crop:
            return store[indices].read()
        out = np.empty(work.batch_shape, work.dtype)
        c, reads = work.crop, []
        for k, i in enumerate(indices.tolist()):
            top, left = corner(work)
            part = store[i, top : top + c, left : left + c]
            reads.append(ts.array(out[k], write=True).write(part[ts.d[:].translate_to[0]]))
        return _All(out, reads)

    def read(order: Any) -> Iterator[Any]:
        batches = full_batches(order, work)
        coming = asked(batches[0])
        for k, indices in enumerate(batches):
            now, coming = coming, asked(batches[k + 1]) if k + 1 < len(batches) else None
            yield now.result(), indices

    return read


class _All:
    """Several reads into one batch."""

    def __init__(self, out: Any, reads: list[Any]) -> None:
        self.out, self.reads = out, reads

    def result(self) -> Any:
        """The batch, when all are done."""
        for one in self.reads:
            one.result()
        return self.out
