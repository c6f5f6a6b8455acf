"""Codecs for caches: size, time to write and to read, on real frames; and CacheLoader over them.

Run: python -m benchmarks.codecs. Contenders in turn, medians; one thread, save for
CacheLoader. The frames are those of files of pydicom and pydicom-data, as a cache stores them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import data_store
import numpy as np
import pyarrow.parquet as pq
from numcodecs import blosc, zstd
from pcodec import ChunkConfig, standalone
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from benchmarks.machine import describe
from dicom2cache import Recipe, build
from dicom2cache.planning.arrays import array_spec
from dicom2cache.store.compression import pack
from trainer_adapter import CacheLoader, open_cache

ROUNDS, BATCH = 7, 64
FILES = {
    "CT 512x512 (693_UNCR)": "693_UNCR.dcm",
    "CT 512x512 (bad_sequence)": "bad_sequence.dcm",
    "CT 512x512 (explicit_VR-UN)": "explicit_VR-UN.dcm",
    "MR 484x484 (MR-SIEMENS)": "MR-SIEMENS-DICOM-WithOverlays.dcm",
    "MR 1024x1024, fractional slope (MR2)": "MR2_UNCR.dcm",
    "CR 1955x1841 (RG1)": "RG1_UNCR.dcm",
    "CR 1760x1760 (RG3)": "RG3_UNCR.dcm",
    "NM 1024x256 (JPEG2000_UNC)": "JPEG2000_UNC.dcm",
    "US RGB 480x640 (US1)": "US1_UNCR.dcm",
    "US RGB 480x640 cine (color3d)": "color3d_jpeg_baseline.dcm",
    "RT Dose 10x10 (rtdose)": "rtdose.dcm",
    "segmentation 512x512 (liver)": "liver_1frame.dcm",
}
Frame = np.ndarray[Any, Any]
Encode = Callable[[Frame], bytes]
Decode = Callable[[bytes, Frame], Any]


def _file(name: str) -> Path:
    stored = Path(data_store.__path__[0]) / "data" / name
    return stored if stored.exists() else Path(str(get_testdata_file(name, download=False)))


def _ours(codec: str) -> tuple[Encode, Decode]:
    def encode(frame: Frame) -> bytes:
        spec = array_spec(frame.dtype.name, frame.shape, 1, 1 << 20, codec)
        return pack(frame, replace(spec, codec=codec))

    return encode, blosc.decompress


def _blosc(cname: bytes, level: int, shuffle: int, block: int = 1 << 19) -> tuple[Encode, Decode]:
    return lambda f: blosc.compress(f, cname, level, shuffle, block), blosc.decompress


def _pcodec() -> tuple[Encode, Decode]:
    config = ChunkConfig(compression_level=8)
    return (
        lambda f: standalone.simple_compress(f.ravel(), config),
        lambda data, out: standalone.simple_decompress_into(data, out.reshape(-1)),
    )


# Blosc's level n is zstd's 2n - 1. Blocks of 512 KiB, unless said otherwise.
CONTENDERS: dict[str, tuple[Encode, Decode]] = {
    "codec lz4": _ours("lz4"),
    "codec zstd": _ours("zstd"),
    "lz4, bits": _blosc(b"lz4", 5, blosc.BITSHUFFLE),
    "lz4, bytes": _blosc(b"lz4", 5, blosc.SHUFFLE),
    "zstd 1, bits": _blosc(b"zstd", 1, blosc.BITSHUFFLE),
    "zstd 3, bits": _blosc(b"zstd", 2, blosc.BITSHUFFLE),
    "zstd 3, bits, Blosc's blocks": _blosc(b"zstd", 2, blosc.BITSHUFFLE, 0),
    "zstd 3, bytes": _blosc(b"zstd", 2, blosc.SHUFFLE),
    "zstd 9, bits": _blosc(b"zstd", 5, blosc.BITSHUFFLE),
    "zstd 3, plain": (lambda f: zstd.compress(f, 3), zstd.decompress),
    "pcodec 8": _pcodec(),
}


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def frame_figures(frame: Frame) -> dict[str, dict[str, float]]:
    """Of each contender: size by that of the frame, ms to write, GB/s to read."""
    usable = {n: c for n, c in CONTENDERS.items() if n != "pcodec 8" or frame.dtype != np.uint8}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in usable}
    found, out = {}, np.empty_like(frame)
    for k in range(ROUNDS + 1):
        for name, (encode, decode) in usable.items():
            data = encode(frame)
            decode(data, out)
            assert np.array_equal(out, frame), name
            if k:
                write = _seconds(partial(encode, frame))
                times[name].append((write, _seconds(partial(decode, data, out))))
            found[name] = {"ratio": len(data) / frame.nbytes}
    for name, told_all in times.items():
        write, read = (median(t[k] for t in told_all) for k in (0, 1))
        found[name] |= {"write ms": write * 1e3, "read GB/s": frame.nbytes / read / 1e9}
    return found


def make_series(folder: Path, files: int, slices: list[Frame]) -> None:
    """`files` CT slices of 512x512 int16: the `slices` in turn, rolled by ever more rows."""
    folder.mkdir()
    ds = dcmread(_file("693_UNCR.dcm"))
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.RescaleIntercept = 16, 15, 1, 0
    for k in range(files):
        uid = generate_uid(entropy_srcs=["codecs", str(k)])
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
        ds.InstanceNumber, ds.ImagePositionPatient = k, [0, 0, 2.5 * k]
        ds.PixelData = np.roll(slices[k % len(slices)], k // len(slices), axis=0).tobytes()
        ds.save_as(folder / f"{k:04d}.dcm")


def loader_figures(
    here: Path, files: int, threads: int, slices: list[Frame]
) -> dict[str, dict[str, float]]:
    """Of caches of CT 512x512: bytes by raw bytes; CacheLoader, GB/s of decoded pixels."""
    make_series(here / "series", files, slices)
    key = here / "key"
    key.touch(0o600)
    key.write_bytes(bytes(32))
    loaders, found = {}, {}
    for codec in ("none", "lz4", "zstd"):
        path = here / codec
        build(here / "series", path, Recipe(codec=codec), patient_key=key)
        cache = open_cache(path)
        raw = sum(cache[k].nbytes for k in range(len(cache)))
        stored = sum(pq.read_table(path / "shards" / "0.parquet")["bytes"].to_pylist())
        found[codec] = {"ratio": stored / raw}
        loaders[codec] = CacheLoader(cache, BATCH, shuffle=True, threads=threads, read="map")
    times: dict[str, list[tuple[float, float]]] = {codec: [] for codec in loaders}
    for k in range(2 * ROUNDS + 1):
        for codec, loader in loaders.items():
            before = time.process_time()
            seconds = _seconds(lambda it=loader: [None for _ in it])  # type: ignore[misc]
            if k:
                times[codec].append((seconds, time.process_time() - before))
    size = files * 2 * 512 * 512 / 1e9
    for codec, told in times.items():
        found[codec]["GB/s"] = size / median(seconds for seconds, _ in told)
        found[codec]["GB by CPU second"] = size / median(cpu for _, cpu in told)
    return found


def as_markdown(found: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = ["# Codecs for caches", "", "`make bench-codecs`. "]
    lines[-1] += "; ".join(f"{k} {v}" for k, v in found["machine"].items()) + "."
    titles = {"ratio": "bytes by raw bytes", "write ms": "ms to write a frame, one thread",
              "read GB/s": "GB/s of decoded pixels, one thread"}  # fmt: skip
    for figure, title in titles.items():
        lines += ["", f"## {title}", "", "| frame | " + " | ".join(CONTENDERS) + " |"]
        lines.append("| --- |" + " --- |" * len(CONTENDERS))
        for frame, by_name in found["frames"].items():
            shown = [f"{by_name[n][figure]:.3g}" if n in by_name else "" for n in CONTENDERS]
            lines.append(f"| {frame} | " + " | ".join(shown) + " |")
    lines += ["", f"## CacheLoader, {found['threads']} threads, CT 512x512 int16, warm", ""]
    lines += ["| codec | bytes by raw bytes | GB/s of decoded pixels | GB by CPU second |"]
    lines += ["| --- | --- | --- | --- |"]
    for codec, said in found["loader"].items():
        speeds = f"{said['GB/s']:.2f} | {said['GB by CPU second']:.2f}"
        lines.append(f"| {codec} | {said['ratio']:.3f} | {speeds} |")
    lines += ["", "The bar, for one codec: at most 0.65 of raw bytes, above 1.5 GB/s.", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write with --out."""
    parser = argparse.ArgumentParser(description="Codecs for caches.")
    parser.add_argument("--files", type=int, default=768, help="slices of the CT series")
    parser.add_argument("--threads", type=int, default=2, help="of CacheLoader")
    parser.add_argument("--out", type=Path, help="folder for codecs_of_caches.md and .json")
    given = parser.parse_args()
    blosc.use_threads = False
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        (here / "key").touch(0o600)
        (here / "key").write_bytes(bytes(32))
        frames, slices = {}, []
        for label, name in FILES.items():
            cache = here / f"one-{name}"
            build(_file(name), cache, Recipe(), jobs=1, patient_key=here / "key")
            frame = np.array(open_cache(cache)[0])
            frames[label] = frame_figures(frame)
            if label.startswith("CT"):
                slices.append(frame)
        loader = loader_figures(here, given.files, given.threads, slices)
    machine = describe("numpy", "numcodecs", "pcodec", "zarr")
    machine["Blosc"] = blosc.VERSION_STRING
    found = {"machine": machine, "threads": given.threads, "frames": frames, "loader": loader}
    text = as_markdown(found)
    print(text)
    if given.out:
        (given.out / "codecs_of_caches.md").write_text(text)
        (given.out / "codecs_of_caches.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
