"""What a disk takes of shards, synced, in one way of writing and another, and by ShardWriter.

The plain way: one thread, 4 MiB at a time past the page cache (O_DIRECT), fdatasync once a shard of
128 MiB. All ways take turns; figures are the medians of what they take by the plain way, of rounds.
The disk takes more from large pages of memory, in which ShardWriter has its buffers.
Run: python -m benchmarks.disk [--mib 1024] [--rounds 5]
"""

from __future__ import annotations

import mmap
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, arguments, least, plain, tell
from dicom2cache.planning.arrays import array_spec
from dicom2cache.sources.system import memory
from dicom2cache.store.shards import Chunk, ShardWriter

_SHARD = 128 << 20
_SOME = os.urandom(1 << 16)


def _memory(size: int, large: bool) -> mmap.mmap:
    found = memory(size) if large else mmap.mmap(-1, size)
    found[:] = _SOME * (size // len(_SOME))
    return found


def _shard(
    path: Path, block: int = 4 << 20, depth: int = 1, reserve: bool = False, direct: bool = True,
    large: bool = False, later: Callable[[Callable[[], None]], object] | None = None,
) -> None:  # fmt: skip
    """One shard: `depth` writes at once; `later` takes the call that syncs it, else it is made."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | (os.O_DIRECT if direct else 0)
    file, data = os.open(path, flags, 0o644), _memory(block, large)
    if reserve:
        os.posix_fallocate(file, 0, _SHARD)

    def write(place: int) -> None:
        os.pwrite(file, data, place)

    if depth == 1:
        for place in range(0, _SHARD, block):
            write(place)
    else:
        with ThreadPoolExecutor(depth) as threads:
            list(threads.map(write, range(0, _SHARD, block)))

    def end() -> None:
        os.fdatasync(file)
        os.close(file)

    if later is None:
        end()
    else:
        later(end)


def _one_by_one(write: Callable[[Path], None], folder: Path, count: int) -> None:
    for k in range(count):
        write(folder / str(k))


def _side_by_side(folder: Path, count: int) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(_shard, [folder / str(k) for k in range(count)]))


def _synced_beside(folder: Path, count: int) -> None:
    begun: list[Future[None]] = []
    with ThreadPoolExecutor(1) as syncing:
        for k in range(count):
            _shard(folder / str(k), later=lambda end: begun.append(syncing.submit(end)))
    for future in begun:
        future.result()


def _by_shard_writer(path: Path) -> None:
    spec = array_spec("int16", (512, 512), _SHARD // (512 << 10), _SHARD)
    frame = np.frombuffer(_SOME * 8, np.int16).reshape(512, 512)
    with ShardWriter(path, spec) as writer:
        for _ in range(spec.frames_per_shard):
            room = writer.room()
            if room is None:
                writer.frame(Chunk(frame, 0))
                continue
            slot = room.view(np.int16).reshape(512, 512)
            slot[:] = frame
            writer.frame(Chunk(slot, 0))
        writer.finish()


_PLAIN, _LARGE = "the plain way", "the plain way, from large pages"
_OURS = "`ShardWriter`, frames made in its memory"
_WAYS: dict[str, Callable[[Path, int], None]] = {
    _PLAIN: partial(_one_by_one, _shard),
    _LARGE: partial(_one_by_one, partial(_shard, large=True)),
    _OURS: partial(_one_by_one, _by_shard_writer),
    "two writes at once": partial(_one_by_one, partial(_shard, depth=2)),
    "four writes at once": partial(_one_by_one, partial(_shard, depth=4)),
    "two shards at once": _side_by_side,
    "a shard synced beside the next": _synced_beside,
    "room for a shard taken first (fallocate)": partial(_one_by_one, partial(_shard, reserve=True)),
    "1 MiB at a time": partial(_one_by_one, partial(_shard, block=1 << 20)),
    "8 MiB at a time": partial(_one_by_one, partial(_shard, block=8 << 20)),
    "through the page cache": partial(_one_by_one, partial(_shard, direct=False)),
}


def main() -> None:
    """Print the figures."""
    parser = arguments(__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="what each way writes in a round")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    count = max(1, (asked.mib << 20) // _SHARD)
    seconds: dict[str, list[float]] = {name: [] for name in _WAYS}
    for _ in range(asked.rounds):
        for name, way in _WAYS.items():
            folder = Path(tempfile.mkdtemp(prefix="disk-"))
            start = time.perf_counter()
            way(folder, count)
            seconds[name].append(time.perf_counter() - start)
            shutil.rmtree(folder)
    speed = count * _SHARD / statistics.median(seconds[_PLAIN]) / 1e9
    figures = [plain(f"what the disk takes in {_PLAIN}", speed, unit="GB/s")]
    for name in list(_WAYS)[1:]:
        against = (_PLAIN, _LARGE) if name == _OURS else (_PLAIN,)
        figures += [_share(name, other, seconds) for other in against]
    tell("disk", "make bench-disk", figures, asked.keep)


def _share(name: str, other: str, seconds: dict[str, list[float]]) -> Figure:
    shares = [a / b for a, b in zip(seconds[other], seconds[name], strict=True)]
    what, found = f"{name}: speed by that of {other}", statistics.median(shares)
    return least(what, found, 0.9) if name == _OURS else plain(what, found)


if __name__ == "__main__":
    main()
