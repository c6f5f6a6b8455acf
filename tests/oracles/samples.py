"""Make the samples that decoders are proved on, by programs that are not ours.

    python -m tests.oracles.samples [FOLDER]

DCMTK, OpenJPEG's, OpenJPH's and libjxl's own programs (Debian: dcmtk libopenjp2-tools openjph-tools
libjxl-tools). What a lossless sample must become are the pixels that went in; of a lossy one, what
another program makes of it. No function of ours or of imagecodecs has a part in it.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.encaps import generate_frames

from tests.support.dicom_files import write_dicom

FOLDER = Path(__file__).parents[2] / "dicom2cache" / "running" / "proof" / "samples"
ROWS, COLUMNS = 40, 52
_Y, _X = np.mgrid[:ROWS, :COLUMNS]
_NOISE = (_X * 7919 + _Y * 104729 + _X * _Y * 31) % 13
GREY = (2040 + 1950 * np.sin(_X / 9) * np.cos(_Y / 7) + _NOISE).astype(np.uint16)
"""12 bits"""
SIGNED = (GREY.astype(np.int32) * 15 - 30000).astype(np.int16)
WIDE = GREY * np.uint16(15)
"""16 bits: cjxl 0.7 takes samples of 12 bits for so much of 65535"""
BYTES = (GREY >> 4).astype(np.uint8)
COLOUR = np.stack([BYTES, 255 - BYTES, (_X * 4 + _Y) % 256], axis=-1).astype(np.uint8)
TWELVE = {"BitsStored": 12, "HighBit": 11}


@dataclass
class Made:
    """The samples so far."""

    folder: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: dict[str, Any] = field(default_factory=dict)

    def note(self, name: str, by: str, pixels: Any, lossy: bool = False) -> None:
        """A sample that is written, by which program, and what it must become."""
        pixels = np.ascontiguousarray(pixels)
        about = dcmread(self.folder / f"{name}.dcm", stop_before_pixels=True).file_meta
        self.rows[name] = {
            "syntax": str(about.TransferSyntaxUID), "by": by, "dtype": pixels.dtype.str,
            "shape": list(pixels.shape),
        }  # fmt: skip
        if lossy:
            self.references[name] = pixels
        else:
            self.rows[name]["sha256"] = hashlib.sha256(pixels.tobytes()).hexdigest()

    def plain(
        self, name: str, pixels: Any, syntax: str = "1.2.840.10008.1.2.1", **more: Any
    ) -> Path:
        """A file with these pixels: no patient, and no more than it takes."""
        bits = TWELVE if pixels is GREY else {}
        return write_dicom(
            self.folder / f"{name}.dcm", pixels, syntax=syntax, PatientID=None, **{**bits, **more}
        )  # fmt: skip


def _run(*command: Any) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)


def _version(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).replace(",", " ").split()
    return next(w.strip("v.") for w in words if w.strip("v")[:1].isdigit() and "." in w)


def _pnm(path: Path, pixels: Any, bits: int = 12) -> Path:
    kind = "P6" if pixels.ndim == 3 else "P5"
    top = 255 if pixels.dtype == np.uint8 else 2**bits - 1
    data = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(f"{kind}\n{COLUMNS} {ROWS}\n{top}\n".encode() + data)
    return path


def _read_pnm(path: Path) -> Any:
    head = re.match(rb"(P[56])\s(?:#[^\n]*\n)?(\d+)\s(\d+)\s(\d+)\s", path.read_bytes())
    assert head is not None
    assert (int(head[2]), int(head[3])) == (COLUMNS, ROWS)
    shape = (ROWS, COLUMNS, 3) if head[1] == b"P6" else (ROWS, COLUMNS)
    kind = ">u2" if int(head[4]) > 255 else ">u1"
    pixels = np.frombuffer(path.read_bytes()[head.end() :], kind).reshape(shape)
    return pixels.astype(pixels.dtype.newbyteorder("<"))


def _native(made: Made, scratch: Path, dcmtk: str) -> None:
    flags = {"implicit": "+ti", "big-endian": "+tb", "deflated": "+td"}
    for kind, flag in flags.items():
        for what, pixels in (("signed", SIGNED), ("colour", COLOUR)):
            source = write_dicom(scratch / f"{kind}-{what}.dcm", pixels, PatientID=None)
            _run("dcmconv", flag, source, made.folder / f"{kind}-{what}.dcm")
            made.note(f"{kind}-{what}", f"dcmconv {dcmtk} {flag}", pixels)
    made.plain("explicit-signed", SIGNED)
    made.note("explicit-signed", "pydicom", SIGNED)
    made.plain("explicit-colour", COLOUR)
    made.note("explicit-colour", "pydicom", COLOUR)
    # GE's own syntax: implicit little endian, but the words of the pixels are big-endian.
    path = made.folder / "ge-private.dcm"
    source = write_dicom(scratch / "ge-private.dcm", GREY.astype(">u2"), PatientID=None, **TWELVE)
    _run("dcmconv", "+ti", source, path)
    data, old, new = path.read_bytes(), b"1.2.840.10008.1.2\0", b"1.2.840.113619.5.2"
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    made.note("ge-private", f"dcmconv {dcmtk} +ti", GREY)


def _by_dcmtk(made: Made, scratch: Path, dcmtk: str) -> None:
    lossless = (
        ("jpeg-lossless", ("dcmcjpeg", "+el", "+sv", "5")),
        ("jpeg-lossless-sv1", ("dcmcjpeg", "+e1")),
        ("jpeg-ls", ("dcmcjpls", "+el")),
        ("rle", ("dcmcrle",)),
    )
    for kind, command in lossless:
        for what, pixels in (("grey", GREY), ("signed", SIGNED), ("colour", COLOUR)):
            source = write_dicom(
                scratch / f"{kind}-{what}.dcm",
                pixels,
                PatientID=None,
                **(TWELVE if what == "grey" else {}),
            )
            _run(*command, source, made.folder / f"{kind}-{what}.dcm")
            by = f"{command[0]} {dcmtk} {' '.join(command[1:])}"
            made.note(f"{kind}-{what}", by.strip(), pixels)
    lossy: tuple[tuple[str, tuple[str, ...], str, Any], ...] = (
        ("jpeg-baseline-grey", ("dcmcjpeg", "+eb", "+q", "90"), "dcmdjpeg", BYTES),
        ("jpeg-baseline-colour", ("dcmcjpeg", "+eb", "+q", "90", "+s4"), "dcmdjpeg", COLOUR),
        ("jpeg-extended", ("dcmcjpeg", "+ee", "+q", "95"), "dcmdjpeg", GREY),
        ("jpeg-ls-near", ("dcmcjpls", "+en", "+md", "3"), "dcmdjpls", GREY),
    )
    for name, command, back, pixels in lossy:
        bits = TWELVE if pixels is GREY else {}
        source = write_dicom(scratch / f"{name}.dcm", pixels, PatientID=None, **bits)
        _run(*command, source, made.folder / f"{name}.dcm")
        _run(back, made.folder / f"{name}.dcm", scratch / "b.dcm")
        by = f"{command[0]} {dcmtk} {' '.join(command[1:])}; read by {back}"
        found = dcmread(scratch / "b.dcm").pixel_array
        assert np.abs(found.astype(int) - pixels.astype(int)).max() < 260, name
        made.note(name, by, found, lossy=True)


def _by_openjpeg(made: Made, scratch: Path) -> None:
    by = f"opj_compress {_version('opj_compress', '-h')}"
    signed = scratch / "signed.rawl"
    signed.write_bytes(SIGNED.astype("<i2").tobytes())
    raw = f"{COLUMNS},{ROWS},1,16,s"
    grey, colour = _pnm(scratch / "a.pgm", GREY), _pnm(scratch / "a.ppm", COLOUR)
    stream = scratch / "a.j2k"
    for name, syntax, source, flags, pixels in (
        ("jpeg-2000-grey", "90", grey, (), GREY),
        ("jpeg-2000-signed", "90", signed, ("-F", raw), SIGNED),
        ("jpeg-2000-colour", "90", colour, (), COLOUR),
        ("jpeg-2000-lossy-grey", "91", grey, ("-I", "-r", "4"), GREY),
        ("jpeg-2000-lossy-colour", "91", colour, ("-I", "-r", "4"), COLOUR),
    ):
        _run("opj_compress", "-i", source, "-o", stream, *flags)
        lossy = syntax == "91"
        kind = {} if pixels is not COLOUR else {
            "PhotometricInterpretation": "YBR_ICT" if lossy else "YBR_RCT"
        }  # fmt: skip
        made.plain(
            name, pixels, f"1.2.840.10008.1.2.4.{syntax}", encoded=[stream.read_bytes()], **kind
        )
        found, said = pixels, f"{by} {' '.join(flags)}".strip()
        if lossy:
            back = scratch / f"back{source.suffix}"
            _run("opj_decompress", "-i", stream, "-o", back)
            found, said = _read_pnm(back), f"{said}; read by opj_decompress"
        made.note(name, said, found, lossy)


def _by_openjph(made: Made, scratch: Path, version: str) -> None:
    grey, colour = _pnm(scratch / "a.pgm", GREY), _pnm(scratch / "a.ppm", COLOUR)
    stream = scratch / "a.j2c"
    for name, syntax, source, flags, pixels in (
        ("htj2k-grey", "201", grey, ("-reversible", "true"), GREY),
        ("htj2k-colour", "201", colour, ("-reversible", "true", "-colour_trans", "true"), COLOUR),
        ("htj2k-rpcl", "202", grey, ("-reversible", "true", "-prog_order", "RPCL"), GREY),
        ("htj2k-lossy", "203", grey, ("-qstep", "0.001"), GREY),
    ):
        _run("ojph_compress", "-i", source, "-o", stream, *flags)
        kind = {"PhotometricInterpretation": "YBR_RCT"} if pixels is COLOUR else {}
        made.plain(
            name, pixels, f"1.2.840.10008.1.2.4.{syntax}", encoded=[stream.read_bytes()], **kind
        )
        found, said = pixels, f"ojph_compress {version} {' '.join(flags)}"
        if syntax == "203":
            _run("ojph_expand", "-i", stream, "-o", scratch / "back.pgm")
            found, said = _read_pnm(scratch / "back.pgm"), f"{said}; read by ojph_expand"
        made.note(name, said, found, syntax == "203")


def _by_libjxl(made: Made, scratch: Path) -> None:
    by = f"cjxl {_version('cjxl', '--version')}"
    grey, colour = _pnm(scratch / "a.pgm", WIDE, 16), _pnm(scratch / "a.ppm", COLOUR)
    jpeg, stream = scratch / "a.jpg", scratch / "a.jxl"
    from_jpeg = dcmread(made.folder / "jpeg-baseline-colour.dcm")
    jpeg.write_bytes(next(generate_frames(from_jpeg.PixelData, number_of_frames=1)))
    for name, syntax, source, flags, pixels in (
        ("jpeg-xl-grey", "110", grey, ("-d", "0"), WIDE),
        ("jpeg-xl-colour", "110", colour, ("-d", "0"), COLOUR),
        ("jpeg-xl-of-jpeg", "111", jpeg, ("-j",), COLOUR),
        ("jpeg-xl-lossy", "112", colour, ("-d", "1"), COLOUR),
    ):
        _run("cjxl", source, stream, *([] if flags == ("-j",) else flags))
        kind: dict[str, Any] = {"jpeg-xl-of-jpeg": {"PhotometricInterpretation": "YBR_FULL_422"},
                "jpeg-xl-lossy": {"PhotometricInterpretation": "XYB"}}.get(name, {})  # fmt: skip
        made.plain(
            name, pixels, f"1.2.840.10008.1.2.4.{syntax}", encoded=[stream.read_bytes()], **kind
        )
        if syntax == "110":
            made.note(name, f"{by} {' '.join(flags)}", pixels)
        elif syntax == "111":  # the same JPEG comes back, whose pixels are known
            found = made.references["jpeg-baseline-colour"]
            made.note(name, f"{by} of jpeg-baseline-colour", found, True)
        else:
            _run("djxl", stream, scratch / "back.ppm")
            found = _read_pnm(scratch / "back.ppm")
            made.note(name, f"{by} {' '.join(flags)}; read by djxl", found, True)


def _by_hand(made: Made) -> None:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = packer.compress(GREY.tobytes()) + packer.flush()
    for name, syntax, stream, by in (
        ("encapsulated", "1.98", GREY.tobytes(), "the words as they are"),
        ("deflated-frame", "8.1", deflated + bytes(len(deflated) % 2), f"zlib {zlib.ZLIB_VERSION}"),
    ):
        made.plain(name, GREY, f"1.2.840.10008.1.2.{syntax}", encoded=[stream])
        made.note(name, by, GREY)


def main(folder: Path) -> None:
    """All of them, with samples.toml, which says what each must become, and references.npz."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    made, dcmtk = Made(folder), _version("dcmcjpeg", "--version")
    openjph = subprocess.run(
        ["dpkg-query", "-W", "-f", "${source:Upstream-Version}", "openjph-tools"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        _native(made, scratch, dcmtk)
        _by_dcmtk(made, scratch, dcmtk)
        _by_openjpeg(made, scratch)
        _by_openjph(made, scratch, openjph)
        _by_libjxl(made, scratch)
        _by_hand(made)
    np.savez_compressed(folder / "references.npz", **made.references)
    lines = ["# Written by `python -m tests.oracles.samples`."]
    for one, row in sorted(made.rows.items()):
        lines += [f"\n[{one}]", *(f"{key} = {json.dumps(value)}" for key, value in row.items())]
    (folder / "samples.toml").write_text("\n".join(lines) + "\n")
    print(f"{len(made.rows)} samples, {sum(p.stat().st_size for p in folder.iterdir())} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
