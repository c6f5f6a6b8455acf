"""Files to headers: sniffed, parsed without pixels, described or refused with a reason."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa

from dicom2cache.arrow import streamed, table_from, with_column
from dicom2cache.errors import (
    Fault,
    FrameError,
    NoPixels,
    NotDicom,
    OutOfTime,
    fault_of,
    reason_of,
    stage_of,
)
from dicom2cache.headers.by_pydicom import (
    LIMITS,
    WHOSE_FILE,
    by_pydicom,
    check_items,
    check_unchanged,
    items_in,
    other_format,
    whole_header,
)
from dicom2cache.headers.mosaic import is_tiled, with_slices
from dicom2cache.headers.pixel_module import OnlyContours
from dicom2cache.headers.rows import table_of
from dicom2cache.headers.series import Alike, Asked, Plain, asked_by, row_of
from dicom2cache.headers.split import split
from dicom2cache.headers.structures import read_structures
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate, Header
from dicom2cache.schema import FILES, REJECTS
from dicom2cache.sources import mounts
from dicom2cache.sources.claims import check_claims
from dicom2cache.sources.file import ITEMS
from dicom2cache.sources.place import Place, open_at, place_of
from dicom2cache.syntaxes import DEFLATED

_TRIES, _PAUSE = 3, 0.25  # EIO may pass; seconds between
_MOST_CHECKED = 64 << 20
"""bytes of a member that are held to its CRC because it is refused"""
_MOST_UNREADABLE = 8
"""files of one call that EIO may fail before it stops the run"""


class Headers(NamedTuple):
    """What files came to, in their order."""

    files: pa.Table
    """FILES"""
    rejects: pa.Table
    """REJECTS: what cannot be read, or is no image"""
    faults: tuple[Fault, ...] = ()
    """errors of our own that cost a file"""
    contours: tuple[pa.Table, ...] = ()
    """CONTOURS_TABLE of each structure set"""

    def __reduce__(self) -> tuple[Any, ...]:
        """From a worker as Arrow's stream: column by column it takes ten times as long."""
        contours = tuple(map(streamed, self.contours))
        return _received, (streamed(self.files), streamed(self.rejects), self.faults, contours)


def _received(
    files: bytes, rejects: bytes, faults: tuple[Fault, ...], contours: tuple[bytes, ...]
) -> Headers:
    tables = map(table_from, (files, rejects, *contours))
    return Headers(next(tables), next(tables), faults, tuple(tables))


Found: TypeAlias = Header | Alike | pa.Table
Reading = Callable[[], Found]


@dataclass(frozen=True)
class Elsewhere:
    """How a header is read that this process should not, or cannot, read."""

    alone: Callable[..., Found]
    """makes a call in a process of its own, for a file of `size` bytes, `tries` times"""
    in_time: Callable[[Reading], Found]
    """makes it here; raises OutOfTime if that takes too long"""
    always: bool = False
    """read all in a process of its own"""


def read_headers(
    roots: Sequence[str],
    candidates: Iterable[Candidate],
    patient_key: PatientKey,
    elsewhere: Elsewhere | None = None,
    limits: Limits = LIMITS,
) -> Headers:
    """Headers of the candidates, in their order.

    With `elsewhere`, a file that memory or time do not suffice for is tried there once more, and
    costs itself only; what may take much memory is read there at once. `limits` are those of
    one header. Raises OSError or MemoryError, naming the file, for faults of the
    environment, and SourceAway.
    """
    rows: list[Header | Alike] = []
    asked = asked_by(limits)
    contours: list[pa.Table] = []
    failed: list[tuple[int, str, Exception]] = []
    unreadable = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's; what matters ends as a flag or a failure
        for candidate in candidates:
            tries = 1 if unreadable else _TRIES
            try:
                path = os.path.join(roots[candidate.root], candidate.path)
                check_claims(candidate, limits)
                reading = partial(_read, path, candidate, patient_key, asked)
                found = _patiently(reading, path, tries, elsewhere)
                (contours if isinstance(found, pa.Table) else rows).append(found)
            except Exception as e:
                # A few files may lie on bad blocks; if many cannot be read, it is not the files.
                failing = isinstance(e, OSError) and e.errno == errno.EIO
                unreadable += failing
                spared = failing and unreadable <= _MOST_UNREADABLE
                if not spared and not (elsewhere and isinstance(e, MemoryError)):
                    mounts.raise_environment(e, roots[candidate.root], candidate.path)
                failed.append((candidate.root, candidate.path, _rather(e, path, candidate)))
    files = _table(rows, failed)
    rejects = [_reject(*one, patient_key) for one in failed]
    faults = [fault_of(e, os.path.join(roots[root], path)) for root, path, e in failed]
    known = tuple(fault for fault in faults if fault is not None)
    return Headers(files, pa.Table.from_pylist(rejects, REJECTS), known, tuple(contours))


def _rather(error: Exception, path: str, candidate: Candidate) -> Exception:
    """Why a member of an archive is refused: that it is damaged, if it is, before all else."""
    member = candidate.member
    if member is None or member.crc is None or candidate.size > _MOST_CHECKED:
        return error
    if not isinstance(error, FrameError | NotDicom | NoPixels):
        return error
    try:
        with open_at(place_of(path, candidate)) as file:
            file.check_whole()
    except (FrameError, OSError) as e:
        return e if isinstance(e, FrameError) else error
    return error


def read_file(
    roots: Sequence[str], candidate: Candidate, patient_key: PatientKey, limits: Limits = LIMITS
) -> Header | pa.Table:
    """A row of FILES, or of a structure set its contours. Raises as `read_header`."""
    path = os.path.join(roots[candidate.root], candidate.path)
    found = _read(path, candidate, patient_key, asked_by(limits))
    return found.header() if isinstance(found, Alike) else found


def _read(
    path: str, candidate: Candidate, patient_key: PatientKey, asked: Asked, heavy: bool = True
) -> Found:
    """The same of the file at `path`. Without `heavy` also raises _Heavy."""
    try:
        return _header(path, candidate, patient_key, asked, heavy)
    except OnlyContours:
        pass
    found = read_structures(place_of(path, candidate), candidate, asked.limits)
    patient = pa.array([patient_key.hashed("patient", found["patient"][0].as_py())], pa.string())
    return with_column(found, "patient", patient.take(pa.array([0] * found.num_rows)))


def _table(rows: list[Header | Alike], failed: list[tuple[int, str, Exception]]) -> pa.Table:
    """FILES of the rows; one that does not fit its types is added to `failed` instead."""
    try:
        return table_of(rows)
    except Exception:
        kept = [FILES.empty_table()]
        for row in rows:
            header = row.header() if isinstance(row, Alike) else row
            try:
                kept.append(pa.Table.from_pylist([header], FILES))
            except Exception as e:
                failed.append((header["root"], header["path"], e))
        return pa.concat_tables(kept)


def _reject(root: int, path: str, error: Exception, key: PatientKey) -> dict[str, Any]:
    outcome, reason = _outcome(error)
    patient, study, series = vars(error).get(WHOSE_FILE, (None, None, None))
    return {
        "root": root, "path": path, "outcome": outcome, "stage": stage_of(error, "header"),
        "reason": reason, "patient": key.hashed("patient", patient), "study_uid": study,
        "series_uid": series,
    }  # fmt: skip


def _patiently(
    reading: partial[Found], path: str, tries: int, elsewhere: Elsewhere | None
) -> Found:
    """What `reading` says of a file, which EIO fails only if it comes `tries` times.

    Faults name the file, `path`.
    """
    while True:
        try:
            return reading() if elsewhere is None else _here_or(elsewhere, reading)
        except OSError as e:
            if e.filename is None:
                e.filename = path
            tries -= 1
            if e.errno != errno.EIO or tries <= 0:
                raise
            time.sleep(_PAUSE)
        except MemoryError as e:
            raise MemoryError(f"{path}: {e}" if str(e) else path) from e


def _here_or(elsewhere: Elsewhere, reading: partial[Found]) -> Found:
    size = reading.args[1].size
    if elsewhere.always:
        return elsewhere.alone(reading, size=size, tries=2)
    try:
        return elsewhere.in_time(partial(reading, heavy=False))
    except _Heavy:
        return elsewhere.alone(reading, size=size, tries=2)
    except (MemoryError, OutOfTime):  # perhaps of others beside it
        return elsewhere.alone(reading, size=size, tries=1)


def _outcome(error: Exception) -> tuple[str, str]:
    if isinstance(error, NoPixels):
        return "no-pixels", reason_of(error)
    if isinstance(error, NotDicom):
        return "not-dicom", reason_of(error)
    if isinstance(error, PermissionError):
        return "failed", "no permission to read the file; make it readable for the converting user"
    if isinstance(error, OSError):
        why = f"cannot read the file: {error.strerror or error}"
        return "failed", why + ("; its storage may be failing" if error.errno == errno.EIO else "")
    return "failed", reason_of(error)


def read_header(
    roots: Sequence[str],
    candidate: Candidate,
    patient_key: PatientKey,
    scanned: bool = True,
    limits: Limits = LIMITS,
) -> Header:
    """One file's header as a row of FILES.

    The common header is scanned; pydicom reads what is unusual, or everything unless `scanned`.
    Raises NoPixels, NotDicom, FrameError or OSError.
    """
    path = os.path.join(roots[candidate.root], candidate.path)
    found = _header(path, candidate, patient_key, asked_by(limits), scanned=scanned)
    return found.header() if isinstance(found, Alike) else found


def _header(
    path: str,
    candidate: Candidate,
    patient_key: PatientKey,
    asked: Asked,
    heavy: bool = True,
    scanned: bool = True,
) -> Header | Alike:
    place = place_of(path, candidate)
    found = _by_scan(place, candidate, asked, patient_key) if scanned else None
    if isinstance(found, Alike):
        return found
    if found is None and not heavy and _is_heavy(place, candidate):
        raise _Heavy
    found = found or Plain(*by_pydicom(place, candidate, asked.limits))
    if is_tiled(found.row):  # only then what is private is read
        found = found._replace(row=with_slices(found.row, whole_header(place)))
    return found.hashed(patient_key)


_LIGHT = 4 << 20
"""bytes of a file of which pydicom makes some 400 MB at most: its objects take a hundred times what
they are read from"""


class _Heavy(Exception):
    """A header that may take so much memory that it is read in a process of its own."""


def _is_heavy(path: Place, candidate: Candidate) -> bool:
    with open_at(path) as file:
        head = file.read(0, 4096)
    meta = 132 if head[128:132] == b"DICM" else 0
    length = int.from_bytes(head[meta + 8 : meta + 12], "little")
    long = head[meta : meta + 8] == b"\2\0\0\0UL\4\0" and length > len(head)
    if DEFLATED.encode() in head or long:
        return True  # it may become a thousand times as long
    return candidate.size > _LIGHT and (head[128:132] == b"DICM" or other_format(head) is None)


def _by_scan(
    place: Place, candidate: Candidate, asked: Asked, key: PatientKey
) -> Plain | Alike | None:
    """None if pydicom shall judge the file."""
    with open_at(place) as file:
        check_unchanged(file, candidate)
        found = split(file, asked.tags)
    if found is None:
        return None
    limits = asked.limits
    if found.offset > limits.header_items * len(ITEMS[0]):  # else there is no room
        check_items(found.count(items_in), limits)
    try:
        return row_of(found, candidate, place, asked, key)
    except MemoryError:
        raise
    except Exception:  # refused, or a value that provokes pydicom: then in the words of its way
        return None
