"""The cache as zarr-python sees it, which stands for all readers that are not ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dicom2cache.records import ArraySpec
from dicom2cache.running.verify.findings import Finding
from dicom2cache.running.verify.tables import Said
from dicom2cache.store import names
from dicom2cache.store.layout import ROOT, shard_path
from dicom2cache.store.shards import read_index, read_slot

_MOST_BYTES = 1 << 30
"""of a slot: zarr-python holds some copies of it"""


def differing(cache: Path, specs: list[ArraySpec], said: Said) -> Iterator[Finding]:
    """Where zarr-python takes an array, or its first or last frame, for something else."""
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            group = zarr.open_group(cache, mode="r")
            found = {name: array for name, array in group.arrays()}
        except Exception as e:  # whatever it raises is what other readers would meet
            yield Finding(cache, ROOT, "contents", f"zarr-python cannot open it: {e}")
            return
        for number, spec in enumerate(specs):
            try:
                what = _unlike(cache, spec, found.get(spec.name), _ends(number, said))
            except Exception as e:
                what = f"zarr-python cannot read it: {type(e).__name__}: {e}"
            if what is not None:
                yield Finding(cache, spec.name, "contents", what, number)


def _ends(number: int, said: Said) -> list[int]:
    """Rows of the first and the last frame of an array."""
    rows = said.row[said.array == number]
    return sorted({int(rows[0]), int(rows[-1])}) if len(rows) else []


def _unlike(cache: Path, spec: ArraySpec, array: Any, rows: list[int]) -> str | None:
    if array is None:
        return "zarr-python does not see it"
    seen = (array.shape[1:], array.dtype, array.shards, array.chunks, array.fill_value)
    wanted = (  # an array may have grown since: its own zarr.json was held to that
        spec.slot, np.dtype(spec.dtype), (spec.frames_per_shard, *spec.slot), (1, *spec.slot), 0,
    )  # fmt: skip
    for name, a, b in zip(
        ("shape", "dtype", "shards", "chunks", "fill"), seen, wanted, strict=True
    ):
        if a != b:
            return f"zarr-python takes it for one of {name} {a}, not {b}"
    for row in rows if spec.slot_bytes <= _MOST_BYTES else ():
        shard, slot = divmod(row, spec.frames_per_shard)
        with names.open_below(cache, shard_path(spec, shard), "shards/") as file:
            ours = read_slot(file, spec, read_index(file, spec)[0][slot])
        theirs = np.ascontiguousarray(array[row], spec.dtype)
        if theirs.tobytes() != ours.tobytes():
            return f"zarr-python reads other pixels than are stored in row {row}"
    return None
