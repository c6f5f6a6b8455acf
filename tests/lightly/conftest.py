"""Caches of pydicom's examples, and DICOM that cannot be opened: what LightlyTrain is tested on.

Run by `make test-lightly`, in an environment that has LightlyTrain.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom import examples

from tests.lightly.example_types import COPIES, MULTI, SINGLE
from tests.support.caches import built
from tests.support.dicom_files import uid

os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = "1"  # its usage statistics


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of DICOM: four files of each single-frame example, and both multi-frame ones."""
    folder = tmp_path_factory.mktemp("lightly") / "scans"
    for name in SINGLE:
        (folder / name).mkdir(parents=True)
        for k in range(COPIES):
            ds = pydicom.dcmread(examples.get_path(name))
            # Another image of the same series; else it would be a duplicate.
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(f"{name}{k}")
            ds.save_as(folder / name / f"IM{k}.dcm")
    for name in MULTI:
        (folder / name).mkdir()
        shutil.copy(examples.get_path(name), folder / name / f"{name}.dcm")
    return folder


@pytest.fixture(scope="session")
def cache(scans: Path, config_home: Path) -> Path:
    """All of `scans` by the default recipe: HU in int16, dose in float32, colour in uint8."""
    return built(scans, scans.parent / "cache")


@pytest.fixture(scope="session")
def recipe_cache(scans: Path, config_home: Path) -> Path:
    """All of `scans` by the recipe `lightlytrain`: uint8."""
    return built(scans, scans.parent / "recipe", "--recipe", "lightlytrain")


@pytest.fixture
def no_dicom(monkeypatch: pytest.MonkeyPatch) -> None:
    """pydicom fails when it opens a file, in workers that are forked too."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("pydicom opens a file")

    for name in ("dcmread", "read_partial", "read_file_meta_info", "read_dataset"):
        monkeypatch.setattr(pydicom.filereader, name, fail)
    monkeypatch.setattr(pydicom, "dcmread", fail)
    monkeypatch.setattr(pydicom.pixels.utils, "pixel_array", fail)
