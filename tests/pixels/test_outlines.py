"""Contours to pixels: literal answers, exact arithmetic of its own, and shapes of known volume."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom2cache.pixels.outlines import OVERLAP, SUB_PIXEL, Outlines, Slices, draw, place
from tests.support.structures import box, circle

AXIAL = np.array([1.0, 0, 0, 0, 1, 0])


def slices(
    count: int = 1, size: int = 12, step: float = 3.0, spacing: float = 1.0, **other: Any
) -> Slices:
    """Axial images from z = 0 upwards, the first pixel's centre at x = y = 0."""
    positions = np.array([(0.0, 0.0, k * step) for k in range(count)])
    return Slices(positions, AXIAL, (spacing, spacing), (size, size), **other)


def drawn(*contours: Any, xor: bool = False, on: Slices | None = None) -> Any:
    """(pixels of the first image, its flags)."""
    found = draw(Outlines.of(contours, xor), on or slices(thickness=3.0))
    assert found.images.tolist() == [0]
    return found.pixels[0], found.flags[0]


def pixels_in(*boxes: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """An image of 12 x 12 with the pixels of (top, left, bottom, right) turned over."""
    image = np.zeros((12, 12), bool)
    for top, left, bottom, right in boxes:
        image[top:bottom, left:right] ^= True
    return image


def test_centres_on_the_lower_and_left_edge_are_inside() -> None:
    found, flags = drawn(box(2, 3, 5, 7))
    assert np.array_equal(found, pixels_in((3, 2, 7, 5)))
    assert flags == ()


def test_a_shared_edge_gives_its_centres_to_one_of_two() -> None:
    slanted = np.array([(0, 0), (11, 0), (3, 11)])
    other = np.array([(11, 0), (11, 11), (3, 11)])
    left, right = (drawn(np.insert(p, 2, 0, axis=1))[0] for p in (slanted, other))
    assert not (left & right).any()
    whole = drawn(np.insert(np.array([(0, 0), (11, 0), (11, 11), (3, 11)]), 2, 0, axis=1))[0]
    assert np.array_equal(left | right, whole)


@pytest.mark.parametrize("spacing", [0.7, 0.9765625, 1 / 3])
def test_decimals_of_mm_do_not_move_an_edge_off_the_centres(spacing: float) -> None:
    origin = np.array([-250.3, 117.7, 41.9])
    on = Slices(origin[None], AXIAL, (spacing, spacing), (64, 64), 2.0)
    corners = box(7, 9, 50, 61) * [spacing, spacing, 1] + origin
    said = np.array([float(f"{v:.10g}") for v in corners.ravel()]).reshape(-1, 3)
    expected = np.zeros((64, 64), bool)
    expected[9:61, 7:50] = True
    assert np.array_equal(drawn(said, on=on)[0], expected)


def exact(polygon: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Even-odd with low <= y < high and crossing <= x, in fractions."""
    image = np.zeros((size, size), bool)
    edges = list(zip(polygon.tolist(), np.roll(polygon, -1, axis=0).tolist(), strict=True))
    for y in range(size):
        for (x0, y0), (x1, y1) in edges:
            if min(y0, y1) <= y < max(y0, y1):
                at = x0 + Fraction((y - y0) * (x1 - x0), y1 - y0)
                image[y, max(0, -(-at.numerator // at.denominator)) :] ^= True
    return image


@pytest.mark.parametrize("seed", range(12))
def test_any_polygon_is_filled_as_exact_arithmetic_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    polygon = random.integers(-4, 20, (3 + 3 * seed, 2))
    points = np.insert(polygon, 2, 0, axis=1)
    found = draw(Outlines.of([points]), slices(size=16, thickness=3.0)).pixels[0]
    assert np.array_equal(found, exact(polygon, 16))


OUTER, HOLE, ISLAND = box(1, 1, 11, 11), box(3, 3, 9, 9), box(5, 5, 7, 7)
NESTED = pixels_in((1, 1, 11, 11), (3, 3, 9, 9), (5, 5, 7, 7))


@pytest.mark.parametrize("xor", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_nested_contours_alternate_with_depth_in_any_order(
    xor: bool, order: tuple[int, ...]
) -> None:
    contours = [(OUTER, HOLE, ISLAND)[k] for k in order]
    turned = [contours[0][::-1], *contours[1:]]  # the direction says nothing
    assert np.array_equal(drawn(*turned, xor=xor)[0], NESTED)
    assert drawn(*contours, xor=xor)[1] == ()


def test_contours_apart_are_islands() -> None:
    found, flags = drawn(box(1, 1, 4, 4), box(6, 6, 9, 11))
    assert np.array_equal(found, pixels_in((1, 1, 4, 4), (6, 6, 11, 9)))
    assert flags == ()


def test_contours_that_share_an_edge_are_islands() -> None:
    found, flags = drawn(box(1, 1, 4, 4), box(4, 1, 9, 4))
    assert np.array_equal(found, pixels_in((1, 1, 4, 9)))
    assert flags == ()


def test_partial_overlap_is_the_union_and_a_flag() -> None:
    found, flags = drawn(box(1, 1, 6, 6), box(4, 4, 10, 9))
    expected = pixels_in((1, 1, 6, 6)) | pixels_in((4, 4, 9, 10))
    assert np.array_equal(found, expected)
    assert flags == (OVERLAP,)


def test_a_cross_whose_corners_lie_outside_of_each_other_overlaps() -> None:
    found, flags = drawn(box(4, 1, 7, 11), box(1, 4, 11, 7))
    assert np.array_equal(found, pixels_in((1, 4, 11, 7)) | pixels_in((4, 1, 7, 11)))
    assert flags == (OVERLAP,)


def test_partial_overlap_under_xor_is_xor() -> None:
    found, flags = drawn(box(1, 1, 6, 6), box(4, 4, 10, 9), xor=True)
    assert np.array_equal(found, pixels_in((1, 1, 6, 6), (4, 4, 9, 10)))
    assert flags == ()


def test_the_same_contour_twice_does_not_vanish() -> None:
    found, flags = drawn(OUTER, OUTER[[2, 3, 0, 1]])
    assert np.array_equal(found, pixels_in((1, 1, 11, 11)))
    assert flags == (OVERLAP,)


def test_holes_that_overlap_are_one_hole_with_its_islands() -> None:
    found, flags = drawn(box(0, 0, 12, 12), box(2, 2, 7, 7), box(5, 5, 10, 10), box(3, 3, 4, 4))
    hole = pixels_in((2, 2, 7, 7)) | pixels_in((5, 5, 10, 10))
    hole[3:4, 3:4] = False
    assert np.array_equal(found, ~hole)
    assert flags == (OVERLAP,)


@pytest.mark.parametrize("out", [0.0, 0.004], ids=["on the edge", "rounded beyond it"])
def test_a_hole_that_touches_the_outer_contour_stays_a_hole(out: float) -> None:
    found, flags = drawn(box(1, 1, 11, 11), box(1 - out, 4, 6, 8))
    assert np.array_equal(found, pixels_in((1, 1, 11, 11), (4, 1, 8, 6)))
    assert flags == ()


@pytest.mark.parametrize("width", [0.0, 0.2])
@pytest.mark.parametrize("turned", [False, True])
def test_a_keyhole_leaves_its_hole_open(width: float, turned: bool) -> None:
    inner = [(4, 6 + width), (4, 8), (8, 8), (8, 4), (4, 4), (4, 6)]
    if turned:  # against the outer path: the channel crosses itself, parity holds
        inner = [(4, 6 + width), (4, 4), (8, 4), (8, 8), (4, 8), (4, 6)]
    path = [(1, 6), (1, 1), (11, 1), (11, 11), (1, 11), (1, 6 + width), *inner]
    found, _ = drawn(np.insert(np.array(path, float), 2, 0, axis=1))
    expected = pixels_in((1, 1, 11, 11), (4, 4, 8, 8))
    if width and not turned:
        expected[6, 1:4] = False  # these centres lie in the channel, below its upper edge
    assert (found != expected).sum() <= (3 if width else 0)
    assert not found[4:8, 4:8].any()


def test_what_is_outside_of_the_image_is_cut_off() -> None:
    found, _ = drawn(box(-50, -50, 4, 5))
    assert np.array_equal(found, pixels_in((0, 0, 5, 4)))
    assert np.array_equal(drawn(box(-1e9, -1e9, 1e9, 1e9))[0], np.ones((12, 12), bool))
    found, flags = drawn(box(-50, -50, -40, -40))
    assert not found.any()
    assert flags == ()


def test_a_structure_below_a_pixel_keeps_the_one_that_its_centre_is_in() -> None:
    found, flags = drawn(box(3.1, 4.2, 3.4, 4.4))
    assert np.argwhere(found).tolist() == [[4, 3]]
    assert flags == (SUB_PIXEL,)
    found, _ = drawn(box(3.5, 4.2, 3.9, 4.4), box(8.2, 8.2, 8.3, 8.3))  # the larger one
    assert np.argwhere(found).tolist() == [[4, 4]]
    found, flags = drawn(box(2, 2, 5, 5), box(8.2, 8.2, 8.3, 8.3))  # it has pixels elsewhere
    assert np.array_equal(found, pixels_in((2, 2, 5, 5)))
    assert flags == ()


@pytest.mark.parametrize(
    "points", [[(3, 3, 0)], [(3, 3, 0), (8, 9, 0)], [(2, 2, 0), (4, 4, 0), (9, 9, 0)]]
)
def test_points_and_lines_have_no_inside(points: Any) -> None:
    found, flags = drawn(np.array(points, float))
    assert not found.any()
    assert flags == ()


def test_a_contour_between_slices_goes_to_the_nearest_within_half_a_slice() -> None:
    on = slices(4, step=3.0)
    heights = (0.4, 4.4, 4.5, 9.0)  # of slices at 0, 3, 6, 9
    for z, image in zip(heights, (0, 1, 2, 3), strict=True):
        assert place(Outlines.of([box(1, 1, 5, 5, z)]), on).images.tolist() == [image], z
    found = place(Outlines.of([box(1, 1, 5, 5, z) for z in (-1.6, 3.0, 10.5, 40.0)]), on)
    assert found.images.tolist() == [1]
    assert found.beyond.tolist() == [0, 2, 3]


def test_of_contours_finer_than_the_slices_each_image_has_the_nearest() -> None:
    contours = [box(1, 1, 2 + k, 5, z) for k, z in enumerate((-1.0, 0.0, 1.0, 2.0, 3.0))]
    found = draw(Outlines.of(contours), slices(2, step=3.0))
    assert np.array_equal(found.pixels[0], pixels_in((1, 1, 5, 3)))
    assert np.array_equal(found.pixels[1], pixels_in((1, 1, 5, 6)))
    assert place(Outlines.of(contours), slices(2)).beyond.tolist() == []


def test_nothing_is_drawn_between_contours() -> None:
    found = place(Outlines.of([box(1, 1, 5, 5, z) for z in (0.0, 6.0, 12.0)]), slices(6, step=3.0))
    assert found.images.tolist() == [0, 2, 4]


def test_many_contours_that_overlap_take_no_memory_for_their_pairs() -> None:
    """1,500 have 1,124,250 pairs; an object for each would be 130 MB, of 20,000 all there is."""
    many = [box(0.2 + k / 1000, 0.2, 4.2 + k / 1000, 3.2) for k in range(1500)]
    tracemalloc.start()
    try:
        image, flags = drawn(*many)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (image == pixels_in((1, 1, 4, 6))).all()
    assert flags == (OVERLAP,)
    assert peak < 8_000_000


def test_a_slab_reaches_the_slices_in_it() -> None:
    outlines = Outlines.of([box(1, 1, 5, 5, 6.0), box(1, 1, 9, 9, 15.0)])
    slabs = Outlines(outlines.points, outlines.starts, outlines.xor, np.array([9.0, np.nan]))
    assert place(slabs, slices(8, step=3.0)).images.tolist() == [1, 2, 3, 5]
    moved = Outlines(slabs.points, slabs.starts, slabs.xor, slabs.slab,
                     np.array([[0.0, 0.0, 4.5], [0.0, 0.0, 0.0]]))  # fmt: skip
    found = draw(moved, slices(8, step=3.0))  # of 6 <= z < 15, and the other contour's own
    assert found.images.tolist() == [2, 3, 4, 5]
    assert found.pixels.sum(axis=(1, 2)).tolist() == [16, 16, 16, 64]


def test_contours_across_the_slices_are_not_drawn() -> None:
    upright = box(1, 1, 9, 9)[:, [0, 2, 1]]
    found = place(Outlines.of([upright, box(1, 1, 5, 5)]), slices(4, step=3.0))
    assert found.bent.tolist() == [0]
    assert [found.images.tolist(), [c.tolist() for c in found.contours]] == [[0], [[1]]]


def turned(axis: tuple[float, float, float], degrees: float) -> NDArray[np.float64]:
    """The rotation about an axis (Rodrigues)."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k)


ORIENTATIONS = {
    "sagittal": np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], float).T,
    "coronal": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float).T,
    "oblique": turned((1, 2, 0.5), 33.0),
    "upside down": turned((1, 0, 0), 180.0),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_other_planes_are_drawn_as_axial_ones(name: str) -> None:
    rotation, origin = ORIENTATIONS[name], np.array([-31.7, 12.9, 88.1])
    contours = [box(1, 1, 11, 9, z) for z in (0.0, 3.0, 6.0)] + [circle(5, 5, 3.05, 2.6, 31)]
    upright = slices(3, step=3.0)
    positions = upright.positions @ rotation.T + origin
    orientation = np.concatenate([rotation[:, 0], rotation[:, 1]])
    on = Slices(positions, orientation, upright.spacing, upright.shape)
    moved = [np.round(c @ rotation.T + origin, 7) for c in contours]
    found, expected = draw(Outlines.of(moved), on), draw(Outlines.of(contours), upright)
    assert found.images.tolist() == expected.images.tolist() == [0, 1, 2]
    assert np.array_equal(found.pixels, expected.pixels)
    assert expected.pixels[1].sum() < expected.pixels[0].sum()  # the circle is a hole


def test_a_tilted_gantry_moves_the_first_pixel() -> None:
    positions = np.array([(0.0, 2.0 * k, 3.0 * k) for k in range(3)])
    on = Slices(positions, AXIAL, (1.0, 1.0), (12, 12))
    found = draw(Outlines.of([box(4, 5, 8, 9, z) for z in (0.0, 3.0, 6.0)]), on)
    assert [np.argwhere(image)[0].tolist() for image in found.pixels] == [[5, 4], [3, 4], [1, 4]]


GRID, STEP = 0.9, 1.5
"""mm between pixels, and between slices, of the volumes below"""


def volumes(inside: Any, contours: Any) -> tuple[float, float]:
    """(Dice, volume drawn over volume) of a shape that both functions describe, z by z."""
    on = slices(60, 100, STEP, GRID)
    found = draw(Outlines.of([c for z in on.positions[:, 2] for c in contours(z)]), on)
    volume = np.zeros((60, 100, 100), bool)
    volume[found.images] = found.pixels
    z, y, x = np.meshgrid(
        on.positions[:, 2], *[np.arange(100) * GRID] * 2, indexing="ij", sparse=True
    )
    truth = inside(x, y, z)
    both = (volume & truth).sum()
    return 2 * both / (volume.sum() + truth.sum()), volume.sum() / truth.sum()


def disc(x: float, y: float, z: float, squared: float) -> list[NDArray[np.float64]]:
    return [circle(x, y, z, squared**0.5, 160)] if squared > 0 else []


def ball(at: tuple[float, float, float], radius: float) -> tuple[Any, Any]:
    x0, y0, z0 = at
    return (
        lambda x, y, z: (x - x0) ** 2 + (y - y0) ** 2 + (z - z0) ** 2 < radius**2,
        lambda z: disc(x0, y0, z, radius**2 - (z - z0) ** 2),
    )


def torus(z: float) -> list[NDArray[np.float64]]:
    """One that lies flat, its middle circle of 25 mm, its tube of 10 mm, at (45, 45, 44)."""
    squared = 100 - (z - 44) ** 2
    tube = max(squared, 0) ** 0.5
    return disc(45, 45, z, (squared > 0) * (25 + tube) ** 2) + disc(
        45, 45, z, (squared > 0) * (25 - tube) ** 2
    )


def in_torus(x: Any, y: Any, z: Any) -> Any:
    return (np.hypot(x - 45, y - 45) - 25) ** 2 + (z - 44) ** 2 < 100


OUT, IN = ball((45, 44, 44.3), 36), ball((45, 45, 45), 20)
LEFT, RIGHT = ball((26.1, 44, 44.3), 18), ball((62.1, 44, 44.3), 18)
SHAPES: dict[str, tuple[Any, Any]] = {
    "sphere": OUT,
    "torus": (in_torus, torus),
    "nested": (lambda *p: OUT[0](*p) & ~IN[0](*p), lambda z: OUT[1](z) + IN[1](z)),
    "touching": (lambda *p: LEFT[0](*p) | RIGHT[0](*p), lambda z: LEFT[1](z) + RIGHT[1](z)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_known_volume(name: str) -> None:
    dice, volume = volumes(*SHAPES[name])
    assert dice >= 0.99
    assert abs(volume - 1) <= 0.01
