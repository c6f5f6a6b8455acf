"""Images with the masks that lie on them, as loaders and datasets give them.

A pixel of the CT says where it is: 1000 * slice + 20 * row + column.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.support.caches import built
from tests.support.dicom_files import uid
from tests.trainer.test_masks import SHAPE, of, world
from trainer_adapter import (
    Cache,
    CacheLoader,
    Crop,
    FrameDataset,
    LabelError,
    Normalize,
    RandomFlip,
    RandomResizedCrop,
    Target,
    open_cache,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("targets")
    return built(world(folder), folder / "cache")


@pytest.fixture
def cache(path: Path) -> Cache:
    """All but d, whose slices are of another size."""
    return open_cache(path).select(height=SHAPE[0])


CLASSES = ["liver", "cyst", "spleen"]


@pytest.fixture
def known(cache: Cache) -> dict[int, Any]:
    """{sample index: label map}."""
    images = cache.select(kind="image")
    maps = images.labelmap(np.arange(len(images)), CLASSES)
    return dict(zip(images.indices.tolist(), maps, strict=True))


def hold(known: dict[int, Any], batch: Any, images: Any = None) -> None:
    """Each pixel of a mask is that of the place that its image's pixel says; outside it is 0."""
    images = batch.image if images is None else images
    assert batch.mask.shape == images.shape
    for image, mask, sample in zip(
        images.numpy(), batch.mask.numpy(), batch.index.tolist(), strict=True
    ):
        inside = image < 65535
        place = image[inside].astype(int) % 1000
        assert (mask[inside] == known[sample][place // 20, place % 20]).all()
        assert not mask[~inside].any()


@pytest.mark.parametrize("read", ["map", "advise", "pread"])
@pytest.mark.parametrize("crop", [None, (7, 5), Crop(20, 8, at="center", fill=65535)])
def test_the_same_crop(cache: Cache, known: dict[int, Any], crop: Any, read: str) -> None:
    loader = CacheLoader(
        cache.select(kind=["image", "mask"]), 4, shuffle=True, target="mask", classes=CLASSES,
        missing="zeros", crop=crop, read=read, threads=2, dtype=torch.int32,
    )  # fmt: skip
    seen = []
    for batch in loader:
        assert batch.mask.dtype == torch.uint8
        hold(known, batch)
        seen += batch.index.tolist()
    assert sorted(seen) == sorted(known)
    assert "masks of liver, cyst, spleen" in repr(loader)


def test_images_that_nobody_drew_on(cache: Cache) -> None:
    """Nobody drew on b; on c nobody looked for a cyst."""
    a, c = (set(of(cache, name).indices.tolist()) for name in "ac")
    with pytest.raises(LabelError, match=r'3 of 9 images .* b0.dcm; give missing="drop" to leave'):
        CacheLoader(cache, target="mask")

    def taken(**how: Any) -> tuple[set[int], set[int]]:
        batches = list(CacheLoader(cache, 2, threads=0, target="mask", **how))
        index, mask = (torch.cat([b[name] for b in batches]) for name in ("index", "mask"))
        ignored = (mask == 255).flatten(1).all(1)
        return set(index.tolist()), set(index[ignored].tolist())

    assert taken(missing="drop") == (a | c, set())
    assert taken(missing="drop", classes=["cyst"]) == (a, set())
    everything = set(cache.select(kind="image").indices.tolist())
    assert taken(missing="zeros") == (everything, set())
    assert taken(missing="ignore", classes=["cyst"]) == (everything, everything - a)
    assert taken(missing="drop", kind=None) == (a | c, set())
    for wrong, why in (
        ({"missing": "no"}, "missing 'no'; legal: error, drop, zeros, ignore"),
        ({"target": "picture"}, "target 'picture'; legal: mask, dose"),
        ({"classes": ["livr"]}, "did you mean liver"),
        ({"target": Target(ignore=1, missing="ignore")}, "ignore 1; legal"),
        ({"target": Target(combine="mean")}, "combine 'mean'; legal"),
    ):
        with pytest.raises(ValueError, match=why):
            CacheLoader(cache, **{"target": "mask"} | wrong)
    with pytest.raises(LabelError, match="3 of 3 images have no mask of"):
        CacheLoader(of(cache, "b"), target="mask", missing="drop")


def test_with_a_label_too(cache: Cache) -> None:
    """`missing` and `classes` are the label's then; those of the target are said by a Target."""
    target = Target(classes={"liver": 500}, missing="drop")
    numbers = {uid(name): k for k, name in enumerate("abcd")}
    loader = CacheLoader(cache, 9, label="series_uid", classes=numbers, target=target, threads=0)
    (batch,) = loader
    assert sorted(set(batch.label.tolist())) == [0, 2]
    assert batch.mask.dtype == torch.int32
    assert batch.mask.unique().tolist() == [0, 500]
    assert loader.mask_numbers == {"liver": 500}
    again = CacheLoader(cache, 9, target="mask", classes=loader, missing="zeros", threads=0)
    assert again.mask_numbers == {"liver": 500}
    with pytest.raises(ValueError, match="no target was asked for"):
        assert CacheLoader(cache).mask_numbers
    (plain,) = CacheLoader(of(cache, "a"), 9, threads=0)
    assert plain.mask is None


def test_one_reader(cache: Cache) -> None:
    """Of the two that drew on a, by the rows of one."""
    a = of(cache, "a")
    for name, pixels in (("one.dcm", [0, 24, 1]), ("two.dcm", [2, 6, 0])):
        target = Target(classes=["liver"], rows=cache.select(path=name))
        (batch,) = CacheLoader(a, 3, target=target, threads=0)
        assert batch.mask.sum((1, 2)).tolist() == pixels
    with pytest.raises(LabelError, match="3 of 3 images have no mask"):
        CacheLoader(a, target=Target(rows=cache.select(path="map.dcm")))


def test_neighbours_and_patches(cache: Cache, known: dict[int, Any]) -> None:
    images = cache.select(kind="image")
    how: Any = {"target": "mask", "classes": CLASSES, "missing": "zeros", "dtype": torch.int32}
    for crop in (None, (7, 5)):
        for batch in CacheLoader(images, 3, context=1, crop=crop, threads=0, **how):
            assert batch.image.shape[1] == 3
            hold(known, batch, batch.image[:, 1])
    maps = {int(c.column("stack")[0].as_py()): [known[i] for i in c.indices.tolist()]
            for c in (of(images, name) for name in "abc")}  # fmt: skip
    seen = 0
    for batch in CacheLoader(images, 3, patch=(2, 7, 20), threads=0, **how):
        assert batch.image.shape[2:] == batch.mask.shape[1:] == (2, 7, 20)
        for image, mask, stack in zip(batch.image[:, 0].numpy(), batch.mask.numpy(),
                                      batch.columns["stack"].tolist(), strict=True):  # fmt: skip
            for z, y, x in np.ndindex(image.shape):
                inside = 4 <= x < 16  # of 12 columns in the middle of 20
                place = int(image[z, y, x])
                at = maps[stack][place // 1000][place % 1000 // 20, place % 20]
                assert mask[z, y, x] == (at if inside else 0)
                seen += int(mask[z, y, x] > 0)
    assert seen > 20
    for batch in CacheLoader(images, 3, patch=(1, 16, 12), threads=0, **how):
        assert batch.mask.shape == (3, 1, *SHAPE)
        hold(known, batch, batch.image[:, 0])


def test_on_the_device(cache: Cache, known: dict[int, Any]) -> None:
    """What turns an image over, and takes a part of it, does so to its mask; none is mixed."""
    images = cache.select(kind="image")
    flip = RandomFlip(horizontal=0.5, vertical=0.5, seed=1)
    crop = RandomResizedCrop((9, 10), scale=(0.2, 1), nearest=True, seed=2)
    loader = CacheLoader(images, 9, target="mask", classes=CLASSES, missing="zeros", threads=0)
    (batch,) = loader
    x = torch.nn.Sequential(Normalize(), crop, flip)(batch)
    assert (x.mask.dtype, x.mask.shape) == (torch.uint8, (9, 9, 10))
    hold(known, x, x.image[:, 0])
    assert x.mask.any()
    assert not torch.equal(flip(Normalize()(batch)).mask, batch.mask)
    smooth = RandomResizedCrop((9, 10), scale=(0.2, 1), seed=2)(Normalize()(batch))
    assert torch.equal(smooth.mask, crop(Normalize()(batch)).mask)


def test_staged(cache: Cache, known: dict[int, Any], tmp_path: Path) -> None:
    """The shards of masks come along."""
    images = cache.select(kind="image")
    for batch in CacheLoader(images, 4, target="mask", classes=CLASSES, missing="zeros",
                             stage=tmp_path, threads=0, dtype=torch.int32):  # fmt: skip
        hold(known, batch)


def test_classes_that_are_there(cache: Cache) -> None:
    """Four of nine images show liver, one of these cyst too, one spleen too; five show nothing."""
    images = cache.select(kind="image")
    loader = CacheLoader(images, target="mask", classes=CLASSES, missing="zeros")
    assert loader.class_counts == {"liver": 4, "cyst": 1, "spleen": 1}
    data = FrameDataset(images, target="mask", classes=CLASSES, missing="zeros")
    weights = dict(zip(data.cache.indices.tolist(), data.weights().tolist(), strict=True))
    share = 9 / 4  # of four classes, nothing being one
    a, b, c = (of(cache, name).indices.tolist() for name in "abc")
    expected = [share / 4, share, share / 4, *[share / 5] * 5, share]
    np.testing.assert_allclose([weights[i] for i in (*a, *b, *c)], expected)
    drawn = CacheLoader(images, 9, target="mask", classes=CLASSES, missing="zeros",
                        weights="balanced", samples=9000)  # fmt: skip
    index = torch.cat([batch.index for batch in drawn])
    assert 0.28 < (index == a[1]).float().mean() < 0.41  # its share is a third


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stock_loader(cache: Cache, known: dict[int, Any], workers: int) -> None:
    data = FrameDataset(cache, target="mask", classes=CLASSES, missing="zeros", dtype=torch.int32)
    seen = 0
    for batch in DataLoader(data, batch_size=4, num_workers=workers):
        hold(known, batch)
        seen += len(batch.mask)
    assert seen == len(data) == 9
    one = pickle.loads(pickle.dumps(data))[1]
    assert one.mask.shape == SHAPE
    assert np.array_equal(one.mask, known[one.index])
    assert FrameDataset(cache)[0].mask is None


def test_a_transform_gets_both(cache: Cache, known: dict[int, Any]) -> None:
    def turned(image: Any, mask: Any) -> tuple[Any, Any]:
        assert image.shape == (1, *SHAPE)
        return image.int().flip(-1), mask.flip(-1).long()

    data = FrameDataset(cache, target="mask", classes=CLASSES, missing="zeros", transform=turned)
    (batch,) = DataLoader(data, batch_size=9)
    assert batch.mask.dtype == torch.int64
    hold(known, batch, batch.image[:, 0])

    def channels_last(image: Any, mask: Any) -> Sequence[Any]:
        assert (image.shape, mask.shape) == ((*SHAPE, 1), SHAPE)
        return [image[::-1, :, 0].astype(np.int32), mask[::-1].copy()]

    data = FrameDataset(
        cache,
        target="mask",
        classes=CLASSES,
        missing="zeros",
        transform=channels_last,
        layout="HWC",
    )
    (batch,) = DataLoader(data, batch_size=9)
    hold(known, batch)
    data = FrameDataset(cache, target="mask", missing="zeros", transform=lambda image, mask: image)
    with pytest.raises(TypeError, match=r"returns Tensor; with a target it gets \(image, mask\)"):
        data[0]
