"""The demo: convert pydicom's real sample files, look at the cache, train from it, time it.

Run: make demo. Writes demo/: dicom/ (the samples), cache/, report.html, contact_sheet.png.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from pydicom import dcmread
from pydicom.examples import get_path
from pydicom.pixels import pixel_array
from torch import nn
from torch.utils.data import DataLoader

from trainer_adapter import FrameDataset, GroupedBatchSampler, open_cache

SAMPLES = (
    "ct", "mr", "overlay", "rgb_color", "palette_color", "jpeg2k", "rt_dose", "ybr_color",
    "waveform", "rt_plan", "rt_ss", "dicomdir",
)  # fmt: skip
TILE = 160  # pixels of a tile of the contact sheet


def collect(folder: Path) -> None:
    """Copy pydicom's sample files, all in its wheel, to `folder`, and add a file that is broken."""
    folder.mkdir(parents=True)
    for name in SAMPLES:
        source = Path(get_path(name))
        shutil.copy(source, folder / f"{name}{source.suffix or '.dcm'}")
    whole = Path(get_path("mr")).read_bytes()
    (folder / "broken_copy.dcm").write_bytes(whole[: len(whole) * 3 // 4])


def contact_sheet(cache: Any, path: Path, columns: int = 8) -> None:
    """Write a PNG with a tile for each frame: grey by its percentiles 0.5 to 99.5, colour as is."""
    shown = [i for i, frame in enumerate(cache.column("frame").to_pylist()) if frame % 4 == 0]
    facts = cache.frames.select(["path", "frame", "unit", "p0_5", "p99_5"]).to_pylist()
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * TILE, rows * (TILE + 28)), "black")
    draw = ImageDraw.Draw(sheet)
    for place, i in enumerate(shown):
        pixels, fact = cache[i], facts[i]
        if pixels.ndim == 2:
            low, high = fact["p0_5"], max(fact["p99_5"], fact["p0_5"] + 1e-6)
            scaled = (pixels.astype(np.float64) - low) / (high - low)
            pixels = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
        tile = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
        tile = ImageOps.contain(tile, (TILE, TILE), Image.Resampling.BOX)
        x, y = place % columns * TILE, place // columns * (TILE + 28)
        sheet.paste(tile, (x, y))
        draw.text((x + 2, y + TILE), f"{fact['path']} [{fact['frame']}]", fill="white")
        low, high = f"{fact['p0_5']:.4g}", f"{fact['p99_5']:.4g}"
        draw.text((x + 2, y + TILE + 12), f"{low} to {high} {fact['unit'] or 'RGB'}", fill="yellow")
    sheet.save(path)


class Small(nn.Module):
    """A few convolutions over any size; grey is repeated to three channels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=4), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 1 or 3, H, W) float32 to (b, classes)."""
        result: torch.Tensor = self.layers(x.expand(-1, 3, -1, -1))
        return result


def train(cache: Any, steps: int = 100) -> tuple[float, float, list[str]]:
    """Tell the modalities apart for some steps: (first loss, last loss, classes)."""
    torch.manual_seed(0)
    torch.set_num_threads(
        1
    )  # several wait for each other, mostly so where others use the processors
    dataset = FrameDataset(cache, label="modality")
    batches = GroupedBatchSampler(dataset, batch_size=8, shuffle=True, seed=0)
    model, loss_of = Small(len(dataset.classes)), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    epoch = 0
    while len(losses) < steps:
        batches.set_epoch(epoch)
        epoch += 1
        for batch in DataLoader(dataset, batch_sampler=batches):
            x = batch.image.float()
            x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
            x = (x - x.mean()) / (x.std() + 1e-6)
            loss = loss_of(model(x), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return float(np.mean(losses[:8])), float(np.mean(losses[-8:])), list(dataset.classes)


def frames_per_second(read: Callable[[int], Any], count: int, seconds: float = 1.0) -> float:
    """How many frames `read(i)` gives in a second, in random order."""
    order = np.random.default_rng(0).integers(0, count, 100_000)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        read(int(order[done % len(order)]))
        done += 1
    return done / (time.perf_counter() - start)


def main() -> None:
    """The whole demo; prints what it does."""
    here = Path("demo")
    shutil.rmtree(here, ignore_errors=True)
    collect(here / "dicom")
    command = ["build", str(here / "dicom"), str(here / "cache")]
    print("$ dicom2cache", *command, flush=True)
    subprocess.run([sys.executable, "-m", "dicom2cache.cli", *command], check=False)
    print("(status 1: finished, and one file, broken_copy.dcm, failed)\n")

    page = here / "report.html"  # the samples are nobody's
    command = ["report", str(here / "cache"), "-o", str(page), "--identifying"]
    print("$ dicom2cache", *command, flush=True)
    subprocess.run([sys.executable, "-m", "dicom2cache.cli", *command], check=True)
    print(f"open it in a browser: {page.absolute().as_uri()}\n")

    cache = open_cache(here / "cache")
    contact_sheet(cache, here / "contact_sheet.png")
    print(f"contact sheet of {len(cache)} frames: {here / 'contact_sheet.png'}")
    images = cache.select(kind="image")
    print(f"{len(images)} of them are images; the dose grid stays out of training")

    first, last, classes = train(cache)
    print(f"a small model tells {', '.join(classes)} apart: loss {first:.2f} -> {last:.2f}\n")

    paths = [here / "dicom" / p for p in images.column("path").to_pylist()]
    frames = images.column("frame").to_pylist()

    def on_the_fly(i: int) -> Any:
        return pixel_array(dcmread(paths[i]), index=frames[i])  # only that frame is decoded

    from_cache = frames_per_second(lambda i: np.array(images[i]), len(images))
    from_files = frames_per_second(on_the_fly, len(images))
    print("frames per second, random order, one process:")
    print(f"  {from_cache:>8,.0f}  copied from the cache")
    print(f"  {from_files:>8,.0f}  decoded on the fly by pydicom")
    print(f"  {from_cache / from_files:>8,.0f}  times as many")


if __name__ == "__main__":
    main()
