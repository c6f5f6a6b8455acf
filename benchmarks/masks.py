"""(image, mask) batches against images alone, from one cache, in turn.

CT of 512 x 512 in int16 and label maps of it, drawn from a segmentation with a liver in each slice
and a tumour in some; whole frames and crops. By the clock, and by the processor, which other
programs disturb less. Run: python -m benchmarks.masks [--quick]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.figures import arguments, least, plain, tell
from dicom2cache import Recipe, build
from tests.support.dicom_files import uid, write_series
from tests.support.drawn import write_seg
from trainer_adapter import Cache, CacheLoader, open_cache

SIZE = 512


def drawn(folder: Path, slices: int) -> None:
    """A series, and two segments on its slices."""
    write_series(folder, slices, SIZE)
    y, x = np.mgrid[:SIZE, :SIZE]
    planes = []
    for k in range(slices):
        wide = 60 + 60 * np.sin(np.pi * k / slices)
        liver = ((y - 250) / wide) ** 2 + ((x - 200) / (wide * 1.4)) ** 2 < 1
        planes.append((1, uid(f"slice{k:03}.dcm"), float(k), liver))
        if k % 3 == 0:
            tumour = (y - 260) ** 2 + (x - 180) ** 2 < 20**2
            planes.append((2, uid(f"slice{k:03}.dcm"), float(k), tumour))
    write_seg(folder / "seg.dcm", planes, {1: "liver", 2: "tumour"}, spacing=0.5)


def rate(cache: Cache, crop: int | None, epochs: int, target: str | None) -> tuple[float, float]:
    """Frames a second, of the clock and of the processor."""
    loader = CacheLoader(cache, crop=crop, shuffle=True, target=target)
    start, used, frames = time.perf_counter(), time.process_time(), 0
    for _ in range(epochs):
        for batch in loader:
            frames += len(batch.image)
    return frames / (time.perf_counter() - start), frames / (time.process_time() - used)


def main() -> None:
    """Print frames a second with and without masks, and their ratio."""
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run")
    asked = parser.parse_args()
    slices, rounds, epochs = (256, 9, 4) if asked.quick else (512, 21, 6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn(folder / "in", slices)
        build(folder / "in", folder / "cache", Recipe(masks="labelmap"))
        images = open_cache(folder / "cache").select(kind="image")
        masks = sum(f.stat().st_size for f in (folder / "cache").glob("mask_*/c.*"))
        share = masks / (len(images) * SIZE * SIZE * 2)
        figures = [plain("masks by the bytes of their images", share)]
        for crop in (None, 256):
            ways = {None: [], "mask": []}  # type: dict[str | None, list[tuple[float, float]]]
            for target in (*ways, *ways) * rounds:
                ways[target].append(rate(images, crop, epochs, target))
            alone, both = (np.array(found[2:]) for found in ways.values())
            best = both.max(0) / alone.max(0)
            ratio = [median((b / a).tolist()) for a, b in zip(alone.T, both.T, strict=True)]
            print(f"images {alone[:, 0].max():,.0f} / s, (image, mask) {both[:, 0].max():,.0f} / s")
            what = "(image, mask) batches by images alone, 512x512 int16 and label maps"
            what += "" if crop is None else f": crops of {crop}"
            note = f"CPU time {best[1]:.2f}; medians {ratio[0]:.2f}, {ratio[1]:.2f}"
            whole = crop is None
            figures.append(least(what, best[0], 0.6, note) if whole else plain(what, best[0], note))
    tell("masks", f"{'QUICK=1 ' * asked.quick}make bench-masks", figures, asked.keep)


if __name__ == "__main__":
    main()
