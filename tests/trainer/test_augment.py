"""Crops and flips on the device: against Pillow, NumPy, and the hash of the orders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from trainer_adapter import RandomFlip, RandomResizedCrop
from trainer_adapter.device.augment import uniform
from trainer_adapter.order.permutations import key_of
from trainer_adapter.order.permutations import uniform as counted

INDEX = torch.tensor([3, 17, 1_000_000, 8, 0])


def images(height: int, width: int, channels: int = 1) -> torch.Tensor:
    rng = np.random.default_rng(height * width)
    return torch.from_numpy(rng.normal(size=(len(INDEX), channels, height, width))).float()


def test_the_numbers_are_those_of_the_orders() -> None:
    # order.py has the hash in NumPy's uint64, held to the reference; this one is in torch's int64.
    for seed, epoch, stream in [(0, 0, 0), (7, 3, 20), (2**40, 999, 31)]:
        expected = np.floor(counted(key_of(seed, epoch, stream), INDEX.numpy()) * 2**24) / 2**24
        np.testing.assert_array_equal(uniform(INDEX, seed, epoch, stream).numpy(), expected)


@pytest.mark.parametrize(
    ("source", "size", "scale"),
    [
        ((64, 64), (24, 24), (0.2, 1.0)),  # smaller: antialiased
        ((20, 30), (64, 48), (0.2, 1.0)),  # larger
        ((37, 91), (16, 80), (0.05, 0.4)),
        ((5, 7), (1, 1), (1.0, 1.0)),
    ],
)
def test_a_part_is_resampled_as_pillow_does(
    source: tuple[int, int], size: tuple[int, int], scale: tuple[float, float]
) -> None:
    x = images(*source, channels=2)
    crop = RandomResizedCrop(size, scale=scale, seed=5)
    found = crop(x, INDEX, 2)
    assert found.shape == (5, 2, *size)
    for k, (top, left, height, width) in enumerate(crop.boxes(INDEX, 2, *source).tolist()):
        box = (left, top, min(left + width, source[1]), min(top + height, source[0]))
        for c in range(2):
            image = Image.fromarray(x[k, c].numpy())
            expected = image.resize(size[::-1], Image.Resampling.BILINEAR, box)
            np.testing.assert_allclose(found[k, c].numpy(), np.asarray(expected), atol=2e-5)


def test_parts_are_within_scale_and_ratio() -> None:
    index = torch.arange(20_000)
    crop = RandomResizedCrop(32, scale=(0.25, 0.5), ratio=(0.5, 2.0), seed=1)
    top, left, height, width = crop.boxes(index, 0, 100, 120).double().unbind(-1)
    for start, length, size in ((top, height, 100), (left, width, 120)):
        assert (start >= 0).all()
        assert (start + length <= size + 1e-3).all()
    cut = (height > 99.999) | (width > 119.999)
    share, shape = height * width / 12_000, width / height
    assert ((share > 0.2499) & (share < 0.5001))[~cut].all()
    assert ((shape > 0.4999) & (shape < 2.0001))[~cut].all()
    assert cut.double().mean() < 0.05
    # area, logarithm of the proportion, and place are uniform
    assert share[~cut].mean().item() == pytest.approx(0.375, abs=0.01)
    assert torch.log(shape[~cut]).mean().item() == pytest.approx(0, abs=math.log(2) / 50)
    assert (top / (100 - height)).nan_to_num(0.5).mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_flip_is_a_flip() -> None:
    x = images(6, 9, 3)
    both = RandomFlip(1.0, 1.0)(x, INDEX, 0).numpy()
    np.testing.assert_array_equal(both, x.numpy()[:, :, ::-1, ::-1])
    assert RandomFlip(0.0, 0.0)(x, INDEX, 0) is x
    found = RandomFlip(0.5, seed=3)(x, INDEX, 1).numpy()
    turned = [(f == o[:, :, ::-1]).all() for f, o in zip(found, x.numpy(), strict=True)]
    same = [(f == o).all() for f, o in zip(found, x.numpy(), strict=True)]
    assert [a != b for a, b in zip(turned, same, strict=True)] == [True] * 5
    many = torch.arange(10_000)
    x = torch.arange(2.0).expand(10_000, 1, 1, 2)
    share = RandomFlip(0.3, seed=3)(x, many, 0)[:, 0, 0, 0].mean().item()
    assert share == pytest.approx(0.3, abs=0.02)


def test_a_sample_has_its_own_randomness_whatever_its_batch() -> None:
    x = images(40, 40)
    crop, flip = RandomResizedCrop(16, seed=2), RandomFlip(0.5, 0.5, seed=2)
    whole = flip(crop(x, INDEX, 4), INDEX, 4)
    for k in range(5):
        one = INDEX[k : k + 1]
        alone = flip(crop(x[k : k + 1], one, 4), one, 4)
        torch.testing.assert_close(alone[0], whole[k])
    assert not torch.equal(crop(x, INDEX, 5), crop(x, INDEX, 4))
    assert not torch.equal(RandomResizedCrop(16, seed=3)(x, INDEX, 4), crop(x, INDEX, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    x = images(32, 32).to(dtype)
    found = RandomResizedCrop(16)(x, INDEX, 0)
    assert found.dtype == dtype
    fine = RandomResizedCrop(16)(x.float(), INDEX, 0)
    torch.testing.assert_close(found.float(), fine, atol=8 * torch.finfo(dtype).eps, rtol=0)


def test_gradients_pass() -> None:
    x = images(12, 12).requires_grad_()
    RandomResizedCrop(6, scale=(1, 1), ratio=(1, 1))(x, INDEX, 0).sum().backward()
    assert x.grad is not None
    # Each pixel counts for a quarter of an output pixel, but for what the triangle has at borders.
    assert x.grad[:, :, 2:-2, 2:-2].mean().item() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCrop(0), "1 x 1"),
        (lambda: RandomResizedCrop(4, scale=(0.0, 1.0)), "scale"),
        (lambda: RandomResizedCrop(4, scale=(0.5, 1.5)), "scale"),
        (lambda: RandomResizedCrop(4, ratio=(2, 1)), "ratio"),
        (lambda: RandomFlip(1.5), "from 0 to 1"),
        (lambda: RandomFlip()(torch.zeros(5, 4, 4), INDEX, 0), r"\(b, C, H, W\)"),
        (lambda: RandomFlip()(torch.zeros(5, 1, 4, 4, dtype=torch.int16), INDEX, 0), "floats"),
        (lambda: RandomFlip()(torch.zeros(4, 1, 4, 4), INDEX, 0), "indices"),
    ],
)
def test_nonsense_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
