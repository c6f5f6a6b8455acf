"""Plan 1,000,000 headers that are already read: seconds and peak memory.

An archive as hospitals have them: CT and MR series (some fMRI with repeated positions, some dual
echo), radiographs of many sizes, ultrasound cines. Run: python -m benchmarks.planning
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.figures import arguments, most, tell
from benchmarks.machine import peak_mib
from dicom2cache.planning.plan import make_plan
from dicom2cache.planning.select import select_files
from dicom2cache.planning.tasks import tasks
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.schema import FILES, REJECTS

CT, MR, DX, US = range(4)


def headers(n: int, seed: int = 0) -> pa.Table:
    """`n` rows of FILES, deterministic."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(rng.choice(4, size=n // 100 + 1, p=[0.55, 0.3, 0.1, 0.05]), 100)[:n]
    series = np.arange(n) // 100
    series = np.where(kind == DX, np.arange(n) + n, series)
    place = np.arange(n) % 100
    height = np.where(kind == DX, rng.integers(1500, 3500, n), np.where(kind == US, 480, 512))
    width = np.where(kind == DX, rng.integers(1500, 3500, n), np.where(kind == US, 640, 512))
    fmri = (kind == MR) & (series % 5 == 0)
    slices = np.where(fmri, place % 25, place)
    has_place = kind <= MR

    def text(prefix: str, values: Any) -> pa.Array:
        return pa.array([f"{prefix}{v}" for v in values])

    def triples(values: Any, mask: Any, length: int) -> pa.Array:
        flat = pa.array(values.ravel())
        return pa.FixedSizeListArray.from_arrays(flat, length, mask=pa.array(~mask))

    position = np.stack([np.zeros(n), np.zeros(n), slices * 2.5], axis=1)
    orientation = np.tile([1.0, 0, 0, 0, 1, 0], (n, 1))
    size = height * width * 2
    known: dict[str, Any] = {
        "root": np.zeros(n, np.int16),
        "path": text("patients/", (f"{s:08d}/IM{k % 100:04d}.dcm" for k, s in enumerate(series))),
        "size": size + 3000, "mtime_ns": np.full(n, 1_700_000_000_000_000_000),
        "transfer_syntax": pa.array(["1.2.840.10008.1.2.1"] * n),
        "pixel_keyword": pa.array(["PixelData"] * n), "pixel_vr": pa.array(["OW"] * n),
        "pixel_offset": np.full(n, 3000), "pixel_length": size, "frames": np.ones(n, np.int32),
        "height": height, "width": width, "samples": np.ones(n, np.int16),
        "planar": np.zeros(n, np.int8), "bits_allocated": np.full(n, 16),
        "bits_stored": np.where(kind == CT, 16, 12), "high_bit": np.where(kind == CT, 15, 11),
        "signed": kind == CT, "photometric": pa.array(["MONOCHROME2"] * n),
        "slope": np.ones(n), "intercept": np.where(kind == CT, -1024.0, 0.0),
        "unit": pa.array(np.where(kind == CT, "HU", "US")), "inverted": np.zeros(n, bool),
        "kind": pa.array(["image"] * n),
        "study_uid": text("1.2.826.0.1.3680043.8.498.", series // 4),
        "series_uid": text("1.2.826.0.1.3680043.8.499.", series),
        "sop_uid": text("1.2.826.0.1.3680043.8.500.10000000000000000", np.arange(n)),
        "frame_of_reference_uid": text("1.2.826.0.1.3680043.8.501.", series // 4),
        "sop_class_uid": pa.array(["1.2.840.10008.5.1.4.1.1.2"] * n),
        "patient": text("00112233445566778899aabb", series // 8),
        "modality": pa.array(np.array(["CT", "MR", "DX", "US"])[kind]),
        "manufacturer": pa.array(["ACME"] * n), "image_type": pa.array(["ORIGINAL\\PRIMARY"] * n),
        "thickness": np.full(n, 2.5),
        "echo_time": np.where(series % 7 == 0, 10.0 + place % 2, 10.0),
        "temporal_index": np.where(fmri, place // 25, 1), "instance": place,
        "spacing_y": np.full(n, 0.7), "spacing_x": np.full(n, 0.7),
        "spacing_tag": pa.array(["PixelSpacing"] * n),
        "position": triples(position, has_place, 3),
        "orientation": triples(orientation, has_place, 6),
    }  # fmt: skip
    columns = [
        pa.array(known[f.name]).cast(f.type) if f.name in known else pa.nulls(n, f.type)
        for f in FILES
    ]
    return pa.table(columns, FILES)


def measure(n: int) -> dict[str, float]:
    """Seconds and memory of planning `n` headers, shuffled as a file system gives them."""
    table = headers(n)
    table = table.take(pa.array(np.random.default_rng(1).permutation(n))).combine_chunks()
    before = peak_mib()
    recipe = Recipe(where='modality != "SR"', exclude=("localizer",))
    start = time.perf_counter()
    files, rejects = select_files(table, recipe)
    del table
    plan = make_plan(files, pa.concat_tables([REJECTS.empty_table(), rejects]), recipe)
    shards = len(tasks(plan))
    seconds = time.perf_counter() - start
    assert plan.frames.num_rows == n
    return {
        "headers": n, "seconds": seconds, "peak_mib": peak_mib(), "before_mib": before,
        "arrays": len(plan.arrays), "shards": shards,
        "waste": plan.wasted_bytes / sum(a.slots * a.slot_bytes for a in plan.arrays),
    }  # fmt: skip


def main() -> None:
    """Measure in a fresh process, so that making the headers does not count; print the bars."""
    parser = arguments(__doc__)
    parser.add_argument("--headers", type=int, default=1_000_000)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.headers)))
        return
    command = [sys.executable, "-m", "benchmarks.planning", "--measure"]
    command += ["--headers", str(given.headers)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(f"{found['arrays']} arrays, {found['shards']:,} shards, {found['waste']:.1%} waste")
    what = f"planning {found['headers']:,} headers in memory"
    figures = [
        most(what, found["seconds"], 15, unit="s"),
        most(f"{what}: peak, the headers included", found["peak_mib"] / 1024, 3, unit="GiB"),
    ]
    tell("planning", "make bench-plan", figures, given.keep)


if __name__ == "__main__":
    main()
