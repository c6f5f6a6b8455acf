"""Frames taken out of a cache: a new numbering, and nothing of them left once it is purged."""

from __future__ import annotations

import csv
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dicom2cache import CacheError, update, verify
from dicom2cache.privacy.keys import keyed_hash
from dicom2cache.running import growing
from dicom2cache.running.commit import commit
from dicom2cache.running.job import load_job
from tests.support.caches import Ran, attributes, command, run_here, tree
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import CacheLoader, DamagedError, NewerWarning, VolumeError, open_cache
from trainer_adapter.stage import staged

_FLAGS = ("--shard-mib", "1", "--jobs", "1")


def _series(
    folder: Path, name: str, patient: str, count: int, size: int = 512, image_type: str = "AXIAL"
) -> list[Path]:
    """A CT series of a patient whose files, UIDs and pixels follow from `name`."""
    return [
        write_dicom(
            folder / f"{name}{k}.dcm", pattern(f"{name}{k}", (size, size)),
            SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT", PatientID=patient,
            StudyInstanceUID=uid(f"study {name}"), SeriesInstanceUID=uid(f"series {name}"),
            SOPInstanceUID=uid(f"{name}{k}"), ImageType=["ORIGINAL", "PRIMARY", image_type],
            RescaleSlope=1, RescaleIntercept=-1024, InstanceNumber=k + 1, BitsStored=12, HighBit=11,
            FrameOfReferenceUID=uid(name), ImagePositionPatient=[0, 0, k],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1], SliceThickness=1,
            StudyDate="20250101", AccessionNumber=f"acc {name}",
        )
        for k in range(count)
    ]  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three patients: at 1 MiB a shard a has 0, 1 and half of 2, b the rest of 2, 3 and 4, c 5."""
    folder = tmp_path / "source"
    _series(folder / "anna", "a", "Anna", 3)
    _series(folder / "bert", "b", "Bert", 5)
    _series(folder / "cleo", "c", "Cleo", 2)
    return folder


@pytest.fixture
def cache(source: Path, tmp_path: Path) -> Path:
    """A cache of them."""
    assert run_here("build", source, tmp_path / "cache", *_FLAGS).returncode == 0
    return tmp_path / "cache"


def _removed(*arguments: object, status: int = 0) -> Ran:
    ran = run_here("remove", *arguments)
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran


def _rows(cache: Path, kind: str = "frames") -> list[dict[str, Any]]:
    entries = attributes(cache)["tables"][kind]
    return [row for e in entries for row in pq.read_table(cache / e["path"]).to_pylist()]


def _values(name: str) -> np.ndarray[Any, Any]:
    return np.asarray(pattern(name, (512, 512)).astype(np.int16) - 1024)


def _shown(cache: Path) -> list[tuple[str, int]]:
    return [(Path(row["path"]).stem, row["row"]) for row in _rows(cache)]


def _check_pixels(cache: Path) -> None:
    """Each row of frames/ has the pixels of its file."""
    opened = open_cache(cache, check="always")
    for k, row in enumerate(_rows(cache)):
        np.testing.assert_array_equal(opened[k], _values(Path(row["path"]).stem))
    assert len(opened) == attributes(cache)["counts"]["frames_stored"]


def test_a_patient(cache: Path, source: Path, tmp_path: Path) -> None:
    assert _shown(cache) == [
        ("b0", 0), ("b1", 1), ("b2", 2), ("b3", 3), ("b4", 4), ("a0", 5), ("a1", 6), ("a2", 7),
        ("c0", 8), ("c1", 9),
    ]  # fmt: skip
    array = cache / "int16_512x512"
    before = {p.name: (p.stat().st_ino, p.read_bytes()) for p in array.glob("c.*")}
    dry = tree(cache)
    ran = _removed(cache, "--patient-id", "Anna", "--dry-run")
    assert ran.stdout == (
        f"{cache}: 3 frames of 3 files would be removed, 7 frames left; 512.0 KiB of 2 shards "
        "would be copied\n"
    )
    assert tree(cache) == dry
    ran = _removed(cache, "--patient-id", "Anna")
    assert ran.stdout == (
        f"{cache}: 3 frames of 3 files removed, 7 frames left; numbering 1 now\n"
        f"they stay on the disk until `dicom2cache purge {cache}`\n"
    )
    # b4 shared shard 2 with a0: it is in shard 5, the next one, and in its place all the same.
    assert _shown(cache) == [
        ("b0", 0), ("b1", 1), ("b2", 2), ("b3", 3), ("b4", 10), ("c0", 8), ("c1", 9),
    ]  # fmt: skip
    after = {p.name: (p.stat().st_ino, p.read_bytes()) for p in array.glob("c.*")}
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == ["c.5.0.0"]
    assert [(r["shard"], r["frames"], r["slots"]) for r in _rows(cache, "shards")] == [
        (0, 2, 2), (1, 2, 2), (4, 2, 2), (5, 1, 1),
    ]  # fmt: skip
    about = attributes(cache)
    assert (about["numbering"], about["generation"]) == (1, 1)
    assert {kind: [e["path"] for e in of] for kind, of in about["tables"].items()} == {
        kind: [f"{kind}/1.parquet"] for kind in ("frames", "failures", "shards", "removed")
    }
    shutil.rmtree(source / "anna")
    fresh = tmp_path / "fresh"
    assert run_here("build", source, fresh, *_FLAGS).returncode == 0
    other = attributes(fresh)
    assert about["counts"] == other["counts"]
    (mine,), (theirs,) = about["arrays"], other["arrays"]
    assert (mine["slots"], mine["frames"]) == (11, 7)
    for name, value in theirs["statistics"].items():
        assert mine["statistics"][name] == pytest.approx(value, rel=1e-12)
    assert run_here("compare", cache, fresh).returncode == 0
    assert verify(cache, deep=1.0) == []
    _check_pixels(cache)
    stack = _rows(cache)[0]["stack"]
    np.testing.assert_array_equal(
        open_cache(cache).volume(stack), np.stack([_values(f"b{k}") for k in range(5)])
    )
    info = run_here("info", cache).stdout.splitlines()
    assert info[1] == (
        f"numbering 1; 9 files of earlier ones, 2.1 MiB, wait for `dicom2cache purge {cache}`"
    )
    assert run_here("purge", cache).stdout == f"{cache}: 9 files deleted, 2.1 MiB\n"
    assert run_here("purge", cache).stdout == f"{cache}: nothing to purge\n"
    assert sorted(p.name for p in array.glob("c.*")) == ["c.0.0.0", "c.1.0.0", "c.4.0.0", "c.5.0.0"]
    assert not (cache / "numberings").exists()
    assert verify(cache) == []
    _check_pixels(cache)


def _texts(cache: Path) -> set[str]:
    """All texts of all Parquet tables below, those too that a dictionary has and no row."""
    found: set[str] = set()
    for path in cache.rglob("*.parquet"):
        schema = pq.read_schema(path)
        names = [f.name for f in schema if str(f.type) in ("string", "dictionary")]
        for column in pq.read_table(path, columns=names, read_dictionary=names).columns:
            for chunk in column.chunks:
                found |= set(chunk.dictionary.to_pylist())
    data = (cache / ".spare" / "seen.bin").read_bytes()[32:]
    found |= set(pq.read_table(pa.BufferReader(data))["path"].to_pylist())
    return found - {None}


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("veiled", [False, True], ids=["plain", "deidentified"])
def test_nothing_is_left_on_the_disk(tmp_path: Path, codec: str, veiled: bool) -> None:
    source, cache, key, mapping = (tmp_path / n for n in ("source", "cache", "key", "mapping.csv"))
    files = _series(source / "anna", "a", "Anna", 3)
    _series(source / "bert", "b", "Bert", 3)
    away = source / "elsewhere"
    again = away / "copy of a1.dcm"
    write_dicom(away / "x.dcm", pattern("x", (64, 64)), PatientID="Bert")
    shutil.copy(files[1], again)
    no_image = write_dicom(away / "report a.dcm", PatientID="Anna", SOPInstanceUID=uid("report"),
                           SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
                           SeriesInstanceUID=uid("reports"))  # fmt: skip
    scout = _series(away, "scout", "Anna", 1, image_type="LOCALIZER")[0]
    broken = write_dicom(away / "broken a.dcm", pattern("broken", (64, 64)), PatientID="Anna",
                         syntax="1.2.840.10008.1.2.4.90", encoded=[b"no codestream"])  # fmt: skip
    odd = write_dicom(away / "odd a.dcm", pattern("odd", (64, 64)), PatientID="Anna",
                      PhotometricInterpretation="ODD")  # fmt: skip
    (source / "anna" / "notes of anna.txt").write_text("Anna")
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    own = ["--deidentify", key] if veiled else ["--patient-key", key]
    said = ["--mapping", mapping] if veiled else []
    ran = run_here("build", source, cache, *_FLAGS, "--codec", codec, *own, *said,
                   "--exclude", "localizer")  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    here = _rows(cache, "failures")
    assert sorted(r["outcome"] for r in here) == [
        "duplicate", "excluded", "failed", "failed", "no-pixels", "not-dicom",
    ]  # fmt: skip

    def hashed(domain: str, text: str) -> str:
        return keyed_hash(key.read_bytes(), text, f"{domain}:" if veiled else "") or ""

    # What is to go: pixels or chunks of her frames, her hash and accession number, UIDs, paths.
    opened = open_cache(cache)
    gone = [hashed("patient", "Anna"), *(hashed("accession", f"acc {s}") for s in ("a", "scout"))]
    uids = [uid(f"a{k}") for k in range(3)] + [uid(n) for n in ("study a", "series a", "scout0",
            "study scout", "series scout", "reports", "a")]  # fmt: skip
    paths = [
        p.relative_to(source).as_posix() for p in (*files, again, no_image, scout, broken, odd)
    ]
    gone += [hashed("uid", u) if veiled else u for u in uids]
    gone += [hashed("path", p) if veiled else p for p in paths]
    pixels = [
        np.asarray(opened[k]).tobytes()
        for k in range(len(opened)) if _rows(cache)[k]["patient"] == gone[0]
    ]  # fmt: skip
    assert len(pixels) == 3
    shards = {p: p.read_bytes() for p in cache.glob("*/c.*")}
    assert codec == "zstd" or all(any(p in s for s in shards.values()) for p in pixels)
    assert set(gone[:1]) <= _texts(cache)
    ran = _removed(cache, "--patient-id", "Anna", *own)
    assert verify(cache) == []
    said = ["--mapping", mapping] if veiled else []
    assert run_here("purge", cache, *said).returncode == 0
    assert verify(cache) == []
    everything = b"".join(p.read_bytes() for p in sorted(cache.rglob("*")) if p.is_file())
    for text in gone:
        assert text.encode() not in everything, text
    assert not _texts(cache) & set(gone)
    for bits in pixels:
        assert bits[:4096] not in everything
    left = {p for p in cache.glob("*/c.*")}
    assert not [p for p, data in shards.items() if p in left and p.read_bytes() != data]
    stay = [r["patient"] for r in _rows(cache)]
    assert set(stay) == {hashed("patient", "Bert")}
    assert len(stay) == 4
    if veiled:
        with open(mapping, newline="") as file:
            rows = list(csv.reader(file))
        assert not {r[1] for r in rows} & set(gone)
        assert hashed("path", "bert/b0.dcm") in {r[1] for r in rows}
    else:  # of a de-identified cache nobody knows in which folder the text was
        assert "notes of anna.txt" not in str(_rows(cache, "failures"))
    # And none of it comes back.
    os.utime(files[0])
    write_dicom(source / "later.dcm", pattern("later", (64, 64)), PatientID="Anna")
    ran = run_here("update", source, cache, "--jobs", "1", *own)
    assert ran.returncode == 0, ran.stderr
    assert "nothing new; 4 frames" in ran.stdout
    assert not _texts(cache) & set(gone)


def test_what_was_removed_stays_out(cache: Path, source: Path) -> None:
    _removed(cache, "--patient-id", "Anna")
    ran = run_here("update", source, cache)
    assert ran.stdout == f"{cache}: nothing new; 7 frames\n"
    assert "3 files were removed from the cache before, and left out" in ran.stderr
    assert run_here("build", source, cache, *_FLAGS).stdout.startswith(f"{cache}: 7 frames")
    # Files of hers that were not there then, one that changed, a copy under another name.
    _series(source / "anna", "later", "Anna", 2)
    (source / "anna" / "a0.dcm").unlink()
    write_dicom(source / "anna" / "a0.dcm", pattern("n", (512, 512)), PatientID="Dora")
    shutil.copy(source / "anna" / "a1.dcm", source / "bert" / "zz.dcm")
    before = (cache / "zarr.json").read_bytes()
    ran = run_here("update", source, cache, "--jobs", "1")
    assert ran.returncode == 0, ran.stderr
    assert f"{cache}: 1 frame of 1 file added; 8 frames now" in ran.stdout
    assert "5 files were removed from the cache before, and left out" in ran.stderr
    assert [Path(r["path"]).stem for r in _rows(cache)][7:] == ["a0"]
    assert not _rows(cache, "failures")
    assert verify(cache) == []
    about = attributes(cache)
    assert (about["numbering"], about["generation"]) == (1, 2)
    assert len(about["tables"]["frames"]) == 2
    assert (cache / "zarr.json").read_bytes() != before
    _removed(cache, "--series", uid("series b"), "--series", uid("series c"))
    assert [Path(r["path"]).stem for r in _rows(cache)] == ["a0"]
    about = attributes(cache)
    assert (about["numbering"], about["generation"], about["origin"]) == (2, 3, about["origin"])
    assert run_here("update", source, cache).stdout == f"{cache}: nothing new; 1 frame\n"
    assert verify(cache) == []
    assert run_here("purge", cache).returncode == 0
    assert verify(cache) == []


def test_a_study_and_an_expression(cache: Path, source: Path) -> None:
    _removed(cache, "--study", uid("study a"))
    assert [name for name, _ in _shown(cache)] == ["b0", "b1", "b2", "b3", "b4", "c0", "c1"]
    ran = _removed(cache, "--where", "instance == 2 and modality == 'CT'")
    assert "2 frames of 2 files removed, 5 frames left; numbering 2 now" in ran.stdout
    assert [name for name, _ in _shown(cache)] == ["b0", "b2", "b3", "b4", "c0"]
    _check_pixels(cache)
    assert verify(cache) == []
    assert run_here("update", source, cache).stdout == f"{cache}: nothing new; 5 frames\n"
    with pytest.raises(VolumeError, match=r"frames \[1\] of it are not stored"):
        open_cache(cache).volume(_rows(cache)[0]["stack"])


def test_all_of_it(cache: Path, source: Path) -> None:
    ran = _removed(cache, "--where", "modality == 'CT'")
    assert "10 frames of 10 files removed, 0 frames left" in ran.stdout
    assert verify(cache) == []
    assert run_here("purge", cache).returncode == 0
    assert verify(cache) == []
    assert not list(cache.glob("*/c.*"))
    assert len(open_cache(cache)) == 0
    write_dicom(source / "new.dcm", pattern("new", (512, 512), top=99), PatientID="Dora",
                SeriesInstanceUID=uid("new"))  # fmt: skip
    assert "1 frame of 1 file added; 1 frame now" in run_here("update", source, cache).stdout
    assert verify(cache) == []


def test_what_matches_nothing(cache: Path) -> None:
    before = tree(cache)
    ran = _removed(cache, "--patient-id", "Nobody", "--patient-id", "anna")
    assert ran.stdout == f"{cache}: nothing to remove; 10 frames\n"
    assert ran.stderr == (
        "Nobody: nothing in the cache is of it; files of it that come later are added\n"
        "anna: nothing in the cache is of it; files of it that come later are added\n"
    )
    assert _removed(cache, "--where", "kvp > 200").stdout.endswith("nothing to remove; 10 frames\n")
    assert tree(cache) == before
    _removed(cache, "--patient-id", "Anna", "--patient-id", "Nobody")
    assert _removed(cache, "--patient-id", "Anna").stderr == "Anna: was removed before\n"
    assert attributes(cache)["numbering"] == 1


def test_what_is_refused(cache: Path, tmp_path: Path) -> None:
    before = tree(cache)
    one = "say what to remove by one of --patient-id, --study, --series"
    assert one in _removed(cache, status=2).stderr
    assert one in _removed(cache, "--patient-id", "A", "--study", "1.2", status=2).stderr
    assert one in _removed(cache, "--patient-id", " ", status=2).stderr
    assert "no such column" in _removed(cache, "--where", "ward == 3", status=2).stderr
    assert "is no condition" in _removed(cache, "--where", "instance", status=2).stderr
    assert "cannot compare" in _removed(cache, "--where", "instance == 'x'", status=2).stderr
    key = tmp_path / "key"
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    ran = _removed(cache, "--patient-id", "Anna", "--patient-key", key, status=2)
    assert "patients are hashed by another key" in ran.stderr
    ran = _removed(cache, "--patient-id", "Anna", "--deidentify", key, status=2)
    assert "not de-identified; leave --deidentify out" in ran.stderr
    assert "not a cache" in _removed(tmp_path, "--patient-id", "Anna", status=2).stderr
    assert tree(cache) == before


def test_a_damaged_frame_is_not_copied(cache: Path) -> None:
    shard = cache / "int16_512x512" / "c.2.0.0"  # b4 and a0
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(bytes(data))
    ran = _removed(cache, "--patient-id", "Anna", status=2)
    assert f"{shard}: slot 0 is damaged (CRC-32C), and would be copied" in ran.stderr
    assert "numbering" not in attributes(cache)
    assert len(_rows(cache)) == 10
    assert run_here("repair", cache, "--jobs", "1").returncode == 0
    assert _removed(cache, "--patient-id", "Anna").returncode == 0
    assert verify(cache) == []


def test_a_reader_goes_on_until_the_purge(cache: Path, tmp_path: Path) -> None:
    opened, never_touched = open_cache(cache), open_cache(cache)
    pickled = pickle.dumps(never_touched)
    loader = CacheLoader(opened, batch_size=2, shuffle=True, threads=0)
    assert sorted(torch.cat([b.index for b in loader]).tolist()) == list(range(10))
    state = loader.state_dict()
    del loader
    loader = CacheLoader(open_cache(cache), batch_size=2, threads=0)
    names = [name for name, _ in _shown(cache)]
    assert opened.numbering == 0
    _removed(cache, "--patient-id", "Anna")
    again = pickle.loads(pickled)  # as a worker that starts now has it
    for reader in (opened, never_touched, again, staged(again, tmp_path / "node")):
        assert (len(reader), reader.newer(), reader.numbering) == (10, 0, 0)
        for k, name in enumerate(names):
            np.testing.assert_array_equal(reader[k], _values(name))
        assert reader.column("path").to_pylist()[5] == "anna/a0.dcm"
    what = "has numbering 1 by now, and this loader numbering 0: frames were removed"
    with pytest.warns(NewerWarning, match=what):
        assert len(list(loader)) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(loader)  # it is said once
    new = CacheLoader(open_cache(cache), batch_size=2, shuffle=True, threads=0)
    with pytest.raises(ValueError, match="is of numbering 0 of the cache, and this is numbering 1"):
        new.load_state_dict(json.loads(json.dumps(state)))
    new.load_state_dict(new.state_dict())
    first = next(iter(new)).index
    assert first.max() < 7
    never_touched, partly = pickle.loads(pickled), pickle.loads(pickled)
    np.testing.assert_array_equal(partly[0], _values("b0"))
    run_here("purge", cache)
    for k, name in enumerate(names):  # what is mapped stays
        np.testing.assert_array_equal(opened[k], _values(name))
    for k in (0, 4, 5, 6):
        with pytest.raises(DamagedError, match=r"is of numbering 1, and .* opened in numbering 0"):
            never_touched[k]
    np.testing.assert_array_equal(partly[1], _values("b1"))  # in a shard that stays
    for k in (4, 5, 6):
        with pytest.raises(DamagedError, match=r"is of numbering 1, and .* opened in numbering 0"):
            partly[k]
    with pytest.raises(DamagedError, match="opened in numbering 0"):
        never_touched.column("sop_uid")
    with pytest.raises(DamagedError, match="opened in numbering 0"):
        pickle.loads(pickled)
    _check_pixels(cache)


def test_another_cache_is_no_later_numbering(cache: Path, source: Path) -> None:
    opened = open_cache(cache)
    shutil.rmtree(source / "cleo")
    assert run_here("build", source, cache, *_FLAGS, "--overwrite").returncode == 0
    _removed(cache, "--patient-id", "Anna")
    with pytest.raises(DamagedError, match="another cache was built here"):
        opened[0]


def _killed(what: str, cache: Path, folder: Path, stride: int) -> list[list[Any]]:
    folder.mkdir()
    steps = ["0", str(stride)]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.kill_remove", what, "Anna", cache, folder, *steps],
        cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_killed(tmp_path: Path) -> None:
    """`make test-crash` has every step."""
    source, cache = tmp_path / "source", tmp_path / "cache"
    _series(source / "anna", "a", "Anna", 3, 64)
    _series(source / "bert", "b", "Bert", 5, 64)
    assert run_here("build", source, cache, "--jobs", "1").returncode == 0
    steps = _killed("remove", cache, tmp_path / "killed", 12)
    assert len(steps) > 7
    _removed(cache, "--patient-id", "Anna")
    whole = tree(cache)
    numberings = [has for _, _, _, has, _, _ in steps]
    assert [n for n, _ in itertools.groupby(map(tuple, numberings))] == [(0, 8), (1, 5)]
    for number, name, problems, _, status, found in steps:
        assert (problems, status) == ([], 0), (number, name, problems)
        assert found == whole, (number, name)
    steps = _killed("purge", cache, tmp_path / "purged", 6)
    assert len(steps) > 2
    run_here("purge", cache)
    for number, name, problems, has, status, found in steps:
        assert (problems, has, status) == ([], [1, 5], 0), (number, name, problems)
        assert found == tree(cache), (number, name)


def test_two_at_once(cache: Path) -> None:
    asked = [("--patient-id", "Anna"), ("--patient-id", "Cleo"), ("--patient-id", "Anna")]
    running = [
        subprocess.Popen(command("remove", cache, *words), stderr=subprocess.PIPE, text=True)
        for words in asked
    ]
    said = [process.communicate()[1] for process in running]
    assert [p.returncode for p in running] == [0, 0, 0], said
    assert [name for name, _ in _shown(cache)] == ["b0", "b1", "b2", "b3", "b4"]
    assert attributes(cache)["numbering"] == 2
    assert verify(cache) == []
    assert not (cache / "build").exists()
    _check_pixels(cache)


def test_a_removal_that_was_cut_short_is_ended_by_others(cache: Path, source: Path) -> None:
    script = (
        "import os, signal, sys; from dicom2cache.running import commit; from dicom2cache import "
        "remove; commit.root_metadata = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        "remove(sys.argv[1], patient_id=['Anna'])"
    )
    ran = subprocess.run([sys.executable, "-c", script, cache], check=False)
    assert ran.returncode == -signal.SIGKILL
    assert (cache / "build" / "plan.json").exists()
    assert len(open_cache(cache)) == 10
    assert verify(cache) == []
    assert run_here("info", cache).stdout.splitlines()[-1] == (
        f"{cache}: frames are being taken out; if nobody works on it any more, run `dicom2cache "
        f"commit {cache}`"
    )
    ran = run_here("purge", cache)
    assert (ran.returncode, len(open_cache(cache))) == (2, 10)
    assert "frames are being added to it or removed; end that first" in ran.stderr
    edited = pa.table({"kind": ["frames"], "row": [10]})
    with pytest.raises(CacheError, match=r"row 10 of frames/, which the cache has not \(10 rows\)"):
        commit(replace(load_job(cache), gone=edited))
    ran = run_here("update", source, cache)
    assert ran.returncode == 0, ran.stderr
    assert attributes(cache)["numbering"] == 1
    assert verify(cache) == []


def test_while_files_are_added(cache: Path, source: Path) -> None:
    _series(source / "dora", "d", "Dora", 1)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.kill_update", source, cache],
        cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert ran.returncode == -signal.SIGKILL
    ran = _removed(cache, "--patient-id", "Anna", status=2)
    assert "files are being added to it; end that first" in ran.stderr
    assert run_here("convert", cache, "--jobs", "1").returncode == 0
    assert run_here("commit", cache).returncode == 0
    _removed(cache, "--patient-id", "Anna")
    assert len(_rows(cache)) == 8
    assert verify(cache) == []


def test_an_update_whose_sources_are_gone_is_given_up(cache: Path, tmp_path: Path) -> None:
    """Else nothing could ever be removed again: a patient's consent would wait for a folder."""
    late = tmp_path / "late"
    _series(late / "dora", "d", "Dora", 1)
    _series(late / "emil", "e", "Emil", 4)
    assert run_here("plan", late, cache, "--update").returncode == 0
    assert run_here("convert", cache, "--part", "0/2", "--jobs", "1").returncode == 0
    shutil.rmtree(late)
    words = f"or give up what was to be added: delete {cache}/build"
    for ran in (run_here("convert", cache), _removed(cache, "--patient-id", "Anna", status=2)):
        assert (ran.returncode, words in ran.stderr) == (2, True)
    shutil.rmtree(cache / "build")
    _removed(cache, "--patient-id", "Anna")
    assert run_here("purge", cache).returncode == 0
    assert len(_rows(cache)) == 7
    _check_pixels(cache)
    for found in verify(cache):
        assert "none of the cache's" in found
        Path(found.partition(": ")[0]).unlink()
    assert verify(cache) == []


def test_a_removal_while_an_update_looks_for_files(
    cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says it added was -2 frames."""
    _series(source / "dora", "d", "Dora", 1)
    plan = growing.plan_update

    def late(asked: Any) -> Any:
        _removed(cache, "--patient-id", "Anna")
        return plan(asked)

    monkeypatch.setattr(growing, "plan_update", late)
    done = update(source, cache, jobs=1)
    assert (done.added["frames_stored"], done.counts["frames_stored"]) == (1, 8)


def test_repair_in_a_later_numbering(cache: Path, source: Path) -> None:
    _removed(cache, "--patient-id", "Anna")
    for name in ("int16_512x512/c.5.0.0", "frames/1.parquet", "removed/1.parquet", "zarr.json"):
        path = cache / name
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(bytes(data))
    assert verify(cache)
    ran = run_here("repair", cache, "--jobs", "1")
    assert ran.returncode == 0, ran.stderr
    assert verify(cache) == []
    _check_pixels(cache)


def test_merging(cache: Path, source: Path, tmp_path: Path) -> None:
    other, whole = tmp_path / "other", tmp_path / "whole"
    _series(tmp_path / "more", "d", "Dora", 2)
    _series(tmp_path / "more", "a", "Anna", 1)
    assert run_here("build", tmp_path / "more", other, *_FLAGS).returncode == 0
    _removed(cache, "--patient-id", "Anna")
    ran = run_here("merge", cache, other, whole)
    assert ran.returncode == 2
    assert f"{other}: 1 row of frames/ of what was removed from another part" in ran.stderr
    _removed(other, "--patient-id", "Anna")
    assert run_here("merge", cache, other, whole).returncode == 0
    assert sorted(name for name, _ in _shown(whole)) == [
        "b0", "b1", "b2", "b3", "b4", "c0", "c1", "d0", "d1",
    ]  # fmt: skip
    assert verify(whole) == []
    _check_pixels(whole)
    assert attributes(whole)["numbering"] == 1  # frames of the first part keep their indices
    assert "nothing new; 9 frames" in run_here("update", source, whole).stdout
    assert "nothing to purge" in run_here("purge", whole).stdout
    assert run_here("purge", cache).returncode == 0
    assert verify(whole) == []
    _check_pixels(whole)


def test_a_folder_that_nothing_is_left_of(tmp_path: Path) -> None:
    """Its path may be a name."""
    _series(tmp_path / "Anna", "a", "Anna", 1)
    _series(tmp_path / "Bert", "b", "Bert", 1)
    cache = tmp_path / "cache"
    assert run_here("build", tmp_path / "Anna", tmp_path / "Bert", cache).returncode == 0
    _removed(cache, "--patient-id", "Anna")
    assert attributes(cache)["sources"] == [{"root": 1, "path": str(tmp_path / "Bert")}]
    run_here("purge", cache)
    assert b"Anna" not in b"".join(p.read_bytes() for p in cache.rglob("*") if p.is_file())
    assert verify(cache) == []
    _series(tmp_path / "Cleo", "c", "Cleo", 1)
    ran = run_here("update", tmp_path / "Cleo", tmp_path / "Anna", cache, "--jobs", "1")
    assert "1 frame of 1 file added; 2 frames now" in ran.stdout, ran.stderr
    assert [(s["root"], Path(s["path"]).name) for s in attributes(cache)["sources"]] == [
        (1, "Bert"), (3, "Cleo"),
    ]  # fmt: skip
    assert verify(cache) == []
    _check_pixels(cache)
