"""What is found out from pixels before frames are stored, once, and kept in build/.

Percentiles of a whole stack, and the codec that an array gets under `auto`. For each array and not
for the cache: an array is one dtype and size, so mostly one kind of image, and what does not
compress can stay uncompressed, where it is mapped. The sample follows from the plan and the choice
from the sizes of its chunks, never from a clock: whoever tries finds the same.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import rows_of
from dicom2cache.errors import FrameError, reason_of
from dicom2cache.frames.decode import OpenSources, Read, Source
from dicom2cache.frames.treat import FRAME_COLUMNS, modality, padding_of, to_values
from dicom2cache.records import COMPRESSED, ArraySpec
from dicom2cache.running.job import Job, keep_first, survey_path, trial_path
from dicom2cache.sources import mounts
from dicom2cache.store.compression import pack

_FRAME_GRID, _STACK_GRID = 16384, 1 << 22  # most pixels of a frame and of a stack that count


@dataclass(frozen=True)
class Limits:
    """The values at the percentiles of a stack, and whether a frame of it counts in them."""

    ends: tuple[float, float]
    left_out: str | None
    """why the frame does not count; None: it does"""

    def check(self) -> None:
        """Raises FrameError if the frame does not count: the limits may clip its values."""
        if self.left_out is not None:
            raise FrameError(
                "readable now, but not when the percentiles of its stack were taken, so it does "
                f"not count in them ({self.left_out}); build again with --overwrite"
            )


def limits_of(job: Job, row: dict[str, Any], header: dict[str, Any], read: Read) -> Limits | None:
    """The limits for a frame (a row of the plan, its file's header); None if it wants none.

    Counted on a regular sub-grid of every frame of the stack, without padding. Frames that cannot
    be decoded are left out, and named in build/. Raises FrameError if nothing is left.
    """
    treatment = job.recipe.treatments[header["rule"] or 0]
    grey = header["slope"] is not None
    if treatment.intensity != "percentiles" or header["kind"] != "image" or not grey:
        return None
    path = survey_path(job, row["stack"])
    try:
        found = _found(path, *_version(path))
    except FileNotFoundError:
        made = json.dumps(_survey(job, row["stack"], treatment.percentiles, read)).encode()
        keep_first(job, path, made)
        found = _found(path, *_version(path))
    ends, reasons = found
    reason = reasons.get((row["file"], row["frame"]))
    if ends is None:
        raise FrameError(
            reason or "no pixel of the stack is left to take percentiles of: all are padding"
        )
    return Limits(ends, reason)


_Found = tuple[tuple[float, float] | None, dict[tuple[int, int], str]]
"""(values at the percentiles, {(file, frame): why it is left out})"""


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


@lru_cache(maxsize=4)
def _found(path: Path, *_: int) -> _Found:
    said = json.loads(path.read_bytes())
    reasons = {(file, frame): reason for file, frame, reason in said["left_out"]}
    return (tuple(said["ends"]) if said["ends"] else None), reasons


def _survey(job: Job, stack: int, percentiles: tuple[float, float], read: Read) -> dict[str, Any]:
    """{ends: [low, high] or null, left_out: [[file, frame, reason], ...]} of a stack."""
    column = job.plan.frames["stack"]  # in order, and mapped: it is not read as a whole
    start, stop = (
        bisect_left(range(len(column)), number, key=lambda k: column[k].as_py())
        for number in (stack, stack + 1)
    )
    rows = job.plan.frames.slice(start, stop - start).select(FRAME_COLUMNS).to_pylist()
    budget = min(_FRAME_GRID, max(1, _STACK_GRID // len(rows)))
    needed = sorted({row["file"] for row in rows})
    headers = dict(zip(needed, rows_of(job.plan.files, needed).to_pylist(), strict=True))
    sources = OpenSources(job.roots, headers)
    samples, left_out = [], []
    try:
        for row in rows:
            try:
                samples.append(_sample(job, row, sources.open(row["file"]), budget, read))
            except Exception as e:
                header = headers[row["file"]]
                mounts.raise_environment(e, job.roots[header["root"]], header["path"])
                left_out.append([row["file"], row["frame"], reason_of(e)])
    finally:
        sources.close()
    values = np.concatenate(samples) if samples else np.empty(0)
    ends = np.percentile(values, percentiles).tolist() if values.size else None
    return {"ends": ends, "left_out": left_out}


def _sample(
    job: Job, row: dict[str, Any], source: Source, budget: int, read: Read
) -> NDArray[np.float64]:
    """Values of a regular sub-grid of one frame, without padding."""
    pixels = read(source, row["frame"]).pixels
    source.check_unchanged()
    step = max(1, int(np.sqrt(pixels.size / budget)))
    grid = pixels[::step, ::step]
    values = modality(grid, row, source, job.recipe.treatments[source.header["rule"] or 0])
    padding = padding_of(grid, source.header)
    if padding is not None:
        values = values[~padding]
    return values[np.isfinite(values)]


_SAMPLE, _OF = 16, 16  # at most so many frames, and one of so many
_NOT_WORTH = 0.9  # of the plain bytes: mapping uncompressed frames is worth more than the rest
_ZSTD_FROM = 0.85  # of lz4's bytes: zstd takes about twice as long to read


def settled(job: Job, array: int, read: Read) -> ArraySpec:
    """The array's description with the codec that it has; a trial if the recipe says `auto`."""
    spec = job.plan.arrays[array]
    if spec.codec != "auto":
        return spec
    path = trial_path(job, array)
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        tried = json.dumps(_try(job, array, read)).encode()
        keep_first(job, path, tried)
        found = json.loads(path.read_bytes())  # another node's, if that was first
    return replace(spec, codec=found["codec"])


def chosen(plain: int, lz4: int, zstd: int) -> str:
    """The codec that these numbers of bytes speak for."""
    if not plain:  # no frame of the sample could be decoded: lz4 does no harm
        return "lz4"
    if min(lz4, zstd) > _NOT_WORTH * plain:
        return "none"
    return "zstd" if zstd <= _ZSTD_FROM * lz4 else "lz4"


def _try(job: Job, array: int, read: Read) -> dict[str, Any]:
    spec = job.plan.arrays[array]
    start = int(np.searchsorted(job.plan.frames["array"].to_numpy(), array))
    count = min(_SAMPLE, -(-spec.slots // _OF))
    places = start + np.unique((np.arange(count) * 2 + 1) * spec.slots // (2 * count))
    rows = rows_of(job.plan.frames.select(FRAME_COLUMNS), places).to_pylist()
    needed = sorted({row["file"] for row in rows})
    headers = dict(zip(needed, rows_of(job.plan.files, needed).to_pylist(), strict=True))
    sizes = dict.fromkeys(("plain", *COMPRESSED), 0)
    sources = OpenSources(job.roots, headers)
    try:
        for row in rows:
            try:
                slot = _slot(job, row, spec, sources.open(row["file"]), read)
            except Exception as e:
                header = headers[row["file"]]
                mounts.raise_environment(e, job.roots[header["root"]], header["path"])
                continue  # it cannot be stored either
            sizes["plain"] += slot.nbytes
            for codec in COMPRESSED:
                sizes[codec] += len(pack(slot, replace(spec, codec=codec)))
    finally:
        sources.close()
    return {"codec": chosen(**sizes), **sizes}


def _slot(
    job: Job, row: dict[str, Any], spec: ArraySpec, source: Source, read: Read
) -> NDArray[Any]:
    """The frame's slot as it would be stored."""
    stored = read(source, row["frame"])
    limits = limits_of(job, row, source.header, read)
    treatments = job.recipe.treatments
    made = to_values(stored, row, source, treatments, spec.dtype, limits.ends if limits else None)
    slot = np.zeros(spec.slot, spec.dtype)
    slot[tuple(map(slice, made.pixels.shape))] = made.pixels
    return slot
