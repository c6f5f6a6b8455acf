"""Peak memory of a worker beside the size of its shard: many files, and one long cine.

Run: python -m benchmarks.memory. Each measurement is a fresh process, as a worker is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.examples import get_path
from pydicom.uid import generate_uid

from benchmarks.figures import arguments, most, tell
from benchmarks.machine import peak_mib


def make_series(folder: Path, files: int) -> None:
    """`files` CT slices of 512x512, from pydicom's sample, each with noise of its own."""
    folder.mkdir(parents=True)
    ds = dcmread(get_path("ct"))
    rng = np.random.default_rng(0)
    ds.Rows = ds.Columns = 512
    for k in range(files):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=["worker memory", str(k)]
        )
        ds.InstanceNumber = k
        ds.ImagePositionPatient = [0, 0, 2.5 * k]
        ds.PixelData = rng.integers(0, 2000, (512, 512), dtype=np.int16).tobytes()
        ds.save_as(folder / f"{k:04d}.dcm")


def make_cine(folder: Path, frames: int) -> None:
    """One ultrasound file of `frames` frames of 480x640 RGB."""
    folder.mkdir(parents=True)
    ds = dcmread(get_path("rgb_color"))
    ds.Rows, ds.Columns, ds.NumberOfFrames = 480, 640, frames
    rng = np.random.default_rng(0)
    one = rng.integers(0, 255, 480 * 640 * 3, dtype=np.uint8)
    ds.PixelData = b"".join(np.roll(one, k).tobytes() for k in range(frames))
    ds.save_as(folder / "cine.dcm")


def measure(cache: Path) -> dict[str, float]:
    """Convert the shards of a planned cache in this process: peak and shard size, MiB."""
    from dicom2cache.running.convert import convert_task
    from dicom2cache.running.job import load_job

    job = load_job(cache)
    done = [convert_task(str(cache), job.nonce, task) for task in job.tasks]
    assert not any(d.environment or d.failed for d in done)
    shard = max(s.slot_bytes * min(s.slots, s.frames_per_shard) for s in job.plan.arrays)
    return {"peak_mib": peak_mib(), "shard_mib": shard / 2**20, "shards": len(done)}


def main() -> None:
    """Print both figures with their bar."""
    parser = arguments(__doc__)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    from dicom2cache.pipeline import plan

    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        make_series(here / "series", 300)
        make_cine(here / "cine", 1000)
        for name in ("series", "cine"):
            plan([here / name], here / f"{name}.cache", patient_key=_key(here))
            command = [sys.executable, "-m", "benchmarks.memory", "--measure"]
            command.append(str(here / f"{name}.cache"))
            out = subprocess.run(command, check=True, capture_output=True).stdout
            found[name] = json.loads(out)
    figures = []
    for name, f in found.items():
        what = f"peak memory of a worker that writes shards of {f['shard_mib']:.0f} MiB, {name}"
        figures.append(most(what, f["peak_mib"], round(f["shard_mib"] + 300), unit="MiB"))
    tell("memory", "make bench-memory", figures, given.keep)


def _key(folder: Path) -> Path:
    path = folder / "key"
    path.touch(0o600)
    path.write_bytes(bytes(32))
    return path


if __name__ == "__main__":
    main()
