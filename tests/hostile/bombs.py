"""Files that ask for more than they are, by name: what each is, and what it must come to."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom2cache.syntaxes import DEFLATED, IMPLICIT_LE, NATIVE, SYNTAXES
from tests.hostile import objects, runs
from tests.support.caches import table
from tests.support.dicom_files import pattern, uid, write_dicom

_GREY = pattern("bomb", (16, 16))
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_EMPTY = _ITEM + bytes(4)
_ABOVE, _SIZE = 2 << 30, 2 << 30
"""most bytes of memory above a run without it, and of the cache's files"""


@dataclass(frozen=True)
class Bomb:
    """One file, or a few of a kind."""

    make: Callable[[Path], object]
    """writes it into a folder"""
    reason: str
    """pattern of why each of its frames is not stored; empty: all are, or some"""
    flags: tuple[str, ...] = ()
    quick: bool = True
    """False: it takes a minute, or gigabytes"""

    @property
    def name(self) -> str:
        """What it is."""
        return self.make.__name__.removeprefix("_")


def problems(some: tuple[Bomb, ...], work: Path, jobs: int = 1) -> tuple[list[str], runs.Came]:
    """(what is wrong with a build of the bombs beside healthy files, what it came to).

    By the flags of all of them; each lies in a folder of its name.
    """
    source, folder, cache = work / "healthy", work / "mutants", work / "cache"
    runs.neighbours(source)
    for bomb in some:
        (folder / bomb.name).mkdir(parents=True)
        bomb.make(folder / bomb.name)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    flags = [*(flag for bomb in some for flag in bomb.flags), "--jobs", str(jobs)]
    quiet = runs.run([source, work / "quiet", *flags], 1800)
    came = runs.run([source, folder, cache, *flags], 1800)
    runs.check(came, cache, names, runs.healthy(work / "quiet", 0))
    found = came.problems + came.internal
    if came.peak - quiet.peak > _ABOVE:
        found.append(f"{came.peak >> 20} MiB, {quiet.peak >> 20} without it")
    if not (cache / "zarr.json").exists():
        return [*found, came.said], came
    size = sum(path.lstat().st_size for path in cache.rglob("*"))
    if size > _SIZE:
        found.append(f"a cache of {size} bytes")
    root = next(row["root"] for row in table(cache, "failures") + table(cache, "frames")
                if row["path"] in names)  # fmt: skip
    reasons = {r["path"]: r["reason"] for r in table(cache, "failures") if r["root"] == root}
    for bomb in some:
        if bomb.reason:
            own = {name for name in names if name.startswith(f"{bomb.name}/")}
            found += [f"{name}: stored" for name in sorted(own - reasons.keys())]
            found += [
                f"{name}: {reasons[name]}"
                for name in sorted(own & reasons.keys())
                if not re.search(bomb.reason, reasons[name])
            ]
    return found, came


def _pixels_that_no_memory_holds(folder: Path) -> None:
    write_dicom(
        folder / "a.dcm", np.zeros((4, 4, 3), np.uint8), Rows=65535, Columns=65535,
        SeriesInstanceUID=uid("a"),
    )  # fmt: skip
    write_dicom(
        folder / "b.dcm", _GREY, Rows=65535, Columns=65535, encoded=[bytes(64)],
        syntax="1.2.840.10008.1.2.5", SeriesInstanceUID=uid("b"),
    )  # fmt: skip


def _more_frames_than_bytes(folder: Path) -> None:
    """1,000 frames in 82 KB and 90,000 in 0.9 MB, in each syntax."""
    for frames, size in ((1000, 82_000), (90_000, 900_000)):
        for syntax in SYNTAXES:
            path = folder / f"{frames}_{syntax}.dcm"
            said = {"NumberOfFrames": frames, "Rows": 2048, "Columns": 2048}
            said["SeriesInstanceUID"] = uid(path.name)
            if syntax in NATIVE:
                plain = IMPLICIT_LE if syntax.startswith("1.2.840.113619") else syntax
                write_dicom(path, np.zeros((1, 1, size), np.uint8), syntax=plain, **said)
                continue
            each = max(2, size // frames - 8)
            stream = _ITEM + each.to_bytes(4, "little") + b"\xff\xd8" + bytes(each - 2)
            write_dicom(path, _GREY[None], syntax=syntax, encoded=[b"\xff\xd8"], **said)
            data = path.read_bytes()
            path.write_bytes(data[: data.index(_ITEM)] + _EMPTY + stream * frames + _END)


def _deflated(path: Path, before: bytes, count: int, after: bytes, **elements: object) -> None:
    """A deflated file with `before` count times, then `after`, before its pixels or in them."""
    write_dicom(path, _GREY, **elements)  # type: ignore[arg-type]
    plain = path.read_bytes()[144 + int.from_bytes(path.read_bytes()[140:144], "little") :]
    write_dicom(path, _GREY, syntax=DEFLATED)
    meta = path.read_bytes()
    pack = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    at = plain.index(b"\x10\0\x20\0")
    parts = [meta[: 144 + int.from_bytes(meta[140:144], "little")], pack.compress(plain[:at])]
    parts += [pack.compress(before)]
    parts += [pack.compress(after * 4096) for _ in range(count // 4096)]
    parts += [pack.compress(_END if after == _EMPTY else b""), pack.compress(plain[at:])]
    path.write_bytes(b"".join([*parts, pack.flush()]))


def _items_deflated(folder: Path) -> None:
    """96 MB of empty items in 100 KB."""
    sequence = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff"
    _deflated(folder / "a.dcm", sequence, 12_000_000, _EMPTY)


def _element_deflated(folder: Path) -> None:
    """512 MB of a private element in 512 KB."""
    private = b"\x09\0\x10\x10UN\0\0" + (1 << 29).to_bytes(4, "little")
    _deflated(folder / "a.dcm", private, 1 << 29, b"\0")


def _empty_items(folder: Path) -> None:
    """24 MB of empty items of a sequence that is read."""
    path = write_dicom(folder / "a.dcm", _GREY)
    data = path.read_bytes()
    at = data.index(b"\x10\0\x20\0")
    sequence = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + _EMPTY * 3_000_000 + _END
    path.write_bytes(data[:at] + sequence + data[at:])


def _items_for_a_million_frames(folder: Path) -> None:
    path = write_dicom(folder / "a.dcm", _GREY[None], NumberOfFrames=1_000_000)
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\0")
    sequence = b"\0\x52\x30\x92SQ\0\0\xff\xff\xff\xff" + _EMPTY * 1_000_000 + _END
    path.write_bytes(data[:at] + sequence + data[at:])


def _nested(folder: Path) -> None:
    """20,000 sequences in each other: read ones, private ones of unknown VR, and none closed."""
    for name, tag, vr in (("a", b"\x08\0\x40\x11", b"SQ"), ("b", b"\x09\0\x40\x11", b"UN")):
        path = write_dicom(folder / f"{name}.dcm", _GREY, SeriesInstanceUID=uid(name))
        data = path.read_bytes()
        at = data.index(b"\x10\0\x20\0")
        deep = (tag + vr + b"\0\0\xff\xff\xff\xff" + _ITEM + b"\xff\xff\xff\xff") * 20_000
        path.write_bytes(data[:at] + deep + data[at:])


def _elements_without_number(folder: Path) -> None:
    path = write_dicom(folder / "a.dcm", _GREY)
    data = path.read_bytes()
    at = data.index(b"\x10\0\x20\0")
    many = b"".join(
        bytes((group, 0)) + number.to_bytes(2, "little") + b"LO\2\0ab"
        for group in (9, 11, 13, 15)
        for number in range(0x1000, 0xFFFF)
    )
    path.write_bytes(data[:at] + many + data[at:])


def _many(value: str, count: int, tag: int, vr: str) -> DataElement:
    return DataElement(tag, vr, "\\".join([value] * count))


def _windows_times_frames(folder: Path) -> None:
    write_dicom(
        folder / "a.dcm", np.zeros((1000, 4, 4), np.uint8), syntax=IMPLICIT_LE,
        WindowCenter=_many("1", 30_000, 0x00281050, "DS"),
        WindowWidth=_many("1", 30_000, 0x00281051, "DS"),
    )  # fmt: skip


def _segments_times_frames(folder: Path) -> None:
    items = []
    for k in range(6000):
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel = k + 1, "L" * 60
        items.append(item)
    write_dicom(
        folder / "a.dcm", np.zeros((1000, 4, 4), np.uint8), Modality="SEG",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7", SegmentationType="LABELMAP",
        SegmentSequence=Sequence(items),
    )  # fmt: skip


def _a_text_times_frames(folder: Path) -> None:
    frames = np.zeros((1000, 4, 4), np.uint8)
    kinds = ["ORIGINAL", "PRIMARY", *["X" * 10] * 500_000]
    write_dicom(folder / "a.dcm", frames, syntax=IMPLICIT_LE, ImageType=kinds)
    long = DataElement(0x00081090, "LO", "A" * 20_000_000, validation_mode=0)
    write_dicom(
        folder / "b.dcm", frames, syntax=IMPLICIT_LE, ManufacturerModelName=long,
        SeriesInstanceUID=uid("b"),
    )  # fmt: skip


def _scans_without_end(folder: Path) -> None:
    """A progressive JPEG of 20,000 scans."""
    pixels = pattern("scans", (512, 512), top=256).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", progressive=True)
    stream = out.getvalue()
    head, _, scan = stream.removesuffix(b"\xff\xd9").rpartition(b"\xff\xda")
    short = b"\xff\xda" + scan[:10] + bytes(40)  # of the last scan little is said again
    stream = head + b"\xff\xda" + scan + short * 20_000 + b"\xff\xd9"
    write_dicom(
        folder / "a.dcm", pixels, syntax="1.2.840.10008.1.2.4.51",
        encoded=[stream + bytes(len(stream) % 2)],
    )  # fmt: skip


def _black(folder: Path) -> None:
    """Four times 225 million black pixels, each in some kilobytes."""
    stream = imagecodecs.jpeg2k_encode(
        np.zeros((15000, 15000), np.uint8), level=0, codecformat="j2k"
    )
    for k in range(4):
        write_dicom(
            folder / f"{k}.dcm", _GREY.astype(np.uint8), syntax="1.2.840.10008.1.2.4.90",
            encoded=[stream + bytes(len(stream) % 2)], Rows=15000, Columns=15000,
            SeriesInstanceUID=uid(f"black {k}"),
        )  # fmt: skip


def _sizes_far_apart(folder: Path) -> None:
    """Frames of 300 sizes up to 65535 on a side, none of which can be decoded."""
    random = np.random.default_rng(1)
    for k in range(300):
        height = int(2 ** random.uniform(1, 15.9))
        width = int(2 ** random.uniform(1, min(15.9, 25 - np.log2(height))))
        write_dicom(
            folder / f"{k}.dcm", _GREY, syntax="1.2.840.10008.1.2.4.90", Rows=height, Columns=width,
            encoded=[b"\xff\x4f\xff\x51" + bytes(60)], SeriesInstanceUID=uid(f"far {k}"),
        )  # fmt: skip


def _spacings(folder: Path) -> None:
    for k, said in enumerate(("100000", "1e308")):
        spacing = DataElement(0x00280030, "DS", f"{said}\\{said}")
        write_dicom(folder / f"{k}.dcm", _GREY, PixelSpacing=spacing, SeriesInstanceUID=uid(str(k)))


def _slopes(folder: Path) -> None:
    lines = (("1e308", "0"), ("1", "1e308"), ("1e-320", "0"), ("-1e308", "1e308"), ("1e15", "0.5"))
    for k, (slope, intercept) in enumerate(lines):
        write_dicom(
            folder / f"{k}.dcm", _GREY, SeriesInstanceUID=uid(str(k)),
            RescaleSlope=DataElement(0x00281053, "DS", slope),
            RescaleIntercept=DataElement(0x00281052, "DS", intercept),
        )  # fmt: skip


def _windows_at_the_edges(folder: Path) -> None:
    ends = (
        ("1e308", "1e308"),
        ("0", "1e-308"),
        ("-1e308", "1e308"),
        ("nan", "inf"),
        ("0", "5e-324"),
    )
    for k, (center, width) in enumerate(ends):
        write_dicom(
            folder / f"{k}.dcm", _GREY, SeriesInstanceUID=uid(str(k)),
            WindowCenter=DataElement(0x00281050, "DS", center),
            WindowWidth=DataElement(0x00281051, "DS", width),
        )  # fmt: skip


def _places(folder: Path) -> None:
    """Positions and directions that no arithmetic survives."""
    far = ((1e308, "1", "0"), (1e300, "1e200", "0"), (0.0, "0", "0"), (1e17, "1", "1e-17"))
    for k, (place, one, zero) in enumerate(far):
        for j in range(3):
            write_dicom(
                folder / f"{k}_{j}.dcm", pattern(f"{k} {j}", (8, 8)), InstanceNumber=j,
                SeriesInstanceUID=uid(str(k)),
                ImagePositionPatient=[str(place), str(-place), str(place * (1 - j / 10))],
                ImageOrientationPatient=[one, zero, zero, zero, one, zero],
            )  # fmt: skip


BOMBS = (
    Bomb(_pixels_that_no_memory_holds, "limits.frame_pixels|truncated"),
    Bomb(_more_frames_than_bytes, "limits.expansion|truncated|cannot be decoded|hold|UID|claims",
         quick=False),
    Bomb(_items_deflated, "limits.header_items", quick=False),
    Bomb(_element_deflated, "limits.header_mib|--limits header_mib", quick=False),
    Bomb(_empty_items, "", quick=False),
    Bomb(_items_for_a_million_frames, "1000000", quick=False),
    Bomb(_nested, ""),
    Bomb(_elements_without_number, ""),
    Bomb(_windows_times_frames, "limits.frames"),
    Bomb(_segments_times_frames, "limits.frames", quick=False),
    Bomb(_a_text_times_frames, "", quick=False),
    Bomb(_scans_without_end, "", quick=False),
    Bomb(_black, "", ("--codec", "zstd"), quick=False),
    Bomb(_sizes_far_apart, "", quick=False),
    Bomb(_spacings, "limits.frame_pixels|spacing", ("--spacing", "1")),
    Bomb(_slopes, ""),
    Bomb(_windows_at_the_edges, "", ("--window", "dicom")),
    Bomb(_places, ""),
    Bomb(objects.channels_times_groups, "limits.header_items", quick=False),
    Bomb(objects.groups_without_number, "", quick=False),
    Bomb(objects.samples_that_are_not_there, "truncated|legal|limits.inflate", quick=False),
    Bomb(objects.points_without_number, "", ("--masks", "labelmap"), quick=False),
    Bomb(objects.structures_without_number, "", ("--masks", "planes"), quick=False),
    Bomb(objects.spaces_without_number, "", ("--masks", "planes"), quick=False),
    Bomb(objects.shapes_without_number, "", ("--masks", "planes"), quick=False),
    Bomb(objects.segments_without_number, "", ("--masks", "planes"), quick=False),
    Bomb(objects.planes_times_slices, "", ("--masks", "planes", "--mask-grid", "image"),
         quick=False),
)  # fmt: skip
