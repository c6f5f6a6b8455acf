"""`failures`, and what is not stored by reason: literal groups of rows, and of a real folder."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dicom2cache.cli.rejects import write_each, write_groups
from dicom2cache.cli.reporting.unstored import grouped
from dicom2cache.schema import REJECTS
from tests.support.caches import built, run_here
from tests.support.dicom_files import write_dicom

_CUT = "pixel data is truncated: {} bytes, {} expected for {} frames of 8 x 8; copy the file again"


CUT = "pixel data is truncated: ... bytes, ... expected for 1 frame of ...; copy the file again"


def _table(*rows: dict[str, Any]) -> pa.Table:
    known = {"root": 0, "outcome": "failed", "stage": "header"}
    return pa.Table.from_pylist([{**known, **row} for row in rows], REJECTS)


def test_reasons_that_differ_in_values_are_one() -> None:
    rows = [{"path": f"{k}.dcm", "reason": _CUT.format(k, 64 + k, 2)} for k in range(500)]
    rows.append({"path": "x.dcm", "reason": "Rows (0028,0010) is absent; legal: 1 to 65535"})
    rows += [
        {"path": f"a{k}", "outcome": "duplicate", "stage": "plan",
         "reason": f"duplicate of b{k} (1).dcm: same SOP Instance UID, same pixels"}
        for k in range(9)
    ]  # fmt: skip
    rows += [{"path": f"n{k}", "outcome": "excluded", "reason": "recipe: exclude mask"}
             for k in range(99)]  # fmt: skip
    cut = CUT.replace("1 frame", "... frames")
    assert [(g.outcome, g.rows, g.reason) for g in grouped(_table(*reversed(rows)))] == [
        ("failed", 500, cut),
        ("failed", 1, "Rows (0028,0010) is absent; legal: 1 to 65535"),
        ("duplicate", 9, "duplicate of ...: same SOP Instance UID, same pixels"),
        ("excluded", 99, "recipe: exclude mask"),
    ]


def test_words_of_other_alphabets_are_words() -> None:
    """Where little of a reason is our own it is told as it is, and sought as it is."""
    rows = [{"path": f"{k}", "reason": "für 'Ö' \x9b"} for k in range(3)]
    (group,) = grouped(_table(*rows))
    assert (group.rows, group.reason) == (3, "für 'Ö' \x9b")


def test_no_spreadsheet_computes_a_cell() -> None:
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "a=1"]
    rows = _table(*({"path": n, "reason": f"{n} is lost"} for n in names))
    said = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "a=1"]
    out = io.StringIO()
    write_each(rows, {}, out)
    each = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert sorted(row["path"] for row in each) == sorted(said)
    assert sorted(row["reason"] for row in each) == sorted(f"{n} is lost" for n in said)
    out = io.StringIO()
    write_groups(rows, out)
    groups = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert {row["example"] for row in groups} <= set(said)
    assert len(groups) > 0


def test_frames_of_a_file_are_rows_of_one_file() -> None:
    rows = [{"path": "a.dcm", "frame": k, "stage": "decode", "reason": "lost"} for k in range(30)]
    (group,) = grouped(_table(*rows))
    assert (group.rows, group.files, group.frame) == (30, 1, 0)


def test_files_that_are_not_dicom_are_told_by_suffix() -> None:
    why = "no DICM at byte 128 and no data element at byte 0"
    names = ["a.nii", "B.NII", "c.nii.gz", "d.meyer", "e", "1.2.840.113", ".hidden", "x.7z"]
    rows = [{"path": n, "outcome": "not-dicom", "reason": why} for n in names]
    (group,) = grouped(_table(*rows))
    assert group.suffixes == (
        (".nii", 2), (".7z", 1), (".hidden", 1), (".meyer", 1), (".nii.gz", 1), ("no suffix", 2),
    )  # fmt: skip
    (group,) = grouped(_table(*rows), own_only=True)
    assert group.suffixes == ((".nii", 2), (".7z", 1), (".nii.gz", 1), ("no known suffix", 4))


@pytest.mark.parametrize("name", ["a b", "(.*)", "[", "\\", "x" * 5000, "", "é\n", "...", "$^"])
def test_values_in_reasons_are_no_patterns(name: str) -> None:
    text = f"duplicate of {name}: same SOP Instance UID, same pixels"
    other = "Rows (0028,0010) is absent; legal: 1 to 65535"
    found = grouped(_table({"path": "p", "reason": text}, {"path": "q", "reason": other}))
    assert sorted(g.rows for g in found) == [1, 1]
    assert text in [g.reason for g in found]
    for group in grouped(_table({"path": "p", "reason": f"{name} 17"}), own_only=True):
        assert group.reason == "other reasons"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One frame, and files that are not stored for four reasons."""
    folder = tmp_path_factory.mktemp("failures")
    whole = write_dicom(folder / "in" / "a.dcm", np.ones((8, 8), np.uint8)).read_bytes()
    for k in range(12):
        (folder / "in" / f"cut{k:02}.dcm").write_bytes(whole[: -20 - k])
    (folder / "in" / "copy.dcm").write_bytes(whole)
    write_dicom(folder / "in" / "plan.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5")
    for k in range(126):
        (folder / "in" / f"mask{k}.nii").write_bytes(b"\x5c\x01\x00\x00" + bytes(348))
    return built(folder / "in", folder / "cache", "--jobs", 1, status=1)


def test_failures_by_reason(cache: Path) -> None:
    ran = run_here("failures", cache)
    assert (ran.returncode, ran.stdout.splitlines()) == (0, [
        "12 failed, 1 without pixels, 126 not DICOM, 1 duplicates",
        "failed:",
        f"  12 files: {CUT}",
        "    such as cut00.dcm: pixel data is truncated: 44 bytes, 64 expected for 1 frame of 8 x "
        "8; copy the file again",
        "without pixels:",
        "  1 file: RT Plan Storage has no pixel data",
        "    such as plan.dcm",
        "    -> nothing to do: such objects are no images",
        "not DICOM:",
        "  126 files: no DICM at byte 128 and no data element at byte 0",
        "    .nii 126",
        "    such as mask0.nii",
        "    -> nothing to do, unless it was made from DICOM: then convert the originals",
        "duplicates:",
        "  1 file: duplicate of a.dcm: same SOP Instance UID, same pixels",
        "    such as copy.dcm",
        "    -> nothing to do: the first copy is stored",
    ])  # fmt: skip


def test_failures_of_an_outcome(cache: Path) -> None:
    ran = run_here("failures", cache, "--outcome", "duplicate", "--outcome", "no-pixels")
    assert ran.stdout.splitlines()[0] == "1 without pixels, 1 duplicates"
    assert run_here("failures", cache, "--outcome", "excluded").stdout == "everything is stored\n"
    ran = run_here("failures", cache, "--outcome", "lost")
    assert (ran.returncode, ran.stderr) == (
        2,
        "dicom2cache: --outcome lost; legal: failed, no-pixels, not-dicom, duplicate, excluded\n",
    )


def test_failures_as_csv(cache: Path) -> None:
    groups = list(csv.DictReader(io.StringIO(run_here("failures", cache, "--csv").stdout)))
    assert [(g["outcome"], g["files"], g["suffixes"]) for g in groups] == [
        ("failed", "12", ""), ("no-pixels", "1", ""), ("not-dicom", "126", ".nii:126"),
        ("duplicate", "1", ""),
    ]  # fmt: skip
    each = list(csv.DictReader(io.StringIO(run_here("failures", cache, "--each").stdout)))
    assert len(each) == 140
    folder = cache.parent / "in"
    assert each[0]["path"] == str(folder / "cut00.dcm")
    assert (each[-1]["path"], each[-1]["kept"]) == (str(folder / "copy.dcm"), str(folder / "a.dcm"))


def test_info_and_build_do_not_list_each_of_many(cache: Path) -> None:
    said = run_here("info", cache).stdout.splitlines()
    assert said[0].startswith(f"{cache}: 1 frame of 1 file, ")
    assert said[1:4] == [
        "  1 patient, 1 study, 1 series, 1 stack",
        "  modalities (frames): OT 1",
        "  units (frames): US 1",
    ]
    assert said[-5:] == [
        "not stored: 12 failed, 1 without pixels, 126 not DICOM, 1 duplicates",
        "  failed: cut00.dcm: pixel data is truncated: 44 bytes, 64 expected for 1 frame of 8 x 8; "
        "copy the file again; and 11 files like it",
        "  no-pixels: plan.dcm: RT Plan Storage has no pixel data",
        "  not-dicom: mask0.nii: no DICM at byte 128 and no data element at byte 0; and 125 files "
        "like it (.nii 126)",
        "  duplicate: copy.dcm: duplicate of a.dcm: same SOP Instance UID, same pixels",
    ]
