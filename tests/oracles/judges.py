"""The oracles: each gives the values that a frame should have, or says why it cannot judge.

An oracle's known limits are in `excuse`, with their reason; a limit is a rule over the header, so
that files from elsewhere meet the same rules.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

Frames = NDArray[Any]
"""(n, H, W) or (n, H, W, 3)"""

JPEG_8_12 = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
JPEG_LOSSLESS = {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
RLE = "1.2.840.10008.1.2.5"
DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
MAP = "1.2.840.10008.5.1.4.1.1.30"


class CannotJudge(Exception):
    """This oracle cannot read the file."""


@dataclass(frozen=True)
class Oracle:
    """A judge."""

    name: str
    excuse: Callable[[Dataset], str | None]
    """why its answer does not count for a file with this header; None: it counts"""
    read: Callable[[Path, Dataset], Frames]
    """values after the modality LUT, colour as RGB; raises CannotJudge"""


def _syntax(ds: Dataset) -> str:
    return str(ds.file_meta.get("TransferSyntaxUID", ""))


def samples_of(ds: Dataset) -> int:
    """Samples of a pixel; what has no such element (ACR-NEMA) has one."""
    return int(ds.get("SamplesPerPixel") or 1)


def _is_colour(ds: Dataset) -> bool:
    return samples_of(ds) == 3 or _photometric(ds) == "PALETTE COLOR"


def _photometric(ds: Dataset) -> str:
    return str(ds.get("PhotometricInterpretation") or "MONOCHROME2")


def _as_frames(pixels: Frames, ds: Dataset) -> Frames:
    """With an axis of frames, whatever the size of a frame."""
    return pixels if pixels.ndim == 3 + _is_colour(ds) else pixels[None]


def _modality_lut(ds: Dataset) -> Dataset | None:
    """The item of a modality LUT sequence, unless it is empty."""
    found = ds.get("ModalityLUTSequence")
    return found[0] if found and "LUTData" in found[0] else None


def _simpleitk_excuse(ds: Dataset) -> str | None:
    photometric = _photometric(ds)
    big = _syntax(ds) == "1.2.840.10008.1.2.2"
    if photometric == "MONOCHROME1" and ("RescaleSlope" in ds or ds.get("PixelRepresentation")):
        return "inverts MONOCHROME1, undone here for unsigned values without a slope only"
    if ds.BitsAllocated == 1:
        return "returns 255 for 1 in 1-bit images"
    if _modality_lut(ds) is not None:
        return "ignores the modality LUT sequence"
    transforms = [_linear(g) for g in ds.get("PerFrameFunctionalGroupsSequence", [])]
    if any(t != transforms[0] for t in transforms):
        return "takes the first frame's slope for all"
    if _real_world(ds):
        return "ignores real world values"
    if ds.get("SOPClassUID") == DOSE:
        return "reads RT Dose as a volume of its own kind"
    if big and ds.BitsAllocated == 32:
        return "wrong for big-endian 32 bits"
    if samples_of(ds) == 3 and ds.BitsAllocated > 8:
        return "wrong for 16- and 32-bit colour"
    if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
        return "does not read float pixel data"
    return None


def _simpleitk_read(path: Path, ds: Dataset) -> Frames:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError as e:
        raise CannotJudge(str(e).strip().splitlines()[-1][:80]) from e
    if _photometric(ds) == "MONOCHROME1":  # it returns 2^BitsStored - 1 - stored
        pixels = (1 << ds.BitsStored) - 1 - pixels.astype(np.int64)
    if _photometric(ds) == "PALETTE COLOR" and pixels.dtype == np.uint16:
        low, high = pixels & 0xFF, pixels >> 8  # 8-bit colours in 16-bit entries, as ours
        pixels = high if not low.any() or (low == high).all() else pixels
    return _as_frames(pixels, ds)


def _dcmtk_excuse(ds: Dataset) -> str | None:
    if _syntax(ds).startswith("1.2.840.10008.1.2.4.9") or ".4.20" in _syntax(ds):
        return "DCMTK has no JPEG 2000"
    if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
        return "the comparison is of integer pixel data"
    return None


def _dcmtk_read(path: Path, ds: Dataset) -> Frames:
    """Decoded by DCMTK to a native file; only the arithmetic after it is ours, in float64."""
    syntax = _syntax(ds)
    program = ["dcmconv", "+te"]
    for some, tool in ((JPEG_8_12 | JPEG_LOSSLESS, ["dcmdjpeg", "+te"]), (JPEG_LS, ["dcmdjpls"])):
        program = tool if syntax in some else program
    program = ["dcmdrle"] if syntax == RLE else program
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "native.dcm")
        done = subprocess.run([*program, str(path), str(out)], capture_output=True, check=False)
        if done.returncode or not out.exists():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise CannotJudge(said[-1][:80] if said else f"{program[0]} failed")
        native = dcmread(out)
        data = native.PixelData
        if syntax == "1.2.840.10008.1.2.2" and ds.BitsAllocated == 32:
            # It swaps OW as two 16-bit words and leaves these in their order: put them right.
            data = np.frombuffer(data, "<u2").reshape(-1, 2)[:, ::-1].tobytes()
    return _arithmetic(native, ds, data)


def _arithmetic(native: Dataset, ds: Dataset, data: bytes) -> Frames:
    rows, columns, samples = native.Rows, native.Columns, samples_of(native)
    frames = int(native.get("NumberOfFrames") or 1)
    photometric, bits = _photometric(native), native.BitsAllocated
    if photometric == "YBR_FULL_422":
        raise CannotJudge("DCMTK leaves native 4:2:2 as it is")
    count = frames * rows * columns * samples
    if bits == 1:
        plain = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[:count]
    else:
        kind = ("i" if native.get("PixelRepresentation") else "u") + str(bits // 8)
        if len(data) < count * bits // 8:
            raise CannotJudge("the native file is shorter than its header says")
        plain = np.frombuffer(data, "<" + kind, count)
    stored = _extend(plain.astype(np.int64), native)
    if samples == 3:
        shape = (frames, 3, rows, columns) if native.get("PlanarConfiguration") else None
        pixels = stored.reshape(shape or (frames, rows, columns, 3))
        pixels = np.moveaxis(pixels, 1, -1) if shape else pixels
        return _rgb(pixels) if photometric.startswith("YBR_FULL") else pixels
    pixels = stored.reshape(frames, rows, columns)
    if photometric == "PALETTE COLOR":
        raise CannotJudge("palettes are judged by dcm2pnm")
    return modality(pixels, ds)


def _extend(values: NDArray[np.int64], ds: Dataset) -> NDArray[np.int64]:
    """BitsStored bits ending at HighBit, as Python would do it one by one."""
    bits = ds.BitsStored
    # All bits are stored: there is one place for them, whatever HighBit says.
    high = bits - 1 if bits == ds.BitsAllocated else ds.HighBit
    values = (values >> (high + 1 - bits)) & ((1 << bits) - 1)
    if ds.get("PixelRepresentation"):
        top = 1 << (bits - 1)
        values = (values ^ top) - top
    return values


def _rgb(ybr: NDArray[Any]) -> NDArray[Any]:
    y, cb, cr = (ybr[..., k].astype(np.float64) for k in range(3))
    r = y + 1.402 * (cr - 128)
    g = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    b = y + 1.772 * (cb - 128)
    return np.clip(np.floor(np.stack([r, g, b], axis=-1) + 0.5), 0, 255)


def modality(stored: NDArray[Any], ds: Dataset) -> NDArray[np.float64]:
    """Slope and intercept per frame, shared or of the file; DoseGridScaling; a LUT. In float64.

    Of a parametric map its real world values, where they are one line.
    """
    if (lut := _modality_lut(ds)) is not None:
        count, first = lut.LUTDescriptor[0] or 65536, lut.LUTDescriptor[1]
        data = lut.LUTData
        entries = np.array(
            np.frombuffer(data, "<u2") if isinstance(data, bytes) else data, np.float64
        )
        return np.asarray(entries[np.clip(stored - first, 0, count - 1)])
    if ds.get("SOPClassUID") == DOSE:
        return np.asarray(stored * float(ds.get("DoseGridScaling", 1)), np.float64)
    read = _real_line if _real_world(ds) else _linear
    per_frame = [read(g) for g in ds.get("PerFrameFunctionalGroupsSequence", [])]
    shared = [read(g) for g in ds.get("SharedFunctionalGroupsSequence", [])]
    found = np.empty(stored.shape, np.float64)
    top = (ds.get("RescaleSlope"), ds.get("RescaleIntercept"))
    for k in range(len(stored)):
        own = per_frame[k] if len(per_frame) == len(stored) else None
        slope, intercept = own or (shared[0] if shared else None) or top
        slope = 1.0 if slope in (None, "") else float(slope)
        intercept = 0.0 if intercept in (None, "") else float(intercept)
        found[k] = slope * stored[k] + intercept
    return found


def _linear(group: Dataset) -> tuple[Any, Any] | None:
    items = group.get("PixelValueTransformationSequence")
    return (items[0].RescaleSlope, items[0].RescaleIntercept) if items else None


def _real_world(ds: Dataset) -> bool:
    """True for a parametric map (PS3.3 A.75) that says what its values measure."""
    groups = [
        *ds.get("SharedFunctionalGroupsSequence", []),
        *ds.get("PerFrameFunctionalGroupsSequence", []),
    ]
    return ds.get("SOPClassUID") == MAP and any(
        "RealWorldValueMappingSequence" in g for g in groups
    )


def _real_line(group: Dataset) -> tuple[Any, Any] | None:
    items = group.get("RealWorldValueMappingSequence")
    return (items[0].RealWorldValueSlope, items[0].RealWorldValueIntercept) if items else None


def _dcm2pnm_excuse(ds: Dataset) -> str | None:
    if _photometric(ds) not in ("PALETTE COLOR", "RGB"):
        return "renders grey for display"
    if _syntax(ds).startswith("1.2.840.10008.1.2.4.9") or ".4.20" in _syntax(ds):
        return "DCMTK has no JPEG 2000"
    if samples_of(ds) == 3 and ds.BitsAllocated > 8:
        return "renders 8 bits"
    return None


def _dcm2pnm_read(path: Path, ds: Dataset) -> Frames:
    frames = []
    for k in range(int(ds.get("NumberOfFrames") or 1)):
        command = ["dcm2pnm", "--write-raw-pnm", "--frame", str(k + 1), str(path), "-"]
        with tempfile.TemporaryDirectory() as folder:
            command[-1] = str(Path(folder, "out.pnm"))
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip().splitlines()
                raise CannotJudge(said[-1][:80] if said else "dcm2pnm failed")
            data = Path(command[-1]).read_bytes()
        magic, size, top, pixels = data.split(b"\n", 3)
        width, height = map(int, size.split())
        if magic != b"P6" or top != b"255":
            raise CannotJudge(f"dcm2pnm wrote {magic.decode()} up to {top.decode()}")
        frames.append(np.frombuffer(pixels, np.uint8, width * height * 3).reshape(height, width, 3))
    return np.stack(frames)


def _highdicom_excuse(ds: Dataset) -> str | None:
    if _photometric(ds) == "PALETTE COLOR":
        return "keeps 8-bit palettes in 16 bits"
    if ds.get("SOPClassUID") == DOSE:
        return "does not apply Dose Grid Scaling"
    if _modality_lut(ds) is not None and ds.get("PixelRepresentation"):
        return "takes the last entry of a modality LUT for negative stored values"
    return None


def _highdicom_read(path: Path, ds: Dataset) -> Frames:
    import highdicom

    try:
        image = highdicom.imread(path)
        return np.asarray(
            image.get_frames(
                apply_real_world_transform=_real_world(ds),
                apply_modality_transform=None,  # where there is one
                apply_voi_transform=False,
                apply_presentation_lut=False,
                apply_icc_profile=False,
                dtype=np.float64,
            )
        )
    except Exception as e:  # whatever its codecs or checks raise: it gives no answer
        raise CannotJudge(f"{type(e).__name__}: {str(e).strip().splitlines()[0][:70]}") from e


ORACLES = (
    Oracle("SimpleITK", _simpleitk_excuse, _simpleitk_read),
    Oracle("DCMTK", _dcmtk_excuse, _dcmtk_read),
    Oracle("dcm2pnm", _dcm2pnm_excuse, _dcm2pnm_read),
    Oracle("highdicom", _highdicom_excuse, _highdicom_read),
)
