"""`dicom2cache compare OLD NEW`: frames whose unit, stack or pixels differ, and no other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom import dcmread

from dicom2cache import compare
from dicom2cache.errors import CacheError
from tests.support import hand_made
from tests.support.caches import built, run_here
from tests.support.dicom_files import pattern, uid, write_dicom, write_series
from tests.support.signed import rewrite, sign, with_column
from tests.support.structures import box, contour, write_structures


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CT series of four slices, 32 x 32, 1 mm apart."""
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, 4, size=32)
    return folder


@pytest.fixture(scope="module")
def old(series: Path) -> Path:
    """The cache of it, with all defaults."""
    return built(series, series.parent / "old", "--jobs", "1")


def differences(old: Path, new: Path) -> dict[tuple[str, int, int], dict[str, str]]:
    """{(name of the file, frame, part): words}."""
    return {(Path(d.path).name, d.frame, d.part): d.words for d in compare(old, new)}


def test_a_cache_and_itself(old: Path) -> None:
    ran = run_here("compare", old, old)
    assert ran.returncode == 0
    assert ran.stdout == f"{old} and {old}: every frame has the same unit, stack and pixels\n"


@pytest.mark.parametrize(
    "flags",
    [
        ("--codec", "zstd", "--shard-mib", "1"),
        ("--dtype", "float32"),  # the same values
        ("--dtype", "int32", "--codec", "lz4"),
    ],
)
def test_what_is_no_difference(old: Path, series: Path, tmp_path: Path, flags: Any) -> None:
    assert differences(old, built(series, tmp_path / "new", *flags)) == {}


def test_other_slots_and_a_folder_that_moved(old: Path, series: Path, tmp_path: Path) -> None:
    shutil.copytree(series, tmp_path / "moved")
    write_dicom(tmp_path / "moved" / "wide.dcm", pattern("wide", (32, 40), "int16"), Modality="OT")
    new = built(tmp_path / "moved", tmp_path / "new", "--max-arrays", "1")
    assert differences(old, new) == {("wide.dcm", 0, 0): {"only in NEW": ""}}


def test_unit_and_pixels(old: Path, series: Path, tmp_path: Path) -> None:
    new = built(series, tmp_path / "new", "--intensity", "stored")
    found = differences(old, new)
    assert found == {
        (f"slice00{k}.dcm", 0, 0): {"unit": "HU -> stored", "pixels": ""} for k in range(4)
    }
    ran = run_here("compare", old, new)
    assert ran.returncode == 1
    first, *_, last = ran.stdout.splitlines()
    assert first == f"{series}/slice000.dcm, frame 0: unit HU -> stored; pixels"
    assert last == "frames that differ: 4 (unit 4, pixels 4)"


def test_one_pixel(old: Path, series: Path, tmp_path: Path) -> None:
    shutil.copytree(series, tmp_path / "in")
    ds = dcmread(tmp_path / "in" / "slice002.dcm")
    pixels = ds.pixel_array.copy()
    pixels[31, 31] ^= 1
    ds.PixelData = pixels.tobytes()
    ds.save_as(tmp_path / "in" / "slice002.dcm")
    for flags in ((), ("--dtype", "float32")):  # by checksum, and by value
        new = built(tmp_path / "in", tmp_path / f"new{len(flags)}", *flags)
        assert differences(old, new) == {("slice002.dcm", 0, 0): {"pixels": ""}}


def test_sizes(old: Path, series: Path, tmp_path: Path) -> None:
    new = built(series, tmp_path / "new", "--size", "16,24")
    said = {"pixels": "32x32 -> 16x24"}
    assert list(differences(old, new).values()) == [said] * 4


def test_a_frame_that_only_one_has(old: Path, series: Path, tmp_path: Path) -> None:
    new = built(series, tmp_path / "new", "--where", "instance < 4")
    said = {"stack": "of 4 frames -> of 3"}
    reason = "excluded: recipe: where instance < 4"
    assert differences(old, new) == {
        **{(f"slice00{k}.dcm", 0, 0): said for k in range(3)},
        ("slice003.dcm", 0, 0): {"only in OLD": reason},
    }
    back = differences(new, old)
    assert back["slice000.dcm", 0, 0] == {"stack": "of 3 frames -> of 4"}
    assert back["slice003.dcm", 0, 0] == {"only in NEW": reason}


def _placed(series: Path, folder: Path, z: list[float]) -> Path:
    """The series with its slices at other places."""
    for k, place in enumerate(z):
        ds = dcmread(series / f"slice00{k}.dcm")
        ds.ImagePositionPatient = [0, 0, place]
        folder.mkdir(exist_ok=True)
        ds.save_as(folder / f"slice00{k}.dcm")
    return folder


def test_order_and_regularity(old: Path, series: Path, tmp_path: Path) -> None:
    swapped = built(_placed(series, tmp_path / "a", [0, 2, 1, 3]), tmp_path / "swapped")
    assert differences(old, swapped) == {
        ("slice001.dcm", 0, 0): {"stack": "place 1 -> 2"},
        ("slice002.dcm", 0, 0): {"stack": "place 2 -> 1"},
    }
    uneven = built(_placed(series, tmp_path / "b", [0, 1, 2, 9]), tmp_path / "uneven")
    assert list(differences(old, uneven).values()) == [{"stack": "regular -> irregular"}] * 4


def test_other_frames_in_stacks_of_the_same_size(tmp_path: Path) -> None:
    """Four slices in two series of two each, dealt in another way: no size tells."""
    for name, deal in (("old", "ABAB"), ("new", "AABB")):
        for k, letter in enumerate(deal):
            write_dicom(
                tmp_path / name / f"{k}.dcm", pattern(str(k), (8, 8)), InstanceNumber=k,
                SeriesInstanceUID=uid(letter),
            )  # fmt: skip
    old, new = (built(tmp_path / name, tmp_path / f"{name}-cache") for name in ("old", "new"))
    said = differences(old, new)
    assert len(said) == 4
    assert {words["stack"].split(",")[0] for words in said.values()} == {
        "of 2 frames -> of 2 others"
    }


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_generations(tmp_path: Path, codec: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    hand_made.write(old, "none")
    hand_made.write(new, codec)
    assert differences(old, new) == {}
    hand_made.write(tmp_path / "before", codec, generations=2)
    assert differences(tmp_path / "before", old) == {
        ("16.dcm", 0, 0): {"only in NEW": ""}, ("17.dcm", 0, 0): {"only in NEW": ""},
    }  # fmt: skip


def test_parts_of_a_frame(tmp_path: Path) -> None:
    """A file that was one image, and is slices now, as mosaics are."""
    old, new = tmp_path / "old", tmp_path / "new"
    for cache in (old, new):
        hand_made.write(cache)
    path = new / "frames" / "1.parquet"
    rows = pq.read_table(path)
    place = rows.column_names.index("path")
    # The four slices at grey 8 to 12 are of one frame.
    paths = [p.as_py() for p in rows["path"]]
    rows = rows.set_column(place, "path", pa.array(["grey/8.dcm"] * 4 + paths[4:]))
    parts = pa.array([0, 1, 2, 3, 0, 0], pa.int16())
    pq.write_table(rows.append_column("part_of_frame", parts), path)
    about = hand_made.read_root(new)
    about["tables"]["frames"][1] = hand_made.entry(new, path) | {"rows": 6}
    hand_made.write_root(new, about)
    found = differences(old, new)
    assert found["8.dcm", 0, 0] == {"stack": "of 4 frames -> of 4 others"}
    assert [found["8.dcm", 0, k] for k in (1, 2, 3)] == [{"only in NEW": ""}] * 3
    assert [found[f"{k}.dcm", 0, 0] for k in (9, 10, 12)] == [{"only in OLD": ""}] * 3
    assert len(found) == 7
    said = run_here("compare", old, new).stdout
    assert "/nowhere/1/grey/8.dcm, frame 0, part 2: only in NEW\n" in said


def test_contours(tmp_path: Path) -> None:
    """A point that moved, a structure more, a file that only one has; a name is no frame's."""
    square = box(2, 2, 6, 6, 0)
    caches = []
    for name, corner, more in (("old", 6.0, []), ("new", 6.5, [("cord", [contour(square)])])):
        folder = tmp_path / name
        write_series(folder, 2, size=16)
        moved = [*square[:2], (corner, 6.0, 0.0), *square[3:]]
        write_structures(folder / "a.dcm", [("liver", [contour(moved)]), *more])
        write_structures(folder / "same.dcm", [("liver", [contour(square)])])
        if more:
            write_structures(folder / "added.dcm", [("liver", [contour(square)])])
        caches.append(built(folder, tmp_path / f"{name} cache"))
    old, new = caches
    assert differences(old, new) == {
        ("a.dcm", 0, 0): {"contours": "1 -> 2"}, ("added.dcm", 0, 0): {"contours": "0 -> 1"}
    }  # fmt: skip
    assert differences(old, old) == {}
    ran = run_here("compare", old, new)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[0].endswith("a.dcm: contours 1 -> 2")
    assert ran.stdout.splitlines()[-1] == "frames and files that differ: 2 (contours 2)"


def test_sources_are_told_apart(tmp_path: Path) -> None:
    """Files of the same name below several folders."""
    for name in ("a", "b"):
        write_dicom(tmp_path / name / "x.dcm", pattern(name, (8, 8)), SOPInstanceUID=uid(name))
    one = built(tmp_path / "a", tmp_path / "b", tmp_path / "one")
    other = built(tmp_path / "b", tmp_path / "a", tmp_path / "other")
    assert list(compare(one, other)) == []


def test_caches_that_contradict_themselves(old: Path, tmp_path: Path) -> None:
    """Signed, and each table by itself as it should be: an error by name."""
    lies = [
        lambda cache: sign(cache, lambda about: about["sources"].clear()),
        lambda cache: rewrite(cache, "frames", with_column("array", [7] * 4)),
        lambda cache: rewrite(cache, "frames", lambda table: table.drop_columns(["path"])),
    ]
    for k, lie in enumerate(lies):
        cache = Path(shutil.copytree(old, tmp_path / f"{k}"))
        lie(cache)
        for pair in ((old, cache), (cache, old), (cache, cache)):
            with pytest.raises(CacheError, match=f"{tmp_path}/{k}"):
                list(compare(*pair))


def test_what_is_no_cache(old: Path, tmp_path: Path) -> None:
    ran = run_here("compare", old, tmp_path / "none")
    assert ran.returncode == 2
    assert "not a cache" in ran.stderr
