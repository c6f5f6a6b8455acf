"""Frames to what is stored of them, pure and columnar: slices of mosaics, places of slide tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import first_of, floats, ints, vector_column, vectors
from dicom2cache.schema import FRAMES

Ints = NDArray[np.int32]


def numbered(files: pa.Table) -> tuple[Ints, Ints, NDArray[np.int16]]:
    """(row of its file, frame in the file, part of that frame) of all that is to be stored."""
    parts = ints(files["parts"], 1)
    counts = ints(files["frames"], 1) * parts
    file = np.repeat(np.arange(files.num_rows, dtype=np.int32), counts)
    frame = (np.arange(len(file)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)
    if files["parts"].null_count == files.num_rows:
        return file, frame, np.zeros(len(file), np.int16)
    frame, part = np.divmod(frame, parts[file].astype(np.int32))
    return file, frame, part.astype(np.int16)


def sides(files: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(height, width) in pixels of what a file's frames are stored as."""
    height, width = (ints(files[side], 0) for side in ("height", "width"))
    if files["parts"].null_count == files.num_rows:
        return height, width
    part_height, part_width = (ints(files[f"part_{side}"], 0) for side in ("height", "width"))
    return np.where(part_height > 0, part_height, height), np.where(
        part_width > 0, part_width, width
    )


def frame_sides(
    files: pa.Table, file: Ints, frame: Ints
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(height, width) of each frame: its file's; channels and samples of a multiplex group."""
    height, width = (side[file] for side in sides(files))
    if files["waveforms"].null_count == files.num_rows:
        return height, width
    at, mine = group_rows(files["waveforms"], file, frame)
    groups = files["waveforms"].combine_chunks().flatten()
    for side, name in ((height, "channels"), (width, "samples")):
        side[mine] = ints(pc.struct_field(groups, name), 0)[at]
    return height, width


def group_rows(lists: Any, file: Ints, frame: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(place among all items of a column of lists, one for each frame; frames that have one)."""
    lengths = ints(pc.list_value_length(lists), 0)
    starts = np.cumsum(lengths) - lengths
    mine = np.flatnonzero(lengths[file] > 0)
    return starts[file[mine]] + frame[mine], mine


def with_places(
    files: pa.Table, file: Ints, frame: Ints, part: NDArray[np.int16], said: dict[str, Any]
) -> dict[str, Any]:
    """What frames say, with positions of slices and places of tiles that follow from an order."""
    return {**said, **_slices(files, file, part, said), **_tiles(files, file, frame, said)}


def _slices(
    files: pa.Table, file: Ints, part: NDArray[np.int16], said: dict[str, Any]
) -> dict[str, Any]:
    if files["part_step"].null_count == files.num_rows:
        return {}
    step = np.nan_to_num(vectors(files["part_step"], 3))[file]
    position = vectors(said["position"], 3) + part[:, None] * step
    return {"position": vector_column(position)}


def _tiles(files: pa.Table, file: Ints, frame: Ints, said: dict[str, Any]) -> dict[str, Any]:
    """Places of the frames of TILED_FULL images: tiles row by row, then focal planes, then optical
    paths or segments (PS3.3 C.7.6.17.3)."""
    if files["tiles_across"].null_count == files.num_rows:
        return {}
    rows = np.flatnonzero(ints(files["tiles_across"], 0)[file])
    f = file[rows]
    across, down, planes, first, height, width = (
        ints(files[name], 0)[f]
        for name in (
            "tiles_across", "tiles_down", "focal_planes", "first_frame", "height", "width"
        )
    )  # fmt: skip
    k, tile = np.divmod(frame[rows] + first, down * across)
    channel, plane = np.divmod(k, planes)
    rise = np.where(plane == 0, 0.0, plane * floats(files["z_step"])[f])
    values = {
        "matrix_row": tile // across * height,
        "matrix_column": tile % across * width,
        "focal_plane": plane,
        "z_offset": floats(files["z_first"])[f] + rise,
        **_channels(files, f, channel),
    }
    place = np.zeros(len(file), np.int64)
    place[rows] = np.arange(len(rows))
    here = np.zeros(len(file), bool)
    here[rows] = True
    taken = pa.array(place, mask=~here)
    columns = {}
    for name, column in values.items():
        column = pa.array(column, from_pandas=True).cast(FRAMES.field(name).type).take(taken)
        own = said.get(name)
        if isinstance(own, pa.DictionaryArray):
            own = own.dictionary_decode()
        columns[name] = column if own is None else first_of(own, column)
    return columns


def _channels(files: pa.Table, file: Ints, channel: NDArray[np.int64]) -> dict[str, Any]:
    """Optical path, or segment and its label, of frames by the number of their channel."""
    lists = files["tile_channels"].combine_chunks()
    starts = lists.offsets.to_numpy()[:-1][file]
    known = lists.is_valid().to_numpy(zero_copy_only=False)[file]
    flat = lists.values
    at = pa.array(starts + channel, mask=~known)
    name, label = (pc.struct_field(flat, part).take(at) for part in ("id", "label"))
    mask = pc.equal(files["kind"], "mask").combine_chunks().take(pa.array(file))
    none = pa.scalar(None, pa.string())
    return {
        "optical_path": pc.if_else(mask, none, name),
        "segment": pc.if_else(mask, name, none).cast(pa.int32()),
        "segment_label": pc.if_else(mask, label, none),
    }
