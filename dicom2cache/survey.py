"""Percentiles of a whole stack, before its frames are stored: decoded once, kept in build/."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache import ledger
from dicom2cache.decode import Source, Stored
from dicom2cache.errors import FrameError, is_environment
from dicom2cache.ledger import Job
from dicom2cache.open_sources import OpenSources
from dicom2cache.shards import write_durably
from dicom2cache.values import FRAME_COLUMNS, modality, padding_of

Read = Callable[[Source, int], Stored]

_FRAME_GRID, _STACK_GRID = 16384, 1 << 22  # most pixels of a frame and of a stack that count


def limits_of(job: Job, row: dict[str, Any], read: Read) -> tuple[float, float] | None:
    """The values at the percentiles of the frame's stack; None if its treatment wants none.

    Counted on a regular sub-grid of every frame, without padding; frames that cannot be decoded do
    not count. Raises FrameError if nothing is left.
    """
    header = _headers(job.cache, job.nonce)
    rule, kind, grey = header[row["file"]]
    treatment = job.recipe.treatments[rule]
    if treatment.intensity != "percentiles" or kind != "image" or not grey:
        return None
    path = ledger.survey_path(job, row["stack"])
    try:
        low, high = json.loads(path.read_bytes())
    except FileNotFoundError:
        low, high = _survey(job, row["stack"], treatment.percentiles, read)
        write_durably(path, json.dumps([low, high]).encode(), ledger.scratch(job))
    if low is None:
        raise FrameError("no pixel of the stack is left to take percentiles of: all are padding")
    return low, high


@lru_cache(maxsize=2)
def _headers(cache: Path, nonce: str) -> list[tuple[int, str, bool]]:
    files = ledger.load_job(cache).plan.files
    slope = files["slope"].is_valid().to_pylist()
    rules = files["rule"].fill_null(0).to_pylist()
    return list(zip(rules, files["kind"].to_pylist(), slope, strict=True))


def _survey(
    job: Job, stack: int, percentiles: tuple[float, float], read: Read
) -> tuple[float | None, float | None]:
    column = job.plan.frames["stack"].to_numpy()
    start, stop = np.searchsorted(column, [stack, stack + 1])
    rows = job.plan.frames.slice(start, stop - start).select(FRAME_COLUMNS).to_pylist()
    budget = min(_FRAME_GRID, max(1, _STACK_GRID // len(rows)))
    needed = sorted({row["file"] for row in rows})
    headers = dict(zip(needed, job.plan.files.take(needed).to_pylist(), strict=True))
    sources = OpenSources(job.roots, headers)
    try:
        samples = [_sample(job, row, sources, budget, read) for row in rows]
    finally:
        sources.close()
    values = np.concatenate(samples)
    if not values.size:
        return None, None
    low, high = np.percentile(values, percentiles)
    return float(low), float(high)


def _sample(
    job: Job, row: dict[str, Any], sources: OpenSources, budget: int, read: Read
) -> NDArray[np.float64]:
    """Values of a regular sub-grid of one frame, without padding; empty if it cannot be decoded."""
    try:
        source = sources.open(row["file"])
        pixels = read(source, row["frame"]).pixels
        step = max(1, int(np.sqrt(pixels.size / budget)))
        grid = pixels[::step, ::step]
        treatment = job.recipe.treatments[source.header["rule"] or 0]
        values = modality(grid, row, source, treatment)
        padding = padding_of(grid, source.header)
    except Exception as e:
        if is_environment(e):
            raise
        return np.empty(0)
    if padding is not None:
        values = values[~padding]
    return values[np.isfinite(values)]
