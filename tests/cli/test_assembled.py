"""What `plan` and `info` say of stacks, in literal lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicom2cache.cli.assembled import assembled, recorded
from tests.support.caches import run_here
from tests.support.dicom_files import uid, write_dicom

SCHEMA = pa.schema([
    ("modality", pa.string()), ("kind", pa.string()), ("stack", pa.int64()),
    ("stack_regular", pa.bool_()), ("stack_of", pa.int64()), ("stack_flags", pa.list_(pa.string())),
])  # fmt: skip


def _stack(number: int, frames: int, **values: Any) -> list[dict[str, Any]]:
    row = {"modality": "CT", "kind": "image", "stack_regular": True, "stack_of": number, **values}
    return [{**row, "stack": number}] * frames


def test_a_line_for_each_modality() -> None:
    rows = [
        *_stack(0, 5), *_stack(1, 3, stack_regular=False, stack_flags=["gap", "joined"]),
        *_stack(2, 9, stack_flags=["tilted"]),
        *_stack(3, 1, stack_regular=False, stack_flags=["one-place"]),
        *_stack(4, 2, modality="MR", stack_of=4, stack_flags=["repeated"]),
        *_stack(5, 2, modality="MR", stack_of=4, stack_flags=["repeated"]),
        *_stack(6, 4, modality=None, stack_regular=None, stack_flags=["order-by-instance"]),
    ]  # fmt: skip
    assert list(assembled(pa.Table.from_pylist(rows, SCHEMA))) == [
        "  CT: 4 stacks, 1 to 9 frames each: 2 regular, 1 not regular, 1 of a single frame; "
        "flags: gap 1, joined 1, tilted 1",
        "  MR: 2 stacks of 1 acquisition, 2 frames each: 2 regular; flags: repeated 2",
        "  unknown: 1 stack, 4 frames each: 1 without positions; flags: order-by-instance 1",
    ]


def test_caches_made_before_the_columns_came() -> None:
    rows = [*_stack(0, 5), *_stack(1, 3, stack_regular=False)]
    old = pa.Table.from_pylist(rows, SCHEMA).select(["modality", "kind", "stack", "stack_regular"])
    assert list(assembled(old)) == ["  CT: 2 stacks, 3 to 5 frames each: 1 regular, 1 not regular"]


def test_nothing() -> None:
    assert list(assembled(SCHEMA.empty_table())) == []
    assert list(recorded(SCHEMA.empty_table())) == []


def test_waveforms_are_no_stacks() -> None:
    rows = [
        *_stack(0, 1), *_stack(1, 1, kind="waveform", modality="ECG"),
        *_stack(2, 1, kind="waveform", modality="HD"),
        *_stack(3, 1, kind="waveform", modality="ECG"),
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, SCHEMA)
    assert list(assembled(table)) == ["  CT: 1 stack, 1 frame each: 1 of a single frame"]
    assert list(recorded(table)) == ["  ECG: 2 multiplex groups", "  HD: 1 multiplex group"]


def test_plan_and_info_say_what_was_assembled(tmp_path: Path) -> None:
    for k in (0, 1, 2, 4):
        write_dicom(
            tmp_path / "in" / f"{k}.dcm", np.zeros((4, 4), np.uint16), SOPInstanceUID=uid(f"a{k}"),
            ImagePositionPatient=[0, 0, k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )  # fmt: skip
    line = "  OT: 1 stack, 4 frames each: 1 not regular; flags: gap 1"
    planned = run_here("plan", tmp_path / "in", tmp_path / "cache")
    assert line in planned.stdout.splitlines()
    run_here("build", tmp_path / "in", tmp_path / "cache")
    assert line in run_here("info", tmp_path / "cache").stdout.splitlines()
