"""What is printed of a cache and of what it lacks, in literal lines."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pytest
from pydicom.uid import JPEGLSLossless

from dicom2cache.cli.rejects import print_rejects
from dicom2cache.schema import REJECTS
from tests.support.caches import failures, run_here
from tests.support.dicom_files import write_dicom


def _said(rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    whole = [{"root": 0, "frame": None, "stage": "decode", **row} for row in rows]
    print_rejects(pa.Table.from_pylist(whole, REJECTS))
    return capsys.readouterr().out.splitlines()


def test_what_failed_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"path": f"{k}.dcm", "outcome": outcome, "reason": f"why {k}"}
        for k, outcome in enumerate(["excluded", "no-pixels", "failed", "excluded", "failed"])
    ]
    assert _said(rows, capsys) == [
        "not stored: 2 failed, 1 without pixels, 2 excluded",
        "  failed: 2.dcm: why 2",
        "  failed: 4.dcm: why 4",
        "  no-pixels: 1.dcm: why 1",
        "  excluded: 0.dcm: why 0",
        "  excluded: 3.dcm: why 3",
    ]


def test_frames_of_a_file_that_failed_alike_are_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    frames = [
        ("a.dcm", 3, "cut"), *(("a.dcm", k, "lost") for k in range(10, 30)), ("a.dcm", 31, "lost"),
        ("a.dcm", 40, "cut"), *(("b.dcm", k, "odd") for k in range(1, 100, 2)),
    ]  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"path": path, "frame": frame, "outcome": "failed", "reason": reason}
        for path, frame, reason in frames
    ]
    rows += [{"path": f"x{k:02}.dcm", "outcome": "excluded", "reason": "r"} for k in range(40)]
    assert _said(rows, capsys) == [
        "not stored: 73 failed, 40 excluded",
        "  failed: a.dcm, frames 3, 40: cut",
        "  failed: a.dcm, frames 10-29, 31: lost",
        "  failed: b.dcm, 50 frames from 1 to 99: odd",
        "  excluded: x00.dcm: r; and 39 files like it",
    ]


def test_a_damaged_multi_frame_file_is_one_line(tmp_path: Path) -> None:
    pixels = np.arange(30 * 64, dtype=np.uint8).reshape(30, 8, 8)
    encoded = [imagecodecs.jpegls_encode(frame) for frame in pixels]
    encoded = [stream + bytes(len(stream) % 2) for stream in encoded]
    encoded[10:] = [bytes(len(stream)) for stream in encoded[10:]]
    write_dicom(tmp_path / "in" / "cine.dcm", pixels, syntax=JPEGLSLossless, encoded=encoded)
    ran = run_here("build", tmp_path / "in", tmp_path / "cache", "--jobs", "1")
    assert ran.returncode == 1
    (line,) = [line for line in ran.stdout.splitlines() if "cine.dcm" in line]
    assert line.startswith("  failed: cine.dcm, frames 10-29: ")
    assert sorted(failures(tmp_path / "cache")) == [("cine.dcm", k) for k in range(10, 30)]


def test_printing_a_few_of_many_takes_no_memory_for_the_rest() -> None:
    """Each row as an object is half a kilobyte: 50 MB of these."""
    count = 100_000
    columns = {
        "root": pa.array(np.zeros(count, np.int16)),
        "path": pa.array([f"patient{k // 500}/IM{k}" for k in range(count)]),
        "frame": pa.nulls(count, pa.int32()),
        "outcome": pa.array(["excluded"] * count),
        "stage": pa.array(["plan"] * count),
        "reason": pa.array(["recipe: where"] * count),
    }
    empty = {f.name: pa.nulls(count, f.type) for f in REJECTS if f.name not in columns}
    rejects = pa.table(columns | empty, REJECTS)
    tracemalloc.start()
    try:
        print_rejects(rejects)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
