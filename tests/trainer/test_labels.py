"""Labels of the user's own: which class has which number, which frame has which label."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dicom2cache import merge
from dicom2cache.schema import STORED
from tests.support.caches import built
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import Cache, CacheLoader, FrameDataset, LabelError, open_cache
from trainer_adapter.format.keywords import KEYWORDS

MODALITIES = ("CT", "MR", "OT", "PT")
FILES = [(site, f"I{k}") for site in "ab" for k in range(4)]
NUMBER = {file: k for k, file in enumerate(FILES)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites whose files have the same names: a/I0 to a/I3, b/I0 to b/I3, one patient each.

    Patient 00k has k of FILES as its number; b/clip is a file of three frames.
    """
    folder = tmp_path_factory.mktemp("sites")
    for (site, name), k in NUMBER.items():
        write_dicom(
            folder / site / name, pattern(f"{site}{name}", (8, 8)), Modality=MODALITIES[k % 4],
            SOPInstanceUID=uid(f"{k}"), SeriesInstanceUID=uid(f"series {k}"), PatientID=f"00{k} ",
            StudyInstanceUID=uid(f"study {k}"), AccessionNumber=f"A/{k}",
        )  # fmt: skip
    built(folder / "a", folder / "b", folder / "cache")
    return folder


@pytest.fixture
def cache(folder: Path) -> Cache:
    return open_cache(folder / "cache")


def numbers(cache: Cache) -> list[int]:
    """Which of FILES each frame is."""
    sites = ["ab"[r] for r in cache.column("root").to_pylist()]
    return [NUMBER[pair] for pair in zip(sites, cache.column("path").to_pylist(), strict=True)]


def labels_of(dataset: FrameDataset) -> list[Any]:
    return [dataset[k].label for k in range(len(dataset))]


# Which class has which number


def test_numbers_of_classes_are_handed_on(cache: Cache) -> None:
    train = FrameDataset(cache, "modality")
    assert train.classes == ["CT", "MR", "OT", "PT"]
    part = cache.select(modality=["OT", "CT"])
    for given in (train, train.classes, tuple(train.classes), {"CT": 0, "MR": 1, "OT": 2, "PT": 3},
                  CacheLoader(cache, label="modality"), np.array(train.classes)):  # fmt: skip
        val = FrameDataset(part, "modality", classes=given)
        assert val.classes == ["CT", "MR", "OT", "PT"]
        assert sorted(labels_of(val)) == [0, 0, 2, 2]
        loader = CacheLoader(part, label="modality", classes=given)
        assert sorted(next(iter(loader)).label.tolist()) == [0, 0, 2, 2]
    assert val.class_counts == {"CT": 2, "MR": 0, "OT": 2, "PT": 0}


def test_several_values_are_one_class(cache: Cache) -> None:
    grown = {"CT": 0, "MR": 1, "OT": 1, "PT": 1}
    data = FrameDataset(cache, "modality", classes=grown)
    assert (data.classes, data.class_counts) == (["CT", "MR"], {"CT": 2, "MR": 6})
    other = FrameDataset(cache.select(modality="PT"), "modality", classes=data)
    assert labels_of(other) == [1, 1]  # by what the other takes for a class, not by its names


def test_a_value_that_is_no_class_is_an_error(cache: Cache) -> None:
    with pytest.raises(LabelError, match="no class, 'PT'; legal: CT, MR, OT"):
        FrameDataset(cache, "modality", classes=["CT", "MR", "OT"])
    few = FrameDataset(cache.select(modality="CT"), "modality")
    with pytest.raises(LabelError, match="'MR', 'OT', 'PT'"):
        FrameDataset(cache, "modality", classes=few)
    for nonsense in ("CT", 3, {"CT": -1}, {"CT": "a"}, ["CT", "CT"]):
        with pytest.raises(ValueError, match="classes"):
            FrameDataset(cache, "modality", classes=nonsense)


@pytest.mark.parametrize(
    ("values", "classes", "dtype", "expected"),
    [
        (["b", "a"] * 4, ["a", "b"], "int64", [1, 0] * 4),
        ([1, 2, 3, 4] * 2, [0, 1, 2, 3, 4], "int64", [1, 2, 3, 4] * 2),  # as they are
        ([1] * 8, [0, 1], "int64", [1] * 8),  # 1 stays 1 where no 0 is there
        ([True] * 8, [False, True], "int64", [1] * 8),
        ([0.1, 2.0] * 4, [], "float32", [0.1, 2.0] * 4),
        ([1.0, 2.0] * 4, [], "float32", [1.0, 2.0] * 4),
    ],
)
@pytest.mark.parametrize("form", ["dictionary", "parquet", "csv", "polars", "pandas"])
def test_one_rule_for_every_type(
    cache: Cache, tmp_path: Path, form: str, values: list[Any], classes: Any, dtype: str,
    expected: list[Any],
) -> None:  # fmt: skip
    table = {"SOPInstanceUID": [uid(f"{k}") for k in range(8)], "y": values}
    given: Any = {"dictionary": table, "polars": pl.DataFrame(table), "pandas": pd.DataFrame(table)}
    if form == "parquet":
        pq.write_table(pa.table(table), tmp_path / "a.parquet")
    if form == "csv":
        pl.DataFrame(table).write_csv(tmp_path / "a.csv")
    labels = given.get(form, tmp_path / f"a.{form}")
    data = FrameDataset(cache, "y", labels=labels, on="SOPInstanceUID")
    assert (data.classes, str(data.labels.dtype)) == (classes, dtype)
    want = np.array(expected, dtype)[numbers(cache)]
    np.testing.assert_array_equal(data.labels, want)
    (batch,) = CacheLoader(cache, label="y", labels=labels, on="SOPInstanceUID")
    assert str(batch.label.dtype) == f"torch.{dtype}"
    np.testing.assert_array_equal(batch.label.numpy(), want)


def test_whole_numbers_that_are_no_classes(cache: Cache) -> None:
    keys = [uid(f"{k}") for k in range(8)]
    for values in ([-1, 0] * 4, [65536, 0] * 4):
        table = {"sop_uid": keys, "y": values}
        with pytest.raises(LabelError, match=r"legal as class numbers: 0 to 65535.*classes=False"):
            FrameDataset(cache, "y", labels=table, on="sop_uid")
        data = FrameDataset(cache, "y", labels=table, on="sop_uid", classes=False)
        assert (data.labels.dtype, data.classes) == (np.float32, [])
        assert sorted(set(data.labels.tolist())) == sorted(set(values))
        named = FrameDataset(cache, "y", labels=table, on="sop_uid", classes=[-1, 0, 65536])
        assert set(named.labels.tolist()) == {[-1, 0, 65536].index(v) for v in values}
    assert FrameDataset(cache, "y", labels={"sop_uid": keys, "y": [64.0, None] * 4}, on="sop_uid",
                        classes=[64], missing="drop").class_counts == {64: 4}  # fmt: skip


# What is not known


UNKNOWN = {
    "dictionary": {"y": [1.5, None, float("nan"), 2.5]},
    "text": {"y": ["x", None, "", " "]},
    "mixed": {"y": ["x", float("nan"), None, "y"]},
    "arrow": pa.table({"y": pa.array([1.5, None, float("nan"), 2.5])}),
    "pandas": pd.DataFrame({"y": [1.5, None, float("nan"), 2.5]}),
    "polars": pl.DataFrame({"y": [1.5, None, float("nan"), 2.5]}),
    "polars text": pl.DataFrame({"y": ["x", None, "", "y"]}),
    "numbers": "y\n1.5\n\n \nnan\n",
    "words": "y\nx\nNone\nNA\nnan\n",
    "quoted": 'y\n"x"\n""\n" "\n"y"\n',
}


@pytest.mark.parametrize("form", UNKNOWN)
def test_nothing_is_no_label(cache: Cache, tmp_path: Path, form: str) -> None:
    given, keys = UNKNOWN[form], [f"{k}" for k in range(4)]
    labels: Any
    if isinstance(given, str):
        labels = tmp_path / "a.csv"
        lines = zip(["sop_uid", *map(uid, keys)], given.split("\n")[:5], strict=True)
        labels.write_text("\n".join(map(",".join, lines)))
    elif isinstance(given, dict):
        labels = {"sop_uid": list(map(uid, keys)), **given}
    elif isinstance(given, pa.Table):
        labels = given.append_column("sop_uid", pa.array(map(uid, keys)))
    elif isinstance(given, pl.DataFrame):
        labels = given.with_columns(sop_uid=pl.Series(map(uid, keys)))
    else:
        labels = given.assign(sop_uid=list(map(uid, keys)))
    known = {"text": 1, "numbers": 1}.get(form, 2)
    with pytest.raises(LabelError, match=f"{8 - known} of 8 frames have no label 'y'"):
        FrameDataset(cache, "y", labels=labels, on="sop_uid")
    assert len(FrameDataset(cache, "y", labels=labels, on="sop_uid", missing="drop")) == known


def test_a_key_that_matches_nothing_shows_both_sides(cache: Cache) -> None:
    wrong = {"path": ["x/I0.dcm", "x/I1.dcm"], "y": [0, 1]}
    for missing in ("error", "drop"):
        with pytest.raises(LabelError, match=r"8 of 8 .*such as path I\d; keys of the labels are "
                           r"such as x/I0\.dcm; x/I1\.dcm; no frame is left"):  # fmt: skip
            FrameDataset(cache, "y", labels=wrong, on="path", missing=missing)
    with pytest.raises(LabelError, match="the table has no rows"):
        CacheLoader(cache, label="y", labels={"path": [], "y": []}, on="path", missing="drop")
    with pytest.raises(LabelError, match=r"8 of 8 frames have no label 'view_position', .*; label= "
                       r"takes any column of cache\.frames, labels= a table of yours"):  # fmt: skip
        CacheLoader(cache, label="view_position", missing="drop")


def test_a_selection_of_another_kind_is_not_empty_in_silence(examples_cache: Path) -> None:
    dose = open_cache(examples_cache).select(kind="dose")
    for make in (FrameDataset, CacheLoader):
        with pytest.raises(
            ValueError,
            match=r"none of 15 frames is of kind 'image', they are dose; give kind='dose'",
        ):
            make(dose)
        with pytest.raises(ValueError, match="of kind 'dosis'"):
            make(dose, kind="dosis")
        assert len(make(dose, kind="dose")) in (1, 15)
        assert len(make(dose.select([]))) == 0


# Which frame has which label


def test_paths_of_two_sites(cache: Cache, folder: Path) -> None:
    names = [name for _, name in FILES]
    for part in (cache, cache.select(root=0), cache.select([0])):  # of a fold as of all
        said = r"I0 is a file of several .*0 \(.*/a\), 1 \(.*/b\), .*absolute paths, or .*`root`"
        with pytest.raises(LabelError, match=said):
            FrameDataset(part, "y", labels={"path": names[:4], "y": [0, 1, 2, 3]}, on="path")
    whole = [str(folder / site / name) for site, name in FILES]
    odd = [f"{folder}/x/..//{site}/./{name}" for site, name in FILES]
    for table, on in (
        ({"path": whole}, "path"),
        ({"path": odd}, "path"),
        ({"file": whole}, {"file": "path"}),
        ({"path": names, "root": [0] * 4 + [1] * 4}, "path"),
        ({"path": names, "root": ["0"] * 4 + ["1"] * 4}, ("root", "path")),
        ({"path": [f"./{n}" for n in names], "root": [f"{folder / s}/" for s, _ in FILES]}, "path"),
        ({"n": names, "site": [str(folder / s) for s, _ in FILES]}, {"n": "path", "site": "root"}),
    ):  # fmt: skip
        labels = {**table, "y": list(range(8))}
        for part in (cache, cache.select(root=1), cache.select([5, 2])):
            assert labels_of(FrameDataset(part, "y", labels=labels, on=on)) == numbers(part)
    with pytest.raises(LabelError, match=r"'root' of the labels has c, which is no source"):
        FrameDataset(cache, "y", labels={"path": ["I0"], "root": ["c"], "y": [1]}, on="path")


def test_absolute_paths_through_links_and_of_home(
    cache: Cache, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(folder)
    linked = open_cache(built(tmp_path / "link" / "a", tmp_path / "cache"))
    for above in (folder, tmp_path / "link"):
        labels = {"path": [str(above / "a" / f"I{k}") for k in range(4)], "y": list(range(4))}
        assert labels_of(FrameDataset(linked, "y", labels=labels, on="path")) == numbers(linked)
    monkeypatch.setenv("HOME", str(folder))
    table = pl.DataFrame({"path": [f"~/{s}/{n}" for s, n in FILES], "y": range(8)})
    table.write_csv(folder / "labels.tsv", separator="\t")
    found = FrameDataset(cache, "y", labels="~/labels.tsv", on="path")
    assert labels_of(found) == numbers(cache)


def test_a_copy_in_another_source_has_its_own_path(tmp_path: Path) -> None:
    """a/I0 and b/I1 are one file; a/I1 is another image, which must not get the label of b/I1."""
    for site, name, image in (
        ("a", "I0", "x"),
        ("a", "I1", "y"),
        ("b", "I1", "x"),
        ("b", "I2", "z"),
    ):
        write_dicom(tmp_path / site / name, pattern(image, (8, 8)), SOPInstanceUID=uid(image))
    cache = open_cache(built(tmp_path / "a", tmp_path / "b", tmp_path / "cache"))
    assert len(cache) == 3
    kept = {(r, p): k for k, (r, p) in enumerate(zip(cache.column("root").to_pylist(),
            cache.column("path").to_pylist(), strict=True))}  # fmt: skip
    labels = {
        "path": [str(tmp_path / "b" / "I1"), str(tmp_path / "a" / "I1"), "I2"],
        "y": [7, 8, 9],
    }
    data = FrameDataset(cache, "y", labels=labels, on="path")
    assert {place: data.labels[k] for place, k in kept.items()} == {
        (0, "I0"): 7, (0, "I1"): 8, (1, "I2"): 9
    }  # fmt: skip
    with pytest.raises(LabelError, match="I1 is a file of several source folders"):
        FrameDataset(cache, "y", labels={"path": ["I0", "I1", "I2"], "y": [7, 8, 9]}, on="path")


def test_sources_of_merged_caches_that_were_at_one_path(tmp_path: Path) -> None:
    """Both sites have a.dcm, below one and the same folder; only one has b.dcm."""
    for site, names in (("one", "ab"), ("two", "a")):
        for name in names:
            write_dicom(tmp_path / "data" / f"{name}.dcm", pattern(site + name, (8, 8)),
                        SOPInstanceUID=uid(site + name))  # fmt: skip
        built(tmp_path / "data", tmp_path / site)
        (tmp_path / "data").rename(tmp_path / f"data of {site}")
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    cache = open_cache(tmp_path / "both")
    of = list(zip(cache.column("root").to_pylist(), cache.column("path").to_pylist(), strict=True))
    data = tmp_path / "data"
    for names in (["a.dcm"], [f"{data}/a.dcm"], [f"{data}/b.dcm", f"{data}/a.dcm"]):
        labels = {"path": names, "y": list(range(len(names)))}
        with pytest.raises(
            LabelError, match=r"a\.dcm is a file of several source folders, 0 .*, 1 "
        ):
            FrameDataset(cache, "y", labels=labels, on="path", missing="drop")
    labels = {"path": [f"{data}/b.dcm"], "y": [1]}
    assert len(FrameDataset(cache, "y", labels=labels, on="path", missing="drop")) == 1
    labels = {"root": [0, 0, 1], "path": ["a.dcm", "b.dcm", "a.dcm"], "y": [5, 6, 7]}
    found = FrameDataset(cache, "y", labels=labels, on="path").labels.tolist()
    assert dict(zip(of, found, strict=True)) == {(0, "a.dcm"): 5, (0, "b.dcm"): 6, (1, "a.dcm"): 7}
    labels["root"] = [str(data)] * 3
    with pytest.raises(LabelError, match=r"several sources of the cache have, .*their numbers"):
        FrameDataset(cache, "y", labels=labels, on="path")


@pytest.mark.parametrize("keyword", ["PatientID", "AccessionNumber", "StudyInstanceUID",
                                     "SeriesInstanceUID", "SOPInstanceUID"])  # fmt: skip
def test_keys_by_their_keyword(cache: Cache, tmp_path: Path, keyword: str) -> None:
    values = {"PatientID": "00{}", "AccessionNumber": "A/{}"}.get(keyword)
    kind = {"Study": "study {}", "Serie": "series {}"}.get(keyword[:5], "{}")
    keys = [values.format(k) if values else uid(kind.format(k)) for k in range(8)]
    pl.DataFrame({"key": keys, keyword: keys, "y": range(8)}).write_csv(tmp_path / "a.csv")
    for on in (keyword, {"key": keyword}):  # 007 in a CSV is no 7
        data = FrameDataset(cache, "y", labels=tmp_path / "a.csv", on=on)
        assert labels_of(data) == numbers(cache)
    single = FrameDataset(cache, "y", labels=dict(zip(keys, range(8), strict=True)), on=keyword)
    assert labels_of(single) == numbers(cache)


def test_the_key_of_patients(
    cache: Cache, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"PatientID": [f"00{k}" for k in range(8)], "y": list(range(8))}
    own = Path(os.environ["XDG_CONFIG_HOME"]) / "dicom2cache" / "patient.key"
    copy = tmp_path / "copy.key"
    copy.touch(0o600)
    copy.write_bytes(own.read_bytes())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))  # another machine
    fingerprint = cache.attributes["patient_key"]
    with pytest.raises(
        ValueError, match=f"no key there, .*of fingerprint {fingerprint}; give key=FILE"
    ):
        FrameDataset(cache, "y", labels=labels, on="PatientID")
    data = FrameDataset(cache, "y", labels=labels, on="PatientID", key=copy)
    assert labels_of(data) == numbers(cache)
    copy.write_bytes(bytes(32))
    with pytest.raises(ValueError, match=r"not the key of .*its fingerprint is [0-9a-f]{16}"):
        FrameDataset(cache, "y", labels=labels, on="PatientID", key=copy)
    with pytest.raises(LabelError, match=r"has hashes, and .*give on=\{'patient': 'PatientID'\}"):
        FrameDataset(cache, "y", labels={"patient": ["000"], "y": [0]}, on="patient")
    lost = {"PatientID": [k for k in range(8)], "y": list(range(8))}
    copy.write_bytes(own.read_bytes())
    with pytest.raises(LabelError, match="keys of the labels are such as 0; 1; 2"):
        FrameDataset(cache, "y", labels=lost, on="PatientID", key=copy)


def test_several_columns_at_once(tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "clip", pattern("clip", (3, 8, 8)))
    write_dicom(tmp_path / "in" / "other", pattern("other", (3, 8, 8)), SOPInstanceUID=uid("o"))
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    rows = [
        (p, f, y) for y, (p, f) in enumerate((p, f) for p in ("clip", "other") for f in range(3))
    ]
    pl.DataFrame(rows, ["path", "frame", "y"], orient="row").write_csv(tmp_path / "a.csv")
    data = FrameDataset(cache, "y", labels=tmp_path / "a.csv", on=["path", "frame"])
    said = dict(((p, f), y) for p, f, y in rows)
    names, frames = cache.column("path").to_pylist(), cache.column("frame").to_pylist()
    assert labels_of(data) == [said[pair] for pair in zip(names, frames, strict=True)]
    with pytest.raises(
        LabelError, match=r"2 keys stand twice in the labels, such as clip; .*on=\["
    ):
        FrameDataset(cache, "y", labels=tmp_path / "a.csv", on="path")


def test_names_that_are_not_there(cache: Cache) -> None:
    labels = {"path": ["I0"], "finding": [1]}
    with pytest.raises(LabelError, match=r"no column 'findings'; did you mean finding\?"):
        FrameDataset(cache, "findings", labels=labels, on="path")
    with pytest.raises(LabelError, match=r"no column 'Path'; did you mean path\?"):
        FrameDataset(cache, "finding", labels=labels, on="Path")
    for table, why in ((7, "of type int"), (pl.LazyFrame(labels), r"before \.collect"),
                        ({"path": ["I0"], "y": [1, 2]}, "differ in length")):  # fmt: skip
        with pytest.raises(LabelError, match=why):
            FrameDataset(cache, "y", labels=table, on="path")


def test_the_keywords_are_those_of_the_format() -> None:
    said = {c.name: c.dicom.split() for c in STORED}
    assert all(keyword in said[column] for keyword, column in KEYWORDS.items())
    page = (Path(__file__).parents[2] / "dicom2cache" / "FORMAT.md").read_text()
    for keyword, column in KEYWORDS.items():
        assert re.search(rf"^\| {column} \|.*\b{keyword} \(", page, re.MULTILINE), keyword


# Several labels


TWO = {
    "sop_uid": [uid(f"{k}") for k in range(8)],
    "edema": [0, 1, None, 1, 0, 0, None, 1],
    "effusion": [1, None, None, 0, 0, 1, 1, 1],
    "side": ["l", "r", "l", "r", None, "l", "l", "r"],
    "score": [0.5, 1.5, None, 2.5, 3.5, 4.5, 5.5, 6.5],
}


def test_several_labels_at_once(cache: Cache) -> None:
    order = [k for k in numbers(cache) if k != 2]
    data = FrameDataset(cache, ["edema", "effusion"], labels=TWO, on="sop_uid", missing="drop")
    assert data.labels.shape == (7, 2)
    edema = {0: 0, 1: 1, 3: 1, 4: 0, 5: 0, 6: -100, 7: 1}
    effusion = {0: 1, 1: -100, 3: 0, 4: 0, 5: 1, 6: 1, 7: 1}
    assert data.labels.tolist() == [[edema[k], effusion[k]] for k in order]
    assert data.known.tolist() == [[k != 6, k != 1] for k in order]
    assert data.classes == {"edema": [0, 1], "effusion": [0, 1]}
    assert data.class_counts == {"edema": {0: 3, 1: 3}, "effusion": {0: 2, 1: 4}}
    with pytest.raises(LabelError, match=r"1 of 8 frames have no label \['edema', 'effusion'\]"):
        FrameDataset(cache, ["edema", "effusion"], labels=TWO, on="sop_uid")


def test_several_labels_with_numbers_among_them(cache: Cache) -> None:
    names = ["edema", "side", "score"]
    data = FrameDataset(cache, names, labels=TWO, on="sop_uid", classes={"side": ["r", "l"]})
    assert data.labels.dtype == np.float32
    assert data.classes == {"edema": [0, 1], "side": ["r", "l"], "score": []}
    expected = {0: [0, 1, 0.5], 1: [1, 0, 1.5], 2: [np.nan, 1, np.nan], 4: [0, np.nan, 3.5]}
    for row, k in zip(data.labels, numbers(cache), strict=True):
        if k in expected:
            np.testing.assert_array_equal(row, expected[k])
    again = FrameDataset(cache, names, labels=TWO, on="sop_uid", classes=data)
    np.testing.assert_array_equal(again.labels, data.labels)
    with pytest.raises(ValueError, match="classes of 'sides'"):
        FrameDataset(cache, names, labels=TWO, on="sop_uid", classes={"sides": ["r", "l"]})


# How often each is there


def test_balanced_weights(cache: Cache) -> None:
    data = FrameDataset(cache, "modality", classes={"CT": 0, "MR": 1, "OT": 1, "PT": 1})
    weights = data.weights("balanced")
    assert weights.tolist() == [2.0 if k % 4 == 0 else 2 / 3 for k in numbers(cache)]
    loader = CacheLoader(cache, 8, label="modality", classes=data, weights="balanced", samples=800)
    drawn = np.bincount(np.concatenate([b.label.numpy() for b in loader]))
    assert 330 < drawn[0] < 470  # of 800; the odds against are one in a million
    with pytest.raises(ValueError, match="'balance'; legal: balanced"):
        data.weights("balance")
    table = {"labels": TWO, "on": "sop_uid", "missing": "drop"}
    for label in ("score", None, ["edema", "side"]):
        odd = FrameDataset(cache, label, **(table if label else {}))
        with pytest.raises(ValueError, match="class"):
            odd.weights("balanced")
