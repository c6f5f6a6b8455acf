"""Paths and names to frames; both of LightlyTrain's doors, replaced and put back; workers."""

from __future__ import annotations

import os
import pickle
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from caches import built
from dicom_files import pattern, write_dicom
from example_types import SINGLE
from lightly_train._data import file_helpers
from lightly_train._data.file_helpers import ImageMode
from lightly_train._data.image_dataset import ImageDataset
from torch.utils.data import DataLoader

from dicom2cache import Recipe
from trainer_adapter import lightly, open_cache
from trainer_adapter.errors import ConvertError, NotServedError, UnknownLightlyError
from trainer_adapter.lightly_convert import toml

DOORS = ("open_image_numpy", "open_image_tensor", "_open_image_numpy__with_pydicom")


def doors() -> list[Any]:
    """What LightlyTrain and torch would call now."""
    return [*(getattr(file_helpers, name) for name in DOORS), DataLoader._get_iterator]


def opened(path: Path | str, mode: ImageMode = ImageMode.RGB) -> Any:
    """What LightlyTrain's datasets get for a path."""
    return file_helpers.open_image_numpy(Path(path), mode)


@pytest.mark.usefixtures("no_dicom")
def test_a_path_may_be_spelled_in_any_way(
    scans: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scans / "ct" / "IM2.dcm"
    (tmp_path / "link").symlink_to(scans)
    (tmp_path / "one.dcm").symlink_to(whole)
    monkeypatch.chdir(scans / "mr")
    spellings = [
        whole, Path("../ct/IM2.dcm"), scans / "mr" / ".." / "ct" / "IM2.dcm",
        tmp_path / "link" / "ct" / "IM2.dcm", tmp_path / "one.dcm",
        Path(f"{whole}#frame=0.dcm"), Path("../ct/IM2.dcm#frame=0.dcm"),
    ]  # fmt: skip
    with lightly.serve(cache) as served:
        images = [opened(path) for path in spellings]
    assert images[0].shape == (128, 128, 3)
    assert all(np.array_equal(images[0], image) for image in images)
    assert served.counts == (len(spellings), 0, 0)


def test_a_source_that_is_a_link_is_found_by_its_real_path(scans: Path, tmp_path: Path) -> None:
    """pretrain(data=folder) resolves links, whatever the cache recorded."""
    (tmp_path / "link").symlink_to(scans / "ct")
    made = built(tmp_path / "link", tmp_path / "cache")
    assert made.joinpath("zarr.json").exists()
    with lightly.serve(made):
        assert opened(scans / "ct" / "IM0.dcm").shape == (128, 128, 3)


def test_a_folder_that_was_moved(scans: Path, cache: Path, tmp_path: Path) -> None:
    new = tmp_path / "elsewhere" / "ct" / "IM0.dcm"
    with lightly.serve(cache), pytest.raises(NotServedError, match=r"give\s+serve\(.*root="):
        opened(new)
    with lightly.serve(cache, root=tmp_path / "elsewhere"):
        moved = opened(new)
        assert np.array_equal(moved, opened(scans / "ct" / "IM0.dcm"))  # the old one still counts
    with lightly.serve(cache, root={str(scans): tmp_path / "elsewhere"}):
        assert np.array_equal(moved, opened(new))
    with pytest.raises(ValueError, match="root names /nowhere; the cache's folders: "), \
            lightly.serve(cache, root={"/nowhere": tmp_path}):  # fmt: skip
        opened(new)


def test_the_same_file_name_below_two_sources(scans: Path, tmp_path: Path) -> None:
    made = built(scans / "ct", scans / "mr", tmp_path / "cache")
    with lightly.serve(made):
        assert opened(scans / "ct" / "IM0.dcm").shape == (128, 128, 3)
        assert opened(scans / "mr" / "IM0.dcm").shape == (64, 64, 3)
    names = lightly.names(made)
    assert len(set(names)) == 8
    with pytest.raises(ValueError, match="made from 2 folders"), \
            lightly.serve(made, root=tmp_path) as served:  # fmt: skip
        served.load(scans / "ct" / "IM0.dcm")


def test_what_is_not_in_the_cache_says_why(scans: Path, recipe_cache: Path, tmp_path: Path) -> None:
    with lightly.serve(recipe_cache) as served:
        with pytest.raises(NotServedError, match=r"excluded: .*; train on .*names"):
            opened(scans / "rt_dose" / "rt_dose.dcm")
        with pytest.raises(NotServedError, match=r"not in .*missing='pass'"):
            opened(scans / "ct" / "IM9.dcm")
        with pytest.raises(NotServedError, match="not below a folder"):
            opened(tmp_path / "x.png")
    assert served.counts == (0, 0, 0)


def test_missing_may_pass_and_is_counted(scans: Path, cache: Path, tmp_path: Path) -> None:
    chosen = open_cache(cache).select(modality="CT")
    own = opened(scans / "mr" / "IM0.dcm")
    with lightly.serve(chosen, missing="pass") as served:
        assert opened(scans / "ct" / "IM0.dcm").shape == (128, 128, 3)
        assert np.array_equal(opened(scans / "mr" / "IM0.dcm"), own)
        assert served.counts == (1, 1, 0)
        with pytest.raises(FileNotFoundError):  # LightlyTrain's own
            opened(tmp_path / "x.tif")
    assert served.counts == (1, 1, 0)
    with pytest.raises(ValueError, match="missing 'skip'; legal: error, pass, convert"), \
            lightly.serve(cache, missing="skip"):  # fmt: skip
        pass


def test_missing_may_be_converted(scans: Path, cache: Path, tmp_path: Path) -> None:
    new = Path(shutil.copy(scans / "ct" / "IM0.dcm", tmp_path / "new.dcm"))
    with lightly.serve(cache, missing="convert") as served:
        assert np.array_equal(opened(new), opened(scans / "ct" / "IM0.dcm"))
    assert served.counts == (1, 0, 1)


def test_a_file_of_many_frames_wants_a_name(scans: Path, cache: Path) -> None:
    file = scans / "ybr_color" / "ybr_color.dcm"
    with lightly.serve(cache):
        with pytest.raises(NotServedError, match=r"30 frames .*ybr_color.dcm#frame=0.dcm"):
            opened(file)
        with pytest.raises(NotServedError, match="frame 30 is not in"):
            opened(f"{file}#frame=30.dcm")
        image = opened(f"{file}#frame=7.dcm")
    rows = open_cache(cache).select(path="ybr_color/ybr_color.dcm", frame=7)
    assert np.array_equal(image, rows[0])
    assert image.flags.writeable


def test_names_are_one_for_each_frame_and_are_served(cache: Path) -> None:
    whole = open_cache(cache)
    names = lightly.names(whole, kind=None)
    assert len(names) == len(set(names)) == len(whole) == 24 + 15 + 30
    assert len(lightly.names(cache)) == 24 + 30
    assert len(lightly.names(cache, kind="dose")) == 15
    assert list(file_helpers.list_image_filenames_from_iterable(names)) == names
    paths, frames = (whole.column(c).to_pylist() for c in ("path", "frame"))
    assert all(f"{p}#frame={f}.dcm" in n for n, p, f in zip(names, paths, frames, strict=True))
    with lightly.serve(cache) as served:
        assert [served.images.names[n] for n in names] == list(range(len(whole)))


def test_a_file_that_is_called_like_a_name(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "scans" / "a#frame=3.dcm", pattern("a", (8, 8)))
    made = built(tmp_path / "scans", tmp_path / "cache")
    assert lightly.load(file, made).shape == (8, 8, 3)
    assert lightly.names(made) == [f"{file}#frame=0.dcm"]
    assert lightly.load(f"{file}#frame=0.dcm", made).shape == (8, 8, 3)


def test_stubs_stand_for_frames(cache: Path, tmp_path: Path) -> None:
    folder = lightly.stubs(open_cache(cache).select(path="rt_dose/rt_dose.dcm"), tmp_path, "dose")
    files = sorted(folder.rglob("*"))
    assert [f.stat().st_size for f in files if f.is_file()] == [0] * 15
    with lightly.serve(cache, root=folder) as served:
        assert {opened(f).shape for f in files if f.is_file()} == {(10, 10, 3)}
    assert served.counts == (15, 0, 0)


def test_leaving_puts_everything_back(cache: Path) -> None:
    before = doors()
    with lightly.serve(cache) as served:
        assert not set(doors()) & set(before)
        folder = served._counts.folder
        assert folder.is_dir()
    assert doors() == before
    assert not folder.exists()
    with pytest.raises(ZeroDivisionError), lightly.serve(cache):
        raise ZeroDivisionError
    assert doors() == before
    with lightly.serve(cache):  # and it can be entered again
        pass


def test_one_context_within_another_is_refused(cache: Path, recipe_cache: Path) -> None:
    before = doors()
    with lightly.serve(cache):
        outer = doors()
        with pytest.raises(RuntimeError, match=r"already served from .*cache; leave"), \
                lightly.serve(recipe_cache):  # fmt: skip
            pass
        assert doors() == outer
    assert doors() == before


@pytest.mark.parametrize(
    ("name", "door", "said"),
    [
        ("open_image_numpy", lambda path: None, r"open_image_numpy takes path; known: .*mode\)"),
        ("open_image_tensor", None, "open_image_tensor is gone"),
    ],
)
def test_a_lightly_train_that_is_not_known_is_refused_by_name(
    cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, door: Any, said: str
) -> None:
    monkeypatch.setattr(file_helpers, name, door)
    before = doors()
    with pytest.raises(UnknownLightlyError, match=rf"lightly-train 0\.18\.0: .*{said}"), \
            lightly.serve(cache):  # fmt: skip
        pass
    assert doors() == before


def test_a_door_that_is_not_known_does_not_open(scans: Path, cache: Path) -> None:
    decode = file_helpers._open_image_numpy__with_pydicom  # bound before, as an import would
    with lightly.serve(cache):
        with pytest.raises(UnknownLightlyError, match="by a way that is not served"):
            file_helpers._open_image_numpy__with_pydicom(scans / "ct" / "IM0.dcm")
        with pytest.raises(NotServedError):
            file_helpers.open_image_numpy(scans / "ct" / "none.dcm")
    assert decode(scans / "ct" / "IM0.dcm").dtype == np.float32


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory, scans: Path, config_home: Path) -> Path:
    """A cache, beside the files it was made from, in which nothing is left but their names."""
    folder = tmp_path_factory.mktemp("hollow")
    shutil.copytree(scans / "ct", folder / "scans")
    made = built(folder / "scans", folder / "cache")
    for file in (folder / "scans").iterdir():
        os.truncate(file, 0)
    return made


def as_is(sample: dict[str, Any]) -> list[dict[str, Any]]:
    """A transform that can be sent to a worker: one view, the image itself."""
    return [{"image": torch.from_numpy(sample["image"])}]


def seeded(worker: int) -> None:
    """A user's own worker_init_fn."""
    os.environ["SEEDED"] = str(worker)


class Seen(ImageDataset):
    """LightlyTrain's dataset, which also says what its worker was seeded with."""

    def __getitem__(self, idx: int) -> Any:
        item: Any = super().__getitem__(idx)
        return {**item, "seeded": os.environ.get("SEEDED", "no")}


@pytest.mark.parametrize(
    ("start", "inner"),
    [("fork", None), ("fork", seeded), ("spawn", seeded), ("forkserver", None)],
)
def test_workers_are_served_however_they_start(hollow: Path, start: str, inner: Any) -> None:
    names = [f"IM{k}.dcm" for k in range(4)]
    dataset = Seen(hollow.parent / "scans", names, as_is, num_channels=3)
    loader = DataLoader(
        dataset, num_workers=2, multiprocessing_context=start, worker_init_fn=inner,
        persistent_workers=True,
    )  # fmt: skip
    with lightly.serve(hollow) as served:
        here = [dataset[k]["views"][0] for k in range(4)]
        for epoch in range(2):
            batches = list(loader)
            assert [b["filename"] for b in batches] == [[n] for n in names]
            for batch, image in zip(batches, here, strict=True):
                assert torch.equal(batch["views"][0][0], image)
            said = {s for b in batches for s in b["seeded"]}
            assert said == ({"no"} if inner is None else {"0", "1"})
            assert served.counts == (4 + 4 * (epoch + 1), 0, 0)
        assert loader.worker_init_fn is inner  # so Lightning's own seeding is not lost
        del loader
    assert served.counts == (12, 0, 0)


def test_an_error_in_a_worker_has_its_words(hollow: Path) -> None:
    dataset = ImageDataset(hollow.parent / "scans", ["IM8.dcm"], as_is, num_channels=3)
    with lightly.serve(hollow), pytest.raises(NotServedError, match=r"IM8.dcm: not in"):
        list(DataLoader(dataset, num_workers=1, multiprocessing_context="fork"))


def test_a_server_pickles_without_its_tables(cache: Path) -> None:
    with lightly.serve(cache) as served:
        served.load(lightly.names(cache)[0])
        assert len(pickle.dumps(served)) < 2000


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("recipe", [(), ("--recipe", "lightlytrain")])
def test_a_model_predicts_on_the_pixels_that_it_was_trained_on(
    scans: Path, tmp_path: Path, name: str, recipe: tuple[str, ...]
) -> None:
    """Both doors, the loader of single files, and a new file of the same image: one array."""
    file = scans / name / "IM1.dcm"
    opened_cache = built(file, tmp_path / "cache", *recipe)
    new = Path(shutil.copy(file, tmp_path / "new.dcm"))
    with lightly.serve(opened_cache) as served:
        trained = opened(file)
        for path in (file, new):
            predicted = file_helpers.as_image_tensor(path)
            assert predicted.dtype == torch.uint8
            assert np.array_equal(predicted.permute(1, 2, 0).numpy(), trained)
            assert np.array_equal(lightly.load(path), trained)
    assert served.counts == (2, 0, 1)
    assert np.array_equal(lightly.load(new, opened_cache), trained)
    assert trained.min() < trained.max()


def test_without_serving_a_model_predicts_on_other_pixels(scans: Path) -> None:
    """What the test above guards against."""
    raw = file_helpers.as_image_tensor(scans / "ct" / "IM1.dcm")
    assert raw.dtype == torch.float32
    assert raw.max() > 1000  # HU


def test_channels_where_lightly_train_does_not_say(scans: Path, cache: Path) -> None:
    file = scans / "ct" / "IM0.dcm"
    with lightly.serve(cache, window="soft", mode="UNCHANGED"):
        assert file_helpers.as_image_tensor(file).shape == (1, 128, 128)
        assert opened(file, ImageMode.UNCHANGED).shape == (128, 128, 1)
        assert opened(file).shape == (128, 128, 3)
    with pytest.raises(ValueError, match="mode 'L'; legal: None, RGB, UNCHANGED"), \
            lightly.serve(cache, mode="L"):  # fmt: skip
        pass


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
    stored = lightly.load(tmp_path / "scans" / "0.dcm", made)
    new = tmp_path / "new" / "0.dcm"
    assert np.array_equal(lightly.load(new, made, beside=[new.with_name("1.dcm")]), stored)
    assert lightly.load(new, made).mean() > 1.5 * stored.mean()


def test_what_cannot_be_loaded_says_why(scans: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(ConvertError, match=r"text.dcm: .*not a DICOM file"):
        lightly.load(tmp_path / "text.dcm", cache)
    with pytest.raises(NotServedError, match="not below a folder"):
        lightly.load(tmp_path / "none.dcm", cache)
    with pytest.raises(ValueError, match="outside of serve"):
        lightly.load(scans / "ct" / "IM0.dcm")
    many = Path(shutil.copy(scans / "ybr_color" / "ybr_color.dcm", tmp_path))
    with pytest.raises(NotServedError, match="30 frames"):
        lightly.load(many, cache)
    stored = lightly.load(f"{scans}/ybr_color/ybr_color.dcm#frame=3.dcm", cache)
    assert np.array_equal(lightly.load(f"{many}#frame=3.dcm", cache), stored)


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
        lightly.load(new, made)
    monkeypatch.setitem(made.attributes["recipe"], "pad", 3.0)  # legal, but not what it says
    monkeypatch.setitem(made.attributes["recipe"], "window", None)
    with pytest.raises(ConvertError, match="its recipe is not the same"):
        lightly.load(new, made)


def test_a_selection_is_all_that_is_served(scans: Path, cache: Path) -> None:
    chosen = open_cache(cache).select(modality="MR")
    with lightly.serve(chosen):
        assert opened(scans / "mr" / "IM0.dcm").shape == (64, 64, 3)
        with pytest.raises(NotServedError, match="select it"):
            opened(scans / "ct" / "IM0.dcm")
    assert len(lightly.names(chosen)) == 8  # overlay is MR too
