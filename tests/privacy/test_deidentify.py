"""Caches made with --deidentify: the same pixels, stacks and order, under hashes."""

from __future__ import annotations

import csv
import hashlib
import hmac
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.support.caches import attributes, built, failures, run_here, table, tree
from tests.support.dicom_files import pattern, uid, write_dicom
from tests.support.drawn import write_ct, write_seg

KEY = bytes(range(40, 72))
HASHED = {
    "path": "path", "study_uid": "uid", "series_uid": "uid", "sop_uid": "uid",
    "frame_of_reference_uid": "uid", "referenced_sop_uid": "uid",
}  # fmt: skip


def hashed(domain: str, text: str) -> str:
    """By FORMAT.md alone."""
    return hmac.digest(KEY, f"{domain}:{text}".encode(), "sha256").hex()[:32]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    path.touch(0o600)
    path.write_bytes(KEY)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients whose slices have one series UID, a copy, one file that fails in each stage."""
    folder = tmp_path_factory.mktemp("in") / "source"
    for patient, z in (("P2", 0), ("P1", 0), ("P3", 0), ("P2", 1), ("P1", 1), ("P3", 1)):
        path = folder / f"{patient}" / f"{z}.dcm"
        write_dicom(
            path, pattern(f"{patient}{z}", (16, 16)), SOPInstanceUID=uid(f"{patient}{z}"),
            PatientID=patient, AccessionNumber=f"A{patient}", SeriesInstanceUID=uid("series"),
            StudyInstanceUID=uid("study"), FrameOfReferenceUID=uid("frame"), Modality="CT",
            ImagePositionPatient=[0, 0, z], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PatientAge="093Y", BodyPartExamined="DOE", Manufacturer="ACME of John Doe",
            ImageType=["ORIGINAL", "PRIMARY", "DOE"], WindowCenter=40, WindowWidth=400,
            WindowCenterWidthExplanation="for Mr Doe", RescaleSlope=1, RescaleIntercept=0,
            RescaleType="DOE", PatientSex="F",
        )  # fmt: skip
    shutil.copy(folder / "P1" / "0.dcm", folder / "copy.dcm")
    ds = dcmread(folder / "P1" / "0.dcm")
    ds.SOPInstanceUID, ds.BitsStored = uid("bad"), 17
    ds.save_as(folder / "bad.dcm")
    return folder


@pytest.fixture(scope="module")
def pair(source: Path, key: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a cache, the same one de-identified)."""
    folder = tmp_path_factory.mktemp("pair")
    plain = built(source, folder / "plain", "--jobs", "1", status=1)
    veiled = folder / "veiled"
    ran = run_here("build", source, veiled, "--jobs", "1", "--deidentify", key)
    assert ran.returncode == 1, ran.stderr
    return plain, veiled


def test_shards_are_the_same_bytes(pair: tuple[Path, Path]) -> None:
    one, other = (
        {k: v for k, v in tree(c).items() if "/" in k and k.split("/")[0] not in _TABLES}
        for c in pair
    )
    assert one == other
    assert len(one) >= 2


_TABLES = {"frames", "failures", "shards", ".spare"}


def test_rows_are_in_the_same_order_under_hashes(pair: tuple[Path, Path]) -> None:
    plain, veiled = (table(c, "frames") for c in pair)
    assert len(plain) == 6
    for old, new in zip(plain, veiled, strict=True):
        for name, domain in HASHED.items():
            assert new[name] == (old[name] and hashed(domain, old[name])), name
        changed = {name for name in old if old[name] != new[name]}
        assert changed == {
            "path", "study_uid", "series_uid", "sop_uid", "frame_of_reference_uid", "patient",
            "accession", "age", "manufacturer", "body_part", "image_type", "windows", "unit",
        }  # fmt: skip
        assert new["age"] == 90
        assert new["manufacturer"] is new["body_part"] is None
        assert new["image_type"] == "ORIGINAL\\PRIMARY\\"
        assert new["unit"] == "US"
        assert new["windows"] == [
            {"center": 40.0, "width": 400.0, "function": "LINEAR", "explanation": None}
        ]


def test_patients_are_hashed_by_the_same_key(pair: tuple[Path, Path]) -> None:
    plain, veiled = (table(c, "frames") for c in pair)
    folders = [row["path"].split("/")[0] for row in plain]
    assert [row["patient"] for row in veiled] == [hashed("patient", p) for p in folders]
    assert [row["accession"] for row in veiled] == [hashed("accession", f"A{p}") for p in folders]


def test_failures_say_the_tag_and_not_the_value(pair: tuple[Path, Path]) -> None:
    assert failures(pair[0])["bad.dcm", None][1].startswith(
        "BitsStored (0028,0101) 17 and HighBit (0028,0102) 15 do not fit"
    )
    found = {(r["path"], r["outcome"]): r for r in table(pair[1], "failures")}
    assert set(found) == {
        (hashed("path", "bad.dcm"), "failed"), (hashed("path", "copy.dcm"), "duplicate"),
    }  # fmt: skip
    bad = found[hashed("path", "bad.dcm"), "failed"]["reason"]
    assert bad == (
        "BitsStored (0028,0101) ... HighBit (0028,0102) ... do not fit BitsAllocated "
        "(0028,0100) ...; legal: BitsStored - 1 <= HighBit < BitsAllocated"
    )
    copy = found[hashed("path", "copy.dcm"), "duplicate"]
    assert copy["same_path"] == hashed("path", "P1/0.dcm")
    assert copy["reason"] == "duplicate of ...: same SOP Instance UID, same pixels"
    assert [r["path"] for r in table(pair[1], "failures")] == sorted(p for p, _ in found)


def test_the_root_says_so_and_not_where_the_sources_are(
    pair: tuple[Path, Path], source: Path
) -> None:
    said = attributes(pair[1])
    assert "patient_key" not in said
    whole = hashlib.sha256(b"dicom2cache deidentify key" + KEY).hexdigest()
    assert said["deidentify_key"] == whole[:16]
    assert said["sources"] == [{"root": 0, "path": hashed("source", str(source))}]
    assert "deidentify_key" not in attributes(pair[0])


def test_plan_convert_commit_with_a_mapping_are_the_same(
    pair: tuple[Path, Path], source: Path, key: Path, tmp_path: Path
) -> None:
    cache, mapping = tmp_path / "cache", tmp_path / "mapping.csv"
    assert run_here("plan", source, cache, "--jobs", "1", "--deidentify", key).returncode == 1
    assert run_here("convert", cache, "--jobs", "1").returncode == 0
    ran = run_here("commit", cache)
    assert ran.returncode == 2
    assert f"dicom2cache commit {cache} --deidentify KEYFILE" in ran.stderr
    ran = run_here("commit", cache, "--deidentify", key, "--mapping", cache / "here.csv")
    assert ran.returncode == 2
    assert "a mapping does not belong in the cache" in ran.stderr
    ran = run_here("commit", cache, "--deidentify", key, "--mapping", mapping)
    assert ran.returncode == 1, ran.stderr
    assert tree(cache) == tree(pair[1])
    assert mapping.stat().st_mode & 0o777 == 0o600
    rows = {
        (r["of"], r["original"]): r["hash"]
        for r in csv.DictReader(mapping.read_text().splitlines())
    }
    assert rows["path", "P2/1.dcm"] == hashed("path", "P2/1.dcm")
    assert rows["path", "bad.dcm"] == hashed("path", "bad.dcm")
    assert rows["source", str(source)] == hashed("source", str(source))
    assert rows["uid", uid("series")] == hashed("uid", uid("series"))


def test_a_mapping_grows_with_the_cache(source: Path, key: Path, tmp_path: Path) -> None:
    cache, mapping, more = tmp_path / "cache", tmp_path / "mapping.csv", tmp_path / "more"
    last = ("--jobs", "1", "--deidentify", key, "--mapping", mapping)
    assert run_here("build", source / "P1", cache, *last).returncode == 0
    shutil.copytree(source / "P2", more / "P2")
    assert run_here("update", more, cache, *last).returncode == 0
    rows = list(csv.DictReader(mapping.read_text().splitlines()))
    assert mapping.stat().st_mode & 0o777 == 0o600
    originals = [r["original"] for r in rows if r["of"] in ("path", "source")]
    wanted = ["0.dcm", "1.dcm", "P2/0.dcm", "P2/1.dcm", str(more), str(source / "P1")]
    assert sorted(originals) == sorted(wanted)
    assert all(r["hash"] == hashed(r["of"], r["original"]) for r in rows)
    whole = mapping.read_bytes()
    assert run_here("update", more, cache, *last).returncode == 0  # nothing is new
    assert mapping.read_bytes() == whole


def test_another_key_is_refused(source: Path, key: Path, tmp_path: Path) -> None:
    cache, other = tmp_path / "cache", tmp_path / "other"
    other.touch(0o600)
    other.write_bytes(bytes(32))
    assert run_here("plan", source, cache, "--jobs", "1", "--deidentify", key).returncode == 1
    assert run_here("convert", cache, "--jobs", "1").returncode == 0
    ran = run_here("commit", cache, "--deidentify", other)
    assert ran.returncode == 2
    assert "de-identified by another key" in ran.stderr
    ran = run_here("build", source, cache, "--jobs", "1", "--deidentify", other)
    assert ran.returncode == 2
    assert "give --overwrite to replace it" in ran.stderr


def test_verify_deep_finds_the_files_by_their_hashes(
    pair: tuple[Path, Path], key: Path, source: Path, tmp_path: Path
) -> None:
    plain, veiled = pair
    assert run_here("verify", veiled).returncode == 0
    ran = run_here("verify", veiled, "--deep", "1")
    assert ran.returncode == 2
    assert "give --deidentify KEYFILE, and --source FOLDER" in ran.stderr
    ran = run_here("verify", veiled, "--deep", "1", "--deidentify", key)
    assert ran.returncode == 2
    assert "it does not say where its sources are" in ran.stderr
    ran = run_here("verify", plain, "--deep", "1", "--deidentify", key, "--source", source)
    assert ran.returncode == 2
    assert "not de-identified; leave --deidentify out" in ran.stderr
    moved = tmp_path / "moved"
    shutil.copytree(source, moved)
    given = ("--deep", "1", "--deidentify", key, "--source", moved)
    assert run_here("verify", veiled, *given).returncode == 0
    assert run_here("verify", plain, "--deep", "1", "--source", moved).returncode == 0
    ds = dcmread(moved / "P2" / "1.dcm")
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(moved / "P2" / "1.dcm")
    (moved / "P3" / "0.dcm").unlink()
    ran = run_here("verify", veiled, *given)
    assert ran.returncode == 1
    gone, changed = sorted(ran.stderr.splitlines(), key=lambda line: "decoded again" in line)
    assert hashed("path", "P3/0.dcm") in gone
    assert "has this path; was it moved, or removed?" in gone
    assert hashed("path", "P2/1.dcm") in changed
    assert "P2/1" not in ran.stderr


def test_repair_finds_the_files_by_their_hashes(
    pair: tuple[Path, Path], key: Path, source: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(pair[1], cache)
    (cache / "failures" / "0.parquet").write_bytes(b"damage")
    assert run_here("repair", cache, "--jobs", "1").returncode == 0  # from its copy
    (shard,) = cache.glob("*/c.0.0.0")
    shard.unlink()
    ran = run_here("repair", cache, "--jobs", "1")
    assert ran.returncode == 1
    assert "give --deidentify KEYFILE, and --source FOLDER" in ran.stdout + ran.stderr
    ran = run_here("repair", cache, "--jobs", "1", "--deidentify", key)
    assert ran.returncode == 2
    assert "it does not say where its sources are" in ran.stderr
    given = ("--jobs", "1", "--deidentify", key, "--source", source)
    ran = run_here("repair", cache, *given)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "P1" not in ran.stdout + ran.stderr
    assert tree(cache) == tree(pair[1])


def test_caches_are_compared_under_one_naming(
    pair: tuple[Path, Path], key: Path, source: Path, tmp_path: Path
) -> None:
    plain, veiled = pair
    ran = run_here("compare", plain, veiled)
    assert ran.returncode == 2
    assert f"{veiled}: de-identified" in ran.stderr
    assert "give its key file by --deidentify" in ran.stderr
    ran = run_here("compare", plain, veiled, "--deidentify", key)
    assert ran.returncode == 1  # the unit, which was free text, is another
    lines = ran.stdout.splitlines()
    assert len(lines) == 7
    assert lines[-1] == "frames that differ: 6 (unit 6)"
    assert lines[0].endswith("frame 0: unit DOE -> US")
    assert run_here("compare", veiled, veiled).returncode == 0
    other = tmp_path / "other"
    other.touch(0o600)
    other.write_bytes(bytes(32))
    again = tmp_path / "again"
    ran = run_here("build", source, again, "--jobs", "1", "--deidentify", other)
    assert ran.returncode == 1
    ran = run_here("compare", veiled, again)
    assert ran.returncode == 2
    assert "de-identified by different keys" in ran.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--patient-key", "k"), "leave --patient-key out"),
        (("--where", "path == 'P1/0.dcm'"), "where: names path, and a recipe is kept in the cache"),
        (("--where", "mtime_ns > 5"), "where: names mtime_ns"),
    ],
)
def test_what_does_not_go_with_it(
    source: Path, key: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    ran = run_here("build", source, tmp_path / "cache", "--deidentify", key, *options)
    assert ran.returncode == 2
    assert said in ran.stderr
    ran = run_here("build", source, tmp_path / "cache", "--mapping", tmp_path / "m.csv")
    assert ran.returncode == 2
    assert "--mapping" in ran.stderr


def test_what_looks_like_a_hash_in_the_plan(key: Path, tmp_path: Path) -> None:
    """A SOP Instance UID with the mark that hashes have there is hashed all the same."""
    write_ct(tmp_path / "in", "a", 1, SOPInstanceUID="#SMITH")
    pixels = np.ones((16, 12), np.uint8)
    write_seg(tmp_path / "in/mask.dcm", [(1, "#SMITH", 0, pixels)], {1: "liver"})
    cache = built("--deidentify", key, tmp_path / "in", tmp_path / "cache")
    rows = {row["kind"]: row for row in table(cache, "frames")}
    assert rows["image"]["sop_uid"] == rows["mask"]["image_sop_uid"] == hashed("uid", "#SMITH")
