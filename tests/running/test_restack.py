"""Series that came in parts become whole stacks: `update --restack`."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dicom2cache import verify
from tests.support.caches import Ran, attributes, run_here, tree
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import open_cache

_FLAGS = ("--shard-mib", "1", "--jobs", "1")
_STACK = (
    "path", "stack_index", "stack_regular", "part", "stack_flags", "window_low", "window_high",
    "crc32c",
)  # fmt: skip


def _slice(folder: Path, name: str, k: int) -> Path:
    """Slice `k` of the CT series of a patient; both follow from `name`."""
    return write_dicom(
        folder / f"{name}{k}.dcm", pattern(f"{name}{k}", (512, 512), top=1000 + 500 * k),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT", PatientID=name,
        StudyInstanceUID=uid(f"study {name}"), SeriesInstanceUID=uid(f"series {name}"),
        SOPInstanceUID=uid(f"{name}{k}"), ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        RescaleSlope=1, RescaleIntercept=-1024, InstanceNumber=k + 1, BitsStored=12, HighBit=11,
        FrameOfReferenceUID=uid(name), ImagePositionPatient=[0, 0, k], SliceThickness=1,
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1],
    )  # fmt: skip


def _rows(cache: Path) -> list[dict[str, Any]]:
    entries = attributes(cache)["tables"]["frames"]
    return [row for e in entries for row in pq.read_table(cache / e["path"]).to_pylist()]


def _stacks(cache: Path) -> list[list[tuple[Any, ...]]]:
    """The stacks, sorted by path: what is said of each of their frames, in order."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for row in _rows(cache):
        row["stack_flags"] = row["stack_flags"] and tuple(row["stack_flags"])
        found.setdefault(row["stack"], []).append(tuple(row[c] for c in _STACK))
    return sorted(found.values(), key=lambda stack: [row[0] for row in stack])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three slices of a, whose neighbours come later, and three of b: at 1 MiB two in a shard."""
    folder = tmp_path / "source"
    for k in (0, 2, 4):
        _slice(folder, "a", k)
        _slice(folder, "b", k // 2)
    return folder


def _updated(*arguments: object, status: int = 0) -> Ran:
    ran = run_here("update", *arguments, "--jobs", "1")
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran


@pytest.mark.parametrize("flags", [(), ("--intensity", "percentiles")], ids=["stored", "p"])
def test_as_a_build_of_all(source: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    cache, fresh = tmp_path / "cache", tmp_path / "fresh"
    assert run_here("build", source, cache, *_FLAGS, *flags).returncode == 0
    opened, was = open_cache(cache), _rows(cache)
    frames = [np.array(opened[k]) for k in range(6)]
    for k in (1, 3):
        _slice(source, "a", k)
    # What is there already in parts, and what comes with the same command.
    assert "2 frames of 2 files added" in _updated(source, cache).stdout
    assert any("continues" in (row["stack_flags"] or ()) for row in _rows(cache))
    _slice(source, "a", 5)
    ran = _updated(source, cache, "--restack")
    assert ran.stdout == (
        f"{cache}: 1 frame of 1 file added; 9 frames now\n"
        f"{cache}: 6 frames in whole stacks again; what was there before stays on the disk until "
        f"`dicom2cache purge {cache}`\n"
    )
    assert run_here("build", source, fresh, *_FLAGS, *flags).returncode == 0
    assert _stacks(cache) == _stacks(fresh)
    assert run_here("compare", cache, fresh).returncode == 0
    about = attributes(cache)
    assert about["counts"] == attributes(fresh)["counts"]
    assert about["numbering"] == 1
    assert "removed" not in about["tables"]
    assert verify(cache) == []
    # b kept its frames, in its place or copied; a is one run behind them, so that it can be viewed.
    rows = _rows(cache)
    assert [Path(r["path"]).stem for r in rows] == ["b0", "b1", "b2", *(f"a{k}" for k in range(6))]
    assert np.diff([r["row"] for r in rows[3:]]).tolist() == [1] * 5
    whole = open_cache(cache).volume(rows[3]["stack"])
    (stack,) = {r["stack"] for r in _rows(fresh) if r["path"].startswith("a")}
    np.testing.assert_array_equal(whole, open_cache(fresh).volume(stack))
    assert [np.array_equal(opened[k], frames[k]) for k in range(6)] == [True] * 6
    assert (len(opened), opened.newer(), len(was)) == (6, 0, 6)
    assert run_here("purge", cache).returncode == 0
    assert verify(cache) == []
    before = tree(cache)
    assert _updated(source, cache, "--restack").stdout == f"{cache}: nothing new; 9 frames\n"
    assert tree(cache) == before
    _slice(source, "b", 3)
    _updated(source, cache, "--restack")
    shutil.rmtree(fresh)
    assert run_here("build", source, fresh, *_FLAGS, *flags).returncode == 0
    assert _stacks(cache) == _stacks(fresh)
    assert (attributes(cache)["numbering"], attributes(cache)["generation"]) == (2, 5)
    assert verify(cache) == []


def test_a_series_whose_files_are_gone_stays_in_parts(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run_here("build", source, cache, *_FLAGS).returncode == 0
    _slice(source, "a", 5)
    _slice(source, "b", 3)
    _updated(source, cache)
    (source / "a0.dcm").unlink()
    said = f"series {uid('series a')}: stays in parts, since 1 of its files is gone"
    ran = _updated(source, cache, "--restack")
    assert said in ran.stderr
    assert f"{cache}: 4 frames in whole stacks again" in ran.stdout
    flags = {Path(r["path"]).stem: r["stack_flags"] for r in _rows(cache)}
    assert [name for name, said in flags.items() if said and "continues" in said] == ["a5"]
    assert verify(cache) == []
    before = tree(cache)
    assert said in _updated(source, cache, "--restack").stderr
    assert tree(cache) == before


def test_deidentified_and_killed(source: Path, tmp_path: Path) -> None:
    cache, fresh, key = tmp_path / "cache", tmp_path / "fresh", tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    own = ("--deidentify", key)
    assert run_here("build", source, cache, *_FLAGS, *own).returncode == 0
    for k in (1, 3):
        _slice(source, "a", k)
    _updated(source, cache, *own)
    script = (
        "import os, signal, sys; from dicom2cache.running import commit; from dicom2cache import "
        "update; commit.root_metadata = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        "update(sys.argv[1], sys.argv[2], deidentify=sys.argv[3], restack=True, jobs=1)"
    )
    ran = subprocess.run([sys.executable, "-c", script, source, cache, key], check=False)
    assert ran.returncode == -signal.SIGKILL
    assert verify(cache) == []
    assert len(open_cache(cache)) == 8
    ran = run_here("remove", cache, "--patient-id", "b", *own)
    assert (ran.returncode, "files are being added to it; end that first" in ran.stderr) == (
        2,
        True,
    )
    _updated(source, cache, "--restack", *own)
    assert not (cache / "build").exists()
    assert run_here("build", source, fresh, *_FLAGS, *own).returncode == 0
    assert _stacks(cache) == _stacks(fresh)
    assert verify(cache) == []
    assert run_here("remove", cache, "--patient-id", "a", *own).returncode == 0
    assert run_here("purge", cache).returncode == 0
    assert len(_rows(cache)) == 3
    assert "nothing new; 3 frames" in _updated(source, cache, "--restack", *own).stdout
    assert verify(cache) == []
