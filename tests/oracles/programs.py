"""Volumes of a folder as dcm2niix, SimpleITK and dicom2cache make them, by series."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dicom2cache import Recipe, build
from trainer_adapter import Cache, open_cache

Frame = tuple[str, int]
"""(path below the folder, number of the frame in it, or of the slice in a mosaic)"""


@dataclass(eq=False)
class Volume:
    """Frames in order, and where they lie in LPS, mm."""

    program: str
    name: str
    pixels: NDArray[Any]
    """(d, H, W) or (d, H, W, 3), rows from the top, first slice as the program has it"""
    places: NDArray[np.float64] | None = None
    """(d, 3): centre of the first pixel of each; None: unknown"""
    along_row: NDArray[np.float64] | None = None
    """(3,): from a pixel to the next one in its row"""
    along_column: NDArray[np.float64] | None = None
    group: str = ""
    """what the program takes for one series of volumes"""
    order: int = 0
    """place in the group"""
    b: float | None = None
    gradient: NDArray[np.float64] | None = None
    """(3,) unit vector in LPS; zeros where b is 0"""
    frames: list[Frame] = field(default_factory=list)
    regular: bool | None = None
    flags: frozenset[str] = frozenset()
    affine: NDArray[np.float64] | None = None
    """(4, 4): from (column, row, slice, 1) to LPS; ours, of what is regular and has a place"""

    @cached_property
    def marks(self) -> NDArray[np.float64]:
        """(d, 3): numbers that tell slices apart, the same upside down."""
        flat = np.asarray(self.pixels, np.float64)
        ramp = np.arange(1, flat.shape[2] + 1, dtype=np.float64) / flat.shape[2]
        columns = flat.reshape(*flat.shape[:3], -1).sum((1, 3))
        return np.stack([columns.mean(1), columns @ ramp, (flat**2).sum((1, 2)).reshape(
            len(flat), -1).sum(1)], axis=1)  # fmt: skip


def by_dcm2niix(folder: Path, out: Path) -> dict[str, list[Path]]:
    """{series UID: NIfTI}, without what it resamples (tilt, uneven steps), and overlays."""
    out.mkdir()
    program = Path(sys.executable).parent / "dcm2niix"
    # Series apart (m n), no rotation of 3D acquisitions (x i).
    flags = ["-z", "n", "-b", "n", "-m", "n", "-x", "i", "-d", "9"]
    done = subprocess.run(
        [program, *flags, "-f", "%j_s%s", "-o", out, folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(out.rglob("*.nii")):
        series, _, rest = path.stem.partition("_s")
        if not any(mark in rest for mark in ("_Tilt", "_Eq", "_ROI")):
            found[series].append(path)
    if done.returncode and not found:
        print(f"dcm2niix made nothing of {folder}: {(done.stdout + done.stderr).strip()[-300:]}")
    return found


def volumes_of(path: Path) -> Iterator[Volume]:
    """The volumes of a NIfTI that dcm2niix has written."""
    image, name = nibabel.load(path), path.stem.partition("_s")[2]
    raw = np.asanyarray(image.dataobj)
    if raw.dtype.names:  # RGB24
        raw = np.stack([raw[n] for n in raw.dtype.names], axis=-1)
        colour = True
    else:
        raw, colour = raw.astype(np.float64), False
    while raw.ndim - colour < 4:
        raw = np.expand_dims(raw, raw.ndim - colour)
    _, rows, count, times = raw.shape[:4]
    known = bool(image.header["sform_code"])
    affine = np.diag([-1.0, -1, 1, 1]) @ image.affine
    # Voxel (i, j, k) is column i, row rows - 1 - j of slice k.
    places = np.stack([(affine @ [0, rows - 1, k, 1])[:3] for k in range(count)])
    b, gradients = _diffusion(path, affine)
    for t in range(times):
        yield Volume(
            "dcm2niix", f"{name}[{t}]", np.moveaxis(raw[:, ::-1, :, t], (2, 1, 0), (0, 1, 2)),
            places if known else None, affine[:3, 0], -affine[:3, 1], name, t,
            b[t] if b is not None and len(b) == times else None,
            gradients[t] if gradients is not None and len(gradients) == times else None,
        )  # fmt: skip


def _diffusion(path: Path, affine: Any) -> tuple[Any, Any]:
    """b-values, and directions from FSL's axes to LPS: (n,), (n, 3)."""
    if not path.with_suffix(".bval").exists():
        return None, None
    b = np.loadtxt(path.with_suffix(".bval"), ndmin=1)
    if not path.with_suffix(".bvec").exists():
        return b, None
    vectors = np.loadtxt(path.with_suffix(".bvec"), ndmin=2).T
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # FSL's x runs backwards where the image's axes (in RAS, as in LPS) are right-handed.
    if np.linalg.det(affine[:3, :3]) > 0:
        vectors = vectors * [-1, 1, 1]
    return b, vectors @ axes.T


def by_simpleitk(folder: Path, files: list[str], scratch: Path) -> Volume | str:
    """The one volume that its series reader makes of these files of a series; or why not."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory(dir=scratch) as apart:
        names = {}
        for k, name in enumerate(files):
            os.symlink(folder / name, Path(apart, f"{k}.dcm"))
            names[f"{k}.dcm"] = name
        reader = SimpleITK.ImageSeriesReader()
        series = reader.GetGDCMSeriesIDs(apart)
        if len(series) != 1:
            return f"takes this for {len(series)} series"
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(apart, series[0]))
        reader.MetaDataDictionaryArrayUpdateOn()
        try:
            image = reader.Execute()
        except RuntimeError as e:
            return str(e).strip().splitlines()[-1][:100]
        ordered = [names[Path(n).name] for n in reader.GetFileNames()]
    if image.GetDimension() != 3:
        return "reads multi-frame files as volumes, and stacks these"
    pixels = SimpleITK.GetArrayFromImage(image)
    origin, spacing = np.array(image.GetOrigin()), np.array(image.GetSpacing())
    axes = np.array(image.GetDirection()).reshape(3, 3) * spacing
    places = origin + np.arange(len(pixels))[:, None] * axes[:, 2]
    return Volume(
        "SimpleITK", "1", pixels, places, axes[:, 0], axes[:, 1], frames=[(n, 0) for n in ordered]
    )


COLUMNS = (
    "series_uid", "stack", "stack_index", "stack_regular", "stack_flags", "stack_of", "part",
    "path", "frame", "part_of_frame", "position", "orientation", "spacing_y", "spacing_x",
    "b_value", "gradient",
)  # fmt: skip


def _text(value: Any) -> str:
    return "" if value is None else str(value)


class Ours:
    """A cache of the folder, its stacks read a series at a time."""

    def __init__(self, folder: Path, cache: Path, jobs: int) -> None:
        build(folder, cache, Recipe(monochrome1="keep"), jobs=jobs)
        self.cache: Cache = open_cache(cache)
        there = set(self.cache.frames.column_names)
        self.columns = {n: self.cache.column(n).to_pylist() for n in COLUMNS if n in there}
        failures = [pq.read_table(p).to_pylist() for p in (cache / "failures").glob("*.parquet")]
        self._failures = {row["path"]: row["reason"] for rows in failures for row in rows}
        self.by_series: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for k, (series, stack) in enumerate(
            zip(self.columns["series_uid"], self.columns["stack"], strict=True)
        ):
            self.by_series[series or ""][stack].append(k)

    def frame(self, k: int) -> Frame:
        """Path and number of a frame."""
        number = self.columns["frame"][k] or self._said("part_of_frame", k) or 0
        return self.columns["path"][k], number

    def not_stored(self, paths: Iterable[str]) -> str:
        """How many of these files are not stored, and why the first is not."""
        reasons = [self._failures[p] for p in paths if p in self._failures]
        return f"; {len(reasons)} files not stored: {reasons[0]}" if reasons else ""

    def _said(self, name: str, k: int) -> Any:
        return self.columns[name][k] if name in self.columns else None

    def volumes(self, series: str) -> list[Volume]:
        """The stacks of a series."""
        found = []
        for stack, rows in sorted(self.by_series.get(series, {}).items()):
            rows.sort(key=lambda k: self.columns["stack_index"][k])
            first = rows[0]
            places = [self.columns["position"][k] for k in rows]
            turn, pitch = self.columns["orientation"][first], self.columns["spacing_x"][first]
            known = turn is not None and pitch is not None
            gradient = self._said("gradient", first)
            regular = self.columns["stack_regular"][first]
            pixels = np.stack([np.asarray(self.cache[k]) for k in rows])
            if regular:
                assert np.array_equal(pixels, self.cache.volume(stack, sheared=True))
            found.append(Volume(
                "dicom2cache", f"stack {stack}",
                pixels,
                np.array(places) if all(places) else None,
                np.array(turn[:3]) * pitch if known else None,
                np.array(turn[3:]) * self.columns["spacing_y"][first] if known else None,
                _text(self._said("stack_of", first)), self._said("part", first) or 0,
                self.columns["b_value"][first],
                None if gradient is None else np.array(gradient),
                [self.frame(k) for k in rows], regular,
                frozenset(self._said("stack_flags", first) or ()),
                self.cache.affine(stack) if regular and known and all(places) else None,
            ))  # fmt: skip
        return found
