"""Header and frame number to a stored frame: bytes out of the file, decoded, masked, in RGB."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from dicom2cache import syntaxes
from dicom2cache.errors import FrameError, counting
from dicom2cache.frames import decoders, fragments, waveform
from dicom2cache.frames.coded import Coded, Decoded
from dicom2cache.frames.samples import Samples, is_lossy, stored_samples
from dicom2cache.headers.luts import modality_lut, palette, voi_lut
from dicom2cache.headers.structures import read_structures
from dicom2cache.headers.tags import name, raw
from dicom2cache.pixels.colour import palette_to_rgb, ybr_422_to_full, ybr_full_to_rgb
from dicom2cache.pixels.intensity import clean_ends, has_other_bits, mask_stored
from dicom2cache.pixels.outlines import Outlines, structures_in
from dicom2cache.pixels.window import VoiLut
from dicom2cache.planning.masks.outlined import numbers_of
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate, Header, Multiplex
from dicom2cache.sources import inflate
from dicom2cache.sources.place import Opened, Raw, open_at, place_of

Buffer = bytes | NDArray[np.uint8]
Room = NDArray[np.uint8] | None
"""memory that a frame may be read or decoded into, so that it need not be copied"""


@dataclass(frozen=True)
class Stored:
    """One decoded frame: colour is RGB, grey is as stored, native-endian, masked by BitsStored."""

    pixels: NDArray[Any]
    """(H, W) or (H, W, 3); of a waveform (channels, samples)"""
    codec: str
    flags: tuple[str, ...] = ()
    ends: tuple[int, int] | None = None
    """least and greatest value of `pixels`, where they are known"""
    lossy: bool = False
    """a codestream of it has lost something: its values may overshoot"""


@dataclass
class Source:
    """An open file and its header (a row of FILES); frames are read one at a time.

    Use as a context manager. Raises FrameError if the file is not the one that was planned.
    """

    path: str
    header: Header
    treated: tuple[Any, list[Any]] | None = field(init=False, repr=False, default=None)
    """of a mosaic: (frame and how it was treated, values of each slice)"""
    _file: Opened = field(init=False, repr=False)
    _mosaic: tuple[int, Stored | FrameError] | None = field(init=False, repr=False, default=None)
    _voi_luts: dict[Any, VoiLut] = field(init=False, repr=False, default_factory=dict)

    def __enter__(self) -> Source:
        self._file = open_at(place_of(self.path, self.header))
        try:
            if not self._file.was_as(self.header["size"], self.header["mtime_ns"]):
                self.check_unchanged()
            self._file.check_whole()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def find_frames(self) -> None:
        """Find where encapsulated frames begin, before several threads read them."""
        _ = self._fragments

    def check_unchanged(self) -> None:
        """Raises FrameError if size or time of the open file differ from the plan's."""
        same, size = self._file.is_as(self.header["size"], self.header["mtime_ns"])
        if not same:
            member = self.header["member"]
            planned = member["archive"] if member else self.header["size"]
            raise FrameError(
                f"changed since plan: {size} bytes now, {planned} planned; "
                "build again with --overwrite"
            )

    def read(self, frame: int, room: Room = None) -> Stored:
        """Frame `frame`, from 0; `room` is memory that it may be read or decoded into.

        Raises FrameError if it cannot be decoded truly, OSError if it cannot be read, MemoryError;
        both name the file.
        """
        with _Named(self.path):
            return self._once(frame) if self.header["parts"] else self._read(frame, room)

    def decoded(self, frame: int, room: Room = None) -> Decoded:
        """An encapsulated frame as its decoder gives it, for `stored`. Raises as `read`."""
        with _Named(self.path):
            return self._decoded(frame, room)

    def stored(self, decoded: Decoded) -> Stored:
        """What `read` makes of what was decoded. Raises as `read`."""
        with _Named(self.path):
            return self._stored(decoded)

    def native_bytes(self, frame: int, room: Room = None) -> NDArray[np.uint8]:
        """The bytes of an uncompressed frame, in memory that may be written to: `room`, or fresh.

        Raises as `read`.
        """
        with _Named(self.path):
            data = self._native(frame, room)
            return data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)

    def _once(self, frame: int) -> Stored:
        """A mosaic, decoded once for all its slices that are asked for in a row."""
        if self._mosaic is None or self._mosaic[0] != frame:
            self._mosaic = None
            try:
                self._mosaic = frame, self._read(frame, None)
            except FrameError as e:
                self._mosaic = frame, e
        found = self._mosaic[1]
        if isinstance(found, FrameError):
            raise found
        return found

    def cut(self, pixels: NDArray[Any], part: int) -> NDArray[Any]:
        """(h, w) pixels of a slice of a mosaic, a copy; all of a frame that is one image."""
        h = self.header
        across, height, width = h["parts_across"], h["part_height"], h["part_width"]
        if across is None or height is None or width is None:
            return pixels
        y, x = divmod(part, across)
        return np.array(pixels[y * height : (y + 1) * height, x * width : (x + 1) * width])

    def _read(self, frame: int, room: Room) -> Stored:
        h = self.header
        if h["waveforms"] is not None:
            return self._waveform(h["waveforms"][frame], room)
        if h["pixel_keyword"] != "PixelData":
            kind = f"f{h['bits_allocated'] // 8}"
            flat = np.frombuffer(self._native(frame, room), self._order + kind)
            flat = flat.reshape(h["height"], h["width"])
            return Stored(_native_order(flat), "native", self.late_elements)
        if h["transfer_syntax"] in syntaxes.NATIVE:
            pixels, late = self._native_pixels(frame, room), self.late_elements
            return self._coloured(self._masked(pixels, late), h["photometric"], "native")
        return self._stored(self._decoded(frame, room))

    def _decoded(self, frame: int, room: Room) -> Decoded:
        data, syntax = self._encoded(frame), self.header["transfer_syntax"]
        return decoders.decode(data, syntax, self._coded(room))

    def _stored(self, decoded: Decoded) -> Stored:
        if decoded.precision:
            pixels, flags, ends = stored_samples(decoded, self.header)
        else:
            pixels, flags, ends = self._masked(decoded.pixels, decoded.flags)
        samples = pixels, (*flags, *self.odd_items), ends
        stored = self._coloured(samples, decoded.photometric, decoded.codec)
        return replace(stored, lossy=True) if is_lossy(decoded, self.header) else stored

    def _waveform(self, group: Multiplex, room: Room) -> Stored:
        place, big = group["offset"] - self.header["pixel_offset"], self._order == ">"

        def read(offset: int, count: int) -> Buffer:
            return self._bytes(place + offset, count, None)

        return Stored(*waveform.decoded(group, read, big, room))

    @property
    def _order(self) -> str:
        return ">" if self.header["transfer_syntax"] in syntaxes.BIG_ENDIAN else "<"

    @cached_property
    def late_elements(self) -> tuple[str, ...]:
        """A flag if elements follow that belong before the pixels: nobody looks for them there."""
        h = self.header
        end = h["pixel_offset"] + (h["pixel_length"] or 0)
        if h["transfer_syntax"] == syntaxes.DEFLATED or end + 8 > h["size"]:
            return ()
        data = self._file.read(end, 4)
        order = ">" if h["transfer_syntax"] == syntaxes.EXPLICIT_BE else "<"
        group, element = np.frombuffer(data, f"{order}u2").tolist()
        return ("elements-after-pixels",) if 0 < group << 16 | element < 0x7FE00010 else ()

    def _coded(self, room: Room) -> Coded:
        h = self.header
        return Coded(
            h["height"], h["width"], h["samples"], h["bits_allocated"], h["photometric"],
            h["planar"] or 0, room,
        )  # fmt: skip

    @cached_property
    def dataset(self) -> Any:
        """The header by pydicom, for lookup tables."""
        if self.header["transfer_syntax"] == syntaxes.DEFLATED:
            most = max(inflate.MOST_HEADER, self.header["pixel_offset"] + (1 << 20))
            return inflate.parse(self._stream, None, most)[0]  # it was weighed when it was planned
        return _dcmread(self._stream)

    @cached_property
    def outlines(self) -> dict[int, Outlines]:
        """Of a structure set, contours that have an inside, by the numbers of its segments."""
        place = place_of(self.path, self.header)
        about = Candidate(
            self.header["root"], self.header["path"], self.header["size"], self.header["mtime_ns"],
            member=place.member,
        )  # fmt: skip
        limits = Limits(header_items=1 << 40)  # they were counted when it was planned
        table = read_structures(place, about, limits)
        numbers = numbers_of(table)
        return {numbers[number]: found for number, found in structures_in(table).items()}

    @cached_property
    def _inflater(self) -> inflate.Inflater:
        return inflate.Inflater(self._stream)

    @property
    def _stream(self) -> IO[bytes]:
        """The open file for who reads from a place on; it stays open."""
        return cast(IO[bytes], Raw(self._file))

    @cached_property
    def modality_lut(self) -> Any:
        """The file's modality LUT."""
        return modality_lut(self.dataset)

    def voi_lut(self, inputs: tuple[float, float] | None) -> VoiLut:
        """The first item of the file's VOI LUT sequence, for values between `inputs`."""
        if inputs not in self._voi_luts:
            after_lut = self.header["lut_low"] is not None
            # The three cases of C.11.2.1.1: what comes from a modality LUT has no sign; else the
            # values have one where they can fall below 0, as stored or after a rescale.
            signed = not after_lut and (inputs is None or inputs[0] < 0)
            self._voi_luts[inputs] = voi_lut(self.dataset, inputs, signed)
        return self._voi_luts[inputs]

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

    def _bytes(self, offset: int, count: int, room: Room) -> Buffer:
        """Bytes of the pixel data; of a plain file in memory that may be written to."""
        place = self.header["pixel_offset"] + offset
        if self.header["transfer_syntax"] == syntaxes.DEFLATED:
            data: Buffer = self._inflater.read(place, count)
            done = len(data)
        else:
            data = np.empty(count, np.uint8) if room is None else room[:count]
            if len(data) < count:
                data = np.empty(count, np.uint8)
            done = self._file.into(place, data.data)
        if done < count:
            raise FrameError(f"pixel data is truncated: {done} of {count} bytes of a frame")
        return data

    def _native(self, frame: int, room: Room) -> Buffer:
        h = self.header
        size = h["height"] * h["width"] * h["samples"] * h["bits_allocated"] // 8
        if h["photometric"] == "YBR_FULL_422":
            size = h["height"] * h["width"] * 2 * h["bits_allocated"] // 8
        return self._ordered(frame * size, size, room)

    def _ordered(self, offset: int, count: int, room: Room) -> Buffer:
        """Bytes of the pixel data; those of samples in bytes or bits in the order of the pixels."""
        h = self.header
        if h["bits_allocated"] > 8 or self._order == "<" or h["pixel_vr"] != "OW":
            return self._bytes(offset, count, room)
        # Samples packed in 16-bit big-endian words (PS3.5 8.1.2, D.2): whole words are swapped.
        first, last = offset & ~1, offset + count + 1 & ~1
        words = np.frombuffer(self._bytes(first, last - first, room), ">u2")
        return words.astype("<u2").tobytes()[offset - first :][:count]

    def _native_pixels(self, frame: int, room: Room) -> NDArray[Any]:
        h = self.header
        rows, columns, samples = h["height"], h["width"], h["samples"]
        if h["bits_allocated"] == 1:  # packed across frames, least significant bit first
            first = frame * rows * columns
            data = self._ordered(first // 8, (first % 8 + rows * columns + 7) // 8, room)
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            return bits[first % 8 : first % 8 + rows * columns].reshape(rows, columns)
        if h["photometric"] == "YBR_FULL_422":
            if columns % 2 or h["bits_allocated"] != 8:
                raise FrameError(
                    f"YBR_FULL_422 with {counting(columns, 'column')} of {h['bits_allocated']} "
                    "bits; legal: an even number of columns, 8 bits"
                )
            packed = np.frombuffer(self._native(frame, room), np.uint8)
            return ybr_422_to_full(packed, rows, columns)
        flat = np.frombuffer(self._native(frame, room), f"{self._order}u{h['bits_allocated'] // 8}")
        if samples == 1:
            return _native_order(flat.reshape(rows, columns))
        if h["planar"]:
            planes = flat.reshape(samples, rows, columns)
            return _native_order(np.ascontiguousarray(np.moveaxis(planes, 0, -1)))
        return _native_order(flat.reshape(rows, columns, samples))

    @cached_property
    def _fragments(self) -> fragments.Frames:
        return fragments.find_frames(
            self._file, self.header["pixel_offset"], self.header["size"],
            self.header["frames"], self.header["transfer_syntax"] not in syntaxes.UNMARKED,
        )  # fmt: skip

    @property
    def odd_items(self) -> tuple[str, ...]:
        """Flags of the items that encapsulated frames lie in."""
        return self._fragments.flags

    def _encoded(self, frame: int) -> bytes:
        return self._fragments.read(self._file, frame)

    def _masked(self, raw: NDArray[Any], flags: tuple[str, ...]) -> Samples:
        """Samples in words of BitsAllocated as stored values."""
        h = self.header
        written = h["transfer_syntax"] in syntaxes.AS_WRITTEN
        high = h["high_bit"] if written else h["bits_stored"] - 1
        bits, signed = h["bits_stored"], bool(h["signed"])
        ends = clean_ends(raw, bits, high, signed)
        if ends is not None:
            return raw.view(f"{'i' if signed else 'u'}{raw.dtype.itemsize}"), flags, ends
        pixels = mask_stored(raw, bits, high, signed)
        if has_other_bits(raw, pixels, bits, high, h["overlay_bits"] or 0):
            flags = (*flags, "high-bits")
        return pixels, flags, None

    def _coloured(self, samples: Samples, photometric: str, codec: str) -> Stored:
        """Stored values in the colours that the cache has: grey, or RGB."""
        h, (pixels, flags, ends) = self.header, samples
        if h["palette_bits"]:  # null for masks: a label is its stored value, whatever its colour
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
                "legal: RGB, YBR_FULL, YBR_FULL_422; in JPEG 2000 YBR_RCT, YBR_ICT; in JPEG XL XYB"
            )
        return Stored(pixels, codec, flags)


class _Named:
    """A block in which errors of the machine name the file."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, e: BaseException | None, __: object) -> None:
        if isinstance(e, OSError):
            e.filename = e.filename or self._path
        elif isinstance(e, MemoryError):
            raise MemoryError(f"{self._path}: {e}" if str(e) else self._path) from e


def _native_order(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _dcmread(file: IO[bytes]) -> Any:
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the header was judged when it was planned
        return dcmread(cast(Any, file), force=True, stop_before_pixels=True)
