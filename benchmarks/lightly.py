"""LightlyTrain's own loading of DICOM against the same images served from a cache.

Through its own functions, ImageDataset, DataLoader and pretrain; contenders in turn, medians, files
in the page cache. Run: make bench-lightly
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pydicom
from pydicom import examples
from pydicom.uid import JPEG2000Lossless, generate_uid

from benchmarks.machine import describe, in_turn
from dicom2cache import Recipe, build
from trainer_adapter.lightly import api

FILES, ROUNDS, SIZE = 48, 5, 512
KINDS = ("uncompressed CT", "JPEG 2000 CT")
OWN, STORED, RECIPE = "LightlyTrain's own", "served, HU windowed", "served, recipe lightlytrain"
BARS = {"uncompressed CT": 20, "JPEG 2000 CT": 200}


def write_files(folder: Path) -> None:
    """FILES slices of 512 x 512 in both syntaxes, under the header of pydicom's CT example."""
    import imagecodecs

    y, x = np.mgrid[:SIZE, :SIZE]
    body = np.hypot((y - SIZE / 2) / 0.8, x - SIZE / 2) < SIZE * 0.45
    rng = np.random.default_rng(0)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
    for k in range(FILES):
        ds = pydicom.dcmread(examples.get_path("ct"))
        organs = 60 * np.sin(x / (20 + k)) * np.sin(y / 31)
        noise = rng.normal(0, 12, body.shape)
        pixels = (body * (1060 + organs) + noise).clip(0, 4095).astype(np.int16)
        ds.Rows, ds.Columns, ds.PixelData = SIZE, SIZE, pixels.tobytes()
        ds["PixelData"].VR = "OW"
        ds.PixelPaddingValue = -2000
        ds.InstanceNumber = k + 1
        ds.ImagePositionPatient = [0.0, 0.0, float(k)]
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[f"plain{k}"])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(folder / KINDS[0] / f"{k:03}.dcm")
        stream = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k")
        _encapsulate(ds, stream)
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[f"j2k{k}"])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(folder / KINDS[1] / f"{k:03}.dcm")


def _encapsulate(ds: Any, stream: bytes | bytearray) -> None:
    from pydicom.encaps import encapsulate

    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless


@contextmanager
def door(cache: Path | None, window: Any = None) -> Iterator[None]:
    """Served from a cache, or LightlyTrain's own way."""
    with nullcontext() if cache is None else api.serve(cache, window=window):
        yield


def loading(paths: list[Path], caches: dict[str, Path | None]) -> dict[str, float]:
    """Seconds for each image of the replaced function alone."""
    from lightly_train._data import file_helpers

    def run(cache: Path | None) -> float:
        with door(cache):
            file_helpers.open_image_numpy(paths[0])  # opens the cache
            start = time.perf_counter()
            for path in paths:
                file_helpers.open_image_numpy(path)
            return (time.perf_counter() - start) / len(paths)

    return in_turn({name: lambda c=c: run(c) for name, c in caches.items()}, ROUNDS)  # type: ignore[misc]


def dataset_epochs(
    folder: Path, caches: dict[str, Path | None], workers: int, transform: Any
) -> dict[str, float]:
    """Seconds for each image through LightlyTrain's ImageDataset, `transform` and a DataLoader."""
    from lightly_train._data.image_dataset import ImageDataset
    from torch.utils.data import DataLoader

    names = sorted(p.name for p in folder.iterdir()) * 2
    dataset = ImageDataset(folder, names, transform, num_channels=1)
    loader = DataLoader(
        dataset, batch_size=16, num_workers=workers, persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )  # fmt: skip

    def run(cache: Path | None) -> float:
        with door(cache, window="soft"):
            for _ in loader:  # starts workers, opens the cache
                pass
            start = time.perf_counter()
            for _ in loader:
                pass
            seconds = time.perf_counter() - start
            loader._iterator = None  # its workers belong to this contender
            return seconds / len(names)

    return in_turn({name: lambda c=c: run(c) for name, c in caches.items()}, 3)  # type: ignore[misc]


def waiting(folder: Path, cache: Path | None, out: Path, args: dict[str, Any]) -> float:
    """Share of a pretraining step spent waiting for data, by LightlyTrain's own timing."""
    import lightly_train

    with door(cache, window="soft"):
        lightly_train.pretrain(
            out=out, data=folder, model="dinov2/_vittest14", method="simclr", epochs=2,
            batch_size=8, num_workers=0, accelerator="cpu", devices=1,
            transform_args=args, loggers={"tensorboard": None},
        )  # fmt: skip
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    data, batch = (
        median(r[key] for r in rows if key in r)
        for key in ("profiling/data_time", "profiling/batch_time")
    )
    return float(data / (data + batch))


def measure(here: Path) -> dict[str, Any]:
    """All figures."""
    from lightly_train._commands import train_helpers

    write_files(here / "scans")
    recipe = Recipe.from_toml("lightlytrain")
    args = {
        **api.transform_args(method="simclr"),
        "image_size": (112, 112), "num_channels": 1, "gaussian_blur": None,
        "normalize": {"mean": (0.5,), "std": (0.25,)},
    }  # fmt: skip
    resolved = train_helpers.get_transform_args(method="simclr", transform_args=args)
    transform = train_helpers.get_transform(method="simclr", transform_args_resolved=resolved)
    found: dict[str, Any] = {}
    for kind in KINDS:
        folder = here / "scans" / kind
        build(folder, here / kind / "stored", jobs=1)
        build(folder, here / kind / "recipe", recipe, jobs=1)
        caches = {OWN: None, STORED: here / kind / "stored", RECIPE: here / kind / "recipe"}
        alone = loading(sorted(folder.iterdir()), caches)
        grey = {OWN: None, STORED: caches[STORED]}
        through = {w: dataset_epochs(folder, grey, w, transform) for w in (0, 2)}
        found[kind] = {
            "loading alone, ms": {n: 1000 * s for n, s in alone.items()},
            "times as fast": {n: alone[OWN] / s for n, s in alone.items() if n != OWN},
            "bar": BARS[kind],
            "images/s, 0 workers": {n: 1 / s for n, s in through[0].items()},
            "images/s, 2 workers": {n: 1 / s for n, s in through[2].items()},
            "share of a step waiting for data": {
                n: waiting(folder, c, here / "out" / kind / n, args) for n, c in grey.items()
            },
        }
    return found


def shown_number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# LightlyTrain: its own loading of DICOM against a cache",
        "",
        "`make bench-lightly`; 512 x 512 CT under the header of pydicom's CT example, files in the",
        "page cache, in one run. Loading alone is the replaced function; images/s go through",
        "LightlyTrain's ImageDataset, its SimCLR transforms (two views of 112 x 112, one channel,",
        "window soft) and a DataLoader; the share of a step is what its own timing says of",
        "`pretrain` with a tiny ViT on the CPU, 0 workers.",
    ]
    for kind, figures in found.items():
        names = list(figures["loading alone, ms"])
        lines += ["", f"## {kind}", "", "| | " + " | ".join(names) + " |", "| --- " * 4 + "|"]
        for what, values in figures.items():
            if what == "bar":
                continue
            bar = f" (bar: {figures['bar']})" if what == "times as fast" else ""
            shown = [
                "" if n not in values else
                f"{values[n]:.0%}" if "share" in what else shown_number(values[n])
                for n in names
            ]  # fmt: skip
            lines.append(f"| {what}{bar} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print, with the bars."""
    parser = argparse.ArgumentParser(description="LightlyTrain on files and on a cache.")
    parser.add_argument("--results", type=Path, help="write this .md and .json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = "1"
    os.environ["LIGHTLY_TRAIN_LOG_LEVEL"] = "ERROR"
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_CONFIG_HOME"] = temporary  # for the patient key
        found = measure(Path(temporary))
    text = table(found)
    print(text)
    if given.results:
        machine = describe(
            "lightly-train", "torch", "pydicom", "numpy", "pyarrow", "albumentations"
        )
        given.results.with_suffix(".md").write_text(text)
        both = {"machine": machine, "found": found}
        given.results.with_suffix(".json").write_text(json.dumps(both, indent=1) + "\n")


if __name__ == "__main__":
    main()
