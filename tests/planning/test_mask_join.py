"""Which image each frame of a segmentation lies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.plans import AXIAL, frames_of, header, plan_of

Row = dict[str, Any]


def image(k: int, name: str = "i", **values: Any) -> Row:
    """Slice k of a series, 2 mm apart, pixels of 0.5 mm; at -10, -20."""
    said = {
        "sop_uid": f"{name}.{k}", "position": [-10.0, -20.0, 2.0 * k], "orientation": AXIAL,
        "spacing_y": 0.5, "spacing_x": 0.5, "series_uid": f"series {name}", "patient": "p",
    }  # fmt: skip
    return header(f"{name}{k}.dcm", **{**said, **values})


def segmentation(frames: list[Row], name: str = "seg.dcm", **values: Any) -> Row:
    """A binary one whose frames say these things of themselves, in the space of the images."""
    said = {
        "kind": "mask", "unit": "binary", "slope": None, "bits_allocated": 1, "bits_stored": 1,
        "orientation": AXIAL, "spacing_y": 0.5, "spacing_x": 0.5, "series_uid": "drawn",
        "frames": len(frames), "per_frame": frames, "patient": "p",
    }  # fmt: skip
    return header(name, **{**said, **values})


def at(z: float, **values: Any) -> Row:
    """A frame at -10, -20, z."""
    return {"position": [-10.0, -20.0, z], "segment": 1, **values}


def joined(*rows: Row) -> list[tuple[str | None, int | None, str | None]]:
    """(image, its frame, how it was found) of each frame of the masks, in order of their frames."""
    frames = frames_of(plan_of(rows))
    drawn = sorted(
        (f["path"], f["frame"], f["image_sop_uid"], f["image_frame"], f["image_by"])
        for f in frames if f["path"].startswith("seg")
    )  # fmt: skip
    assert all(f["image_sop_uid"] is None for f in frames if not f["path"].startswith("seg"))
    return [row[2:] for row in drawn]


IMAGES = [image(k) for k in range(4)]
NOWHERE = (None, None, None)


def test_by_reference() -> None:
    frames = [at(4.0, referenced_sop_uid="i.2"), at(0.0, referenced_sop_uid="i.0")]
    assert joined(*IMAGES, segmentation(frames)) == [
        ("i.2", 0, "reference"), ("i.0", 0, "reference")
    ]  # fmt: skip


def test_by_reference_to_a_frame() -> None:
    """Of a multi-frame image, numbers from 0; the geometry is not said at all."""
    many = image(0, frames=3, position=None)
    frames: list[Row] = [
        {"segment": 1, "referenced_sop_uid": "i.0", "referenced_frame": n} for n in (2, 0)
    ]
    assert joined(many, segmentation(frames, orientation=None)) == [
        ("i.0", 2, "reference"), ("i.0", 0, "reference")
    ]  # fmt: skip


def test_without_the_frames_number_its_place_tells() -> None:
    many = image(
        0, frames=3, per_frame=[{"position": [-10.0, -20.0, z]} for z in (9.0, 11.0, 13.0)]
    )
    frames = [at(z, referenced_sop_uid="i.0") for z in (13.0, 9.0)]
    other = [image(k, "o", position=[-10.0, -20.0, 9.0 + 2 * k]) for k in range(3)]
    assert joined(many, *other, segmentation(frames)) == [
        ("i.0", 2, "reference"), ("i.0", 0, "reference")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("z", "found"), [(4.0, "i.2"), (4.49, "i.2"), (3.51, "i.2"), (4.51, None), (5.0, None)]
)
def test_a_plane_within_half_a_millimetre(z: float, found: str | None) -> None:
    assert joined(*IMAGES, segmentation([at(z)]))[0][0] == found


@pytest.mark.parametrize(("z", "found"), [(0.84, "i.2"), (0.61, "i.2"), (0.59, "i.1")])
def test_a_plane_within_half_a_step_of_thin_slices(z: float, found: str) -> None:
    """Slices of 0.4 mm: half a step is 0.2 mm, and each plane has one."""
    thin = [image(k, position=[-10.0, -20.0, 0.4 * k]) for k in range(4)]
    assert joined(*thin, segmentation([at(z)])) == [(found, 0, "geometry")]


def test_beyond_the_last_of_thin_slices_there_is_none() -> None:
    thin = [image(k, position=[-10.0, -20.0, 0.4 * k]) for k in range(4)]
    assert joined(*thin, segmentation([at(1.39), at(1.41)])) == [("i.3", 0, "geometry"), NOWHERE]


def _turned(degrees: float) -> list[float]:
    """The axial plane, turned about its rows."""
    a = np.radians(degrees)
    return [1.0, 0.0, 0.0, 0.0, float(np.cos(a)), float(np.sin(a))]


@pytest.mark.parametrize(("degrees", "found"), [(0.09, "i.1"), (-0.09, "i.1"), (0.11, None)])
def test_a_normal_within_a_tenth_of_a_degree(degrees: float, found: str | None) -> None:
    assert joined(*IMAGES, segmentation([at(2.0)], orientation=_turned(degrees)))[0][0] == found


def test_the_space_and_the_patient_must_be_the_same() -> None:
    elsewhere = segmentation([at(2.0)], "seg1.dcm", frame_of_reference_uid="1.8")
    unsaid = segmentation([at(2.0)], "seg2.dcm", frame_of_reference_uid=None)
    other = segmentation([at(2.0)], "seg3.dcm", patient="q")
    assert joined(*IMAGES, elsewhere, unsaid, other) == [NOWHERE] * 3


def test_of_two_series_at_one_place_that_which_is_referred_to() -> None:
    others = [image(k, "a") for k in range(4)]
    mask = segmentation([at(2.0)], referenced_series=["series i"])
    assert joined(*IMAGES, *others, mask) == [("i.1", 0, "geometry")]
    mask = segmentation([at(2.0)], referenced_series=["series a"])
    assert joined(*IMAGES, *others, mask) == [("a.1", 0, "geometry")]


def test_of_two_series_at_one_place_that_of_the_same_grid() -> None:
    coarse = [image(k, "a", spacing_y=1.0, spacing_x=1.0) for k in range(4)]
    assert joined(*coarse, *IMAGES, segmentation([at(2.0)])) == [("i.1", 0, "geometry")]


def test_a_reference_to_another_plane_is_none() -> None:
    """One that names the first slice for all frames: where they lie tells more."""
    frames = [at(2.0 * k, referenced_sop_uid="i.0") for k in range(3)]
    assert [row[0] for row in joined(*IMAGES, segmentation(frames))] == ["i.0", "i.1", "i.2"]


def test_a_reference_to_what_is_not_there() -> None:
    frames = [at(2.0, referenced_sop_uid="gone.1")]
    assert joined(*IMAGES, segmentation(frames)) == [("i.1", 0, "geometry")]


def test_a_reference_alone_will_do() -> None:
    """Images of one plane: no position, no frame of reference."""
    bare: Row = {"position": None, "orientation": None, "frame_of_reference_uid": None}
    frames: list[Row] = [{"segment": 1, "referenced_sop_uid": "i.1"}]
    images = [image(k, **bare) for k in range(2)]
    assert joined(*images, segmentation(frames, **bare)) == [("i.1", 0, "reference")]
    assert joined(*images, segmentation(frames, **{**bare, "height": 8})) == [NOWHERE]


@pytest.mark.parametrize(
    "grid",
    [
        {"height": 8},
        {"spacing_x": 0.6},
        {"orientation": [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]},  # rows from right to left
        {"orientation": [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]},  # rows are columns
    ],
)
@pytest.mark.parametrize("reference", [None, "i.1"])
def test_another_grid_is_another_mask(grid: Row, reference: str | None) -> None:
    frames = [at(2.0, referenced_sop_uid=reference)]
    assert joined(*IMAGES, segmentation(frames, **grid)) == [NOWHERE]


@pytest.mark.parametrize(("mm", "same"), [(0.04, True), (0.06, False)])
def test_a_grid_may_lie_a_tenth_of_a_pixel_aside(mm: float, same: bool) -> None:
    frame = at(2.0) | {"position": [-10.0 + mm, -20.0, 2.0]}
    assert (joined(*IMAGES, segmentation([frame])) != [NOWHERE]) is same


def tile(row: int, column: int, **values: Any) -> Row:
    return {"matrix_row": row, "matrix_column": column, "segment": 1, **values}


def test_tiles_by_their_place() -> None:
    """Two levels of one slide, told apart by the spacing; a tile at another place has none."""
    places = [(0, 0), (0, 4), (4, 0)]
    levels = [
        image(k, position=None, frames=3, per_frame=[tile(*p) for p in places],
              spacing_y=0.001 * 4**k, spacing_x=0.001 * 4**k) for k in range(2)
    ]  # fmt: skip
    frames = [tile(4, 0), tile(0, 4), tile(4, 4)]
    mask = segmentation(frames, position=None, spacing_y=0.004, spacing_x=0.004)
    assert joined(*levels, mask) == [("i.1", 2, "geometry"), ("i.1", 1, "geometry"), NOWHERE]
    told = {**mask, "referenced_sop_uid": "i.1", "frame_of_reference_uid": None}
    assert joined(*levels, told)[0] == ("i.1", 2, "reference")


def test_masks_do_not_lie_on_doses_that_nothing_refers_to() -> None:
    dose = image(1, "d", kind="dose")
    assert joined(dose, segmentation([at(2.0)])) == [NOWHERE]
    told = segmentation([at(2.0, referenced_sop_uid="d.1")])
    assert joined(dose, told) == [("d.1", 0, "reference")]


def test_the_order_of_files_does_not_matter() -> None:
    rows = [*IMAGES, *(image(k, "a") for k in range(4)),
            segmentation([at(2.0), at(6.2), at(3.0)])]  # fmt: skip
    expected = [("a.1", 0, "geometry"), ("a.3", 0, "geometry"), NOWHERE]
    assert joined(*rows) == joined(*rows[::-1]) == expected


def test_more_images_at_one_place_than_any_series_has() -> None:
    """A mask of 1,100 moments that refers to none of them lies on each."""
    images = [image(1, f"m{k}", temporal_index=k, series_uid="m") for k in range(1100)]
    plan = plan_of([*images, segmentation([at(2.0)])], masks="planes")
    drawn = {f["image_sop_uid"] for f in frames_of(plan) if f["path"] == "seg.dcm"}
    assert drawn == {f"m{k}.1" for k in range(1100)}
    assert plan.rejects.num_rows == 0


def test_where_there_are_too_many_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom2cache.planning.masks.join._MOST", 2)
    monkeypatch.setattr("dicom2cache.planning.masks.join._PAIRS", 2)
    images = [image(1, f"m{k}", temporal_index=k, series_uid="m") for k in range(3)]
    plan = plan_of([*images, segmentation([at(2.0)])], masks="planes")
    drawn = [f["image_sop_uid"] for f in frames_of(plan) if f["path"] == "seg.dcm"]
    assert len(drawn) == 2
    (told,) = plan.rejects.to_pylist()
    assert (told["path"], told["frame"], told["outcome"]) == ("seg.dcm", None, "failed")
    assert told["reason"].startswith("frame 0: more images lie at the place of a mask than the 2")
