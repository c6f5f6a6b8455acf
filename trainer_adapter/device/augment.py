"""Random crops and flips of whole batches on their device; functions of (seed, epoch, sample)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from trainer_adapter.batch.fields import Fields, units_of
from trainer_adapter.batch.units import MASKS
from trainer_adapter.order.permutations import Stream

_BOX, _FLIP = int(Stream.BOX), int(Stream.FLIP)  # plain numbers for a compiled graph


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_ODD, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)  # torch has no unsigned 64 bits: shift in zeros


def _mix(values: torch.Tensor) -> torch.Tensor:
    """splitmix64, as in order/, but in torch: on the device, and within a compiled graph."""
    z = values + _ODD
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def uniform(index: torch.Tensor, seed: int, epoch: int, stream: int) -> torch.Tensor:
    """(b,) float32 in [0, 1), 24 random bits each: the same for the same sample, epoch and seed."""
    key = torch.zeros((), dtype=torch.int64, device=index.device)
    for number in (seed, epoch, stream):
        key = _mix(key ^ number)
    bits = _shifted(_mix(_mix(index.to(torch.int64)) ^ key), 40)
    return bits.to(torch.float32) * 2.0**-24


_ALL = 4
"""channels of masks and colour; an axis of more is no axis of channels"""


class _OfSamples(nn.Module):
    """What does something else to each sample in each epoch: to images, or to those of a batch."""

    nearest = False

    def forward(self, x: Any, index: torch.Tensor | None = None, epoch: int | None = None) -> Any:
        """Images (b, C, H, W) of the samples `index`, (b,) int64, in an epoch.

        Of a batch, as CacheLoader gives it or Normalize makes it, both are known; it comes back
        with other images, and masks beside them, so that modules may stand in nn.Sequential. Masks
        in a batch may be whole numbers. Raises ValueError for images of another shape or dtype.
        """
        if not isinstance(x, Fields):
            if index is None or epoch is None:
                raise ValueError("images alone: give index and epoch too, or the batch itself")
            nearest = self.nearest
            if not torch.compiler.is_compiling():
                nearest = nearest or _is_mask(units_of(x))
            _hold_images(x, index, nearest)
            return self.images(x, index, epoch, nearest)
        epoch = x.get("epoch") if epoch is None else epoch
        if epoch is None:
            raise ValueError("a batch of FrameDataset has no epoch; give epoch=...")
        mask = _is_mask(x.get("units") or ())
        image = x["image"]
        if mask and image.ndim == 3:
            image = image[:, None]
        _hold_images(image, x["index"], mask or self.nearest)
        made = {"image": self.images(image, x["index"], epoch, mask or self.nearest)}
        if x.get("mask") is not None:  # drawn on the images, so that it goes where they go
            made["mask"] = self.images(x["mask"][:, None], x["index"], epoch, True)[:, 0]
        if x.get("dose") is not None:
            made["dose"] = self.images(x["dose"][:, None], x["index"], epoch, self.nearest)[:, 0]
        return x.replaced(**made)

    def images(
        self, x: torch.Tensor, index: torch.Tensor, epoch: int, nearest: bool
    ) -> torch.Tensor:
        """What becomes of images, (b, C, H, W); `nearest`: their values are not to be mixed."""
        raise NotImplementedError


def _is_mask(units: tuple[str | None, ...]) -> bool:
    return bool(units) and MASKS.issuperset(units)


def _hold_images(x: torch.Tensor, index: torch.Tensor, whole: bool) -> None:
    legal = x.is_floating_point() or (whole and x.ndim == 4 and x.shape[1] <= _ALL)
    if x.ndim != 4 or not legal or index.shape != x.shape[:1]:
        raise ValueError(
            f"images {tuple(x.shape)} {x.dtype} with indices {tuple(index.shape)}; legal: "
            "(b, C, H, W) floats, as Normalize makes them, with (b,) indices"
        )


class RandomResizedCrop(_OfSamples):
    """A random part of each image, resampled to `size`; (b, C, H, W) to (b, C, h, w).

    The part has a share of the area within `scale` and a proportion within `ratio`, both as in
    Inception (Szegedy et al., Going deeper with convolutions, 2015); a side that would exceed the
    image is as long as the image. Antialiased bilinear, as Pillow's and torchvision's, by two
    matrix products for the whole batch. Masks, as a batch says by its units, and all with
    `nearest`, have each pixel from the one that its centre lies in.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        nearest: bool = False,
        seed: int = 0,
    ) -> None:
        """Raises ValueError for a size, scale or ratio that is not legal."""
        super().__init__()
        self.size = tuple(map(int, size)) if isinstance(size, Sequence) else (int(size),) * 2
        if min(self.size) < 1:
            raise ValueError(f"size {size}; legal: from 1 x 1")
        if not (0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1]):
            raise ValueError(
                f"scale {scale}, ratio {ratio}; legal: 0 < low <= high, and no scale above 1"
            )
        self.scale, self.ratio, self.seed = scale, ratio, int(seed)
        self.nearest = bool(nearest)

    def boxes(self, index: torch.Tensor, epoch: int, height: int, width: int) -> torch.Tensor:
        """(b, 4) float32: top, left, height, width of each part, in pixels."""
        drawn = [uniform(index, self.seed, epoch, _BOX + k) for k in range(4)]
        area = height * width * (self.scale[0] + drawn[0] * (self.scale[1] - self.scale[0]))
        low, high = map(math.log, self.ratio)
        shape = torch.exp(low + drawn[1] * (high - low))
        h = torch.sqrt(area / shape).clamp(1, height)
        w = torch.sqrt(area * shape).clamp(1, width)
        return torch.stack([drawn[2] * (height - h), drawn[3] * (width - w), h, w], -1)

    def images(
        self, x: torch.Tensor, index: torch.Tensor, epoch: int, nearest: bool
    ) -> torch.Tensor:
        """Parts of images, (b, C, h, w)."""
        top, left, height, width = self.boxes(index, epoch, x.shape[2], x.shape[3]).unbind(-1)
        if nearest:
            y = _places(top, height, self.size[0], x.shape[2])
            across = _places(left, width, self.size[1], x.shape[3])
            rows = torch.take_along_dim(x, y[:, None, :, None], 2)
            return torch.take_along_dim(rows, across[:, None, None, :], 3)
        down = _weights(top, height, self.size[0], x.shape[2]).to(x.dtype)
        across = _weights(left, width, self.size[1], x.shape[3]).to(x.dtype)
        return down[:, None] @ x @ across[:, None].mT


def _places(start: torch.Tensor, length: torch.Tensor, out: int, size: int) -> torch.Tensor:
    """(b, out) the pixel that the centre of each resampled one lies in."""
    steps = torch.arange(out, device=start.device) + 0.5
    centres = start[:, None] + steps * (length / out)[:, None]
    return centres.floor().to(torch.int64).clamp(0, size - 1)


def _weights(start: torch.Tensor, length: torch.Tensor, out: int, size: int) -> torch.Tensor:
    """(b, out, size) share of each pixel in each resampled one: a triangle, wider to shrink."""
    step = (length / out)[:, None, None]
    places = torch.arange(out, device=start.device)[:, None] + 0.5
    centres = start[:, None, None] + places * step
    pixels = torch.arange(size, device=start.device) + 0.5
    weights = (1 - (pixels - centres).abs() / step.clamp(min=1)).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)


class RandomFlip(_OfSamples):
    """Images turned left to right, or upside down, each with its probability; any (b, C, H, W).

    Laterality is lost by a horizontal flip: left out where the side matters.
    """

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0, *, seed: int = 0) -> None:
        """Raises ValueError for a probability outside of 0 to 1."""
        super().__init__()
        if not (0 <= horizontal <= 1 and 0 <= vertical <= 1):
            raise ValueError(f"probabilities {horizontal}, {vertical}; legal: from 0 to 1")
        self.horizontal, self.vertical, self.seed = horizontal, vertical, int(seed)

    def images(
        self, x: torch.Tensor, index: torch.Tensor, epoch: int, nearest: bool
    ) -> torch.Tensor:
        """Images turned over, (b, C, H, W)."""
        for probability, axis, stream in (
            (self.horizontal, -1, _FLIP),
            (self.vertical, -2, _FLIP + 1),
        ):
            if probability:
                turned = uniform(index, self.seed, epoch, stream) < probability
                x = torch.where(turned[:, None, None, None], x.flip(axis), x)
        return x
