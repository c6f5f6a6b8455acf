"""Normalize against NumPy in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer_adapter import Normalize, open_cache

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 5, 7, 3)])
def test_window_mean_std(dtype: str, shape: tuple[int, ...]) -> None:
    kind = np.dtype(dtype)
    low, high = (-1000, 3000) if kind.kind in "if" else (0, 200)
    x = RNG.integers(low, high, shape).astype(kind)
    center, width, mean, std = 40.0, 400.0, 0.4, 0.25
    y = np.clip((x.astype(np.float64) - (center - width / 2)) / width, 0, 1)
    expected = (y - mean) / std
    expected = expected[:, None] if x.ndim == 3 else np.moveaxis(expected, -1, 1)
    found = Normalize((center, width), mean=mean, std=std)(torch.from_numpy(x))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


def test_several_windows_become_channels() -> None:
    x = torch.tensor([[[-1000, 40, 240]]], dtype=torch.int16)
    y = Normalize([(40, 400), (-600, 1500)])(x)
    assert y.shape == (1, 2, 1, 3)
    np.testing.assert_allclose(y[0, 0, 0], [0, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(y[0, 1, 0], [350 / 1500, 1390 / 1500, 1], atol=1e-6)


def test_invert_after_the_window() -> None:
    x = torch.tensor([[[0, 64, 255]]], dtype=torch.uint8)
    y = Normalize((127.5, 255), invert=True)(x)
    np.testing.assert_allclose(y.flatten(), [1, 1 - 64 / 255, 0], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_once(dtype: torch.dtype) -> None:
    x = torch.arange(-1024, 3072, dtype=torch.int16).reshape(1, 64, 64)
    fine = (x.double() - -160) / 400
    expected = ((fine.clamp(0, 1) - 0.3) / 0.2).float().to(dtype)
    found = Normalize((40, 400), mean=0.3, std=0.2, dtype=dtype)(x)[:, 0]
    assert found.dtype == dtype
    step = torch.finfo(dtype).eps
    assert (found.double() - expected.double()).abs().max() <= 4 * step


def test_large_whole_numbers_do_not_lose_bits() -> None:
    x = torch.tensor([[[2**31 - 1, 2**31 - 2]]], dtype=torch.int32)
    y = Normalize(mean=2.0**31 - 3, std=1.0)(x)
    assert y.flatten().tolist() == [2.0, 1.0]


def test_half_keeps_its_constants() -> None:
    module = torch.nn.Sequential(Normalize((-600.3, 1500.7))).half()
    x = torch.tensor([[[-600]]], dtype=torch.int16)
    assert module(x).item() == pytest.approx((-600 + 600.3 + 750.35) / 1500.7, abs=1e-6)


def test_from_cache_is_the_mean_of_all_pixels(ct_series_cache: Path) -> None:
    cache = open_cache(ct_series_cache)
    pixels = np.stack(list(cache)).astype(np.float64)
    y = Normalize.from_cache(cache)(torch.from_numpy(cache.gather(range(12))))
    expected = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(y[:, 0].numpy(), expected, atol=1e-4)


def test_from_cache_refuses_several_units(examples_cache: Path) -> None:
    with pytest.raises(ValueError, match="several units"):
        Normalize.from_cache(open_cache(examples_cache))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (40, 0)}, "width above 0"),
        ({"std": 0}, "above 0"),
        ({"invert": True}, "give a window"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalize(**options)


def test_windows_are_for_grey() -> None:
    with pytest.raises(ValueError, match="grey"):
        Normalize([(1, 2), (3, 4)])(torch.zeros(1, 2, 2, 3))
    with pytest.raises(ValueError, match="shape"):
        Normalize()(torch.zeros(2, 2))
