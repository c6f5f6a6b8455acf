"""Header and frame number to a stored frame: bytes out of the file, decoded, masked, in RGB."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache import syntaxes
from dicom2cache.errors import FrameError
from dicom2cache.frames import decoders, fragments
from dicom2cache.frames.coded import Coded, Decoded
from dicom2cache.headers.luts import modality_lut, palette, voi_lut
from dicom2cache.headers.tags import name, raw
from dicom2cache.pixels.colour import palette_to_rgb, ybr_422_to_full, ybr_full_to_rgb
from dicom2cache.pixels.intensity import clean_ends, has_other_bits, mask_stored
from dicom2cache.pixels.window import VoiLut
from dicom2cache.sources import inflate
from dicom2cache.sources.file import read_into

Buffer = bytes | NDArray[np.uint8]


@dataclass(frozen=True)
class Stored:
    """One decoded frame: colour is RGB, grey is as stored, native-endian, masked by BitsStored."""

    pixels: NDArray[Any]
    """(H, W) or (H, W, 3)"""
    codec: str
    flags: tuple[str, ...] = ()
    ends: tuple[int, int] | None = None
    """least and greatest value of `pixels`, where they are known"""


@dataclass
class Source:
    """An open file and its header (a row of FILES); frames are read one at a time.

    Use as a context manager. Raises FrameError if the file is not the one that was planned.
    """

    path: str
    header: dict[str, Any]
    room: NDArray[np.uint8] | None = None
    """memory that a frame may be read or decoded into, so that it need not be copied"""
    _file: IO[bytes] = field(init=False, repr=False)

    def __enter__(self) -> Source:
        self._file = open(self.path, "rb", buffering=0)
        try:
            self.check_unchanged()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def check_unchanged(self) -> None:
        """Raises FrameError if size or time of the open file differ from the plan's."""
        status = os.fstat(self._file.fileno())
        planned = (self.header["size"], self.header["mtime_ns"])
        if (status.st_size, status.st_mtime_ns) != planned:
            raise FrameError(
                f"changed since plan: {status.st_size} bytes now, {planned[0]} planned; "
                "build again with --overwrite"
            )

    def read(self, frame: int) -> Stored:
        """Frame `frame`, from 0.

        Raises FrameError if it cannot be decoded truly, OSError if it cannot be read, MemoryError;
        both name the file.
        """
        try:
            return self._read(frame)
        except OSError as e:
            e.filename = e.filename or self.path
            raise
        except MemoryError as e:
            raise MemoryError(f"{self.path}: {e}" if str(e) else self.path) from e

    def _read(self, frame: int) -> Stored:
        h = self.header
        if h["pixel_keyword"] != "PixelData":
            kind = f"f{h['bits_allocated'] // 8}"
            flat = np.frombuffer(self._native(frame), self._order + kind)
            flat = flat.reshape(h["height"], h["width"])
            return Stored(_native_order(flat), "native", self._late_elements)
        if h["transfer_syntax"] in syntaxes.NATIVE:
            pixels, late = self._native_pixels(frame), self._late_elements
            return self._finish(pixels, h["photometric"], "native", late)
        decoded = decoders.decode(self._encoded(frame), h["transfer_syntax"], self._coded)
        pixels, flags = self._fit(decoded)
        flags = (*flags, *self._fragments.flags)
        return self._finish(pixels, decoded.photometric, decoded.codec, flags)

    @property
    def _order(self) -> str:
        return ">" if self.header["transfer_syntax"] in syntaxes.BIG_ENDIAN else "<"

    @cached_property
    def _late_elements(self) -> tuple[str, ...]:
        """A flag if elements follow that belong before the pixels: nobody looks for them there."""
        h = self.header
        end = h["pixel_offset"] + h["pixel_length"]
        if h["transfer_syntax"] == syntaxes.DEFLATED or end + 8 > h["size"]:
            return ()
        data = os.pread(self._file.fileno(), 4, end)
        order = ">" if h["transfer_syntax"] == syntaxes.EXPLICIT_BE else "<"
        group, element = np.frombuffer(data, f"{order}u2").tolist()
        return ("elements-after-pixels",) if 0 < group << 16 | element < 0x7FE00010 else ()

    @property
    def _coded(self) -> Coded:
        h = self.header
        return Coded(
            h["height"], h["width"], h["samples"], h["bits_allocated"], h["photometric"],
            h["planar"] or 0, self.room,
        )  # fmt: skip

    @cached_property
    def dataset(self) -> Any:
        """The header by pydicom, for lookup tables."""
        if self.header["transfer_syntax"] == syntaxes.DEFLATED:
            return inflate.parse(self._file, None)[0]
        return _dcmread(self.path)

    @cached_property
    def _inflater(self) -> inflate.Inflater:
        return inflate.Inflater(self._file)

    @cached_property
    def modality_lut(self) -> Any:
        """The file's modality LUT."""
        return modality_lut(self.dataset)

    @cached_property
    def voi_lut(self) -> VoiLut:
        """The first item of the file's VOI LUT sequence."""
        return voi_lut(self.dataset)

    @cached_property
    def without_window(self) -> str:
        """Why the file has no window of its own that could be applied."""
        ds, keywords = self.dataset, ("WindowCenter", "WindowWidth")
        if "windows-unreadable" not in (self.header["flags"] or ()):
            return "the file has no VOI LUT and no Window Center (0028,1050)"
        if not any(keyword in ds for keyword in keywords):
            return f"{name('WindowCenter')} or {name('WindowWidth')} of its frames is no number"
        said = " and ".join(f"{name(keyword)} is {raw(ds, keyword)}" for keyword in keywords)
        return f"{said}, no pairs of decimal numbers, such as 40.5 and 400 (PS3.5 6.2)"

    @cached_property
    def _palette(self) -> Any:
        return palette(self.dataset)

    def _bytes(self, offset: int, count: int) -> Buffer:
        """Bytes of the pixel data; of a plain file in memory that may be written to."""
        place = self.header["pixel_offset"] + offset
        if self.header["transfer_syntax"] == syntaxes.DEFLATED:
            data: Buffer = self._inflater.read(place, count)
            done = len(data)
        else:
            room = self.room
            data = np.empty(count, np.uint8) if room is None else room[:count]
            if len(data) < count:
                data = np.empty(count, np.uint8)
            done = read_into(self._file.fileno(), place, data.data)
        if done < count:
            raise FrameError(f"pixel data is truncated: {done} of {count} bytes of a frame")
        return data

    def _native(self, frame: int) -> Buffer:
        h = self.header
        size = h["height"] * h["width"] * h["samples"] * h["bits_allocated"] // 8
        if h["photometric"] == "YBR_FULL_422":
            size = h["height"] * h["width"] * 2 * h["bits_allocated"] // 8
        return self._ordered(frame * size, size)

    def _ordered(self, offset: int, count: int) -> Buffer:
        """Bytes of the pixel data; those of samples in bytes or bits in the order of the pixels."""
        h = self.header
        if h["bits_allocated"] > 8 or self._order == "<" or h["pixel_vr"] != "OW":
            return self._bytes(offset, count)
        # Samples packed in 16-bit big-endian words (PS3.5 8.1.2, D.2): whole words are swapped.
        first, last = offset & ~1, offset + count + 1 & ~1
        words = np.frombuffer(self._bytes(first, last - first), ">u2")
        return words.astype("<u2").tobytes()[offset - first :][:count]

    def _native_pixels(self, frame: int) -> NDArray[Any]:
        h = self.header
        rows, columns, samples = h["height"], h["width"], h["samples"]
        if h["bits_allocated"] == 1:  # packed across frames, least significant bit first
            first = frame * rows * columns
            data = self._ordered(first // 8, (first % 8 + rows * columns + 7) // 8)
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            return bits[first % 8 : first % 8 + rows * columns].reshape(rows, columns)
        if h["photometric"] == "YBR_FULL_422":
            if columns % 2 or h["bits_allocated"] != 8:
                raise FrameError(
                    f"YBR_FULL_422 with {columns} columns of {h['bits_allocated']} bits; legal: an "
                    "even number of columns, 8 bits"
                )
            return ybr_422_to_full(np.frombuffer(self._native(frame), np.uint8), rows, columns)
        flat = np.frombuffer(self._native(frame), f"{self._order}u{h['bits_allocated'] // 8}")
        if samples == 1:
            return _native_order(flat.reshape(rows, columns))
        if h["planar"]:
            planes = flat.reshape(samples, rows, columns)
            return _native_order(np.ascontiguousarray(np.moveaxis(planes, 0, -1)))
        return _native_order(flat.reshape(rows, columns, samples))

    @cached_property
    def _fragments(self) -> fragments.Frames:
        return fragments.find_frames(
            self._file.fileno(), self.header["pixel_offset"], self.header["size"],
            self.header["frames"], self.header["transfer_syntax"] not in syntaxes.UNMARKED,
        )  # fmt: skip

    def _encoded(self, frame: int) -> bytes:
        return self._fragments.read(self._file.fileno(), frame)

    def _fit(self, decoded: Decoded) -> tuple[NDArray[Any], tuple[str, ...]]:
        """(samples in BitsAllocated, flags); signed ones extended from the stream's precision."""
        h = self.header
        pixels, flags = decoded.pixels, decoded.flags
        if pixels.dtype.kind not in "iu":
            raise FrameError(f"the codestream holds {pixels.dtype}, legal: integers")
        width, precision = h["bits_allocated"], decoded.precision
        conflict = precision > width
        if conflict:
            half = 1 << (width - 1)
            low, high = int(pixels.min()), int(pixels.max())
            most = half - 1 if pixels.dtype.kind == "i" else 2 * half - 1
            if low < most + 1 - 2 * half or high > most:
                raise FrameError(
                    f"the codestream has {precision} bits and values from {low} to {high}, "
                    f"Bits Allocated (0028,0100) is {width}"
                )
        elif h["signed"] and pixels.dtype.kind == "u" and 0 < precision < h["bits_stored"]:
            conflict = bool(int(pixels.max()) >> (precision - 1))
            pixels = mask_stored(pixels, precision, precision - 1, True)
        if conflict:
            flags = (*flags, "precision-conflict")
        return pixels.astype(f"u{max(width, 8) // 8}", copy=False), flags

    def _finish(
        self, pixels: NDArray[Any], photometric: str, codec: str, flags: tuple[str, ...]
    ) -> Stored:
        h = self.header
        written = h["transfer_syntax"] in syntaxes.AS_WRITTEN
        high = h["high_bit"] if written else h["bits_stored"] - 1
        raw, bits, signed = pixels, h["bits_stored"], bool(h["signed"])
        ends = clean_ends(raw, bits, high, signed)
        if ends is not None:
            pixels = raw.view(f"{'i' if signed else 'u'}{raw.dtype.itemsize}")
        else:
            pixels = mask_stored(raw, bits, high, signed)
            if has_other_bits(raw, pixels, bits, high, h["overlay_bits"] or 0):
                flags = (*flags, "high-bits")
        if photometric == "PALETTE COLOR":
            return Stored(palette_to_rgb(pixels, self._palette), codec, flags)
        if h["samples"] == 1 or photometric == "RGB":
            return Stored(pixels, codec, flags, ends)
        if pixels.dtype != np.uint8:
            raise FrameError(f"{photometric} with {h['bits_allocated']} bits; legal: 8")
        if photometric in ("YBR_FULL", "YBR_FULL_422"):
            pixels = ybr_full_to_rgb(pixels)
        else:
            raise FrameError(
                f"Photometric Interpretation (0028,0004) {photometric} is not supported here; "
                "legal: RGB, YBR_FULL, YBR_FULL_422, and YBR_RCT or YBR_ICT in JPEG 2000"
            )
        return Stored(pixels, codec, flags)


def _native_order(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _dcmread(path: str) -> Any:
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the header was judged when it was planned
        return dcmread(path, force=True, stop_before_pixels=True)


class OpenSources:
    """Open sources, a few at a time: neighbours in a shard often come from one file."""

    _MOST = 4

    def __init__(self, roots: Sequence[str], headers: dict[int, dict[str, Any]]) -> None:
        self._roots, self._headers = roots, headers
        self._open: dict[int, Source] = {}

    def open(self, file: int) -> Source:
        """The source of a row of FILES; raises as Source."""
        if file in self._open:
            return self._open[file]
        while len(self._open) >= self._MOST:
            self._open.pop(next(iter(self._open))).__exit__()
        header = self._headers[file]
        path = os.path.join(self._roots[header["root"]], header["path"])
        self._open[file] = Source(path, header).__enter__()
        return self._open[file]

    def close(self) -> None:
        """Close all."""
        for source in self._open.values():
            source.__exit__()


Read = Callable[[Source, int], Stored]
