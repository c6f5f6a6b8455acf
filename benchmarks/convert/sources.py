"""DICOM files that every converter is given: real images at real sizes, the same every time.

Run: python -m benchmarks.convert.sources FOLDER KIND, which convert does in a process of its
own, so that its memory is not taken for that of a contender.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

SERIES = 256
"""files of a series, in a folder of their own"""
_VARIANTS = 32
"""of each real slice: mirrored, turned over and shifted"""


@dataclass(frozen=True)
class Kind:
    """Files of one transfer syntax."""

    name: str
    title: str
    syntax: str
    """transfer syntax UID"""
    files: int
    frames: int = 1
    """of a file"""
    lossy: bool = False

    @property
    def colour(self) -> bool:
        """RGB ultrasound, not CT."""
        return self.name in ("jpeg", "cine")

    @property
    def frame_bytes(self) -> int:
        """Of a frame, decoded."""
        return 480 * 640 * 3 if self.colour else 512 * 512 * 2

    @property
    def few(self) -> int:
        """Files of a run that is nearly all start-up."""
        return 1 if self.frames > 1 else 8


_CT = "CT 512x512, 12 bits"
KINDS = {
    kind.name: kind
    for kind in (
        Kind("ct", f"{_CT}, uncompressed", "1.2.840.10008.1.2.1", 10_240),
        Kind("jpeg-lossless", f"{_CT}, JPEG Lossless SV1", "1.2.840.10008.1.2.4.70", 1536),
        Kind("jpeg-ls", f"{_CT}, JPEG-LS Lossless", "1.2.840.10008.1.2.4.80", 1536),
        Kind("jpeg-2000", f"{_CT}, JPEG 2000 Lossless", "1.2.840.10008.1.2.4.90", 512),
        Kind("htj2k", f"{_CT}, HTJ2K Lossless", "1.2.840.10008.1.2.4.201", 1536),
        Kind("jpeg", "Ultrasound 640x480 colour, JPEG Baseline", "1.2.840.10008.1.2.4.50", 1024,
             lossy=True),
        Kind("cine", "Ultrasound 640x480 RGB, uncompressed, 30 frames a file",
             "1.2.840.10008.1.2.1", 24, frames=30),
    )
}  # fmt: skip


def true_frame(kind: Kind, file: int, frame: int, distinct: int) -> int:
    """Which of the `distinct` images of truth.npy lies in a frame."""
    return (file * kind.frames + frame) % distinct


def paths_of(folder: Path, which: str = "all") -> list[Path]:
    """The files of `all`, or of `few`, by number."""
    return sorted((folder / which).rglob("*.dcm"))


def _real(name: str) -> str:
    import data_store
    from pydicom.data import get_testdata_file

    stored = Path(data_store.__path__[0]) / "data" / name
    found = str(stored) if stored.exists() else get_testdata_file(name, download=False)
    assert isinstance(found, str), name
    return found


def slices() -> Any:
    """Real CT slices of three scanners, varied: (n, 512, 512) int16, HU."""
    import imagecodecs
    import numpy as np
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    def codestream(name: str) -> bytes:
        return bytes(next(generate_frames(dcmread(_real(name)).PixelData)))

    real = (
        dcmread(_real("693_UNCR.dcm")).pixel_array.astype(np.int16) - 1024,
        imagecodecs.jpeg2k_decode(codestream("explicit_VR-UN.dcm")).astype(np.int16),
        imagecodecs.jpeg8_decode(codestream("bad_sequence.dcm")).astype(np.int16) - 1024,
    )
    varied = []
    for k in range(_VARIANTS):
        for hu in real:
            plane = np.roll(np.clip(hu, -1024, 3071), 16 * (k // 4), axis=k % 2)
            plane = plane[:: -1 if k % 4 > 1 else 1, :: -1 if k % 2 else 1]
            varied.append(np.ascontiguousarray(plane))
    return np.stack(varied)


def scenes() -> Any:
    """The 120 frames of a real colour ultrasound: (n, 480, 640, 3) uint8, RGB."""
    import imagecodecs
    import numpy as np
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    ds = dcmread(_real("color3d_jpeg_baseline.dcm"))
    streams = generate_frames(ds.PixelData, number_of_frames=int(ds.NumberOfFrames))
    return np.stack(
        [imagecodecs.jpeg8_decode(s, colorspace="YCBCR", outcolorspace="RGB") for s in streams]
    )


def encoder(kind: Kind) -> Callable[[Any], Any] | None:
    """Image to codestream; None if the syntax is native."""
    import imagecodecs as ic

    return {
        "ct": None, "cine": None,
        "jpeg-lossless": lambda a: ic.jpeg8_encode(a, lossless=True, predictor=1, bitspersample=12),
        "jpeg-ls": lambda a: ic.jpegls_encode(a, level=0),
        "jpeg-2000": lambda a: ic.jpeg2k_encode(
            a, level=0, codecformat="j2k", reversible=True, bitspersample=12, numthreads=1
        ),
        "htj2k": lambda a: ic.htj2k_encode(a, reversible=True),
        "jpeg": lambda a: ic.jpeg8_encode(
            a, level=90, colorspace="RGB", outcolorspace="YCBCR", subsampling="422"
        ),
    }[kind.name]  # fmt: skip


def _header(kind: Kind) -> Any:
    """A real header: of pydicom's CT sample (140 elements, 6 KiB), or of a real ultrasound."""
    from pydicom import dcmread, examples
    from pydicom.uid import UID

    source = _real("color3d_jpeg_baseline.dcm") if kind.colour else examples.get_path("ct")
    ds = dcmread(source)
    del ds.PixelData
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue",
                    "DataSetTrailingPadding", "LossyImageCompression",
                    "FrameTime", "FrameIncrementPointer", "NumberOfFrames"):  # fmt: skip
        if keyword in ds:
            del ds[keyword]
    if kind.colour:
        ds.Rows, ds.Columns, ds.PlanarConfiguration = 480, 640, 0
        ds.PhotometricInterpretation = "YBR_FULL_422" if kind.name == "jpeg" else "RGB"
        many = kind.frames > 1
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1." + ("3.1" if many else "6.1")
        if many:
            ds.NumberOfFrames, ds.FrameTime = kind.frames, 33.3
            ds.FrameIncrementPointer = 0x00181063
    else:
        ds.Rows = ds.Columns = 512
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelSpacing = [0.7, 0.7]
    ds.file_meta.TransferSyntaxUID = UID(kind.syntax)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    return ds


def _write_series(folder: Path, kind: Kind, series: int) -> None:
    import numpy as np
    from pydicom.dataelem import DataElement
    from pydicom.encaps import encapsulate
    from pydicom.uid import generate_uid

    truth, ds = np.load(folder / "truth.npy", mmap_mode="r"), _header(kind)
    streams = folder / "streams.bin"
    ends = json.loads((folder / "ends.json").read_text()) if streams.exists() else []
    packed = streams.read_bytes() if ends else b""
    here = folder / "all" / f"{series:03d}"
    here.mkdir(parents=True)
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[kind.name, "series", str(series)])
    ds.SeriesNumber = series + 1
    size = 1 if kind.frames > 1 else SERIES
    for k in range(series * size, min(kind.files, (series + 1) * size)):
        which = [true_frame(kind, k, f, len(truth)) for f in range(kind.frames)]
        if ends:
            parts = [packed[ends[i - 1] if i else 0 : ends[i]] for i in which]
            pixels = DataElement(0x7FE00010, "OB", encapsulate(parts), is_undefined_length=True)
        elif kind.colour:
            pixels = DataElement(0x7FE00010, "OB", truth[which].tobytes())
        else:
            stored = (truth[which[0]] + np.int16(1024)).astype(np.uint16)
            pixels = DataElement(0x7FE00010, "OW", stored.tobytes())
        ds[0x7FE00010] = pixels
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[kind.name, str(k)])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.InstanceNumber = k % size + 1
        if not kind.colour:
            ds.ImagePositionPatient, ds.SliceLocation = [-158.1, -179.0, 2.5 * (k % size)], None
            ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.save_as(here / f"{k:06d}.dcm", enforce_file_format=True)


def write(folder: Path, kind: Kind) -> None:
    """The files in `folder`/all/SERIES, a few again in few/, their images in truth.npy."""
    import numpy as np

    folder.mkdir(parents=True)
    images = scenes() if kind.colour else slices()
    np.save(folder / "truth.npy", images)
    encode = encoder(kind)
    if encode is not None:
        plain = images if kind.colour else (images + np.int16(1024)).astype(np.uint16)
        streams = [encode(image) for image in plain]
        (folder / "streams.bin").write_bytes(b"".join(streams))
        (folder / "ends.json").write_text(json.dumps(np.cumsum([*map(len, streams)]).tolist()))
    count = -(-kind.files // (1 if kind.frames > 1 else SERIES))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(_write_series, folder, kind), range(count)))
    for path in paths_of(folder)[: kind.few]:
        link = folder / "few" / path.relative_to(folder / "all")
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, link)
    os.sync()


def encoded_frames(path: Path, frames: int) -> Iterator[bytes]:
    """The codestreams of a file."""
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    yield from generate_frames(dcmread(path).PixelData, number_of_frames=frames)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Kind(**json.loads(sys.argv[2])))
