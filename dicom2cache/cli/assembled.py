"""What was assembled, in words for a terminal: stacks by modality, regular or with which flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import ints
from dicom2cache.cli.words import counting
from dicom2cache.recipes.recipe import WAVEFORM

COLUMNS = ("modality", "kind", "stack", "stack_regular", "stack_of", "stack_flags")
"""what `assembled` and `recorded` read of a table of frames; the last two may be missing"""
OF_FILES = ("modality", "kind")
"""those of them that a plan has of its files"""
_SHOWN = 12  # most modalities


def assembled(frames: pa.Table) -> Iterator[str]:
    """A line for each modality, most stacks first; a stack's frames lie together in `frames`."""
    frames = frames.filter(pc.not_equal(frames["kind"], WAVEFORM))
    stack = ints(frames["stack"], -1)
    if not len(stack):
        return
    starts = np.flatnonzero(np.diff(stack, prepend=stack[0] - 1))
    lengths = np.diff(np.r_[starts, len(stack)])
    first = frames.take(pa.array(starts))
    if "stack_of" not in first.column_names:  # made before the columns came
        first = first.append_column("stack_of", first["stack"])
        first = first.append_column("stack_flags", pa.nulls(len(starts), pa.list_(pa.string())))
    modality = first["modality"].cast(pa.string()).fill_null("unknown").combine_chunks()
    found = modality.dictionary_encode()
    codes = found.indices.to_numpy()
    regular = ints(first["stack_regular"].cast(pa.int8()), -1)
    flags = pc.binary_join(first["stack_flags"], " ").combine_chunks()
    acquisitions = ints(first["stack_of"], -1)
    order = np.argsort(-np.bincount(codes), kind="stable")
    for code in order[:_SHOWN]:
        mine = codes == code
        said = flags.filter(pa.array(mine & (lengths > 1))).drop_null()
        yield f"  {found.dictionary[int(code)]}: " + _line(
            lengths[mine], regular[mine], len(np.unique(acquisitions[mine])), said
        )
    if len(order) > _SHOWN:
        yield f"  and {counting(len(order) - _SHOWN, 'more modality', 'more modalities')}"


def recorded(frames: pa.Table) -> Iterator[str]:
    """A line for each modality of which there are waveforms, most of them first."""
    frames = frames.filter(pc.equal(frames["kind"], WAVEFORM))
    counts = Counter(frames["modality"].cast(pa.string()).fill_null("unknown").to_pylist())
    for modality, count in counts.most_common(_SHOWN):
        yield f"  {modality}: {counting(count, 'multiplex group')}"
    if len(counts) > _SHOWN:
        yield f"  and {counting(len(counts) - _SHOWN, 'more modality', 'more modalities')}"


def _line(lengths: Any, regular: Any, acquisitions: int, flags: Any) -> str:
    single = lengths == 1
    counts = {
        "regular": int(((regular == 1) & ~single).sum()),
        "not regular": int(((regular == 0) & ~single).sum()),
        "without positions": int(((regular < 0) & ~single).sum()),
        "of a single frame": int(single.sum()),
    }
    named: Counter[str] = Counter()
    for row in flags.value_counts().to_pylist():
        for flag in row["values"].split():
            named[flag] += row["counts"]
    parts = f" of {counting(acquisitions, 'acquisition')}" if acquisitions < len(lengths) else ""
    low, high = int(lengths.min()), int(lengths.max())
    frames = counting(low, "frame") if low == high else f"{low} to {counting(high, 'frame')}"
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    told = "".join(f", {flag} {count}" for flag, count in sorted(named.items()))
    return f"{counting(len(lengths), 'stack')}{parts}, {frames} each: {kinds}" + (
        f"; flags: {told[2:]}" if told else ""
    )
