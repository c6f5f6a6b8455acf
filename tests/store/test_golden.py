"""A cache that an older version made is read by this one, and by zarr-python; golden/README.md."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from dicom2cache import pipeline
from tests.support.caches import failures, run_cli, table
from trainer_adapter import open_cache

_GOLDEN = Path(__file__).parent / "golden" / "cache"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return shutil.copytree(_GOLDEN, tmp_path / "cache")


def _expected() -> dict[str, NDArray[np.generic]]:
    y, x = np.mgrid[0:64, 0:64]
    found: dict[str, NDArray[np.generic]] = {"ramp.dcm": (64 * y + x).astype("<u2")}
    for k in range(2):
        stream = hashlib.shake_128(b"slice%d" % k).digest(8192)
        found[f"slice{k}.dcm"] = np.frombuffer(stream, "<i2").reshape(64, 64)
        v, u = np.mgrid[0:48, 0:64]
        found[f"colour{k}.dcm"] = np.stack([5 * v + k, 4 * u, 3 * v + u], -1).astype(np.uint8)
    return found


def test_the_reader_reads_it(golden: Path) -> None:
    cache, expected = open_cache(golden), _expected()
    paths = cache.column("path").to_pylist()
    assert paths == ["slice0.dcm", "slice1.dcm", "ramp.dcm", "colour0.dcm", "colour1.dcm"]
    for path, frame in zip(paths, cache, strict=True):
        assert frame.dtype == expected[path].dtype
        assert np.array_equal(frame, expected[path]), path
    assert cache[0][0, :4].tolist() == [24143, -25710, 21534, -26659]
    assert cache[4][-1, -1].tolist() == [236, 252, 204]
    assert cache.column("unit").to_pylist() == ["HU", "HU", "US", None, None]
    assert cache.column("slope").to_pylist() == [1.0, 1.0, 1.0, None, None]
    assert np.array_equal(cache.volume(0)[1], expected["slice1.dcm"])
    batch = cache.gather([1, 0])
    assert np.array_equal(batch, np.stack([expected["slice1.dcm"], expected["slice0.dcm"]]))


def test_zarr_python_reads_it(golden: Path) -> None:
    expected = _expected()
    group = zarr.open_group(golden, mode="r")
    names = ("int16_64x64", "uint16_64x64", "uint8_48x64x3")
    assert sorted(group.array_keys()) == list(names)
    assert group.attrs["dicom2cache"]["format"] == 1
    grey, ramp, colour = (group[name] for name in names)
    assert np.array_equal(grey[:2], np.stack([expected["slice0.dcm"], expected["slice1.dcm"]]))
    assert np.array_equal(ramp[0], expected["ramp.dcm"])
    assert np.array_equal(colour[:2], np.stack([expected["colour0.dcm"], expected["colour1.dcm"]]))


def test_it_is_whole(golden: Path) -> None:
    ran = run_cli("verify", golden)
    assert (ran.returncode, ran.stderr) == (0, "")
    about = pipeline.info(golden)
    assert about["software"]["dicom2cache"] == "0.1.0"
    assert [a["codec"] for a in about["arrays"]] == ["none", "lz4", "none"]
    assert (about["counts"]["frames_stored"], about["counts"]["files_failed"]) == (5, 2)
    assert {(path, frame): outcome for (path, frame), (outcome, _) in failures(golden).items()} == {
        ("cut.dcm", None): "failed", ("rle.dcm", 0): "failed", ("notes.txt", None): "not-dicom",
    }  # fmt: skip
    assert [row["slots"] for row in table(golden, "shards")] == [2, 2, 2]


def test_damage_in_it_is_found(golden: Path) -> None:
    shard = golden / "int16_64x64" / "c.0.0.0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    ran = run_cli("verify", golden)
    assert (ran.returncode, "int16_64x64" in ran.stderr) == (1, True)
