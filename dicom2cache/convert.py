"""One task to one receipt: what a worker runs."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache import ledger
from dicom2cache.colour import rgb_to_grey
from dicom2cache.decode import Source, Stored
from dicom2cache.errors import Dicom2cacheError, FrameError, is_environment
from dicom2cache.intensity import (
    Statistics,
    apply_lut,
    padding_mask,
    rescale,
    statistics,
    to_dtype,
)
from dicom2cache.ledger import RESULTS, Job
from dicom2cache.recipe import Recipe
from dicom2cache.records import ShardTask
from dicom2cache.shards import ShardWriter
from dicom2cache.window import Window, apply_voi_lut, apply_window, parse_window, to_range

Read = Callable[[Source, int], Stored]


@dataclass(frozen=True)
class Done:
    """What a task came to, for progress and for the decision to go on."""

    name: str
    """of the task"""
    frames: int
    failed: int
    """frames that are not stored"""
    seconds: float
    first_failure: str | None = None
    environment: str | None = None
    """why the machine could not; the task is still open then"""


def convert_task(cache: str, task: ShardTask, read: Read | None = None) -> Done:
    """Convert one shard of the plan in `cache` and publish its receipt.

    `read` decodes a frame of a source, for a caller that isolates it.
    """
    start = time.perf_counter()
    job = ledger.load_job(Path(cache))
    count = task.stop - task.start
    if not ledger.is_done(job, task):
        claim = ledger.claim(job.cache, task)
        try:
            write_shard(job, task, read or Source.read)
        except Exception as e:
            claim.unlink(missing_ok=True)
            if is_environment(e):
                why = f"{type(e).__name__}: {e}"
                return Done(task.name, count, 0, time.perf_counter() - start, None, why)
            raise
        claim.unlink(missing_ok=True)
    receipt = ledger.settle(job, task)
    assert receipt is not None
    reasons = receipt.results["reason"].drop_null().to_pylist()
    first = _first_failure(job, task, receipt.results) if reasons else None
    return Done(task.name, count, len(reasons), time.perf_counter() - start, first)


def _first_failure(job: Job, task: ShardTask, results: pa.Table) -> str:
    for k, reason in enumerate(results["reason"].to_pylist()):
        if reason is not None:
            row = job.plan.frames.slice(task.start + k, 1).to_pylist()[0]
            file = job.plan.files.slice(row["file"], 1).select(["root", "path"]).to_pylist()[0]
            path = os.path.join(job.roots[file["root"]], file["path"])
            return f"{path}, frame {row['frame']}: {reason}"
    raise AssertionError("no failure")


def write_shard(job: Job, task: ShardTask, read: Read) -> None:
    """Decode the task's frames into an attempt and publish it."""
    spec = job.plan.arrays[task.array]
    rows = job.plan.frames.slice(task.start, task.stop - task.start).select(
        ["file", "frame", "slope", "intercept"]
    ).to_pylist()  # fmt: skip
    needed = sorted({row["file"] for row in rows})
    headers = dict(zip(needed, job.plan.files.take(needed).to_pylist(), strict=True))
    attempt = ledger.attempt_path(job.cache, task)
    results: list[dict[str, Any]] = []
    sources = _Sources(job, headers)
    with ShardWriter(attempt, spec) as writer:
        try:
            for row in rows:
                try:
                    source = sources.open(row["file"])
                    stored = read(source, row["frame"])
                    source.check_unchanged()
                    values, padding = to_values(stored, row, source, job.recipe, spec.dtype)
                except Exception as e:
                    if is_environment(e):
                        raise
                    writer.missing()
                    results.append({"reason": _reason(e)})
                    continue
                said = _result(stored, statistics(values, padding))
                said["crc32c"] = writer.frame(np.ascontiguousarray(values))
                results.append(said)
        finally:
            sources.close()
        size, checksum = writer.finish()
    table = pa.Table.from_pylist(results, RESULTS)
    ledger.publish(job, task, attempt, size, checksum, table)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file has vanished since plan; build again with --overwrite"
    if isinstance(error, OSError):
        return f"cannot read the file: {error.strerror or error}"
    if isinstance(error, Dicom2cacheError):
        return str(error)
    return f"cannot be decoded: {type(error).__name__}: {error}"


class _Sources:
    """Open sources, a few at a time: neighbours in a shard often come from one file."""

    _MOST = 4

    def __init__(self, job: Job, headers: dict[int, dict[str, Any]]) -> None:
        self.job, self.headers = job, headers
        self._open: dict[int, Source] = {}

    def open(self, file: int) -> Source:
        if file in self._open:
            return self._open[file]
        while len(self._open) >= self._MOST:
            self._open.pop(next(iter(self._open))).__exit__()
        header = self.headers[file]
        path = os.path.join(self.job.roots[header["root"]], header["path"])
        self._open[file] = Source(path, header).__enter__()
        return self._open[file]

    def close(self) -> None:
        for source in self._open.values():
            source.__exit__()


def to_values(
    stored: Stored, row: dict[str, Any], source: Source, recipe: Recipe, dtype: str
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """(values as the recipe says, in `dtype`; mask of padding or None).

    Raises FrameError for a value that `dtype` cannot hold truly.
    """
    header, pixels = source.header, stored.pixels
    if pixels.ndim == 3:  # colour is never windowed
        return to_dtype(rgb_to_grey(pixels) if recipe.colour == "grey" else pixels, dtype), None
    padding = None
    if header["padding_value"] is not None and pixels.dtype.kind in "iu":
        padding = padding_mask(
            pixels,
            header["padding_value"],
            header["padding_limit"],
            header["bits_allocated"],
            header["signed"],
        )
    if slope_is_lost(row["slope"], pixels):
        raise FrameError(
            "Rescale Slope (0028,1053) is 0 but stored values are not; all would be lost"
        )
    if recipe.intensity == "window" and header["kind"] == "image":
        return _windowed(pixels, row, source, recipe, dtype, padding), padding
    if header["lut_low"] is not None and recipe.intensity != "stored":
        return to_dtype(apply_lut(pixels, source.modality_lut), dtype), padding
    return rescale(pixels, row["slope"], row["intercept"], dtype), padding


def slope_is_lost(slope: float, pixels: NDArray[Any]) -> bool:
    """True where a slope of 0 would turn different values into one."""
    return slope == 0 and bool(pixels.any())


def _windowed(
    pixels: NDArray[Any],
    row: dict[str, Any],
    source: Source,
    recipe: Recipe,
    dtype: str,
    padding: NDArray[np.bool_] | None,
) -> NDArray[Any]:
    """(H, W) or, with several windows, (H, W, n); padding is 0."""
    header = source.header
    if header["lut_low"] is not None:
        values = apply_lut(pixels, source.modality_lut).astype(np.float64)
    else:
        values = pixels * float(row["slope"]) + float(row["intercept"])
    channels = []
    for said in recipe.window:
        spec = parse_window(said)
        if isinstance(spec, Window):
            unit = apply_window(values, spec)
        elif header["voi_lut"]:
            unit = apply_voi_lut(values, source.voi_lut)
        elif header["windows"]:
            w = header["windows"][0]
            unit = apply_window(values, Window(w["center"], w["width"], w["function"]))
        else:
            raise FrameError(
                "the recipe says window dicom, but the file has no VOI LUT and no Window Center "
                "(0028,1050); give CENTER,WIDTH, or leave these files out by `where`"
            )
        if header["inverted"] and recipe.monochrome1 == "invert":
            unit = 1 - unit  # PS3.3 C.7.6.3.1.2
        if padding is not None:
            unit[padding] = 0
        channels.append(to_range(unit, dtype))
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)


def _result(stored: Stored, found: Statistics) -> dict[str, Any]:
    return {
        "codec": stored.codec,
        "padding_fraction": found.padding_fraction,
        "min": found.min,
        "max": found.max,
        "mean": found.mean,
        "std": found.std,
        **dict(zip(("p0_5", "p1", "p50", "p99", "p99_5"), found.percentiles, strict=True)),
        "flags": list(stored.flags) or None,
    }


def pixel_digest(roots: Sequence[str], header: dict[str, Any], read: Read | None = None) -> str:
    """SHA-256 of all stored frames of a file and of what they mean, to compare copies.

    A file that cannot be decoded is like no other: it is kept, and fails by its own reason. `read`
    as in `convert_task`.
    """
    # Equal stored values under another slope or unit are other pixels. The photometric
    # interpretation may differ: a compressed copy of an RGB image can be YBR.
    meaning = ("slope", "intercept", "unit", "inverted", "lut_low", "lut_high")
    digest = hashlib.sha256(repr([header[name] for name in meaning]).encode())
    path = os.path.join(roots[header["root"]], header["path"])
    try:
        with Source(path, header) as source:
            for frame in range(header["frames"]):
                pixels = (read or Source.read)(source, frame).pixels
                digest.update(f"{pixels.shape} {pixels.dtype}".encode())
                digest.update(np.ascontiguousarray(pixels).data)
    except Exception as e:
        if is_environment(e):
            raise
        return f"not decoded: {path}"
    return digest.hexdigest()
