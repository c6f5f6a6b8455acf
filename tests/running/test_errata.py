"""Old caches: what may be wrong in them is told by both packages, of the same frames."""

from __future__ import annotations

import math
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom import dcmread

import dicom2cache
from dicom2cache import schema
from dicom2cache.running import errata
from tests.support import hand_made
from tests.support.caches import built, run_here
from tests.support.dicom_files import CT_IMAGE, pattern, uid, write_dicom, write_series
from trainer_adapter import ErrataWarning, VolumeError, open_cache
from trainer_adapter.format.root import Root, read_root
from trainer_adapter.reading import errata as reader

PAGE = Path(reader.__file__).parents[1] / "errata.toml"
ERRATA: list[dict[str, Any]] = tomllib.loads(PAGE.read_text())["errata"]


def as_of(cache: Path, version: str, **columns: Callable[[dict[str, Any]], Any]) -> Path:
    """The cache as that version left it: its number, and what it said in columns of frames/."""
    path = cache / "frames" / "0.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row.update({name: say(row) for name, say in columns.items()})
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)
    about = hand_made.read_root(cache)
    about["tables"]["frames"][0] = hand_made.entry(cache, path) | {"rows": len(rows)}
    about["software"]["dicom2cache"] = version
    hand_made.write_root(cache, about)
    return cache


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Three CT slices, one of them an MPR; a mosaic; and a file that is refused."""
    for k in range(3):
        write_dicom(
            tmp_path / "in" / f"ct{k}.dcm", pattern(f"ct{k}", (8, 8)), SOPClassUID=CT_IMAGE,
            Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, InstanceNumber=k,
            BitsStored=12, HighBit=11, SeriesInstanceUID=uid("ct"),
            ImageType=["DERIVED" if k == 1 else "ORIGINAL", "PRIMARY"],
        )  # fmt: skip
    write_dicom(
        tmp_path / "in" / "mr.dcm", pattern("mr", (8, 8)), Modality="MR",
        SeriesInstanceUID=uid("mr"), ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
    )  # fmt: skip
    write_dicom(tmp_path / "in" / "zz.dcm", pattern("z", (8, 8)), BitsAllocated=12)
    return built(tmp_path / "in", tmp_path / "cache", "--exclude", "localizer", status=1)


def v1(row: dict[str, Any]) -> str:
    return "US" if row["path"] == "ct1.dcm" else row["unit"]


def told(cache: Path) -> list[str]:
    """The warnings of opening it twice."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        open_cache(cache)
        open_cache(cache)
    assert all(w.category is ErrataWarning for w in found)
    assert all(w.filename == __file__ for w in found)  # where the user's code opened it
    return [str(w.message) for w in found]


def test_an_old_cache_is_told_of_once(mixed: Path) -> None:
    cache = as_of(mixed, "0.1.0", unit=v1)
    (text,) = told(cache)
    assert text.startswith(f"{cache}: made by dicom2cache 0.1.0")
    assert "1 frame: CT whose Image Type is DERIVED or absent has the unit US" in text
    assert "1 frame: Siemens mosaics are stored as one image" in text
    assert f"`dicom2cache info {cache}` lists the frames" in text


@pytest.mark.parametrize("version", ["0.2.0", "0.2.0.dev0", "0.10", "1.0", "", "unknown"])
def test_caches_of_other_versions_cost_nothing(
    mixed: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = as_of(mixed, version, unit=v1)
    monkeypatch.setattr(reader, "arrow_dataset", None)  # no column is read
    assert told(cache) == []
    assert run_here("info", cache, "--errata").stdout == ""
    assert "may be wrong" not in run_here("info", cache).stdout


def test_this_version_has_no_errata() -> None:
    """Once a version is out, what was mended after it needs a row with a later `before`."""
    assert not [e for e in ERRATA if reader._between(e, dicom2cache.__version__)]


def test_info_lists_the_frames(mixed: Path) -> None:
    cache = as_of(mixed, "0.1.0", unit=v1, patient=lambda row: row["path"][:3])
    said = run_here("info", cache).stdout
    assert "made by dicom2cache 0.1.0; what may be wrong, and is mended by a new build:\n" in said
    assert "  ct-unit: CT whose Image Type is DERIVED" in said
    assert ": 1 row\n    ct1.dcm, frame 0\n" in said
    lines = [line.split("\t") for line in run_here("info", cache, "--errata").stdout.splitlines()]
    folder = cache.parent / "in"
    assert ["ct-unit", f"{folder}/ct1.dcm", "0"] in lines
    assert ["mosaic", f"{folder}/mr.dcm", "0"] in lines
    assert [row[0] for row in lines if row[1] == f"{folder}/zz.dcm"] == ["refused"]
    assert not [row for row in lines if row[:2] == ["ct-unit", f"{folder}/ct0.dcm"]]


def test_both_packages_find_the_same_frames(mixed: Path) -> None:
    cache = as_of(mixed, "0.1.0", unit=v1)
    rows = {c.name: c.rows.num_rows for c in errata.concerned(cache, hand_made.read_root(cache))}
    about = [e for e in ERRATA if "frames" in e and e["name"] != "sheared"]
    assert len(about) > 8
    found = reader._counts(read_root(cache), about)
    assert [rows.get(e["name"], 0) for e in about] == found
    assert sum(found) > 4


PAGES = {
    '{ if = { unit = "HU" } }': ["a", "b"],
    '{ if = { unit = ["HU", "US"] } }': ["a", "b", "c"],
    '{ if = { unit = ["HU", ""] } }': ["a", "b", "d"],
    '{ if = { unit = "" } }': ["d"],
    '{ if = { unit = "*U" }, unless = { patient = "p_2" } }': ["a"],
    '{ if = { patient = "p_*" } }': ["a", "b"],  # _ is no wildcard
    '{ if = { patient = "*%*" } }': ["d"],
    '{ if = {}, unless = { unit = "HU" } }': ["c", "d"],  # null is not HU
    '{ if = { stack_regular = true } }': ["a"],
    '{ if = { stack_regular = "" } }': ["d"],
    '{ if = {}, unless = { frame = 0 } }': ["c"],
    '{ if = { later = "" } }': ["a", "b", "c", "d"],  # a column that this cache has not
    '{ if = { later = 3 } }': [],
    '{ if = { unit = "US" } }, { if = { unit = "" } }': ["c", "d"],
    '{ if = {}, several = { of = "patient", in = "stack" } }': ["a", "b"],
    '{ if = { unit = "US" }, several = { of = "stack", in = "unit" } }': [],
}  # fmt: skip
ROWS = [
    {"path": "a", "unit": "HU", "patient": "p_1", "stack_regular": True, "frame": 0, "stack": 0},
    {"path": "b", "unit": "HU", "patient": "p_2", "stack_regular": False, "frame": 0, "stack": 0},
    {"path": "c", "unit": "US", "patient": "px1", "stack_regular": False, "frame": 7, "stack": 1},
    {"path": "d", "unit": None, "patient": "50%", "stack_regular": None, "frame": 0, "stack": 2},
]


@pytest.mark.parametrize(("entries", "paths"), PAGES.items())
def test_what_a_row_of_the_page_means(tmp_path: Path, entries: str, paths: list[str]) -> None:
    about = f'[[errata]]\nname="x"\nsince="0.1"\nbefore="0.2"\nwhat="y"\nframes=[{entries}]'
    (tmp_path / "page.toml").write_text(about)
    (tmp_path / "frames").mkdir()
    rows = [{"root": 0, "row": k, **row} for k, row in enumerate(ROWS)]
    table = pa.Table.from_pylist(rows, pa.schema([schema.FRAMES_TABLE.field(c) for c in rows[0]]))
    file = tmp_path / "frames" / "0.parquet"
    pq.write_table(table, file)
    entry = {"path": "frames/0.parquet", "bytes": file.stat().st_size, "rows": len(rows)}
    tables = {"frames": [entry], "failures": [entry]}
    root = {"software": {"dicom2cache": "0.1.7"}, "tables": tables}
    found = errata.concerned(tmp_path, root, tmp_path / "page.toml")
    assert [p for c in found for p in c.rows["path"].to_pylist()] == paths
    counted = reader._counts(Root(tmp_path, (), root), tomllib.loads(about)["errata"])
    assert counted == [len(paths)]


def test_the_page_is_sound() -> None:
    known = {"frames": set(schema.FRAMES_TABLE.names), "failures": set(schema.REJECTS.names)}
    assert len({e["name"] for e in ERRATA}) == len(ERRATA) > 8
    for erratum in ERRATA:
        assert erratum.keys() <= {"name", "since", "before", "warn", "what", "frames", "failures"}
        assert erratum["since"] < erratum["before"]
        assert erratum.keys() & known.keys()
        for kind in known:
            for entry in erratum.get(kind, []):
                assert entry.keys() <= {"if", "unless", "several", "sheared"}
                named = {*entry["if"], *entry.get("unless", {}), *entry.get("several", {}).values()}
                assert named <= known[kind], erratum["name"]


def _series(folder: Path, **elements: list[Any]) -> Path:
    """A cache of four CT slices; `elements` has a value for each of them."""
    for k, path in enumerate(write_series(folder / "in", 4, size=8)):
        ds = dcmread(path)
        for name, values in elements.items():
            setattr(ds, name, values[k])
        ds.save_as(path)
    return as_of(built(folder / "in", folder / "cache"), "0.1.0")


def _named(cache: Path) -> dict[str, int]:
    return {c.name: c.rows.num_rows for c in errata.concerned(cache, hand_made.read_root(cache))}


@pytest.mark.parametrize(
    ("shift", "sheared"),
    [
        (0.0, False),
        (0.08, False),  # 4.6 degrees, and less than half a pixel of 0.5 mm from end to end
        (0.09, True),
        (-0.36, True),  # 20 degrees
    ],
)
def test_sheared_stacks_are_found(tmp_path: Path, shift: float, sheared: bool) -> None:
    places = [[0.0, shift * k, float(k)] for k in range(4)]
    cache = _series(tmp_path, ImagePositionPatient=places)
    assert _named(cache) == ({"sheared": 4} if sheared else {})
    path = cache / "frames" / "0.parquet"  # 0.1.0 had no such columns
    pq.write_table(pq.read_table(path).drop_columns(["tilt", "stack_flags"]), path)
    opened = open_cache(as_of(cache, "0.1.0"))
    if sheared:
        degrees = round(abs(math.degrees(math.atan(shift))), 1)
        with pytest.raises(VolumeError, match=f"{degrees} degrees off their normal.*sheared=True"):
            opened.volume(0)
    assert opened.volume(0, sheared=sheared).shape == (4, 8, 8)


def test_a_volume_torn_into_slices_is_told_of(tmp_path: Path) -> None:
    """Each slice a stack, as 0.1.0 left a series with a frame of reference for each."""
    cache = _series(tmp_path)
    assert told(cache) == []
    cache = as_of(
        cache, "0.1.0", stack=lambda row: row["row"], stack_index=lambda _: 0,
        stack_regular=lambda _: None,
    )  # fmt: skip
    assert _named(cache) == {"slices-apart": 4, "torn-series": 4}
    (text,) = told(cache)
    assert "4 frames: volumes are torn into stacks of one slice each" in text


def test_workers_are_not_warned_again(mixed: Path) -> None:
    """A DataLoader's workers get the opened cache: one process of many tells."""
    cache = as_of(mixed, "0.1.0", unit=v1)
    code = f"""
import multiprocessing, pickle
from trainer_adapter import open_cache
def look(data): return len(pickle.loads(data))
if __name__ == "__main__":
    cache = open_cache({str(cache)!r})
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(look, [pickle.dumps(cache)] * 4))
"""
    script = cache.parent / "script.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "[4, 4, 4, 4]\n"
    assert done.stderr.count("ErrataWarning") == 1
