"""Values beyond what floats hold: a frame fails by name, or its statistics are null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from tests.support.caches import attributes, by_path, failures, run_cli, run_here
from tests.support.dicom_files import uid, write_dicom

_SOUND = np.arange(64, dtype=np.uint16).reshape(8, 8)
_ODD = (_SOUND % 2).astype(bool)
_TOO_LARGE = "values go beyond what float64 holds"


def _doubles(path: Path, values: Any) -> None:
    """An image with Double Float Pixel Data (PS3.3 C.7.6.25)."""
    ds = dcmread(write_dicom(path, _SOUND, SeriesInstanceUID=uid(path.name)))
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, keyword)
    ds.BitsAllocated = 64
    ds.DoubleFloatPixelData = np.asarray(values, np.float64).tobytes()
    ds.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with large values, and a sound one."""
    folder = tmp_path_factory.mktemp("large")
    write_dicom(folder / "sound.dcm", _SOUND)
    for name, slope, intercept in (
        ("intercept", "1", "1e308"),  # the sum of 64 such values overflows
        ("slope", "1e308", "0"),  # 63 of them overflow
        ("fractions", "1.5e307", "0.5"),
        ("both", "-1e308", "-1e308"),
    ):
        write_dicom(
            folder / f"{name}.dcm", _SOUND, RescaleSlope=slope, RescaleIntercept=intercept,
            SeriesInstanceUID=uid(name),
        )  # fmt: skip
    _doubles(folder / "sum.dcm", np.full((8, 8), 1e308))
    _doubles(folder / "squares.dcm", np.where(_ODD, 1e200, -1e200))
    _doubles(folder / "ends.dcm", np.where(_ODD, 1.7e308, -1.7e308))
    return folder


def test_values_are_stored_or_fail_by_name(tmp_path: Path, large: Path) -> None:
    cache = tmp_path / "cache"
    ran = run_cli("build", large, cache, "--jobs", "1")
    assert ran.returncode == 1, ran.stderr
    assert "Warning" not in ran.stderr
    failed = {path: why for (path, _), (_, why) in failures(cache).items()}
    assert set(failed) == {"slope.dcm", "fractions.dcm", "both.dcm"}
    assert all(_TOO_LARGE in why for why in failed.values()), failed
    rows = {path: (row, pixels) for (path, _), (row, pixels) in by_path(cache).items()}
    for name, mean, std in (
        ("sound.dcm", 31.5, 18.472953201911167),
        ("intercept.dcm", None, None),
        ("sum.dcm", None, None),
        ("squares.dcm", 0.0, None),
        ("ends.dcm", 0.0, None),  # one of each sign in turn
    ):
        row, _ = rows[name]
        assert (row["mean"], row["std"]) == (mean, std)
        assert (row["flags"] == ["statistics-overflow"]) == (std is None)
    assert (rows["sum.dcm"][0]["min"], rows["sum.dcm"][0]["max"]) == (1e308, 1e308)
    assert np.array_equal(rows["ends.dcm"][1], np.where(_ODD, 1.7e308, -1.7e308))
    found = {about["name"]: about["statistics"] for about in attributes(cache)["arrays"]}
    assert found["float64_8x8"] == {
        "count": 256, "min": -1.7e308, "max": 1.7e308, "mean": None, "std": None,
    }  # fmt: skip
    assert run_here("info", cache).returncode == 0
    assert run_here("verify", cache).returncode == 0


def test_percentiles_and_windows_that_overflow(tmp_path: Path, large: Path) -> None:
    for flags, failed in (
        (("--intensity", "percentiles"), {"slope", "fractions", "both", "ends"}),
        # what lies beyond a window is at its ends, however far
        (("--window", "1e308,1e308"), {"slope", "fractions", "both"}),
        (("--size", "5,5"), {"slope", "fractions", "both", "ends", "intercept", "sum", "squares"}),
    ):
        cache = tmp_path / flags[0]
        ran = run_cli("build", large, cache, "--jobs", "1", *flags)
        assert ran.returncode == 1, ran.stderr
        assert "Warning" not in ran.stderr
        reasons = {path: why for (path, _), (_, why) in failures(cache).items()}
        assert set(reasons) == {f"{name}.dcm" for name in failed}
        assert all(_TOO_LARGE in why for why in reasons.values()), reasons
