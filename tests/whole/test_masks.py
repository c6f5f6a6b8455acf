"""Segmentations joined to their images, from files to the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from tests.support.caches import attributes, built, failures, rows_of, run_here, stored, tree
from tests.support.dicom_files import CT_IMAGE, real, uid, write_dicom, write_series
from tests.support.segmentations import item, write_frames, write_segmentation
from tests.whole.test_slides import write_slide
from trainer_adapter import open_cache

SLICES, SIZE = 4, 32


def write_ct(folder: Path, spacing: tuple[float, float] = (0.8, 0.8)) -> list[Dataset]:
    """A CT of 4 slices of 32 x 32, 2 mm apart, oblique; what highdicom needs is said."""
    a = np.radians(20)
    turned = [1, 0, 0, 0, float(np.cos(a)), float(np.sin(a))]
    normal = np.cross(turned[:3], turned[3:])
    for k in range(SLICES):
        position = [float(v) for v in [-30, -40, 50] + 2.0 * k * normal]
        write_dicom(
            folder / f"ct{k}.dcm", np.full((SIZE, SIZE), k, np.uint16), SOPClassUID=CT_IMAGE,
            Modality="CT", SOPInstanceUID=uid(f"ct {k}"), SeriesInstanceUID=uid("ct"),
            ImagePositionPatient=position, ImageOrientationPatient=turned,
            PixelSpacing=list(spacing), SliceThickness=2, FrameOfReferenceUID=uid("space"),
            InstanceNumber=k + 1, RescaleSlope=1, RescaleIntercept=-1024, PatientName="A^B",
            PatientBirthDate="", PatientSex="", StudyID="1", StudyDate="20200101",
            StudyTime="120000", AccessionNumber="", ReferringPhysicianName="", SeriesNumber=1,
        )  # fmt: skip
    return [dcmread(folder / f"ct{k}.dcm") for k in range(SLICES)]


def write_seg(
    path: Path, sources: list[Dataset], pixels: NDArray[Any], labels: list[str], kind: str,
    **options: Any,
) -> None:  # fmt: skip
    """What highdicom makes of `pixels`."""
    described = [
        highdicom.seg.SegmentDescription(
            number, label, codes.SCT.Tissue, codes.SCT.Liver,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        ) for number, label in enumerate(labels, 1)
    ]  # fmt: skip
    seg = highdicom.seg.Segmentation(
        sources, pixels, kind, described, uid(f"seg series {path.name}"), 2,
        uid(f"seg {path.name}"), 1, "maker", "model", "1", "serial", **options,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)


def drawn() -> NDArray[np.uint8]:
    """(4, 32, 32): segment 1 in slices 0 to 2, segment 2 in slice 2 alone."""
    found = np.zeros((SLICES, SIZE, SIZE), np.uint8)
    for k in range(3):
        found[k, 4 + k : 14, 6:20] = 1
    found[2, 20:25, 20:30] = 2
    return found


KINDS = ["BINARY", "FRACTIONAL", "LABELMAP"]
LABELS = ["Liver", "cyst 1", "table"]


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT, and of each kind a segmentation of it, which highdicom wrote."""
    folder = tmp_path_factory.mktemp("kinds")
    sources = write_ct(folder / "in")
    for kind in KINDS:
        more = {"fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}
        write_seg(folder / f"in/{kind}.dcm", sources, drawn(), LABELS[:2], kind, **more)
    return folder / "in"


@pytest.fixture(scope="module")
def of_way(segmented: Path) -> Callable[..., Path]:
    """The cache that is built of it with a recipe, once for each."""

    @functools.cache
    def build(text: str) -> Path:
        (segmented.parent / "recipe.toml").write_text(text)
        name = f"cache {len(list(segmented.parent.iterdir()))}"
        return built(
            segmented, "--recipe", segmented.parent / "recipe.toml", segmented.parent / name
        )

    return build


def masks_of(
    cache: Path, path: str | None = None
) -> dict[tuple[str, int, int], tuple[dict[str, Any], NDArray[Any]]]:
    """{(image, its frame, segment): (row, pixels)} of the masks of a cache."""
    found = {}
    for row, pixels in stored(cache):
        if row["kind"] == "mask" and path in (None, row["path"]):
            key = row["image_sop_uid"], row["image_frame"], row["segment"]
            assert key not in found
            found[key] = row, pixels
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_highdicom_writes_is_joined(of_way: Callable[..., Path], kind: str) -> None:
    found, pixels = masks_of(of_way(""), f"{kind}.dcm"), drawn()
    assert {row["image_by"] for row, _ in found.values()} == {"reference"}
    if kind == "LABELMAP":
        assert set(found) >= {(uid(f"ct {k}"), 0, None) for k in range(3)}
        for k, counts in ((0, [140, 0]), (1, [126, 0]), (2, [112, 50])):
            row, stored_pixels = found[uid(f"ct {k}"), 0, None]
            np.testing.assert_array_equal(stored_pixels, pixels[k])
            told = dict(
                zip([s["number"] for s in row["segments"]], row["mask_counts"], strict=True)
            )
            assert [told[1], told[2]] == counts
        return
    assert set(found) == {*((uid(f"ct {k}"), 0, 1) for k in range(3)), (uid("ct 2"), 0, 2)}
    assert {key[0]: row["mask_counts"] for key, (row, _) in found.items() if key[2] == 1} == {
        uid("ct 0"): [140], uid("ct 1"): [126], uid("ct 2"): [112]
    }  # fmt: skip
    full = 255 if kind == "FRACTIONAL" else 1
    for (sop, _, segment), (_, stored_pixels) in found.items():
        k = [uid(f"ct {k}") for k in range(SLICES)].index(sop)
        np.testing.assert_array_equal(stored_pixels, full * (pixels[k] == segment))


@pytest.mark.parametrize("name", ["liver", "liver_1frame", "liver_expb", "liver_expb_1frame"])
def test_pydicoms_livers_are_joined_with_the_slices_that_they_mark(
    tmp_path: Path, name: str
) -> None:
    """Each frame, by what it refers to, and where that is not said by where it lies.

    Those of one frame have the items of three: it is the first one's, as its pixels are.
    """
    source = dcmread(real(f"{name}.dcm"))
    frames = int(source.get("NumberOfFrames", 1))
    (measures,) = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    expected = set()
    for k, group in enumerate(source.PerFrameFunctionalGroupsSequence):
        position = group.PlanePositionSequence[0].ImagePositionPatient
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        write_dicom(
            tmp_path / f"in/{k}.dcm", np.full((512, 512), k, np.uint16), SOPClassUID=CT_IMAGE,
            SOPInstanceUID=reference.ReferencedSOPInstanceUID, Modality="CT",
            PatientID=source.PatientID, FrameOfReferenceUID=source.FrameOfReferenceUID,
            ImagePositionPatient=position, ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=measures.PixelSpacing, SliceThickness=1,
        )  # fmt: skip
        if k < frames:
            expected.add((reference.ReferencedSOPInstanceUID, 0, 1))
    source.save_as(tmp_path / "in/seg.dcm")
    found = masks_of(built(tmp_path / "in", tmp_path / "cache"))
    assert set(found) == expected
    assert {row["image_by"] for row, _ in found.values()} == {"reference"}
    for group in source.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    del source.ReferencedSeriesSequence
    source.save_as(tmp_path / "in/seg.dcm")
    again = masks_of(built(tmp_path / "in", tmp_path / "again"))
    assert set(again) == expected
    assert {row["image_by"] for row, _ in again.values()} == {"geometry"}
    for key, (_, pixels) in found.items():
        np.testing.assert_array_equal(again[key][1], pixels)


def drawn_of(cache: Path, path: str | None = None) -> list[tuple[dict[str, Any], NDArray[Any]]]:
    """(row, pixels) of the masks of a cache, of one file, in the order of image, segment."""
    found = [(row, pixels) for row, pixels in stored(cache)
             if row["kind"] == "mask" and path in (None, row["path"])]  # fmt: skip
    return sorted(found, key=lambda f: (IMAGES.index(f[0]["image_sop_uid"]), f[0]["segment"] or 0))


IMAGES = [uid(f"ct {k}") for k in range(SLICES)]
ROIS = '[rois]\ntumour = ["GTV", "cyst"]\nliver = "(?i)^LIV"\n'


def recipe(folder: Path, text: str) -> tuple[str, Path]:
    (folder / "recipe.toml").write_text(text)
    return "--recipe", folder / "recipe.toml"


@pytest.mark.parametrize("kind", KINDS)
def test_label_maps(of_way: Callable[..., Path], kind: str) -> None:
    """One row for each image that something is drawn on; without rois under the file's numbers."""
    cache, pixels = of_way('masks = "labelmap"\n'), drawn()
    found = drawn_of(cache, f"{kind}.dcm")
    assert [IMAGES.index(row["image_sop_uid"]) for row, _ in found] == [0, 1, 2]
    for k, (row, mine) in enumerate(found):
        assert (mine.dtype, row["unit"], row["full_scale"]) == (np.uint8, "labelmap", None)
        np.testing.assert_array_equal(mine, pixels[k])
        assert row["image_by"] == "reference"
    last = found[2][0]
    assert [(s["number"], s["label"]) for s in last["segments"]] == [(1, "Liver"), (2, "cyst 1")]
    assert last["mask_counts"] == [112, 50]
    arrays = {about["name"]: about["codec"] for about in attributes(cache)["arrays"]}
    assert arrays == {"int16_32x32": "none", "mask_uint8_32x32": "lz4"}


@pytest.mark.parametrize("masks", ["labelmap", "planes"])
def test_what_is_drawn_is_verified(of_way: Callable[..., Path], masks: str) -> None:
    text = "" if masks == "labelmap" else ROIS
    assert run_here("verify", of_way(f'masks = "{masks}"\n{text}'), "--deep", "1").returncode == 0


def test_label_maps_of_classes(tmp_path: Path) -> None:
    """Numbers are those of the recipe's table; what none of its classes finds is left out."""
    sources, pixels = write_ct(tmp_path / "in"), drawn()
    pixels[3, 1, 1] = 3
    for kind in KINDS:
        more = {"fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}
        write_seg(tmp_path / f"in/{kind}.dcm", sources, pixels, LABELS, kind, **more)
    cache = tmp_path / "cache"
    built(tmp_path / "in", *recipe(tmp_path, 'masks = "labelmap"\n' + ROIS), cache)
    assert attributes(cache)["recipe"]["rois"] == [["tumour", ["GTV", "cyst"]],
                                                   ["liver", ["(?i)^LIV"]]]  # fmt: skip
    assert failures(cache) == {}
    expected = np.select([pixels == 1, pixels == 2], [2, 1], 0)
    for kind in KINDS:
        found = drawn_of(cache, f"{kind}.dcm")
        assert len(found) == (4 if kind == "LABELMAP" else 3)  # of a label map nobody has looked
        for k, (_, mine) in enumerate(found):
            np.testing.assert_array_equal(mine, expected[k])
        last = found[2][0]
        labels = [(s["number"], s["label"]) for s in last["segments"]]
        assert labels == [(1, "tumour"), (2, "liver")]
        assert last["mask_counts"] == [50, 112]


@pytest.mark.parametrize("kind", KINDS)
def test_planes(of_way: Callable[..., Path], kind: str) -> None:
    cache, pixels = of_way('masks = "planes"\n' + ROIS), drawn()
    found = [f for f in drawn_of(cache, f"{kind}.dcm") if f[0]["mask_counts"] != [0]]
    shown = [(IMAGES.index(row["image_sop_uid"]), row["segment"]) for row, _ in found]
    assert shown == [(0, 1), (1, 1), (2, 1), (2, 2)]
    full = 255 if kind == "FRACTIONAL" else 1
    for row, mine in found:
        k = IMAGES.index(row["image_sop_uid"])
        np.testing.assert_array_equal(mine, full * (pixels[k] == row["segment"]))
        assert row["unit"] == ("fractional" if kind == "FRACTIONAL" else "binary")
    told = [(r["segment_label"], r["segments"][0]["number"], r["segments"][0]["label"],
             r["mask_counts"]) for r, _ in found[2:]]  # fmt: skip
    assert told == [("Liver", 2, "liver", [112]), ("cyst 1", 1, "tumour", [50])]
    places = [(r["root"], r["path"], r["frame"], r["part_of_frame"]) for r, _ in drawn_of(cache)]
    assert len(set(places)) == len(places)


def overlapping(folder: Path) -> NDArray[np.uint8]:
    """Two segments that share a square of 4 x 4, in slice 1; (2, 4, 32, 32)."""
    write_ct(folder)
    planes = np.zeros((2, SLICES, SIZE, SIZE), np.uint8)
    planes[0, 1, 4:12, 4:12] = planes[1, 1, 8:16, 8:16] = 1
    images = [folder / f"ct{k}.dcm" for k in range(SLICES)]
    write_segmentation(folder / "seg.dcm", images, planes, ["a", "b"])
    return planes


def test_of_segments_that_overlap_the_later_number_wins(tmp_path: Path) -> None:
    planes = overlapping(tmp_path / "in")
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", "labelmap")
    ((row, pixels),) = drawn_of(cache)
    expected = planes[0, 1].copy()
    expected[8:16, 8:16] = 2
    np.testing.assert_array_equal(pixels, expected)
    assert (row["flags"], row["mask_counts"]) == (["mask-overlap"], [48, 64])
    turned = tmp_path / "turned"
    text = 'masks = "labelmap"\n[rois]\nsecond = "b"\nfirst = "a"\n'
    built(tmp_path / "in", *recipe(tmp_path, text), turned)
    ((_, pixels),) = drawn_of(turned)
    expected = 1 * planes[1, 1]
    expected[4:12, 4:12] = 2
    np.testing.assert_array_equal(pixels, expected)
    apart = tmp_path / "apart"
    built(tmp_path / "in", apart, "--masks", "planes")
    for row, pixels in drawn_of(apart):
        np.testing.assert_array_equal(pixels, planes[row["segment"] - 1, 1])
        assert row["flags"] is None


@pytest.mark.parametrize(
    ("text", "shape", "window"),
    [
        ("size = 16", (16, 16), (slice(0, 32, 2), slice(0, 32, 2))),
        ("spacing = 0.8\nsize = 16\nfit = 'crop'", (16, 16), (slice(8, 24), slice(8, 24))),
        ("spacing = 0.4", (64, 64), None),
    ],
)
def test_masks_are_stored_where_their_images_are(
    tmp_path: Path, text: str, shape: tuple[int, int], window: Any
) -> None:
    """Blocks of 2 x 2 pixels, so that halves, and the middle, are what slicing makes of them."""
    sources = write_ct(tmp_path / "in")
    small = (np.random.default_rng(1).random((SLICES, 16, 16)) > 0.6).astype(np.uint8)
    pixels = small.repeat(2, axis=1).repeat(2, axis=2)
    write_seg(tmp_path / "in/seg.dcm", sources, pixels, ["a"], "BINARY")
    cache = tmp_path / "cache"
    built(tmp_path / "in", *recipe(tmp_path, f"masks = 'labelmap'\n{text}\n"), cache)
    images = {row["sop_uid"]: row for row, _ in stored(cache) if row["kind"] == "image"}
    assert len(drawn_of(cache)) == SLICES
    for row, mine in drawn_of(cache):
        k = IMAGES.index(row["image_sop_uid"])
        wanted = pixels[k][window] if window else pixels[k].repeat(2, axis=0).repeat(2, axis=1)
        assert mine.shape == shape
        np.testing.assert_array_equal(mine, wanted)
        for column in ("height", "width", "scale_y", "offset_x", "spacing_y", "position",
                       "orientation", "source_height"):  # fmt: skip
            assert row[column] == images[row["image_sop_uid"]][column], column


def other_grid(folder: Path, change: str, name: str = "seg.dcm") -> NDArray[np.uint8]:
    """A segmentation of slice 1 in a grid of its own; what it is in the image's, (32, 32)."""
    if not folder.exists():
        write_ct(folder)
    source = dcmread(folder / "ct1.dcm")
    row, column = np.split(np.array(source.ImageOrientationPatient, float), 2)
    corner = np.array(source.ImagePositionPatient, float)
    pixels = (np.random.default_rng(2).random((SIZE, SIZE)) > 0.6).astype(np.uint8)
    spacing, across, down, drawn = [0.8, 0.8], row, column, pixels
    if change == "flipped":  # rows from right to left
        corner, across, drawn = corner + 31 * 0.8 * row, -row, pixels[:, ::-1]
    elif change == "swapped":  # a row of the mask is a column of the image
        across, down, drawn = column, row, pixels.T
    elif change == "coarse":  # pixels of 1.6 mm, each on four of the image's
        drawn, spacing = pixels[:16, :16], [1.6, 1.6]
        pixels = drawn.repeat(2, axis=0).repeat(2, axis=1)
        corner = corner + 0.4 * (row + column)
    elif change == "moved":  # it hangs over by 4 columns and 3 rows
        corner = corner - 0.8 * (4 * row + 3 * column)
        whole = pixels
        pixels = np.zeros_like(whole)
        pixels[:-3, :-4] = whole[3:, 4:]
    elif change == "half":  # each centre of the image lies between two of the mask: the next counts
        corner = corner + 0.4 * (row + column)
    said = Dataset()
    said.PixelSpacing = spacing
    turned = Dataset()
    turned.ImageOrientationPatient = [*across, *down]
    place, group = Dataset(), Dataset()
    place.ImagePositionPatient = list(corner)
    group.PlanePositionSequence = [place]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [said], [turned]
    write_segmentation(
        folder / name, [folder / "ct1.dcm"], drawn[None, None], ["a"], referenced=False, empty=True,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[group],
    )  # fmt: skip
    return pixels


CHANGES = ["flipped", "swapped", "coarse", "moved", "half"]


def test_other_grids_are_resampled_if_that_is_asked_for(tmp_path: Path) -> None:
    expected = {f"{c}.dcm": other_grid(tmp_path / "in", c, f"{c}.dcm") for c in CHANGES}
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", "labelmap", "--mask-grid", "image")
    for path, wanted in expected.items():
        ((row, pixels),) = drawn_of(cache, path)
        np.testing.assert_array_equal(pixels, wanted, err_msg=path)
        assert (row["image_sop_uid"], row["image_by"]) == (IMAGES[1], "resampled")
    assert run_here("verify", cache, "--deep", "1").returncode == 0
    refused = tmp_path / "refused"
    built(tmp_path / "in", refused, "--masks", "labelmap", status=1)
    told = failures(refused)
    assert set(told) == {(path, None) for path in expected}
    for outcome, reason in told.values():
        assert outcome == "failed"
        assert "its pixels are not those of the image" in reason
        assert "mask_grid image" in reason
    plain = tmp_path / "plain"
    built(tmp_path / "in", plain)
    found = [row["image_sop_uid"] for row, _ in stored(plain) if row["kind"] == "mask"]
    assert found == [None] * len(CHANGES)


def test_what_lies_on_no_image_is_told_frame_by_frame(tmp_path: Path) -> None:
    overlapping(tmp_path / "in")
    (tmp_path / "in/ct1.dcm").unlink()
    planes = np.ones((2, SLICES, SIZE, SIZE), np.uint8)
    sources = write_ct(tmp_path / "ct")
    images = [tmp_path / f"ct/ct{k}.dcm" for k in range(SLICES)]
    write_segmentation(tmp_path / "in/more.dcm", images, planes, ["a", "b"], referenced=False)
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", "planes", status=1)
    assert len(sources) == SLICES
    found = failures(cache)
    assert set(found) == {("seg.dcm", None), ("more.dcm", 1), ("more.dcm", 5)}
    outcome, reason = found["more.dcm", 5]
    assert outcome == "failed"
    assert reason == (
        "segment 2 lies on no image: its plane is 2 mm from that of the nearest image, legal: "
        "0.5, and half the step to the next slice"
    )
    assert found["seg.dcm", None][1] == (
        "frame 0: segment 1 lies on no image: the image that it refers to (0008,1155) is not "
        "stored; its plane is 2 mm from that of the nearest image, legal: 0.5, and half the step "
        "to the next slice; and 1 more of its frames"
    )
    counts = attributes(cache)["counts"]
    assert (counts["files"], counts["files_stored"], counts["files_failed"]) == (5, 4, 1)
    assert (counts["frames_stored"], counts["frames_failed"]) == (9, 2)
    assert run_here("verify", cache).returncode == 0


def test_a_file_of_no_class_is_excluded(tmp_path: Path) -> None:
    overlapping(tmp_path / "in")
    cache = tmp_path / "cache"
    built(tmp_path / "in", *recipe(tmp_path, 'masks = "planes"\n' + ROIS), cache)
    assert failures(cache) == {
        ("seg.dcm", None): (
            "excluded", "recipe: rois finds none of the labels of its segments: 'a', 'b'"
        )
    }  # fmt: skip


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("referenced", [False, True])
def test_a_mask_that_comes_later_lies_on_images_that_are_there(
    tmp_path: Path, hashed: bool, referenced: bool
) -> None:
    """By reference and by geometry, resized or not, and under hashes."""
    key: tuple[Any, ...] = ()
    if hashed:
        (tmp_path / "key").write_bytes(bytes(range(32)))
        (tmp_path / "key").chmod(0o600)
        key = ("--deidentify", tmp_path / "key")
    write_ct(tmp_path / "in")
    text = "masks = 'labelmap'\nspacing = 1.6\nsize = 20\n"
    built(tmp_path / "in", *recipe(tmp_path, text), *key, tmp_path / "cache")
    images = [tmp_path / f"in/ct{k}.dcm" for k in range(SLICES)]
    planes = np.zeros((1, SLICES, SIZE, SIZE), np.uint8)
    planes[0, 1:3, 6:20, 2:28] = 1
    write_segmentation(tmp_path / "in/seg.dcm", images, planes, ["a"], referenced=referenced)
    assert run_here("update", tmp_path / "in", tmp_path / "cache", *key).returncode == 0
    built(tmp_path / "in", *recipe(tmp_path, text), *key, tmp_path / "whole")
    later, whole = ([(row, pixels) for row, pixels in stored(tmp_path / name)]
                    for name in ("cache", "whole"))  # fmt: skip
    assert len(later) == len(whole) == 6
    sops = {row["sop_uid"] for row, _ in whole if row["kind"] == "image"}
    for (row, pixels), (other, expected) in zip(later, whole, strict=True):
        np.testing.assert_array_equal(pixels, expected)
        for name, value in row.items():
            if name == "position":
                np.testing.assert_allclose(value, other[name], atol=1e-9)
            elif name not in ("root", "path", "stack", "stack_of"):
                assert value == other[name], name
        if row["kind"] == "mask":
            assert row["image_sop_uid"] in sops
            assert int(pixels.sum()) == row["mask_counts"][0] > 0


def test_a_shard_of_masks_is_repaired(tmp_path: Path) -> None:
    other_grid(tmp_path / "in", "swapped")
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", "planes", "--mask-grid", "image")
    (shard,) = (cache / "mask_uint8_32x32").glob("c.*")
    before = shard.read_bytes()
    shard.write_bytes(before[:30] + bytes([before[30] ^ 1]) + before[31:])
    assert run_here("verify", cache).returncode == 1
    assert run_here("repair", cache).returncode == 0
    assert shard.read_bytes() == before
    assert run_here("verify", cache, "--deep", "1").returncode == 0


def test_without_a_reference_a_mask_lies_on_every_phase(tmp_path: Path) -> None:
    """Two images at one place: a row for each, told apart by `part_of_frame`."""
    write_ct(tmp_path / "in")
    again = dcmread(tmp_path / "in/ct1.dcm")
    again.SOPInstanceUID, again.AcquisitionNumber = uid("again"), 2
    again.save_as(tmp_path / "in/again.dcm")
    planes = np.zeros((1, 1, SIZE, SIZE), np.uint8)
    planes[0, 0, 3:9, 4:7] = 1
    write_segmentation(
        tmp_path / "in/seg.dcm", [tmp_path / "in/ct1.dcm"], planes, ["a"], referenced=False
    )
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", "planes")
    found = [(row, pixels) for row, pixels in stored(cache) if row["kind"] == "mask"]
    assert sorted((row["image_sop_uid"], row["frame"]) for row, _ in found) == sorted(
        [(uid("again"), 0), (uid("ct 1"), 0)]
    )
    assert sorted(row["part_of_frame"] for row, _ in found) == [0, 1]
    for _, pixels in found:
        np.testing.assert_array_equal(pixels, planes[0, 0])


@pytest.mark.parametrize("veiled", [False, True])
def test_images_that_come_later_have_the_masks_that_waited(tmp_path: Path, veiled: bool) -> None:
    """Of their patient; nothing is asked again of those of another one."""
    sources, pixels = write_ct(tmp_path / "ct"), drawn()
    write_seg(tmp_path / "in/seg.dcm", sources, pixels, ["Liver", "cyst 1"], "BINARY")
    for image in sources:
        image.PatientID = "another"
    write_seg(tmp_path / "in/other.dcm", sources, pixels, ["Liver", "cyst 1"], "BINARY")
    write_dicom(tmp_path / "in/x.dcm", np.full((SIZE, SIZE), 7, np.uint8), PatientID="x")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key").chmod(0o600)
    key = ("--deidentify", tmp_path / "key") if veiled else ()
    options = ("--masks", "labelmap", *key)
    cache = built(tmp_path / "in", *options, tmp_path / "cache", status=1)
    assert len(failures(cache)) == 2
    for path in (tmp_path / "ct").iterdir():
        path.rename(tmp_path / "in" / path.name)
    assert run_here("update", tmp_path / "in", cache, *key).returncode == 0
    found = [mask for row, mask in stored(cache) if row["kind"] == "mask"]
    assert sorted(int(np.count_nonzero(mask)) for mask in found) == [126, 140, 162]
    images = open_cache(cache).select(kind="image", modality="CT")
    assert images.labelmap(range(SLICES)).any(axis=(1, 2)).tolist() == [True, True, True, False]
    assert run_here("verify", cache).returncode == 0
    assert attributes(cache)["counts"]["files_stored"] == 6
    assert "nothing new" in run_here("update", tmp_path / "in", cache, *key).stdout


def test_plan_lists_the_labels_that_it_found(tmp_path: Path) -> None:
    sources, pixels = write_ct(tmp_path / "in"), drawn()
    write_seg(tmp_path / "in/a.dcm", sources, pixels, ["Liver", "cyst 1"], "BINARY")
    write_seg(tmp_path / "in/b.dcm", sources, pixels // 2, ["liver\n"], "LABELMAP")
    said = run_here("plan", tmp_path / "in", tmp_path / "cache").stdout
    assert "segments: 3 labels\n  Liver: 3 frames in 1 file\n" in said
    assert "  cyst 1: 1 frame in 1 file\n" in said
    assert "liver\\x0a: " in said
    said = run_here(
        "plan", tmp_path / "in", *recipe(tmp_path, 'masks = "labelmap"\n[rois]\norgan = "^Liver"'),
        tmp_path / "other",
    ).stdout  # fmt: skip
    assert "  Liver: 3 frames in 1 file: organ (1)\n" in said
    assert "  cyst 1: 3 frames in 1 file: left out\n" in said


def other_steps(folder: Path, step: float, thickness: float | None) -> list[NDArray[np.uint8]]:
    """A CT of 12 slices of 1 mm; a segmentation `step` mm apart from z = 0 on, three planes."""
    for k in range(12):
        write_dicom(
            folder / f"ct{k}.dcm", np.full((8, 8), k, np.uint16), SOPClassUID=CT_IMAGE,
            Modality="CT", SOPInstanceUID=uid(f"ct {k}"), ImagePositionPatient=[0, 0, k],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1], SliceThickness=1,
            FrameOfReferenceUID=uid("space"),
        )  # fmt: skip
    planes = [np.zeros((8, 8), np.uint8) for _ in range(3)]
    for k, plane in enumerate(planes):
        plane[k, : k + 2] = 1
    groups = []
    for k in range(3):
        place, group = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, k * step]
        group.PlanePositionSequence = [place]
        groups.append(group)
    measures, turned, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, turned.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
    if thickness:
        measures.SliceThickness = thickness
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turned]
    write_segmentation(
        folder / "seg.dcm", [folder / f"ct{k}.dcm" for k in range(3)], np.array([planes]), ["a"],
        referenced=False, PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[shared],
    )  # fmt: skip
    return planes


@pytest.mark.parametrize("thickness", [None, 3])
def test_slices_take_the_nearest_plane_of_a_coarse_mask(
    tmp_path: Path, thickness: float | None
) -> None:
    """Planes at 0, 3 and 6 mm, each for 1.5 mm to both sides; beyond the last one nothing is."""
    planes = other_steps(tmp_path / "in", 3.0, thickness)
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", "labelmap", "--mask-grid", "image")
    found = {row["image_sop_uid"]: (row, pixels) for row, pixels in stored(cache)
             if row["kind"] == "mask"}  # fmt: skip
    assert set(found) == {uid(f"ct {k}") for k in range(8)}
    for k, plane in enumerate([0, 0, 1, 1, 1, 2, 2, 2]):
        row, pixels = found[uid(f"ct {k}")]
        np.testing.assert_array_equal(pixels, planes[plane])
        assert row["image_by"] == ("geometry" if k in (0, 3, 6) else "resampled")
        assert (row["frame"], row["position"]) == (plane, [0, 0, k])
    assert failures(cache) == {}
    assert run_here("verify", cache, "--deep", "1").returncode == 0
    same = tmp_path / "same"
    built(tmp_path / "in", same, "--masks", "labelmap")
    assert attributes(same)["counts"]["frames_stored"] == 12 + 3


def test_planes_of_a_fine_mask_between_slices_are_no_loss(tmp_path: Path) -> None:
    """Planes at 0, 0.4 and 0.8 mm: the slice at 0 takes the first, that at 1 the last."""
    planes = other_steps(tmp_path / "in", 0.4, 0.4)
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", "labelmap", "--mask-grid", "image")
    found = {row["image_sop_uid"]: pixels for row, pixels in stored(cache)
             if row["kind"] == "mask"}  # fmt: skip
    assert set(found) == {uid("ct 0"), uid("ct 1")}
    np.testing.assert_array_equal(found[uid("ct 0")], planes[0])
    np.testing.assert_array_equal(found[uid("ct 1")], planes[2])
    assert failures(cache) == {}


@pytest.mark.parametrize("mode", ["planes", "labelmap"])
def test_under_hashes_the_classes_of_the_recipe_are_the_only_labels(
    tmp_path: Path, mode: str
) -> None:
    sources, pixels = write_ct(tmp_path / "in"), drawn()
    write_seg(tmp_path / "in/seg.dcm", sources, pixels, ["Liver of A^B", "cyst 1"], "BINARY")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key").chmod(0o600)
    options = recipe(tmp_path, f'masks = "{mode}"\n[rois]\nliver = "(?i)^liver"\n')
    cache = tmp_path / "cache"
    built(tmp_path / "in", *options, "--deidentify", tmp_path / "key", cache)
    labels = [row["segments"] and [s["label"] for s in row["segments"]] for row in rows_of(cache)]
    assert labels == [None] * SLICES + [["liver"]] * 3
    plain = tmp_path / "plain"
    built(tmp_path / "in", "--masks", mode, "--deidentify", tmp_path / "key", plain)
    shown = [row["segments"] for row in rows_of(plain) if row["segments"]]
    assert {s["label"] for segments in shown for s in segments} == {None}


@pytest.mark.parametrize("mode", ["planes", "labelmap"])
def test_tiles_of_a_slide(tmp_path: Path, mode: str) -> None:
    """TILED_FULL both, two segments; another level of the slide, with other spacings, gets none."""
    space = {"FrameOfReferenceUID": uid("slide")}
    write_slide(tmp_path / "in/s.dcm", 6, (8, 18), **space)
    level = Dataset()
    level.PixelSpacing, level.SliceThickness = [0.002, 0.002], 0.001
    shared = Dataset()
    shared.PixelMeasuresSequence = [level]
    write_slide(
        tmp_path / "in/level.dcm", 1, (2, 5), SharedFunctionalGroupsSequence=[shared],
        SOPInstanceUID=uid("level"), **space,
    )  # fmt: skip
    tiles = np.zeros((12, 4, 6), np.uint8)
    for k in range(12):
        tiles[k, k % 4, : 1 + k // 2] = 1
    measures, groups = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.0005, 0.0005], 0.001
    groups.PixelMeasuresSequence = [measures]
    segments = []
    for number, label in ((1, "tumour"), (2, "stroma")):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, label
        segments.append(segment)
    write_dicom(
        tmp_path / "in/seg.dcm", tiles, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG",
        SegmentationType="BINARY", BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelData=np.packbits(tiles.reshape(-1), bitorder="little").tobytes(),
        SegmentSequence=segments, DimensionOrganizationType="TILED_FULL", TotalPixelMatrixRows=8,
        TotalPixelMatrixColumns=18, SharedFunctionalGroupsSequence=[groups],
        SeriesInstanceUID=uid("seg"), **space,
    )  # fmt: skip
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", mode)
    found = [(row, pixels) for row, pixels in stored(cache) if row["kind"] == "mask"]
    assert {row["image_sop_uid"] for row, _ in found} == {uid("s.dcm")}
    assert len(found) == (12 if mode == "planes" else 6)
    for row, pixels in found:
        k = row["image_frame"]
        assert (row["matrix_row"], row["matrix_column"]) == (k // 3 * 4, k % 3 * 6)
        if mode == "planes":
            np.testing.assert_array_equal(pixels, tiles[k + 6 * (row["segment"] - 1)])
        else:
            both = np.where(tiles[k + 6] != 0, 2, tiles[k])
            np.testing.assert_array_equal(pixels, both)


def test_neither_workers_nor_the_order_of_files_matter(tmp_path: Path) -> None:
    sources, pixels = write_ct(tmp_path / "in"), drawn()
    for name in "ab":
        write_seg(tmp_path / f"in/{name}.dcm", sources, pixels, ["x", "y"], "BINARY")
    one, other = tmp_path / "one", tmp_path / "other"
    built(tmp_path / "in", one, "--masks", "planes", "--jobs", "1")
    names = sorted((tmp_path / "in").iterdir(), reverse=True)
    for path in names:
        path.rename(path.with_name(f"{path.name}.moved"))
    for path in names:
        path.with_name(f"{path.name}.moved").rename(path)
    built(tmp_path / "in", other, "--masks", "planes", "--jobs", "2")
    kept = {name: digest for name, digest in tree(one).items() if "seen" not in name}
    assert kept == {name: digest for name, digest in tree(other).items() if "seen" not in name}


def test_a_mask_without_a_spacing_is_resized_as_its_image_is(tmp_path: Path) -> None:
    """A mask of one plane may say nothing of its pixels but which image it marks."""
    write_ct(tmp_path / "in")
    planes = np.zeros((1, 1, SIZE, SIZE), np.uint8)
    planes[0, 0, 8:16, 4:24] = 1
    write_segmentation(
        tmp_path / "in/seg.dcm", [tmp_path / "in/ct2.dcm"], planes, ["a"],
        SharedFunctionalGroupsSequence=[],
    )  # fmt: skip
    cache = tmp_path / "cache"
    built(tmp_path / "in", *recipe(tmp_path, "masks = 'planes'\nspacing = 1.6\n"), cache)
    ((row, pixels),) = drawn_of(cache)
    np.testing.assert_array_equal(pixels, planes[0, 0, ::2, ::2])
    assert (row["image_sop_uid"], row["image_by"]) == (IMAGES[2], "reference")


@pytest.mark.parametrize("compressed", [False, True])
def test_frames_of_one_bit_that_end_within_a_byte(tmp_path: Path, compressed: bool) -> None:
    """35 pixels each: the second frame begins at bit 3 of the fifth byte; or RLE by highdicom."""
    rng = np.random.default_rng(3)
    for k in range(3):
        write_dicom(
            tmp_path / f"in/ct{k}.dcm", np.full((5, 7), k, np.uint16), SOPClassUID=CT_IMAGE,
            Modality="CT", SOPInstanceUID=uid(f"ct {k}"), ImagePositionPatient=[0, 0, k],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1], SliceThickness=1,
            FrameOfReferenceUID=uid("space"), PatientName="A^B", PatientBirthDate="",
            PatientSex="", StudyID="1", StudyDate="20200101", StudyTime="120000",
            AccessionNumber="", ReferringPhysicianName="", SeriesNumber=1, InstanceNumber=k + 1,
        )  # fmt: skip
    images = [tmp_path / f"in/ct{k}.dcm" for k in range(3)]
    planes = (rng.random((1, 3, 5, 7)) > 0.5).astype(np.uint8)
    if compressed:  # of 8 bits: one bit is not compressed by RLE
        write_seg(
            tmp_path / "in/seg.dcm", [dcmread(image) for image in images], planes[0].copy(), ["a"],
            "FRACTIONAL", fractional_type="PROBABILITY", transfer_syntax_uid="1.2.840.10008.1.2.5",
        )  # fmt: skip
    else:
        write_segmentation(tmp_path / "in/seg.dcm", images, planes, ["a"])
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", "labelmap")
    found = drawn_of(cache)
    assert len(found) == 3
    for k, (_, pixels) in enumerate(found):
        np.testing.assert_array_equal(pixels, planes[0, k])


def test_a_label_map_with_a_palette(tmp_path: Path) -> None:
    """Its colours are for the eye: values stay numbers."""
    write_ct(tmp_path / "in")
    images = [tmp_path / f"in/ct{k}.dcm" for k in range(SLICES)]
    look = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        look[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        look[f"{colour}PaletteColorLookupTableData"] = bytes([0, 0, 255, 255, 128, 128])
    write_segmentation(
        tmp_path / "in/seg.dcm", images, drawn(), ["a", "b"], kind="LABELMAP", **look
    )
    cache = tmp_path / "cache"
    built(tmp_path / "in", cache, "--masks", "labelmap")
    for row, pixels in drawn_of(cache):
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, drawn()[IMAGES.index(row["image_sop_uid"])])


def test_masks_stay_apart_when_caches_are_merged_and_images_go(tmp_path: Path) -> None:
    overlapping(tmp_path / "in")
    built(tmp_path / "in", tmp_path / "a", "--masks", "labelmap")
    write_dicom(tmp_path / "other/x.dcm", np.full((SIZE, SIZE), 7, np.uint8), PatientID="other")
    built(tmp_path / "other", tmp_path / "c", "--masks", "labelmap")
    whole = tmp_path / "whole"
    assert run_here("merge", tmp_path / "a", tmp_path / "c", whole).returncode == 0
    names = [about["name"] for about in attributes(whole)["arrays"]]
    assert names == ["int16_32x32", "mask_uint8_32x32", "uint8_32x32"]
    assert run_here("verify", whole, "--deep", "1").returncode == 0
    assert run_here("remove", whole, "--series", uid("ct")).returncode == 0
    assert sorted(row["kind"] for row in rows_of(whole)) == ["image", "mask"]
    assert run_here("verify", whole, "--deep", "1").returncode == 0


def test_planes_that_stand_for_more_slices_than_a_file_may_have_frames(tmp_path: Path) -> None:
    """A plane of each segment, a metre thick by its word, is on each slice of two centimetres."""
    images = write_series(tmp_path / "in", 9, 16)
    measures = item(PixelSpacing=[2, 2], SpacingBetweenSlices="1000")
    shared = item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    for name, count in (("few", 2), ("many", 8)):
        groups = [
            item(
                PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 4])],
                SegmentIdentificationSequence=[item(ReferencedSegmentNumber=k + 1)],
            )
            for k in range(count)
        ]
        write_frames(
            tmp_path / f"in/{name}.dcm", np.ones((count, 4, 4), np.uint8), groups, shared,
            {k + 1: f"S{k}" for k in range(count)}, "BINARY", SeriesInstanceUID=uid(name),
            FrameOfReferenceUID=dcmread(images[0]).FrameOfReferenceUID,
        )  # fmt: skip
    flags = ("--masks", "planes", "--mask-grid", "image", "--limits", "frames=120")
    made = built(tmp_path / "in", *flags, tmp_path / "cache", status=1)
    drawn = [row["path"] for row in rows_of(made) if row["kind"] == "mask"]
    assert drawn == ["few.dcm"] * 18
    assert failures(made) == {
        ("many.dcm", None): (
            "failed",
            "it would be drawn on images more than 30 times; limits.frames is 120, and a quarter "
            "of it may be: if the file is right, give --limits frames=NUMBER",
        )
    }
