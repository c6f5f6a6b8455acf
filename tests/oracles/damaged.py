"""Damaged codestreams: which of them we see, and which are seen by programs that are not ours.

`python -m tests.oracles.damaged [--count N] [CODEC ...]`: mutants of each codec go through whole
builds. Exit status 1 if one is stored without a flag of which djpeg warns. The rows are those of
docs/pixels.md.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import SimpleITK
from PIL import Image
from pydicom import dcmread, examples

from dicom2cache import Recipe, build
from tests.support.dicom_files import write_dicom
from tests.support.mutants import mutants
from trainer_adapter import open_cache

_CT: Any = dcmread(examples.get_path("ct")).pixel_array.astype(np.int32)
GREY = np.clip(_CT - _CT.min(), 0, 4095).astype(np.uint16)
EIGHT = (GREY >> 4).astype(np.uint8)
COLOUR = np.ascontiguousarray(dcmread(examples.get_path("rgb_color")).pixel_array[::4, ::4])


def _by_pillow(pixels: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **how)
    return file.getvalue()


def _deflated(pixels: Any) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(pixels.tobytes()) + packer.flush()


def _rle(pixels: Any) -> bytes:
    from pydicom.pixels.encoders import RLELosslessEncoder

    return RLELosslessEncoder.encode(
        pixels, encoding_plugin="pydicom", rows=pixels.shape[0], columns=pixels.shape[1],
        samples_per_pixel=1, bits_allocated=16, bits_stored=16, pixel_representation=0,
        photometric_interpretation="MONOCHROME2", number_of_frames=1,
    )  # fmt: skip


_OF_JPEG = ("djpeg", "DCMTK", "GDCM")
_JPEG = "1.2.840.10008.1.2.4."
CODECS: dict[str, tuple[str, Any, Callable[[Any], Any], tuple[str, ...]]] = {
    "JPEG baseline, grey": (f"{_JPEG}50", EIGHT,
                            lambda p: imagecodecs.jpeg8_encode(p, level=90), _OF_JPEG),
    "JPEG baseline, colour": (f"{_JPEG}50", COLOUR, lambda p: imagecodecs.jpeg8_encode(
        p, level=90, subsampling="422"), _OF_JPEG),
    "JPEG baseline, restarts": (f"{_JPEG}50", EIGHT,
                                lambda p: _by_pillow(p, restart_marker_rows=2), _OF_JPEG),
    "JPEG progressive": (f"{_JPEG}50", EIGHT, lambda p: _by_pillow(p, progressive=True), _OF_JPEG),
    "JPEG extended, 12 bits": (f"{_JPEG}51", GREY, lambda p: imagecodecs.jpeg8_encode(
        p, level=90, bitspersample=12), _OF_JPEG[1:]),
    "JPEG lossless, 16 bits": (f"{_JPEG}70", GREY, lambda p: imagecodecs.jpeg8_encode(
        p, lossless=True, bitspersample=16), _OF_JPEG[1:]),
    "JPEG-LS": (f"{_JPEG}80", GREY, imagecodecs.jpegls_encode, ("DCMTK", "GDCM")),
    "JPEG 2000": (f"{_JPEG}90", GREY, lambda p: imagecodecs.jpeg2k_encode(
        p, level=0, codecformat="J2K"), ("opj_decompress", "GDCM")),
    "HTJ2K": (f"{_JPEG}201", GREY, imagecodecs.htj2k_encode, ("opj_decompress",)),
    "RLE": ("1.2.840.10008.1.2.5", GREY, _rle, ("DCMTK", "GDCM")),
    "deflated frames": ("1.2.840.10008.1.2.8.1", GREY, _deflated, ()),
}  # fmt: skip


def _ran(*command: object) -> bool:
    """True if a program refuses, or says anything."""
    done = subprocess.run([str(c) for c in command], capture_output=True, check=False, timeout=60)
    said = done.stdout + done.stderr
    return done.returncode != 0 or b"rror" in said or b"arning" in said or b"orrupt" in said


def _djpeg(path: Path, out: Path) -> bool:
    done = subprocess.run(
        ["djpeg", "-outfile", out, path.with_suffix(".bin")], capture_output=True, check=False
    )
    return done.returncode != 0 or bool(done.stderr)


def _dcmtk(path: Path, out: Path) -> bool:
    syntax = dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    tool = {"1.2.840.10008.1.2.4.80": "dcmdjpls", "1.2.840.10008.1.2.5": "dcmdrle"}
    return _ran(tool.get(syntax, "dcmdjpeg"), path, out)


def _opj(path: Path, out: Path) -> bool:
    stream = path.with_suffix(".j2k")
    shutil.copyfile(path.with_suffix(".bin"), stream)
    return _ran("opj_decompress", "-i", stream, "-o", out.with_suffix(".pgx"))


def _gdcm_reads(path: Path, pipe: Any) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO")
        pipe.send(False)
    except RuntimeError:
        pipe.send(True)


def _gdcm(path: Path, out: Path) -> bool:
    """GDCM in a child of its own, for what it dies of."""
    here, there = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=_gdcm_reads, args=(path, there))
    child.start()
    there.close()
    try:
        seen = not here.poll(60) or bool(here.recv())
    except EOFError:
        seen = True
    child.kill()
    child.join()
    return seen


PROGRAMS: dict[str, Callable[[Path, Path], bool]] = {
    "djpeg": _djpeg, "DCMTK": _dcmtk, "GDCM": _gdcm, "opj_decompress": _opj,
}  # fmt: skip
_PACKAGES = {
    "djpeg": "libjpeg-turbo-progs",
    "dcmdjpeg": "dcmtk",
    "opj_decompress": "libopenjp2-tools",
}


_FEWER = {"HTJ2K", "RLE", "deflated frames"}  # of OpenJPH's some cost a process of their own


def row_of(codec: str, count: int) -> tuple[str, list[str]]:
    """(row of the table, mutants of which djpeg warns and we say nothing)."""
    syntax, pixels, encode, programs = CODECS[codec]
    whole = bytes(encode(pixels))
    elements = {"PhotometricInterpretation": "YBR_FULL_422"} if pixels.ndim == 3 else {}
    if syntax.endswith(".51"):
        elements |= {"BitsStored": 12, "HighBit": 11}
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary, "in"), Path(temporary, "cache")
        streams = {"whole": whole}
        for k, (kind, stream) in enumerate(mutants(whole, count, 20)):
            streams[f"{k:05}-{kind.replace(' ', '-')}"] = stream
        for name, stream in streams.items():
            write_dicom(folder / f"{name}.dcm", pixels, syntax=syntax, encoded=[stream], **elements)
        build(folder, cache, Recipe(), jobs=2)
        rows = pq.read_table(cache / "frames" / "0.parquet").to_pylist()
        found = {row["path"]: k for k, row in enumerate(rows)}
        frames = open_cache(cache)
        right = frames[found["whole.dcm"]]
        refused = set(pq.read_table(cache / "failures" / "0.parquet")["path"].to_pylist())
        flagged = {path for path, k in found.items() if rows[k]["flags"]}
        same = {path for path, k in found.items() if np.array_equal(frames[k], right)}
        names = {f"{name}.dcm" for name in streams} - {"whole.dcm"}
        silent = (names & set(found)) - flagged
        assert names == refused | flagged | silent, "a mutant is nowhere"
        for name, stream in streams.items():
            (folder / f"{name}.bin").write_bytes(stream)
        said = {name: _seen_by(name, folder, sorted(names)) for name in programs}
    share = len(names) / 100
    others = "; ".join(
        f"{name} {len(seen) / share:.1f} ({len(seen & silent) / share:.1f})"
        for name, seen in said.items()
    )
    row = (
        f"| {codec} | {len(refused) / share:.1f} | {len(flagged) / share:.1f} "
        f"| {len(silent & same) / share:.1f} | {len(silent - same) / share:.1f} | {others or '-'} |"
    )
    return row, sorted(said.get("djpeg", set()) & silent)


def _seen_by(name: str, folder: Path, files: list[str]) -> set[str]:
    program = PROGRAMS[name]
    assert not program(folder / "whole.dcm", folder / "whole.out"), f"{name} refuses the whole one"

    def judge(file: str) -> bool:
        return program(folder / file, folder / f"{file}.out")

    if name == "GDCM":  # forks: not beside threads
        return {file for file in files if judge(file)}
    with ThreadPoolExecutor(2) as pool:
        return {file for file, seen in zip(files, pool.map(judge, files), strict=True) if seen}


def main() -> int:
    """Print the table, by codec."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codec", nargs="*", choices=[[], *CODECS], default=[])
    parser.add_argument("--count", type=int, help="mutants of each codec; 1500, of some 210")
    given = parser.parse_args()
    missing = [package for tool, package in _PACKAGES.items() if not shutil.which(tool)]
    if missing:
        sys.exit(f"install Debian's {', '.join(missing)}")
    lost: list[str] = []
    for codec in given.codec or CODECS:
        row, missed = row_of(codec, given.count or (210 if codec in _FEWER else 1500))
        print(row, flush=True)
        lost += [f"{codec}: {name}" for name in missed]
    print(*lost, sep="\n")
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
