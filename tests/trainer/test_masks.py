"""Label maps of images out of the rows of masks that lie on them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.caches import built
from tests.support.dicom_files import uid
from tests.support.drawn import write_ct, write_seg
from tests.support.signed import rewrite
from trainer_adapter import Cache, FormatError, LabelError, MixedShapesError, open_cache
from trainer_adapter.reading.masks.paint import painter_of
from trainer_adapter.reading.spots import Corners

SHAPE = (16, 12)


def drawn(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """Pixels with (value, top, bottom, left, right) of each box, later ones over earlier ones."""
    found = np.zeros(SHAPE, np.uint8)
    for value, top, bottom, left, right in boxes:
        found[top:bottom, left:right] = value
    return found


def world(folder: Path) -> Path:
    """CT a with two raters, c with a label map, d of another size; nobody drew on b."""
    for name, shape in (("a", SHAPE), ("b", SHAPE), ("c", SHAPE), ("d", (9, 9))):
        write_ct(folder / "in", name, 3, shape)
    write_seg(
        folder / "in/one.dcm",
        [
            (1, uid("a1"), 2, drawn((1, 2, 6, 3, 9))),
            (1, uid("a2"), 4, drawn((1, 0, 1, 0, 1))),
            (2, uid("a1"), 2, drawn((1, 4, 8, 3, 5))),
        ],
        {1: "liver", 2: "cyst"},
    )
    write_seg(
        folder / "in/two.dcm",
        [
            (1, uid("a0"), 0, drawn((99, 0, 2, 0, 2), (100, 0, 1, 0, 2))),
            (1, uid("a1"), 2, drawn((200, 10, 12, 0, 3))),
        ],
        {1: "liver"},
        "FRACTIONAL",
    )
    write_seg(
        folder / "in/map.dcm",
        [(0, uid("c2"), 4, drawn((7, 0, 4, 0, 12), (3, 2, 3, 2, 4), (9, 15, 16, 11, 12)))],
        {3: "liver", 7: "spleen"},
        "LABELMAP",
    )
    return folder / "in"


@pytest.fixture(scope="module", params=["none", "planes"])
def path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Masks as their files have them, and drawn on their images, which comes to the same."""
    folder = tmp_path_factory.mktemp("masks")
    flags = ("--codec", "zstd", "--masks", request.param)
    return built(*flags, world(folder), folder / "cache")


@pytest.fixture
def cache(path: Path) -> Cache:
    return open_cache(path)


def of(cache: Cache, name: str) -> Cache:
    """The slices of one CT, in their order."""
    found = cache.select(kind="image", series_uid=uid(name))
    assert len(found) == 3
    return found


LIVER = drawn((1, 2, 6, 3, 9), (1, 10, 12, 0, 3))
"""of both raters, on the second slice of a"""


def test_classes_by_themselves(cache: Cache) -> None:
    assert cache.mask_classes == ("cyst", "liver", "spleen")
    maps = of(cache, "a").labelmap([0, 1, 2, 1])
    assert (maps.shape, maps.dtype) == ((4, *SHAPE), np.uint8)
    expected = LIVER * 2
    expected[6:8, 3:5] = 1  # of the cyst what is not liver, too: liver has the greater number
    assert np.array_equal(maps[1], expected)
    assert np.array_equal(maps[3], expected)
    assert np.array_equal(maps[0], drawn((2, 0, 1, 0, 2)))  # 100 of 200 is half, 99 is not
    assert np.array_equal(maps[2], drawn((2, 0, 1, 0, 1)))


def test_classes_that_are_said(cache: Cache) -> None:
    a = of(cache, "a")
    (both,) = a.labelmap([1], ["liver", "cyst"])
    expected = LIVER.copy()
    expected[4:8, 3:5] = 2
    assert np.array_equal(both, expected)
    assert np.array_equal(a.labelmap([1], ["cyst"])[0], drawn((1, 4, 8, 3, 5)))
    (one,) = a.labelmap([1], {"liver": 300, "cyst": 300, "no such": 4})
    assert one.dtype == np.uint16
    assert np.array_equal(one, np.where(expected > 0, 300, 0))
    with pytest.raises(ValueError, match="is called 'livr'; did you mean liver"):
        a.labelmap([1], ["livr"])
    with pytest.raises(ValueError, match="there twice"):
        a.labelmap([1], ["liver", "liver"])
    with pytest.raises(ValueError, match="classes 'liver'; legal: a list"):
        a.labelmap([1], "liver")
    with pytest.raises(ValueError, match="whole numbers from 0 to 65535"):
        a.labelmap([1], {"liver": -1})


def test_a_label_map_in_the_file(cache: Cache) -> None:
    """Value 9 is no segment of it."""
    (found,) = of(cache, "c").labelmap([2])
    assert np.array_equal(found, drawn((3, 0, 4, 0, 12), (2, 2, 3, 2, 4)))
    (found,) = of(cache, "c").labelmap([2], {"liver": 3, "spleen": 7})
    assert np.array_equal(found, drawn((7, 0, 4, 0, 12), (3, 2, 3, 2, 4)))


def test_a_label_map_of_many(tmp_path: Path) -> None:
    """More classes than are sought one by one."""
    (image, *_) = write_ct(tmp_path / "in", "m", 1)
    values = np.zeros(SHAPE, np.uint8)
    values[3] = np.arange(12) * 20
    write_seg(tmp_path / "in/s.dcm", [(0, uid("m0"), 0, values)],
              {20 * k: f"organ {k:02}" for k in range(1, 11)}, "LABELMAP")  # fmt: skip
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache")).select(kind="image")
    (found,) = cache.labelmap([0])
    assert found[3].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0]
    assert np.count_nonzero(found) == 10
    assert image.exists()


def test_one_rater(cache: Cache) -> None:
    """The first file that a stack has, on slices that this one leaves out, too."""
    a = of(cache, "a")
    first = a.labelmap([0, 1, 2], ["liver"], combine="first")
    assert first.sum((1, 2)).tolist() == [2, 6, 0]
    assert a.labelmap([0, 1, 2], ["liver"]).sum((1, 2)).tolist() == [2, 30, 1]
    with pytest.raises(ValueError, match="combine 'mean'; legal: union, first"):
        a.labelmap([0], combine="mean")


def test_images_that_nobody_drew_on(cache: Cache) -> None:
    """Slices of a CT on which others have masks are known to be empty."""
    a, b, c = (of(cache, name) for name in "abc")
    assert not b.labelmap([0, 1, 2]).any()
    assert (b.labelmap([0, 1, 2], missing="ignore") == 255).all()
    assert not c.labelmap([0, 1], missing="ignore").any()
    assert (c.labelmap([0], ["cyst"], missing="ignore", ignore=300) == 300).all()
    with pytest.raises(LabelError, match=r"1 of 1 image has no mask of 'cyst' .* such as c1.dcm"):
        c.labelmap([1], ["cyst"], missing="error")
    assert a.labelmap([0, 1], ["cyst"], missing="error").any()
    for wrong in (0, 2, -1, 65536, 2.0):
        with pytest.raises(ValueError, match=r"ignore .*; legal: 1 to 65535, and no class number"):
            a.labelmap([0], missing="ignore", ignore=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing 'drop'; legal: zeros, ignore, error"):
        a.labelmap([0], missing="drop")


def test_out(cache: Cache) -> None:
    a = of(cache, "a")
    out = np.full((2, *SHAPE), 77, np.int32)
    assert a.labelmap([1, 0], out=out) is out
    assert np.array_equal(out, a.labelmap([1, 0]))
    with pytest.raises(
        ValueError, match=r"out is \(1, 16, 12\) int32; .* need \(2, 16, 12\) uint8"
    ):
        a.labelmap([1, 0], out=out[:1])
    images = cache.select(kind="image")
    with pytest.raises(MixedShapesError, match="9 x 9, 16 x 12"):
        images.labelmap(range(len(images)))
    assert a.labelmap([]).shape == (0, 0, 0)
    with pytest.raises(IndexError):
        images.labelmap([len(images)])


def test_what_is_drawn_on(cache: Cache) -> None:
    images = cache.select(kind="image")
    assert int(images.has_mask().sum()) == 4
    assert of(cache, "a").has_mask().tolist() == [True, True, True]
    assert of(cache, "a").has_mask("cyst").tolist() == [False, True, False]
    assert of(cache, "c").has_mask(["cyst", "spleen"]).tolist() == [False, False, True]
    assert len(images.select(has_mask=True)) == 4
    assert len(images.select(has_mask=False)) == 2  # of c: nobody looked at b and d
    assert len(images.select(has_mask=None)) == 6
    assert len(images.select(has_mask="spleen", series_uid=uid("c"))) == 1
    assert len(images.select("series_uid == " + repr(uid("a")), has_mask="liver")) == 3
    assert len(images.select(has_mask=["spleen", "cyst"])) == 2
    with pytest.raises(ValueError, match="is called 'spleeen'; did you mean spleen"):
        images.select(has_mask="spleeen")


def test_counts(cache: Cache) -> None:
    """Each mask by itself: of the cyst 4 pixels lie in the liver."""
    counts = of(cache, "a").mask_counts()
    assert (counts.dtype, counts.tolist()) == (np.int64, [[0, 2, 0], [8, 30, 0], [0, 1, 0]])
    assert of(cache, "c").mask_counts(["liver", "spleen"]).tolist() == [[0, 0], [0, 0], [2, 46]]
    assert of(cache, "a").mask_counts({"cyst": 2, "liver": 2}).tolist() == [[0, 2], [0, 38], [0, 1]]


def test_crops_in_a_worker(cache: Cache) -> None:
    """What is painted pickles, and takes crops, which may lie outside."""
    a = of(cache, "a")
    painter = pickle.loads(pickle.dumps(painter_of(cache.core, a.indices, {"liver": 1, "cyst": 2})))
    whole = np.pad(a.labelmap([0, 1, 2], ["liver", "cyst"]), ((0, 0), (3, 9), (3, 9)))
    out = np.full((3, 8, 9), 5, np.uint8)
    tops, lefts = np.array([-1, 3, 11]), np.array([2, 1, -3])
    painter.paint(out, a.indices, cache.core, Corners(tops, lefts, 7))
    for k, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        assert np.array_equal(out[k], whole[k, top + 3 : top + 11, left + 3 : left + 12])
    assert painter.needed.tolist() == np.unique(painter.needed).tolist()


def named(path: Path, tell: Any) -> Cache:
    """The cache after `tell` gave each mask its image: (image_sop_uid, image_frame, image_part)."""

    def change(table: pa.Table) -> pa.Table:
        told = [tell(row) if row["kind"] == "mask" else (None,) * 3 for row in table.to_pylist()]
        columns = zip(*told, strict=True)
        types = {"image_sop_uid": pa.string(), "image_frame": pa.int32(), "image_part": pa.int16()}
        for (name, kind), values in zip(types.items(), columns, strict=True):
            if name in table.column_names:
                table = table.drop_columns(name)
            table = table.append_column(name, pa.array(values, kind))
        return table

    rewrite(path, "frames", change)
    return open_cache(path)


def test_images_that_rows_name(tmp_path: Path) -> None:
    """Where a row says its image, what the file referred to does not matter."""
    path = built(world(tmp_path), tmp_path / "cache")
    cache = named(path, lambda row: (uid("b2"), 0, 0) if row["path"] == "map.dcm" else (None,) * 3)
    assert np.array_equal(of(cache, "b").labelmap([2])[0] > 0, drawn((1, 0, 4, 0, 12)))
    assert not of(cache, "c").has_mask().any()
    cache = named(path, lambda row: (uid("b2"), 1, 0))
    assert not cache.has_mask().any()


def test_one_name_for_all_images(tmp_path: Path) -> None:
    """Careless exports: the series, then the place, says which image is meant."""
    write_ct(tmp_path / "in", "a", 70, SOPInstanceUID=uid("all"))
    write_ct(tmp_path / "in", "b", 3, SOPInstanceUID=uid("all"), StudyInstanceUID=uid("other"))
    planes = [(1, uid("all"), 2.0 * k, drawn((1, 0, k, 0, 1))) for k in (3, 5)]
    write_seg(tmp_path / "in/s.dcm", planes, {1: "liver"}, FrameOfReferenceUID=uid("space a"))
    path = built(tmp_path / "in", tmp_path / "cache")
    for again in (False, True):
        cache = named(path, lambda row: (uid("all"), 0, 0)) if again else open_cache(path)
        images = cache.select(kind="image", series_uid=uid("a"))
        assert len(images) == 70
        counts = images.mask_counts()[:, 0]
        assert np.flatnonzero(counts).tolist() == [3, 5]
        assert counts[[3, 5]].tolist() == [3, 5]
        assert not cache.select(kind="image", series_uid=uid("b")).has_mask().any()


def test_another_place_or_size(tmp_path: Path) -> None:
    """Of caches whose masks name no image: what refers to one, but lies elsewhere, is not on it."""
    write_ct(tmp_path / "in", "a", 3)
    write_seg(tmp_path / "in/s.dcm", [(1, uid("a1"), 3.0, drawn((1, 0, 2, 0, 1)))], {1: "liver"})
    small = drawn((1, 0, 2, 0, 1))[:8, :6]
    write_seg(tmp_path / "in/t.dcm", [(1, uid("a2"), 4.0, small)], {1: "liver"})
    cache = named(built(tmp_path / "in", tmp_path / "cache"), lambda row: (None,) * 3)
    images = cache.select(kind="image")
    assert not images.has_mask().any()
    with pytest.raises(LabelError, match="1 mask is stored in another size"):
        images.labelmap([0], missing="error")
    (tmp_path / "in/t.dcm").unlink()
    cache = named(built(tmp_path / "in", tmp_path / "other"), lambda row: (None,) * 3)
    with pytest.raises(LabelError, match="1 of 1 mask of the cache lies on none of its images"):
        cache.select(kind="image").labelmap([0], missing="error")


def test_a_cache_without_masks(tmp_path: Path) -> None:
    write_ct(tmp_path / "in", "a", 2)
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    assert cache.mask_classes == ()
    assert not cache.labelmap([0, 1]).any()
    assert not cache.has_mask().any()
    assert cache.mask_counts().shape == (2, 0)
    with pytest.raises(LabelError, match="the cache has no masks at all"):
        cache.labelmap([0], missing="error")
    with pytest.raises(ValueError, match="it has no masks"):
        cache.has_mask("liver")


def test_a_volume_of_labels(cache: Cache) -> None:
    a = of(cache, "a")
    (stack,) = set(a.column("stack").to_pylist())
    found = a.labelvolume(stack, ["cyst"])
    assert found.shape == cache.volume(stack).shape == (3, *SHAPE)
    assert found.sum((1, 2)).tolist() == [0, 8, 0]
    (stack,) = set(of(cache, "b").column("stack").to_pylist())
    assert (cache.labelvolume(stack, missing="ignore") == 255).all()


def test_label_maps_of_the_recipe(tmp_path: Path) -> None:
    """Where segments of one file overlap the later one is stored; classes are the recipe's."""
    cache = open_cache(built("--masks", "labelmap", world(tmp_path), tmp_path / "cache"))
    expected = LIVER.copy()
    expected[4:8, 3:5] = 2
    a, c = of(cache, "a"), of(cache, "c")
    assert cache.mask_classes == ("cyst", "liver", "spleen")
    assert np.array_equal(a.labelmap([1], ["liver", "cyst"])[0], expected)
    assert a.mask_counts(["liver", "cyst"]).tolist() == [[2, 0], [26, 8], [1, 0]]
    assert np.array_equal(c.labelmap([2])[0], drawn((3, 0, 4, 0, 12), (2, 2, 3, 2, 4)))

    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'masks = "labelmap"\n[rois]\norgan = ["liver", "spleen"]\nlesion = "(?i)CYST"\n'
    )
    cache = open_cache(built("--recipe", recipe, tmp_path / "in", tmp_path / "rois"))
    a, c = of(cache, "a"), of(cache, "c")
    assert cache.mask_classes == ("organ", "lesion")
    assert np.array_equal(a.labelmap([1])[0], expected)
    assert np.array_equal(c.labelmap([2])[0], drawn((1, 0, 4, 0, 12)))
    assert np.array_equal(c.labelmap([2], {"organ": 7})[0], drawn((7, 0, 4, 0, 12)))
    assert a.has_mask("lesion").tolist() == [False, True, False]
    with pytest.raises(ValueError, match="is called 'liver'; legal: lesion, organ"):
        cache.has_mask("liver")


@pytest.mark.parametrize("masks", ["none", "labelmap"])
def test_values_that_the_file_does_not_list(tmp_path: Path, masks: str) -> None:
    """They are no class, however the label map came to the cache."""
    write_ct(tmp_path / "in", "a", 1, SHAPE)
    pixels = drawn((1, 0, 2, 0, 12), (2, 2, 4, 0, 12), (3, 4, 6, 0, 12))
    write_seg(
        tmp_path / "in/map.dcm", [(0, uid("a0"), 0, pixels)], {1: "cyst", 2: "liver"}, "LABELMAP"
    )
    cache = open_cache(built("--masks", masks, tmp_path / "in", tmp_path / "cache"))
    images = cache.select(kind="image")
    expected = drawn((1, 0, 2, 0, 12), (2, 2, 4, 0, 12))
    assert np.array_equal(images.labelmap([0])[0], expected)
    assert images.mask_counts().tolist() == [[24, 24]]


def test_a_label_map_that_is_no_numbers(tmp_path: Path) -> None:
    """A table may say so of an image of float32."""
    write_ct(tmp_path / "in", "a", 2, SHAPE)
    path = built("--dtype", "float32", tmp_path / "in", tmp_path / "cache")

    def lie(table: pa.Table) -> pa.Table:
        segment = dict.fromkeys(("category", "type", "type_meaning")) | {"number": 1, "label": "x"}
        first, second = table.to_pylist()
        second |= {"kind": "mask", "unit": "labelmap", "segments": [segment], "image_part": 0,
                   "image_sop_uid": first["sop_uid"], "image_frame": 0}  # fmt: skip
        return pa.Table.from_pylist([first, second], table.schema)

    rewrite(path, "frames", lie)
    with pytest.raises(FormatError, match="array float32_16x12 has label maps, and is of float32"):
        open_cache(path).labelmap([0])


def test_numbers_that_no_pixel_has(tmp_path: Path) -> None:
    """A table that lies costs no memory, and leaves what is true."""
    path = built(world(tmp_path), tmp_path / "cache")

    def change(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        for row in rows:
            if row["path"] == "map.dcm":
                row["segments"][1]["number"] = 2**31 - 1
                row["mask_counts"] = [2**63 - 1]
        return pa.Table.from_pylist(rows, table.schema)

    rewrite(path, "frames", change)
    c = of(open_cache(path), "c")
    assert painter_of(c.core, c.indices, {"liver": 1, "spleen": 2}).stored.tolist() == [3]
    assert np.array_equal(c.labelmap([2], ["liver"])[0], drawn((1, 2, 3, 2, 4)))
    assert c.mask_counts(["liver"]).tolist() == [[0], [0], [2]]
