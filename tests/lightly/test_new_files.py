"""New files, converted as the cache was: for predicting, and by lightly.load."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from lightly_train._data import file_helpers

from dicom2cache import Recipe
from tests.lightly.doors import opened
from tests.lightly.example_types import SINGLE
from tests.support.caches import built
from tests.support.dicom_files import write_dicom
from trainer_adapter import open_cache
from trainer_adapter.errors import ConvertError, NotServedError
from trainer_adapter.lightly import api
from trainer_adapter.loading.convert import toml


def test_missing_may_be_converted(scans: Path, cache: Path, tmp_path: Path) -> None:
    new = Path(shutil.copy(scans / "ct" / "IM0.dcm", tmp_path / "new.dcm"))
    with api.serve(cache, missing="convert") as served:
        assert np.array_equal(opened(new), opened(scans / "ct" / "IM0.dcm"))
    assert served.counts == (1, 0, 1)


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("recipe", [(), ("--recipe", "lightlytrain")])
def test_a_model_predicts_on_the_pixels_that_it_was_trained_on(
    scans: Path, tmp_path: Path, name: str, recipe: tuple[str, ...]
) -> None:
    """Both doors, the loader of single files, and a new file of the same image: one array."""
    file = scans / name / "IM1.dcm"
    opened_cache = built(file, tmp_path / "cache", *recipe)
    new = Path(shutil.copy(file, tmp_path / "new.dcm"))
    with api.serve(opened_cache) as served:
        trained = opened(file)
        for path in (file, new):
            predicted = file_helpers.as_image_tensor(path)
            assert predicted.dtype == torch.uint8
            assert np.array_equal(predicted.permute(1, 2, 0).numpy(), trained)
            assert np.array_equal(api.load(path), trained)
    assert served.counts == (2, 0, 1)
    assert np.array_equal(api.load(new, opened_cache), trained)
    assert trained.min() < trained.max()


def test_a_new_file_without_a_suffix_is_known_by_its_content(
    scans: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = scans / "ct" / "IM1.dcm"
    new = Path(shutil.copy(file, tmp_path / "IM0001"))
    (tmp_path / "a.png").write_bytes(bytes(200))
    with api.serve(cache) as served:
        found = file_helpers.as_image_tensor(new).permute(1, 2, 0).numpy()
        assert np.array_equal(found, opened(file))
        for other in (tmp_path / "a.png", tmp_path / "gone"):
            with pytest.raises(NotServedError, match="not below a folder"):
                file_helpers.open_image_tensor(other)
    assert served.counts == (1, 0, 1)
    shutil.copy(file, tmp_path / "-x.dcm")  # no option of the converter's command
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(api.load("-x.dcm", cache), found)


def test_without_serving_a_model_predicts_on_other_pixels(scans: Path) -> None:
    """What the test above guards against."""
    raw = file_helpers.as_image_tensor(scans / "ct" / "IM1.dcm")
    assert raw.dtype == torch.float32
    assert raw.max() > 1000  # HU


def test_a_new_slice_with_the_rest_of_its_stack(tmp_path: Path) -> None:
    """A recipe of percentiles of the stack: one slice alone is brighter than among its own."""
    geometry = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    for folder in ("scans", "new"):
        for k in range(2):
            write_dicom(
                tmp_path / folder / f"{k}.dcm",
                np.arange(64, dtype=np.uint16).reshape(8, 8) * (k + 1),
                Modality="MR",
                ImagePositionPatient=[0, 0, k],
                InstanceNumber=k + 1,
                **geometry,
            )
    made = built(tmp_path / "scans", tmp_path / "cache", "--recipe", "lightlytrain")
    stored = api.load(tmp_path / "scans" / "0.dcm", made)
    new = tmp_path / "new" / "0.dcm"
    assert np.array_equal(api.load(new, made, beside=[new.with_name("1.dcm")]), stored)
    for beside in (new.with_name("1.dcm"), str(new.parent)):  # one path
        assert np.array_equal(api.load(new, made, beside=beside), stored)
    assert api.load(new, made).mean() > 1.5 * stored.mean()


def test_what_cannot_be_loaded_says_why(scans: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(ConvertError, match=r"text.dcm: .*not a DICOM file"):
        api.load(tmp_path / "text.dcm", cache)
    with pytest.raises(NotServedError, match="not below a folder"):
        api.load(tmp_path / "none.dcm", cache)
    with pytest.raises(ValueError, match="outside of serve"):
        api.load(scans / "ct" / "IM0.dcm")
    many = Path(shutil.copy(scans / "ybr_color" / "ybr_color.dcm", tmp_path))
    with pytest.raises(NotServedError, match="30 frames of it are in what it was converted to"):
        api.load(many, cache)
    with pytest.raises(NotServedError, match="frame 30 is not in what it was converted to"):
        api.load(f"{many}#frame=30.dcm", cache)
    with pytest.raises(ConvertError) as caught:
        api.load(many, cache, beside=["nowhere"])
    assert "nowhere: no such file or folder" in str(caught.value)
    assert "reading headers" not in str(caught.value)
    assert tempfile.gettempdir() + "/trainer_adapter" not in str(caught.value)
    stored = api.load(f"{scans}/ybr_color/ybr_color.dcm#frame=3.dcm", cache)
    assert np.array_equal(api.load(f"{many}#frame=3.dcm", cache), stored)


@pytest.mark.parametrize("name", ["lightlytrain", "mixed"])
def test_a_recorded_recipe_is_written_so_that_it_reads_the_same(name: str) -> None:
    recipe = Recipe.from_toml(name, where='modality != "\\"äµ\x7f"').to_dict()
    assert Recipe.from_dict(tomllib.loads(toml(recipe))).to_dict() == recipe


def test_other_versions_are_said(
    scans: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Path(shutil.copy(scans / "ct" / "IM0.dcm", tmp_path / "new.dcm"))
    made = open_cache(cache)
    monkeypatch.setitem(made.attributes["software"], "numpy", "1.0")
    with pytest.warns(UserWarning, match=r"made with numpy 1\.0, new files are loaded with"):
        api.load(new, made)
    monkeypatch.delitem(made.attributes["recipe"], "columns")  # as one that did not know it
    with pytest.raises(ConvertError, match="its recipe is not the same"):
        api.load(new, made)
