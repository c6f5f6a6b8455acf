"""A cache of several generations, written from FORMAT.md alone: no code of ours, no Zarr.

Two arrays, of four and of three slots to a shard. Shards are part-filled in the middle, where a
generation ended and elsewhere; a frame of each array failed; the later generations have a column
that the first lacks, and text by dictionaries; sample indices take turns between the arrays.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numcodecs.blosc import Blosc
from numpy.typing import NDArray

from tests.support.signed import column_digests

ARRAYS = {"grey": ("int16", (6, 5), 4), "colour": ("uint8", (4, 7, 3), 3)}
"""{name: (dtype, slot, frames_per_shard)}"""
SHARDS = [
    # (array, shard, its stack, (height, width) of the frame in each slot, None: it failed)
    [("grey", 0, 1, [(6, 5), (6, 5), None, (6, 5)]),
     ("grey", 1, 7, [(6, 5), (6, 5)]),  # part-filled, a generation ends
     ("colour", 0, 2, [(4, 7), (4, 7)])],
    [("grey", 2, 8, [(6, 5), (6, 5), (6, 5)]),  # part-filled within a stack
     ("grey", 3, 8, [(6, 5)]),
     ("colour", 1, 3, [(4, 7), None, (1, 2)])],
    [("grey", 4, 9, [(3, 4), (3, 4)])],
]  # fmt: skip
"""of each generation"""
ROWS = [0, 1, 3, 4, 5, 0, 1, 8, 9, 10, 12, 3, 5, 16, 17]
"""of the frames by sample index; arrays 0 0 0 0 0 1 1, 0 0 0 0 1 1, 0 0"""
_MISSING = 2**64 - 1
_TABLES = {
    "frames": pa.schema(
        [("array", pa.int16()), ("row", pa.int64()), ("height", pa.int32()), ("width", pa.int32()),
         ("kind", pa.string()), ("root", pa.int16()), ("path", pa.string()), ("frame", pa.int32()),
         ("modality", pa.string()), ("unit", pa.string()), ("patient", pa.string()),
         ("stack", pa.int64()), ("stack_index", pa.int32()), ("stack_regular", pa.bool_()),
         ("crc32c", pa.uint32()), ("later", pa.int32())]
    ),
    "failures": pa.schema(
        [("root", pa.int16()), ("path", pa.string()), ("frame", pa.int32()),
         ("outcome", pa.string()), ("stage", pa.string()), ("reason", pa.string())]
    ),
    "shards": pa.schema(
        [("array", pa.int16()), ("shard", pa.int32()), ("bytes", pa.int64()),
         ("index_crc32c", pa.uint32()), ("frames", pa.int32()), ("slots", pa.int32())]
    ),
}  # fmt: skip


def pixels(array: str, row: int, height: int, width: int) -> NDArray[Any]:
    """The frame in a row of an array: no two are alike."""
    dtype, slot, _ = ARRAYS[array]
    number = 1 + 40 * row + np.arange(height)[:, None] * slot[1] + np.arange(width)
    if len(slot) == 2:
        return (number * 3 - 900).astype(dtype)
    return np.stack([number, number + 85, number + 170], axis=-1).astype(dtype)


def write(
    cache: Path, codec: str = "none", generations: int = 3, shards_of: Any = None
) -> list[NDArray[Any]]:
    """Write the first `generations` of SHARDS, or of `shards_of`; the frames by sample index."""
    cache.mkdir(parents=True, exist_ok=True)
    frames: list[NDArray[Any]] = []
    tables: dict[str, list[Any]] = {kind: [] for kind in _TABLES}
    slots, counts = dict.fromkeys(ARRAYS, 0), dict.fromkeys(ARRAYS, 0)
    for generation, shards in enumerate((shards_of or SHARDS)[:generations]):
        rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _TABLES}
        for name, shard, stack, sizes in shards:
            first, number = shard * ARRAYS[name][2], list(ARRAYS).index(name)
            slots[name] = first + len(sizes)
            filled: list[NDArray[Any] | None] = []
            places: dict[int, int] = {}
            for row, size in enumerate(sizes, first):
                source = {"root": generation, "path": f"{name}/{row}.dcm", "frame": 0}
                if size is None:
                    told = {"outcome": "failed", "stage": "decode", "reason": "made so"}
                    rows["failures"].append(source | told)
                    filled.append(None)
                    continue
                filled.append(_slot(name, made := pixels(name, row, *size)))
                counts[name] += 1
                places[stack] = sum(r["stack"] == stack for r in rows["frames"])
                rows["frames"].append(
                    {"array": number, "row": row, "height": size[0], "width": size[1],
                     "kind": "image", **source, "modality": f"M{generation}", "unit": "US",
                     "patient": f"patient {len(frames) % 3}", "stack": stack,
                     "stack_index": places[stack], "stack_regular": None, "later": generation,
                     "crc32c": google_crc32c.value(filled[-1].tobytes())}
                )  # fmt: skip
                frames.append(made)
            told = _write_shard(cache, name, shard, filled, codec)
            rows["shards"].append({"array": number, "shard": shard, **told})
        for kind, found in rows.items():
            path = cache / kind / f"{generation}.parquet"
            path.parent.mkdir(exist_ok=True)
            table = pa.Table.from_pylist(found, _TABLES[kind])
            pq.write_table(_as_of(generation, table) if kind == "frames" else table, path)
            more: dict[str, Any] = {"rows": len(found)}
            if kind == "frames" and generation:  # the first one is of an older version
                more |= column_digests(path.read_bytes(), pq.read_metadata(path))
            tables[kind].append(entry(cache, path) | more)
    write_root(cache, _root(cache, codec, tables, slots, counts))
    return frames


def _slot(array: str, made: NDArray[Any]) -> NDArray[Any]:
    dtype, slot, _ = ARRAYS[array]
    whole = np.zeros(slot, dtype)
    whole[: made.shape[0], : made.shape[1]] = made
    return whole


def _as_of(generation: int, table: pa.Table) -> pa.Table:
    """Each generation by another writer: without the last column, with dictionaries, as it is."""
    if generation == 0:
        return table.drop_columns(["later"])
    if generation == 1:
        text = table["modality"].dictionary_encode()
        return table.set_column(table.column_names.index("modality"), "modality", text)
    return table


def _write_shard(
    cache: Path, array: str, shard: int, slots: list[NDArray[Any] | None], codec: str
) -> dict[str, int]:
    """The shard's file; what shards/ has to say of it."""
    dtype, slot, per_shard = ARRAYS[array]
    index, data = [(_MISSING, _MISSING)] * per_shard, b""
    for k, whole in enumerate(slots):
        if whole is None:
            data += bytes(np.zeros(slot, dtype).nbytes) if codec == "none" else b""
            continue
        chunk = whole.tobytes()
        if codec != "none":
            chunk = bytes(Blosc(cname=codec, clevel=5, shuffle=Blosc.SHUFFLE).encode(whole))
        index[k] = len(data), len(chunk)
        data += chunk
    tail = b"".join(struct.pack("<QQ", *place) for place in index)
    crc = google_crc32c.value(tail)
    path = cache / array / (f"c.{shard}" + ".0" * len(slot))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data + tail + struct.pack("<I", crc))
    stored = sum(whole is not None for whole in slots)
    size = path.stat().st_size
    return {"bytes": size, "index_crc32c": crc, "frames": stored, "slots": len(slots)}


def _root(
    cache: Path, codec: str, tables: dict[str, Any], slots: dict[str, int], counts: dict[str, int]
) -> dict[str, Any]:
    arrays = []
    for name, (dtype, slot, per_shard) in ARRAYS.items():
        path = cache / name / "zarr.json"
        path.parent.mkdir(exist_ok=True)
        about = _array(dtype, (slots[name], *slot), per_shard, codec)
        path.write_text(json.dumps(about, indent=1))
        arrays.append(
            {"name": name, "dtype": dtype, "slot": list(slot), "slots": slots[name],
             "frames": counts[name], "frames_per_shard": per_shard, "codec": codec,
             "statistics": dict.fromkeys(("min", "max", "mean", "std")) | {"count": 0},
             "metadata": entry(cache, path)}
        )  # fmt: skip
    stored, lost = (sum(t["rows"] for t in tables[kind]) for kind in ("frames", "failures"))
    none = ("files_no_pixels", "files_not_dicom", "files_duplicate", "files_excluded")
    return {
        "format": 1, "generation": len(tables["frames"]) - 1, "arrays": arrays, "tables": tables,
        "sources": [{"root": k, "path": f"/nowhere/{k}"} for k in range(len(tables["frames"]))],
        "counts": {"files": stored + lost, "files_stored": stored, "files_failed": lost,
                   "frames_stored": stored, "frames_failed": lost, **dict.fromkeys(none, 0)},
        "recipe": {}, "software": {"dicom2cache": "7.0"}, "codecs": {}, "patient_key": "0" * 16,
    }  # fmt: skip


def _array(dtype: str, shape: tuple[int, ...], per_shard: int, codec: str) -> dict[str, Any]:
    """An array's zarr.json."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    inner: list[Any] = [{"name": "bytes"} if dtype == "uint8" else little]
    if codec != "none":
        about = {"cname": codec, "clevel": 5, "shuffle": "shuffle", "blocksize": 0}
        size = np.dtype(dtype).itemsize
        inner.append({"name": "blosc", "configuration": about | {"typesize": size}})
    sharding = {
        "chunk_shape": [1, *shape[1:]], "codecs": inner,
        "index_codecs": [little, {"name": "crc32c"}], "index_location": "end",
    }  # fmt: skip
    grid = {"chunk_shape": [per_shard, *shape[1:]]}
    return {
        "zarr_format": 3, "node_type": "array", "shape": list(shape), "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": grid},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0, "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
    }  # fmt: skip


def entry(cache: Path, path: Path) -> dict[str, Any]:
    """The file entry of a file of the cache."""
    data = path.read_bytes()
    name = path.relative_to(cache).as_posix()
    return {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read_root(cache: Path) -> dict[str, Any]:
    """What the root metadata says."""
    about: dict[str, Any] = json.loads((cache / "zarr.json").read_bytes())["attributes"]
    return dict(about["dicom2cache"])


def write_root(cache: Path, about: dict[str, Any]) -> None:
    """Sign the root metadata and write it, as a new file in the place of the old one."""
    plain = {k: v for k, v in about.items() if k != "sha256"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    signed = plain | {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    document = {"zarr_format": 3, "node_type": "group", "attributes": {"dicom2cache": signed}}
    (cache / "zarr.new").write_text(json.dumps(document))
    (cache / "zarr.new").replace(cache / "zarr.json")
