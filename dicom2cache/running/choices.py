"""What is found out from pixels before frames are stored, once, and kept in build/.

Percentiles of a whole stack, and the codec that an array gets under `auto`. For each array and not
for the cache: an array is one dtype and size, so mostly one kind of image, and what does not
compress can stay uncompressed, where it is mapped. The sample follows from the plan and the choice
from the sizes of its chunks, never from a clock: whoever tries finds the same.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import CacheError
from dicom2cache.frames.chunk import Limits, chunk_of_frame
from dicom2cache.frames.decode import Room, Source
from dicom2cache.frames.treat import modality, padding_of
from dicom2cache.recipes.recipe import Treatment
from dicom2cache.records import COMPRESSED, ArraySpec, FrameRow, Header
from dicom2cache.running.each_frame import Failure, Step, Worker
from dicom2cache.running.job import Job, scratch
from dicom2cache.running.plan_rows import frames_of, headers_of
from dicom2cache.store import names
from dicom2cache.store.compression import pack
from dicom2cache.store.durable import write_first

_FRAME_GRID, _STACK_GRID = 16384, 1 << 22  # most pixels of a frame and of a stack that count


def chosen_before(path: Path) -> dict[str, Any]:
    """A file of choices/. Raises CacheError if it is none."""
    data = names.read_plain(path)
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise damaged(path) from e
    if not isinstance(said, dict):
        raise damaged(path)
    return said


def damaged(path: Path) -> CacheError:
    """What to say of a file of choices/ that nobody can have written so."""
    return CacheError(
        f"{path}: damaged; run `dicom2cache plan` or `build` with --overwrite, since shards may "
        "have been made by what it said"
    )


def percentiles_path(job: Job, stack: int) -> Path:
    """Where the percentiles of a stack are kept until commit."""
    return job.state / "choices" / f"stack.{stack}.json"


def codec_path(job: Job, array: int) -> Path:
    """Where the codec that was chosen for an array is kept until commit."""
    return job.state / "choices" / f"codec.{array}.json"


def limits_of(job: Job, row: FrameRow, header: Header, worker: Worker) -> Limits | None:
    """The limits for a frame (a row of the plan, its file's header); None if it wants none.

    Counted on a regular sub-grid of every frame of the stack, without padding. Frames that cannot
    be decoded are left out, and named in build/.
    """
    treatment = job.recipe.treatments[header["rule"] or 0]
    grey = header["slope"] is not None
    if treatment.intensity != "percentiles" or header["kind"] != "image" or not grey:
        return None
    path = percentiles_path(job, row["stack"])
    if not path.exists():
        made = json.dumps(_percentiles(job, row["stack"], treatment.percentiles, worker)).encode()
        write_first(path, made, scratch(job), job.links)  # another node's, if that was first
    ends, reasons = _read(path, *_version(path))
    return Limits(ends, reasons.get((row["file"], row["frame"])))


_Percentiles = tuple[tuple[float, float] | None, dict[tuple[int, int], str]]
"""(values at the percentiles, {(file, frame): why it is left out})"""


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


@lru_cache(maxsize=4)
def _read(path: Path, *_: int) -> _Percentiles:
    said = chosen_before(path)
    try:
        reasons = {(int(file), int(frame)): str(why) for file, frame, why in said["left_out"]}
        low, high = map(float, said["ends"] or (0, 0))
    except (KeyError, TypeError, ValueError, OverflowError) as e:
        raise damaged(path) from e
    return ((low, high) if said["ends"] else None), reasons


def _percentiles(
    job: Job, stack: int, percentiles: tuple[float, float], worker: Worker
) -> dict[str, Any]:
    """{ends: [low, high] or null, left_out: [[file, frame, reason], ...]} of a stack."""
    job.check("frames", ["stack"])
    column = job.plan.frames["stack"]  # in order, and mapped
    start, stop = (
        bisect_left(range(len(column)), number, key=lambda k: column[k].as_py())
        for number in (stack, stack + 1)
    )
    rows = frames_of(job, range(start, stop))
    budget = min(_FRAME_GRID, max(1, _STACK_GRID // len(rows)))
    step = partial(_sample, treatments=job.recipe.treatments, budget=budget)
    samples, left_out = [], []
    with worker.frames(job.roots, headers_of(job, rows)) as frames:
        for row, found in frames.each(rows, lambda _: step):
            if isinstance(found, Failure):
                left_out.append([row["file"], row["frame"], found.reason])
            else:
                samples.append(found)
    try:
        values = np.concatenate(samples) if samples else np.empty(0)
        with np.errstate(over="raise"):
            ends = np.percentile(values, percentiles).tolist() if values.size else None
    except Exception as e:  # it costs this stack only
        why = worker.failure(e, f"percentiles of stack {stack}").reason
        ends, left_out = None, [[r["file"], r["frame"], why] for r in rows]
    return {"ends": ends, "left_out": left_out}


def _sample(
    source: Source, row: FrameRow, _: Room, *, treatments: Sequence[Treatment], budget: int
) -> NDArray[np.float64]:
    """Values of a regular sub-grid of one frame, without padding."""
    pixels = source.cut(source.read(row["frame"]).pixels, row["part_of_frame"])
    step = max(1, int(np.sqrt(pixels.size / budget)))
    grid = pixels[::step, ::step]
    values = modality(grid, row, source, treatments[source.header["rule"] or 0])
    padding = padding_of(grid, source.header)
    if padding is not None:
        values = values[~padding]
    return values[np.isfinite(values)]


_SAMPLE, _OF = 16, 16  # at most so many frames, and one of so many
_NOT_WORTH = 0.9  # of the plain bytes: mapping uncompressed frames is worth more than the rest
_ZSTD_FROM = 0.85  # of lz4's bytes: zstd takes about twice as long to read


def settled(job: Job, array: int, worker: Worker) -> ArraySpec:
    """The array's description with the codec that it has; chosen by a sample if it says `auto`."""
    spec = job.plan.arrays[array]
    if spec.codec != "auto":
        return spec
    path = codec_path(job, array)
    if not path.exists():
        made = json.dumps(_chosen_codec(job, array, worker)).encode()
        write_first(path, made, scratch(job), job.links)
    codec = chosen_before(path).get("codec")
    if codec not in ("none", *COMPRESSED):
        raise damaged(path)
    return replace(spec, codec=codec)


def chosen(plain: int, lz4: int, zstd: int) -> str:
    """The codec that these numbers of bytes speak for."""
    if not plain:  # no frame of the sample could be decoded: lz4 does no harm
        return "lz4"
    if min(lz4, zstd) > _NOT_WORTH * plain:
        return "none"
    return "zstd" if zstd <= _ZSTD_FROM * lz4 else "lz4"


def _chosen_codec(job: Job, array: int, worker: Worker) -> dict[str, Any]:
    spec = job.plan.arrays[array]
    job.check("frames", ["array"])
    start = int(np.searchsorted(job.plan.frames["array"].to_numpy(), array))
    count = min(_SAMPLE, -(-spec.slots // _OF))
    places = start + np.unique((np.arange(count) * 2 + 1) * spec.slots // (2 * count))
    rows = frames_of(job, places)
    headers = headers_of(job, rows)
    sizes = dict.fromkeys(("plain", *COMPRESSED), 0)

    def step_of(row: FrameRow) -> Step[dict[str, int]]:
        limits = limits_of(job, row, headers[row["file"]], worker)
        return partial(_sizes, treatments=job.recipe.treatments, spec=spec, limits=limits)

    with worker.frames(job.roots, headers) as frames:
        for _, found in frames.each(rows, step_of):
            if not isinstance(found, Failure):  # else it cannot be stored either
                sizes = {name: size + found[name] for name, size in sizes.items()}
    return {"codec": chosen(**sizes), **sizes}


def _sizes(
    source: Source,
    row: FrameRow,
    _: Room,
    *,
    treatments: Sequence[Treatment],
    spec: ArraySpec,
    limits: Limits | None,
) -> dict[str, int]:
    """Bytes of the frame's slot, plain and by each codec."""
    plain = replace(spec, codec="none")
    chunk, _row = chunk_of_frame(
        source, row, None, treatments=treatments, spec=plain, limits=limits
    )
    slot = np.asarray(chunk.data)
    packed = {codec: len(pack(slot, replace(spec, codec=codec))) for codec in COMPRESSED}
    return {"plain": spec.slot_bytes, **packed}
