"""Structures as this program draws them held against plastimatch.

`python -m tests.oracles.structures`: shapes of at least 30 pixels, and whatever of them is nested,
touches, has a keyhole or lies between slices, in planes of a cache and in the masks of `plastimatch
convert --xor-contours` (its default fills holes). Exit status 1 if a Dice coefficient is below 0.99
or a volume differs by more than 1%. It is none for CLOSEDPLANAR_XOR, which it drops, nor for
contours that overlap in part, which it takes for XOR.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from dicom2cache import Recipe, build
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from tests.support.structures import box, circle, contour, write_structures
from trainer_adapter import open_cache

SIDE, SLICES, STEP, SPACING, ORIGIN = 96, 40, 2.5, 0.9, (-41.3, 17.9, -30.0)
DICE, VOLUME = 0.99, 0.01
Contours = list[NDArray[np.float64]]


def ball(x: float, y: float, z: float, radius: float) -> Callable[[float], Contours]:
    """Its contour at a height, in mm from the first pixel."""

    def at(height: float) -> Contours:
        squared = radius**2 - (height - z) ** 2
        return [circle(x, y, height, squared**0.5, 180)] if squared > 0 else []

    return at


def torus(height: float) -> Contours:
    """One that lies flat: a hole in each of its slices."""
    squared = 12.0**2 - (height - 50) ** 2
    if squared <= 0:
        return []
    tube: float = squared**0.5
    return [circle(43, 43, height, 25 + tube, 200), circle(43, 43, height, 25 - tube, 120)]


def keyhole(height: float) -> Contours:
    """A ring as one path, with a channel of no width."""
    outer, inner = circle(43, 43, height, 33, 160), circle(43, 43, height, 17, 90)
    return [np.concatenate([outer, outer[:1], inner[::-1], inner[-1:]])]


def boxes(height: float) -> Contours:
    """Two that share an edge; none on pixel centres, where plastimatch has a rule of its own."""
    return [box(8.4, 9.2, 40.05, 50, height), box(40.05, 9.2, 80.3, 50, height)]


def shapes() -> dict[str, list[NDArray[np.float64]]]:
    """Contours by name, on the slices; `between` a third of a step above them."""
    heights = [k * STEP for k in range(SLICES)]
    made: dict[str, Callable[[float], Contours]] = {
        "sphere": ball(43, 41.5, 50, 37),
        "torus": torus,
        "nested": lambda z: [
            c for r in (38, 28, 16) for c in ball(43, 43, 50, float(r))(z)
        ],
        "touching": lambda z: ball(22.5, 43, 50, 18)(z) + ball(58.5, 43, 50, 18)(z),
        "keyhole": keyhole,
        "boxes": boxes,
    }  # fmt: skip
    found = {name: [c for z in heights for c in of(z)] for name, of in made.items()}
    up = STEP / 3
    found["between"] = [c for z in heights for c in ball(43, 43, 50, 36)(z + up)]
    return found


def write(folder: Path) -> tuple[Path, Path]:
    """(folder of the series, structure set)."""
    for k in range(SLICES):
        x, y, z = ORIGIN
        write_dicom(
            folder / "ct" / f"{k:03}.dcm", np.full((SIDE, SIDE), k, np.int16),
            SOPClassUID=CT_IMAGE, Modality="CT", InstanceNumber=k + 1,
            RescaleSlope=1, RescaleIntercept=0, SliceThickness=STEP,
            FrameOfReferenceUID=uid("frame of reference"), PixelSpacing=[SPACING, SPACING],
            ImagePositionPatient=[x, y, z + k * STEP], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )  # fmt: skip
    said = [(name, [contour(c + ORIGIN) for c in of]) for name, of in shapes().items()]
    return folder / "ct", write_structures(folder / "rt.dcm", said)


def by_plastimatch(series: Path, structure_set: Path, out: Path) -> dict[str, NDArray[np.bool_]]:
    """{structure: (slices, rows, columns)}."""
    program = Path(sys.executable).parent / "plastimatch"
    subprocess.run(
        [
            program if program.exists() else "plastimatch", "convert", "--input", structure_set,
            "--referenced-ct", series, "--output-prefix", out, "--prefix-format", "mha",
            "--xor-contours",
        ],
        capture_output=True, check=True,
    )  # fmt: skip
    return {
        path.stem: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) != 0
        for path in out.glob("*.mha")
    }


def ours(folder: Path, cache: Path) -> dict[str, NDArray[np.bool_]]:
    """The same of the planes of a cache."""
    build(folder, cache, Recipe(masks="planes"), jobs=1)
    masks = open_cache(cache).select(kind="mask")
    found: dict[str, NDArray[np.bool_]] = {}
    rows: list[dict[str, Any]] = masks.frames.to_pylist()
    for k, row in enumerate(rows):
        volume = found.setdefault(row["segment_label"], np.zeros((SLICES, SIDE, SIDE), bool))
        volume[round((row["position"][2] - ORIGIN[2]) / STEP)] = masks[k] != 0
    return found


def main() -> int:
    """A line for each structure."""
    with tempfile.TemporaryDirectory(prefix="structures-") as name:
        folder = Path(name)
        series, structure_set = write(folder / "in")
        theirs = by_plastimatch(series, structure_set, folder / "plastimatch")
        mine = ours(folder / "in", folder / "cache")
        shutil.rmtree(folder / "in")
    failed = 0
    for name in shapes():
        a, b = mine.get(name), theirs.get(name)
        if a is None or b is None:
            print(f"{name}: not drawn by {'us' if a is None else 'plastimatch'}")
            failed += 1
            continue
        dice = 2 * (a & b).sum() / (a.sum() + b.sum())
        volume = a.sum() / b.sum()
        right = dice >= DICE and abs(volume - 1) <= VOLUME
        failed += not right
        print(
            f"{name}: {a.sum()} pixels, {(a != b).sum()} differ from plastimatch's, Dice "
            f"{dice:.5f}, volume {volume:.5f}{'' if right else '  WRONG'}"
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
