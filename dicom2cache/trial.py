"""Which codec an array gets under `auto`: tried on a sample of its frames, kept in build/.

For each array and not for the cache: an array is one dtype and size, so mostly one kind of image,
and what does not compress can stay uncompressed, where it is mapped. The sample follows from the
plan and the choice from the sizes of its chunks, never from a clock: whoever tries finds the same.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache import ledger, mounts, survey
from dicom2cache.columns import rows_of
from dicom2cache.compression import COMPRESSED, pack
from dicom2cache.decode import Source
from dicom2cache.ledger import Job
from dicom2cache.open_sources import OpenSources
from dicom2cache.records import ArraySpec
from dicom2cache.survey import Read
from dicom2cache.values import FRAME_COLUMNS, to_values

_SAMPLE, _OF = 16, 16  # at most so many frames, and one of so many
_NOT_WORTH = 0.9  # of the plain bytes: mapping uncompressed frames is worth more than the rest
_ZSTD_FROM = 0.85  # of lz4's bytes: zstd takes about twice as long to read


def settled(job: Job, array: int, read: Read) -> ArraySpec:
    """The array's description with the codec that it has; a trial if the recipe says `auto`."""
    spec = job.plan.arrays[array]
    if spec.codec != "auto":
        return spec
    path = ledger.trial_path(job, array)
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        tried = json.dumps(_try(job, array, read)).encode()
        ledger.keep_first(job, path, tried)
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
    limits = survey.limits_of(job, row, source.header, read)
    treatments = job.recipe.treatments
    made = to_values(stored, row, source, treatments, spec.dtype, limits.ends if limits else None)
    slot = np.zeros(spec.slot, spec.dtype)
    slot[tuple(map(slice, made.pixels.shape))] = made.pixels
    return slot
