"""Percentiles of a whole stack, before its frames are stored: decoded once, kept in build/."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache import ledger, mounts
from dicom2cache.columns import rows_of
from dicom2cache.decode import Source, Stored
from dicom2cache.errors import FrameError, reason_of
from dicom2cache.ledger import Job
from dicom2cache.open_sources import OpenSources
from dicom2cache.values import FRAME_COLUMNS, modality, padding_of

Read = Callable[[Source, int], Stored]

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
    path = ledger.survey_path(job, row["stack"])
    try:
        found = _found(path, *_version(path))
    except FileNotFoundError:
        made = json.dumps(_survey(job, row["stack"], treatment.percentiles, read)).encode()
        ledger.keep_first(job, path, made)
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
