"""Whole slides: the place of each tile in the total pixel matrix (PS3.3 C.7.6.17.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.support.caches import built, failures, stored
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import VolumeError, open_cache

SLIDE, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.840.10008.5.1.4.1.1.66.4"
PLACE = ("matrix_row", "matrix_column", "focal_plane", "z_offset", "optical_path")


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def write_slide(path: Path, frames: int, total: tuple[int, int], **elements: Any) -> Path:
    """`frames` tiles of 4 x 6 pixels of a slide of `total` (rows, columns), TILED_FULL."""
    measures = item(PixelSpacing=[0.0005, 0.0005], SliceThickness=0.001, SpacingBetweenSlices=0.002)
    said: dict[str, Any] = {
        "SOPClassUID": SLIDE, "Modality": "SM",
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "DimensionOrganizationType": "TILED_FULL", "NumberOfFrames": frames,
        "TotalPixelMatrixRows": total[0], "TotalPixelMatrixColumns": total[1],
        "ImageOrientationSlide": [0, -1, 0, -1, 0, 0], "TotalPixelMatrixFocalPlanes": 1,
        "TotalPixelMatrixOriginSequence": [
            item(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40)
        ],
        "SharedFunctionalGroupsSequence": [item(PixelMeasuresSequence=[measures])],
        "OpticalPathSequence": [item(OpticalPathIdentifier="A")], "NumberOfOpticalPaths": 1,
        **elements,
    }  # fmt: skip
    said = {name: value for name, value in said.items() if value is not None}
    pixels = pattern(path.name, (frames, 4, 6, 3), "uint8", 256)
    return write_dicom(path, pixels, **said)


def places(cache: Path, path: str = "s.dcm") -> list[tuple[Any, ...]]:
    """PLACE of each frame of a file, in order of its frames; its pixels are checked."""
    found = {}
    for row, pixels in stored(cache):
        if row["path"] == path:
            frames = row["frame"] + 1
            whole = pattern(path, (max(frames, 1), 4, 6, 3), "uint8", 256)
            found[row["frame"]] = tuple(row[name] for name in PLACE)
            assert np.array_equal(pixels, whole[row["frame"]])
    return [found[k] for k in sorted(found)]


def test_tiles_are_no_volume(tmp_path: Path) -> None:
    write_slide(tmp_path / "in" / "s.dcm", 6, (8, 18))
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    assert set(cache.column("stack").to_pylist()) == {0}
    with pytest.raises(VolumeError, match="tiles of a whole slide"):
        cache.volume(0)
    assert cache.volume(0, gaps=True).shape == (6, 4, 6, 3)


def test_tiles_in_full(tmp_path: Path) -> None:
    """10 x 15 pixels: three rows of tiles and three columns, the last ones hang over."""
    write_slide(tmp_path / "in/s.dcm", 9, (10, 15))
    assert places(built(tmp_path / "in", tmp_path / "cache")) == [
        (0, 0, 0, 0.0, "A"), (0, 6, 0, 0.0, "A"), (0, 12, 0, 0.0, "A"),
        (4, 0, 0, 0.0, "A"), (4, 6, 0, 0.0, "A"), (4, 12, 0, 0.0, "A"),
        (8, 0, 0, 0.0, "A"), (8, 6, 0, 0.0, "A"), (8, 12, 0, 0.0, "A"),
    ]  # fmt: skip


def test_focal_planes_before_optical_paths(tmp_path: Path) -> None:
    """The origin 5 um above the glass, two planes 2 um apart, two paths."""
    origin = item(XOffsetInSlideCoordinateSystem=20, YOffsetInSlideCoordinateSystem=40,
                  ZOffsetInSlideCoordinateSystem=5)  # fmt: skip
    write_slide(
        tmp_path / "in/s.dcm", 8, (4, 12), TotalPixelMatrixFocalPlanes=2, NumberOfOpticalPaths=2,
        OpticalPathSequence=[item(OpticalPathIdentifier="B"), item(OpticalPathIdentifier="A")],
        TotalPixelMatrixOriginSequence=[origin],
    )  # fmt: skip
    assert places(built(tmp_path / "in", tmp_path / "cache")) == [
        (0, 0, 0, 5.0, "B"), (0, 6, 0, 5.0, "B"), (0, 0, 1, 7.0, "B"), (0, 6, 1, 7.0, "B"),
        (0, 0, 0, 5.0, "A"), (0, 6, 0, 5.0, "A"), (0, 0, 1, 7.0, "A"), (0, 6, 1, 7.0, "A"),
    ]  # fmt: skip


def test_planes_of_unknown_distance(tmp_path: Path) -> None:
    write_slide(
        tmp_path / "in/s.dcm", 2, (4, 6), TotalPixelMatrixFocalPlanes=2,
        SharedFunctionalGroupsSequence=None,
    )  # fmt: skip
    found = places(built(tmp_path / "in", tmp_path / "cache"))
    assert found == [(0, 0, 0, 0.0, "A"), (0, 0, 1, None, "A")]


def test_sparse_tiles_say_it_themselves(tmp_path: Path) -> None:
    def tile(row: int, column: int, z: float, path: str) -> Dataset:
        return item(
            PlanePositionSlideSequence=[
                item(RowPositionInTotalImagePixelMatrix=row, ZOffsetInSlideCoordinateSystem=z,
                     ColumnPositionInTotalImagePixelMatrix=column)
            ],
            OpticalPathIdentificationSequence=[item(OpticalPathIdentifier=path)],
        )  # fmt: skip

    write_slide(
        tmp_path / "in/s.dcm", 3, (100, 100), DimensionOrganizationType="TILED_SPARSE",
        PerFrameFunctionalGroupsSequence=[
            tile(41, 25, 0.5, "A"), tile(1, 1, 0.0, "B"), tile(38, 60, 0.0, "A")
        ],
    )  # fmt: skip
    assert places(built(tmp_path / "in", tmp_path / "cache")) == [
        (40, 24, None, 0.5, "A"), (0, 0, None, 0.0, "B"), (37, 59, None, 0.0, "A"),
    ]  # fmt: skip


def test_a_concatenation_goes_on_where_the_part_before_ended(tmp_path: Path) -> None:
    for name, frames, first in (("a.dcm", 5, 0), ("b.dcm", 4, 5)):
        write_slide(tmp_path / "in" / name, frames, (10, 15), ConcatenationFrameOffsetNumber=first)
    cache = built(tmp_path / "in", tmp_path / "cache")
    assert places(cache, "a.dcm")[3:] == [(4, 0, 0, 0.0, "A"), (4, 6, 0, 0.0, "A")]
    assert places(cache, "b.dcm")[:2] == [(4, 12, 0, 0.0, "A"), (8, 0, 0, 0.0, "A")]


@pytest.mark.parametrize(
    "elements",
    [
        {"TotalPixelMatrixRows": 20},  # more tiles than frames
        {"TotalPixelMatrixRows": 4},
        {"TotalPixelMatrixColumns": None},
        {"TotalPixelMatrixFocalPlanes": 2},
        {"NumberOfOpticalPaths": 3},
        {"ConcatenationFrameOffsetNumber": 1},  # beyond the last
    ],
)
def test_a_header_that_contradicts_its_frames(tmp_path: Path, elements: dict[str, Any]) -> None:
    write_slide(tmp_path / "in/s.dcm", 9, (10, 15), **elements)
    rows = [row for row, _ in stored(built(tmp_path / "in", tmp_path / "cache"))]
    assert len(rows) == 9
    assert {tuple(row["flags"]) for row in rows} == {("tiles-mismatch",)}
    assert {row["matrix_row"] for row in rows} == {None}


def test_segments_of_a_tiled_segmentation(tmp_path: Path) -> None:
    """One plane after the other, a segment each: there are no per-frame groups to say it."""
    tiles = np.zeros((4, 4, 6), np.uint8)
    for k in range(4):
        tiles[k, k] = 1
    segments = [item(SegmentNumber=n, SegmentLabel=w) for n, w in ((1, "tumour"), (2, "stroma"))]
    write_dicom(
        tmp_path / "in/s.dcm", tiles, SOPClassUID=SEGMENTATION, Modality="SEG",
        SegmentationType="FRACTIONAL", MaximumFractionalValue=255, SegmentSequence=segments,
        DimensionOrganizationType="TILED_FULL", TotalPixelMatrixRows=4, TotalPixelMatrixColumns=12,
        SeriesInstanceUID=uid("seg"),
    )  # fmt: skip
    rows = {row["frame"]: row for row, _ in stored(built(tmp_path / "in", tmp_path / "cache"))}
    columns = ("segment", "segment_label", "matrix_column")
    assert [tuple(rows[k][name] for name in columns) for k in range(4)] == [
        (1, "tumour", 0), (1, "tumour", 6), (2, "stroma", 0), (2, "stroma", 6)
    ]  # fmt: skip
    assert {rows[k]["optical_path"] for k in range(4)} == {None}


@pytest.mark.parametrize("word", ["label", "overview", "thumbnail"])
def test_pictures_that_are_no_tiles_can_be_left_out(tmp_path: Path, word: str) -> None:
    write_slide(tmp_path / "in/s.dcm", 1, (4, 6))
    write_slide(tmp_path / "in/other.dcm", 1, (4, 6), SeriesInstanceUID=uid("other"),
                ImageType=["ORIGINAL", "PRIMARY", word.upper(), "NONE"])  # fmt: skip
    write_slide(tmp_path / "in/named.dcm", 1, (4, 6), SeriesInstanceUID=uid("named"),
                ImageType=["ORIGINAL", "PRIMARY", "VOLUME", word.upper()])  # fmt: skip
    cache = built(tmp_path / "in", tmp_path / "cache", "--exclude", word)
    assert {row["path"] for row, _ in stored(cache)} == {"s.dcm", "named.dcm"}
    assert failures(cache) == {("other.dcm", None): ("excluded", f"recipe: exclude {word}")}
