"""Reading a cache in a stock DataLoader, against one big .npy map and against memcpy.

Ratios in one run, contenders in turn, medians. Run: python -m benchmarks.read.stock
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.figures import arguments, least, most, tell
from benchmarks.machine import in_turn, peak_mib
from dicom2cache.planning.arrays import array_spec
from dicom2cache.records import ArraySpec
from dicom2cache.schema import FRAMES_TABLE, REJECTS, SHARDS_TABLE
from dicom2cache.store.digests import table_digests
from dicom2cache.store.layout import array_metadata, root_metadata, shard_path
from dicom2cache.store.shards import ShardWriter
from trainer_adapter import FrameDataset, open_cache

BATCH, ROUNDS = 64, 7


def write_cache(path: Path, spec: ArraySpec, frames: np.ndarray | None) -> None:
    """A cache of one array, all columns filled; without `frames`, only tables and no shards.

    Of more frames than `spec` has slots, the first.
    """
    for folder in (spec.name, "frames", "failures", "shards"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    (path / spec.name / "zarr.json").write_bytes(array_metadata(spec))
    shards, crcs = [], list[int]()
    for shard in range(spec.shards if frames is not None else 0):
        assert frames is not None
        start = shard * spec.frames_per_shard
        part = frames[start : min(start + spec.frames_per_shard, spec.slots)]
        with ShardWriter(path / shard_path(spec, shard), spec) as writer:
            for given in part:
                frame: Any = np.ascontiguousarray(given)  # of one that is broadcast
                writer.frame(frame)
                crcs.append(google_crc32c.value(frame.tobytes()))
            size, crc = writer.finish()
        facts = {"bytes": size, "index_crc32c": crc, "frames": len(part), "slots": len(part)}
        shards.append({"array": 0, "shard": shard, **facts})
    pq.write_table(_frames(spec, crcs), path / "frames" / "0.parquet", row_group_size=100_000)
    pq.write_table(pa.Table.from_pylist(shards, SHARDS_TABLE), path / "shards" / "0.parquet")
    pq.write_table(REJECTS.empty_table(), path / "failures" / "0.parquet")
    tables = {kind: [_entry(path, kind)] for kind in ("frames", "failures", "shards")}
    about = {
        "format": 1,
        "arrays": [
            {
                "name": spec.name, "dtype": spec.dtype, "slot": list(spec.slot), "codec": "none",
                "slots": spec.slots, "frames_per_shard": spec.frames_per_shard,
            }
        ],
        "tables": tables,
    }  # fmt: skip
    (path / "zarr.json").write_bytes(root_metadata(about, {spec.name: array_metadata(spec)}))


def _entry(path: Path, kind: str) -> dict[str, Any]:
    file = path / kind / "0.parquet"
    digests = table_digests(file)
    entry = {"path": f"{kind}/0.parquet", "bytes": file.stat().st_size, "sha256": digests.sha256}
    if kind != "frames":
        return entry
    return entry | {"footer": digests.footer, "columns": digests.columns}


def _frames(spec: ArraySpec, crcs: list[int]) -> pa.Table:
    n = spec.slots
    rng = np.random.default_rng(0)
    known: dict[str, Any] = {
        "row": np.arange(n), "array": np.zeros(n, np.int16), "kind": ["image"] * n,
        "height": np.full(n, spec.slot[0]), "width": np.full(n, spec.slot[1]),
        "path": [f"patients/{k // 100:06d}/IM{k % 100:04d}.dcm" for k in range(n)],
        "sop_uid": [f"1.2.826.0.1.3680043.8.500.100000000000{k}" for k in range(n)],
        "stack": np.arange(n) // 100, "stack_index": np.arange(n) % 100,
        "crc32c": crcs or rng.integers(0, 2**32, n),
        "root": np.zeros(n, np.int16), "frame": np.zeros(n, np.int32),
    }  # fmt: skip
    columns = []
    for field in FRAMES_TABLE:
        if field.name in known:
            column = pa.array(known[field.name])
        elif pa.types.is_floating(field.type):
            column = pa.array(rng.normal(size=n))
        elif pa.types.is_integer(field.type):
            column = pa.array(np.arange(n) % 100)
        elif pa.types.is_string(field.type):
            column = pa.array([f"1.2.840.113619.2.{k // 100}" for k in range(n)])
        else:
            column = pa.nulls(n, field.type)
        columns.append(column.cast(field.type))
    return pa.table(columns, FRAMES_TABLE)


class OneMap(Dataset[Any]):
    """A Dataset over one big .npy map; with `copy`, each sample may be written to."""

    def __init__(self, path: Path, copy: bool) -> None:
        self.map = np.load(path, mmap_mode="r" if copy else "c")
        self.copy = copy

    def __len__(self) -> int:
        return len(self.map)

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self.map[i]) if self.copy else self.map[i])


def epoch_seconds(dataset: Dataset[Any]) -> float:
    """Seconds of one shuffled epoch in a stock DataLoader, 0 workers."""
    torch.manual_seed(0)
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)
    start = time.perf_counter()
    for batch in loader:
        del batch
    return time.perf_counter() - start


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_speed(here: Path, count: int) -> dict[str, float]:
    """FrameDataset against one map, gather against memcpy; 512x512 int16, warm."""
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    spec = array_spec("int16", (512, 512), count, 128 << 20)
    rng = np.random.default_rng(0)
    frames = rng.integers(-1024, 3000, (count, 512, 512), dtype=np.int16)
    write_cache(here / "cache", spec, frames)
    np.save(here / "one.npy", frames)
    del frames
    cache = open_cache(here / "cache")
    datasets: dict[str, Dataset[Any]] = {
        "FrameDataset": FrameDataset(cache),
        "one map, copied": OneMap(here / "one.npy", copy=True),
        "one map, copy-on-write": OneMap(here / "one.npy", copy=False),
    }
    epochs = in_turn({n: lambda d=d: epoch_seconds(d) for n, d in datasets.items()}, ROUNDS)  # type: ignore[misc]

    one = np.load(here / "one.npy", mmap_mode="r")
    order = rng.permutation(count)[: count // BATCH * BATCH].reshape(-1, BATCH)
    out = np.empty((BATCH, 512, 512), np.int16)
    source = np.array(one[:BATCH])

    def gather() -> None:
        for indices in order:
            cache.gather(indices, out)

    def copy_places() -> None:
        for indices in order.tolist():
            for k, i in enumerate(indices):
                np.copyto(out[k], one[i])

    def copy_block() -> None:
        for _ in order:
            np.copyto(out, source)

    copies = in_turn(
        {
            "gather": lambda: seconds_of(gather),
            "np.copyto, same frames": lambda: seconds_of(copy_places),
            "np.copyto, one block": lambda: seconds_of(copy_block),
        },
        ROUNDS,
    )
    found = {f"{k}, frames/s": count // BATCH * BATCH / v for k, v in (epochs | copies).items()}
    fastest = min(epochs["one map, copied"], epochs["one map, copy-on-write"])
    found["FrameDataset / fastest one map"] = fastest / epochs["FrameDataset"]
    found["gather / np.copyto, same frames"] = copies["np.copyto, same frames"] / copies["gather"]
    found["gather / np.copyto, one block"] = copies["np.copyto, one block"] / copies["gather"]
    return found


def open_large(path: Path) -> dict[str, float]:
    """Seconds and memory of opening a cache, in this process."""
    open_cache_warm = open_cache  # imports are not counted
    before = peak_mib()
    start = time.perf_counter()
    cache = open_cache_warm(path)
    seconds = time.perf_counter() - start
    return {"frames": len(cache), "seconds": seconds, "mib": peak_mib() - before}


def few_descriptors(path: Path) -> dict[str, float]:
    """Touch every shard under `ulimit -n 256`, all views held."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    cache = open_cache(path)
    views = [cache[i] for i in range(len(cache))]
    assert all(int(v[0, 0]) == i % 251 for i, v in enumerate(views))
    return {"shards": len(cache)}


def _fresh(what: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.read.stock", "--measure", what, str(path)]
    out = subprocess.run(command, check=True, capture_output=True).stdout
    return dict(json.loads(out))


def tiny_shards(count: int) -> Iterator[np.ndarray]:
    """Frames of 8x8 whose first pixel is their number modulo 251."""
    for k in range(count):
        yield np.full((8, 8), k % 251, np.uint8)


def main() -> None:
    """Measure and print, with the bars."""
    parser = arguments("Reading in a stock DataLoader.")
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measures = {"open": open_large, "few": few_descriptors}
        print(json.dumps(measures[given.measure[0]](Path(given.measure[1]))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        found: dict[str, Any] = read_speed(here, given.frames)
        million = array_spec("int16", (512, 512), 1_000_000, 128 << 20)
        write_cache(here / "million", million, None)
        opened = [_fresh("open", here / "million") for _ in range(5)]
        found["open 1,000,000 frames, s"] = median(o["seconds"] for o in opened)
        found["open 1,000,000 frames, MiB"] = median(o["mib"] for o in opened)
        many = ArraySpec("uint8_8x8", "uint8", (8, 8), 2000, 1)
        write_cache(here / "many", many, np.stack(list(tiny_shards(2000))))
        found["shards mapped under ulimit -n 256"] = _fresh("few", here / "many")["shards"]
    for name, value in found.items():
        print(f"{name:<42} {value:>12,.2f}")
    stock = "`FrameDataset` in a stock `DataLoader`, 512x512 int16, times as fast as one `.npy` map"
    gather, opening = (
        "`cache.gather(indices, out)` by `np.copyto`",
        "`open_cache` on 1,000,000 frames",
    )
    figures = [
        least(stock, found["FrameDataset / fastest one map"], 1),
        least(f"{gather} of the same frames", found["gather / np.copyto, same frames"], 0.85),
        least(f"{gather} in one block", found["gather / np.copyto, one block"], 0.85),
        most(opening, found["open 1,000,000 frames, s"], 0.3, unit="s"),
        most(f"{opening}: memory", found["open 1,000,000 frames, MiB"], 100, unit="MiB"),
        least("shards mapped at once under `ulimit -n 256`",
              found["shards mapped under ulimit -n 256"], 2000),
    ]  # fmt: skip
    tell("read_stock", "make bench-read-stock", figures, given.keep, "numpy", "pyarrow", "torch")


if __name__ == "__main__":
    main()
