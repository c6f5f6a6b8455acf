"""What a dataset and a loader hand out: transforms, columns, types, units, and how it is moved."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from tests.support.caches import built
from tests.support.dicom_files import pattern, real, uid, write_dicom, write_series
from trainer_adapter import (
    Batch,
    CacheLoader,
    Crop,
    FrameDataset,
    Normalize,
    RandomFlip,
    RandomResizedCrop,
    Sample,
    open_cache,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six grey images of 12 x 20 in uint16, and two of 10 x 14 in colour."""
    folder = tmp_path_factory.mktemp("samples")
    for k in range(6):
        write_dicom(folder / "in" / f"g{k}", pattern(f"g{k}", (12, 20), top=60000), Modality="CR",
                    SeriesInstanceUID=uid("grey"), BodyPartExamined="HAND")  # fmt: skip
    for k in range(2):
        write_dicom(folder / "in" / f"c{k}", pattern(f"c{k}", (10, 14, 3), "uint8", 255),
                    SeriesInstanceUID=uid("colour"))  # fmt: skip
    return built(folder / "in", folder / "cache")


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in HU, and beside it one that went through a window."""
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder / "in", 3, size=16)
    built(folder / "in", folder / "windowed", "--window", "soft")
    return built(folder / "in", folder / "cache")


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three frames of a real segmentation, 512 x 512, 0 and 1."""
    return built(real("liver.dcm"), tmp_path_factory.mktemp("masks") / "cache")


def pixels(dataset: FrameDataset, k: int) -> np.ndarray:
    name = dataset.cache.column("path")[k].as_py()
    shape, dtype, top = (
        ((12, 20), "uint16", 60000) if name[0] == "g" else ((10, 14, 3), "uint8", 255)
    )
    return np.asarray(pattern(name, shape, dtype, top))


# Transforms


def seen(shapes: list[Any]) -> Any:
    def transform(image: Any) -> Any:
        shapes.append((type(image), tuple(image.shape), str(image.dtype)))
        return image

    return transform


def test_a_transform_has_channels_first(path: Path) -> None:
    shapes: list[Any] = []
    data = FrameDataset(open_cache(path), transform=seen(shapes))
    for k in range(8):
        image, stored = data[k].image, pixels(data, k)
        expected = stored[None] if stored.ndim == 2 else np.moveaxis(stored, -1, 0)
        np.testing.assert_array_equal(image.numpy(), expected)
        assert image.is_contiguous()
    assert set(shapes) == {
        (torch.Tensor, (1, 12, 20), "torch.uint16"), (torch.Tensor, (3, 10, 14), "torch.uint8")
    }  # fmt: skip


def test_and_channels_last_where_that_is_asked_for(path: Path) -> None:
    shapes: list[Any] = []
    data = FrameDataset(open_cache(path), transform=seen(shapes), layout="HWC")
    for k in range(8):
        stored = pixels(data, k)
        np.testing.assert_array_equal(data[k].image, stored.reshape(*stored.shape[:2], -1))
        data[k].image[:] = 0  # a copy
    assert set(shapes) == {
        (np.ndarray, (12, 20, 1), "uint16"), (np.ndarray, (10, 14, 3), "uint8")
    }  # fmt: skip
    with pytest.raises(ValueError, match="layout 'CWH'; legal: CHW, HWC"):
        FrameDataset(open_cache(path), layout="CWH")


def small(image: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(image[None].float(), size=(6, 8))[0].mean(0, keepdim=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transform_makes_sizes_one(path: Path, workers: int) -> None:
    """torchvision's Resize, in what it does to the axes: the last two are the image's."""
    data = FrameDataset(open_cache(path), transform=small)
    (batch,) = DataLoader(data, batch_size=8, num_workers=workers)
    assert batch.image.shape == (8, 1, 6, 8)
    torch.testing.assert_close(batch.image[3], data[3].image)


def two_views(image: torch.Tensor) -> Any:
    return image.float(), image.float() + 1


def by_name(image: torch.Tensor) -> Any:
    return {"image": image.float(), "shape": image.shape[1:].numel(), "name": "x"}


def test_what_a_transform_returns_is_collated_as_torch_does(path: Path) -> None:
    grey = open_cache(path).select(modality="CR")
    (batch,) = DataLoader(FrameDataset(grey, transform=two_views), batch_size=6)
    one, other = batch.image
    assert one.shape == other.shape == (6, 1, 12, 20)
    assert torch.equal(one + 1, other)
    (batch,) = DataLoader(FrameDataset(grey, transform=by_name), batch_size=6)
    assert batch.image["image"].shape == (6, 1, 12, 20)
    assert batch.image["shape"].tolist() == [240] * 6
    assert batch.image["name"] == ["x"] * 6
    flat = FrameDataset(grey, transform=lambda a: np.float32(a.mean()), layout="HWC")
    (batch,) = DataLoader(flat, batch_size=6)
    assert batch.image.shape == (6,)


# Types and columns


def test_uint16_in_a_type_that_torch_computes_with(path: Path) -> None:
    grey = open_cache(path).select(modality="CR")
    assert next(iter(CacheLoader(grey))).image.dtype == torch.uint16
    stored = np.stack([pattern(n, (12, 20), top=60000) for n in grey.column("path").to_pylist()])
    for dtype in (torch.int32, torch.float32):
        (batch,) = CacheLoader(grey, dtype=dtype)
        assert batch.image.dtype == dtype
        np.testing.assert_array_equal(batch.image.numpy(), stored)
        for transform in (None, nn.Identity()):
            data = FrameDataset(grey, dtype=dtype, transform=transform)
            (batch,) = DataLoader(data, batch_size=6)
            assert data[0].image.dtype == batch.image.dtype == dtype
            np.testing.assert_array_equal(batch.image.numpy().reshape(6, 12, 20), stored)
    for make in (FrameDataset, CacheLoader):
        for dtype in (torch.int16, torch.bfloat16):
            with pytest.raises(ValueError, match=f"{dtype} does not hold all values of uint16"):
                make(grey, dtype=dtype)


@pytest.mark.parametrize("transform", [None, small])
def test_columns_of_samples(path: Path, transform: Any) -> None:
    cache = open_cache(path).select(modality="CR")
    columns = ("path", "height", "body_part", "thickness")
    data = FrameDataset(cache, "modality", transform=transform, columns=columns)
    names = cache.column("path").to_pylist()
    assert data[2].columns["path"] == names[2]
    assert data[-1].columns["path"] == names[5]
    (batch,) = DataLoader(data, batch_size=6)
    assert batch.columns["path"] == names
    assert batch.columns["body_part"] == ["HAND"] * 6
    assert batch.columns["height"].tolist() == [12] * 6
    assert batch.columns["height"].dtype == torch.int32
    assert batch.columns["thickness"].isnan().all()
    with pytest.raises(ValueError, match="legal: a list of names"):
        FrameDataset(cache, columns="path")
    with pytest.raises(IndexError, match="sample 6 of 6"):
        data[6]


@pytest.mark.parametrize("transform", [None, small])
def test_several_labels_in_batches(path: Path, transform: Any) -> None:
    cache = open_cache(path).select(modality="CR")
    names = cache.column("path").to_pylist()
    table = {"path": names, "a": [0, 1, None, 1, 0, 1], "b": [0.5, 1.5, 2.5, None, 4.5, 5.5]}
    wanted = {"label": ["a", "b"], "labels": table, "on": "path"}
    data = FrameDataset(cache, transform=transform, **wanted)
    (stock,) = DataLoader(data, batch_size=6)
    (own,) = CacheLoader(cache, **wanted)
    nan = float("nan")
    expected = torch.tensor([[0, 0.5], [1, 1.5], [nan, 2.5], [1, nan], [0, 4.5], [1, 5.5]])
    for batch in (stock, own):
        torch.testing.assert_close(batch.label, expected, equal_nan=True, rtol=0, atol=0)
        assert torch.equal(batch.known, ~expected.isnan())
    torch.testing.assert_close(data[2].label, expected[2], equal_nan=True)
    assert data[2].known.tolist() == [False, True]
    assert next(iter(CacheLoader(cache))).known is None


# How it is moved


@pytest.mark.parametrize("made", [Batch, Sample])
def test_a_batch_is_a_mapping(path: Path, made: type) -> None:
    cache = open_cache(path).select(modality="CR")
    loader: Any = DataLoader(FrameDataset(cache, "modality"), batch_size=3)
    batch = next(iter(CacheLoader(cache, 3, label="modality") if made is Batch else loader))
    names = {"image", "mask", "dose", "label", "known", "index", "columns", "units"}
    assert set(batch) == names | ({"epoch"} if made is Batch else set())
    assert batch["image"] is batch.image
    moved = type(batch)({k: v.to("meta") if torch.is_tensor(v) else v for k, v in batch.items()})
    assert type(moved) is made
    assert (moved.image.device.type, moved.image.shape) == ("meta", (3, 12, 20))
    again = pickle.loads(pickle.dumps(batch.replaced(image=batch.image.int())))
    assert torch.equal(again.image, batch.image.int())
    assert again.replaced(label=None).label is None
    assert {**batch}["index"].tolist() == [0, 1, 2]
    assert "image=uint16[3, 12, 20]" in repr(batch)
    with pytest.raises(AttributeError, match="no lable; it has image"):
        _ = batch.lable
    with pytest.raises(AttributeError, match="cannot be set in place"):
        batch.image = None
    assert not isinstance(batch, tuple)


# What values mean


def test_outside_of_a_frame_is_air(ct: Path, path: Path) -> None:
    for crop, fill in ((Crop(20, 20, at="center"), -1000), (Crop(20, 20, at="center", fill=7), 7)):
        for read in ("map", "pread"):
            (batch,) = CacheLoader(open_cache(ct), crop=crop, read=read)
            inside = torch.zeros(20, 20, dtype=torch.bool)
            inside[2:18, 2:18] = True
            assert (batch.image[:, ~inside] == fill).all()
            assert torch.equal(
                batch.image[:, 2:18, 2:18], next(iter(CacheLoader(open_cache(ct)))).image
            )
    grey = open_cache(path).select(modality="CR")
    (batch,) = CacheLoader(grey, crop=Crop(14, 20, at="center"))
    assert (batch.image[:, [0, -1]].int() == 0).all()


def test_the_rest_of_a_slot_is_air(tmp_path: Path) -> None:
    write_series(tmp_path / "in", 2, size=16)
    small = write_series(tmp_path / "small", 1, size=12)[0]
    small.rename(tmp_path / "in" / "small.dcm")
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache", "--max-arrays", "1"))
    (batch,) = CacheLoader(cache, bucket="array", columns=["height"])
    (k,) = np.flatnonzero(batch.columns["height"].numpy() == 12).tolist()
    assert (batch.image[k, 12:] == -1000).all()
    assert (batch.image[k, :, 12:] == -1000).all()


def test_a_second_window_is_refused(ct: Path) -> None:
    windowed = open_cache(ct.parent / "windowed")
    (batch,) = CacheLoader(windowed)
    (stock,) = DataLoader(FrameDataset(windowed), batch_size=3)
    (worker,) = DataLoader(FrameDataset(windowed), batch_size=3, num_workers=1)
    moved = type(batch)({k: v.clone() if torch.is_tensor(v) else v for k, v in batch.items()})
    for given in (batch, stock, worker, moved):
        assert given.units == ("window",)
        for x in (given, given.image):
            for window in ("soft", (128.0, 255.0)):
                with pytest.raises(ValueError, match="through the window of the cache's recipe"):
                    Normalize(window)(x)
            assert Normalize(std=255.0)(x) is not None
    with pytest.raises(ValueError, match="through the window"):
        Normalize.of(windowed, window="soft")
    (batch,) = CacheLoader(open_cache(ct))
    assert batch.units == ("HU",)
    named, given = Normalize("lung")(batch), Normalize((-600, 1500))(batch.image)
    assert torch.equal(named.image, given)
    assert torch.equal(Normalize.of(open_cache(ct), window="lung")(batch.image), given)
    with pytest.raises(ValueError, match=r"window 'lungs'; legal: .*lung"):
        Normalize("lungs")


def test_normalize_of_a_cache(ct: Path) -> None:
    cache = open_cache(ct)
    values = np.stack(list(cache)).astype(np.float64)
    found = Normalize.of(cache)(next(iter(CacheLoader(cache))).image)
    expected = (values - values.mean()) / values.std()
    np.testing.assert_allclose(found.numpy()[:, 0], expected, atol=1e-5)


def test_modules_in_a_row_take_a_batch(ct: Path) -> None:
    (batch,) = CacheLoader(open_cache(ct), label="modality")
    steps = (Normalize("soft"), RandomResizedCrop(8, seed=1), RandomFlip(seed=2))
    found = nn.Sequential(*steps)(batch)
    x = steps[0](batch.image)
    for step in steps[1:]:
        x = step(x, batch.index, batch.epoch)
    assert type(found) is Batch
    assert torch.equal(found.image, x)
    assert torch.equal(found.label, batch.label)
    (stock,) = DataLoader(FrameDataset(open_cache(ct)), batch_size=3)
    with pytest.raises(ValueError, match="no epoch; give epoch="):
        nn.Sequential(*steps)(stock)
    assert torch.equal(steps[2](steps[0](stock), epoch=0).image, steps[2](steps[0](batch)).image)
    with pytest.raises(ValueError, match="give index and epoch too"):
        steps[2](x)


def test_masks_are_not_mixed(masks: Path) -> None:
    (batch,) = CacheLoader(open_cache(masks), kind="mask", label="kind")
    assert batch.units == ("binary",)
    crop = RandomResizedCrop((40, 30), scale=(0.1, 0.9), seed=5)
    found = crop(batch)
    assert (found.image.dtype, found.image.shape) == (torch.uint8, (3, 1, 40, 30))
    assert set(found.image.unique().tolist()) <= {0, 1}
    boxes = crop.boxes(batch.index, batch.epoch, 512, 512)
    for mask, part, box in zip(batch.image.numpy(), found.image, boxes.tolist(), strict=True):
        top, left, height, width = box
        whole = (left, top, left + width, top + height)
        expected = Image.fromarray(mask).resize((30, 40), Image.Resampling.NEAREST, whole)
        np.testing.assert_array_equal(part[0].numpy(), np.asarray(expected))
    floats = Normalize()(batch)
    assert torch.equal(crop(floats).image, found.image.float())
    by_hand = crop(Normalize()(batch.image), batch.index, batch.epoch)
    assert torch.equal(by_hand, found.image.float())
    alone = RandomResizedCrop((40, 30), scale=(0.1, 0.9), seed=5, nearest=True)
    assert torch.equal(alone(batch.image[:, None], batch.index, batch.epoch), found.image)
    turned = RandomFlip(1.0)(batch)
    assert torch.equal(turned.image[:, 0], batch.image.flip(-1))
