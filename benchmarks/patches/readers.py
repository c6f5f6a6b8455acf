"""Ways to patches: each is an endless iterator of batches, (b, 1, d, h, w) of int16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer_adapter import CacheLoader, open_cache

PATCH = (32, 128, 128)
BATCH = 4
PROCESSORS = 2
ABOVE = 100
"""HU of what patches are drawn around, where they are"""
Volumes = list[NDArray[np.int16]]


def _forever(epochs: Callable[[], Any], image: Callable[[Any], Any]) -> Iterator[Any]:
    while True:
        for batch in epochs():
            yield image(batch)


def ours(cache: Path, foreground: float | None) -> Iterator[Any]:
    """CacheLoader."""
    loader = CacheLoader(
        open_cache(cache), BATCH, patch=PATCH, foreground=foreground, shuffle=True,
        threads=PROCESSORS, drop_last=True,
    )  # fmt: skip
    return _forever(lambda: loader, lambda batch: batch.image)


def memcpy(cache: Path) -> Iterator[Any]:
    """As many bytes, each patch's in one piece, from random places of the same maps."""
    size = int(np.prod(PATCH))

    def copied(target: NDArray[Any], volume: NDArray[Any], places: list[float]) -> None:
        start = int(places[0] * (volume.size - size))
        np.copyto(target.reshape(-1), volume.reshape(-1)[start : start + size])

    return _copies(cache, copied)


def rows(cache: Path) -> Iterator[Any]:
    """The rows of patches from random places, and nothing else: what a patch takes at least."""
    row = np.dtype((np.void, PATCH[2] * 2))

    def copied(target: NDArray[Any], volume: NDArray[Any], places: list[float]) -> None:
        z, y, x = _corner(places, volume.shape)
        d, h, w = PATCH
        np.copyto(target[0].view(row), volume[z : z + d, y : y + h, x : x + w].view(row))

    return _copies(cache, copied)


def _copies(cache: Path, copied: Callable[[Any, Any, list[float]], None]) -> Iterator[Any]:
    """Batches by so many threads into a few buffers, from the cache's maps."""
    opened = open_cache(cache)
    volumes = [opened.volume(int(k)) for k in opened.stacks()["stack"].to_numpy()]
    rng = np.random.default_rng(0)
    buffers = [np.zeros((BATCH, 1, *PATCH), np.int16) for _ in range(PROCESSORS + 2)]

    def batch(k: int, places: list[list[float]]) -> NDArray[Any]:
        out = buffers[k % len(buffers)]
        for target, (which, *at) in zip(out, places, strict=True):
            copied(target, volumes[int(which * len(volumes))], at)
        return out

    return _forever(lambda: _by_threads(batch, rng), lambda batch: batch)


def _by_threads(
    batch: Callable[[int, list[list[float]]], Any], rng: np.random.Generator
) -> Iterator[Any]:
    """64 batches of places that are drawn."""
    with ThreadPoolExecutor(PROCESSORS) as pool:
        coming = []
        for k in range(64):
            coming.append(pool.submit(batch, k, rng.random((BATCH, 4)).tolist()))
            if len(coming) == PROCESSORS + 1:
                yield coming.pop(0).result()
        yield from (f.result() for f in coming)


def _corner(places: list[float], shape: tuple[int, ...]) -> list[int]:
    """The first voxel of a patch in a volume."""
    room = zip(places, shape, PATCH, strict=True)
    return [int(u * (n - side + 1)) for u, n, side in room]


def monai(volumes: Volumes, workers: int, tuned: bool) -> Iterator[Any]:
    """RandCropByPosNegLabeld over a CacheDataset, of images and where foreground is.

    As its tutorials have it; or tuned: voxels looked for once, and volumes that are cached not
    copied before each crop.
    """
    import monai.data
    import monai.transforms as mt

    items = [
        {"image": torch.from_numpy(v)[None], "label": torch.from_numpy(v > ABOVE)[None]}
        for v in volumes
    ]
    known = ["label_fg_indices", "label_bg_indices"] if tuned else [None, None]
    crop = mt.RandCropByPosNegLabeld(
        ["image", "label"], "label", PATCH, pos=1, neg=2, num_samples=BATCH,
        fg_indices_key=known[0], bg_indices_key=known[1],
    )  # fmt: skip
    steps = [*([mt.FgBgToIndicesd("label")] if tuned else []), crop]
    data = monai.data.CacheDataset(
        items, mt.Compose(steps), progress=False, copy_cache=not tuned, num_workers=1
    )

    def collate(samples: list[Any]) -> Any:
        return torch.stack([s["image"].as_tensor() for some in samples for s in some])

    loader = torch.utils.data.DataLoader(
        data, 1, shuffle=True, num_workers=workers, collate_fn=collate,
        persistent_workers=workers > 0,
    )  # fmt: skip
    return _forever(lambda: loader, lambda batch: batch)


def torchio(volumes: Volumes, workers: int) -> Iterator[Any]:
    """Queue over subjects in memory."""
    import torchio as tio

    subjects = [tio.Subject(ct=tio.ScalarImage(tensor=torch.from_numpy(v)[None])) for v in volumes]
    data = tio.SubjectsDataset(subjects)
    queue = tio.Queue(data, 64, 16, tio.data.UniformSampler(PATCH), num_workers=workers)
    loader = tio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0)
    return _forever(lambda: loader, lambda batch: batch["ct"][tio.DATA])


def nnunet_files(folder: Path, volumes: Volumes) -> None:
    """The volumes as nnU-Net stores them, in its blocks for this patch; int16, half of its own."""
    from nnunetv2.training.dataloading.nnunet_dataset import (
        comp_blosc2_params,
        nnUNetDatasetBlosc2,
    )

    folder.mkdir()
    for k, volume in enumerate(volumes):
        data = volume[None]
        blocks, chunks = comp_blosc2_params(data.shape, PATCH, data.itemsize)
        seg = (data > ABOVE).astype(np.int8)
        name = str(folder / f"case{k}")
        nnUNetDatasetBlosc2.save_case(data, seg, {}, name, chunks, blocks)


def nnunet(folder: Path) -> Iterator[Any]:
    """nnU-Net's own data set class, read by as many threads; without the segmentation."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    data = nnUNetDatasetBlosc2(str(folder))
    names = list(data.identifiers)
    rng = np.random.default_rng(0)

    def read(k: int, places: list[list[float]]) -> NDArray[Any]:
        out = np.empty((BATCH, 1, *PATCH), np.int16)
        for target, (which, *at) in zip(out, places, strict=True):
            case = data.load_case(names[int(which * len(names))])[0]
            z, y, x = _corner(at, case.shape[1:])
            d, h, w = PATCH
            target[...] = case[:, z : z + d, y : y + h, x : x + w]
        return out

    return _forever(lambda: _by_threads(read, rng), lambda batch: batch)
