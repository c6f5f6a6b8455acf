"""Files of each transfer syntax, made by other programs, and what their pixels must become.

`python -m tests.oracles.samples` makes them, and samples.toml says of each by what.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from dicom2cache.errors import counting
from dicom2cache.syntaxes import SYNTAXES

FOLDER = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Sample:
    """One file, and its pixels."""

    name: str
    syntax: str
    by: str
    """the program that made it"""
    dtype: str
    shape: list[int]
    sha256: str | None = None
    """of the pixels, of (H, W) or (H, W, 3), lowest byte first; None: of a lossy one another
    program's pixels are kept"""


@dataclass(frozen=True)
class Proof:
    """What came of one sample."""

    sample: str
    syntax: str
    codec: str = ""
    """what decoded it"""
    sha256: str = ""
    """of what it became here"""
    wrong: str = ""
    """why that is not what it must be"""


@cache
def samples() -> dict[str, Sample]:
    """All samples by name."""
    import tomllib

    with open(FOLDER / "samples.toml", "rb") as file:
        return {name: Sample(name, **row) for name, row in tomllib.load(file).items()}


def of_syntaxes(wanted: Collection[str]) -> list[str]:
    """Names of the samples of these transfer syntaxes, in the order of the catalogue."""
    order = list(SYNTAXES)
    found = [one for one in samples().values() if one.syntax in wanted]
    return [one.name for one in sorted(found, key=lambda one: (order.index(one.syntax), one.name))]


def proved_here(names: Iterable[str]) -> Iterable[Proof]:
    """Decode samples as a build does, header and pixels, in this process."""
    for name in names:
        sample = samples()[name]
        try:
            yield _proved(sample)
        except Exception as e:
            cause = e.__cause__ or e  # no sample is damaged: what the library says is what counts
            yield Proof(name, sample.syntax, wrong=f"{type(cause).__name__}: {cause}")


def _proved(sample: Sample) -> Proof:
    from dicom2cache.frames.decode import Source
    from dicom2cache.headers.read import read_header
    from dicom2cache.privacy.keys import PatientKey
    from dicom2cache.records import Candidate

    path = FOLDER / f"{sample.name}.dcm"
    about = path.stat()
    one = Candidate(0, path.name, about.st_size, about.st_mtime_ns, about.st_ino)
    header = read_header([os.fspath(FOLDER)], one, PatientKey(b"of nobody"))
    with Source(os.fspath(path), header) as source:
        stored = source.read(0)
    pixels = np.ascontiguousarray(stored.pixels)
    if sys.byteorder == "big":
        pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    wrong = ""
    if (pixels.dtype, pixels.shape) != (np.dtype(sample.dtype), tuple(sample.shape)):
        wrong = f"{pixels.shape} {pixels.dtype}, expected {tuple(sample.shape)} {sample.dtype}"
    elif sample.sha256 is None:
        with np.load(FOLDER / "references.npz", allow_pickle=False) as references:
            off = np.abs(pixels.astype(np.int64) - references[sample.name].astype(np.int64))
        if int(off.max()) > 1:
            wrong = (
                f"{int((off > 1).sum())} of {counting(off.size, 'value')} differ by more than one "
                f"grey level from those of another program, by {int(off.max())} at most"
            )
    elif digest != sample.sha256:
        wrong = f"other pixels: SHA-256 {digest}, expected {sample.sha256}"
    return Proof(sample.name, sample.syntax, stored.codec, digest, wrong)
