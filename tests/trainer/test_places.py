"""Shards are bound to their places, by the checksum of the first frame that is asked for."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import Cache, CacheLoader, DamagedError, FrameDataset, open_cache
from trainer_adapter.reading import shards
from trainer_adapter.reading.choose import reading_of
from trainer_adapter.stage import staged

CODECS = ("none", "none, shards apart", "lz4", "zstd")
ARRAY = "uint8_512x1024"


@pytest.fixture(scope="module", params=CODECS)
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """An MR series of noise: six shards of two frames, all of one size and index by any codec."""
    folder = tmp_path_factory.mktemp("places")
    for k in range(12):
        write_dicom(
            folder / "in" / f"{k:02}",
            pattern(f"slice{k}", (512, 1024)).astype(np.uint8),
            SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
            Modality="MR",
            FrameOfReferenceUID="1.2.3",
            ImagePositionPatient=[0.0, 0.0, float(k)],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[0.5, 0.5],
        )
    flags = ("--shard-mib", "1", "--codec", request.param.partition(",")[0])
    cache = built(folder / "in", folder / "cache", *flags)
    assert len({(shard(cache, k).stat().st_size, index(cache, k)) for k in range(6)}) == 1
    return cache


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no addresses for a whole array, each shard has a map of its own."""
    call = getattr(request.node, "callspec", None)
    if call is not None and "apart" in str(call.params.get("made")):
        monkeypatch.setattr(shards, "reserve", lambda spec: None)


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "cache"))


def shard(cache: Path, number: int) -> Path:
    return cache / ARRAY / f"c.{number}.0.0"


def index(cache: Path, number: int) -> bytes:
    return shard(cache, number).read_bytes()[-36:]


def swap(cache: Path, one: int, other: int) -> None:
    first, second = shard(cache, one), shard(cache, other)
    first.rename(cache / "x")
    second.rename(first)
    (cache / "x").rename(second)


def _loaded(read: str, **more: Any) -> Callable[[Cache], Any]:
    return lambda c: list(CacheLoader(c, 2, read=read, threads=0, **more))


READS: dict[str, Callable[[Cache], Any]] = {
    "frame": lambda c: c[2],
    "gather": lambda c: c.gather([0, 3]),
    "volume": lambda c: c.volume(0),
    "dataset": lambda c: FrameDataset(c)[3],
    "samples": lambda c: FrameDataset(c).__getitems__([2, 3]),
    "map": _loaded("map"),
    "advise": _loaded("advise"),
    "auto": _loaded("auto"),
    "pread": _loaded("pread"),
    "map, crops": _loaded("map", crop=16),
    "advise, crops": _loaded("advise", crop=16),
    "pread, crops": _loaded("pread", crop=16),
    "threads": lambda c: list(CacheLoader(c, 2, threads=3)),
    "pickled": lambda c: pickle.loads(pickle.dumps(c))[2],
}


@pytest.mark.parametrize("how", READS)
def test_two_shards_that_were_exchanged(cache: Path, how: str) -> None:
    opened = open_cache(cache)
    swap(cache, 1, 4)
    said = r"c\.[14]\.0\.0: the frame in slot [01] has another CRC-32C than frames/ says"
    for _ in range(2):  # a shard that was refused is not taken for checked
        with pytest.raises(DamagedError, match=said):
            READS[how](opened)
    swap(cache, 1, 4)
    READS[how](opened)  # mended, it is read


def test_a_shard_of_another_cache(ct_series: Path, tmp_path: Path) -> None:
    flags = ("--shard-mib", "1", "--jobs", "1")
    one = built(ct_series, tmp_path / "one", *flags)
    fewer = 'instance > 2 or modality != "CT"'
    other = built(ct_series, tmp_path / "other", *flags, "--where", fewer)
    here, there = (c / "int16_512x512" / "c.3.0.0" for c in (one, other))
    assert here.stat().st_size == there.stat().st_size
    assert here.read_bytes()[-36:] == there.read_bytes()[-36:]
    shutil.copy(there, here)
    with pytest.raises(DamagedError, match=r"c\.3\.0\.0: the frame in slot 1 has another CRC-32C"):
        open_cache(one)[7]
    assert open_cache(other)[7].shape == (512, 512)


def test_staging_checks_every_frame(cache: Path, tmp_path: Path) -> None:
    swap(cache, 1, 4)
    with pytest.raises(DamagedError, match=r"c\.1\.0\.0"):
        staged(open_cache(cache), tmp_path / "node")


@pytest.fixture
def second_damaged(made: Path, tmp_path: Path) -> Path:
    """The cache with a bit flipped in the pixels of frame 3, the second one of its shard."""
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    data = bytearray(shard(cache, 1).read_bytes())
    data[512 * 1024 + 3000] ^= 1
    shard(cache, 1).write_bytes(data)
    return cache


WAYS: dict[str, Callable[[Cache, list[int]], Any]] = {
    "frame": lambda c, wanted: [c[k] for k in wanted],
    "map": lambda c, wanted: c.gather(wanted, None, reading_of(c.core.store, "map", 1)),
    "advise": lambda c, wanted: c.gather(wanted, None, reading_of(c.core.store, "advise", 1)),
    "pread": lambda c, wanted: c.gather(wanted, None, reading_of(c.core.store, "pread", 1)),
    "crops": lambda c, wanted: list(
        CacheLoader(c.select(wanted), 2, crop=16, read="pread", threads=0)
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("check", ["never", "first-touch", "always"])
def test_a_damaged_frame_beside_the_first(second_damaged: Path, check: str, way: str) -> None:
    opened = open_cache(second_damaged, check=check)
    WAYS[way](opened, [2])
    if check == "never":
        WAYS[way](opened, [2, 3])
        return
    for _ in range(2):
        with pytest.raises(DamagedError, match=r"c\.1\.0\.0: the frame in slot 1 "):
            WAYS[way](opened, [2, 3])


@pytest.mark.parametrize("check", ["never", "first-touch", "always"])
def test_how_a_volume_is_checked(second_damaged: Path, check: str) -> None:
    opened = open_cache(second_damaged, check=check)
    assert opened.select([2, 3]).gather([0]).shape == (1, 512, 1024)
    if check == "never":
        assert opened.volume(0).shape == (12, 512, 1024)
    else:
        with pytest.raises(DamagedError, match=r"c\.1\.0\.0: the frame in slot 1 "):
            opened.volume(0)


@pytest.mark.parametrize("way", WAYS)
def test_when_frames_are_checked_again(cache: Path, way: str) -> None:
    """A bit that flips after the first reading is seen by "always" only."""
    caches = {check: open_cache(cache, check=check) for check in ("first-touch", "always")}
    for opened in caches.values():
        WAYS[way](opened, [2, 3])
    before = shard(cache, 1).stat().st_mtime_ns
    with shard(cache, 1).open("r+b") as file:
        file.seek(512 * 1024 + 3000)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(shard(cache, 1), ns=(before, before))  # a disk does not say when a bit flips
    WAYS[way](caches["first-touch"], [2, 3])
    with pytest.raises(DamagedError, match=r"c\.1\.0\.0: the frame in slot 1 "):
        WAYS[way](caches["always"], [2, 3])


def test_the_check_goes_along(cache: Path, tmp_path: Path) -> None:
    opened = open_cache(cache, check="always")
    again = pickle.loads(pickle.dumps(opened))
    assert again.core.store.checks.how == "always"
    assert pickle.loads(pickle.dumps(opened.core.store)).checks.how == "always"
    assert staged(opened, tmp_path / "node").core.store.checks.how == "always"
    assert open_cache(cache).core.store.checks.how == "never"


def test_another_check_is_refused(cache: Path) -> None:
    with pytest.raises(ValueError, match="check 'sometimes'; legal: never, first-touch, always"):
        open_cache(cache, check="sometimes")
