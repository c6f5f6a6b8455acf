"""One volume against another: the same slices in the same order, at the same place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tests.oracles.programs import Volume

MM = 2e-3  # of places and pixels: dcm2niix holds them in float32
DEGREES = 0.5  # of directions of diffusion, which .bvec rounds
UNKNOWN = "ours is not known"
UPRIGHT = 0.01  # degrees of tilt that no place shows


def same(ours: Volume, theirs: Volume) -> bool | None:
    """True if the slices are equal the other way round, False if as they are, else None."""
    if ours.pixels.shape != theirs.pixels.shape:
        return None
    ours_marks, marks = ours.marks, theirs.marks
    for back in (False, True):
        if _close(ours_marks, marks[::-1] if back else marks):
            there = theirs.pixels[::-1] if back else theirs.pixels
            # Without a position dcm2niix leaves the rows as they are.
            for turned in (False, True) if theirs.places is None else (False,):
                if _close(ours.pixels, there[:, ::-1] if turned else there):
                    return back
    return None


def _close(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-3))


def slices(volume: Volume) -> list[tuple[float, ...]]:
    """Each slice as numbers that two programs round alike."""
    return [tuple(float(f"{x:.5g}") for x in mark) for mark in volume.marks]


def geometry(ours: Volume, theirs: Volume, back: bool) -> Iterator[str]:
    """In what the two disagree about where the slices lie; `back`: theirs begins at our end."""
    uneven = 0.0
    if ours.places is not None and len(ours.places) > 1:
        steps = np.linalg.norm(np.diff(ours.places, axis=0), axis=1)
        uneven = float(np.abs(steps - np.median(steps)).max())
    yield from _geometry(ours, theirs, back, uneven)
    if ours.affine is not None:
        places = [(ours.affine @ [0, 0, k, 1])[:3] for k in range(len(ours.pixels))]
        along = {"along_row": ours.affine[:3, 0], "along_column": ours.affine[:3, 1]}
        placed = replace(ours, places=np.array(places), **along)
        yield from (f"by the affine {what}" for what in _geometry(placed, theirs, back, uneven))


def _geometry(ours: Volume, theirs: Volume, back: bool, uneven: float) -> Iterator[str]:
    if theirs.places is None:
        return
    assert theirs.along_row is not None
    assert theirs.along_column is not None
    if ours.places is None or ours.along_row is None or ours.along_column is None:
        yield "it knows where the slices lie, we do not"
        return
    for what, a, b in (
        ("along a row", ours.along_row, theirs.along_row),
        ("along a column", ours.along_column, theirs.along_column),
    ):
        if np.abs(a - b).max() > MM:
            yield f"a pixel further {what} is {text(a)} mm for us, {text(b)} for it"
    places = theirs.places[::-1] if back else theirs.places
    expected = ours.places
    if ours.regular is False:  # one step for all slices cannot say where uneven ones lie
        anchor = -1 if back else 0
        expected, places = expected[[anchor]], places[[anchor]]
    elif tilt(ours) > UPRIGHT:
        anchor = -1 if back else 0
        way = ours.places[-1] - ours.places[0]
        if theirs.program == "dcm2niix" and abs(way[2]) < 0.999 * np.linalg.norm(way):
            # It takes a tilt for one about the patient's left-right axis.
            expected, places = expected[[anchor]], places[[anchor]]
        else:
            ways = _without_shear(ours, theirs.program, anchor)
            expected = min(ways, key=lambda way: np.abs(way - places).max())
    away = np.arange(len(expected))[:: -1 if back else 1]  # they count their one step from there
    off = np.abs(expected - places).max(1) - (MM + (2 * uneven + 1e-4) * away)
    if off.max() > 0:
        k = int(off.argmax())
        yield f"slice {k} lies at {text(expected[k])} for us, at {text(places[k])} for it"


def _without_shear(ours: Volume, program: str, anchor: int) -> list[Any]:
    """Where a program that knows no shear may put the slices of a tilted stack, from ours."""
    assert ours.places is not None
    way = ours.places - ours.places[anchor]
    normal = np.cross(ours.along_row, ours.along_column)
    normal /= np.linalg.norm(normal)
    up = np.sign(way @ normal)[:, None]
    # Along the normal, by the distance along the way; dcm2niix also the other way round.
    found = [ours.places[anchor] + up * np.linalg.norm(way, axis=1)[:, None] * normal]
    if program == "dcm2niix":
        found.append(ours.places[anchor] + way * np.cos(np.radians(tilt(ours))))
    return found


def tilt(volume: Volume) -> float:
    """Degrees between the way from the first slice to the last and the normal."""
    if volume.places is None or volume.along_row is None or len(volume.places) < 2:
        return 0.0
    normal = np.cross(volume.along_row, volume.along_column)
    way = volume.places[-1] - volume.places[0]
    length = np.linalg.norm(normal) * np.linalg.norm(way)
    return float(np.degrees(np.arccos(min(1.0, abs(normal @ way) / length)))) if length else 0.0


def diffusion(ours: Volume, theirs: Volume) -> Iterator[str]:
    """In what the two disagree about b-value and direction."""
    if theirs.b is None:
        return
    if ours.b is None or abs(ours.b - theirs.b) > 0.5:
        yield f"b is {ours.b} for us, {theirs.b:g} for it"
    if theirs.gradient is None or theirs.b == 0 or not np.any(theirs.gradient):
        return
    if ours.gradient is None:
        yield f"its direction is {text(theirs.gradient)}, {UNKNOWN}"
        return
    cosine = float(ours.gradient @ theirs.gradient / np.linalg.norm(theirs.gradient))
    if cosine < np.cos(np.radians(DEGREES)):
        yield f"the direction is {text(ours.gradient)} for us, {text(theirs.gradient)} for it"


def text(vector: Any) -> str:
    """(1, 0, 0)"""
    return "(" + ", ".join(f"{v + 0.0:.4g}" for v in vector) + ")"
