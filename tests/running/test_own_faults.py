"""What our own code raises at one file costs that file only, by name, and is told once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dicom2cache.errors import FrameError
from dicom2cache.frames.decode import Source
from dicom2cache.headers import read
from dicom2cache.headers.series import COLUMNS
from dicom2cache.planning.apart import apart
from dicom2cache.records import ArraySpec
from dicom2cache.running import choices
from dicom2cache.store.shards import in_slot
from tests.support.caches import attributes, by_path, failures, run_cli, run_here, table
from tests.support.dicom_files import uid, write_dicom
from tests.support.faults import with_fault
from tests.support.hooks.sitecustomize import BEGINS
from tests.support.plans import files, header

_HEADER = "dicom2cache.headers.read:row_of dicom2cache.headers.by_pydicom:describe"


def _slices(folder: Path, names: list[str], **elements: Any) -> None:
    """A slice of one series for each name; its pixels begin with the number that stands for it."""
    for k, name in enumerate(names):
        pixels = np.full((12, 12), 100 + k, np.uint16)
        pixels[0] = BEGINS.get(name.removeprefix("again_"), 0)
        place = {
            "InstanceNumber": k + 1,
            "ImagePositionPatient": [0.0, 0.0, float(k)],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        }
        write_dicom(folder / f"{name}.dcm", pixels, **{**place, **elements})


@pytest.mark.parametrize(
    ("places", "stage", "flags"),
    [
        (_HEADER, "header", ()),
        ("dicom2cache.planning.select:select_files", "plan", ()),
        ("dicom2cache.planning.select:meanings", "plan", ()),
        ("dicom2cache.planning.select:copies", "plan", ()),
        ("dicom2cache.planning.values:dtypes", "plan", ()),
        ("dicom2cache.planning.plan:place_frames", "plan", ()),
        ("dicom2cache.frames.decode:Source._native", "decode", ()),
        ("dicom2cache.frames.chunk:plain_frame", "decode", ()),
        ("dicom2cache.frames.chunk:values_of", "decode", ("--dtype", "int32")),
        ("dicom2cache.frames.chunk:statistics", "decode", ("--dtype", "int32")),
        ("dicom2cache.frames.chunk:chunk_of", "decode", ()),  # where a label map once ended a run
        ("dicom2cache.running.choices:modality", "decode", ("--intensity", "percentiles")),
        ("dicom2cache.frames.chunk:plain_frame", "decode", ("--codec", "auto")),
        ("dicom2cache.store.shards:pack", "decode", ("--codec", "zstd")),
    ],
)
def test_a_fault_at_one_file_costs_that_file_only(
    tmp_path: Path, places: str, stage: str, flags: tuple[str, ...]
) -> None:
    # All files are planned at once: want of memory there is no single file's.
    kinds = [kind for kind in BEGINS if stage != "plan" or kind != "MemoryError"]
    _slices(tmp_path / "source", ["good0", *kinds, "again_KeyError", "good1"])
    cache = tmp_path / "cache"
    ran = run_cli(
        "build", tmp_path / "source", cache, "--jobs", "1", *flags,
        env=with_fault(f"raise {places}"),
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    stored = {path for path, _ in by_path(cache)}
    assert stored == {"good0.dcm", "good1.dcm"}
    rows = {row["path"]: row for row in table(cache, "failures")}
    assert set(rows) == {f"{kind}.dcm" for kind in [*kinds, "again_KeyError"]}
    for path, row in rows.items():
        kind = path.removesuffix(".dcm").removeprefix("again_")
        assert (row["outcome"], row["frame"]) == ("failed", 0 if stage == "decode" else None)
        if kind == "MemoryError":
            assert "memory does not suffice, not even for this alone" in row["reason"]
            continue
        said = "'as the test wants'" if kind == "KeyError" else "as the test wants"
        assert f"internal error: {kind}: {said}; please report" in row["reason"]
        assert row["stage"] == stage
    # Each kind once, with the place where it was raised; two files had one of them.
    shown = [line for line in ran.stderr.splitlines() if line.startswith("Traceback")]
    assert len(shown) == len(kinds) - ("MemoryError" in kinds), ran.stderr
    assert "in raises" in ran.stderr
    assert attributes(cache)["counts"]["files_failed"] == len(rows)


def test_a_fault_in_a_worker_process_is_told_too(tmp_path: Path) -> None:
    _slices(tmp_path / "source", ["good0", "KeyError", "good1"])
    cache = tmp_path / "cache"
    fault = "raise dicom2cache.frames.decode:Source._native"
    ran = run_cli(
        "build", tmp_path / "source", cache, "--jobs", "2", "--backend", "threading",
        env=with_fault(fault),
    )  # fmt: skip
    assert ran.returncode == 1
    ((_, (_, reason)),) = failures(cache).items()
    assert reason == "internal error: KeyError: 'as the test wants'; please report"
    assert f"{tmp_path}/source/KeyError.dcm, frame 0: {reason}\nTraceback" in ran.stderr


def test_a_fault_at_a_copy_costs_that_copy_only(tmp_path: Path) -> None:
    """Digests of pixels are taken in a child process: its traceback is told as well."""
    same = {"SOPInstanceUID": uid("same"), "InstanceNumber": 1, "ImagePositionPatient": [0, 0, 0]}
    _slices(tmp_path / "source", ["good0", "KeyError", "good1"], **same)
    cache = tmp_path / "cache"
    fault = "raise dicom2cache.frames.decode:Source._native"
    ran = run_cli(
        "build", tmp_path / "source", cache, "--jobs", "1",
        env=with_fault(fault),
    )  # fmt: skip
    assert ran.returncode == 1
    assert {path for path, _ in by_path(cache)} == {"good0.dcm", "good1.dcm"}
    assert ran.stderr.count("in a child process") == 1
    assert "in raises" in ran.stderr


def test_a_fault_where_copies_are_told_apart(tmp_path: Path) -> None:
    same = {"SOPInstanceUID": uid("same"), "InstanceNumber": 1, "ImagePositionPatient": [0, 0, 0]}
    _slices(tmp_path / "source", ["good0", "KeyError", "good1"], **same)
    cache = tmp_path / "cache"
    fault = "raise dicom2cache.planning.select:drop_duplicates"
    ran = run_cli(
        "build", tmp_path / "source", cache, "--jobs", "1",
        env=with_fault(fault),
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert {path for path, _ in by_path(cache)} == {"good0.dcm", "good1.dcm"}
    (row,) = table(cache, "failures")
    assert (row["path"], row["stage"]) == ("KeyError.dcm", "plan")
    assert row["reason"] == "internal error: KeyError: 'as the test wants'; please report"


def test_memory_that_was_short_once_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child that tries again knows nothing of what is patched here."""
    _slices(tmp_path / "source", ["a", "b"])

    def fails(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Source, "_read", fails)
    monkeypatch.setattr(read, "_by_scan", fails)
    flags = ("--jobs", "1", "--backend", "threading")
    ran = run_here("build", tmp_path / "source", tmp_path / "cache", *flags)
    assert ran.returncode == 0, ran.stderr
    assert len(by_path(tmp_path / "cache")) == 2


def test_a_fault_of_the_whole_stack_s_percentiles_costs_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _slices(tmp_path / "source", ["a", "b"])
    _slices(tmp_path / "other", ["c"], SeriesInstanceUID=uid("other"))
    right = np.percentile

    def fails(values: Any, *rest: Any, **options: Any) -> Any:
        if values.size == 288:  # two slices
            raise IndexError("no such place")
        return right(values, *rest, **options)

    monkeypatch.setattr(choices.np, "percentile", fails)
    cache, flags = tmp_path / "cache", ("--intensity", "percentiles", "--backend", "threading")
    ran = run_here("build", tmp_path / "source", tmp_path / "other", cache, *flags)
    assert ran.returncode == 1, ran.stderr
    reasons = {key: why for key, (_, why) in failures(cache).items()}
    reason = "internal error: IndexError: no such place; please report"
    assert reasons == {("a.dcm", 0): reason, ("b.dcm", 0): reason}


@pytest.mark.parametrize(
    ("slots", "pixels"),
    [
        ((12, 12), np.zeros((12, 12, 3), np.int16)),  # colour where grey was planned
        ((12, 12, 3), np.zeros((12, 12), np.int16)),
        ((12, 12), np.zeros((1, 13), np.int16)),
        ((12, 12), np.zeros((12, 12), np.uint16)),
    ],
)
def test_a_frame_that_its_slot_cannot_hold(slots: tuple[int, ...], pixels: Any) -> None:
    spec = ArraySpec("a", "int16", slots, 1, 1)
    with pytest.raises(FrameError, match="but it was planned into a slot of"):
        in_slot(pixels, spec)


def test_a_header_that_does_not_fit_its_columns_costs_itself_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _slices(tmp_path / "source", ["a", "b", "c"])
    right = read._header

    def other(path: str, candidate: Any, *rest: Any, **options: Any) -> Any:
        found = right(path, candidate, *rest, **options)
        if candidate.path == "b.dcm":  # like the first, but for its own columns
            own = dict(zip(COLUMNS, found.own, strict=True)) | {"instance": 1 << 40}
            return found._replace(own=tuple(own.values()))
        return {**found.header(), "kernel": "\udcff"} if candidate.path == "c.dcm" else found

    monkeypatch.setattr(read, "_header", other)
    cache = tmp_path / "cache"
    assert run_here("build", tmp_path / "source", cache, "--jobs", "1").returncode == 1
    assert {path for path, _ in by_path(cache)} == {"a.dcm"}
    reasons = {path: why for (path, _), (_, why) in failures(cache).items()}
    assert set(reasons) == {"b.dcm", "c.dcm"}
    for why in reasons.values():
        assert why.startswith("internal error: ")


def test_of_files_that_fail_with_other_series_only_one_is_left_out() -> None:
    rows = [(n, s) for s, names in (("1", "ab"), ("2", "cd"), ("3", "ef")) for n in names]
    table = files([header(n, series_uid=s) for n, s in rows])

    def attempt(some: pa.Table) -> list[str]:
        names: list[str] = some["path"].to_pylist()
        if {"b", "e"} <= set(names) or {"a", "c"} <= set(names):
            raise IndexError("not these together")
        return names

    made, rejects, faults = apart(table, attempt)
    assert made == ["a", "b", "d", "f"]
    assert rejects["path"].to_pylist() == ["c", "e"]
    assert len(faults) == 2


def test_what_goes_wrong_without_a_culprit_is_raised() -> None:
    """It fails whichever file is left out, save where there is no second series."""
    table = files([header(f"{k:02}", series_uid=str(k // 8)) for k in range(40)])

    def attempt(some: pa.Table) -> int:
        if some.num_rows > 20:
            raise IndexError("too many")
        return some.num_rows

    with pytest.raises(IndexError, match="too many"):
        apart(table, attempt)


def test_files_that_cannot_be_planned_together_cost_their_series() -> None:
    rows = [("a", "1"), ("b", "1"), ("c", "2"), ("d", "3"), ("e", "3")]
    table = files([header(n, series_uid=s) for n, s in rows])

    def attempt(some: pa.Table) -> list[str]:
        names: list[str] = some["path"].to_pylist()
        if {"a", "b"} <= set(names) or "d" in names:
            raise IndexError("as the test wants")
        return names

    made, rejects, faults = apart(table, attempt)
    assert made == ["c", "e"]
    assert sorted(rejects["path"].to_pylist()) == ["a", "b", "d"]
    assert {fault.kind for fault in faults} == {faults[0].kind}


def test_a_label_map_with_a_palette_stores_its_labels(tmp_path: Path) -> None:
    """Photometric Interpretation PALETTE COLOR (PS3.3 C.8.20): it only shows the labels."""
    labels = np.arange(144, dtype=np.uint8).reshape(12, 12) % 5
    colours = bytes(k for k in range(256) for _ in (0, 1))
    palette = {
        f"{c}PaletteColorLookupTable{what}": value
        for c in ("Red", "Green", "Blue")
        for what, value in (("Descriptor", [256, 0, 16]), ("Data", colours))
    }
    write_dicom(
        tmp_path / "source" / "labels.dcm",
        labels,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7",
        Modality="SEG",
        SegmentationType="LABELMAP",
        PhotometricInterpretation="PALETTE COLOR",
        **palette,
    )
    write_dicom(tmp_path / "source" / "grey.dcm", labels.astype(np.uint16))
    cache = tmp_path / "cache"
    ran = run_here("build", tmp_path / "source", cache, "--jobs", "1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    row, pixels = by_path(cache)["labels.dcm", 0]
    assert (row["kind"], row["unit"]) == ("mask", "labelmap")
    assert np.array_equal(pixels, labels)
