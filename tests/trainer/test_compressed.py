"""Compressed caches give what uncompressed ones do, by every way to read; damage is an error."""

from __future__ import annotations

import ctypes
import json
import mmap
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numcodecs import blosc

from tests.support.caches import built, table
from tests.support.dicom_files import pattern, real, write_dicom
from tests.support.share import TIMES
from tests.support.signed import adopt
from trainer_adapter import CacheLoader, DamagedError, FrameDataset, open_cache
from trainer_adapter.format.members import Array
from trainer_adapter.order.crop import Crop
from trainer_adapter.reading.advised import Corners
from trainer_adapter.reading.choose import reading_of
from trainer_adapter.reading.chunks import Chunk, unpack
from trainer_adapter.stage import staged

FILES = ("693_UNCR.dcm", "bad_sequence.dcm", "MR2_UNCR.dcm", "US1_UNCR.dcm", "rtdose.dcm")
WAYS = ("map", "advise", "pread", "auto")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{codec: cache} of the same files: int16, float32, RGB; small sizes in shared slots."""
    folder = tmp_path_factory.mktemp("pairs")
    for k, size in enumerate([(30, 40), (40, 30), (40, 40), (7, 9)]):
        write_dicom(folder / "small" / f"{k}.dcm", pattern(str(k), size))
    sources = [folder / "small", *map(real, FILES)]
    flags = ("--shard-mib", "1", "--max-arrays", "5", "--jobs", "1")
    return {
        codec: built(*sources, folder / codec, *flags, "--codec", codec)
        for codec in ("none", "lz4", "zstd")
    }


@pytest.fixture(params=["lz4", "zstd"])
def both(pairs: dict[str, Path], request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """(uncompressed, compressed) cache, opened."""
    return open_cache(pairs["none"]), open_cache(pairs[request.param])


def test_frames(both: tuple[Any, Any]) -> None:
    plain, packed = both
    assert len(plain) == len(packed) == 23  # 15 of them are the frames of the dose
    for k in range(len(plain)):
        assert np.array_equal(plain[k], packed[k])
        assert plain[k].dtype == packed[k].dtype
        assert not packed[k].flags.writeable
    first = packed[0].copy()
    again = packed[0]
    packed[1], packed[2]  # each is fresh memory: none is overwritten
    assert np.array_equal(again, first)


@pytest.mark.parametrize("how", WAYS)
def test_gather(both: tuple[Any, Any], how: str) -> None:
    plain, packed = both
    reading = reading_of(packed.core.store, how, 1)
    for members in plain.groups().values():
        order = np.r_[members[::-1], members]
        got = packed.gather(order, None, reading)
        assert np.array_equal(got, plain.gather(order))
    assert packed.gather([], None, reading).shape == (0,)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(("top", "left", "height", "width"), [
    (3, 2, 5, 7), (-4, -3, 30, 30), (0, 0, 40, 40), (5000, 0, 4, 4),
])  # fmt: skip
def test_crops(
    both: tuple[Any, Any], how: str, top: int, left: int, height: int, width: int
) -> None:
    plain, packed = both
    reading = reading_of(packed.core.store, how, 1)
    for (name, _), members in plain.groups().items():
        (spec,) = [a for a in plain.arrays if a.name == name]
        places = np.full(len(members), top), np.full(len(members), left)
        shape = (len(members), height, width, *spec.slot[2:])
        corners, expected, got = Corners(*places, 9), np.empty(shape, spec.dtype), None
        got = np.empty(shape, spec.dtype)
        plain.gather_crops(members, corners, expected)
        packed.gather_crops(members, corners, got, reading)
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("crop", [None, 16])
def test_loader(both: tuple[Any, Any], threads: int, crop: int | None) -> None:
    plain, packed = both
    batches = []
    for cache in (plain, packed):
        chosen = cache.select(modality="OT")
        given = Crop(crop, crop, seed=3) if crop else None
        loader = CacheLoader(
            chosen, 3, shuffle=True, seed=1, threads=threads, crop=given, bucket="array"
        )
        batches.append([(b.index.tolist(), b.image.clone()) for b in loader])
    assert len(batches[0]) == len(batches[1]) == 2
    for (index, image), (other, same) in zip(*batches, strict=True):
        assert index == other
        assert bool((image == same).all())


def test_dataset_volume_and_stage(both: tuple[Any, Any], tmp_path: Path) -> None:
    plain, packed = both
    samples = FrameDataset(packed, kind=None)
    for k in (0, 5, 20):
        assert np.array_equal(samples[k].image.numpy(), plain[k])
    members = next(iter(plain.groups().values()))
    images = [s.image.numpy() for s in samples.__getitems__(members.tolist())]
    assert np.array_equal(images, plain.gather(members))
    dose = int(plain.select(kind="dose").column("stack")[0].as_py())
    assert packed.volume(dose).shape == (15, 10, 10)
    assert np.array_equal(packed.volume(dose), plain.volume(dose))
    copy = staged(packed, tmp_path)
    assert copy.path != packed.path
    assert all(np.array_equal(copy[k], plain[k]) for k in range(len(plain)))


def _shard(cache: Path) -> Path:
    return cache / "int16_512x512" / "c.0.0.0"


@pytest.fixture
def damaged(pairs: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(pairs["lz4"], tmp_path / "cache"))


def _edit(cache: Path, place: int) -> None:
    data = bytearray(_shard(cache).read_bytes())
    data[place] ^= 0x40
    _shard(cache).write_bytes(data)


@pytest.mark.parametrize("place", [0, 2, 3, 4, 7, 12, 13, 14])
@pytest.mark.parametrize("how", WAYS)
def test_a_header_that_lies(damaged: Path, place: int, how: str) -> None:
    _edit(damaged, place)
    cache = open_cache(damaged).select(modality="CT")
    reading = reading_of(cache.core.store, how, 1)
    for touch in (lambda: cache[0], lambda: cache.gather([1, 0], None, reading)):
        with pytest.raises(DamagedError, match="the frame in slot 0 is no chunk of 524288") as e:
            touch()
        assert str(_shard(damaged)) in str(e.value)
        assert "dicom2cache verify" in str(e.value)
    assert cache[1].shape == (512, 512)  # the frame beside it


def test_a_stage_of_damage(damaged: Path, tmp_path: Path) -> None:
    _edit(damaged, 5000)
    cache = open_cache(damaged).select(modality="CT")
    with pytest.raises(DamagedError, match=r"CRC-32C|decompress"):
        staged(cache, tmp_path / "stage")
    assert not list((tmp_path / "stage").rglob("c.*.0"))


def _reindexed(cache: Path, change: Callable[[Any], Any]) -> None:
    """Change the index of the CT shard, with checksums that match."""
    data = _shard(cache).read_bytes()
    tail = 16 * 2 + 4
    index = np.frombuffer(data[-tail:-4], "<u8").reshape(2, 2).copy()
    change(index)
    crc = google_crc32c.value(index.tobytes())
    _shard(cache).write_bytes(data[:-tail] + index.tobytes() + crc.to_bytes(4, "little"))
    path = cache / "shards" / "0.parquet"
    rows = table(cache, "shards")
    names = [a["name"] for a in json.loads((cache / "zarr.json").read_bytes())["attributes"][
        "dicom2cache"]["arrays"]]  # fmt: skip
    for row in rows:
        if names[row["array"]] == "int16_512x512":
            row["index_crc32c"] = crc
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)
    adopt(cache, "shards")


def _overlap(index: Any) -> None:
    index[1] = index[0]


def _swap(index: Any) -> None:
    index[:] = index[::-1].copy()


def _beyond(index: Any) -> None:
    index[1, 1] += 1


def _huge(index: Any) -> None:
    index[1, 1] = 2**63 + 5


def _gap(index: Any) -> None:
    index[0, 1] -= 1


def _nothing(index: Any) -> None:
    index[1, 1] = 0


@pytest.mark.parametrize("change", [_overlap, _swap, _beyond, _huge, _gap, _nothing])
@pytest.mark.parametrize("how", ["map", "pread"])
def test_an_index_that_lies(damaged: Path, change: Callable[[Any], Any], how: str) -> None:
    _reindexed(damaged, lambda index: None)
    cache = open_cache(damaged).select(modality="CT")
    assert cache[0].shape == (512, 512)  # written again, unchanged, it is whole
    _reindexed(damaged, change)
    cache = open_cache(damaged).select(modality="CT")
    reading = reading_of(cache.core.store, how, 1)
    with pytest.raises(DamagedError, match="its index is not that of such a shard"):
        cache.gather([0], None, reading)


def test_a_frame_that_the_index_lacks(damaged: Path) -> None:
    # shards/ and the index agree that one frame is missing; frames/ has both.
    _reindexed(damaged, lambda index: None)
    data = _shard(damaged).read_bytes()
    index = np.frombuffer(data[-36:-4], "<u8").reshape(2, 2).copy()
    length = int(index[0, 1])
    index[0] = [2**64 - 1] * 2
    index[1, 0] = 0
    raw = data[length:-36] + index.tobytes()
    _shard(damaged).write_bytes(raw + google_crc32c.value(index.tobytes()).to_bytes(4, "little"))
    path = damaged / "shards" / "0.parquet"
    rows = table(damaged, "shards")
    for row in rows:
        if row["slots"] == 2 and row["frames"] == 2 and row["bytes"] == len(data):
            row |= {"bytes": len(data) - length, "frames": 1}
            row["index_crc32c"] = google_crc32c.value(index.tobytes())
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)
    adopt(damaged, "shards")
    cache = open_cache(damaged).select(modality="CT")
    assert cache[1].shape == (512, 512)
    for how in WAYS:
        with pytest.raises(DamagedError, match="has no frame in slot 0"):
            cache.gather([0], None, reading_of(cache.core.store, how, 1))


def _guarded(nbytes: int) -> Any:
    """(nbytes,) of memory with a page before and behind it that nobody may touch."""
    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    pages = -(-nbytes // page)
    memory = np.frombuffer(mmap.mmap(-1, (pages + 2) * page), np.uint8)
    start = memory.__array_interface__["data"][0]
    for place in (start, start + (pages + 1) * page):
        assert libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(page), 0) == 0
    return memory[(pages + 1) * page - nbytes : (pages + 1) * page]


def fuzz(codec: str, shuffle: int, block: int, seed: int) -> None:
    """Damage a real chunk at random; neither side of its buffers may be touched."""
    frame = np.ascontiguousarray(pattern("fuzz", (128, 128), "int16", 300))
    frame[:, 40:] = 7
    whole = np.frombuffer(blosc.compress(frame, codec.encode(), 5, shuffle, block), np.uint8)
    data, out = _guarded(len(whole)), _guarded(frame.nbytes)
    spec = Array("fuzz", np.dtype("<i2"), frame.shape, 1, 1, codec)
    rng, seen = np.random.default_rng(seed), {"same": 0, "other": 0, "error": 0}
    for _ in range(1500 * TIMES):
        data[:] = whole
        for _ in range(rng.integers(1, 4)):
            near = rng.random() < 0.5  # header and offsets of blocks: what sizes depend on
            data[rng.integers(0, 64 if near else len(whole))] = rng.integers(0, 256)
        try:
            unpack(Chunk(data, Path("fuzz"), 0), spec, out)
        except DamagedError:
            seen["error"] += 1
        else:
            same = np.array_equal(out.view("<i2").reshape(frame.shape), frame)
            seen["same" if same else "other"] += 1
    assert min(seen["error"], seen["other"]) > 50, seen
    print(json.dumps(seen))


def test_random_damage_never_leaves_the_buffers() -> None:
    # In a process of its own: what goes wrong here is a crash.
    code = "from tests.trainer.test_compressed import fuzz\n"
    for codec in ("lz4", "zstd"):
        for shuffle, block in ((0, 4096), (1, 8192), (2, 1 << 19)):
            code += f"fuzz({codec!r}, {shuffle}, {block}, 0)\n"
    path = [str(Path(__file__).parents[2])]
    code = f"import sys; sys.path += {path!r}; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert [sum(one.values()) for one in seen] == [1500 * TIMES] * 6


def test_without_numcodecs(pairs: dict[str, Path]) -> None:
    code = (
        "import sys; sys.modules['numcodecs'] = None\n"
        "from trainer_adapter import MissingCodecError, open_cache\n"
        "plain, packed = map(open_cache, sys.argv[1:])\n"
        "print(plain[0].shape, packed.column('modality')[0])\n"
        "try: packed[0]\n"
        "except MissingCodecError as e: print(isinstance(e, ImportError), e)\n"
    )
    arguments = [sys.executable, "-c", code, pairs["none"], pairs["lz4"]]
    out = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == (
        "True the frames of this cache are compressed; install numcodecs to read them"
    )


def test_uncompressed_caches_do_not_import_it(pairs: dict[str, Path]) -> None:
    code = (
        "import sys; from trainer_adapter import open_cache\n"
        "open_cache(sys.argv[1]).gather([0]); print('numcodecs' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, pairs["none"]]
    out = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


def test_threads_of_blosc_stay_off(pairs: dict[str, Path]) -> None:
    code = (
        "import os, sys; from trainer_adapter import open_cache\n"
        "from numcodecs import blosc\n"
        "blosc.set_nthreads(8)\n"
        "cache = open_cache(sys.argv[1])\n"
        "cache.core.store.place(0, 0)\n"  # Arrow has threads for tables
        "before = len(os.listdir('/proc/self/task'))\n"
        "[cache[k] for k in range(len(cache))]\n"
        "print(blosc.use_threads, len(os.listdir('/proc/self/task')) - before)"
    )
    arguments = [sys.executable, "-c", code, pairs["zstd"]]
    out = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "0"]
