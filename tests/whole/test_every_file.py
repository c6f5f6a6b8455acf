"""Every file of pydicom's wheel and of pydicom-data, against pydicom's own decoders."""

from __future__ import annotations

import gzip
import os
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from tests.support.caches import attributes, built, failures, run_here, stored, table
from tests.support.dicom_files import DATA_STORE, WHEEL, real

# Files that pydicom with Pillow, NumPy and pyjpegls cannot decode, with (shape, CRC-32 of the
# pixels as little-endian int32) as SimpleITK 2.5.7 (GDCM) reads them: a program that
# shares no code with us but libjpeg, CharLS and OpenJPEG.
NOT_BY_PYDICOM: dict[str, tuple[tuple[int, ...], int]] = {
    "JPEG-LL.dcm": ((1024, 256), 0x98B22546),  # JPEG Lossless: Pillow has no decoder
    "JPEG-lossy.dcm": ((1024, 256), 0x9243C23B),  # 12-bit JPEG
    "JPGExtended.dcm": ((1024, 256), 0x9243C23B),  # the same frame
    "JPGLosslessP14SV1_1s_1f_8b.dcm": ((768, 1024), 0x94581144),
    "bad_sequence.dcm": ((512, 512), 0xCE72327E),  # JPEG Lossless
    "SC_rgb_jpeg_gdcm.dcm": ((100, 100, 3), 0x7EC1CF95),  # JPEG Lossless
    # No sequence delimiter at its end: pydicom gives up the whole dataset; its frames are whole.
    "emri_small_jpeg_2k_lossless_too_short.dcm": ((10, 64, 64), 0x247203FC),
    "GDCMJ2K_TextGBR.dcm": ((400, 400, 3), 0x3D6FC354),  # a JPEG 2000 that Pillow calls broken
    "OT-PAL-8-face.dcm": ((480, 640, 3), 0xC4220AEA),  # no Transfer Syntax UID
}

# What pydicom decodes, and we store otherwise, on purpose.
INVERTED = {  # MONOCHROME1 without a unit: lowest + highest of BitsStored, less the stored value
    "RG1_J2KI.dcm": 32767, "RG1_J2KR.dcm": 32767, "RG1_UNCI.dcm": 32767, "RG1_UNCR.dcm": 32767,
    "RG3_J2KI.dcm": 1023, "RG3_J2KR.dcm": 1023, "RG3_UNCI.dcm": 1023, "RG3_UNCR.dcm": 1023,
}  # fmt: skip
PER_FRAME_RESCALE = {"eCT_Supplemental.dcm": -1024}  # in functional groups, which pydicom ignores

FAILED = {
    # The bytes of a sequence delimiter stand where its codestream should say the size.
    ("JPEG2000-embedded-sequence-delimiter.dcm", 0): "the codestream holds (1024, 3722445056)",
    ("MR_truncated.dcm", None): "pixel data is truncated: 8130 bytes, 8192 expected",
    ("badVR.dcm", None): "NumberOfFrames (0028,0008) is '1A'",
    ("meta_missing_tsyntax.dcm", None): "Rows (0028,0010) is absent",
    ("nested_priv_SQ.dcm", None): "Rows (0028,0010) is absent",
    ("rtplan_truncated.dcm", None): "it ends in the middle of its header",
    ("no_meta.dcm", None): "not a DICOM file although its name says so",  # a byte before it
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files, as a user would convert them."""
    return built(WHEEL, DATA_STORE, tmp_path_factory.mktemp("all") / "cache", status=1)


@pytest.fixture(scope="module")
def caches(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Caches that together hold all files: the duplicates of the first under UIDs of their own."""
    copies = tmp_path_factory.mktemp("copies")
    sources = attributes(whole)["sources"]
    repeated = [row for row in table(whole, "failures") if row["outcome"] == "duplicate"]
    for number, row in enumerate(repeated):
        path = Path(sources[row["root"]]["path"], row["path"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            packed = path.read_bytes()
            data = gzip.decompress(packed) if path.suffix == ".gz" else packed
            named = dcmread(BytesIO(data), force=True, stop_before_pixels=True)
            uid = str(named.SOPInstanceUID).encode()
        assert uid in data, path
        (copies / path.name).write_bytes(data.replace(uid, uid[:-3] + b"%03d" % number))
    return [whole, built(copies, tmp_path_factory.mktemp("rest") / "cache")]


def _by_pydicom(path: Path) -> Any:
    """(n, H, W[, 3]) as pydicom decodes it, float64 where it rescales; of a waveform a list of
    groups, (channels, samples)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = dcmread(path, force=True)
        if "WaveformSequence" in ds:
            return [ds.waveform_array(k).T for k in range(len(ds.WaveformSequence))]
        pixels = ds.pixel_array
        if ds.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, ds)
            if pixels.max() > 255:  # 16-bit entries with low bytes 0, or equal to the high ones
                assert np.isin(pixels & 0xFF, [0]).all() or (pixels >> 8 == pixels & 0xFF).all()
                pixels = pixels >> 8
        elif ds.SamplesPerPixel == 1:
            pixels = apply_modality_lut(pixels, ds)
        if "DoseGridScaling" in ds:
            pixels = pixels * np.float64(ds.DoseGridScaling)
    if path.name in INVERTED:
        pixels = INVERTED[path.name] - pixels.astype(np.int64)
    if path.name in PER_FRAME_RESCALE:
        pixels = pixels.astype(np.int64) + PER_FRAME_RESCALE[path.name]
    many = int(ds.get("NumberOfFrames") or 1) > 1
    return np.asarray(pixels if many else pixels[None])


def test_every_stored_frame_is_what_pydicom_makes_of_it(caches: list[Path]) -> None:
    compared: set[str] = set()
    for cache in caches:
        roots = [source["path"] for source in attributes(cache)["sources"]]
        path, expected = Path(), None
        for row, pixels in sorted(stored(cache), key=lambda s: (s[0]["path"], s[0]["frame"])):
            if row["path"] in NOT_BY_PYDICOM:
                continue
            if path != Path(roots[row["root"]], row["path"]):
                path = Path(roots[row["root"]], row["path"])
                expected = _by_pydicom(path)
            frame = expected[row["frame"]]
            if pixels.dtype == np.float32:
                frame = frame.astype(np.float32)  # rounded once
            assert np.array_equal(pixels, frame), f"{path}, frame {row['frame']}"
            compared.add(row["path"])
    # All have been compared, those that are duplicates of others too: nothing is skipped.
    # 4 segmentations, an ECG, a file in zipMR.gz
    assert len(compared) == 98 + 56 + 4 + 1 + 1 - len(NOT_BY_PYDICOM)


def test_what_pydicom_cannot_decode_is_what_simpleitk_makes_of_it(caches: list[Path]) -> None:
    frames: dict[str, list[NDArray[Any]]] = {}
    for cache in caches:
        for row, pixels in sorted(stored(cache), key=lambda s: (s[0]["path"], s[0]["frame"])):
            if row["path"] in NOT_BY_PYDICOM:
                frames.setdefault(row["path"], []).append(pixels)
    found = {}
    for name, parts in frames.items():
        pixels = np.stack(parts) if len(parts) > 1 else parts[0]
        found[name] = pixels.shape, zlib.crc32(pixels.astype("<i4").tobytes())
    assert found == NOT_BY_PYDICOM


@pytest.mark.parametrize("name", sorted(NOT_BY_PYDICOM))
def test_pydicom_really_cannot(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = dcmread(real(name), force=True)
        with pytest.raises((RuntimeError, AttributeError, ValueError, NotImplementedError)):
            _ = ds.pixel_array


def test_every_file_is_accounted_for_once(whole: Path) -> None:
    about = attributes(whole)
    roots = [source["path"] for source in about["sources"]]
    assert sorted(roots) == sorted([str(WHEEL), str(DATA_STORE)])
    there = {
        os.path.join(folder, name)
        for root in roots
        for folder, _, names in os.walk(root)
        for name in names
    }
    rows = table(whole, "frames")
    drawn = table(whole, "contours")
    files_stored = {os.path.join(roots[r["root"]], r["path"]) for r in [*rows, *drawn]}
    assert [(r["path"], r["name"]) for r in drawn][2:4] == [
        ("rtstruct.dcm", "patient"), ("rtstruct.dcm", "Isocenter 1"),
    ]  # fmt: skip
    lost = [r for r in table(whole, "failures") if r["frame"] is None]
    files_lost = [os.path.join(roots[r["root"]], r["path"]) for r in lost]
    frames_lost = [r for r in table(whole, "failures") if r["frame"] is not None]
    only_frames = {os.path.join(roots[r["root"]], r["path"]) for r in frames_lost} - files_stored
    assert sorted([*files_stored, *files_lost, *only_frames]) == sorted(there)

    counts = about["counts"]
    parts = ("stored", "no_pixels", "not_dicom", "duplicate", "excluded", "failed")
    assert counts["files"] == len(there) == sum(counts[f"files_{part}"] for part in parts)
    assert counts["files_stored"] == len(files_stored)
    assert counts["frames_stored"] == len(rows)
    assert counts["frames_failed"] == len(frames_lost) == 1


def test_failures_are_these_and_say_why(whole: Path) -> None:
    failed = {k: why for k, (outcome, why) in failures(whole).items() if outcome == "failed"}
    assert failed.keys() == FAILED.keys()
    for key, why in FAILED.items():
        assert why in failed[key], key


def test_dicom_without_pixels_is_no_failure(whole: Path) -> None:
    """A header of two elements, neither SOP Class UID nor Rows among them."""
    outcome, reason = failures(whole)["empty_charset_LEI.dcm", None]
    assert (outcome, reason) == ("no-pixels", "this dataset has no pixel data")


def test_segmentations_are_masks(caches: list[Path]) -> None:
    """The 4 of pydicom: 512 x 512 of one segment, each frame of a liver's slice."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cache in caches:
        for row, pixels in stored(cache):
            if row["kind"] == "mask":
                assert (pixels.dtype, set(np.unique(pixels))) == (np.uint8, {0, 1})
                found.setdefault(row["path"], []).append(row)
    names = {"liver.dcm": 3, "liver_expb.dcm": 3, "liver_1frame.dcm": 1, "liver_expb_1frame.dcm": 1}
    assert {path: len(rows) for path, rows in found.items()} == names
    for row in found["liver.dcm"]:
        said = (row["unit"], row["segment"], row["segment_label"], row["slope"], row["polarity"])
        assert said == ("binary", 1, "Liver", None, None)
        assert row["referenced_sop_uid"].startswith("1.2.392.200103.20080913.113635.2.2009.6.22")


def test_verify_finds_it_whole(whole: Path) -> None:
    ran = run_here("verify", whole, "--deep", "1")
    assert (ran.returncode, ran.stderr) == (0, "")
