"""Caches that lie: root metadata, tables, shards and build/, changed and signed anew."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import dicom2cache
from dicom2cache.errors import Dicom2cacheError
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.running import receipts
from dicom2cache.running.convert import write_shard
from dicom2cache.running.each_frame import Worker
from dicom2cache.running.job import load_job
from dicom2cache.store.shards import crc32c
from tests.fuzz.choices import Choices
from tests.fuzz.headers import place
from tests.support.dicom_files import CT_IMAGE, pattern, write_dicom
from tests.support.plans import sign_plan
from tests.support.signed import adopt, sign
from trainer_adapter import CacheError, open_cache

_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 1 << 31, 1 << 40, 1 << 63, 1 << 64, 10**40, -(1 << 63), 0.5,
    1e308, float("inf"), float("nan"), "", "a", "none", "lz4", "zstd", "int16", "uint8", "float64",
    "frames/0.parquet", "../x", "/etc", ".", "x/y", "int16_8x8", "uint8_6x5x3", "\ud800", "\0",
    "\x1b[2J", [], {}, [[]], [0], [8, 8], [1 << 40, 1 << 40], {"a": 1}, "0" * 64, [None],
)  # fmt: skip


def changed(c: Choices, node: Any, depth: int = 0) -> Any:
    """JSON with one change, somewhere in it."""
    inner = isinstance(node, dict | list) and len(node) > 0
    if not inner or (depth and c.one_in(6)):
        return c.pick(_ODD)
    if isinstance(node, dict):
        keys = sorted(node)
        key = c.pick(keys)
        how = c.below(12)
        rest = {k: v for k, v in node.items() if k != key}
        if how == 0:
            return rest
        if how == 1:
            return {**rest, f"{key}x": node[key]}
        if how == 2:
            return {**node, key: node[c.pick(keys)]}
        return {**node, key: changed(c, node[key], depth + 1)}
    at, how = c.below(len(node)), c.below(12)
    if how == 0:
        return node[:at] + node[at + 1 :]
    if how == 1:
        return [*node, node[at]]
    return [*node[:at], changed(c, node[at], depth + 1), *node[at + 1 :]]


def bytes_changed(c: Choices, data: bytes) -> bytes:
    """The bytes with a few changes."""
    made = bytearray(data)
    for _ in range(1 + c.below(4)):
        at = c.below(65536) % (len(made) + 1)
        at = len(made) - at if c.one_in(2) else at  # what counts is often at the end
        how = c.below(4)
        if how == 0 and at < len(made):
            made[at] ^= 1 << c.below(8)
        elif how == 1:
            new = c.take(8)
            made[at : at + len(new)] = new
        elif how == 2:
            del made[at : at + c.below(16)]
        else:
            made[at:at] = c.take(8)
    return bytes(made)


class Small:
    """A small cache, and its bytes to put back."""

    def __init__(self, name: str, recipe: Recipe, committed: bool = True) -> None:
        self.path = place().folder / name
        self.source = place().folder / f"source-{name}"
        for k in range(3):
            write_dicom(
                self.source / f"{k}.dcm", pattern(f"{k}", (8, 8)), SOPClassUID=CT_IMAGE,
                Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, InstanceNumber=k + 1,
                ImagePositionPatient=[0, 0, k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[1, 1],
            )  # fmt: skip
        write_dicom(self.source / "c.dcm", pattern("c", (6, 5, 3), "uint8", 256))
        write_dicom(self.source / "bad.dcm", pattern("b", (4, 4)), BitsStored=99)
        key = place().folder / "key"
        key.touch(0o600)
        key.write_bytes(bytes(32))
        if committed:
            dicom2cache.build(self.source, self.path, recipe, jobs=1, patient_key=key)
        else:
            dicom2cache.plan(self.source, self.path, recipe, jobs=1, patient_key=key)
            job = load_job(self.path)
            for task in job.tasks:
                with Worker() as worker:
                    write_shard(job, task, worker)
        self.files = self._now()
        self.folders = [p for p in self.path.rglob("*") if p.is_dir()]
        self.frames = tuple(map(np.array, open_cache(self.path))) if committed else ()

    def _now(self) -> dict[str, bytes]:
        found = sorted(p for p in self.path.rglob("*") if p.is_file())
        return {p.relative_to(self.path).as_posix(): p.read_bytes() for p in found}

    def restore_all(self) -> None:
        """Put all back, and remove what is not of the cache."""
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
        now = self._now()
        for name in now.keys() - self.files.keys():
            (self.path / name).unlink()
        for name, data in self.files.items():
            if now.get(name) != data:
                (self.path / name).write_bytes(data)

    def changed_by_reading(self, *but: str) -> list[str]:
        """Files that are not as they were, without those that were meant to be."""
        now = self._now()
        every = now.keys() | self.files.keys()
        return sorted(n for n in every if n not in but and now.get(n) != self.files.get(n))


@cache
def _caches() -> tuple[Small, ...]:
    return Small("plain", Recipe()), Small("packed", Recipe(codec="lz4"))


def plain() -> Path:
    """A whole cache."""
    return _caches()[0].path


@cache
def _planned() -> Small:
    return Small("planned", Recipe(), committed=False)


def _served(path: Path, check: str = "never") -> list[Any]:
    """What a training process may ask for: frames, or why not."""
    found: list[Any] = []
    try:
        frames = open_cache(path, check=check)
        for name in ("path", "slope", "windows", "segments", "crc32c"):
            with suppress(KeyError):  # the legal names are in it
                frames.column(name)
        frames.groups()
        for k in range(min(len(frames), 8)):
            frames.shape_of(k)
            with suppress(CacheError):
                found.append((k, np.array(frames[k])))
        with suppress(CacheError):
            frames.gather(range(min(2, len(frames))))
        for stack in range(2):
            with suppress(CacheError, KeyError):
                frames.volume(stack)
        with suppress(CacheError, KeyError):
            frames.select(kind="image")
        with suppress(KeyError):
            len(frames.frames)
    except CacheError:
        pass
    return found


def _inspected(path: Path) -> bool | None:
    """Whether `verify` finds something; None if it refuses to look."""
    with suppress(Dicom2cacheError):
        dicom2cache.info(path)
    with suppress(Dicom2cacheError):
        list(dicom2cache.compare(path, path))
    try:
        return bool(dicom2cache.verify(path))
    except Dicom2cacheError:
        return None


def root_signed(data: bytes) -> None:
    """`data` chooses what the root metadata, or an array's, says."""
    c = Choices(data)
    small = c.pick(_caches())
    metadata = [name for name in small.files if name.endswith("zarr.json") and name[0] != "."]
    name = "zarr.json" if not c.one_in(4) else c.pick(metadata)
    try:
        if c.one_in(8):
            (small.path / name).write_bytes(bytes_changed(c, small.files[name]))
        elif name == "zarr.json" and not c.one_in(4):

            def change(about: dict[str, Any]) -> None:
                new: Any = about
                for _ in range(1 + c.below(3)):
                    new = changed(c, new)
                    new = new if isinstance(new, dict) else dict(about)
                about.clear()
                about.update(new)

            sign(small.path, change)
        else:
            document = changed(c, json.loads(small.files[name]))
            (small.path / name).write_text(json.dumps(document))
        _served(small.path)
        _inspected(small.path)
        assert not small.changed_by_reading(name)
    finally:
        small.restore_all()


def _column_changed(c: Choices, table: pa.Table) -> pa.Table:
    name = c.pick(table.column_names)
    at = table.column_names.index(name)
    kind, n = table.schema[at].type, table.num_rows
    how = c.below(8)
    if how == 0:
        return table.drop_columns([name])
    if how == 1:
        return table.set_column(at, name, pa.nulls(n, kind))
    if how == 2:
        return table.set_column(at, name, pa.array(["x"] * n))
    if how == 3:
        return table.take(pa.array([c.below(n or 1) for _ in range(n)], pa.int64())) if n else table
    if how == 4:
        return table.append_column(name, table[name])
    if how == 5 and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        new = [c.pick((0, 1, -1, 127, 1 << 15, 1 << 31, 1 << 62, -(1 << 62))) for _ in range(n)]
        return table.set_column(at, name, pa.array(new, pa.int64()))
    if how == 6:
        return table.slice(c.below(n + 1))
    other = c.pick(table.column_names)
    return table.set_column(at, name, table[other])


def tables_signed(data: bytes) -> None:
    """`data` chooses what a table says, or its bytes; the root has its digest."""
    c = Choices(data)
    small = c.pick(_caches())
    kind = c.pick(("frames", "frames", "shards", "failures"))
    name = f"{kind}/0.parquet"
    path = small.path / name
    try:
        if c.one_in(2):
            path.write_bytes(bytes_changed(c, small.files[name]))
        else:
            table = pq.read_table(pa.BufferReader(small.files[name]))
            for _ in range(1 + c.below(2)):
                if table.num_columns:
                    table = _column_changed(c, table)
            pq.write_table(table, path)
        if not c.one_in(8):
            with suppress(Exception):  # no Parquet any more: then unsigned
                adopt(small.path, kind)
        _served(small.path)
        _inspected(small.path)
        assert not small.changed_by_reading(name, "zarr.json")
    finally:
        small.restore_all()


def shard_bytes(data: bytes) -> None:
    """What is changed in a shard is found by verify; frames are served as they were, or not."""
    c = Choices(data)
    small = c.pick(_caches())
    name = c.pick([n for n in small.files if "/c." in n])
    whole = small.files[name]
    made = bytearray(bytes_changed(c, whole))
    if c.one_in(2) and len(made) > 20:  # an index that is changed and signed
        at = len(made) - 4 - c.below(64)
        if at >= 0:
            made[at : at + 8] = struct.pack("<Q", c.pick((0, 1, 16, 128, 1 << 40, (1 << 64) - 1)))
    if c.one_in(2):
        index = bytes(made[-16 * _slots(small, name) - 4 : -4])
        made[-4:] = crc32c(index).to_bytes(4, "little")
    try:
        (small.path / name).write_bytes(bytes(made))
        said = _inspected(small.path)
        assert said or bytes(made) == whole, f"verify finds nothing in {name}"
        for check in ("never", "always"):
            for k, pixels in _served(small.path, check):
                if check == "always":
                    assert np.array_equal(pixels, small.frames[k]), f"frame {k} is another"
        assert not small.changed_by_reading(name)
    finally:
        small.restore_all()


@cache
def _slots(small: Small, name: str) -> int:
    about = json.loads(small.files["zarr.json"])["attributes"]["dicom2cache"]
    folder = name.split("/")[0]
    return int(next(a["frames_per_shard"] for a in about["arrays"] if a["name"] == folder))


def state_read(data: bytes) -> None:
    """`data` chooses what a plan that is not committed yet says of itself."""
    c = Choices(data)
    small = _planned()
    name = c.pick([n for n in small.files if n.startswith("build/") and small.files[n]])
    try:
        if name.endswith(".json") and not c.one_in(4):
            document = changed(c, json.loads(small.files[name]))
            (small.path / name).write_text(json.dumps(document))
        else:
            (small.path / name).write_bytes(bytes_changed(c, small.files[name]))
        if not c.one_in(4):
            with suppress(Exception):  # no plan any more: then unsigned
                sign_plan(small.path)
        with suppress(Dicom2cacheError):
            dicom2cache.info(small.path)
        with suppress(Dicom2cacheError):
            job = load_job(small.path)
            for task in job.tasks[:4]:
                receipts.settle(job, task)
        with suppress(Dicom2cacheError):
            dicom2cache.commit(small.path)
        assert (small.source / "c.dcm").exists()
    finally:
        shutil.rmtree(small.path)
        small.path.mkdir()
        small.restore_all()


def seeds() -> Iterator[bytes]:
    """Some changes of each kind."""
    for k in range(64):
        yield bytes([k % 2, k % 4, k % 7, k % 3, *range(k, k + 12)])
