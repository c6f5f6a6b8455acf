"""How far planes of masks reach between the slices of their images."""

from __future__ import annotations

from typing import Any

import pytest

from tests.planning.test_mask_join import at, image, segmentation
from tests.support.plans import frames_of, plan_of

FINE = [image(k, position=[-10.0, -20.0, float(k)], thickness=1.0) for k in range(11)]
"""slices of 1 mm, 1 mm apart"""


def reaches(frames: list[dict[str, Any]], images: Any = FINE, **options: Any) -> list[float | None]:
    """mm of each frame of a segmentation, in their order."""
    found = frames_of(plan_of([*images, segmentation(frames)], **options))
    return [f["mask_reach"] for f in found if f["path"] == "seg.dcm"]


@pytest.mark.parametrize("masks", ["none", "labelmap", "planes"])
def test_thick_planes_reach_half_of_their_thickness(masks: str) -> None:
    frames = [at(z, thickness=5.0) for z in (0.0, 5.0, 10.0)]
    assert reaches(frames, masks=masks) == [2.5, 2.5, 2.5]
    assert reaches(frames[1:2], masks=masks) == [2.5]
    assert reaches([at(z, thickness=5.0) for z in (0.0, 10.0)], masks=masks) == [2.5, 2.5]


def test_planes_of_the_images_reach_no_other() -> None:
    """What is left out between them, as highdicom does with empty ones, is empty."""
    assert reaches([at(z, thickness=1.0) for z in (0.0, 5.0, 10.0)]) == [None] * 3
    assert reaches([at(0.0, thickness=1.0)]) == [None]


def test_a_step_that_is_said_is_believed() -> None:
    frames = [at(z, thickness=1.0, plane_step=5.0) for z in (0.0, 5.0)]
    assert reaches(frames) == [2.5, 2.5]
    assert reaches([at(z, thickness=5.0, plane_step=1.0) for z in (0.0, 5.0)]) == [None, None]


def test_without_a_thickness_steps_that_come_twice_tell() -> None:
    assert reaches([at(z) for z in (0.0, 3.0, 6.0)]) == [1.5, 1.5, 1.5]
    assert reaches([at(z) for z in (0.0, 3.0, 7.0)]) == [None] * 3
    pieces = (0.0, 2.0, 4.0, 8.0, 10.0)  # of which one slice more is left out
    assert reaches([at(z) for z in pieces]) == [1.0] * 5
    assert reaches([at(z) for z in (0.0, 1.0, 2.0, 6.0, 7.0)]) == [None] * 5
    assert reaches([at(z) for z in (0.0, 3.0)]) == [None] * 2
    assert reaches([at(z) for z in (2.0, 3.0, 4.0)]) == [None] * 3
    two = [at(z, segment=s) for s, zs in ((1, (0.0, 4.0)), (2, (2.0, 6.0))) for z in zs]
    assert reaches(two) == [1.0] * 4


def test_thick_slices_that_overlap_are_those_of_their_mask() -> None:
    images = [image(k, position=[-10.0, -20.0, 1.25 * k], thickness=5.0) for k in range(8)]
    assert reaches([at(1.25 * k, thickness=5.0) for k in (2, 3)], images) == [None, None]
    assert reaches([at(2.5, thickness=5.0)], images) == [None]


def test_where_a_plane_lies_on_no_image_the_next_reaches_as_far_again() -> None:
    """Planes of 3 mm on slices of 2 mm: that at 3 mm is on none, and reaches those at 2 and 4."""
    images = [image(k, thickness=2.0) for k in range(4)]
    found = reaches([at(z, thickness=3.0) for z in (0.0, 3.0, 6.0)], images)
    assert found == [3.0, None, 3.0]


def test_slices_that_are_drawn_are_known() -> None:
    """With mask_grid = image each slice that a plane reaches has a row of its own."""
    frames = [at(z, thickness=5.0) for z in (0.0, 5.0)]
    found = frames_of(plan_of([*FINE, segmentation(frames)], masks="labelmap", mask_grid="image"))
    rows = [(f["position"][2], f["mask_reach"]) for f in found if f["path"] == "seg.dcm"]
    assert [z for z, _ in rows] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert [reach for z, reach in rows if z not in (0.0, 5.0)] == [None] * 6


def drawn_on(frames: list[dict[str, Any]], images: Any = FINE) -> list[tuple[str, int, str]]:
    """(image, frame, how) of each row that is drawn with mask_grid = image."""
    found = frames_of(plan_of([*images, segmentation(frames)], masks="planes", mask_grid="image"))
    rows = [f for f in found if f["path"] == "seg.dcm"]
    rows.sort(key=lambda f: (f["position"][2], f["image_sop_uid"]))
    return [(f["image_sop_uid"], f["frame"], f["image_by"]) for f in rows]


def test_a_reference_to_one_slice_does_not_keep_a_thick_plane_from_the_others() -> None:
    """Of its series only; a slice that a plane refers to has that one."""
    other = [image(k, "o", position=[-10.0, -20.0, float(k)], thickness=1.0) for k in range(4)]
    frames = [at(3.0, thickness=3.0, referenced_sop_uid="i.3"),
              at(5.0, thickness=3.0, referenced_sop_uid="i.5")]  # fmt: skip
    assert drawn_on(frames, [*FINE, *other]) == [
        ("i.2", 0, "resampled"), ("i.3", 0, "reference"), ("i.4", 0, "resampled"),
        ("i.5", 1, "reference"), ("i.6", 1, "resampled"),
    ]  # fmt: skip


def test_planes_of_overlapping_slices_are_not_drawn_on_their_neighbours() -> None:
    images = [image(k, position=[-10.0, -20.0, 1.25 * k], thickness=5.0) for k in range(8)]
    assert drawn_on([at(2.5, thickness=5.0)], images) == [("i.2", 0, "geometry")]
    referring = [at(2.5, thickness=5.0, referenced_sop_uid="i.2")]
    assert drawn_on(referring, images) == [("i.2", 0, "reference")]
