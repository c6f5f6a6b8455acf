"""New files by the recipe of a cache: the pixels are those that a model was trained on."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.caches import attributes, built, by_path, run_here, table
from tests.support.dicom_files import real, write_dicom
from trainer_adapter import load, open_cache
from trainer_adapter.errors import ConvertError

FILES = {"SC_rgb.dcm": None, "emri_small.dcm": 3}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real files by a recipe that windows, resizes, and takes percentiles of stacks; and two slices
    of which one is twice as bright."""
    folder = tmp_path_factory.mktemp("new")
    for name in ("CT_small.dcm", *FILES):
        (folder / "in").mkdir(exist_ok=True)
        shutil.copy(real(name), folder / "in" / name)
    for k in range(2):
        write_dicom(
            folder / "in" / f"{k}.dcm", np.arange(64, dtype=np.uint16).reshape(8, 8) * (k + 1),
            Modality="MR", ImagePositionPatient=[0, 0, k], InstanceNumber=k + 1,
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1],
        )  # fmt: skip
    return built(folder / "in", folder / "cache", "--recipe", "lightlytrain", "--jobs", "1")


@pytest.mark.parametrize(("name", "frame"), FILES.items())
def test_a_new_file_is_what_the_cache_would_have(
    cache: Path, tmp_path: Path, name: str, frame: int | None
) -> None:
    _, pixels = by_path(cache)[name, frame or 0]
    new = Path(shutil.copy(real(name), tmp_path / "IM0001"))
    found = load(new, cache, frame=frame)
    np.testing.assert_array_equal(found.numpy(), pixels)
    assert found.numpy().dtype == pixels.dtype
    found += 1  # it is the caller's own


def test_a_frame_of_several_is_named(cache: Path) -> None:
    file = cache.parent / "in" / "emri_small.dcm"
    with pytest.raises(ValueError, match="10 frames of it are stored, 10 of them with frame=N"):
        load(file, cache)
    with pytest.raises(ValueError, match="none of them with frame=10"):
        load(file, cache, frame=10)


def test_a_file_of_the_cache_comes_from_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = cache.parent / "in" / "CT_small.dcm"
    new = Path(shutil.copy(path, tmp_path / "new.dcm"))
    monkeypatch.setattr("trainer_adapter.loading.convert.find_spec", lambda name: None)
    opened = open_cache(cache)
    _, pixels = by_path(cache)["CT_small.dcm", 0]
    for one in (opened, opened.select(modality="MR")):
        np.testing.assert_array_equal(load(path, one).numpy(), pixels)
    assert importlib.util.find_spec("dicom2cache")
    with pytest.raises(ConvertError, match=r"new.dcm: not in .*install dicom2cache"):
        load(new, cache)


def test_the_rest_of_its_stack_is_beside_it(cache: Path, tmp_path: Path) -> None:
    for name in ("0.dcm", "1.dcm"):
        shutil.copy(cache.parent / "in" / name, tmp_path / name)
    _, pixels = by_path(cache)["0.dcm", 0]
    found = load(str(tmp_path / "0.dcm"), str(cache), tmp_path)
    np.testing.assert_array_equal(found.numpy(), pixels)
    alone = load(tmp_path / "0.dcm", cache).numpy()
    assert alone.mean() > 1.5 * pixels.mean()


def test_what_cannot_be_loaded_says_why(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(ConvertError, match=r"text.dcm: .*not a DICOM file"):
        load(tmp_path / "text.dcm", cache)


def test_a_de_identified_cache_has_a_recipe_too(tmp_path: Path) -> None:
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(bytes(32))
    file = write_dicom(tmp_path / "in" / "a.dcm", np.arange(64, dtype=np.uint16).reshape(8, 8))
    ran = run_here(
        "build", tmp_path / "in", tmp_path / "cache", "--jobs", "1", "--deidentify",
        tmp_path / "key",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "deidentify_key" in attributes(tmp_path / "cache")
    assert len(table(tmp_path / "cache", "frames")) == 1
    found = load(file, tmp_path / "cache")
    assert found.numpy().tolist() == np.arange(64).reshape(8, 8).tolist()
