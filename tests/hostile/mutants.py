"""Mutants of real files: one for each number, the same on each machine.

`mutant(seed, number)` takes one of pydicom's own files, or one that is written here for a syntax
that none of them has, and changes it in one to three places, in ways that know what DICOM is.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.support.dicom_files import DATA_STORE, WHEEL, pattern, write_dicom

_MOST = 600_000  # bytes of a file that is changed
_OTHER = frozenset({".py", ".json", ".txt", ".zip", ".md"})


class Element(NamedTuple):
    """Where a data element of the dataset, or of group 0002, lies in the file."""

    tag: int
    vr: str
    start: int
    """of its value"""
    length: int


@cache
def originals() -> tuple[Path, ...]:
    """The real files, of every kind that pydicom brings along."""
    found = (p for root in (WHEEL, DATA_STORE) for p in root.rglob("*") if p.is_file())
    small = {p.name: p for p in found if p.suffix not in _OTHER and p.stat().st_size < _MOST}
    return tuple(small[name] for name in sorted(small))


def made(folder: Path) -> list[Path]:
    """Files of the syntaxes that no real file has."""
    pixels = pattern("made", (48, 40))
    high = imagecodecs.htj2k_encode(pixels, reversible=True)
    stream = imagecodecs.deflate_encode(pixels.tobytes(), raw=True)
    coded = {
        "htj2k": ("1.2.840.10008.1.2.4.201", [high]),
        "deflated-frame": ("1.2.840.10008.1.2.8.1", [stream]),
        "encapsulated": ("1.2.840.10008.1.2.1.98", [pixels.tobytes()]),
    }
    paths = [
        write_dicom(
            folder / f"{name}.dcm", pixels, syntax=uid, encoded=[s + bytes(len(s) % 2) for s in ss]
        )
        for name, (uid, ss) in coded.items()
    ]
    deflated = str(DeflatedExplicitVRLittleEndian)
    paths.append(write_dicom(folder / "deflated.dcm", pixels, syntax=deflated))
    several = np.stack([pattern(str(k), (24, 24)) for k in range(6)])
    streams = [imagecodecs.jpegls_encode(frame) for frame in several]
    paths.append(
        write_dicom(
            folder / "frames.dcm",
            several,
            syntax="1.2.840.10008.1.2.4.80",
            encoded=[s + bytes(len(s) % 2) for s in streams],
        )
    )
    return paths


def elements(path: Path) -> list[Element]:
    """The elements of a file, as far as pydicom reads them; of sequences only the outermost."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = dcmread(path, force=True)
            raws = [ds.get_item(tag) for tag in ds.keys()]  # noqa: SIM118 (not yet converted)
        except Exception:  # some real files are damaged as they are
            return []
    found = _meta(path.read_bytes())
    for raw in raws:
        value = getattr(raw, "value", None)
        if isinstance(raw, RawDataElement) and isinstance(value, bytes) and value:
            found.append(Element(int(raw.tag), str(raw.VR), raw.value_tell, len(value)))
    return found


def _meta(data: bytes) -> list[Element]:
    """The elements of group 0002, which is always explicit (PS3.10 7.1)."""
    found, at = list[Element](), 132
    while data[128:132] == b"DICM" and data[at : at + 2] == b"\2\0":
        vr, long = data[at + 4 : at + 6], data[at + 4 : at + 6] in (b"OB", b"UN")
        start = at + (12 if long else 8)
        length = int.from_bytes(data[start - 4 if long else start - 2 : start], "little")
        tag = 2 << 16 | int.from_bytes(data[at + 2 : at + 4], "little")
        found.append(Element(tag, vr.decode("latin-1"), start, length))
        at = start + length
    return found


Change = Callable[[bytearray, list[Element], random.Random], None]


def _bits(data: bytearray, _: list[Element], r: random.Random) -> None:
    for _k in range(r.choice((1, 1, 2, 8, 64))):
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)


def _bits_of_header(data: bytearray, _: list[Element], r: random.Random) -> None:
    for _k in range(r.choice((1, 2, 4))):
        data[r.randrange(128, max(129, min(len(data), 3000)))] ^= 1 << r.randrange(8)


def _bytes(data: bytearray, _: list[Element], r: random.Random) -> None:
    at, count = r.randrange(len(data)), r.choice((1, 2, 4, 8, 16))
    edge = r.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01"))
    data[at : at + count] = edge * len(data[at : at + count])


def _truncated(data: bytearray, _: list[Element], r: random.Random) -> None:
    del data[r.choice((r.randrange(len(data)), len(data) - r.randrange(1, 64))) :]


def _spliced(data: bytearray, _: list[Element], r: random.Random) -> None:
    other = originals()[r.randrange(len(originals()))].read_bytes()
    count = r.choice((4, 64, 1024, 16384))
    start = r.randrange(max(1, len(other) - count))
    at = r.randrange(len(data))
    stop = at + (count if r.random() < 0.7 else 0)
    data[at:stop] = other[start : start + count]


def _removed(data: bytearray, _: list[Element], r: random.Random) -> None:
    at = r.randrange(len(data))
    del data[at : at + r.choice((1, 2, 8, 100, 2000))]


_LENGTHS = (0, 1, 3, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


def _length(data: bytearray, found: list[Element], r: random.Random) -> None:
    """The length field of an element says something else."""
    if not found:
        return _bits_of_header(data, found, r)
    at = r.choice(found)
    said = r.choice((*_LENGTHS, at.length + 2, max(0, at.length - 2), at.length * 2))
    if data[at.start - 4 : at.start - 2].isupper():  # explicit, 16 bits
        data[at.start - 2 : at.start] = (said & 0xFFFF).to_bytes(2, "little")
    else:
        data[at.start - 4 : at.start] = (said & 0xFFFFFFFF).to_bytes(4, "little")
    return None


_VRS = b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV ZZ".split()  # noqa: E501


def _vr(data: bytearray, found: list[Element], r: random.Random) -> None:
    """An element gets another VR."""
    for at in r.sample(found, min(4, len(found))):
        for place in (at.start - 4, at.start - 8):
            if data[place : place + 2] == at.vr.encode():
                data[place : place + 2] = r.choice(_VRS)
                return


_TEXTS = (
    b"NaN", b"inf", b"-inf", b"1e308", b"-1e308", b"1e-308", b"0", b"-0", b"-1", b"1e400",
    b"99999999999999999999", b"9223372036854775808", b"-2147483649", b"2147483648", b"0.0000001",
    b"100000", b"1\\2\\3\\4\\5\\6", b"\\\\\\\\", b"", b" ", b"\0\0", b"x", b"\x1b[31m", b"\xff\xfe",
    b"00000000", b"20261332", b"999Y", b"ISO 2022 IR 999", b"1.2.840.10008.1.2.4.90", b"1..2",
    b"MONOCHROME1", b"YBR_FULL_422", b"PALETTE COLOR", b"RGB", b"A" * 70000,
)  # fmt: skip
_NUMBERS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 256, 4095, 32767, 32768, 65534, 65535)


def _value(data: bytearray, found: list[Element], r: random.Random) -> None:
    """The value of an element becomes an edge of what it can be, its length as it is or right."""
    of_header = [at for at in found if at.tag < 0x7FE00008]
    image = [at for at in of_header if at.tag >> 16 in (0x0018, 0x0020, 0x0028, 0x0054, 0x3004)]
    if not of_header:
        return _bits_of_header(data, found, r)
    at = r.choice(image if image and r.random() < 0.7 else of_header)
    stop = at.start + at.length
    if at.vr in ("US", "SS", "OW") or at.length == 2:
        data[at.start : at.start + 2] = r.choice(_NUMBERS).to_bytes(2, "little")
    elif at.vr in ("FD", "FL", "OF", "OD"):
        kind = np.float64 if at.vr in ("FD", "OD") else np.float32
        said = r.choice((np.nan, np.inf, -np.inf, 0.0, -1.0, 3e38, -3e38, 1e-40))
        value = np.array(said, kind).tobytes()
        data[at.start : at.start + len(value)] = value
    else:
        text = r.choice(_TEXTS)
        text += b" " * (len(text) % 2)
        short = data[at.start - 4 : at.start - 2].isupper()
        if r.random() < 0.5 or (short and len(text) > 65534):
            data[at.start : stop] = (text + b" " * at.length)[: at.length]
        else:
            data[at.start : stop] = text
            width = 2 if short else 4
            data[at.start - width : at.start] = len(text).to_bytes(width, "little")
    return None


def _element(data: bytearray, found: list[Element], r: random.Random) -> None:
    """An element is there twice, is moved, or is gone."""
    if len(found) < 3:
        return _removed(data, found, r)
    k = r.randrange(len(found) - 1)
    start, stop = found[k].start + found[k].length, found[k + 1].start + found[k + 1].length
    part = bytes(data[start:stop])
    kind = r.randrange(3)
    if kind != 0:
        del data[start:stop]
    if kind == 0:
        data[stop:stop] = part
    elif kind == 1:
        at = r.choice(found).start
        data[at:at] = part
    return None


def _pixels(data: bytearray, found: list[Element]) -> int:
    """Where the value of the pixel data begins."""
    return next((at.start for at in found if at.tag >> 16 == 0x7FE0), len(data) // 2)


def _marker(data: bytearray, found: list[Element], r: random.Random) -> None:
    """A marker of a codestream, or what its segment says."""
    places, at = [], _pixels(data, found)
    while (at := data.find(b"\xff", at)) >= 0 and len(places) < 5000:
        if at + 1 < len(data) and data[at + 1] not in (0, 0xFF, 0xFE):
            places.append(at)
        at += 1
    if not places:
        return _bytes(data, found, r)
    near = places[: r.choice((4, 12, len(places)))]
    at = r.choice(near)
    kind = r.randrange(3)
    if kind == 0:
        data[at + 1] = r.choice((0xC0, 0xC2, 0xC3, 0xC4, 0xD8, 0xD9, 0xDA, 0xF7, 0x4F, 0x51, 0x90))
    else:
        place = at + 2 + r.randrange(24)
        if place < len(data):
            data[place] = r.choice((0, 1, 2, 4, 0x7F, 0x80, 0xFF, r.randrange(256)))
    return None


def _item(data: bytearray, found: list[Element], r: random.Random) -> None:
    """A fragment is longer, shorter, there twice or gone; or an offset table lies."""
    places, at = [], _pixels(data, found)
    while (at := data.find(b"\xfe\xff\x00\xe0", at)) >= 0 and len(places) < 500:
        places.append(at)
        at += 4
    if not places:
        return _bytes(data, found, r)
    at = r.choice(places)
    length = int.from_bytes(data[at + 4 : at + 8], "little")
    kind = r.randrange(5)
    if kind == 0:
        said = r.choice((*_LENGTHS, length + 2, max(0, length - 2)))
        data[at + 4 : at + 8] = (said & 0xFFFFFFFF).to_bytes(4, "little")
    elif kind == 1:
        data[at:at] = data[at : at + 8 + min(length, 100_000)]
    elif kind == 2:
        del data[at : at + 8 + min(length, 100_000)]
    elif kind == 3:
        table = r.randbytes(4 * r.choice((1, 2, 10)))
        if r.random() < 0.5:
            table = bytes(4) + table[4:]
        old = places[0] + 8 + int.from_bytes(data[places[0] + 4 : places[0] + 8], "little")
        data[places[0] : old] = b"\xfe\xff\x00\xe0" + len(table).to_bytes(4, "little") + table
    else:
        data[at:at] = b"\xfe\xff\x00\xe0\0\0\0\0" * r.choice((1, 100))
    return None


_SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.4.110", "1.2.3",
)  # fmt: skip


def _syntax(data: bytearray, found: list[Element], r: random.Random) -> None:
    """Another transfer syntax than that of what follows."""
    for at in found:
        if at.tag == 0x00020010:
            said = r.choice(_SYNTAXES).encode()
            said += bytes(len(said) % 2)
            data[at.start : at.start + at.length] = said
            data[at.start - 2 : at.start] = len(said).to_bytes(2, "little")
            size = 144 + int.from_bytes(data[140:144], "little") + len(said) - at.length
            data[140:144] = max(0, size - 144).to_bytes(4, "little")
            return


CHANGES: tuple[tuple[int, Change], ...] = (
    (3, _bits), (3, _bits_of_header), (2, _bytes), (1, _truncated), (2, _spliced), (1, _removed),
    (2, _length), (2, _vr), (6, _value), (2, _element), (4, _marker), (3, _item), (1, _syntax),
)  # fmt: skip
"""(how often, what)"""


@cache
def _known(path: Path) -> tuple[bytes, tuple[Element, ...]]:
    return path.read_bytes(), tuple(elements(path))


def mutant(seed: int, number: int, more: tuple[Path, ...]) -> tuple[str, bytes]:
    """(what was done to which file, its bytes); `more` are files of `made`."""
    r = random.Random(f"{seed} {number}")
    files = (*originals(), *more * 4)
    path = r.choice(files)
    data, found = _known(path)
    changed = bytearray(data)
    names = []
    for _ in range(r.choice((1, 1, 1, 2, 3))):
        (change,) = r.choices([c for _, c in CHANGES], [n for n, _ in CHANGES])
        places = list(found) if not names else []  # they may have moved
        if len(changed) > 200:
            change(changed, places, r)
            names.append(change.__name__)
    return f"{path.name}: {', '.join(names)}", bytes(changed)
