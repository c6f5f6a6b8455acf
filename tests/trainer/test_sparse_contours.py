"""Contours of a structure on every second slice, or third, where others of its file have more."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.caches import built
from tests.support.dicom_files import write_series
from tests.support.structures import box, contour, write_structures
from trainer_adapter import (
    Cache,
    CacheLoader,
    FrameDataset,
    LabelError,
    Target,
    export,
    lightly,
    open_cache,
)
from trainer_adapter.lightly.masks import LabelMaps

BOXES = {"organ": (1, 1, 7, 7), "tumour": (3, 3, 5, 5), "other": (9, 9, 13, 13)}
"""left, top, right, bottom in pixels of 0.5 mm"""


def drawn(name: str, z: float) -> Any:
    return contour(box(*(v / 2 for v in BOXES[name]), z))


def sparse(folder: Path, planes: dict[str, Sequence[Any]], *options: Any, count: int = 8) -> Cache:
    """The images of a CT of slices 1 mm apart, with contours of each structure, or those at z."""
    write_series(folder / "in/ct", count, 16)
    structures = [
        (name, [drawn(name.split()[0], z) if isinstance(z, float | int) else z for z in zs])
        for name, zs in planes.items()
    ]
    write_structures(folder / "in/rt.dcm", structures)
    options = options or ("--masks", "labelmap")
    cache = open_cache(built(folder / "in", *options, "-j1", folder / "cache"))
    images = cache.select(kind="image")
    z = [z for *_, z in images.column("position").to_pylist()]
    return images.select(np.argsort(z))


def filled(*boxes: tuple[str, int], ground: int = 0) -> np.ndarray:
    found = np.full((16, 16), ground)
    for name, number in boxes:
        left, top, right, bottom = BOXES[name]
        found[top:bottom, left:right] = number
    return found


def told(known: np.ndarray) -> str:
    return "".join("?+"[one] for one in known.tolist())


@pytest.fixture(scope="module", params=["planes", "labelmap"])
def images(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Cache:
    """The organ and the other on all slices, a tumour in the organ on every second."""
    return sparse(
        tmp_path_factory.mktemp("sparse"),
        {"organ": range(8), "other": range(8), "tumour": (1, 3, 5)}, "--masks", request.param,
    )  # fmt: skip


def test_of_each_structure_it_is_known_by_itself(images: Cache) -> None:
    assert told(images.annotated("organ")) == "++++++++"
    assert told(images.annotated("tumour")) == "?+?+?+?+"
    assert told(images.annotated()) == "?+?+?+?+"
    assert told(images.annotated(["organ", "other"])) == "++++++++"
    assert told(images.has_mask("tumour")) == "?+?+?+??"


def test_a_pixel_that_is_drawn_stays_and_all_else_is_unknown(images: Cache) -> None:
    """What may be tumour by the slices beside it is not sure to be organ only."""
    classes = ["organ", "other", "tumour"]
    maps = images.labelmap(range(8), classes, missing="ignore")
    seen = filled(("organ", 1), ("other", 2), ("tumour", 3))
    hidden = filled(("organ", 1), ("other", 2), ("tumour", 255), ground=255)
    for k in range(7):
        assert np.array_equal(maps[k], seen if k % 2 else hidden), k
    assert np.array_equal(maps[7], filled(("organ", 1), ("other", 2)))
    (first,) = images.labelmap([2], ["tumour", "organ"], missing="ignore")
    assert np.array_equal(first, filled(("organ", 2), ground=255))
    (alone,) = images.labelmap([2], ["tumour"], missing="ignore")
    assert (alone == 255).all()
    zeros = images.labelmap(range(8), classes)
    assert np.array_equal(zeros[2], filled(("organ", 1), ("other", 2)))


def test_a_training_says_what_of_them(images: Cache) -> None:
    with pytest.raises(LabelError, match=r"4 of 8 images .* 4 of them lie between planes .*'tum"):
        CacheLoader(images, 2, target="mask")
    loader = CacheLoader(images, 2, target="mask", missing="drop")
    assert sorted(loader.cache.samples(np.arange(4))) == sorted(images.indices[[1, 3, 5, 7]])
    data = FrameDataset(images, target=Target(missing="ignore", ignore=9))
    hidden = filled(("organ", 1), ("other", 2), ("tumour", 9), ground=9)
    assert np.array_equal(data[4].mask, hidden)
    crops = CacheLoader(images, 8, target="mask", missing="ignore", crop=(6, 10))
    (batch,) = crops
    for mask, sample in zip(batch.mask.numpy(), batch.index.tolist(), strict=True):
        k = images.indices.tolist().index(sample)
        assert set(np.unique(mask).tolist()) <= ({0, 1, 2, 3} if k % 2 or k == 7 else {1, 2, 255})


@pytest.mark.parametrize("masks", ["planes", "labelmap"])
def test_each_structure_reaches_as_far_as_its_own_planes(tmp_path: Path, masks: str) -> None:
    every = {"organ": range(0, 14, 6), "other": range(0, 8, 2), "tumour": (2, 3, 4, 9, 10)}
    images = sparse(tmp_path, every, "--masks", masks, count=14)
    assert told(images.annotated("organ")) == "+?????+?????+?"
    assert told(images.annotated("other")) == "+?+?+?+?++++++"
    assert told(images.annotated("tumour")) == "+" * 14  # a gap between pieces is empty
    assert told(images.annotated()) == "+?????+?????+?"


@pytest.mark.parametrize("masks", ["planes", "labelmap"])
def test_a_class_is_known_where_all_its_structures_are(tmp_path: Path, masks: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'masks = "{masks}"\nrois = {{target = ["tumour", "other"]}}\n')
    every = {"other": range(8), "tumour": (0, 2, 4, 6)}
    images = sparse(tmp_path, every, "--recipe", recipe)
    assert told(images.annotated("target")) == "+?+?+?+?"
    (between,) = images.labelmap([3], missing="ignore")
    assert np.array_equal(between, filled(("other", 1), ground=255))


def test_slices_that_contours_of_another_step_leave_out(tmp_path: Path) -> None:
    """A contour is on the slice within half a mm, of 3.5 the one above."""
    steps = {
        1.02: "++++++++++++", 0.5: "++++++++++++", 1.2: "+++?+++++?++", 1.5: "+?++?++?++?+",
        2.5: "+??+?+??+?+?",
    }  # fmt: skip
    every: dict[str, Any] = {
        f"other {step}": [k * step for k in range(int(11.4 / step) + 1)] for step in steps
    }
    every |= {"organ": range(12), "tumour": (0.1, 1.8, 4.2, 6.0, 7.9)}
    images = sparse(tmp_path, every, "--masks", "planes", count=12)
    for step, known in steps.items():
        assert told(images.has_mask(f"other {step}")) == known, step
        assert told(images.annotated(f"other {step}")) == known, step
    assert told(images.annotated("tumour")) == "+?+?+?+?+?++"  # a little aside of their slices
    assert images.annotated("organ").all()


def test_slabs_that_leave_no_gap_tell_of_all_slices(tmp_path: Path) -> None:
    planes = [drawn("other", z) for z in (1, 3, 5)]
    for plane in planes:
        plane.ContourSlabThickness = 2
    images = sparse(tmp_path, {"other": planes}, "--masks", "planes")
    assert told(images.has_mask()) == "++++++??"  # up to 6, and not on it
    assert images.annotated().all()


def test_label_maps_of_nnunet_have_no_word_for_it(images: Cache, tmp_path: Path) -> None:
    made = export(open_cache(images.path), tmp_path / "out", "nnunet")
    assert {row.outcome for row in made.rows} == {"failed"}
    assert "4 of its 8 slices lie between planes" in str(made.rows[0])


@pytest.mark.parametrize(
    ("task", "missing", "remedy"),
    [
        ("semantic_segmentation", "zeros", 'missing="ignore"'),
        ("object_detection", "ignore", "annotated"),  # of boxes there is no word for it
        ("semantic_segmentation", "ignore", ""),
    ],
)
def test_lightly_train_is_warned_of_background_that_is_none(
    images: Cache, tmp_path: Path, task: str, missing: Any, remedy: str
) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        lightly.data(images, tmp_path / "train", task, lightly.Masks(missing=missing))
    said = [str(w.message) for w in found if "nobody knows" in str(w.message)]
    assert len(said) == bool(remedy)
    assert all("of 4 of 8 images" in text and "4 lie between" in text for text in said)
    assert all(remedy in text for text in said)
    maps = LabelMaps(images, lightly.Masks(["organ", "other", "tumour"], missing=missing))
    ground = 255 if missing == "ignore" else 0
    hidden = ("tumour", 255 if ground else 1)
    expected = filled(("organ", 1), ("other", 2), hidden, ground=ground)
    assert np.array_equal(maps.label_map(2), expected)
    assert set(np.unique(maps.segments(2) % 65536)) == {0, 1, 2}  # nothing of what is ignored


def test_caches_that_say_nothing_of_structures(tmp_path: Path) -> None:
    """Those from before `mask_reaches`: structures are told by their names."""
    images = sparse(tmp_path, {"organ": range(8), "tumour": (1, 3, 5)})
    lists = images.core.column("mask_reaches")
    assert lists.null_count == 8  # those of images
    images.core.columns["mask_reaches"] = pa.chunked_array([pa.nulls(len(lists), lists.type)])
    assert told(images.annotated("tumour")) == told(images.annotated()) == "?+?+?+?+"
    assert images.annotated("organ").all()
