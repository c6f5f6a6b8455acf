"""Normalize against NumPy in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dicom2cache.pixels import window
from tests.support.caches import built
from tests.support.dicom_files import write_dicom
from tests.support.waveforms import channel, group, write_waveform
from trainer_adapter import Normalize, open_cache
from trainer_adapter.device import presets

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


def nearest(fine: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """float64 to the nearest of `dtype`, ties to even; as float64."""
    kinds = {torch.float32: np.float32, torch.float16: np.float16}
    if dtype in kinds:
        return fine.astype(kinds[dtype]).astype(np.float64)
    # bfloat16 by hand: 8 bits of precision, in exact integer arithmetic.
    fraction, exponent = np.frexp(fine)
    return np.ldexp(np.rint(np.ldexp(fraction, 8)), exponent - 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16"])
@pytest.mark.parametrize("window", [None, (40.0, 400.0), (-600.3, 1500.7), (0.5, 1 / 3)])
def test_all_values_are_the_float64_result_rounded_once(
    kind: str, dtype: torch.dtype, window: tuple[float, float] | None
) -> None:
    bounds = np.iinfo(kind)
    x = np.arange(bounds.min, bounds.max + 1).astype(kind).reshape(1, 16, -1)
    fine = x.astype(np.float64)
    if window:
        fine = np.clip((fine - (window[0] - window[1] / 2)) / window[1], 0, 1)
    fine = (fine - 0.3) / 11.7
    found = Normalize(window, mean=0.3, std=11.7, dtype=dtype)(torch.from_numpy(x))[:, 0]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.double().numpy(), nearest(fine, dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_ties_that_float32_would_make(dtype: torch.dtype) -> None:
    # Just above the middle of two neighbours, by less than float32 can tell.
    step = torch.finfo(dtype).eps
    x = torch.tensor([[[1]]], dtype=torch.uint8)
    found = Normalize(mean=-(step / 2 + 2.0**-40), dtype=dtype)(x)
    assert found.item() == 1 + step


def test_channels_have_their_own_mean() -> None:
    x = RNG.integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    found = Normalize((127.5, 255), mean=mean, std=std)(torch.from_numpy(x))
    expected = np.moveaxis((x / 255 - mean) / std, -1, 1).astype(np.float32)
    np.testing.assert_array_equal(found.numpy(), expected)
    grey = Normalize((127.5, 255), mean=mean, std=std)(torch.from_numpy(x[..., 0]))
    np.testing.assert_array_equal(
        grey.numpy(), np.moveaxis((x[..., :1] / 255 - mean) / std, -1, 1).astype(np.float32)
    )


def test_a_compiled_graph_gives_the_same() -> None:
    from trainer_adapter import RandomFlip, RandomResizedCrop

    normalize = Normalize([(40, 400), (-600, 1500)], mean=[0.4, 0.5], std=[0.2, 0.3])
    crop, flip = RandomResizedCrop(16, seed=1), RandomFlip(0.5, seed=1)

    def step(x: torch.Tensor, index: torch.Tensor, epoch: int) -> torch.Tensor:
        return torch.as_tensor(flip(crop(normalize(x), index, epoch), index, epoch))

    compiled = torch.compile(step, fullgraph=True)
    for epoch in range(3):
        x = torch.from_numpy(RNG.integers(-1000, 3000, (4, 32, 32)).astype(np.int16))
        index = torch.arange(4) + 10 * epoch
        found = compiled(x, index, epoch)
        torch.testing.assert_close(found, step(x, index, epoch), rtol=0, atol=1e-5)
    exact = torch.compile(normalize, fullgraph=True)(x)
    assert torch.equal(exact, normalize(x))


def test_large_whole_numbers_do_not_lose_bits() -> None:
    x = torch.tensor([[[2**31 - 1, 2**31 - 2]]], dtype=torch.int32)
    y = Normalize(mean=2.0**31 - 3, std=1.0)(x)
    assert y.flatten().tolist() == [2.0, 1.0]


def test_half_keeps_its_constants() -> None:
    module = torch.nn.Sequential(Normalize((-600.3, 1500.7))).half()
    x = torch.tensor([[[-600]]], dtype=torch.int16)
    assert module(x).item() == np.float32((-600 + 600.3 + 750.35) / 1500.7)


def test_from_cache_is_the_mean_of_all_pixels(ct_series_cache: Path) -> None:
    cache = open_cache(ct_series_cache)
    pixels = np.stack(list(cache)).astype(np.float64)
    y = Normalize.from_cache(cache)(torch.from_numpy(cache.gather(range(12))))
    expected = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(y[:, 0].numpy(), expected, atol=1e-4)


def test_what_lies_beside_images_is_not_counted(tmp_path: Path) -> None:
    pixels = np.array([[0, 2], [4, 6]], np.uint8)
    write_dicom(tmp_path / "in" / "image", pixels, RescaleSlope=1, RescaleIntercept=0)
    ecg = group(np.full((50, 1), 900, "<i2"), [channel("I", 1, unit=None)])
    write_waveform(tmp_path / "in" / "ecg", [ecg])
    cache = open_cache(built(tmp_path / "in", tmp_path / "cache"))
    assert cache.column("unit").to_pylist() == ["US", "US"]
    y = Normalize.of(cache)(torch.from_numpy(pixels)[None])
    np.testing.assert_allclose(y[0, 0], (pixels - 3.0) / 5**0.5, atol=1e-6)
    alone = Normalize.of(cache.select(kind="waveform"))
    assert not alone(torch.full((1, 1, 50), 900.0)).any()


def test_from_cache_refuses_several_units(examples_cache: Path) -> None:
    with pytest.raises(ValueError, match="several units"):
        Normalize.from_cache(open_cache(examples_cache))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (40, 0)}, "width above 0"),
        ({"std": 0}, "above 0"),
        ({"std": float("nan")}, "finite"),
        ({"window": (40, float("nan"))}, "width above 0"),
        ({"mean": [0.1, 0.2], "std": [1, 1, 1]}, "as many as there are channels"),
        ({"window": [(1, 2), (3, 4)], "mean": [1, 2, 3]}, "as many as there are channels"),
        ({"invert": True}, "give a window"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalize(**options)


def test_numbers_of_numpy() -> None:
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    plain = Normalize([(40, 80), (128, 256)], mean=[0.1, 0.2], std=[2.0, 3.0])(x)
    windows = np.array([[40, 80], [128, 256]])
    given = Normalize(windows, mean=np.array([0.1, 0.2]), std=torch.tensor([2.0, 3.0]).double())
    assert torch.equal(given(x), plain)


def test_windows_are_for_grey() -> None:
    with pytest.raises(ValueError, match="grey"):
        Normalize([(1, 2), (3, 4)])(torch.zeros(1, 2, 2, 3))
    with pytest.raises(ValueError, match="shape"):
        Normalize()(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="2 means or stds for images of 3 channels"):
        Normalize(mean=[1, 2])(torch.zeros(1, 2, 2, 3, dtype=torch.uint8))


def test_windows_have_the_names_that_recipes_know() -> None:
    assert presets.PRESETS == window.PRESETS
    assert presets.PRESETS["lung"] == (-600, 1500)
