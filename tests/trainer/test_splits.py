"""Splits: no patient on two sides, in archives with gaps in their headers and with copies."""

from __future__ import annotations

import csv
import hashlib
import hmac
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.caches import built, run_here
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import Cache, FrameDataset, SplitError, open_cache

PATIENTS = [f"P{k:02}" for k in range(24)]
ALIASES = [f"A{k}" for k in range(6)]
SIZE = (8, 8)
ZERO = np.zeros(SIZE, np.uint16)
BARS = np.tile(np.arange(8, dtype=np.uint16) * 500, (8, 1))
"""a test pattern"""


def write(
    folder: Path, patient: str | None, study: str | None, name: str, pixels: Any = None, **more: Any
) -> None:
    """An image of a study of a patient, in a file called by all three."""
    place = f"{patient} {study}"
    write_dicom(
        folder / f"{place} {name}.dcm",
        pattern(f"{place} {name}", SIZE) if pixels is None else pixels,
        SOPInstanceUID=uid(f"{place} {name}"),
        **{
            "PatientID": patient,
            "StudyInstanceUID": study and uid(f"{place}"),
            "SeriesInstanceUID": uid(f"{place} series"),
            "Modality": "CT" if name < "b" else "MR",
            **more,
        },
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """in/, later/, a key, and the cache of in/."""
    folder = tmp_path_factory.mktemp("splits")
    (folder / "key").touch(0o600)
    (folder / "key").write_bytes(bytes(range(32)))
    first = folder / "in"
    for patient in PATIENTS:
        for study in ("one", "two"):
            write(first, patient, study, "a")
        write(first, patient, "one", "b")
        write(first, patient, "one", "empty", ZERO)  # all have the same, and nothing follows
        write(first, patient, "one", "bars", BARS)
    write(first, None, "nobody's", "a")
    write(first, None, "nobody's", "b", SeriesInstanceUID=uid("another"))
    # A file that says no patient, in a study of one.
    write(first, None, "mask", "a", StudyInstanceUID=uid("P03 two"))
    write(first, None, None, "a")
    write(first, None, None, "b", SeriesInstanceUID=None)
    # The same images under other names: once P01's, once P05's and P06's.
    write(first, "Q01", "again", "a", pattern("P01 one a", SIZE))
    write(first, "Q05", "again", "a", pattern("P05 two a", SIZE))
    write(first, "Q05", "again", "b", pattern("P06 two a", SIZE))
    for alias in ALIASES:  # one patient under six names: more than four, and nothing else
        for name in ("a", "b"):
            write(first, alias, "export", name, pattern(f"exported {name}", SIZE))
    for patient in ("P07", "P08"):  # equal, but of 36 pixels
        write(first, patient, "tiny", "a", np.arange(36, dtype=np.uint16).reshape(6, 6))
    for patient in [*PATIENTS[:4], *(f"N{k:02}" for k in range(24))]:
        for name in "ab":
            write(folder / "later", patient, "three", name)
    built(first, folder / "cache", "--patient-key", folder / "key", "--jobs", "1")
    return folder


def hashed(patient: str) -> str:
    return hmac.new(bytes(range(32)), patient.encode(), hashlib.sha256).hexdigest()[:32]


def place(key: str, seed: int = 0, names: str = "train,val,test") -> float:
    """Where docs/splits.md puts a group, in [0, 1)."""
    digest = hmac.new(str(seed).encode(), f"{names}\n{key}".encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def side_of(key: str) -> str:
    at = place(key)
    return "train" if at < 0.8 else "val" if at < 0.9 else "test"


def patients(cache: Cache) -> set[str]:
    return set(cache.column("patient").to_pylist()) - {None}


def sides_of(sides: Any, column: str) -> dict[Any, str]:
    """{value: side}; no value is on two sides."""
    found: dict[Any, str] = {}
    for name, cache in sides.items():
        for value in cache.column(column).to_pylist():
            if value is not None:
                assert found.setdefault(value, name) == name, (
                    f"{value} on {name} and {found[value]}"
                )
    return found


def test_sides_follow_from_the_hash_of_the_patient(folder: Path) -> None:
    cache = open_cache(folder / "cache")
    sides = cache.split()
    assert (list(sides), len(sides)) == (["train", "val", "test"], 3)
    found = sides_of(sides, "patient")
    free = [p for p in PATIENTS if p not in ("P01", "P03", "P05", "P06")]
    assert {p: found[hashed(p)] for p in free} == {p: side_of(f"patient:{hashed(p)}") for p in free}
    assert sum(map(len, sides.values())) == len(cache)
    assert len({i for side in sides.values() for i in side.indices.tolist()}) == len(cache)
    assert sides.train.indices.tolist() == sides["train"].indices.tolist()
    assert sides.sides.tolist() == [
        next(k for k, s in enumerate(sides.values()) if i in s.indices) for i in range(len(cache))
    ]
    other = sides_of(cache.split(seed=1), "patient")
    assert [other[hashed(p)] for p in free] != [found[hashed(p)] for p in free]


def test_what_says_no_patient_goes_with_its_study(folder: Path) -> None:
    cache = open_cache(folder / "cache")
    for seed in range(8):
        sides = cache.split(fractions=(0.5, 0.5), seed=seed)
        found = sides_of(sides, "study_uid")
        path = sides_of(sides, "path")
        assert found[uid("P03 two")] == sides_of(sides, "patient")[hashed("P03")]
        assert path["None nobody's a.dcm"] == path["None nobody's b.dcm"]
        names = "train,val"
        for group, file in (
            (f"study_uid:{uid(chr(78) + 'one nobody' + chr(39) + 's')}", "None nobody's a.dcm"),
            (f"series_uid:{uid('None None series')}", "None None a.dcm"),
            ("path:None None b.dcm", "None None b.dcm"),
        ):
            assert path[file] == ("train" if place(group, seed, names) < 0.5 else "val"), file


def test_equal_frames_keep_patients_together(folder: Path) -> None:
    cache = open_cache(folder / "cache")
    for seed in range(8):
        found = sides_of(cache.split(fractions=(0.5, 0.5), seed=seed), "patient")
        one = {p: found[hashed(p)] for p in ("P01", "Q01", "P05", "Q05", "P06", "P07", "P08")}
        assert one["P01"] == one["Q01"]
        assert one["P05"] == one["Q05"] == one["P06"]
        assert len({found[hashed(p)] for p in ALIASES}) == 1
    sides = cache.split(fractions=(0.5, 0.5))
    first = min(
        map(hashed, ALIASES),
        key=lambda p: cache.select(patient=p).indices[0],
    )
    pairs = {
        frozenset((r["value"], r["other_value"])): r["frames"] for r in sides.leaks.to_pylist()
    }
    assert pairs == {
        frozenset((hashed("P01"), hashed("Q01"))): 1,
        frozenset((hashed("P05"), hashed("Q05"))): 1,
        frozenset((hashed("P06"), hashed("Q05"))): 1,
        **{frozenset((first, hashed(p))): 2 for p in ALIASES if hashed(p) != first},
    }
    for row in sides.leaks.to_pylist():
        np.testing.assert_array_equal(cache[row["sample"]], cache[row["other_sample"]])
        assert cache.column("patient")[row["sample"]].as_py() == row["value"]
    assert "8 pairs of them have equal frames, and are kept together" in repr(sides)
    assert "8 pairs of them have equal frames, and are kept together" in sides._repr_html_()
    assert "1 image is in many of them" in repr(sides)


def test_the_same_side_in_every_selection(folder: Path) -> None:
    cache = open_cache(folder / "cache")
    whole = sides_of(cache.split(), "patient")
    for chosen in (cache.select(modality="MR"), cache[::-3]):
        some = sides_of(chosen.split(), "patient")
        assert some.items() <= whole.items()
        assert sum(map(len, chosen.split().values())) == len(chosen)


def test_an_update_moves_nobody(folder: Path, tmp_path: Path) -> None:
    grown = Path(shutil.copytree(folder / "cache", tmp_path / "cache"))
    before = open_cache(grown).split()
    balanced = open_cache(grown).split(folds=4, stratify="modality")
    before.write(tmp_path / "sides.csv")
    balanced.write(tmp_path / "folds.parquet")
    ran = run_here("update", folder / "in", folder / "later", grown, "--patient-key",
                   folder / "key", "--jobs", "1")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    cache = open_cache(grown)
    after = cache.split()
    assert len(cache) == len(before.sides) + 56
    for column in ("patient", "study_uid", "path"):
        was, now = sides_of(before, column), sides_of(after, column)
        assert was.items() < now.items()
    stored = cache.split(tmp_path / "sides.csv")
    assert stored.sides.tolist() == after.sides.tolist()
    folds = cache.split(tmp_path / "folds.parquet")
    was, now = sides_of(balanced, "patient"), sides_of(folds, "patient")
    assert was.items() < now.items()
    new = [f"N{k:02}" for k in range(24)]
    assert [now[hashed(p)] for p in new] == [
        f"fold{int(4 * place(f'patient:{hashed(p)}', 0, 'fold0,fold1,fold2,fold3'))}" for p in new
    ]


def test_balanced_sides_have_their_share_of_each_class(folder: Path) -> None:
    cache = open_cache(folder / "cache").select(path=[
        f"{p} {study} {name}.dcm" for p in PATIENTS for study, name in
        (("one", "a"), ("two", "a"), ("one", "b"))
    ])  # fmt: skip
    sides = cache.split(fractions={"fit": 0.75, "held": 0.25}, stratify="modality")
    assert sides.table.to_pydict() == {
        "side": ["fit", "held"], "patients": [18, 6], "studies": [36, 12], "frames": [54, 18],
        "share": [0.75, 0.25], "CT": [36, 12], "MR": [18, 6],
    }  # fmt: skip
    assert "balanced by modality" in repr(sides)
    page = sides._repr_html_()
    assert "balanced by modality" in page
    assert [re.findall(r"<td>(.*?)</td>", row) for row in page.split("<tr>")[2:]] == [
        ["fit", "18", "36", "54", "75.0%", "36", "18"],
        ["held", "6", "12", "18", "25.0%", "12", "6"],
    ]
    folds = cache.split(folds=3, stratify=cache.column("modality").to_pylist())
    assert [row["CT"] for row in folds.table.to_pylist()] == [16, 16, 16]
    fold = folds.fold(1)
    assert fold["val"].indices.tolist() == folds["fold1"].indices.tolist()
    assert sorted([*fold.train.indices, *fold.val.indices]) == sorted(cache.indices)
    two = np.stack([np.arange(len(cache)) % 2, np.zeros(len(cache), np.int64)], axis=1)
    assert cache.split(stratify=["modality", "kind"]).table.column_names[-3:] == [
        "modality: CT", "modality: MR", "kind: image",
    ]  # fmt: skip
    assert cache.split(stratify=two).table.column_names[-3:] == ["0: 0", "0: 1", "1: 0"]


def test_classes_come_as_people_have_them(folder: Path, tmp_path: Path) -> None:
    cache = open_cache(folder / "cache")
    values = [None if k == "MR" else k for k in cache.column("modality").to_pylist()]
    expected = cache.split(stratify=pa.array(values))
    assert expected.table.column_names[-2:] == ["CT", "unknown"]
    for given in (values, pd.Series(values), pl.Series(values), np.array(values)):
        found = cache.split(stratify=given)
        assert found.sides.tolist() == expected.sides.tolist()
        assert found.table.column_names == expected.table.column_names
    assert cache.split(label=[None] * len(cache)).table.column_names[-1] == "unknown"
    mixed = np.array(["a", *[1.5] * (len(cache) - 1)], object)
    with pytest.raises(ValueError, match="values of several kinds are no classes"):
        cache.split(stratify=mixed)
    expected.write(tmp_path / "sides.csv")
    for table in (pd.read_csv(tmp_path / "sides.csv"), pl.read_csv(tmp_path / "sides.csv")):
        assert cache.split(table).sides.tolist() == expected.sides.tolist()
    expected.fold(1).write(tmp_path / "fold.parquet")
    fold = cache.split(tmp_path / "fold.parquet")
    assert fold.sides.tolist() == expected.fold(1).sides.tolist()
    assert "balanced by values that were given, train, val>" in repr(fold)


def test_by_what_the_user_says(folder: Path) -> None:
    cache = open_cache(folder / "cache")
    studies = cache.split(by="study", fractions=(0.5, 0.5))
    sides_of(studies, "study_uid")
    assert "patients on several sides: " in repr(studies)
    sides_of(cache.split(by="series", fractions=(0.5, 0.5)), "series_uid")
    with pytest.warns(UserWarning, match="equal frames, which may be on two sides"):
        by_modality = cache.split(by="modality", fractions=(0.5, 0.5), seed=1)
    sides_of(by_modality, "modality")
    family = {hashed(p): f"family {k % 3}" for k, p in enumerate(PATIENTS)}
    for seed in range(4):
        found = sides_of(cache.split(by=family, fractions=(0.5, 0.5), seed=seed), "patient")
        for k, patient in enumerate(PATIENTS):
            assert found[hashed(patient)] == found[hashed(PATIENTS[k % 3])]


def test_a_stored_split_is_a_table_for_people(folder: Path, tmp_path: Path) -> None:
    cache = open_cache(folder / "cache")
    sides = cache.split(label="modality")
    for name in ("sides.csv", "sides.parquet"):
        sides.write(tmp_path / name)
        sides.write(tmp_path / name)
        again = cache.split(tmp_path / name)
        assert again.sides.tolist() == sides.sides.tolist()
        assert "by patient; train 0.8, val 0.1, test 0.1, seed 0" in repr(again)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sides.csv", "sides.parquet"]
    with open(tmp_path / "sides.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = sides_of(sides, "patient")
    assert {r["patient"]: r["side"] for r in rows if r["patient"]} == found
    assert [r["frames"] for r in rows if r["patient"] == hashed("P00")] == ["5"]
    assert {(r["by"], r["seed"], r["key"], r["cache"]) for r in rows} == {(
        "patient", "0", f"patient_key {cache.attributes['patient_key']}",
        cache.attributes["identity"],
    )}  # fmt: skip
    assert [r["path"] for r in rows if r["path"]] == ["None None b.dcm"]
    official = pa.table({"study_uid": [uid(f"{p} {s}") for p in PATIENTS for s in ("one", "two")],
                         "side": ["test" if p == "P00" else "train" for p in PATIENTS
                                  for _ in "12"]})  # fmt: skip
    with pytest.raises(SplitError, match=r"frames are on no side, such as those of .*missing=\"dr"):
        cache.split(official)
    theirs = cache.split(official, missing="drop")
    assert list(theirs) == ["train", "test"]
    # A tiny study of P07 is not in the table: it goes with its patient.
    assert patients(theirs["test"]) == {hashed("P00")}
    assert "are on no side" in repr(theirs)


def test_a_table_that_leaks_is_refused(folder: Path) -> None:
    cache = open_cache(folder / "cache")
    table = {"study_uid": [uid("P00 one"), uid("P00 two")], "side": ["train", "test"]}
    with pytest.raises(SplitError, match=rf"patient {hashed('P00')} is on two sides: train"):
        cache.split(table, missing="drop")
    assert len(cache.split(table, by="study", missing="drop")["test"]) == 1
    copied = {"patient": [hashed("P01"), hashed("Q01")], "side": ["train", "test"]}
    with pytest.raises(SplitError, match="have equal frames, and are on two sides"):
        cache.split(copied, missing="drop")
    without = cache.select(cache.column("patient").to_numpy() != hashed("Q01"))
    assert len(without.split(copied, missing="drop")["train"]) == 5
    twice = {"patient": [hashed("P00")] * 2, "side": ["train", "test"]}
    with pytest.raises(SplitError, match="on train and on test; give it one"):
        cache.split(twice)
    with pytest.raises(SplitError, match=r"no row .* is of .*patient P00 there, [0-9a-f]{32} here"):
        cache.split({"patient": ["P00"], "side": ["train"]})
    with pytest.raises(SplitError, match="no column 'side', only patient"):
        cache.split({"patient": ["P00"]})


def test_hashes_under_another_key_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(bytes(range(1, 33)))
    other = tmp_path / "other"
    built(folder / "in", other, "--patient-key", tmp_path / "key", "--jobs", "1")
    open_cache(folder / "cache").split().write(tmp_path / "sides.parquet")
    keys = [open_cache(k).attributes["patient_key"] for k in (folder / "cache", other)]
    with pytest.raises(
        SplitError, match=rf"of patient_key {keys[0]}, and .* has patient_key {keys[1]}"
    ):
        open_cache(other).split(tmp_path / "sides.parquet")
    hidden = tmp_path / "hidden"
    ran = run_here("build", folder / "in", hidden, "--deidentify", tmp_path / "key", "--jobs", "1")
    assert ran.returncode == 0
    cache = open_cache(hidden)
    table = {"study_uid": [uid("P00 one")], "side": ["test"]}
    with pytest.raises(SplitError, match="no row of the table of sides"):
        cache.split(table)
    found = cache.split(table, missing="drop", key=tmp_path / "key")
    assert len(found["test"]) == 5


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"fractions": (0.8, 0.1)}, r"fractions \(0.8, 0.1\); legal: two or three"),
        ({"fractions": (1.1, -0.1)}, "each above 0, 1 in all"),
        ({"fractions": {"": 0.5, "a": 0.5}}, "legal: two or three"),
        ({"fractions": 0.8}, "fractions 0.8; legal"),
        ({"fractions": (float("nan"), 0.5)}, "legal: two or three"),
        ({"folds": 1}, "folds 1; legal: a whole number from 2"),
        ({"folds": 3, "fractions": (0.5, 0.5)}, "give fractions or folds"),
        ({"seed": "a"}, "seed 'a'; legal: a whole number"),
        ({"stratify": "std"}, "are no classes; give bins"),
        ({"stratify": [1, 2]}, r"classes of shape \(2,\) for \d+ frames"),
        ({"stratify": "windows"}, "label 'windows' is list"),
        ({"by": {"P00": 1}}, "none of 1 key, such as 'P00', is in one of the columns patient"),
        ({"by": "mdality"}, "mdality"),
        ({"by": ["a", "b"]}, "by of type list; legal: patient, study, series"),
    ],
)
def test_what_cannot_be(folder: Path, asked: dict[str, Any], why: str) -> None:
    with pytest.raises((ValueError, KeyError), match=why):
        open_cache(folder / "cache").split(**asked)


def test_what_was_divided_by_the_same_hashes_before(folder: Path) -> None:
    cache = open_cache(folder / "cache")
    first = cache.split(fractions=(0.4, 0.6))["train"]
    with pytest.warns(UserWarning, match="nothing is in val: .* groups, train 0.8, val 0.2"):
        first.split(fractions=(0.8, 0.2))
    assert len(first.split(fractions=(0.8, 0.2), seed=7)["val"])
    assert all(map(len, first.split(folds=2).values()))
    with pytest.raises(SplitError, match="no frames to split"):
        cache[:0].split()
    with pytest.raises(ValueError, match="give by='study'"):
        cache.split("study")
    with pytest.raises(KeyError, match="no side 'dev'; there are train, val, test"):
        cache.split()["dev"]


def test_views_go_to_workers_and_to_datasets(folder: Path) -> None:
    sides = open_cache(folder / "cache").split(stratify="modality")
    again = pickle.loads(pickle.dumps(sides["train"]))
    assert again.indices.tolist() == sides["train"].indices.tolist()
    assert len(FrameDataset(sides["test"], "modality")) == len(sides["test"])


def test_the_command(folder: Path, tmp_path: Path) -> None:
    cache, out = folder / "cache", tmp_path / "sides.csv"
    ran = run_here("split", cache, out, "--fractions", "fit=0.5,held=0.5", "--label", "modality")
    assert ran.returncode == 0, ran.stderr
    expected = open_cache(cache).split(fractions={"fit": 0.5, "held": 0.5}, label="modality")
    assert [line.split() for line in ran.stdout.splitlines()] == [
        line.split() for line in repr(expected).splitlines()
    ]
    assert open_cache(cache).split(out).sides.tolist() == expected.sides.tolist()
    ran = run_here("split", cache, out, "--folds", "3", "--stratify", "modality", "--seed", "4")
    assert ran.returncode == 0
    assert open_cache(cache).split(out).sides.tolist() == (
        open_cache(cache).split(folds=3, stratify="modality", seed=4).sides.tolist()
    )
    rows = [f"{uid(f'{p} {s}')},{'odd' if k % 2 else 'even'}" for k, p in enumerate(PATIENTS)
            for s in ("one", "two")]  # fmt: skip
    (tmp_path / "labels.csv").write_text("\n".join(["StudyInstanceUID,finding", *rows]))
    ran = run_here("split", cache, out, "--fractions", "0.5,0.5", "--stratify", "finding",
                   "--labels", tmp_path / "labels.csv", "--on", "StudyInstanceUID")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    header, train, val = (line.split() for line in ran.stdout.splitlines()[1:4])
    assert header[-3:] == ["even", "odd", "unknown"]
    assert (train[-3:-1], val[-3:-1]) == (["30", "31"], ["30", "30"])
    for wrong, why in (
        (("--by", "mdality"), "mdality"),
        (("--fractions", "0.8,x"), "fractions '0.8,x'; legal"),
        (("--labels", "x.csv"), "--labels, --on and --stratify or --label go together"),
        (("--stratify", "std"), "are no classes"),
    ):
        ran = run_here("split", cache, out, *wrong)
        assert (ran.returncode, why in ran.stderr) == (2, True), ran.stderr
    assert "written as .csv or .parquet" in run_here("split", cache, tmp_path / "a.txt").stderr
    assert "no cache here" in run_here("split", tmp_path, out).stderr


def test_a_cache_that_says_little(tmp_path: Path) -> None:
    """One of before: no studies, no statistics."""
    from tests.support import hand_made

    hand_made.write(tmp_path / "cache")
    cache = open_cache(tmp_path / "cache")
    sides = cache.split(stratify="modality", fractions=(0.5, 0.5))
    assert sides.table["patients"].to_pylist() in ([2, 1], [1, 2])
    assert sides.leaks.num_rows == 0
    assert sides.table["studies"].to_pylist() == [0, 0]
    sides.write(tmp_path / "sides.parquet")
    assert pq.read_table(tmp_path / "sides.parquet")["patient"].null_count == 0
