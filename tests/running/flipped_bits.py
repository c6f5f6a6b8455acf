"""Flip bits in all files of small caches: does verify find each, and what does a reader serve?

Run: python -m tests.running.flipped_bits [--bits N] [--seed S]. Prints how many of N bits verify
found, and how many trainer_adapter served a frame or a column for that is another than before,
without an error. Exit status 1 if verify missed one; each is named.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import examples

from dicom2cache.pipeline import findings
from tests.support import hand_made
from tests.support.caches import built, run_here
from tests.support.dicom_files import pattern, real, uid, write_dicom, write_series
from tests.support.segmentations import write_segmentation
from tests.support.siemens import write_mosaic
from tests.support.structures import box, contour, write_structures
from tests.support.waveforms import channel, group, write_waveform


def _series(folder: Path) -> Path:
    """Frames of two sizes and two dtypes, one that fails in the middle, one file that is none."""
    for k in range(7):
        extra = {"NumberOfFrames": 1, "SeriesInstanceUID": uid("s"), "InstanceNumber": k}
        path = folder / f"{k}.dcm"
        if k == 3:
            write_dicom(path, pattern("3", (12, 10)), syntax="1.2.840.10008.1.2.5",
                        encoded=[bytes(64) + b"no runs here"], **extra)  # fmt: skip
        else:
            write_dicom(path, pattern(str(k), (12, 10)), **extra)
    write_dicom(folder / "wide.dcm", pattern("w", (6, 30), "uint8", 256), BitsStored=8)
    (folder / "notes.txt").write_text("none")
    return folder


def _uncompressed(folder: Path) -> Path:
    return built(_series(folder / "in"), folder / "cache", status=1)


def _shared(folder: Path) -> Path:
    flags = ("--max-arrays", "1", "--dtype", "int32")
    return built(_series(folder / "in"), folder / "cache", *flags, status=1)


def _compressed(codec: str) -> Callable[[Path], Path]:
    return lambda folder: built(
        _series(folder / "in"), folder / "cache", "--codec", codec, status=1
    )


def _colour(folder: Path) -> Path:
    rgb = Path(examples.get_path("rgb_color"))
    return built(rgb, real("MR_small_RLE.dcm"), folder / "cache", "--size", "20,30")


def _mosaic(folder: Path) -> Path:
    write_mosaic(folder / "in/m.dcm", pattern("m", (5, 6, 8)), (1, 0, 0, 0, 1, 0), (0, 0, 1))
    return built(folder / "in", folder / "cache")


def _generations(codec: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        hand_made.write(folder / "cache", codec)
        return folder / "cache"

    return make


def _objects(folder: Path) -> Path:
    """Images with a segmentation and a structure set drawn on them, a recording; and later ones."""
    images = write_series(folder / "in", 3, 12)
    masks = np.ones((2, 3, 12, 12), np.uint8)
    write_segmentation(folder / "in/seg.dcm", images, masks, ["liver", "spleen"])
    shapes = [contour(box(1, 1, 5, 5, z)) for z in range(3)]
    write_structures(folder / "in/rt.dcm", [("GTV", shapes)])
    data = np.arange(200, dtype="<i2").reshape(100, 2)
    write_waveform(folder / "in/ecg.dcm", [group(data, [channel("I", 2), channel("II", 2)])])
    cache = built(folder / "in", folder / "cache", "--masks", "labelmap")
    more = write_dicom(
        folder / "in/more.dcm", pattern("more", (12, 12)), SeriesInstanceUID=uid("m")
    )
    assert more.exists()
    assert run_here("update", folder / "in", cache).returncode == 0
    return cache


CACHES: dict[str, Callable[[Path], Path]] = {
    "uncompressed, with failures": _uncompressed,
    "sizes that share slots": _shared,
    "lz4": _compressed("lz4"),
    "zstd": _compressed("zstd"),
    "colour": _colour,
    "mosaic": _mosaic,
    "generations": _generations("none"),
    "masks, contours, waveforms": _objects,
}


@dataclass(frozen=True)
class Flip:
    """One bit of one file."""

    cache: str
    file: str
    byte: int
    bit: int


@dataclass
class Tally:
    """What came of the bits."""

    bits: int = 0
    missed: list[Flip] = field(default_factory=list)
    served: dict[str, list[Flip]] = field(default_factory=dict)


def flips(caches: dict[str, Path], bits: int, seed: int) -> Iterator[Flip]:
    """Any cache, any file of it, any bit: small files are not left out."""
    chance = random.Random(seed)
    files = {
        name: sorted(p.relative_to(c).as_posix() for p in c.rglob("*") if p.is_file())
        for name, c in caches.items()
    }
    for _ in range(bits):
        name = chance.choice(sorted(caches))
        file = chance.choice(files[name])
        size = (caches[name] / file).stat().st_size
        yield Flip(name, file, chance.randrange(size), chance.randrange(8))


def run(folder: Path, bits: int, seed: int, checks: tuple[str, ...] = ()) -> Tally:
    """Flip so many bits, one at a time; with `checks`, read the cache by each of them too."""
    caches = {name: make(folder / str(k)) for k, (name, make) in enumerate(CACHES.items())}
    for name, cache in caches.items():
        assert findings(cache) == [], name
    before = {name: served(cache, "never") for name, cache in caches.items()} if checks else {}
    tally = Tally()
    for flip in flips(caches, bits, seed):
        cache = caches[flip.cache]
        path = cache / flip.file
        whole = path.read_bytes()
        data = bytearray(whole)
        data[flip.byte] ^= 1 << flip.bit
        path.write_bytes(data)
        tally.bits += 1
        if not _is_found(cache):
            tally.missed.append(flip)
        for check in checks:
            seen = served(cache, check)
            if seen is not None and seen != before[flip.cache]:
                tally.served.setdefault(check, []).append(flip)
        path.write_bytes(whole)
    return tally


def _is_found(cache: Path) -> bool:
    from dicom2cache import CacheError

    try:
        return bool(findings(cache))
    except CacheError:  # another format, which is refused by name
        return True


def served(cache: Path, check: str) -> Any:
    """All frames and columns as trainer_adapter has them; None if it refuses by an error of its."""
    from trainer_adapter import DamagedError, FormatError, NotACacheError, open_cache

    try:
        opened = open_cache(cache, check=check)
        frames = [np.asarray(opened[k]).tobytes() for k in range(len(opened))]
        return frames, opened.frames.to_pylist(), opened.attributes
    except (DamagedError, FormatError, NotACacheError):
        return None


def main() -> int:
    """Run by the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bits", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    checks = ("never", "always")
    with tempfile.TemporaryDirectory() as folder:
        tally = run(Path(folder), asked.bits, asked.seed, checks)
    found = tally.bits - len(tally.missed)
    print(f"{tally.bits} bits flipped, {found} found by verify")
    for check in checks:
        files = sorted({f.file for f in tally.served.get(check, [])})
        count = len(tally.served.get(check, []))
        print(f"served by trainer_adapter with check={check}: {count} {', '.join(files)}")
    for flip in tally.missed:
        print(f"missed: {flip}")
    return 1 if tally.missed else 0


if __name__ == "__main__":
    sys.exit(main())
