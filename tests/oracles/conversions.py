"""Volumes as other programs get them, held against their own reading of the same files.

`python -m tests.oracles.conversions`: each kind of series (series/) is exported to NIfTI, and
turned into SimpleITK's images; dcm2niix and SimpleITK's series reader read the same files. Where
values are the same, so must be where each voxel lies, b-values and directions. Resampling is held
to SimpleITK's, along the axes of the volume and on a grid turned about all of them. Exit status 1
if anything differs, or fewer volumes than AGREED could be compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from dicom2cache import Recipe, build
from tests.oracles.limits import dcm2niix_limit, read_headers, simpleitk_limit
from tests.oracles.pairs import DEGREES, MM
from tests.oracles.programs import Volume, by_dcm2niix, by_simpleitk
from tests.oracles.series import KINDS, Series, one_volume
from tests.oracles.series.written import CT
from trainer_adapter import Cache, SpatialImage, VolumeError, export, open_cache

AGREED = {
    "dcm2niix": 170,
    "SimpleITK": 18,
    "resampled by SimpleITK": 516,
    "directions": 42,
    "tilted": 2,
}
"""volumes that must be compared with each, at least"""


def canonical(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
    """(values (x, y, z, t), affine) of a NIfTI, its axes turned so that they point to RAS.

    None for one that has no third axis.
    """
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
    except nibabel.orientations.OrientationError:
        return None
    raw = np.asanyarray(image.dataobj)
    if raw.dtype.names:
        raw = np.stack([raw[n] for n in raw.dtype.names], axis=-1).sum(-1, dtype=np.float64)
    while raw.ndim < 4:
        raw = raw[..., None]
    return raw.astype(np.float64), image.affine


def directions(path: Path) -> dict[str, Any]:
    """b-values, and directions in RAS whatever the axes of the file, of .bval and .bvec."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    found: dict[str, Any] = {}
    if (bval := path.with_name(f"{stem}.bval")).exists():
        found["b"] = np.loadtxt(bval, ndmin=1)
    if (bvec := path.with_name(f"{stem}.bvec")).exists():
        affine = nibabel.load(path).affine[:3, :3]
        axes = affine / np.linalg.norm(affine, axis=0)
        vectors = np.loadtxt(bvec, ndmin=2).T
        found["g"] = (vectors * [-1, 1, 1] if np.linalg.det(affine) > 0 else vectors) @ axes.T
    return found


def off(one: NDArray[Any], other: NDArray[Any], shape: tuple[int, ...]) -> float:
    """mm between the corners of two grids of the same shape."""
    corners = np.array([[0, 0, 0, 1], [*(n - 1 for n in shape[:3]), 1], [shape[0] - 1, 0, 0, 1],
                        [0, shape[1] - 1, 0, 1]], float).T  # fmt: skip
    return float(np.abs((one - other) @ corners)[:3].max())


def loose(cache: Cache, stack: int) -> float:
    """mm by which slices lie elsewhere than one step at right angles says, all that others have."""
    one = cache.select(stack=stack)
    places = np.array(one.column("position").to_pylist())
    plane = np.array(one.column("orientation")[0].as_py())
    normal = np.cross(plane[:3], plane[3:])
    found = 0.0
    for way in (places, places[::-1]):
        step = (way[1] - way[0]) @ normal * normal
        found = max(found, np.abs(way - (way[0] + np.arange(len(way))[:, None] * step)).max())
    return found


def against_dcm2niix(
    cache: Cache, ours: list[Path], theirs: list[Path], counts: Counter[str]
) -> Iterator[str]:
    """What differs between files with the same voxels."""
    read = [(path, known) for path in theirs if (known := canonical(path)) is not None]
    for mine in ours:
        found = canonical(mine)
        assert found is not None, mine
        values, affine = found
        allowed = MM + loose(cache, int(mine.name.split("stack-")[1][:6]))
        for path, (other, place) in read:
            if other.shape[:3] != values.shape[:3]:
                continue
            pairs = [
                (t, u) for t in range(values.shape[3]) for u in range(other.shape[3])
                if np.allclose(values[..., t], other[..., u], rtol=1e-5, atol=1e-3)
            ]  # fmt: skip
            if not pairs:
                continue
            counts["dcm2niix"] += len(pairs)
            away = off(affine, place, values.shape) if _known(path) else 0.0
            if away > allowed:
                yield f"{mine.name}: {away:.4f} mm from where dcm2niix has it"
            told, their = directions(mine), directions(path)
            for t, u in pairs:
                if "b" in told and "b" in their and len(their["b"]) == other.shape[3]:
                    if abs(told["b"][t] - their["b"][u]) > 1:
                        yield f"{mine.name}: b is {told['b'][t]}, {their['b'][u]} for dcm2niix"
                    counts["b-values"] += 1
                if "g" in told and "g" in their and told["b"][t] > 0 and len(their["g"]) > u:
                    cosine = abs(float(told["g"][t] @ their["g"][u]))
                    if np.degrees(np.arccos(min(1.0, cosine))) > DEGREES:
                        yield f"{mine.name}: gradient {told['g'][t]}, {their['g'][u]} for dcm2niix"
                    counts["directions"] += 1


def _known(path: Path) -> bool:
    return bool(nibabel.load(path).header["sform_code"])


def against_simpleitk(cache: Cache, theirs: Volume, counts: Counter[str]) -> Iterator[str]:
    """What differs between to_sitk and SimpleITK's own reading, where the voxels are the same."""
    assert theirs.places is not None
    for stack in cache.stacks()["stack"].to_pylist():
        try:
            image = cache.to_sitk(stack)
        except VolumeError:
            continue
        values = SimpleITK.GetArrayFromImage(image).astype(np.float64)
        if values.shape != theirs.pixels.shape:
            continue
        for back in (False, True):
            if not np.allclose(values, theirs.pixels[::-1] if back else theirs.pixels):
                continue
            counts["SimpleITK"] += 1
            places = theirs.places[::-1] if back else theirs.places
            for k in (0, len(values) - 1):
                mine = np.array(image.TransformIndexToPhysicalPoint((0, 0, k)))
                away = np.abs(mine - places[k]).max()
                if away > MM + loose(cache, stack):
                    yield f"stack {stack}, slice {k}: {away:.4f} mm from where SimpleITK has it"
            direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
            for axis, along in ((0, theirs.along_row), (1, theirs.along_column)):
                if np.abs(direction[:, axis] - along).max() > MM:
                    yield f"stack {stack}: pixels are {direction[:, axis]} apart, {along} for it"
            break


def by_resampling(cache: Cache, counts: Counter[str]) -> Iterator[str]:
    """What differs between our resampling and SimpleITK's, with float64 there."""
    for stack in cache.stacks()["stack"].to_pylist()[:2]:
        try:
            image = cache.image(stack)
        except VolumeError:
            continue
        if len(image.voxels) < 2 or loose(cache, stack) > MM:
            continue
        z, y, x = image.spacing
        turned = turn(image)
        for name, mine in (
            ("finer", cache.resample(stack, (z / 2, y * 0.9, x * 0.7))),
            ("coarser", cache.resample(stack, (z * 1.3, y * 2.5, x * 2))),
            ("turned", cache.resample(stack, like=turned, across_spaces=True)),
            ("nearest", cache.resample(stack, like=turned, across_spaces=True,
                                       interpolation="nearest")),
        ):  # fmt: skip
            theirs = SimpleITK.Resample(
                SimpleITK.Cast(image.to_sitk(), SimpleITK.sitkFloat64), mine.to_sitk(),
                SimpleITK.Transform(),
                SimpleITK.sitkNearestNeighbor if name == "nearest" else SimpleITK.sitkLinear,
                float(mine.fill), SimpleITK.sitkFloat64,
            )  # fmt: skip
            wrong = np.abs(SimpleITK.GetArrayFromImage(theirs) - mine.voxels) > 0.5 + 1e-3
            counts["resampled by SimpleITK"] += 1
            if wrong.mean() > 1e-3:  # one that lies on the very edge may fall on either side
                yield f"stack {stack}, {name}: {wrong.mean():.2%} of the voxels differ"


def turn(image: SpatialImage) -> SpatialImage:
    """A grid that is turned about all axes, shifted, and larger than the volume."""
    a, b = np.radians(20), np.radians(-35)
    turned = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ (
        np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    )
    affine = np.eye(4)
    affine[:3, :3] = turned * 1.37
    middle = image.affine @ [*(n / 2 for n in image.voxels.shape[2::-1]), 1]
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ [14.2, 11.7, 9.1]
    return SpatialImage(np.zeros((19, 23, 29), np.int16), affine)


def tilted(folder: Path, scratch: Path, counts: Counter[str]) -> Iterator[str]:
    """A tilted CT whose values follow from the place in mm: made upright by us and by dcm2niix."""
    s, plane = Series(folder), one_volume.tilted_axial(12)
    y, x = np.indices((48, 40))
    for k in range(10):
        corner = np.array([-30, -30, -30 + 3.0 * k])
        place = corner + x[..., None] * np.array(plane[:3]) + y[..., None] * np.array(plane[3:])
        values = np.rint(place @ [3, -2, 5] + 1200).astype(np.uint16)
        s.file(f"{k}.dcm", values, **CT, ImageOrientationPatient=plane, GantryDetectorTilt=12,
               ImagePositionPatient=corner.tolist())  # fmt: skip
    build(folder, scratch / "cache", Recipe(), jobs=1)
    open_cache(scratch / "cache").resample(0).to_nifti(scratch / "ours.nii")
    (scratch / "nii").mkdir()
    program = Path(sys.executable).parent / "dcm2niix"
    subprocess.run([program, "-z", "n", "-f", "a", "-o", scratch / "nii", folder],
                   capture_output=True, check=True)  # fmt: skip
    found = [canonical(path) for path in (scratch / "ours.nii", scratch / "nii" / "a_Tilt_1.nii")]
    shapes, axes = [], []
    for who, read in zip(("we", "dcm2niix"), found, strict=True):
        assert read is not None
        values, affine = read
        at = np.einsum("ij,j...->i...", affine, np.stack([*np.indices(values.shape[:3]),
                                                          np.ones(values.shape[:3])]))  # fmt: skip
        off = values[..., 0] - (-3 * at[0] + 2 * at[1] + 5 * at[2] + 1200 - 1024)
        inner = off[:, 8:-8]  # beyond, some slices have nothing
        counts["tilted"] += 1
        if np.percentile(np.abs(inner), 99) > 1.5:
            yield f"upright, {who} are {np.percentile(np.abs(inner), 99):.1f} HU off"
        shapes.append(values.shape)
        axes.append(affine[:3, :3])
    if shapes[0] != shapes[1] or np.abs(axes[0] - axes[1]).max() > MM:
        yield f"upright, ours is {shapes[0]} {axes[0]}, dcm2niix's {shapes[1]} {axes[1]}"


def judge(folder: Path, scratch: Path, counts: Counter[str]) -> Iterator[str]:
    """What differs for one series."""
    build(folder, scratch / "cache", Recipe(monochrome1="keep"), jobs=1)
    cache = open_cache(scratch / "cache")
    export(cache, scratch / "out", jobs=1)
    series = read_headers(folder)
    if all(dcm2niix_limit(headers) is None for headers in series.values()):
        made = by_dcm2niix(folder, scratch / "nii")
        ours = sorted((scratch / "out").rglob("*.nii.gz"))
        theirs = [path for found in made.values() for path in found]
        yield from against_dcm2niix(cache, ours, theirs, counts)
    for headers in series.values():
        if simpleitk_limit(headers) is None:
            read = by_simpleitk(folder, [h.path for h in headers], scratch)
            if isinstance(read, Volume):
                yield from against_simpleitk(cache, read, counts)
    yield from by_resampling(cache, counts)


def main() -> int:
    """Compare, print, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", action="append", help="only this")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    counts, bad = Counter[str](), 0
    for kind in KINDS:
        if given.kind and kind.__name__ not in given.kind:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, kind.__name__)
            folder.mkdir()
            kind(Series(folder))
            before = Counter(counts)
            differs = list(judge(folder, Path(temporary), counts))
            bad += len(differs)
            print(f"{kind.__name__}: {dict(counts - before)}")
            for what in differs:
                print(f"    DIFFERS  {what}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "in")
        folder.mkdir()
        for what in tilted(folder, Path(temporary), counts):
            bad += 1
            print(f"    DIFFERS  tilted: {what}", flush=True)
    print(f"compared: {dict(counts)}; {bad} differences")
    few = [who for who, least in AGREED.items() if counts[who] < least and not given.kind]
    for who in few:
        print(f"{who}: {counts[who]} volumes, and should be {AGREED[who]} at least")
    return int(bad > 0 or bool(few))


if __name__ == "__main__":
    sys.exit(main())
