"""Both of LightlyTrain's doors, replaced and put back; workers; what is warned of."""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly_train._data import file_helpers
from lightly_train._data.file_helpers import ImageMode
from lightly_train._data.image_dataset import ImageDataset
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

from tests.lightly.doors import doors, opened
from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import open_cache
from trainer_adapter.errors import NotServedError, UnknownLightlyError
from trainer_adapter.lightly import api


def test_missing_may_pass_and_is_counted(scans: Path, cache: Path, tmp_path: Path) -> None:
    chosen = open_cache(cache).select(modality="CT")
    own = opened(scans / "mr" / "IM0.dcm")
    with api.serve(chosen, missing="pass") as served:
        assert opened(scans / "ct" / "IM0.dcm").shape == (128, 128, 3)
        assert np.array_equal(opened(scans / "mr" / "IM0.dcm"), own)
        assert served.counts == (1, 1, 0)
        with pytest.raises(FileNotFoundError):  # LightlyTrain's own
            opened(tmp_path / "x.tif")
    assert served.counts == (1, 1, 0)
    with pytest.raises(ValueError, match="missing 'skip'; legal: error, pass, convert"), \
            api.serve(cache, missing="skip"):  # fmt: skip
        pass


def test_one_line_of_warnings_for_boxes_that_a_size_moved(tmp_path: Path) -> None:
    write_dicom(tmp_path / "scans" / "a.dcm", pattern("a", (32, 64)), Modality="MR")
    caches = {
        fit: built(tmp_path / "scans", tmp_path / fit, "--size", "16", "--fit", fit)
        for fit in ("pad", "crop", "stretch")
    }
    caches["plain"] = built(tmp_path / "scans", tmp_path / "plain")
    modules = ("object_detection", "instance_segmentation", "image_classification")
    doors = {  # the door as a module of LightlyTrain calls it
        name: eval("lambda path: f.open_image_numpy(path)",
                   {"f": file_helpers, "__name__": f"lightly_train._data.{name}_dataset"})
        for name in modules
    }  # fmt: skip
    for name in modules:
        assert (
            f"lightly_train._data.{name}_dataset"
            == find_spec(f"lightly_train._data.{name}_dataset").name
        )
        for fit, made in caches.items():
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                with api.serve(made):
                    for _ in range(3):
                        doors[name](tmp_path / "scans" / "a.dcm")
            lies = fit in ("pad", "crop") and name != "image_classification"
            assert len(said) == lies, (name, fit)
            if said:
                assert "1 of 1 frame was padded or cropped" in str(said[0].message)


def test_leaving_puts_everything_back(cache: Path) -> None:
    before = doors()
    with api.serve(cache) as served:
        assert not set(doors()) & set(before)
        folder = served._counts.folder
        assert folder.is_dir()
    assert doors() == before
    assert not folder.exists()
    with pytest.raises(ZeroDivisionError), api.serve(cache):
        raise ZeroDivisionError
    assert doors() == before
    with api.serve(cache):  # and it can be entered again
        pass


def test_one_context_within_another_is_refused(cache: Path, recipe_cache: Path) -> None:
    before = doors()
    with api.serve(cache):
        outer = doors()
        with pytest.raises(RuntimeError, match=r"already served from .*cache; leave"), \
                api.serve(recipe_cache):  # fmt: skip
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
            api.serve(cache):  # fmt: skip
        pass
    assert doors() == before


def test_a_torch_that_starts_workers_in_another_way_is_refused_by_name(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spawned workers would silently not be served: by __iter__, or without the hook at all."""
    before = doors()
    with monkeypatch.context() as patched:
        patched.setattr(DataLoader, "__iter__", lambda self: _SingleProcessDataLoaderIter(self))
        with pytest.raises(UnknownLightlyError, match=r"torch 2\.\d+.*_get_iterator"), \
                api.serve(cache):  # fmt: skip
            pass
        assert doors() == before
    with monkeypatch.context() as patched:
        patched.delattr(DataLoader, "_get_iterator")
        with pytest.raises(UnknownLightlyError, match=r"torch 2\.\d+.*_get_iterator"), \
                api.serve(cache):  # fmt: skip
            pass
        assert not hasattr(DataLoader, "_get_iterator")
    assert doors() == before


def test_serving_draws_no_random_numbers(cache: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with api.serve(cache):
        assert torch.equal(torch.get_rng_state(), before)


def test_a_door_that_is_not_known_does_not_open(scans: Path, cache: Path) -> None:
    decode = file_helpers._open_image_numpy__with_pydicom  # bound before, as an import would
    with api.serve(cache):
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
    with api.serve(hollow) as served:
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
    with (
        api.serve(hollow),
        pytest.raises(NotServedError, match=r"IM8.dcm: no such file, and not in"),
    ):
        list(DataLoader(dataset, num_workers=1, multiprocessing_context="fork"))


def test_a_server_pickles_without_its_tables(cache: Path) -> None:
    with api.serve(cache) as served:
        served.load(api.names(cache)[0])
        assert len(pickle.dumps(served)) < 2000


def test_channels_where_lightly_train_does_not_say(scans: Path, cache: Path) -> None:
    file = scans / "ct" / "IM0.dcm"
    with api.serve(cache, window="soft", mode="UNCHANGED"):
        assert file_helpers.as_image_tensor(file).shape == (1, 128, 128)
        assert opened(file, ImageMode.UNCHANGED).shape == (128, 128, 1)
        assert opened(file).shape == (128, 128, 3)
    with pytest.raises(ValueError, match="mode 'L'; legal: None, RGB, UNCHANGED"), \
            api.serve(cache, mode="L"):  # fmt: skip
        pass
