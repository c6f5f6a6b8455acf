"""imagecodecs on the encoded frames in memory: the floor for whoever decodes with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.convert.converters.common import Options, Pixels, Work
from benchmarks.convert.sources import Kind, encoded_frames

PACKAGES = ("imagecodecs",)
SETTINGS = (
    "the codec's call on each encoded frame, in memory before the clock starts, with one thread; "
    "nothing is parsed, rescaled or written"
)


def _decoder(kind: Kind) -> Any:
    import imagecodecs as ic

    return {
        "jpeg-lossless": ic.jpeg8_decode,
        "jpeg-ls": ic.jpegls_decode,
        "jpeg-2000": lambda s: ic.jpeg2k_decode(s, numthreads=1),
        "htj2k": ic.htj2k_decode,
        "jpeg": lambda s: ic.jpeg8_decode(s, colorspace="YCBCR", outcolorspace="RGB"),
    }[kind.name]


def opened(kind: Kind, files: Sequence[Path], options: Options) -> Work:
    """Frames read, decoders loaded."""
    decode = _decoder(kind)
    frames = {path.stem: list(encoded_frames(path, kind.frames)) for path in files}

    def work(files: Sequence[Path], out: Path) -> None:
        for path in files:
            for frame in frames[path.stem]:
                decode(frame)

    return work


def pixels(kind: Kind, files: Sequence[Path], out: Path) -> Pixels:
    """What it decodes."""
    decode = _decoder(kind)
    for path in files:
        for frame in encoded_frames(path, kind.frames):
            yield int(path.stem), decode(frame)
