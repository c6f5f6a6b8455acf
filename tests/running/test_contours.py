"""contours/ through the life of a cache: build, update, removal, purge, merge, repair, veil."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dicom2cache.running.contours import Waiting
from dicom2cache.schema import CONTOURS_TABLE
from tests.support.caches import attributes, built, failures, run_here, table, tree
from tests.support.dicom_files import uid, write_dicom, write_series
from tests.support.structures import box, circle, contour, write_structures
from trainer_adapter import DamagedError, open_cache


def scans(folder: Path, patient: str = "MRN-0815", **elements: Any) -> Path:
    """Two slices and a structure set of a patient."""
    for path in write_series(folder, 2, 16):
        renamed = {"PatientID": patient, "StudyInstanceUID": uid(f"study of {patient}")}
        rewritten(path, SOPInstanceUID=uid(f"{path.name} of {patient}"), **renamed)
    structures(folder / "rt.dcm", patient, **elements)
    return folder


def structures(path: Path, patient: str = "MRN-0815", shift: float = 0.0, **elements: Any) -> Path:
    liver = [contour(box(2 + shift, 2, 6, 5, z)) for z in (0.0, 1.0)]
    return write_structures(
        path, [("Liver", liver), ("Heart", []), ("GTV", [contour(circle(4, 4, 1, 2, 9))])],
        PatientID=patient, StudyInstanceUID=uid(f"study of {patient}"),
        **{"SOPInstanceUID": uid(f"rt of {patient}"), **elements},
    )  # fmt: skip


def rewritten(path: Path, **elements: Any) -> None:
    from pydicom import dcmread

    ds = dcmread(path)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path)


def rows(cache: Path) -> list[tuple[Any, ...]]:
    found = [
        row
        for entry in attributes(cache)["tables"].get("contours", ())
        for row in pq.read_table(cache / entry["path"]).to_pylist()
    ]
    return [(r["root"], r["path"], r["name"], r["contour"]) for r in found]


LIVER = [("Liver", 0), ("Liver", 1), ("GTV", 0), ("Heart", None)]


def of(path: str, root: int = 0) -> list[tuple[Any, ...]]:
    return [(root, path, *row) for row in LIVER]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def cache(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(source, tmp_path_factory.mktemp("built") / "cache")


@pytest.fixture
def copied(cache: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cache, tmp_path / "cache"))


def whole(cache: Path) -> None:
    ran = run_here("verify", cache)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_structure_set_is_stored_and_counted(cache: Path) -> None:
    assert rows(cache) == of("rt.dcm")
    counts = attributes(cache)["counts"]
    assert (counts["files"], counts["files_stored"], counts["files_no_pixels"]) == (3, 3, 0)
    assert counts["frames_stored"] == 2
    assert failures(cache) == {}
    whole(cache)
    points = table(cache, "contours")[1]["points"]
    assert points == [2, 2, 1, 6, 2, 1, 6, 5, 1, 2, 5, 1]


def test_info_lists_the_names(cache: Path) -> None:
    said = run_here("info", cache).stdout
    assert "contours: 3 of 1 structure set\n  GTV: in 1\n  Heart: in 1\n  Liver: in 1\n" in said


def test_the_reader_gives_the_table(cache: Path) -> None:
    with_all = open_cache(cache)
    found = with_all.contours()
    assert found["name"].to_pylist() == ["Liver", "Liver", "GTV", "Heart"]
    assert found["colour"][0].as_py() == [255, 0, 1]
    assert found["points"][1].as_py()[:6] == [2, 2, 1, 6, 2, 1]
    assert with_all[:1].contours(["name"]).column_names == ["name"]
    assert with_all[:1].contours(["name"]).num_rows == 4
    with pytest.raises(KeyError, match="nome"):
        with_all.contours(["nome"])


def test_a_cache_without_structure_sets_has_no_such_table(tmp_path: Path) -> None:
    write_series(tmp_path / "scans", 1, 16)
    made = built(tmp_path / "scans", tmp_path / "cache")
    assert "contours" not in attributes(made)["tables"]
    assert not (made / "contours").exists()
    assert open_cache(made).contours().num_rows == 0
    assert open_cache(made).contours(["points"]).column_names == ["points"]


def test_the_number_of_workers_changes_no_byte(source: Path, cache: Path, tmp_path: Path) -> None:
    assert tree(built(source, tmp_path / "cache", "--jobs", "2")) == tree(cache)


def test_one_without_its_sop_class_is_known_by_its_modality(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    rewritten(folder / "rt.dcm", SOPClassUID="")
    assert rows(built(folder, tmp_path / "cache")) == of("rt.dcm")


def test_structure_sets_alone_are_no_cache(tmp_path: Path) -> None:
    structures(tmp_path / "scans" / "rt.dcm")
    ran = run_here("build", tmp_path / "scans", tmp_path / "cache")
    assert ran.returncode == 2
    assert "rt.dcm: contours, and no image beside them" in ran.stderr


def test_one_that_contradicts_itself_costs_itself(tmp_path: Path) -> None:
    bad = contour(box(1, 1, 5, 5), NumberOfContourPoints=7)
    folder = scans(tmp_path / "scans")
    write_structures(folder / "bad.dcm", [("Liver", [bad])])
    made = built(folder, tmp_path / "cache", status=1)
    assert rows(made) == of("rt.dcm")
    ((file, (outcome, reason)),) = failures(made).items()
    assert (file, outcome) == (("bad.dcm", None), "failed")
    assert reason.startswith("structure 1, contour 1: NumberOfContourPoints (3006,0046) is '7'")


def test_a_file_that_ends_early_costs_itself(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    data = (folder / "rt.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(data[: data.index(b"CLOSED_PLANAR") + 60])
    made = built(folder, tmp_path / "cache", status=1)
    assert rows(made) == of("rt.dcm")
    assert failures(made)["cut.dcm", None][0] == "failed"


def test_copies_are_stored_once_and_others_flagged(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    shutil.copy(folder / "rt.dcm", folder / "x.dcm")
    structures(folder / "z.dcm", shift=1.0)
    made = built(folder, tmp_path / "cache")
    assert rows(made) == of("rt.dcm") + of("z.dcm")
    assert failures(made) == {
        ("x.dcm", None): (
            "duplicate", "duplicate of rt.dcm: same SOP Instance UID, same contours",
        )
    }  # fmt: skip
    assert {tuple(r["flags"]) for r in table(made, "contours")} == {("sop-uid-repeated",)}
    counts = attributes(made)["counts"]
    assert (counts["files"], counts["files_stored"], counts["files_duplicate"]) == (5, 4, 1)


def test_an_update_adds_them(source: Path, copied: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    structures(new / "later.dcm", SOPInstanceUID=uid("later"))
    shutil.copy(source / "rt.dcm", new / "again.dcm")
    ran = run_here("update", source, new, copied)
    assert ran.returncode == 0, ran.stderr
    assert rows(copied) == of("rt.dcm") + of("later.dcm", 1)
    assert attributes(copied)["tables"]["contours"][1]["path"] == "contours/1.parquet"
    counts = attributes(copied)["counts"]
    assert (counts["files"], counts["files_stored"], counts["files_duplicate"]) == (5, 4, 1)
    whole(copied)
    assert open_cache(copied).contours().num_rows == 8
    assert open_cache(copied, generation=0).contours().num_rows == 4
    before = tree(copied)
    assert run_here("update", source, new, copied).returncode == 0
    assert tree(copied) == before


def test_the_first_one_may_come_by_an_update(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    late = folder / "rt.dcm"
    late.rename(tmp_path / "rt.dcm")
    made = built(folder, tmp_path / "cache")
    (tmp_path / "rt.dcm").rename(late)
    assert run_here("update", folder, made).returncode == 0
    assert [e["path"] for e in attributes(made)["tables"]["contours"]] == ["contours/1.parquet"]
    whole(made)
    assert open_cache(made).contours().num_rows == 4
    assert open_cache(made, generation=0).contours().num_rows == 0
    structures(late, shift=1.0)  # it has changed, and stays as it was
    ran = run_here("update", folder, made)
    assert ran.returncode == 1
    assert "changed since it was stored" in ran.stdout + ran.stderr
    assert rows(made) == of("rt.dcm")


def test_a_removal_takes_them_and_they_stay_out(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    scans(folder / "a", "A")
    scans(folder / "b", "B")
    made = built(folder, tmp_path / "cache")
    assert rows(made) == of("a/rt.dcm") + of("b/rt.dcm")
    ran = run_here("remove", made, "--patient-id", "A")
    assert ran.returncode == 0, ran.stderr
    assert "2 frames of 3 files, 4 rows of contours/ removed" in ran.stdout
    assert rows(made) == of("b/rt.dcm")
    counts = attributes(made)["counts"]
    assert (counts["files"], counts["files_stored"], counts["frames_stored"]) == (3, 3, 2)
    assert (made / "contours" / "0.parquet").exists()
    whole(made)
    assert run_here("purge", made).returncode == 0
    assert sorted(p.name for p in (made / "contours").iterdir()) == ["1.parquet"]
    assert not list((made / ".spare").glob("contours.0*"))
    whole(made)
    structures(folder / "a" / "new.dcm", "A", SOPInstanceUID=uid("new"))
    assert run_here("update", folder, made).returncode == 0
    assert rows(made) == of("b/rt.dcm")
    assert run_here("remove", made, "--series", uid("structures")).returncode == 0
    assert rows(made) == []
    assert "contours" not in attributes(made)["tables"]
    whole(made)


def test_a_merge_has_each_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    scans(one, "A")
    scans(two, "B")
    shutil.copy(one / "rt.dcm", two / "of-a.dcm")
    parts = [built(folder, tmp_path / f"cache of {folder.name}") for folder in (one, two)]
    ran = run_here("merge", *parts, tmp_path / "cache")
    assert ran.returncode == 0, ran.stderr
    made = tmp_path / "cache"
    assert rows(made) == of("rt.dcm") + of("rt.dcm", 1)
    counts = attributes(made)["counts"]
    assert (counts["files"], counts["files_stored"], counts["files_duplicate"]) == (7, 6, 1)
    (twice,) = pq.read_table(made / "failures" / "1.parquet").to_pylist()
    assert (twice["root"], twice["path"], twice["outcome"]) == (1, "of-a.dcm", "duplicate")
    assert (twice["same_root"], twice["same_path"]) == (0, "rt.dcm")
    whole(made)


def test_damage_is_found_and_mended(copied: Path) -> None:
    path = copied / "contours" / "0.parquet"
    before = path.read_bytes()
    path.write_bytes(before[:-30] + b"x" + before[-29:])
    ran = run_here("verify", copied)
    assert ran.returncode == 1
    assert "contours/0.parquet" in ran.stdout + ran.stderr
    with pytest.raises(DamagedError, match="contours"):
        open_cache(copied).contours()
    assert run_here("repair", copied).returncode == 0
    assert path.read_bytes() == before
    (copied / "contours" / "7.parquet").write_bytes(b"")
    assert "contours/7.parquet: a file that a cache has not" in run_here("verify", copied).stderr


def test_names_are_left_out_and_uids_hashed_under_a_key(tmp_path: Path) -> None:
    folder = scans(tmp_path / "scans")
    write_dicom(folder / "other.dcm", np.zeros((4, 4), np.uint8))
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    made = built(folder, "--deidentify", key, tmp_path / "cache")
    found = table(made, "contours")
    assert [(r["name"], r["type"], r["algorithm"]) for r in found] == [
        (None, "ORGAN", "MANUAL")
    ] * 4
    assert [r["contour"] for r in found] == [0, 1, 0, None]
    for name in ("path", "sop_uid", "study_uid", "series_uid", "referenced_series_uid", "patient"):
        assert {len(r[name]) for r in found} == {32}, name
    frames = table(made, "frames")
    assert found[0]["referenced_series_uid"] == frames[0]["series_uid"]
    assert found[0]["patient"] == frames[0]["patient"]
    data = b"".join(p.read_bytes() for p in made.rglob("*.parquet"))
    assert b"Liver" not in data
    whole(made)
    shutil.copy(folder / "rt.dcm", folder / "again.dcm")
    assert run_here("update", folder, made, "--deidentify", key).returncode == 0
    (twice,) = pq.read_table(made / "failures" / "1.parquet").to_pylist()
    assert (twice["outcome"], twice["same_path"]) == ("duplicate", found[0]["path"])
    ran = run_here("remove", made, "--patient-id", "MRN-0815", "--deidentify", key)
    assert ran.returncode == 0, ran.stderr
    assert "contours" not in attributes(made)["tables"]


def test_a_structure_set_that_is_read_again_counts_as_the_last(tmp_path: Path) -> None:
    """A header that is retried gives its file twice: no other file's contours take its place."""
    waiting = Waiting()
    for name in "aab":
        row = {"root": 0, "path": f"{name}.dcm", "structure": 7, "name": name, "sop_uid": name}
        waiting.add([pa.Table.from_pylist([row], CONTOURS_TABLE)])
    found = waiting.take()
    assert found["path"].to_pylist() == ["a.dcm", "b.dcm"]
    assert found["sop_uid"].to_pylist() == ["a", "b"]
