"""Structure sets drawn on their images: planes and label maps, as a reader sees them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from tests.support.caches import attributes, built, failures, run_here, stored, table, tree
from tests.support.dicom_files import uid, write_series
from tests.support.structures import XOR, box, contour, write_structures
from trainer_adapter import open_cache

SPACING = 0.5
"""mm between pixels of `write_series`"""


def scans(folder: Path, size: int = 16, count: int = 3) -> Path:
    write_series(folder / "ct", count, size)
    return folder


def outlined(left: int, top: int, right: int, bottom: int, z: float) -> Any:
    """A contour of these pixels of the slice at z."""
    return contour(box(*(SPACING * v for v in (left, top, right, bottom)), z))


def structures(path: Path, **elements: Any) -> Path:
    """Liver on the first two slices, with a hole on the first; tumour in it on the second."""
    liver = [
        outlined(2, 3, 12, 13, 0), outlined(4, 5, 8, 9, 0), outlined(2, 3, 12, 13, 1),
    ]  # fmt: skip
    return write_structures(
        path, [("Liver", liver), ("GTV 1", [outlined(5, 6, 9, 10, 1)]), ("Iso", [])], **elements
    )


def pixels(*boxes: tuple[int, int, int, int], size: int = 16) -> NDArray[np.bool_]:
    image = np.zeros((size, size), bool)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] ^= True
    return image


LIVER = [pixels((2, 3, 12, 13), (4, 5, 8, 9)), pixels((2, 3, 12, 13)), pixels()]
TUMOUR = [pixels(), pixels((5, 6, 9, 10)), pixels()]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = scans(tmp_path_factory.mktemp("scans"))
    structures(folder / "rt.dcm")
    return folder


@pytest.fixture(scope="module")
def planes(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(source, "--masks", "planes", tmp_path_factory.mktemp("planes") / "cache")


@pytest.fixture(scope="module")
def maps(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(source, "--masks", "labelmap", tmp_path_factory.mktemp("maps") / "cache")


def masks(cache: Path) -> list[tuple[dict[str, Any], NDArray[Any]]]:
    return [(row, mask) for row, mask in stored(cache) if row["kind"] == "mask"]


def whole(cache: Path) -> None:
    ran = run_here("verify", cache, "--deep", "1")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_planes_are_one_for_each_image_and_structure(planes: Path) -> None:
    found = masks(planes)
    images = {row["sop_uid"]: row for row, _ in stored(planes) if row["kind"] == "image"}
    said = [
        (row["image_sop_uid"], row["segment"], row["segment_label"], row["mask_counts"])
        for row, _ in sorted(found, key=lambda one: one[0]["frame"])
    ]
    first, second = uid("slice000.dcm"), uid("slice001.dcm")
    assert said == [
        (first, 1, "Liver", [84]), (second, 1, "Liver", [100]), (second, 2, "GTV 1", [16]),
    ]  # fmt: skip
    for row, mask in found:
        k = int(row["position"][2])
        assert np.array_equal(mask != 0, (LIVER, TUMOUR)[row["segment"] - 1][k])
        assert images[row["image_sop_uid"]]["position"] == row["position"]
        assert (row["unit"], row["path"], row["frame_of_reference_uid"]) == (
            "binary", "rt.dcm", uid("frame of reference"),
        )  # fmt: skip
        assert [s["label"] for s in row["segments"]] == [row["segment_label"]]
    assert failures(planes) == {}
    assert attributes(planes)["counts"]["files_stored"] == 4
    assert table(planes, "contours")[0]["name"] == "Liver"
    whole(planes)


def test_label_maps_have_the_roi_numbers(maps: Path) -> None:
    found = {int(row["position"][2]): (row, mask) for row, mask in masks(maps)}
    assert sorted(found) == [0, 1]
    expected = [np.where(t, 2, liver) for liver, t in zip(LIVER, TUMOUR, strict=True)]
    for k, (row, mask) in found.items():
        assert np.array_equal(mask, expected[k])
        assert row["flags"] == (["mask-overlap"] if k == 1 else None)
    assert [s["label"] for s in found[1][0]["segments"]] == ["Liver", "GTV 1"]
    assert found[1][0]["mask_counts"] == [84, 16]
    whole(maps)


@pytest.mark.parametrize("kind", ["planes", "labelmap"])
def test_the_reader_has_label_maps_of_both(kind: str, request: pytest.FixtureRequest) -> None:
    cache = open_cache(request.getfixturevalue({"planes": "planes", "labelmap": "maps"}[kind]))
    images = cache.select(kind="image")
    found = images.labelmap(range(3), ["Liver", "GTV 1"])
    assert np.array_equal(found[0], LIVER[0])
    assert np.array_equal(found[1], np.where(TUMOUR[1], 2, LIVER[1]))
    assert images.has_mask("GTV 1").tolist() == [False, True, False]


def test_classes_of_the_recipe(source: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('masks = "labelmap"\nrois = {tumour = "GTV.*", organ = "(?i)^liver$"}\n')
    made = built(source, "--recipe", recipe, tmp_path / "cache")
    found = {int(row["position"][2]): (row, mask) for row, mask in masks(made)}
    assert np.array_equal(found[0][1], 2 * LIVER[0])
    assert open_cache(made).mask_classes == ("tumour", "organ")
    assert [s["label"] for s in found[1][0]["segments"]] == ["tumour", "organ"]


def test_more_workers_change_no_byte(source: Path, planes: Path, tmp_path: Path) -> None:
    again = built(source, "--masks", "planes", "--jobs", "2", tmp_path / "cache")
    assert tree(again) == tree(planes)


def test_what_lies_on_no_image_is_told(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    upright = contour(box(1, 1, 5, 5)[:, [0, 2, 1]])
    write_structures(
        folder / "rt.dcm",
        [
            ("Liver", [outlined(2, 3, 12, 13, 0), outlined(2, 3, 12, 13, 7)]),
            ("Sagittal", [upright]),
            ("Outside", [outlined(90, 90, 99, 99, 0)]),
            ("Points", [contour([(1, 1, 1)], "POINT")]),
        ],
    )
    made = built(folder, "--masks", "planes", tmp_path / "cache")
    assert [(row["segment_label"], mask.sum()) for row, mask in masks(made)] == [("Liver", 100)]
    assert failures(made) == {
        ("rt.dcm", None): (
            "failed",
            "of the 2 of 'Liver' 1 contour lies on no image: farther than half a slice from each; "
            "of the 1 of 'Sagittal' 1 contour lies on no image: 1 of them across the slices, the "
            "others farther than half a slice from each",
        )
    }  # fmt: skip
    counts = attributes(made)["counts"]
    assert (counts["files"], counts["files_stored"], counts["files_failed"]) == (4, 4, 0)


def test_images_of_another_space_are_not_drawn_on(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    structures(folder / "rt.dcm", PatientID="somebody else")
    made = built(folder, "--masks", "planes", tmp_path / "cache")
    assert masks(made) == []
    ((_, reason),) = failures(made).values()
    assert reason.startswith("'Liver', 'GTV 1': no image of the patient and frame of reference")


def test_of_two_series_in_one_space_the_one_that_is_named(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    for path in write_series(folder / "other", 3, 16):
        ds = dcmread(path)
        ds.SeriesInstanceUID, ds.SOPInstanceUID = uid("other"), uid(f"other {path.name}")
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(path)
    structures(folder / "rt.dcm")
    made = built(folder, "--masks", "labelmap", tmp_path / "cache")
    named = {row["image_sop_uid"] for row, _ in masks(made)}
    assert named == {uid("slice000.dcm"), uid("slice001.dcm")}


def test_numbers_beyond_a_label_map_are_counted(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    path = structures(folder / "rt.dcm")
    ds = dcmread(path)
    for number, (item, roi) in enumerate(
        zip(ds.ROIContourSequence, ds.StructureSetROISequence, strict=True)
    ):
        item.ReferencedROINumber = roi.ROINumber = 100_000 - number
    ds.save_as(path)
    made = built(folder, "--masks", "labelmap", tmp_path / "cache")
    found = {int(row["position"][2]): (row, mask) for row, mask in masks(made)}
    assert [(s["number"], s["label"]) for s in found[1][0]["segments"]] == [
        (2, "GTV 1"), (3, "Liver"),
    ]  # fmt: skip
    whole(made)


def test_size_and_crop_treat_both_alike(source: Path, tmp_path: Path) -> None:
    made = built(source, "--masks", "planes", "--size", "8,8", tmp_path / "cache")
    for row, mask in masks(made):
        whole_size = (LIVER, TUMOUR)[row["segment"] - 1][int(row["position"][2] + 0.5)]
        assert np.array_equal(mask != 0, whole_size[::2, ::2]) or np.array_equal(
            mask != 0, whole_size[1::2, 1::2]
        )
    whole(made)


def test_they_come_to_images_by_an_update(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    made = built(folder, "--masks", "planes", tmp_path / "cache")
    structures(folder / "rt.dcm")
    ran = run_here("update", folder, made)
    assert ran.returncode == 0, ran.stderr
    images = open_cache(made).select(kind="image")
    assert np.array_equal(images.labelmap([0], ["Liver"])[0], LIVER[0])
    whole(made)


def test_a_shard_of_them_is_made_again(source: Path, planes: Path, tmp_path: Path) -> None:
    made = Path(shutil.copytree(planes, tmp_path / "cache"))
    (shard,) = made.glob("mask_uint8_16x16/c.0*")
    before = shard.read_bytes()
    shard.write_bytes(before[:40] + bytes([before[40] ^ 255]) + before[41:])
    assert run_here("verify", made).returncode == 1
    ran = run_here("repair", made)
    assert ran.returncode == 0, ran.stderr
    whole(made)


def test_xor_is_drawn_by_xor(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    rings = [outlined(*b, 0) for b in ((2, 3, 12, 13), (4, 5, 14, 15))]
    for one in rings:
        one.ContourGeometricType = XOR
    write_structures(folder / "rt.dcm", [("Ring", rings)])
    made = built(folder, "--masks", "planes", tmp_path / "cache")
    ((_, mask),) = masks(made)
    assert np.array_equal(mask != 0, pixels((2, 3, 12, 13), (4, 5, 14, 15)))


@pytest.mark.parametrize("masks", ["planes", "labelmap"])
def test_contours_on_every_second_slice_leave_the_others_unknown(
    tmp_path: Path, masks: str
) -> None:
    """Three planes and more at equal steps; of a structure on all slices the missing are empty."""
    scans(tmp_path / "in", count=8)
    every = [outlined(2, 3, 12, 13, z) for z in (1, 3, 5)]
    write_structures(tmp_path / "in/rt.dcm", [("cord", every)])
    cache = open_cache(built(tmp_path / "in", "--masks", masks, tmp_path / "cache"))
    images = cache.select(kind="image")
    assert images.has_mask().tolist() == [False, True] * 3 + [False] * 2
    assert images.annotated().tolist() == [False, True] * 3 + [False, True]
    solid = [outlined(2, 3, 12, 13, z) for z in (1, 2, 5)]
    write_structures(tmp_path / "in/rt.dcm", [("cord", solid)])
    cache = open_cache(built(tmp_path / "in", "--masks", masks, tmp_path / "solid"))
    assert cache.select(kind="image").annotated().all()


def test_structures_on_more_images_than_a_file_may_have(tmp_path: Path) -> None:
    """A slab of a kilometre is on each slice; so are those of ten thousand structures."""
    write_series(tmp_path / "in", 4, 16)
    slab = [contour(box(1, 1, 5, 5), ContourSlabThickness="1000000")]
    for name, count in (("few", 5), ("many", 6)):
        write_structures(
            tmp_path / f"in/{name}.dcm", [(f"S{k}", slab) for k in range(count)],
            SeriesInstanceUID=uid(name),
        )  # fmt: skip
    limit = ("--masks", "planes", "--limits", "frames=80")
    made = built(tmp_path / "in", *limit, tmp_path / "cache")
    assert {row["path"] for row, _ in masks(made)} == {"few.dcm"}
    assert len(masks(made)) == 20
    assert failures(made) == {
        ("many.dcm", None): (
            "failed",
            "it would be drawn on images more than 20 times; limits.frames is 80, and a quarter "
            "of it may be: if the file is right, give --limits frames=NUMBER",
        )
    }
