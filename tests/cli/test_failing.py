"""--max-failures of parts, of updates, in batch scripts: each command answers for its own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import RLELossless

from tests.support.caches import failures, run_here
from tests.support.dicom_files import write_dicom

_NO_RLE = bytes([9] + [0] * 63) + bytes(80)
"""a header of 9 segments, of which an image of 8 bits has one"""


def _scans(folder: Path) -> Path:
    """Four frames of which two fail when they are decoded, and an image of another array."""
    good = bytes([1, 0, 0, 0, 64, *[0] * 59]) + b"".join(bytes([7, *range(8)]) for _ in range(8))
    frames = [good, _NO_RLE, good, _NO_RLE]
    write_dicom(
        folder / "four.dcm", np.zeros((4, 8, 8), np.uint8), syntax=RLELossless, encoded=frames
    )
    write_dicom(folder / "one.dcm", np.zeros((8, 8), np.uint16))
    return folder


def _status(*arguments: object) -> int:
    return run_here(*arguments, "--quiet").returncode


def test_a_part_answers_for_its_frames_and_commit_for_files(tmp_path: Path) -> None:
    scans, cache = _scans(tmp_path / "in"), tmp_path / "cache"
    assert _status("plan", scans, cache, "-j1") == 0  # nobody has decoded them yet
    parts = {part: _status("convert", cache, "--part", part, "-j1") for part in ("0/2", "1/2")}
    assert sorted(parts.values()) == [0, 1]
    bad, good = sorted(parts, key=lambda part: -parts[part])
    for most, status in (("2", 0), ("1", 1), ("50%", 0), ("49.9%", 1)):  # 2 of its 4 frames
        assert _status("convert", cache, "--part", bad, "--max-failures", most) == status, most
        assert _status("convert", cache, "--part", good, "--max-failures", most) == 0
    for most, status in (("40%", 0), ("39%", 1)):  # 2 of all 5
        assert _status("convert", cache, "--max-failures", most) == status, most
    # One part let pass decides nothing: commit counts files, and one of two has failed.
    assert _status("commit", cache) == 1
    for most, status in (("1", 0), ("0", 1), ("50%", 0), ("49%", 1)):
        assert _status("commit", cache, "--max-failures", most) == status, most
        assert _status("build", scans, cache, "--max-failures", most) == status, most
    assert sorted(failures(cache)) == [("four.dcm", 1), ("four.dcm", 3)]


def test_an_update_answers_for_what_it_adds(tmp_path: Path) -> None:
    scans, cache = _scans(tmp_path / "in"), tmp_path / "cache"
    assert _status("build", scans, cache, "-j1", "--max-failures", "1") == 0
    write_dicom(tmp_path / "more" / "new.dcm", np.ones((8, 8), np.uint16))
    assert _status("update", tmp_path / "more", cache, "-j1", "--max-failures", "0") == 0
    whole = write_dicom(tmp_path / "more" / "cut.dcm", np.ones((8, 8), np.uint8)).read_bytes()
    (tmp_path / "more" / "cut.dcm").write_bytes(whole[:-30])
    assert _status("update", tmp_path / "more", cache, "-j1", "--dry-run") == 1
    assert _status("update", tmp_path / "more", cache, "-j1", "--max-failures", "1") == 0
    # What has changed since it was stored is no failure that could be allowed.
    (tmp_path / "more" / "new.dcm").write_bytes(b"other")
    assert _status("update", tmp_path / "more", cache, "-j1", "--max-failures", "100%") == 1


@pytest.mark.parametrize("most", ["7", "0.5%"])
def test_a_batch_script_says_it_to_each_job(tmp_path: Path, most: str) -> None:
    said = run_here("slurm", tmp_path, tmp_path / "c", "--time", "1:00", "--max-failures", most)
    found = re.findall(r'^    srun "\${dicom2cache\[@\]}" (\w+) .*$', said.stdout, re.MULTILINE)
    assert found == ["plan", "convert", "convert", "commit"]
    assert len(re.findall(rf" --max-failures {re.escape(most)}(?= |$)", said.stdout, re.M)) == 4
