"""What is refused, or read against what the header says: the cause, and a remedy that helps."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate

from tests.frames.test_rle import codestream, packets
from tests.support.caches import by_path, failures, run_here
from tests.support.dicom_files import pattern, real, write_dicom

_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_GE = "1.2.840.113619.5.2"
_GREY = pattern("refusals", (12, 10))
_EIGHT = pattern("refusals in 8 bits", (12, 10), "uint8", 256)


def _called(path: Path, uid: str) -> Path:
    """The same file with another Transfer Syntax UID, byte for byte otherwise."""
    data = path.read_bytes()
    at = data.index(b"\x02\0\x10\0UI")
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    new = uid.encode() + bytes(len(uid) % 2)
    group = int.from_bytes(data[140:144], "little") + len(new) - length
    body = data[144:at] + b"\x02\0\x10\0UI" + struct.pack("<H", len(new)) + new
    path.write_bytes(data[:140] + struct.pack("<I", group) + body + data[at + 8 + length :])
    return path


def _beside(folder: Path) -> None:
    """A file that is stored whatever becomes of the others."""
    write_dicom(folder / "beside.dcm", _GREY)


def _stored(folder: Path, status: int = 0) -> dict[tuple[str, int], tuple[dict[str, Any], Any]]:
    ran = run_here("build", folder / "in", folder / "cache", "-j1")
    assert ran.returncode == status, ran.stdout + ran.stderr
    return by_path(folder / "cache")


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_the_private_syntax_of_ge_has_big_endian_words(tmp_path: Path, dtype: str) -> None:
    """As GDCM reads it: the header is implicit little endian."""
    pixels = _GREY.astype(dtype) - (2000 if dtype == "int16" else 0)
    path = write_dicom(
        tmp_path / "in" / "a.dcm", pixels, syntax=_IMPLICIT, RescaleSlope=1, RescaleIntercept=-5,
        PixelData=pixels.astype(pixels.dtype.newbyteorder(">")).tobytes(),
    )  # fmt: skip
    _called(path, _GE)
    row, found = _stored(tmp_path)["a.dcm", 0]
    assert np.array_equal(found, pixels.astype(int) - 5)
    assert row["transfer_syntax"] == _GE


@pytest.mark.parametrize(
    ("uid", "dtype", "reason"),
    [
        (_GE, "uint8", "private to GE, with BitsAllocated (0028,0100) 8; legal here: 16"),
        (_GE, "uint32", "private to GE, with BitsAllocated (0028,0100) 32; legal here: 16"),
        ("1.2.276.0.50.1.2.1", "uint16", "(private or unknown) is none of DICOM's"),
        ("1.2.840.10008.1.2.4.999", "uint16", "(private or unknown) is none of DICOM's"),
        ("1.3.46.670589.33.1.4.1", "uint8", "(private or unknown) is none of DICOM's"),
        ("1.2.840.10008.1.2.l", "uint16", "is '1.2.840.10008.1.2.l', no UID"),
        ("1.2.840.10008.5.1.4.1.1.2", "uint16", "(CT Image Storage) is the UID of something else"),
    ],
)
@pytest.mark.parametrize("written", [_IMPLICIT, _EXPLICIT])
def test_a_syntax_that_is_not_known_is_named_and_no_other_is_advised(
    tmp_path: Path, uid: str, dtype: str, reason: str, written: str
) -> None:
    _beside(tmp_path / "in")
    path = write_dicom(tmp_path / "in" / "a.dcm", _EIGHT.astype(dtype), syntax=written)
    _called(path, uid)
    _stored(tmp_path, 1)
    outcome, said = failures(tmp_path / "cache")["a.dcm", None]
    assert outcome == "failed"
    assert uid in said
    assert reason in said
    assert "correct" not in said


_ENCODED = {
    "jpeg": (_EIGHT, lambda p: imagecodecs.jpeg8_encode(p, lossless=True),
             "1.2.840.10008.1.2.4.57"),
    "baseline": (_EIGHT, lambda p: imagecodecs.jpeg8_encode(p), "1.2.840.10008.1.2.4.50"),
    "jpegls": (_GREY, imagecodecs.jpegls_encode, "1.2.840.10008.1.2.4.81"),
    "jpeg2k": (_GREY, lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="J2K"),
               "1.2.840.10008.1.2.4.91"),
    "boxed": (_GREY, lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="JP2"),
              "1.2.840.10008.1.2.4.91"),
    "htj2k": (_GREY, imagecodecs.htj2k_encode, "1.2.840.10008.1.2.4.203"),
    "xl": (_GREY, lambda p: imagecodecs.jpegxl_encode(p, lossless=True), "1.2.840.10008.1.2.4.112"),
    "rle": (_EIGHT, lambda p: codestream(packets(p.tobytes())), "1.2.840.10008.1.2.5"),
}  # fmt: skip


@pytest.mark.parametrize("name", _ENCODED)
@pytest.mark.parametrize("called", [_EXPLICIT, _IMPLICIT, "1.2.840.10008.1.2.2"])
@pytest.mark.parametrize("frames", [1, 3])
def test_codestreams_under_an_uncompressed_syntax(
    tmp_path: Path, name: str, called: str, frames: int
) -> None:
    one, encode, real_syntax = _ENCODED[name]
    pixels = np.stack([np.roll(one, k, 0) for k in range(frames)])
    streams = [bytes(encode(p)) for p in pixels]
    whole = pixels if frames > 1 else one
    if called == _EXPLICIT:
        path = write_dicom(tmp_path / "in" / "a.dcm", whole, syntax=real_syntax, encoded=streams)
    else:  # the header is really so: only the pixel data is not
        path = write_dicom(tmp_path / "in" / "a.dcm", whole, syntax=called)
        data = path.read_bytes()
        at = data.rindex(b"\xe0\x7f\x10\0" if called == _IMPLICIT else b"\x7f\xe0\0\x10")
        head = 4 if called == _IMPLICIT else 8
        path.write_bytes(
            data[: at + head] + b"\xff" * 4 + encapsulate(streams) + b"\xfe\xff\xdd\xe0" + bytes(4)
        )
    _called(path, called)
    found = _stored(tmp_path)
    for k, own in enumerate(pixels):
        row, stored = found["a.dcm", k]
        assert row["flags"] == ["transfer-syntax-conflict"]
        assert row["transfer_syntax"] == real_syntax
        assert row["lossy"] == (name == "baseline")
        if name == "baseline":
            assert np.array_equal(stored, imagecodecs.jpeg8_decode(streams[k]))
        else:
            assert np.array_equal(stored, own)


def test_fragments_in_pixel_data_of_defined_length(tmp_path: Path) -> None:
    """Illegal, but what lies there says what it is."""
    one, encode, syntax = _ENCODED["jpegls"]
    items = encapsulate([bytes(encode(one))])
    for name, called in (("native.dcm", _EXPLICIT), ("coded.dcm", syntax)):
        write_dicom(tmp_path / "in" / name, one, PixelData=items)
        _called(tmp_path / "in" / name, called)
    found = _stored(tmp_path)
    for name, flags in (("native.dcm", "transfer-syntax-conflict"), ("coded.dcm", "unterminated")):
        row, stored = found[name, 0]
        assert np.array_equal(stored, one)
        assert flags in (row["flags"] or ())


@pytest.mark.parametrize("syntax", ["50", "70", "80", "90", "201"])
@pytest.mark.parametrize("name", ["jpeg", "jpegls", "jpeg2k"])
def test_a_codestream_of_another_kind_than_the_syntax(
    tmp_path: Path, syntax: str, name: str
) -> None:
    one, encode, _ = _ENCODED[name]
    uid = f"1.2.840.10008.1.2.4.{syntax}"
    write_dicom(tmp_path / "in" / "a.dcm", one, syntax=uid, encoded=[bytes(encode(one))])
    row, stored = _stored(tmp_path)["a.dcm", 0]
    assert np.array_equal(stored, one)
    same = {"jpeg": ("50", "70"), "jpegls": ("80",), "jpeg2k": ("90",)}[name]
    assert row["flags"] == (None if syntax in same else ["transfer-syntax-conflict"])


def test_rle_and_codestreams_are_not_taken_for_each_other(tmp_path: Path) -> None:
    rle, jpeg = _ENCODED["rle"], _ENCODED["jpeg"]
    write_dicom(tmp_path / "in" / "rle.dcm", _EIGHT, syntax=jpeg[2], encoded=[rle[1](_EIGHT)])
    write_dicom(tmp_path / "in" / "jpeg.dcm", _EIGHT, syntax=rle[2],
                encoded=[bytes(jpeg[1](_EIGHT))])  # fmt: skip
    _beside(tmp_path / "in")
    _stored(tmp_path, 1)
    failed = failures(tmp_path / "cache")
    assert "the frame holds RLE, but Transfer Syntax UID" in failed["rle.dcm", 0][1]
    assert "the frame holds JPEG, but Transfer Syntax UID" in failed["jpeg.dcm", 0][1]


_FOREIGN = {
    "JPEG XS": b"\xff\x10\xff\x50" + bytes(60),
    "PNG": bytes(imagecodecs.png_encode(_EIGHT)),
    "JPEG XR": bytes(imagecodecs.jpegxr_encode(_EIGHT)),
    "TIFF": bytes(imagecodecs.tiff_encode(_EIGHT)),
}


def test_codestreams_that_nothing_here_reads_are_named(tmp_path: Path) -> None:
    syntaxes = {"jpeg": "1.2.840.10008.1.2.4.50", "j2k": "1.2.840.10008.1.2.4.90",
                "rle": "1.2.840.10008.1.2.5", "ls": "1.2.840.10008.1.2.4.80"}  # fmt: skip
    for what, stream in _FOREIGN.items():
        for name, syntax in syntaxes.items():
            write_dicom(tmp_path / "in" / f"{what}.{name}.dcm", _EIGHT, syntax=syntax,
                        encoded=[stream])  # fmt: skip
        plain = write_dicom(tmp_path / "in" / f"{what}.plain.dcm", _EIGHT, encoded=[stream],
                            syntax=syntaxes["jpeg"])  # fmt: skip
        _called(plain, _EXPLICIT)
    _beside(tmp_path / "in")
    _stored(tmp_path, 1)
    failed = failures(tmp_path / "cache")
    for what in _FOREIGN:
        for name in syntaxes:
            said = failed[f"{what}.{name}.dcm", 0][1]
            assert f"the frame holds {what}, which is not supported, but Transfer Syntax" in said
        assert f"they hold {what}, not supported" in failed[f"{what}.plain.dcm", None][1]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90",
                                    "1.2.840.10008.1.2.5"])  # fmt: skip
def test_plain_pixels_under_a_compressed_syntax(tmp_path: Path, syntax: str) -> None:
    clip = np.stack([_GREY, _GREY[::-1]])
    colour = pattern("refused colour", (5, 7, 3), "uint8", 256)
    files = {"grey.dcm": _GREY, "clip.dcm": clip, "colour.dcm": colour, "odd.dcm": _EIGHT[:3, :5]}
    for name, pixels in files.items():
        _called(write_dicom(tmp_path / "in" / name, pixels), syntax)
    other = write_dicom(tmp_path / "in" / "other.dcm", _GREY, PixelData=_GREY.tobytes()[:100])
    _called(other, syntax)
    found = _stored(tmp_path, 1)
    for name, pixels in files.items():
        many = pixels if name == "clip.dcm" else [pixels]
        for k, own in enumerate(many):
            row, stored = found[name, k]
            assert np.array_equal(stored, own)
            assert row["flags"] == ["transfer-syntax-conflict"]
            assert row["transfer_syntax"] == _EXPLICIT
    said = failures(tmp_path / "cache")["other.dcm", None][1]
    assert "neither fragments nor the 240 bytes of uncompressed pixels: its length is 100" in said


@pytest.mark.parametrize("interleave", ["none", "as CharLS writes"])
def test_jpeg_ls_in_every_interleave_mode(tmp_path: Path, interleave: str) -> None:
    """`none` by hand: a scan for each colour, of one frame header (ITU-T T.87 C.2.3)."""
    colour = pattern("interleave", (9, 13, 3), "uint8", 256)
    if interleave == "none":
        planes = [bytes(imagecodecs.jpegls_encode(np.ascontiguousarray(colour[..., c])))
                  for c in range(3)]  # fmt: skip
        frame = b"\xff\xf7" + struct.pack(">HBHHB", 17, 8, 9, 13, 3)
        frame += b"".join(bytes([c, 0x11, 0]) for c in (1, 2, 3))
        scans = b""
        for c, plane in enumerate(planes):
            at = plane.index(b"\xff\xda")
            scans += b"\xff\xda\0\x08\x01" + bytes([c + 1]) + plane[at + 6 : -2]
        stream = b"\xff\xd8" + frame + scans + b"\xff\xd9"
    else:
        stream = bytes(imagecodecs.jpegls_encode(colour))
    write_dicom(tmp_path / "in" / "a.dcm", colour, syntax="1.2.840.10008.1.2.4.80",
                encoded=[stream])  # fmt: skip
    row, stored = _stored(tmp_path)["a.dcm", 0]
    assert np.array_equal(stored, colour)
    assert row["flags"] is None


def _archives(data: bytes) -> dict[str, bytes]:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("IM1.dcm", data)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        info = tarfile.TarInfo("IM1.dcm")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return {
        "gzip": gzip.compress(data), "zip": zipped.getvalue(), "tar": tarred.getvalue(),
        "bzip2": bz2.compress(data), "xz": lzma.compress(data),
        "7z": b"7z\xbc\xaf\x27\x1c\0\4" + bytes(40),
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["", ".dcm", ".gz"])
def test_archives_are_named_as_such_and_are_no_failure(tmp_path: Path, suffix: str) -> None:
    _beside(tmp_path / "in")
    archives = _archives((tmp_path / "in" / "beside.dcm").read_bytes())
    for kind, data in archives.items():
        (tmp_path / "in" / f"{kind}{suffix}").write_bytes(data)
    assert list(_stored(tmp_path)) == [("beside.dcm", 0)]
    found = failures(tmp_path / "cache")
    for kind in archives:
        outcome, said = found[f"{kind}{suffix}", None]
        if kind + suffix == "gzip.gz":  # it is looked into
            assert outcome == "duplicate"
            continue
        assert outcome == "not-dicom"
        assert said.startswith(f"an archive ({kind}): unpack it")


def test_what_macos_keeps_beside_files_is_no_failure(tmp_path: Path) -> None:
    _beside(tmp_path / "in")
    apple = struct.pack(">II16sH", 0x00051607, 0x00020000, b"Mac OS X", 1)
    (tmp_path / "in" / "._beside.dcm").write_bytes(apple.ljust(4096, b"\0"))
    (tmp_path / "in" / "._text.dcm").write_text("no DICOM, whatever its name says\n" * 9)
    _stored(tmp_path, 1)
    found = failures(tmp_path / "cache")
    assert found["._beside.dcm", None][0] == "not-dicom"
    assert "AppleDouble" in found["._beside.dcm", None][1]
    assert found["._text.dcm", None][0] == "failed"  # the name alone says nothing


@pytest.mark.parametrize(
    ("elements", "outcome", "reason"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3", "Modality": "RTSTRUCT"}, "no-pixels",
         "RT Structure Set Storage has no pixel data, and this one no contours"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66", "Rows": 4, "Columns": 4}, "no-pixels",
         "Raw Data Storage has no pixel data, though it has Rows"),
        ({"SOPClassUID": "1.3.12.2.1107.5.9.1", "Rows": 4, "Columns": 4}, "no-pixels",
         "has no pixel data, though it has Rows"),  # Siemens CSA Non-Image
        ({"SOPClassUID": "1.3.46.670589.11.0.0.12.1", "Rows": 4, "Columns": 4}, "no-pixels",
         "has no pixel data, though it has Rows"),  # Philips
        ({"Rows": 4, "Columns": 4}, "failed", "the pixels were taken out, or the file is cut"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "Rows": 4, "Columns": 4}, "failed",
         "the pixels were taken out, or the file is cut"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "Rows": 4, "Columns": 4}, "failed",
         "the pixels were taken out, or the file is cut"),
    ],
)  # fmt: skip
def test_objects_without_pixels(
    tmp_path: Path, elements: dict[str, Any], outcome: str, reason: str
) -> None:
    _beside(tmp_path / "in")
    write_dicom(tmp_path / "in" / "a.dcm", None, **elements)
    _stored(tmp_path, int(outcome == "failed"))
    found = failures(tmp_path / "cache")["a.dcm", None]
    assert found[0] == outcome
    assert reason in found[1]


def _text(keyword: str, value: str) -> DataElement:
    """A DS as a file may hold it, legal or not."""
    return DataElement(keyword, "LO", value)


def _windowed(path: Path, center: str, width: str) -> None:
    """A file with these texts, byte for byte, as Window Center and Window Width."""
    places = {"WindowCenter": center, "WindowWidth": width}
    write_dicom(path, np.array([[0, 40, 41, 300]] * 2, np.int16), RescaleSlope=1,
                RescaleIntercept=0, **{k: _text(k, v) for k, v in places.items()})  # fmt: skip
    data = path.read_bytes()
    for tag in (b"\x28\0\x50\x10", b"\x28\0\x51\x10"):
        data = data.replace(tag + b"LO", tag + b"DS")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("center", "width", "pairs", "flags"),
    [
        ("40\\300", "400", [(40, 400)], ["windows-unpaired"]),
        ("40", "400\\1500\\9", [(40, 400)], ["windows-unpaired"]),
        ("40\\300", "400\\1500", [(40, 400), (300, 1500)], None),
        ("40,5", "400", None, ["windows-unreadable"]),
        ("40", "4OO", None, ["windows-unreadable"]),
        ("40\\", "400\\1500", None, ["windows-unreadable"]),
        ("40", "", None, ["windows-unreadable"]),
        ("", "", None, None),
    ],
)
def test_windows_that_do_not_pair(
    tmp_path: Path, center: str, width: str, pairs: list[tuple[int, int]] | None,
    flags: list[str] | None,
) -> None:  # fmt: skip
    _windowed(tmp_path / "in" / "a.dcm", center, width)
    row, _ = _stored(tmp_path)["a.dcm", 0]
    said = row["windows"] and [(w["center"], w["width"]) for w in row["windows"]]
    assert (said, row["flags"]) == (pairs, flags)
    _beside(tmp_path / "in")
    recipe = ("--intensity", "window", "--window", "dicom", "--where", "height == 2")
    if pairs is None:
        ran = run_here("build", tmp_path / "in", tmp_path / "windowed", "-j1", *recipe)
        if flags:
            assert ran.returncode == 1
            ((_, reason),) = (
                f for f in failures(tmp_path / "windowed").values() if f[0] == "failed"
            )
            shown = center if "\\" not in center else "[40, ''"
            assert "(0028,1050) is" in reason
            assert "(0028,1051) is" in reason
            assert shown in reason
            assert "has no" not in reason
        else:  # foreseen, and nothing is left to convert
            assert ran.returncode == 2
            assert "the file has no VOI LUT and no Window Center (0028,1050)" in ran.stderr


@pytest.mark.parametrize("dtype", ["auto", "uint8"])
def test_auto_is_not_advised_where_it_was_used(tmp_path: Path, dtype: str) -> None:
    """Ten times 3e38 is beyond float32."""
    floats = np.array([[3e38, 1]], np.float32)
    write_dicom(
        tmp_path / "in" / "a.dcm", np.zeros((1, 2), np.uint32), RescaleSlope=10, RescaleIntercept=0,
        BitsStored=None, HighBit=None, PixelRepresentation=None, PixelData=None,
        FloatPixelData=floats.tobytes(),
    )  # fmt: skip
    _beside(tmp_path / "in")
    ran = run_here("build", tmp_path / "in", tmp_path / "cache", "-j1", "--dtype", dtype)
    assert ran.returncode == 1
    _, reason = failures(tmp_path / "cache")["a.dcm", 0]
    assert ("use dtype auto" in reason) == (dtype != "auto")
    assert "does not fit" in reason
    assert ("slope and intercept: one of them is wrong" in reason) == (dtype == "auto")


def test_a_shorter_file_of_a_real_series_names_the_frame(tmp_path: Path) -> None:
    """One fragment too few: ten frames are said to be there, nine are."""
    source = dcmread(real("emri_small_RLE.dcm"))
    from pydicom.encaps import generate_fragments

    parts = list(generate_fragments(source.PixelData))[1:]
    source.PixelData = encapsulate(parts[:-1], has_bot=False)
    (tmp_path / "in").mkdir()
    source.save_as(tmp_path / "in" / "a.dcm")
    found = _stored(tmp_path, 1)
    native = dcmread(real("emri_small.dcm")).pixel_array
    assert sorted(k for _, k in found) == list(range(9))
    for k in range(9):
        assert np.array_equal(found["a.dcm", k][1], native[k])
        assert "frames-missing" in found["a.dcm", k][0]["flags"]
    assert "frame 9 is not there" in failures(tmp_path / "cache")["a.dcm", 9][1]
