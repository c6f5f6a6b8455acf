"""Compressed caches: the same bytes by any worker, and what is recorded; verify sees damage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr
from numcodecs import blosc

from dicom2cache.planning.arrays import array_spec
from dicom2cache.records import LARGEST, codec_of
from dicom2cache.running import choices
from dicom2cache.store.compression import pack, unpack, zarr_codecs
from tests.support.caches import attributes, built, run_here, table, tree
from tests.support.dicom_files import pattern, real, write_dicom

CT = ("693_UNCR.dcm", "bad_sequence.dcm", "explicit_VR-UN.dcm")


def _ct(folder: Path, count: int = 5) -> Path:
    """A folder of CT slices of 512 x 512: real, rolled so that no two are alike."""
    rows = by_pixels(folder.parent / "plain")
    for k in range(count):
        pixels = np.roll(rows[k % len(rows)], 7 * k, axis=1).astype("int16")
        write_dicom(folder / f"{k}.dcm", pixels, InstanceNumber=k)
    return folder


def by_pixels(cache: Path) -> list[Any]:
    """The frames of the real CT slices, as stored uncompressed."""
    built(*map(real, CT), cache, "--jobs", "1")
    array: Any = zarr.open_array(cache / "int16_512x512", mode="r")
    return list(array[:])


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _ct(tmp_path_factory.mktemp("compressed") / "ct")


@pytest.fixture(scope="module", params=["lz4", "zstd", "auto"])
def compressed(ct: Path, request: pytest.FixtureRequest) -> tuple[str, Path]:
    """(codec, cache) of the CT slices, one process; two frames a shard, the last shard has one."""
    cache = ct.parent / f"cache-{request.param}"
    return request.param, built(ct, cache, *_flags(request.param), "--jobs", "1")


def _flags(codec: str) -> tuple[str, ...]:
    return ("--codec", codec, "--shard-mib", "1")


@pytest.mark.parametrize("options", [("--jobs", "2"), ("--jobs", "2", "--backend", "threading")])
def test_the_same_bytes_by_other_workers(
    compressed: tuple[str, Path], ct: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    codec, cache = compressed
    again = built(ct, tmp_path / "again", *_flags(codec), *options)
    assert tree(again) == tree(cache)


def test_the_same_bytes_part_by_part(
    compressed: tuple[str, Path], ct: Path, tmp_path: Path
) -> None:
    codec, cache = compressed
    parts = tmp_path / "parts"
    assert run_here("plan", ct, parts, *_flags(codec)).returncode == 0
    for index in (2, 0, 1):
        assert run_here("convert", parts, "--part", f"{index}/3", "--jobs", "1").returncode == 0
    assert run_here("commit", parts).returncode == 0
    assert tree(parts) == tree(cache)


def test_the_same_bytes_after_threads_were_used(ct: Path, tmp_path: Path) -> None:
    # Larger than a block, or the threads of Blosc have nothing to divide.
    frame = np.tile(by_pixels(tmp_path / "plain")[0], (3, 3))
    spec = array_spec("int16", frame.shape, 1, 1 << 27, "zstd")
    code = (
        "import sys, numpy as np; from dicom2cache.store.compression import pack\n"
        "from dicom2cache.planning.arrays import array_spec\n"
        "frame = np.load(sys.argv[1])\n"
        "spec = array_spec('int16', frame.shape, 1, 1 << 27, 'zstd')\n"
        "sys.stdout.buffer.write(pack(frame, spec))"
    )
    np.save(tmp_path / "frame.npy", frame)
    fresh = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "frame.npy"], capture_output=True, check=True
    ).stdout
    before = blosc.use_threads
    try:
        for _ in range(20):
            blosc.use_threads = True
            blosc.set_nthreads(8)
            blosc.compress(frame, b"zstd", 2, blosc.BITSHUFFLE, 1 << 19)
            assert pack(frame, spec) == fresh
    finally:
        blosc.use_threads = before


def test_frames_are_those_of_the_files(compressed: tuple[str, Path], ct: Path) -> None:
    _, cache = compressed
    array: Any = zarr.open_array(cache / "int16_512x512", mode="r")
    expected = [np.fromfile(ct / f"{k}.dcm", "<i2")[-512 * 512 :] for k in range(5)]
    np.testing.assert_array_equal(array[:], np.reshape(expected, (5, 512, 512)))


def test_what_is_recorded(compressed: tuple[str, Path]) -> None:
    codec, cache = compressed
    said = attributes(cache)
    (about,) = said["arrays"]
    metadata = json.loads((cache / "int16_512x512" / "zarr.json").read_bytes())
    inner = metadata["codecs"][0]["configuration"]["codecs"]
    assert said["recipe"]["codec"] == codec
    assert about["codec"] == {"auto": "lz4"}.get(codec, codec)  # 0.47; zstd 0.42: not worth it
    assert [c["name"] for c in inner] == ["bytes", "blosc"]
    assert inner[1]["configuration"]["cname"] == about["codec"]
    assert inner[1]["configuration"]["shuffle"] == "bitshuffle"
    assert inner[1]["configuration"]["typesize"] == 2
    assert "numcodecs" in said["software"]
    shards = table(cache, "shards")
    assert [s["slots"] for s in shards] == [2, 2, 1]
    for s in shards:
        path = cache / "int16_512x512" / f"c.{s['shard']}.0.0"
        assert s["bytes"] == path.stat().st_size < 0.65 * s["slots"] * 512 * 512 * 2


def test_info_and_plan_say_it(compressed: tuple[str, Path], ct: Path, tmp_path: Path) -> None:
    codec, cache = compressed
    said = run_here("info", cache).stdout
    assert f"3 shards, {attributes(cache)['arrays'][0]['codec']}" in said
    planned = run_here("plan", ct, tmp_path / "cache", *_flags(codec)).stdout
    assert "2.5 MiB in 3 shards" in planned
    assert f"bytes are before compression ({codec})" in planned


def test_verify(compressed: tuple[str, Path]) -> None:
    _, cache = compressed
    for options in ((), ("--quick",), ("--deep", "1")):
        ran = run_here("verify", cache, *options)
        assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    ("place", "quick", "message"),
    [
        (40, False, "slot 0 is damaged"),  # in the first chunk
        (4, False, "slot 0 is damaged (not a chunk of 524288 bytes"),  # its header
        (-30, True, "the CRC-32C of its index does not match"),
    ],
)
def test_verify_sees_damage(
    compressed: tuple[str, Path], place: int, quick: bool, message: str
) -> None:
    _, cache = compressed
    shard = cache / "int16_512x512" / "c.1.0.0"
    whole = shard.read_bytes()
    data = bytearray(whole)
    data[place] ^= 0x40
    try:
        shard.write_bytes(data)
        ran = run_here("verify", cache)
        assert ran.returncode == 1
        assert f"{shard}: {message}" in ran.stderr
        assert run_here("verify", cache, "--quick").returncode == int(quick)
    finally:
        shard.write_bytes(whole)


def test_auto_is_for_each_array(tmp_path: Path) -> None:
    source = tmp_path / "in"
    smooth = np.add.outer(np.arange(256), np.arange(256)).astype("uint16")
    for k in range(3):
        write_dicom(source / f"noise{k}.dcm", pattern(f"noise{k}", (64, 64), "uint16", 1 << 16))
        write_dicom(source / f"smooth{k}.dcm", smooth + np.uint16(k), SeriesInstanceUID="1.2.3")
    cache = built(source, tmp_path / "cache", "--codec", "auto")
    found = {a["name"]: a["codec"] for a in attributes(cache)["arrays"]}
    assert found["uint16_64x64"] == "none"  # noise of 16 bits, and so it can be mapped
    assert found["uint16_256x256"] in ("lz4", "zstd")
    assert run_here("verify", cache, "--deep", "1").returncode == 0


@pytest.mark.parametrize(
    ("plain", "lz4", "zstd", "codec"),
    [
        (1000, 950, 901, "none"),  # less than a tenth is saved
        (1000, 950, 900, "lz4"),
        (1000, 500, 426, "lz4"),
        (1000, 500, 425, "zstd"),  # 0.85 of lz4
        (0, 0, 0, "lz4"),  # no frame of the sample could be decoded
    ],
)
def test_the_choice(plain: int, lz4: int, zstd: int, codec: str) -> None:
    assert choices.chosen(plain, lz4, zstd) == codec


def test_a_sample_that_cannot_be_decoded_does_not_count(tmp_path: Path) -> None:
    # The middle frame is the sample, and half of its codestream is not there.
    for k in range(3):
        noise = pattern(str(k), (64, 64), "uint16", 1 << 16)
        write_dicom(tmp_path / "in" / f"{k}.dcm", noise, InstanceNumber=k)
    stream = imagecodecs.jpeg2k_encode(noise, level=0, reversible=True, codecformat="J2K")
    write_dicom(
        tmp_path / "in" / "1.dcm", noise, syntax="1.2.840.10008.1.2.4.90", InstanceNumber=1,
        encoded=[stream[: len(stream) // 4 * 2]],
    )  # fmt: skip
    cache = built(tmp_path / "in", tmp_path / "cache", "--codec", "auto", status=1)
    (about,) = attributes(cache)["arrays"]
    assert (about["frames"], about["slots"]) == (2, 3)
    assert about["codec"] == "lz4"  # by what can be decoded, noise, it were none


def test_shards_that_disagree_are_not_committed(ct: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run_here("plan", ct, cache, *_flags("auto"))
    run_here("convert", cache, "--part", "0/3", "--jobs", "1")
    (found,) = cache.glob("build/*/choices/codec.*")
    found.write_text('{"codec": "zstd"}')  # as by a node with another version
    run_here("convert", cache, "--jobs", "1")
    ran = run_here("commit", cache)
    assert ran.returncode == 2
    assert "are compressed by" in ran.stderr
    assert "--overwrite" in ran.stderr


def test_an_unknown_codec_is_refused(ct: Path, tmp_path: Path) -> None:
    ran = run_here("build", ct, tmp_path / "cache", "--codec", "gzip")
    assert ran.returncode == 2
    assert "codec = 'gzip'; legal: none, lz4, zstd, auto" in ran.stderr


@pytest.mark.parametrize(
    ("dtype", "slot", "shuffle"),
    [
        ("uint8", (8, 8), "noshuffle"),
        ("uint8", (8, 8, 3), "noshuffle"),
        ("int16", (8, 8), "bitshuffle"),
        ("int16", (7, 9), "shuffle"),  # 63 values: Blosc would leave them as they are
        ("int16", (1955, 1841), "bitshuffle"),  # all blocks but the last are whole
        ("float32", (8, 8), "shuffle"),
    ],
)
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_every_dtype_comes_back(
    dtype: str, slot: tuple[int, ...], shuffle: str, codec: str
) -> None:
    spec = array_spec(dtype, slot, 1, 1 << 20, codec)
    assert zarr_codecs(spec)[0]["configuration"]["shuffle"] == shuffle
    frame = pattern(f"{dtype}{slot}", slot, dtype, 100)
    chunk = pack(frame, spec)
    assert np.array_equal(unpack(chunk, spec), frame)
    for broken in (chunk[:-1], chunk[:7], b"", chunk[:3] + b"\x09" + chunk[4:]):
        with pytest.raises(ValueError, match="not a chunk"):
            unpack(broken, spec)


def test_what_blosc_cannot_hold_stays_uncompressed() -> None:
    assert codec_of("lz4", LARGEST) == "lz4"
    assert codec_of("auto", LARGEST + 1) == "none"
    assert LARGEST == blosc.MAX_BUFFERSIZE
    assert array_spec("uint16", (40000, 40000), 1, 1 << 20, "zstd").codec == "none"


def test_a_trial_is_state_of_the_build(ct: Path, tmp_path: Path) -> None:
    cache = built(ct, tmp_path / "cache", *_flags("auto"), "--jobs", "1")
    assert not (cache / "build").exists()
