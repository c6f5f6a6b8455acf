"""Mosaics held against nibabel, and the places of slide tiles against highdicom.

`python -m tests.oracles.tiles`: nibabel cuts mosaics, and the real ones that it brings; highdicom
says where each frame of a TILED_FULL image lies. Exit status 1 if anything differs. Nobody judges
CSA headers of version 1: dcm2niix does not read them, and nibabel stops at the first tag.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom2cache import Recipe, build
from tests.support.dicom_files import pattern, write_dicom
from tests.support.siemens import write_mosaic
from trainer_adapter import open_cache

REAL = ("siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz")
"""whole mosaics among nibabel's own files: others have no pixels, or were shrunk to a size that
7 x 7 tiles do not divide"""
MM = 1e-3
SLIDE, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.840.10008.5.1.4.1.1.66.4"


def _stored(source: Path, cache: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """(row of frames/, pixels) of each frame of a file."""
    build(source, cache, Recipe(), jobs=1)
    opened = open_cache(cache)
    for k, row in enumerate(opened.frames.to_pylist()):
        yield row, opened[k]


def mosaics(folder: Path) -> Iterator[Path]:
    """Mosaics that are written here, and real ones."""
    axial, sagittal, oblique = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0.8, -0.6]
    for name, count, cosines, normal in (
        ("axial", 9, axial, (0, 0, 1)),
        ("sagittal", 5, sagittal, (1, 0, 0)),
        ("oblique", 17, oblique, (0, 0.6, 0.8)),
    ):
        yield write_mosaic(
            folder / f"{name}.dcm", pattern(name, (count, 12, 16)), cosines, normal,
            csa_tags=[("AcquisitionMatrixText", "SH", 1, ["12*16"])],
        )  # fmt: skip
    brought = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"
    for name in REAL:
        data = (brought / name).read_bytes()
        path = folder / name.removesuffix(".gz")
        path.write_bytes(gzip.decompress(data))
        yield path


def mosaic_differs(path: Path, cache: Path) -> str | None:
    """In what nibabel's volume of a mosaic is not ours; None: in nothing."""
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    found = {row["part_of_frame"]: (row, pixels) for row, pixels in _stored(path, cache)}
    theirs = wrapper_from_file(path, force=True)
    count = theirs.n_mosaic
    if len(found) != count:
        return f"{count} slices for it, {len(found)} for us"
    volume = np.stack([pixels for _, (_, pixels) in sorted(found.items())])
    data = np.asarray(theirs.get_data()).transpose(2, 0, 1)  # it has (row, column, slice)
    if not np.array_equal(volume, data):
        return "other pixels"
    for k, (row, _) in found.items():
        place = (theirs.affine @ [0, 0, k, 1])[:3]
        if np.abs(place - row["position"]).max() > MM:
            return f"slice {k} lies at {place} for it, at {row['position']} for us"
    return None


def slides(folder: Path) -> Iterator[Path]:
    """TILED_FULL images: edges that hang over, focal planes, optical paths, segments."""
    for name, frames, total, planes, paths in (
        ("one", 12, (10, 20), 1, ["1"]),
        ("planes", 2 * 3 * 4, (8, 13), 4, ["1"]),
        ("paths", 2 * 2 * 2 * 3, (7, 12), 2, ["red", "blue", "green"]),
    ):
        yield write_dicom(
            folder / f"{name}.dcm", pattern(name, (frames, 4, 6, 3), "uint8", 256),
            **_slide(total, planes), SOPClassUID=SLIDE, Modality="SM",
            ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], NumberOfOpticalPaths=len(paths),
            OpticalPathSequence=[_item(OpticalPathIdentifier=p) for p in paths],
        )  # fmt: skip
    segments = [_item(SegmentNumber=n, SegmentLabel=f"label {n}") for n in (1, 2, 3)]
    yield write_dicom(
        folder / "segments.dcm", pattern("segments", (2 * 2 * 3, 4, 6), "uint8", 2),
        **_slide((7, 12), 1), SOPClassUID=SEGMENTATION, Modality="SEG",
        SegmentationType="FRACTIONAL", MaximumFractionalValue=1, SegmentSequence=segments,
        ImageType=["DERIVED", "PRIMARY"],
    )  # fmt: skip


def _slide(total: tuple[int, int], planes: int) -> dict[str, Any]:
    measures = _item(PixelSpacing=[0.5, 0.25], SliceThickness=0.001, SpacingBetweenSlices=0.003)
    origin = _item(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)
    return {
        "DimensionOrganizationType": "TILED_FULL", "TotalPixelMatrixRows": total[0],
        "TotalPixelMatrixColumns": total[1], "TotalPixelMatrixFocalPlanes": planes,
        "ImageOrientationSlide": [0, -1, 0, -1, 0, 0], "TotalPixelMatrixOriginSequence": [origin],
        "SharedFunctionalGroupsSequence": [_item(PixelMeasuresSequence=[measures])],
    }  # fmt: skip


def _item(**elements: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def slide_differs(path: Path, cache: Path) -> str | None:
    """The first frame that highdicom places elsewhere; None: there is none."""
    from highdicom.spatial import iter_tiled_full_frame_data

    rows = {row["frame"]: row for row, _ in _stored(path, cache)}
    ds = dcmread(path)
    names = [p.OpticalPathIdentifier for p in ds.get("OpticalPathSequence", [])]
    theirs = list(iter_tiled_full_frame_data(ds))
    if len(theirs) != len(rows):
        return f"{len(theirs)} frames for it, {len(rows)} for us"
    for k, (channel, plane, column, line, _, _, z) in enumerate(theirs):
        row = rows[k]
        mine = (
            row["segment"] if row["kind"] == "mask" else row["optical_path"],
            row["focal_plane"], row["matrix_column"], row["matrix_row"], round(row["z_offset"], 6),
        )  # fmt: skip
        its = (names[channel - 1] if names else channel, plane - 1, column - 1, line - 1,
               round(z * 1000, 6))  # fmt: skip
        if mine != its:
            return f"frame {k}: {its} for it, {mine} for us"
    return None


def main() -> int:
    """Compare, print, count."""
    warnings.simplefilter("ignore")
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        kinds = [("nibabel", mosaics, mosaic_differs), ("highdicom", slides, slide_differs)]
        for judge, files, differs in kinds:
            (here / judge).mkdir()
            for path in files(here / judge):
                wrong = differs(path, here / f"cache of {judge} {path.stem}")
                bad += wrong is not None
                print(f"{path.name}: {'DIFFERS: ' + wrong if wrong else f'as {judge} has it'}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
