"""Tables of headers for tests of the plan, without files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dicom2cache.planning.plan import make_plan
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import Plan
from dicom2cache.schema import FILES, REJECTS
from dicom2cache.store.layout import attributes_sha256

_ROW: dict[str, Any] = {
    "root": 0, "size": 1000, "mtime_ns": 0, "transfer_syntax": "1.2.840.10008.1.2.1",
    "pixel_keyword": "PixelData", "pixel_vr": "OW", "pixel_offset": 500, "pixel_length": 32,
    "frames": 1, "height": 4, "width": 4, "samples": 1, "planar": 0, "bits_allocated": 16,
    "bits_stored": 12, "high_bit": 11, "signed": False, "photometric": "MONOCHROME2",
    "slope": 1.0, "intercept": 0.0, "unit": "US", "inverted": False, "kind": "image",
    "study_uid": "1.1", "series_uid": "1.1.1", "frame_of_reference_uid": "1.9",
}  # fmt: skip

AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
SAGITTAL = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]


def header(path: str, **values: Any) -> dict[str, Any]:
    """A row of FILES: a 4 x 4 image of 12 bits without rescale, but for `values`."""
    return {**dict.fromkeys(FILES.names), **_ROW, "path": path, "sop_uid": f"1.2.{path}", **values}


def files(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """FILES of rows."""
    return pa.Table.from_pylist(list(rows), FILES)


def plan_of(rows: Sequence[dict[str, Any]], **recipe: Any) -> Plan:
    """The plan of rows."""
    return make_plan(files(rows), REJECTS.empty_table(), Recipe(**recipe))


def frames_of(plan: Plan) -> list[dict[str, Any]]:
    """Rows of the plan's frame table, with the path of the file."""
    paths = plan.files["path"].to_pylist()
    return [{**row, "path": paths[row["file"]]} for row in plan.frames.to_pylist()]


def stacks_of(plan: Plan) -> list[tuple[bool | None, list[str]]]:
    """(regular, names of the files in order) of each stack; FILE#FRAME where a file has several."""
    many = {row["path"]: row["frames"] > 1 for row in plan.files.to_pylist()}
    found: dict[int, tuple[bool | None, list[str]]] = {}
    for row in frames_of(plan):
        names = found.setdefault(row["stack"], (row["stack_regular"], []))[1]
        assert row["stack_index"] == len(names)
        name = row["path"]
        names.append(f"{name}#{row['frame']}" if many[name] else name)
    assert sorted(found) == list(range(len(found)))
    return [found[k] for k in range(len(found))]


def assembled(plan: Plan) -> list[tuple[str, list[str]]]:
    """(flags, names of the files in order) of each stack; the flags of a regular one begin with +,
    those of an irregular one with -."""
    sign = {True: "+", False: "-", None: "?"}
    flags: dict[int, str] = {}
    for row in plan.frames.to_pylist():
        said = " ".join(row["stack_flags"] or [])
        flags.setdefault(row["stack"], f"{sign[row['stack_regular']]} {said}".strip())
    return [(flags[k], names) for k, (_, names) in enumerate(stacks_of(plan))]


def sign_plan(cache: Path, change: Callable[[dict[str, Any]], Any] = lambda about: None) -> None:
    """Change plan.json, and give it a digest that matches."""
    path = cache / "build" / "plan.json"
    about = json.loads(path.read_bytes())
    change(about)
    about["sha256"] = attributes_sha256(about)
    path.write_text(json.dumps(about))
