"""Rows 1 to 18 of docs/pixels.md by their cases, 19 to 30 by a test each; values by hand."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.pixels.cases import CASES, ENHANCED_CT, HALVES, Case, item
from tests.support.caches import attributes, built, by_path, failures, run_here, stored
from tests.support.dicom_files import pattern, real, uid, write_dicom


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.row}: {c.name}")
def test_case(tmp_path: Path, case: Case) -> None:
    path = case.make(tmp_path / "in")
    write_dicom(tmp_path / "beside" / "other.dcm", np.zeros((1, 1), np.uint8))
    refused = isinstance(case.ours, str)
    cache = built(path, tmp_path / "beside", tmp_path / "cache", status=int(refused))
    if refused:
        ((_, reason),) = failures(cache).values()
        assert case.ours in reason
        return
    row, pixels = by_path(cache)[path.name, 0]
    assert pixels[case.at].tolist() == case.ours
    assert {name: row[name] for name in case.columns} == case.columns


def only(cache: Path) -> tuple[dict[str, Any], Any]:
    """The one frame of a cache."""
    ((row, pixels),) = stored(cache)
    return row, pixels


@pytest.mark.parametrize(
    ("intercepts", "refused"),
    [([-1024] * 3, False), ([-1024, 0, 0], True), ([-1024], True), ([None], False)],
)
def test_row_6_items_that_are_not_one_for_each_frame(
    tmp_path: Path, intercepts: list[int | None], refused: bool
) -> None:
    frames = []
    for k, b in enumerate(intercepts):
        frames.append(item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, k])]))
        if b is not None:
            transform = item(RescaleSlope=2, RescaleIntercept=b, RescaleType="HU")
            frames[-1].PixelValueTransformationSequence = [transform]
    source = write_dicom(
        tmp_path / "e.dcm", np.full((2, 1, 2), (10, 20), np.uint16), SOPClassUID=ENHANCED_CT,
        Modality="CT", PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    write_dicom(tmp_path / "beside" / "b.dcm", np.zeros((1, 1), np.uint8))
    cache = built(source, tmp_path / "beside", tmp_path / "cache", status=int(refused))
    if refused:
        _, reason = failures(cache)["e.dcm", None]
        items = {1: "1 item", 3: "3 items"}[len(frames)]
        assert f"(5200,9230) has {items} for 2 frames" in reason
        assert "RescaleIntercept (0028,1052)" in reason
        return
    for frame in (0, 1):
        row, pixels = by_path(cache)["e.dcm", frame]
        rescaled = intercepts[0] is not None
        assert pixels.tolist() == ([[-1004, -984]] if rescaled else [[10, 20]])
        assert row["unit"] == ("HU" if rescaled else "US")
        assert (row["position"], row["flags"]) == (None, ["frame-groups-mismatch"])


@pytest.mark.parametrize(("kind", "keyword"), [("f4", "FloatPixel"), ("f8", "DoubleFloatPixel")])
@pytest.mark.parametrize("limit", [None, -8000.5])
def test_row_8_padding_of_float_pixels(
    tmp_path: Path, kind: str, keyword: str, limit: float | None
) -> None:
    values = np.linspace(0, 1, 64, dtype=kind).reshape(8, 8)
    values[:2] = -9999.0
    values[2] = -8500.25
    elements = {
        f"{keyword}Data": values.tobytes(), "PixelData": None, "BitsAllocated": 8 * values.itemsize,
        f"{keyword}PaddingValue": -9999.0, "RescaleSlope": 2, "RescaleIntercept": 1,
    }  # fmt: skip
    if limit is not None:
        elements[f"{keyword}PaddingRangeLimit"] = limit
    source = write_dicom(tmp_path / "f.dcm", np.zeros((8, 8), np.uint16), **elements)
    row, pixels = only(built(source, tmp_path / "cache"))
    left = (2 * values.astype("f8") + 1).astype(kind)[2 if limit is None else 3 :]
    assert np.array_equal(pixels[-len(left) :], left)
    assert (row["padding_value"], row["padding_fraction"]) == (-19997, 1 - len(left) / 8)
    assert (row["min"], row["max"]) == (left.min(), left.max())
    assert row["mean"] == pytest.approx(left.mean(dtype="f8"))
    row, pixels = only(built(source, tmp_path / "graded", "--percentiles", "0,100"))
    assert (row["window_low"], row["window_high"]) == (
        pytest.approx(left.min()), pytest.approx(left.max())
    )  # fmt: skip
    assert not pixels[: 8 - len(left)].any()


@pytest.mark.parametrize(
    "said", ["-1024,0", "-1024 HU", "nan", "1e400", "−1024", "-1024\\-1000", "one"]
)
@pytest.mark.parametrize(
    ("keyword", "tag", "grouped"),
    [
        ("RescaleIntercept", "0028,1052", False),
        ("RescaleIntercept", "0028,1052", True),
        ("RescaleSlope", "0028,1053", False),
        ("RescaleSlope", "0028,1053", True),
        ("DoseGridScaling", "3004,000E", False),
    ],
)
def test_row_14_a_rescale_that_is_no_number_is_refused(
    tmp_path: Path, said: str, keyword: str, tag: str, grouped: bool
) -> None:
    held = said.encode() + b" " * (len(said.encode()) % 2)
    rescale = {keyword: "7" * len(held)}  # pydicom would not write the other
    elements: dict[str, Any] = rescale
    if grouped:
        elements = {
            "SharedFunctionalGroupsSequence": [
                item(PixelValueTransformationSequence=[item(**rescale)])
            ]
        }
    source = write_dicom(
        tmp_path / "a.dcm", np.array([[1, 2]], np.uint16), **elements,
        Modality="RTDOSE" if keyword == "DoseGridScaling" else "CT",
    )  # fmt: skip
    data = source.read_bytes()
    assert data.count(rescale[keyword].encode()) == 1
    source.write_bytes(data.replace(rescale[keyword].encode(), held))
    write_dicom(tmp_path / "beside" / "b.dcm", np.zeros((1, 1), np.uint8))
    cache = built(source, tmp_path / "beside", tmp_path / "cache", status=1)
    outcome, reason = failures(cache)["a.dcm", None]
    assert outcome == "failed"
    assert f"{keyword} ({tag}) is " in reason
    assert said[:4].encode("ascii", "ignore").decode() in reason
    assert "legal: one finite decimal number" in reason


def test_row_18_dose_grid_scaling_below_0_is_refused_and_an_empty_one_flagged(
    tmp_path: Path,
) -> None:
    dose = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "Modality": "RTDOSE",
            "DoseUnits": "GY"}  # fmt: skip
    pixels = np.array([[1, 2]], np.uint16)
    write_dicom(tmp_path / "in" / "a.dcm", pixels, DoseGridScaling="-0.5", **dose)
    write_dicom(tmp_path / "in" / "b.dcm", pixels, DoseGridScaling="", **dose)
    cache = built(tmp_path / "in", tmp_path / "cache", status=1)
    ((path, (_, reason)),) = failures(cache).items()
    assert path[0] == "a.dcm"
    assert "DoseGridScaling (3004,000E) is " in reason
    assert "-0.5" in reason
    assert "legal: a factor above 0" in reason
    row, stored = by_path(cache)["b.dcm", 0]
    assert (row["unit"], row["flags"]) == ("US", ["dose-scaling-missing"])
    assert stored.tolist() == [[1, 2]]


def test_row_14_a_rescale_after_the_pixels_is_flagged(tmp_path: Path) -> None:
    late = b"\x28\0\x52\x10DS\x06\0-1024 "
    padding = b"\xfc\xff\xfc\xffOB\0\0\x02\0\0\0\0\0"
    private = b"\xe1\x7f\x10\0LO\x04\0some"
    for name, after in (("late", late), ("padding", padding), ("private", private), ("none", b"")):
        path = write_dicom(tmp_path / "in" / name, np.array([[1, 2]], np.uint16), syntax=_EXPLICIT)
        path.write_bytes(path.read_bytes() + after)
    found = by_path(built(tmp_path / "in", tmp_path / "cache"))
    flags = {path: row["flags"] for (path, _), (row, _) in found.items()}
    assert flags == {
        "late": ["elements-after-pixels"], "padding": None, "private": None, "none": None
    }  # fmt: skip


def test_row_19_real_world_values_of_a_parametric_map(tmp_path: Path) -> None:
    units = item(CodeValue="um2/s", CodingSchemeDesignator="UCUM", CodeMeaning="um2/s")
    mapping = item(RealWorldValueSlope=0.5, RealWorldValueIntercept=10.0,
                   MeasurementUnitsCodeSequence=[units])  # fmt: skip
    source = write_dicom(
        tmp_path / "map.dcm", np.array([[0, 3]], np.uint16), Modality="MR",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.30",
        SharedFunctionalGroupsSequence=[item(RealWorldValueMappingSequence=[mapping])],
    )  # fmt: skip
    row, pixels = only(built(source, tmp_path / "cache"))
    assert (row["kind"], row["unit"], pixels.tolist()) == ("map", "um2/s", [[10.0, 11.5]])


def test_row_20_windows_of_single_frames(tmp_path: Path) -> None:
    frames = [
        item(FrameVOILUTSequence=[item(WindowCenter=c, WindowWidth=100,
                                       VOILUTFunction="LINEAR_EXACT")])
        for c in (50, 150)
    ]  # fmt: skip
    source = write_dicom(
        tmp_path / "e.dcm", np.full((2, 1, 2), (100, 125), np.uint16), SOPClassUID=ENHANCED_CT,
        PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    found = by_path(built(source, tmp_path / "cache", "--window", "dicom"))
    assert [found["e.dcm", k][1].tolist() for k in (0, 1)] == [[[255, 255]], [[0, 64]]]
    centers = [found["e.dcm", k][0]["windows"][0]["center"] for k in (0, 1)]
    assert centers == [50, 150]


def test_row_20_windows_of_frames_turn_over_with_the_values(tmp_path: Path) -> None:
    frames = [item(FrameVOILUTSequence=[item(WindowCenter=10, WindowWidth=5)])]
    source = write_dicom(
        tmp_path / "m.dcm", np.array([[0, 255]], np.uint8), PhotometricInterpretation="MONOCHROME1",
        PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    row, pixels = only(built(source, tmp_path / "cache"))
    assert pixels.tolist() == [[255, 0]]
    assert row["windows"][0]["center"] == 255 - 10 + 1  # LINEAR


@pytest.mark.parametrize(("kind", "keyword"), [("f4", "FloatPixelData"),
                                               ("f8", "DoubleFloatPixelData")])  # fmt: skip
def test_row_22_float_pixels(tmp_path: Path, kind: str, keyword: str) -> None:
    values = np.array([[1.5, -3e-5], [np.nan, 1e30]], kind)
    elements = {keyword: values.tobytes(), "PixelData": None, "BitsAllocated": 8 * values.itemsize}
    source = write_dicom(tmp_path / "f.dcm", np.zeros((2, 2), np.uint16), **elements)
    _, pixels = only(built(source, tmp_path / "cache"))
    assert pixels.dtype == np.dtype(kind)
    assert np.array_equal(pixels, values, equal_nan=True)


def test_row_23_found_by_content(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_dicom(folder / "whole.dcm", np.array([[1, 2]], np.uint8), SOPInstanceUID=uid("a"))
    data = (folder / "whole.dcm").read_bytes()
    meta = 144 + int.from_bytes(data[140:144], "little")
    (folder / "NO_PREAMBLE").write_bytes(data[132:].replace(b"\x01\x02", b"\x01\x03"))
    (folder / "BARE.IMG").write_bytes(data[meta:].replace(uid("a").encode(), uid("b").encode()))
    (folder / "DICOMDIR").write_bytes(real("DICOMDIR").read_bytes())
    (folder / "notes.txt").write_text("the scanner was down on Monday")
    cache = built(folder, tmp_path / "cache")
    assert {p for p, _ in by_path(cache)} >= {"whole.dcm", "BARE.IMG"}
    outcomes = {path: outcome for (path, _), (outcome, _) in failures(cache).items()}
    assert outcomes["DICOMDIR"] == "no-pixels"
    assert outcomes["notes.txt"] == "not-dicom"
    assert attributes(cache)["counts"]["files_failed"] == 0


def test_row_24_deflated(tmp_path: Path) -> None:
    pixels = pattern("deflated", (3, 40, 50))
    source = write_dicom(tmp_path / "d.dcm", pixels, syntax=DeflatedExplicitVRLittleEndian)
    found = by_path(built(source, tmp_path / "cache"))
    assert all(np.array_equal(found["d.dcm", k][1], pixels[k]) for k in range(3))


def test_row_24_frames_from_last_to_first_cost_two_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicom2cache.sources import inflate

    monkeypatch.setattr(inflate, "_MARK", 40_000)
    monkeypatch.setattr(inflate, "_MARKS", 4)  # some are dropped on the way
    monkeypatch.setattr(inflate, "_INPUT", 5_000)
    frames = pattern("deflated", (60, 100, 100), "uint8", 256)
    source = write_dicom(tmp_path / "d.dcm", frames, syntax=DeflatedExplicitVRLittleEndian)
    data = source.read_bytes()
    plain = zlib.decompress(data[144 + int.from_bytes(data[140:144], "little") :], -zlib.MAX_WBITS)

    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            self.taken += len(found)
            return found

    for step in (7_000, 10_000, 300_000):
        file = Counted(data)
        inflater = inflate.Inflater(file)
        for start in reversed(range(0, len(plain) + step, step)):
            assert inflater.read(start, step) == plain[start : start + step]
        assert file.taken < 3 * len(data)
        assert inflater.read(5, 70_000) == plain[5:70_005]
        assert inflater.read(500_000, 70_000) == plain[500_000:570_000]
        assert inflater.read(0, len(plain) + 1) == plain


def _deflated_again(path: Path, target: Path, change: Any) -> Path:
    """A deflated file whose inflated dataset went through `change`."""
    data = path.read_bytes()
    meta = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = bytearray(data[:meta])
    for piece in change(zlib.decompress(data[meta:], -zlib.MAX_WBITS)):
        packed += packer.compress(piece)
    target.write_bytes(packed + packer.flush())
    return target


def test_row_24_a_stream_that_goes_on_for_ever_costs_no_memory(tmp_path: Path) -> None:
    """2 GiB of zeros after the pixels, in 2 MiB of file: only what the header says is inflated."""
    import resource

    small = write_dicom(
        tmp_path / "small.dcm", np.array([[1, 2]], np.uint8), syntax=DeflatedExplicitVRLittleEndian
    )
    zeros = bytes(1 << 24)
    bomb = _deflated_again(small, tmp_path / "bomb.dcm", lambda ds: [ds, *[zeros] * 128])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, pixels = only(built(bomb, tmp_path / "cache", "--jobs", "1"))
    assert pixels.tolist() == [[1, 2]]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10  # KiB


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data, meta: data[:-9000], "pixel data is truncated"),
        (lambda data, meta: data[:meta] + b"\xff" + data[meta + 1 :], "dataset is damaged"),
    ],
)
def test_row_24_a_damaged_stream_is_named(tmp_path: Path, damage: Any, reason: str) -> None:
    pixels = pattern("deflated", (300, 300))
    source = write_dicom(tmp_path / "d.dcm", pixels, syntax=DeflatedExplicitVRLittleEndian)
    data = source.read_bytes()
    source.write_bytes(damage(data, 144 + int.from_bytes(data[140:144], "little")))
    write_dicom(tmp_path / "beside" / "b.dcm", np.zeros((1, 1), np.uint8))
    cache = built(source, tmp_path / "beside", tmp_path / "cache", status=1)
    ((_, (_, said)),) = failures(cache).items()
    assert reason in said


def test_row_25_header_explicit_body_implicit(tmp_path: Path) -> None:
    source = write_dicom(
        tmp_path / "a.dcm", np.array([[7, 9]], np.uint16), syntax=ImplicitVRLittleEndian
    )
    data = source.read_bytes()
    assert data.count(b"1.2.840.10008.1.2\0") == 1
    ds = dcmread(source)
    meta = 144 + int.from_bytes(data[140:144], "little")
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    explicit = write_dicom(tmp_path / "e.dcm", np.array([[7, 9]], np.uint16)).read_bytes()
    head = explicit[: 144 + int.from_bytes(explicit[140:144], "little")]
    source.write_bytes(head + data[meta:])
    _, pixels = only(built(source, tmp_path / "cache"))
    assert pixels.tolist() == [[7, 9]]


_IMPLICIT, _EXPLICIT, _DEFLATED, _BIG = (
    f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2")
)


def _called(path: Path, syntax: str) -> Path:
    """The file under another Transfer Syntax UID, its dataset byte for byte as it was."""
    data = path.read_bytes()
    body = data[144 + int.from_bytes(data[140:144], "little") :]
    other = write_dicom(path.with_suffix(".other"), np.zeros((1, 1), np.uint8), syntax=_EXPLICIT)
    ds = dcmread(other)
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = DicomBytesIO(bytes(128) + b"DICM")
    buffer.seek(0, 2)
    write_file_meta_info(buffer, ds.file_meta)
    other.unlink()
    path.write_bytes(buffer.getvalue() + body)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_row_25_header_implicit_body_explicit(tmp_path: Path, dtype: str) -> None:
    pixels = pattern("explicit", (300, 200), dtype, 256)
    source = _called(write_dicom(tmp_path / "a.dcm", pixels, syntax=_EXPLICIT), _IMPLICIT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(dcmread(source).pixel_array, pixels)
    row, found = only(built(source, tmp_path / "cache"))
    assert np.array_equal(found, pixels)
    assert row["flags"] is None
    source.write_bytes(source.read_bytes()[:-10])
    write_dicom(tmp_path / "beside" / "b.dcm", np.zeros((1, 1), np.uint8))
    cache = built(source, tmp_path / "beside", tmp_path / "cut", status=1)
    size = pixels.nbytes
    assert f"truncated: {size - 10} bytes, {size} expected" in failures(cache)["a.dcm", None][1]


@pytest.mark.parametrize(
    ("written", "called", "reason"),
    [
        (_EXPLICIT, _BIG, "big-endian, but the dataset is plain and little-endian"),
        (_IMPLICIT, _BIG, "big-endian, but the dataset is plain and little-endian"),
        (_EXPLICIT, _DEFLATED, "deflated, but the dataset is plain and little-endian"),
    ],
)
def test_row_25_plain_data_under_another_syntax(
    tmp_path: Path, written: str, called: str, reason: str
) -> None:
    pixels = pattern("plain", (300, 100))
    source = _called(write_dicom(tmp_path / "a.dcm", pixels, syntax=written), called)
    write_dicom(tmp_path / "beside" / "b.dcm", np.zeros((1, 1), np.uint8))
    cache = built(source, tmp_path / "beside", tmp_path / "cache", status=1)
    _, said = failures(cache)["a.dcm", None]
    assert said.startswith(f"TransferSyntaxUID (0002,0010) is {called}, ")
    assert reason in said
    assert "the UID is wrong, correct it" in said
    assert "copy it again" not in said


@pytest.mark.parametrize(
    ("photometric", "pixels"),
    [
        ("YBR_FULL", HALVES.astype(np.uint16)),
        ("YBR_PARTIAL_420", HALVES),
        ("YBR_PARTIAL_422", HALVES),
    ],
)
def test_row_27_what_no_formula_converts_is_refused(
    tmp_path: Path, photometric: str, pixels: Any
) -> None:
    source = write_dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation=photometric)
    write_dicom(tmp_path / "beside" / "b.dcm", np.zeros((1, 1), np.uint8))
    cache = built(source, tmp_path / "beside", tmp_path / "cache", status=1)
    assert photometric in failures(cache)["a.dcm", 0][1]


def test_row_29_planes_and_byte_order(tmp_path: Path) -> None:
    pixels = pattern("planar", (2, 6, 5, 3), "uint8", 256)
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 1))
    write_dicom(tmp_path / "in" / "planar.dcm", pixels, PlanarConfiguration=1,
                PixelData=planes.tobytes())  # fmt: skip
    big = pattern("big", (3, 4), "int16", 32768) - 16384
    write_dicom(
        tmp_path / "in" / "big.dcm", big.astype(np.int16), syntax="1.2.840.10008.1.2.2",
        PixelData=big.astype(">i2").tobytes(),
    )  # fmt: skip
    found = by_path(built(tmp_path / "in", tmp_path / "cache"))
    assert np.array_equal(found["big.dcm", 0][1], big)
    assert all(np.array_equal(found["planar.dcm", k][1], pixels[k]) for k in (0, 1))


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_row_29_bits_in_big_endian_words(tmp_path: Path, vr: str) -> None:
    """Bit k of the frames is bit k % 16 of word k // 16, counted from the least (PS3.5 8.1.1)."""
    pixels = pattern("bits", (3, 5, 7), "uint8", 2)
    bits = [*pixels.reshape(-1).tolist(), *[0] * 7]  # to whole words
    packed = b""
    for start in range(0, len(bits), 16):
        word = sum(bit << k for k, bit in enumerate(bits[start : start + 16]))
        packed += word.to_bytes(2, "big" if vr == "OW" else "little")
    write_dicom(
        tmp_path / "bits.dcm", pixels, syntax="1.2.840.10008.1.2.2", BitsAllocated=1, BitsStored=1,
        HighBit=0, PixelData=DataElement(0x7FE00010, vr, packed),
    )  # fmt: skip
    found = by_path(built(tmp_path / "bits.dcm", tmp_path / "cache"))
    assert all(np.array_equal(found["bits.dcm", k][1], pixels[k]) for k in range(3))


@pytest.mark.parametrize(
    ("elements", "spacing", "tag"),
    [
        ({"PixelSpacing": [0.5, 0.25]}, (0.5, 0.25), "PixelSpacing"),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, (0.1, 0.2), "ImagerPixelSpacing"),
        ({"PixelSpacing": [1, 2], "ImagerPixelSpacing": [3, 4]}, (1, 2), "PixelSpacing"),
        ({"PixelSpacing": [0, 0]}, (None, None), None),
        ({"PixelSpacing": DataElement(0x00280030, "DS", ["0.5"])}, (None, None), None),
    ],
)
def test_row_30_spacing_comes_with_its_tag(
    tmp_path: Path, elements: dict[str, Any], spacing: Any, tag: str | None
) -> None:
    source = write_dicom(tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), **elements)
    row, _ = only(built(source, tmp_path / "cache"))
    assert ((row["spacing_y"], row["spacing_x"]), row["spacing_tag"]) == (spacing, tag)


def test_row_30_a_colour_profile_is_flagged_and_not_applied(tmp_path: Path) -> None:
    source = write_dicom(tmp_path / "a.dcm", HALVES, ICCProfile=b"profile!")
    row, pixels = only(built(source, tmp_path / "cache"))
    assert row["flags"] == ["icc-profile"]
    assert np.array_equal(pixels, HALVES)


def test_deep_verification_of_all_that_a_recipe_does(tmp_path: Path) -> None:
    for case in CASES[:6]:
        case.make(tmp_path / "in" / str(CASES.index(case)))
    cache = built(tmp_path / "in", tmp_path / "cache", "--size", "4", "--percentiles", "1,99")
    ran = run_here("verify", cache, "--deep", "1")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_enhanced_frames_become_a_stack_for_each_direction(tmp_path: Path) -> None:
    """Frames by time, two directions at each of three positions, the highest first."""
    frames = []
    for position in (2, 1, 0):
        for direction in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]):
            toward = item(DiffusionGradientOrientation=direction)
            frames.append(
                item(
                    PlanePositionSequence=[item(ImagePositionPatient=[0, 0, position])],
                    PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
                    MRDiffusionSequence=[
                        item(DiffusionBValue=1000.0, DiffusionGradientDirectionSequence=[toward])
                    ],
                )
            )
    pixels = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    source = write_dicom(
        tmp_path / "e.dcm", pixels, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", Modality="MR",
        PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    cache = built(source, tmp_path / "cache")
    found = [
        (r["stack"], r["stack_index"], r["frame"], r["stack_regular"]) for r, _ in stored(cache)
    ]
    assert found == [
        (0, 0, 4, True), (0, 1, 2, True), (0, 2, 0, True),
        (1, 0, 5, True), (1, 1, 3, True), (1, 2, 1, True),
    ]  # fmt: skip


def test_the_widest_and_the_smallest_image(tmp_path: Path) -> None:
    wide = pattern("wide", (2, 65535), "uint16", 65536)
    write_dicom(tmp_path / "in" / "wide.dcm", wide, SOPInstanceUID=uid("wide"))
    write_dicom(tmp_path / "in" / "one.dcm", np.array([[5]], np.uint8))
    found = by_path(built(tmp_path / "in", tmp_path / "cache"))
    assert np.array_equal(found["wide.dcm", 0][1], wide)
    assert found["one.dcm", 0][1].tolist() == [[5]]


def test_segmented_palette_by_hand(tmp_path: Path) -> None:
    """PS3.3 C.7.9.2: two discrete entries, then four on a line from the last one to 60."""
    segments = np.array([0, 2, 10, 20, 1, 4, 60], "<u2").tobytes()
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [6, 0, 16]
        elements[f"Segmented{colour}PaletteColorLookupTableData"] = segments
    source = write_dicom(tmp_path / "s.dcm", np.array([[0, 1, 2, 3, 4, 5]], np.uint8), **elements)
    _, pixels = only(built(source, tmp_path / "cache"))
    assert pixels[0, :, 1].tolist() == [10, 20, 30, 40, 50, 60]
