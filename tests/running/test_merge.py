"""Several caches become one: what joins, what is there twice, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

import trainer_adapter
from dicom2cache import CacheError, merge, verify
from tests.support.caches import Ran, attributes, built, run_here, tree
from tests.support.dicom_files import CT_IMAGE, pattern, uid, write_dicom
from tests.support.signed import sign

SHARD = ("--shard-mib", "1")
"""two slices of 512 x 512 int16"""


def slices(folder: Path, site: str, numbers: list[int], **elements: Any) -> Path:
    """Slices of a CT of a site, 512 x 512, in `folder`/series."""
    for k in numbers:
        about: dict[str, Any] = {
            "SOPInstanceUID": uid(f"{site} {k}"),
            "SeriesInstanceUID": uid(f"series of {site}"),
            "StudyInstanceUID": uid(f"study of {site}"),
            "FrameOfReferenceUID": uid(f"space of {site}"),
            "PatientID": f"MRN {site}",
            "SOPClassUID": CT_IMAGE,
            "Modality": "CT",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "InstanceNumber": k + 1,
            "ImagePositionPatient": [0.0, 0.0, float(k)],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [0.5, 0.5],
        }
        pixels = pattern(f"{site} {k}", (512, 512))
        write_dicom(folder / "series" / f"{k}.dcm", pixels, **{**about, **elements})
    return folder


def rows(cache: Path, kind: str = "frames") -> list[dict[str, Any]]:
    """frames/, failures/ or shards/ of all generations, as pyarrow reads them."""
    entries = attributes(cache)["tables"][kind]
    tables = [pq.read_table(cache / entry["path"]) for entry in entries]
    found: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return found


def pixels(cache: Path) -> dict[tuple[int, str, int], bytes]:
    """{(root, path, frame): pixels} as zarr-python reads them."""
    arrays = [zarr.open_array(cache / a["name"], mode="r") for a in attributes(cache)["arrays"]]
    found = {}
    for row in rows(cache):
        array: Any = arrays[row["array"]]
        corner = array[row["row"]][: row["height"], : row["width"]]
        found[row["root"], row["path"], row["frame"]] = corner.tobytes()
    return found


def held(site: str, k: int) -> bytes:
    """What a slice of a site is in HU."""
    return bytes((pattern(f"{site} {k}", (512, 512)).astype(np.int16) - 1024).tobytes())


def inodes(cache: Path) -> dict[str, int]:
    """{path: inode} of all shards."""
    return {p.relative_to(cache).as_posix(): p.stat().st_ino for p in cache.glob("*/c.*")}


def merged(*paths: Path, status: int = 0, flags: tuple[str, ...] = ()) -> Ran:
    ran = run_here("merge", *flags, *paths)
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two caches whose sources have the same paths: 3 slices, and 4 with a colour image."""
    folder = tmp_path_factory.mktemp("sites")
    one = slices(folder / "one" / "scans", "A", [0, 1, 2])
    other = slices(folder / "other" / "scans", "B", [0, 1, 2, 3])
    write_dicom(other / "colour.dcm", pattern("colour", (8, 9, 3), "uint8", 256))
    (other / "note.txt").write_text("nothing")
    return built(one, folder / "a", *SHARD), built(other, folder / "b", *SHARD)


def test_two_sites_are_one(sites: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = sites
    before = tree(a), tree(b)
    new = tmp_path / "new"
    merged(a, b, new)
    assert (tree(a), tree(b)) == before
    assert verify(new) == []
    about = attributes(new)
    assert [(x["name"], x["slots"], x["frames"]) for x in about["arrays"]] == [
        ("int16_512x512", 8, 7), ("uint8_8x9x3", 1, 1),
    ]  # fmt: skip
    assert about["sources"] == [
        {"root": 0, "path": attributes(a)["sources"][0]["path"]},
        {"root": 1, "path": attributes(b)["sources"][0]["path"]},
    ]
    assert about["generation"] == 1
    assert {k: about["counts"][k] for k in ("files", "files_stored", "files_not_dicom")} == {
        "files": 9, "files_stored": 8, "files_not_dicom": 1,
    }  # fmt: skip
    assert about["counts"]["frames_stored"] == 8
    of = [
        (r["array"], r["row"], r["root"], r["path"], r["stack"], r["stack_of"]) for r in rows(new)
    ]
    assert of[:3] == [(0, k, 0, f"series/{k}.dcm", 0, 0) for k in range(3)]
    assert sorted(of[3:7]) == [
        (0, 4 + k, 1, f"series/{k}.dcm", of[3][4], of[3][5]) for k in range(4)
    ]
    assert {r[4] for r in of[3:]} == {1, 2}  # none of the first cache's
    assert [(r["array"], r["shard"], r["slots"]) for r in rows(new, "shards")] == [
        (0, 0, 2), (0, 1, 1), (0, 2, 2), (0, 3, 2), (1, 0, 1),
    ]  # fmt: skip
    assert [(r["root"], r["path"], r["outcome"]) for r in rows(new, "failures")] == [
        (1, "note.txt", "not-dicom")
    ]
    found = pixels(new)
    assert found == {
        **{(0, f"series/{k}.dcm", 0): held("A", k) for k in range(3)},
        **{(1, f"series/{k}.dcm", 0): held("B", k) for k in range(4)},
        (1, "colour.dcm", 0): pattern("colour", (8, 9, 3), "uint8", 256).tobytes(),
    }


def test_shards_are_the_same_files(sites: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = sites
    merged(a, b, tmp_path / "new")
    name, colour = "int16_512x512/c.{}.0.0", "uint8_8x9x3/c.0.0.0.0"
    of_a, of_b, new = inodes(a), inodes(b), inodes(tmp_path / "new")
    assert new == {
        name.format(0): of_a[name.format(0)],
        name.format(1): of_a[name.format(1)],
        name.format(2): of_b[name.format(0)],
        name.format(3): of_b[name.format(1)],
        colour: of_b[colour],
    }
    merged(a, b, tmp_path / "copied", flags=("--copy",))
    assert tree(tmp_path / "copied") == tree(tmp_path / "new")
    assert not set(inodes(tmp_path / "copied").values()) & set(new.values())
    assert merge([a, b], tmp_path / "again") == attributes(tmp_path / "new")["counts"]
    assert tree(tmp_path / "again") == tree(tmp_path / "new")


def test_a_reader_sees_all_parts(sites: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = sites
    merged(a, b, tmp_path / "new")
    cache = trainer_adapter.open_cache(tmp_path / "new", check="always")
    assert len(cache) == 8
    assert [cache[k].tobytes() for k in range(3)] == [held("A", k) for k in range(3)]
    stack = next(r["stack"] for r in rows(tmp_path / "new") if r["path"] == "series/3.dcm")
    volume = cache.volume(stack)
    assert volume.tobytes() == b"".join(held("B", k) for k in range(4))


def test_statistics_are_of_all(sites: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = sites
    merged(a, b, tmp_path / "new")
    everything = np.concatenate(
        [np.frombuffer(held("A", k), np.int16) for k in range(3)]
        + [np.frombuffer(held("B", k), np.int16) for k in range(4)]
    )
    said = attributes(tmp_path / "new")["arrays"][0]["statistics"]
    assert (said["count"], said["min"], said["max"]) == (7 * 512 * 512, -1024.0, 3071.0)
    assert said["mean"] == pytest.approx(everything.mean(), rel=1e-12)
    assert said["std"] == pytest.approx(everything.std(), rel=1e-9)


def test_order_decides_numbers(sites: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = sites
    merged(b, a, tmp_path / "new")
    assert verify(tmp_path / "new") == []
    found = [(r["array"], r["row"], r["root"]) for r in rows(tmp_path / "new")]
    arrays = [x["name"] for x in attributes(tmp_path / "new")["arrays"]]
    assert arrays == ["int16_512x512", "uint8_8x9x3"]
    assert found == [*((0, k, 0) for k in range(4)), (1, 0, 0), *((0, 4 + k, 1) for k in range(3))]


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_a_series_that_both_have(codec: str, tmp_path: Path) -> None:
    # B has slices 1 and 2 of A's series, in a shard with one of its own.
    one = slices(tmp_path / "one", "A", [0, 1, 2])
    other = slices(tmp_path / "other", "A", [1, 2])
    slices(tmp_path / "other" / "more", "C", [0])
    flags = (*SHARD, "--codec", codec)
    a, b = built(one, tmp_path / "a", *flags), built(other, tmp_path / "b", *flags)
    merged(a, b, tmp_path / "new")
    assert verify(tmp_path / "new") == []
    assert pixels(tmp_path / "new") == {
        **{(0, f"series/{k}.dcm", 0): held("A", k) for k in range(3)},
        (1, "more/series/0.dcm", 0): held("C", 0),
    }
    names = ("root", "path", "frame", "outcome", "stage", "same_root", "same_path", "same_frame")
    assert [tuple(r[n] for n in names) for r in rows(tmp_path / "new", "failures")] == [
        (1, f"series/{k}.dcm", None, "duplicate", "plan", 0, f"series/{k}.dcm", 0) for k in (1, 2)
    ]
    assert rows(tmp_path / "new", "failures")[0]["reason"] == (
        "duplicate of series/1.dcm of source 0: same SOP Instance UID, same pixels"
    )
    counts = attributes(tmp_path / "new")["counts"]
    assert (counts["files"], counts["files_stored"], counts["files_duplicate"]) == (6, 4, 2)
    assert counts["frames_stored"] == 4
    assert not any(r["flags"] for r in rows(tmp_path / "new"))
    kept = (tmp_path / "new").glob("int16_512x512*/c.*")
    assert sum(p.stat().st_nlink == 2 for p in kept) >= 2  # what is whole is no copy
    cache = trainer_adapter.open_cache(tmp_path / "new", check="always")
    assert [bytes(cache[k].tobytes()) for k in range(4)] == [
        held("A", 0), held("A", 1), held("A", 2), held("C", 0),
    ]  # fmt: skip


def test_a_cache_all_of_which_is_there_already(tmp_path: Path) -> None:
    a = built(slices(tmp_path / "one", "A", [0, 1, 2]), tmp_path / "a", *SHARD)
    b = built(slices(tmp_path / "other", "A", [0, 1, 2]), tmp_path / "b", *SHARD)
    merged(a, b, tmp_path / "new")
    assert verify(tmp_path / "new") == []
    assert set(pixels(tmp_path / "new")) == {(0, f"series/{k}.dcm", 0) for k in range(3)}
    assert attributes(tmp_path / "new")["counts"]["files_duplicate"] == 3
    assert len(inodes(tmp_path / "new")) == 2


def test_a_duplicate_of_a_duplicate(tmp_path: Path) -> None:
    a = built(slices(tmp_path / "one", "A", [0]), tmp_path / "a")
    slices(tmp_path / "other" / "x", "A", [0])
    b = built(slices(tmp_path / "other" / "y", "A", [0]).parent, tmp_path / "b")
    assert [(r["path"], r["same_path"]) for r in rows(b, "failures")] == [
        ("y/series/0.dcm", "x/series/0.dcm")
    ]
    merged(a, b, tmp_path / "new")
    said = [(r["path"], r["same_root"], r["same_path"]) for r in rows(tmp_path / "new", "failures")]
    assert said == [("x/series/0.dcm", 0, "series/0.dcm"), ("y/series/0.dcm", 0, "series/0.dcm")]


@pytest.mark.parametrize(
    "elements",
    [
        {"PixelData": pattern("other", (512, 512)).tobytes()},
        {"ImagePositionPatient": [0.0, 0.0, 5.0]},  # the same pixels elsewhere
        {"SeriesInstanceUID": uid("another series")},
    ],
    ids=["pixels", "position", "series"],
)
def test_one_uid_of_two_images(elements: dict[str, Any], tmp_path: Path) -> None:
    a = built(slices(tmp_path / "one", "A", [0, 1]), tmp_path / "a", *SHARD)
    other = slices(tmp_path / "other", "A", [0], **elements)
    b = built(slices(other / "more", "B", [0]).parent, tmp_path / "b", *SHARD)
    merged(a, b, tmp_path / "new")
    assert verify(tmp_path / "new") == []
    assert {(r["root"], r["path"]): r["flags"] for r in rows(tmp_path / "new")} == {
        (0, "series/0.dcm"): ["sop-uid-repeated"],
        (0, "series/1.dcm"): None,
        (1, "series/0.dcm"): ["sop-uid-repeated"],
        (1, "more/series/0.dcm"): None,
    }
    assert rows(tmp_path / "new", "failures") == []


def test_arrays_that_cannot_join(tmp_path: Path) -> None:
    # `auto` compresses noise not at all, and what is mostly empty with zstd or lz4.
    flat = np.zeros((512, 512), np.uint16).tobytes()
    a = built(slices(tmp_path / "one", "A", [0, 1]), tmp_path / "a", *SHARD, "--codec", "auto")
    empty = slices(tmp_path / "other", "B", [0, 1, 2], PixelData=flat)
    b = built(empty, tmp_path / "b", *SHARD, "--codec", "auto")
    codecs = [attributes(cache)["arrays"][0]["codec"] for cache in (a, b)]
    assert codecs[0] != codecs[1]
    merged(a, b, tmp_path / "new")
    assert verify(tmp_path / "new") == []
    arrays = attributes(tmp_path / "new")["arrays"]
    assert [(x["name"], x["codec"], x["slots"]) for x in arrays] == [
        ("int16_512x512", codecs[0], 2), ("int16_512x512.2", codecs[1], 3),
    ]  # fmt: skip
    empty_hu = np.full((512, 512), -1024, np.int16).tobytes()
    assert pixels(tmp_path / "new") == {
        **{(0, f"series/{k}.dcm", 0): held("A", k) for k in range(2)},
        **{(1, f"series/{k}.dcm", 0): empty_hu for k in range(3)},
    }
    cache = trainer_adapter.open_cache(tmp_path / "new", check="always")
    assert cache[4].tobytes() == empty_hu
    # What comes later goes on in the first of them, behind its last shard.
    grown = Path(shutil.copytree(tmp_path / "new", tmp_path / "grown"))
    ran = run_here("update", slices(tmp_path / "later", "D", [0]), grown, "--jobs", "1")
    assert ran.returncode == 0, ran.stderr
    assert verify(grown) == []
    sizes = [(x["name"], x["frames"]) for x in attributes(grown)["arrays"]]
    assert sizes == [("int16_512x512", 3), ("int16_512x512.2", 3)]
    assert pixels(grown) == {
        **pixels(tmp_path / "new"), (2, "series/0.dcm", 0): held("D", 0),
    }  # fmt: skip
    # And once more: the third cache's array joins the second's, whose name has a number.
    c = built(
        slices(tmp_path / "third", "C", [0], PixelData=flat),
        tmp_path / "c",
        *SHARD,
        "--codec",
        "auto",
    )
    merged(tmp_path / "new", c, tmp_path / "three")
    assert verify(tmp_path / "three") == []
    three = attributes(tmp_path / "three")
    assert [(x["name"], x["slots"], x["frames"]) for x in three["arrays"]][1:] == [
        ("int16_512x512.2", 5 if three["arrays"][1]["frames_per_shard"] == 2 else 4, 4)
    ]
    assert [r["root"] for r in rows(tmp_path / "three")] == [0, 0, 1, 1, 1, 2]


def test_move_leaves_one(tmp_path: Path) -> None:
    a = built(slices(tmp_path / "one", "A", [0, 1]), tmp_path / "a", *SHARD)
    b = built(slices(tmp_path / "other", "B", [0]), tmp_path / "b", *SHARD)
    before = {*inodes(a).values(), *inodes(b).values()}
    merged(a, b, tmp_path / "new", flags=("--move",))
    assert not a.exists()
    assert not b.exists()
    assert set(inodes(tmp_path / "new").values()) == before
    assert verify(tmp_path / "new") == []


def test_repair_of_one_leaves_the_other(tmp_path: Path) -> None:
    a = built(slices(tmp_path / "one", "A", [0, 1]), tmp_path / "a", *SHARD)
    b = built(slices(tmp_path / "other", "B", [0]), tmp_path / "b", *SHARD)
    merged(a, b, tmp_path / "new")
    shard = tmp_path / "new" / "int16_512x512" / "c.1.0.0"  # b's too
    with open(shard, "rb+") as file:
        file.write(b"\xff" * 8)
    assert run_here("repair", tmp_path / "new").returncode == 0
    assert verify(tmp_path / "new") == []
    assert len(verify(b)) == 1
    assert run_here("build", "--overwrite", *SHARD, tmp_path / "other", b).returncode == 0
    assert verify(tmp_path / "new") == []


def test_a_merged_cache_grows(tmp_path: Path) -> None:
    one = slices(tmp_path / "one", "A", [0, 1])
    a = built(one, tmp_path / "a", *SHARD)
    b = built(slices(tmp_path / "other", "B", [0]), tmp_path / "b", *SHARD)
    merged(a, b, tmp_path / "new")
    slices(one, "A", [2])
    os.utime(tmp_path / "other" / "series" / "0.dcm", ns=(1, 1))
    ran = run_here("update", one, tmp_path / "other", tmp_path / "new")
    assert ran.returncode == 1, ran.stdout + ran.stderr  # one has changed
    assert f"{tmp_path / 'other'}/series/0.dcm" in ran.stderr
    assert f"{one}/series/" not in ran.stderr
    assert verify(tmp_path / "new") == []
    assert [(r["root"], r["path"]) for r in rows(tmp_path / "new")] == [
        (0, "series/0.dcm"), (0, "series/1.dcm"), (1, "series/0.dcm"), (0, "series/2.dcm"),
    ]  # fmt: skip
    assert verify(a) == []
    assert verify(b) == []
    # And a cache of several generations is a part as well as any other.
    c = built(slices(tmp_path / "third", "C", [0]), tmp_path / "c", *SHARD)
    merged(c, tmp_path / "new", tmp_path / "all")
    assert verify(tmp_path / "all") == []
    assert attributes(tmp_path / "all")["generation"] == 3
    assert [r["root"] for r in rows(tmp_path / "all")] == [0, 1, 1, 2, 1]
    assert pixels(tmp_path / "all")[1, "series/2.dcm", 0] == held("A", 2)


def refused(a: Path, b: Path, new: Path, *flags: str) -> str:
    ran = merged(a, b, new, status=2, flags=flags)
    assert not new.exists()
    assert not [p for p in new.parent.iterdir() if "merging" in p.name]
    return ran.stderr


def test_another_recipe_is_refused(sites: tuple[Path, Path], tmp_path: Path) -> None:
    c = built(slices(tmp_path / "c-src", "C", [0]), tmp_path / "c", *SHARD, "--codec", "lz4",
              "--limits", "frames=7")  # fmt: skip
    said = refused(sites[0], c, tmp_path / "new")
    assert (
        f"{c}: made by another recipe than {sites[0]}: codec lz4, not none; limits.frames 7, not "
        "1000000; build"
    ) in said
    assert "build one of them again with the recipe of the other" in said


def test_another_key_is_refused(sites: tuple[Path, Path], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    source = slices(tmp_path / "c-src", "C", [0])
    c = built(source, tmp_path / "c", *SHARD, "--patient-key", str(key))
    said = refused(sites[0], c, tmp_path / "new")
    assert "hashed by another key" in said
    assert "--patient-key" in said
    d = built(source, tmp_path / "d", *SHARD, "--deidentify", str(key))
    said = refused(sites[0], d, tmp_path / "new")
    assert f"{d}: de-identified, and {sites[0]} is not" in said


def test_other_versions_are_refused(sites: tuple[Path, Path], tmp_path: Path) -> None:
    c = tmp_path / "c"
    shutil.copytree(sites[1], c)
    sign(c, lambda about: about["codecs"].update({"libjpeg": "0.1"}))
    shutil.copy(c / "zarr.json", c / ".spare" / "root.json")
    said = refused(sites[0], c, tmp_path / "new")
    assert "libjpeg 0.1, not" in said
    assert "build one of them again with the versions" in said


def test_damage_is_refused(sites: tuple[Path, Path], tmp_path: Path) -> None:
    c = tmp_path / "c"
    shutil.copytree(sites[1], c)
    os.truncate(c / "int16_512x512" / "c.0.0.0", 1000)
    said = refused(sites[0], c, tmp_path / "new")
    assert "c.0.0.0" in said
    assert "repair" in said


def test_what_is_no_cache_is_refused(sites: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    assert "not a cache" in refused(sites[0], tmp_path / "c", tmp_path / "new")
    assert "named twice" in refused(sites[0], sites[0], tmp_path / "new")
    assert "give one of them" in refused(*sites, tmp_path / "new", "--copy", "--move")
    assert "lies in" in merged(*sites, sites[0] / "new", status=2).stderr
    assert "two caches or more" in merged(sites[0], tmp_path / "new", status=2).stderr


def test_a_target_that_exists(sites: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = sites
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(CacheError, match="exists; give another path"):
        merge([a, b], tmp_path / "full")
    assert (tmp_path / "full" / "mine").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    merged(a, b, tmp_path / "empty")
    before = tree(tmp_path / "empty")
    merged(a, b, tmp_path / "empty")  # what is there already
    assert tree(tmp_path / "empty") == before
    assert "exists" in merged(b, a, tmp_path / "empty", status=2).stderr


@pytest.mark.parametrize(("how", "stride"), [("link", 12), ("move", 12)])
def test_killed_at_each_step(
    how: str, stride: int, sites: tuple[Path, Path], tmp_path: Path
) -> None:
    merged(*sites, tmp_path / "new")
    expected = tree(tmp_path / "new")
    (tmp_path / "steps").mkdir()
    arguments = [tmp_path / "steps", "0", str(stride), how, *sites]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.kill_merge", *arguments],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) > 5
    assert {step[1] for step in steps} & {"link", "fsync", "replace"}
    cut_short = 0
    for _, _, whole, status, found, beside in steps:
        assert "new" in whole or whole == ["a", "b"]
        assert found == expected
        assert not [name for name in beside if "merging" in name]
        if how == "link":
            assert status == 0
            assert beside == ["a", "b", "new"]
        else:  # once parts are removed, nothing is left to do but that
            assert status == 0 or "new" in whole
            cut_short += status
    assert (cut_short > 0) == (how == "move")


def test_deidentified_sites(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    flags = (*SHARD, "--deidentify", str(key))
    a = built(slices(tmp_path / "one", "A", [0, 1]), tmp_path / "a", *flags)
    slices(tmp_path / "other", "A", [1])
    b = built(slices(tmp_path / "other" / "b", "B", [0]).parent, tmp_path / "b", *flags)
    merged(a, b, tmp_path / "new")
    assert verify(tmp_path / "new") == []
    (twice,) = rows(tmp_path / "new", "failures")
    assert twice["reason"] == "duplicate of ... of source 0: same SOP Instance UID, same pixels"
    kept = {r["path"] for r in rows(tmp_path / "new") if r["root"] == 0}
    assert twice["same_path"] in kept
    assert len(rows(tmp_path / "new")) == 3
