"""A header by pydicom: for what the scan does not read itself, and for the words of a refusal."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast

from dicom2cache import syntaxes
from dicom2cache.errors import FrameError, NotDicom, counting
from dicom2cache.headers import multiplex
from dicom2cache.headers.describe import describe, describe_waveform, wanted_tags
from dicom2cache.headers.elements import CHARSET
from dicom2cache.headers.own import wanted_by, with_own
from dicom2cache.headers.tags import name, text
from dicom2cache.headers.waveform import check_channels
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate, Header
from dicom2cache.sources import inflate
from dicom2cache.sources.file import ITEMS
from dicom2cache.sources.place import BoundedFile, Opened, Where

LIMITS = Limits()
CLAIMS_DICOM = {".dcm", ".dicom", ".dic", ".ima"}
WHOSE_FILE = "whose_file"
"""attribute of an error: Patient ID, Study and Series Instance UID of a file whose header could be
parsed and is refused"""
_WHOSE = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")


Row = tuple[Header, str | None, str | None]
"""(row without its hashes, patient ID, accession number)"""


def by_pydicom(path: Where, candidate: Candidate, limits: Limits = LIMITS) -> Row:
    claims = PurePosixPath(candidate.path).suffix.lower() in CLAIMS_DICOM
    with BoundedFile(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_unchanged(file.opened, candidate)
        try:
            sniff(file, candidate, claims)
        except NotDicom as e:
            raise _nested(e, candidate, file) from None
        items = counted(file, limits)
        tags = sorted({*wanted_tags(), *wanted_by(limits)})
        ds, stream = parse(file, claims, tags, limits.header_mib << 20, items)
        items(sum(items_in(element.value) for element in ds.values()))
        try:
            row = _described(ds, stream, file, limits, candidate, path)
        except Exception as e:
            vars(e)[WHOSE_FILE] = [text(ds, keyword) for keyword in _WHOSE]
            raise
        row = with_own(row, ds, limits)
        return row, text(ds, "PatientID"), text(ds, "AccessionNumber")


def _described(
    ds: Any, stream: IO[bytes], file: BoundedFile, limits: Limits, candidate: Candidate, path: Where
) -> Header:
    at, items = stream.tell(), cast(Callable[..., object], file.item)
    head = stream.read(12)
    if multiplex.begins(head, ds.original_encoding[1]):
        if str(ds.file_meta.get("TransferSyntaxUID")) == syntaxes.DEFLATED:
            inflated = multiplex.Inflated(file, at, limits.inflate_mib << 20, items)
            stream = cast(IO[bytes], inflated)
        stream.seek(at)
        with _readable(file):
            groups = multiplex.groups_of(ds, stream, limits.header_mib << 20)
            pixels = multiplex.pixels_follow(ds, stream)
        items(sum(items_in(e.value) for item, _ in groups for e in item.values()))
        if not pixels:
            check_channels(groups, limits)
            return describe_waveform(ds, groups, candidate)
        # An image with a waveform beside it: its pixels are what it is for.
        file.seek(0)
        ds, stream = parse(file, True, wanted_tags(), limits.header_mib << 20, items, _PIXELS)
        at = stream.tell()
        head = stream.read(12)
    return describe(ds, head, at, candidate, path)


def counted(file: BoundedFile, limits: Limits) -> Callable[..., object]:
    """What counts items: those that a parser meets in `file` too."""
    file.item = items = _Items(limits)
    return items


class _Items:
    """Counts items that are met; raises FrameError where there are too many."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._count = limits, 0

    def __call__(self, more: int = 1) -> None:
        self._count += more
        check_items(self._count, self._limits)


def check_items(count: int, limits: Limits) -> None:
    """Raises FrameError for too many items in a header: each becomes an object of pydicom's."""
    if count > limits.header_items:
        raise FrameError(
            f"its header has more than limits.header_items={counting(limits.header_items, 'item')} "
            "of sequences; if the file is right, give --limits header_items=NUMBER"
        )


def items_in(value: object) -> int:
    """How many items a value has that is not parsed yet."""
    return sum(map(value.count, ITEMS)) if isinstance(value, bytes) else 0


def whole_header(path: Where) -> Any:
    """The dataset of a file with all its elements, private ones too, but the pixels; None if it
    cannot be read."""
    with BoundedFile(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return parse(file, True, None)[0]
        except FrameError:
            return None


def check_unchanged(file: Opened, candidate: Candidate) -> None:
    if not file.was_as(candidate.size, candidate.mtime_ns):
        raise FrameError("changed while it was being read; run again when it is at rest")


@cache
def wanted() -> frozenset[int]:
    return frozenset(wanted_tags()) | {CHARSET}


def sniff(file: IO[bytes], candidate: Candidate, claims: bool) -> None:
    """Refuse by content what pydicom would parse for minutes or take for an empty dataset."""
    head = file.read(132)
    file.seek(0)
    if not head:
        if claims or not PurePosixPath(candidate.path).suffix:
            raise FrameError("the file is empty (0 bytes); copy it again")
        raise NotDicom("the file is empty")
    if head[128:132] == b"DICM":
        return
    group = head[:2]
    if len(head) >= 8 and group in (b"\x02\0", b"\x08\0", b"\0\x08") and head[:8] != bytes(8):
        return  # a dataset without preamble (ACR-NEMA, or a bare dataset)
    other = other_format(file.read(512))
    file.seek(0)
    if other is not None:
        raise NotDicom(other)
    if claims:
        raise FrameError(
            "not a DICOM file although its name says so: no DICM at byte 128 and no data element "
            "at byte 0; remove it or rename it"
        )
    raise NotDicom("no DICM at byte 128 and no data element at byte 0")


_APPLE = b"\0\x05\x16"  # then 07 for AppleDouble, 00 for AppleSingle (RFC 1740)
_ARCHIVES = (
    (0, b"PK\3\4", "zip"), (0, b"PK\5\6", "zip"), (0, b"\x1f\x8b", "gzip"), (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"), (0, b"7z\xbc\xaf\x27\x1c", "7z"), (0, b"Rar!\x1a\7", "rar"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"), (0, b"\x04\x22\x4d\x18", "lz4"), (0, b"\x1f\x9d", "compress"),
    (257, b"ustar", "tar"),
)  # fmt: skip


def other_format(head: bytes) -> str | None:
    """What a file that is not DICOM is, by its first 512 bytes, and what to do; None: unknown."""
    if head[:3] == _APPLE and head[3:4] in (b"\0", b"\7"):
        return "an AppleDouble file: what macOS keeps beside a file on a disk that is not its own"
    for offset, magic, kind in _ARCHIVES:
        if head[offset : offset + len(magic)] == magic:
            return f"an archive ({kind}): unpack it if it holds DICOM files"
    return None


def _nested(error: NotDicom, candidate: Candidate, file: BoundedFile) -> Exception:
    """What a member says that is an archive itself: nobody else looks into it."""
    said, tar = str(error), candidate.path.lower().endswith((".tar.gz", ".tgz"))
    if candidate.member is None:
        return error
    image = "(gzip)" in said and _is_packed(file.opened.read(0, 4096))
    if not (image or "(zip)" in said or "(tar)" in said or tar):
        return error
    what = "a DICOM file in " if image else ""
    return FrameError(
        f"{what}{said.partition(':')[0]} within an archive: unpack the outer one first"
    )


def _is_packed(head: bytes) -> bool:
    """Whether a gzip file that begins so holds a DICOM file."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS + 16).decompress(head, 132)[128:] == b"DICM"
    except zlib.error:
        return False


_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_CONTENT = _PIXELS | {multiplex.SEQUENCE}
"""elements that a header ends with"""


def parse(
    file: IO[bytes],
    claims: bool,
    tags: list[int] | None,
    most_header: int = inflate.MOST_HEADER,
    item: Callable[[], object] | None = None,
    ends: frozenset[int] = _CONTENT,
) -> tuple[Any, IO[bytes]]:
    """(dataset of these tags, None: of all, up to its content; stream that stands at that)."""
    stream = file
    head = file.read(4096)  # where group 0002 lies
    check_body(head)
    with _readable(file):
        if _syntax(file) == syntaxes.DEFLATED:  # dcmread would inflate all of it
            ds, stream = inflate.parse(file, tags, most_header, item, ends)
        else:
            file.seek(0)
            ds = _until(file, tags, ends)
    part_10 = head[128:132] == b"DICM" and "TransferSyntaxUID" in ds.file_meta
    said = "SOPClassUID" in ds or "Rows" in ds or "MediaStorageSOPClassUID" in ds.file_meta
    if not said and not part_10:
        if claims:
            raise FrameError("not a DICOM file although its name says so; remove it or rename it")
        raise NotDicom("no SOP Class UID (0008,0016) and no Rows (0028,0010)")
    return ds, stream


def _until(file: IO[bytes], tags: list[int] | None, ends: frozenset[int]) -> Any:
    """What dcmread makes of a file up to the first of these elements."""
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    wanted: Any = None if tags is None else [Tag(tag) for tag in tags]
    return read_partial(
        cast(BinaryIO, file), lambda tag, vr, length: int(tag) in ends, force=True,
        specific_tags=wanted,
    )  # fmt: skip


def _refusal(error: BaseException) -> FrameError | None:
    """Ours, of a limit, that a parser has made an error of its own of."""
    for one in _before(error):
        if isinstance(one, FrameError):
            return one
    return None


def _for_memory(error: BaseException) -> bool:
    """Whether an error was raised because of want of memory, whatever a parser made of that."""
    last = error
    for last in _before(error):
        if isinstance(last, MemoryError):
            return True
    return isinstance(last, zlib.error) and "memory" in str(last)


def _before(error: BaseException) -> Iterator[BaseException]:
    """What an error was raised because of, or amid, the nearest first."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
        yield error


@contextmanager
def _readable(file: IO[bytes]) -> Iterator[None]:
    """Whatever a parser raises for bytes that are no data elements is the file's failure."""
    try:
        yield
    except FrameError:
        raise
    except Exception as e:  # pydicom raises whatever the bytes provoke
        if isinstance(e, RecursionError) or isinstance(e.__context__, RecursionError):
            raise FrameError(
                "the header cannot be read: it has sequences in each other, hundreds deep; the "
                "file is damaged, copy it again"
            ) from e
        if _for_memory(e):
            raise MemoryError(str(e)) from e
        if (refusal := _refusal(e)) is not None:
            raise refusal from None
        # Its EOFError is no OSError; a real OSError has an errno.
        if isinstance(e, MemoryError) or (isinstance(e, OSError) and e.errno is not None):
            raise
        raise FrameError(
            f"the header cannot be read: what lies at or before byte {file.tell()} is no data "
            "element; the file is damaged or truncated, copy it again"
        ) from e


def _syntax(file: IO[bytes]) -> str | None:
    """Transfer Syntax UID of a file, by pydicom: as dcmread takes it, wherever it stands."""
    found = inflate.file_meta(file).get("TransferSyntaxUID")
    return None if found is None else str(found)


def check_body(head: bytes) -> None:
    """Refuse a plain little-endian dataset that is said to be deflated or big-endian.

    It begins with group 0008, least byte first; neither a deflated stream nor a big-endian dataset
    can begin so (RFC 1951 3.2.4; there is no group 0800).
    """
    if head[128:140] != b"DICM\x02\0\0\0UL\x04\0":
        return
    at = 144 + int.from_bytes(head[140:144], "little")
    if head[at : at + 2] != b"\x08\0" or head[at + 3 : at + 4] != b"\0":
        return
    for uid, what in ((syntaxes.DEFLATED, "deflated"), (syntaxes.EXPLICIT_BE, "big-endian")):
        said = uid.encode() + bytes(len(uid) % 2)
        if b"\x02\0\x10\0UI" + len(said).to_bytes(2, "little") + said in head[144:at]:
            raise FrameError(
                f"{name('TransferSyntaxUID')} is {uid}, {what}, but the dataset is plain and "
                "little-endian; the UID is wrong, correct it (1.2.840.10008.1.2.1 where elements "
                "have a VR, else 1.2.840.10008.1.2), then look at the image: whether the words of "
                "the pixels are little-endian too, nothing says"
            )
