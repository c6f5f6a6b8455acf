"""Paths, names and stubs to the frames that they stand for."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightly_train._data import file_helpers

from tests.lightly.doors import opened
from tests.support.caches import built
from tests.support.dicom_files import pattern, write_dicom
from trainer_adapter import open_cache
from trainer_adapter.errors import NotServedError
from trainer_adapter.lightly import api


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
    with api.serve(cache) as served:
        images = [opened(path) for path in spellings]
    assert images[0].shape == (128, 128, 3)
    assert all(np.array_equal(images[0], image) for image in images)
    assert served.counts == (len(spellings), 0, 0)


def test_a_source_that_is_a_link_is_found_by_its_real_path(scans: Path, tmp_path: Path) -> None:
    """pretrain(data=folder) resolves links, whatever the cache recorded."""
    (tmp_path / "link").symlink_to(scans / "ct")
    made = built(tmp_path / "link", tmp_path / "cache")
    assert made.joinpath("zarr.json").exists()
    with api.serve(made):
        assert opened(scans / "ct" / "IM0.dcm").shape == (128, 128, 3)


def test_a_folder_that_was_moved(scans: Path, cache: Path, tmp_path: Path) -> None:
    new = tmp_path / "elsewhere" / "ct" / "IM0.dcm"
    with api.serve(cache), pytest.raises(NotServedError, match=r"give\s+serve\(.*root="):
        opened(new)
    with api.serve(cache, root=tmp_path / "elsewhere"):
        moved = opened(new)
        assert np.array_equal(moved, opened(scans / "ct" / "IM0.dcm"))  # the old one still counts
    with api.serve(cache, root={str(scans): tmp_path / "elsewhere"}):
        assert np.array_equal(moved, opened(new))
    with pytest.raises(ValueError, match="root names /nowhere; the cache's folders: "), \
            api.serve(cache, root={"/nowhere": tmp_path}):  # fmt: skip
        opened(new)


def test_the_same_file_name_below_two_sources(scans: Path, tmp_path: Path) -> None:
    made = built(scans / "ct", scans / "mr", tmp_path / "cache")
    with api.serve(made):
        assert opened(scans / "ct" / "IM0.dcm").shape == (128, 128, 3)
        assert opened(scans / "mr" / "IM0.dcm").shape == (64, 64, 3)
    names = api.names(made)
    assert len(set(names)) == 8
    with pytest.raises(ValueError, match="made from 2 folders"), \
            api.serve(made, root=tmp_path) as served:  # fmt: skip
        served.load(scans / "ct" / "IM0.dcm")


def test_what_is_not_in_the_cache_says_why(scans: Path, recipe_cache: Path, tmp_path: Path) -> None:
    with api.serve(recipe_cache) as served:
        with pytest.raises(NotServedError, match=r"excluded: .*; train on .*names"):
            opened(scans / "rt_dose" / "rt_dose.dcm")
        with pytest.raises(NotServedError, match=r"no such file, and not in .*missing='pass'"):
            opened(scans / "ct" / "IM9.dcm")
        with pytest.raises(NotServedError, match="no such file, and not below a folder"):
            opened(tmp_path / "x.png")
        (tmp_path / "y.png").touch()
        with pytest.raises(NotServedError, match=r"y.png: not below a folder"):
            opened(tmp_path / "y.png")
        with pytest.raises(NotServedError, match=r"^the path is empty"):
            served.load("")
        with pytest.raises(NotServedError, match=r"^https://x.org/a.dcm: a URL"):
            served.load("https://x.org/a.dcm")
        with pytest.raises(NotServedError, match=r"/ct: a folder; give one of its files"):
            served.load(scans / "ct")
    assert served.counts == (0, 0, 0)


def test_a_file_of_many_frames_wants_a_name(scans: Path, cache: Path) -> None:
    file = scans / "ybr_color" / "ybr_color.dcm"
    with api.serve(cache):
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
    names = api.names(whole, kind=None)
    assert len(names) == len(set(names)) == len(whole) == 24 + 15 + 30
    assert len(api.names(cache)) == 24 + 30
    assert len(api.names(cache, kind="dose")) == 15
    assert list(file_helpers.list_image_filenames_from_iterable(names)) == names
    paths, frames = (whole.column(c).to_pylist() for c in ("path", "frame"))
    assert all(f"{p}#frame={f}.dcm" in n for n, p, f in zip(names, paths, frames, strict=True))
    with api.serve(cache) as served:
        assert [served.images.names[n] for n in names] == list(range(len(whole)))


def test_a_file_that_is_called_like_a_name(tmp_path: Path) -> None:
    file = write_dicom(tmp_path / "scans" / "a#frame=3.dcm", pattern("a", (8, 8)))
    made = built(tmp_path / "scans", tmp_path / "cache")
    assert api.load(file, made).shape == (8, 8, 3)
    assert api.names(made) == [f"{file}#frame=0.dcm"]
    assert api.load(f"{file}#frame=0.dcm", made).shape == (8, 8, 3)


def test_stubs_stand_for_frames(cache: Path, tmp_path: Path) -> None:
    folder = api.stubs(open_cache(cache).select(path="rt_dose/rt_dose.dcm"), tmp_path, "dose")
    files = sorted(folder.rglob("*.dcm"))
    assert [f.stat().st_size for f in files if f.is_file()] == [0] * 15
    with api.serve(cache, root=folder) as served:
        assert {opened(f).shape for f in files if f.is_file()} == {(10, 10, 3)}
    assert served.counts == (15, 0, 0)


@pytest.mark.parametrize("make", [api.names, api.stubs, api.mean_std])
@pytest.mark.parametrize("kind", ["images", "mask", ""])
def test_an_unknown_kind_is_named(cache: Path, tmp_path: Path, make: Any, kind: str) -> None:
    more = {"folder": tmp_path} if make is api.stubs else {}
    with pytest.raises(ValueError, match=f"kind '{kind}'; legal: image, dose, map, and None"):
        make(cache, kind=kind, **more)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """A cache of the folders sick and healthy, which have a file of one name each."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("sick", "healthy"):
        write_dicom(folder / name / "0.dcm", pattern(name, (8, 8), "uint8", 256), Modality="US")
    return built(folder / "sick", folder / "healthy", folder / "cache")


def wanted(name: str) -> Any:
    """The pixels of the file in a folder of `two`."""
    return pattern(name, (8, 8), "uint8", 256)


def test_stubs_of_two_sources_are_those_of_their_own(two: Path, tmp_path: Path) -> None:
    """One root serves both; the order that the cache numbers them in does not matter."""
    folder = api.stubs(two, tmp_path / "stubs")
    numbers = {s["path"]: s["root"] for s in open_cache(two).attributes["sources"]}
    assert len(numbers) == 2
    stub = {Path(p).name: folder / str(n) / "0.dcm#frame=0.dcm" for p, n in numbers.items()}
    with api.serve(two, root=folder):
        for name in ("sick", "healthy"):
            assert np.array_equal(opened(stub[name])[..., 0], wanted(name))
    right = {p: folder / str(n) for p, n in numbers.items()}
    with api.serve(two, root=right):
        assert np.array_equal(opened(stub["sick"])[..., 0], wanted("sick"))
    swapped = dict(zip(right, reversed(right.values()), strict=True))
    with pytest.raises(ValueError, match=r"root gives .*, but its stubs are of "), \
            api.serve(two, root=swapped):  # fmt: skip
        pass
    with pytest.raises(ValueError, match=r"made from 2 folders.* is no folder of its stubs"), \
            api.serve(two, root=tmp_path):  # fmt: skip
        pass


def test_stubs_of_another_source_are_refused(two: Path, tmp_path: Path) -> None:
    """Paths below two sources may be the same, and their images others."""
    caches = {n: built(two.parent / n, tmp_path / n) for n in ("sick", "healthy")}
    folder = api.stubs(caches["sick"], tmp_path / "stubs")
    with pytest.raises(ValueError, match=r"has stubs of .*sick; choose another folder"):
        api.stubs(caches["healthy"], folder)
    with pytest.raises(ValueError, match=r"stubs of .*sick, and the cache was made from .*y;"), \
            api.serve(caches["healthy"], root=folder):  # fmt: skip
        pass
    api.stubs(caches["sick"], folder)  # again is no error
    said = {str(two.parent / "healthy"): folder}  # the user knows better: it was moved
    with api.serve(caches["healthy"], root=said):
        assert np.array_equal(opened(folder / "0.dcm#frame=0.dcm")[..., 0], wanted("healthy"))


def test_files_that_lightly_train_does_not_list_are_said(tmp_path: Path) -> None:
    """By folder it goes by the suffix: others would silently not be trained on."""
    for name in ("a.dcm", "b.DCM", "IM0001", "IM0002"):
        write_dicom(tmp_path / "scans" / name, pattern(name, (8, 8)))
    made = built(tmp_path / "scans", tmp_path / "cache")
    listed = list(file_helpers.list_image_filenames_from_dir(tmp_path / "scans"))
    assert sorted(map(str, listed)) == ["a.dcm", "b.DCM"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with api.serve(made):
            for name in listed:
                opened(tmp_path / "scans" / name)
    (one,) = said
    assert re.search(r"2 images .*such as IM000\d.*lightly\.names", str(one.message))
    for asked in (api.names(made), []):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with api.serve(made):
                for name in asked:
                    opened(name)


def test_a_selection_is_all_that_is_served(scans: Path, cache: Path) -> None:
    chosen = open_cache(cache).select(modality="MR")
    with api.serve(chosen):
        assert opened(scans / "mr" / "IM0.dcm").shape == (64, 64, 3)
        with pytest.raises(NotServedError, match="select it"):
            opened(scans / "ct" / "IM0.dcm")
    assert len(api.names(chosen)) == 8  # overlay is MR too
