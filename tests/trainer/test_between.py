"""Slices between planes of masks that are farther apart than they: nobody knows what is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.caches import built, run_here
from tests.support.dicom_files import uid
from tests.support.drawn import write_ct, write_seg
from trainer_adapter import Cache, CacheLoader, FrameDataset, LabelError, export, open_cache

SLICES = 10
"""of 2 mm; planes of 6 mm at 6 and 12 mm"""


def plane(row: int) -> np.ndarray:
    found = np.zeros((16, 12), np.uint8)
    found[row] = 1
    return found


def thick(folder: Path) -> Path:
    """A CT and a segmentation whose planes are as thick as three slices."""
    write_ct(folder, "a", SLICES)
    write_seg(
        folder / "seg.dcm",
        [(1, uid("a3"), 6, plane(1)), (1, uid("a6"), 12, plane(2))], {1: "liver"},
        thickness=6, FrameOfReferenceUID=uid("space a"),
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module", params=["none", "planes", "labelmap"])
def path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path_factory.mktemp("between")
    return built("--masks", request.param, thick(folder / "in"), folder / "cache")


@pytest.fixture
def images(path: Path) -> Cache:
    return open_cache(path).select(kind="image")


KNOWN = [True, True, False, True, False, False, True, False, True, True]
"""planes reach from 3 to 9 and from 9 to 15 mm: slices at 4, 8, 10 and 14 mm have none"""


def test_what_is_known(images: Cache) -> None:
    assert images.annotated().tolist() == KNOWN
    assert images.annotated("liver").tolist() == KNOWN
    assert np.flatnonzero(images.has_mask()).tolist() == [3, 6]
    assert images.select([4, 2, 3]).annotated().tolist() == [False, False, True]


def test_they_are_no_background_of_a_training(images: Cache) -> None:
    with pytest.raises(LabelError, match=r'4 of them lie between planes .* mask_grid = "image"'):
        CacheLoader(images, 2, target="mask")
    loader = CacheLoader(images, 2, target="mask", missing="drop")
    seen = np.concatenate([batch.index.numpy() for batch in loader])
    assert sorted(np.searchsorted(images.indices, seen)) == [0, 1, 3, 6, 8, 9]
    data = FrameDataset(images, target="mask", missing="ignore")
    assert [int(data[k].mask.max()) for k in range(SLICES)] == [
        0,
        0,
        255,
        1,
        255,
        255,
        1,
        255,
        0,
        0,
    ]
    maps = images.labelmap(range(SLICES), missing="ignore")
    assert maps.max(axis=(1, 2)).tolist() == [0, 0, 255, 1, 255, 255, 1, 255, 0, 0]
    assert images.labelmap(range(SLICES)).max(axis=(1, 2)).tolist() == [
        0, 0, 0, 1, 0, 0, 1, 0, 0, 0
    ]  # fmt: skip


def test_patches_are_around_no_slice_that_nobody_knows(images: Cache) -> None:
    loader = CacheLoader(images, 10, patch=(2, 4, 4), foreground="mask")
    seen: dict[bool, set[int]] = {False: set(), True: set()}
    for _ in range(30):
        for batch in loader:
            told = batch.columns
            for center, positive in zip(told["center"], told["positive"], strict=True):
                seen[bool(positive)].add(int(center[0]))
    assert seen == {False: set(np.flatnonzero(KNOWN).tolist()), True: {3, 6}}


def test_planes_of_a_file_are_those_of_all_its_segments(tmp_path: Path) -> None:
    """A segment that has no frame on a plane where another one has is not there (PS3.3 C.8.20)."""
    write_ct(tmp_path / "in", "a", SLICES)
    write_seg(
        tmp_path / "in/seg.dcm",
        [(1, uid("a3"), 6, plane(1)), (2, uid("a6"), 12, plane(2))], {1: "liver", 2: "cyst"},
        thickness=6, FrameOfReferenceUID=uid("space a"),
    )  # fmt: skip
    for masks in ("none", "planes", "labelmap"):
        cache = open_cache(built("--masks", masks, tmp_path / "in", tmp_path / masks))
        images = cache.select(kind="image")
        for names in (None, "liver", "cyst"):
            assert images.annotated(names).tolist() == KNOWN, (masks, names)
        maps = images.labelmap([3, 6, 7], ["cyst"], missing="ignore")
        assert maps.max(axis=(1, 2)).tolist() == [0, 1, 255]


def test_texts_know_true_false_and_neither(images: Cache) -> None:
    def chosen(found: Cache) -> list[int]:
        return np.searchsorted(images.indices, found.indices).tolist()

    assert chosen(images.select("has_mask")) == [3, 6]
    assert chosen(images.select("not has_mask")) == [0, 1, 8, 9]
    assert chosen(images.select("has_mask is None")) == [2, 4, 5, 7]
    assert chosen(images.select("has_mask is None and thickness > 1")) == [2, 4, 5, 7]
    assert chosen(images.select(has_mask=True)) == [3, 6]
    assert chosen(images.select(has_mask=False)) == [0, 1, 8, 9]
    assert chosen(images.select(has_mask=None)) == [2, 4, 5, 7]
    with pytest.raises(KeyError, match="has_mask"):
        images.select("has_mas")


def test_another_series_that_no_mask_lies_on_is_not_known(tmp_path: Path) -> None:
    """Two series at one place: as its file has it the mask lies on the one that it refers to."""
    for name in "ab":
        write_ct(tmp_path / "in", name, 2, space="one")
    space = uid("space one")
    write_seg(
        tmp_path / "in/seg.dcm", [(1, uid("a1"), 2, plane(1))], {1: "liver"},
        FrameOfReferenceUID=space,
    )  # fmt: skip
    images = open_cache(built(tmp_path / "in", tmp_path / "cache")).select(kind="image")
    a, b = (images.select(series_uid=uid(name)) for name in "ab")
    assert (a.annotated().tolist(), b.annotated().tolist()) == ([True, True], [False, False])
    with pytest.raises(LabelError, match="2 of 4 images have no mask of 'liver'"):
        CacheLoader(images, 2, target="mask")
    assert len(FrameDataset(images, target="mask", missing="drop")) == 2


def test_each_slice_has_the_plane_that_covers_it_if_that_is_asked_for(tmp_path: Path) -> None:
    options = ("--masks", "labelmap", "--mask-grid", "image")
    images = open_cache(built(*options, thick(tmp_path / "in"), tmp_path / "cache"))
    images = images.select(kind="image")
    assert images.annotated().all()
    rows = [int(np.flatnonzero(m.any(axis=1)).max(initial=-1)) for m in images.labelmap(range(10))]
    assert rows == [-1, -1, 1, 1, 1, 2, 2, 2, -1, -1]


@pytest.mark.parametrize("masks", ["none", "planes", "labelmap"])
def test_stacks_that_are_made_whole_are_as_of_a_build_of_all(tmp_path: Path, masks: str) -> None:
    """Every third slice first, which the planes are no coarser than."""
    folder, aside = thick(tmp_path / "in"), tmp_path / "aside"
    aside.mkdir()
    later = [name for name in folder.glob("a*.dcm") if int(name.stem[1:]) % 3]
    for name in later:
        name.rename(aside / name.name)
    cache = built("--masks", masks, "-j1", folder, tmp_path / "cache")
    assert open_cache(cache).select(kind="image").annotated().tolist() == [True] * 4
    for name in later:
        (aside / name.name).rename(name)
    ran = run_here("update", folder, cache, "--restack", "-j1")
    assert ran.returncode == 0, ran.stderr
    images = open_cache(cache).select(kind="image")
    order = np.argsort([z for _, _, z in images.column("position").to_pylist()])
    assert images.annotated()[order].tolist() == KNOWN


@pytest.mark.parametrize("referred", [True, False])
def test_masks_that_come_before_their_images(tmp_path: Path, referred: bool) -> None:
    """What they refer to is found; by their places `--restack` finds it, and does so once."""
    folder, aside = thick(tmp_path / "in"), tmp_path / "aside"
    aside.mkdir()
    if not referred:
        write_seg(
            folder / "seg.dcm",
            [(1, uid("?"), 6, plane(1)), (1, uid("?"), 12, plane(2))], {1: "liver"},
            thickness=6, FrameOfReferenceUID=uid("space a"),
        )  # fmt: skip
    later = list(folder.glob("a*.dcm"))
    for name in later:
        name.rename(aside / name.name)
    path = built("-j1", folder, tmp_path / "cache")
    for name in later:
        (aside / name.name).rename(name)

    def known(*options: str) -> list[bool]:
        ran = run_here("update", folder, path, "-j1", *options)
        assert ran.returncode == 0, ran.stderr
        images = open_cache(path).select(kind="image")
        order = np.argsort([z for _, _, z in images.column("position").to_pylist()])
        found: list[bool] = images.annotated()[order].tolist()
        return found

    assert known() == (KNOWN if referred else [False] * SLICES)
    numberings = []
    for _ in range(2):
        assert known("--restack") == KNOWN
        numberings.append(open_cache(path).numbering)
    assert numberings == [1, 1]
    assert run_here("verify", path, "--deep", "1").returncode == 0


def test_label_maps_of_nnunet_have_no_word_for_it(tmp_path: Path) -> None:
    cache = open_cache(built("--masks", "none", thick(tmp_path / "in"), tmp_path / "cache"))
    made = export(cache, tmp_path / "out", "nnunet")
    assert {row.outcome for row in made.rows} == {"failed"}  # the images, and the mask
    assert "4 of its 10 slices lie between planes of a mask" in str(made.rows[0])
    assert not (tmp_path / "out" / "labelsTr").exists() or not list(
        (tmp_path / "out" / "labelsTr").iterdir()
    )
