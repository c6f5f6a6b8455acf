"""Labels of stored frames go out again, and come back equal: DICOM segmentations and NIfTI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest

from tests.support.caches import built, run_here
from tests.support.dicom_files import uid, write_dicom
from tests.support.drawn import AXIAL, write_ct, write_seg
from tests.support.faults import at_most
from tests.support.segmentations import item
from tests.support.siemens import write_mosaic
from tests.support.signed import rewrite, with_column
from tests.whole.test_slides import write_slide
from trainer_adapter import Cache, ExportError, VolumeError, open_cache

CLASSES = ["liver", "cyst", "stone"]
SHAPE = (16, 12)


def labels(depth: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Any of four values; nothing on the second slice."""
    found = np.random.default_rng(7).integers(0, 4, (depth, *shape)).astype(np.uint8)
    found[1] = 0
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_ct(tmp_path / "in", "a", 4, StudyDate="20260101", PatientName="Doe^Jane")
    return tmp_path / "in"


def again(source: Path, *flags: str) -> Cache:
    """The images of the cache that is built when the segmentation lies among its sources."""
    return open_cache(built(*flags, source, source.parent / "again")).select(kind="image")


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_round_trip(source: Path, kind: str) -> None:
    cache, y = open_cache(built(source, source.parent / "cache")), labels(4)
    cache.to_seg(0, y, source / "seg.dcm", CLASSES, kind=kind, algorithm=("net", "2.1"))
    file = pydicom.dcmread(source / "seg.dcm")
    assert file.SegmentationType == kind.upper()
    assert [s.SegmentLabel for s in file.SegmentSequence if s.SegmentNumber] == CLASSES
    referred = {
        i.ReferencedSOPInstanceUID
        for i in file.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referred == {uid(f"a{k}") for k in range(4)}
    assert file.FrameOfReferenceUID == uid("space a")
    read = highdicom.seg.segread(source / "seg.dcm").get_pixels_by_source_instance(
        [uid(f"a{k}") for k in range(4)], combine_segments=True, ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )  # fmt: skip
    assert np.array_equal(read, y)
    assert (file.PatientName, file.PatientID, file.StudyDate) == (
        "Doe^Jane",
        "MRN-0815",
        "20260101",
    )
    images = again(source)
    assert np.array_equal(images.labelmap(range(4), CLASSES), y)
    (stack,) = set(images.column("stack").to_pylist())
    assert np.array_equal(images.labelvolume(stack, CLASSES), y)
    twice = cache.to_seg(0, y, None, CLASSES, kind=kind, algorithm=("net", "2.1"))
    assert twice.SOPInstanceUID == file.SOPInstanceUID
    other = cache.to_seg(0, y // 2, None, CLASSES, kind=kind, algorithm=("net", "2.1"))
    assert other.SOPInstanceUID != file.SOPInstanceUID


def test_nothing_predicted(source: Path) -> None:
    cache = open_cache(built(source, source.parent / "cache"))
    cache.to_seg(0, np.zeros((4, *SHAPE), bool), source / "seg.dcm", ["liver"])
    images = again(source)
    assert not images.labelmap(range(4), ["liver"], missing="error").any()
    assert not images.has_mask().any()


def test_numbers_of_classes(source: Path) -> None:
    """Segments are numbered from 1; labels 4 and 300 are the first and the second."""
    cache = open_cache(built(source, source.parent / "cache"))
    y = np.where(labels(4) == 1, 4, np.where(labels(4) == 2, 300, 0))
    cache.to_seg(0, y, source / "seg.dcm", {"cyst": 300, "liver": 4, "lobe": 4})
    named = {"cyst": 300, "liver": 4}
    assert np.array_equal(again(source).labelmap(range(4), named), y)
    with pytest.raises(ValueError, match=r"labels \[4, 300\] are no class; legal: 0, and"):
        cache.to_seg(0, y, None, ["liver"])
    with pytest.raises(ValueError, match="no classes; give classes="):
        cache.to_seg(0, y)


def test_what_the_recipe_did_is_undone(source: Path) -> None:
    """Half of each side, in the middle of 8 columns: a label fills four pixels of the source."""
    flags = ("--size", "8,8")
    cache, y = open_cache(built(*flags, source, source.parent / "cache")), labels(4, (8, 8))
    found = cache.prediction(0, y)
    for row, column in np.ndindex(SHAPE):
        at = y[:, row // 2, column // 2 + 1]
        assert np.array_equal(found.voxels[:, row, column], at)
    np.testing.assert_allclose(found.affine, np.diag([1, 1, 2, 1]), atol=1e-12)
    cache.to_seg(0, y, source / "seg.dcm", CLASSES)
    plain = again(source)
    assert np.array_equal(plain.labelmap(range(4), CLASSES), found.voxels)
    resized = again_at(source, "resized", *flags)
    inside = np.zeros_like(y)
    inside[:, :, 1:7] = y[:, :, 1:7]
    assert np.array_equal(resized.labelmap(range(4), CLASSES), inside)


def again_at(source: Path, name: str, *flags: str) -> Cache:
    return open_cache(built(*flags, source, source.parent / name)).select(kind="image")


def test_nifti(source: Path) -> None:
    cache, y = open_cache(built(source, source.parent / "cache")), labels(4)
    cache.prediction(0, y).to_nifti(source.parent / "y.nii.gz")
    file, image = nibabel.load(source.parent / "y.nii.gz"), cache.to_nifti(0)
    assert np.array_equal(np.asarray(file.dataobj).T, y)
    np.testing.assert_array_equal(file.affine, image.affine)


def write_many(path: Path, places: list[float]) -> None:
    """An enhanced CT of axial frames at these z in mm."""
    groups = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])]) for z in places]
    pixels = np.arange(len(places) * 192, dtype=np.uint16).reshape(-1, *SHAPE)
    write_dicom(
        path, pixels, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", Modality="CT",
        FrameOfReferenceUID=uid("space"), SOPInstanceUID=uid(path.stem),
        SeriesInstanceUID=uid("many"), PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)],
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=2)])],
    )  # fmt: skip


def test_one_instance_of_many_frames(tmp_path: Path) -> None:
    """An enhanced CT of four frames: the segmentation refers to each of them."""
    write_many(tmp_path / "in/ct.dcm", [2.0 * k for k in range(4)])
    cache, y = open_cache(built(tmp_path / "in", tmp_path / "cache")), labels(4)
    cache.to_seg(0, y, tmp_path / "in/seg.dcm", CLASSES)
    assert np.array_equal(again(tmp_path / "in").labelmap(range(4), CLASSES), y)
    few = cache.select(cache.column("stack_index").to_numpy() > 1)
    few.to_seg(0, y[2:], tmp_path / "in/seg.dcm", CLASSES)
    images = again_at(tmp_path / "in", "few")
    assert images.labelmap(range(2), CLASSES).sum() == 0
    assert np.array_equal(images.labelmap([2, 3], CLASSES), y[2:])


def test_tiles_of_a_slide(tmp_path: Path) -> None:
    write_slide(tmp_path / "in/s.dcm", 6, (8, 18), FrameOfReferenceUID=uid("slide"))
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    y = np.random.default_rng(1).integers(0, 3, (6, 4, 6)).astype(np.uint8)
    cache.to_seg(0, y, tmp_path / "in/seg.dcm", ["tumour", "stroma"])
    images = again(tmp_path / "in", "--masks", "labelmap")
    assert np.array_equal(images.labelmap(range(6), ["tumour", "stroma"]), y)
    read = highdicom.seg.segread(tmp_path / "in/seg.dcm")
    whole = read.get_total_pixel_matrix(combine_segments=True)
    assert np.array_equal(whole, np.concatenate(
        [np.concatenate(list(y[k : k + 3]), axis=1) for k in (0, 3)]
    ))  # fmt: skip


def test_each_of_several_instances_of_many_frames(tmp_path: Path) -> None:
    """Together they are refused, with what to do: each by itself, or NIfTI."""
    for name, first in (("a", 0), ("b", 2)):
        write_many(tmp_path / f"in/{name}.dcm", [2.0 * (first + k) for k in range(2)])
    cache, y = open_cache(built(tmp_path / "in", tmp_path / "cache")), labels(4)
    assert cache.stacks()["shape"].to_pylist() == [[4, *SHAPE]]
    with pytest.raises(VolumeError, match=r"2 instances .*select\(sop_uid=...\).to_seg, or write"):
        cache.to_seg(0, y, None, CLASSES)
    for k, name in enumerate("ab"):
        one = cache.select(sop_uid=uid(name))
        one.to_seg(0, y[2 * k : 2 * k + 2], tmp_path / f"in/seg {name}.dcm", CLASSES)
    images = again(tmp_path / "in")
    assert np.array_equal(images.labelmap(range(4), CLASSES), y)


def test_slices_of_a_mosaic(tmp_path: Path) -> None:
    """Refused, with what to do, which works."""
    slices = np.arange(4 * 192, dtype=np.uint16).reshape(4, *SHAPE)
    write_mosaic(tmp_path / "in/m.dcm", slices, AXIAL, [0, 0, 1])
    cache, y = open_cache(built(tmp_path / "in", tmp_path / "cache")), labels(4)
    with pytest.raises(VolumeError, match=r"out of mosaics, .*; write NIfTI: cache.prediction"):
        cache.to_seg(0, y, None, CLASSES)
    cache.prediction(0, y).to_nifti(tmp_path / "y.nii.gz")
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "y.nii.gz").dataobj).T, y)


def test_codes(source: Path) -> None:
    """Those of the cache's own masks, those that are said, and tissue."""
    square = np.zeros(SHAPE, np.uint8)
    square[2:5, 2:5] = 1
    drawn = write_seg(source / "old.dcm", [(1, uid("a1"), 2, square)], {1: "liver"})
    ds = pydicom.dcmread(drawn)
    for keyword, code, meaning in (
        ("SegmentedPropertyCategoryCodeSequence", "123037004", "Anatomical Structure"),
        ("SegmentedPropertyTypeCodeSequence", "10200004", "Liver"),
    ):
        coded = pydicom.Dataset()
        coded.CodeValue, coded.CodingSchemeDesignator, coded.CodeMeaning = code, "SCT", meaning
        setattr(ds.SegmentSequence[0], keyword, [coded])
    ds.save_as(drawn)
    cache = open_cache(built(source, source.parent / "cache"))
    stack = int(cache.select(kind="image").column("stack")[0].as_py())
    said = {
        "cyst": (("SCT:49755003", "Morphologically Altered Structure"), ("SCT:12494005", "Cyst"))
    }
    found = cache.to_seg(stack, labels(4), None, CLASSES, codes=said)
    codes = [
        (s.SegmentedPropertyCategoryCodeSequence[0].CodeValue,
         s.SegmentedPropertyTypeCodeSequence[0].CodeValue,
         s.SegmentedPropertyTypeCodeSequence[0].CodeMeaning)
        for s in found.SegmentSequence
    ]  # fmt: skip
    assert codes == [
        ("123037004", "10200004", "Liver"), ("49755003", "12494005", "Cyst"),
        ("85756007", "85756007", "Tissue"),
    ]  # fmt: skip


def test_sources_that_moved(source: Path) -> None:
    cache, y = open_cache(built(source, source.parent / "cache")), labels(4)
    expected = cache.to_seg(0, y, None, CLASSES)
    moved = source.parent / "moved"
    (moved / "below").mkdir(parents=True)
    for k in range(4):
        shutil.move(source / f"a{k}.dcm", moved / f"below/IM{k}")
    (moved / "notes.txt").write_text("no DICOM")
    with pytest.raises(ExportError, match=r"a0.dcm: no file there is a0.dcm .*give sources=FOLDER"):
        cache.to_seg(0, y, None, CLASSES)
    found = cache.to_seg(0, y, None, CLASSES, sources=[source, moved])
    assert found.PixelData == expected.PixelData
    write_ct(source, "a", 4, SOPInstanceUID=uid("another"))
    with pytest.raises(ExportError, match=r"no file there is a0\.dcm"):
        cache.to_seg(0, y, None, CLASSES, sources=source)


@pytest.mark.parametrize("path", ["../secret.dcm", "/etc/secret.dcm", "a/../../secret.dcm"])
def test_a_cache_chooses_no_file_outside_of_its_sources(source: Path, path: str) -> None:
    cache = built(source, source.parent / "cache")
    shutil.copy(source / "a0.dcm", source.parent / "secret.dcm")
    rewrite(cache, "frames", with_column("path", [path, "a1.dcm", "a2.dcm", "a3.dcm"]))
    for sources in (None, source):
        with pytest.raises(ExportError, match="leads out of the folder of its source"):
            open_cache(cache).to_seg(0, labels(4), None, CLASSES, sources=sources)


def test_what_lies_beside_the_sources_costs_nothing(source: Path) -> None:
    """A named pipe, and a header of 20,000 sequences in each other."""
    cache, y = open_cache(built(source, source.parent / "cache")), labels(4)
    expected = cache.to_seg(0, y, None, CLASSES)
    for k in range(4):
        shutil.move(source / f"a{k}.dcm", source / f"x{k}")
    path = write_dicom(source / "deep", np.zeros((4, 4), np.uint8))
    head, pixels, tail = path.read_bytes().partition(b"\x10\0\x20\0")
    deep = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20_000
    path.write_bytes(head + deep + pixels + tail)
    os.mkfifo(source / "a pipe")
    with at_most(30):
        found = cache.to_seg(0, y, None, CLASSES, sources=source)
    assert found.PixelData == expected.PixelData


def test_deidentified(source: Path, tmp_path: Path) -> None:
    """Hashes lead to the files, whose patient the segmentation has again."""
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(bytes(range(32)))
    cache = open_cache(built("--deidentify", str(tmp_path / "key"), source, tmp_path / "cache"))
    y = labels(4)
    with pytest.raises(ValueError, match="de-identified: it does not say where its sources are"):
        cache.to_seg(0, y, None, CLASSES, sources=source)
    found = cache.to_seg(0, y, source / "seg.dcm", CLASSES, sources=source, key=tmp_path / "key")
    assert found.PatientName == "Doe^Jane"
    assert np.array_equal(again(source).labelmap(range(4), CLASSES), y)


def test_what_is_refused(source: Path, tmp_path: Path) -> None:
    cache, y = open_cache(built(source, tmp_path / "cache")), labels(4)
    wrong: list[tuple[Any, str]] = [
        (y[:3], r"labels \(3, 16, 12\) uint8; legal: \(4, 16, 12\), whole numbers"),
        (y.astype(float), "float64; legal"),
        (y.astype(int) - 1, "labels -1 to 2; legal: 0 to 65535"),
    ]
    for given, why in wrong:
        with pytest.raises(ValueError, match=why):
            cache.to_seg(0, given, None, CLASSES)
        with pytest.raises(ValueError, match=why):
            cache.prediction(0, given)
    with pytest.raises(ValueError, match="kind 'fractional'; legal: binary, labelmap"):
        cache.to_seg(0, y, None, CLASSES, kind="fractional")
    with pytest.raises(VolumeError, match="no stack 9"):
        cache.to_seg(9, y, None, CLASSES)
    write_ct(source, "a", 4, (8, 8))
    with pytest.raises(VolumeError, match=r"Rows \(0028,0010\) \[8\] .* now, and had \(16, 12\)"):
        cache.to_seg(0, y, None, CLASSES)


def test_command(source: Path, tmp_path: Path) -> None:
    """One file of two is no label map: the other is written, and the status says so."""
    cache, y = built(source, tmp_path / "cache"), labels(4)
    (tmp_path / "y").mkdir()
    np.save(tmp_path / "y/best_0.npy", y)
    np.save(tmp_path / "y/best_7.npy", y)
    (tmp_path / "y/notes.npy").write_text("no number, so no labels")
    (tmp_path / "y/best_1.npy").touch()  # cut before its first byte
    os.mkfifo(tmp_path / "y/best_2.npy")
    told = ("labels", cache, tmp_path / "y", source / "out", "--classes", "liver, cyst,stone")
    ran = run_here(*told)
    assert ran.returncode == 1
    assert "1 file; 2 failed" in ran.stdout
    assert "best_1.npy: No data left in file" in ran.stderr
    assert "best_7.npy: " in ran.stderr
    assert "no stack 7" in ran.stderr
    assert np.array_equal(again(source).labelmap(range(4), CLASSES), y)
    (tmp_path / "y/best_7.npy").unlink()
    (tmp_path / "y/best_1.npy").unlink()
    assert run_here(*told[:3], tmp_path / "nifti", "--to", "nifti").returncode == 0
    (file,) = (tmp_path / "nifti").iterdir()
    assert np.array_equal(np.asarray(nibabel.load(file).dataobj).T, y)
    assert "legal: seg, nifti" in run_here(*told, "--to", "png").stderr
    (tmp_path / "empty").mkdir()
    assert "no files there" in run_here("labels", cache, tmp_path / "empty", tmp_path / "o").stderr
