"""Files to headers: sniffed, parsed without pixels, described or refused with a reason."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa

from dicom2cache import codecs, deflated, mounts
from dicom2cache.bounded import BoundedFile
from dicom2cache.describe import describe, wanted_tags
from dicom2cache.errors import Dicom2cacheError, FrameError, NoPixels, NotDicom
from dicom2cache.header_rows import row_of
from dicom2cache.header_scan import scan
from dicom2cache.header_values import CHARSET
from dicom2cache.patient import keyed_hash
from dicom2cache.records import FILES, REJECTS, Candidate
from dicom2cache.tags import name, text

_CLAIMS_DICOM = {".dcm", ".dicom", ".dic", ".ima"}
_TRIES, _PAUSE = 3, 0.25  # EIO may pass; seconds between
_MOST_UNREADABLE = 8
"""files of one call that EIO may fail before it stops the run"""


def read_headers(
    roots: Sequence[str], candidates: Iterable[Candidate], patient_key: bytes
) -> tuple[pa.Table, pa.Table]:
    """Headers of the candidates: (FILES, REJECTS), in their order.

    A file that cannot be read or is no image becomes a row of REJECTS. Raises OSError or
    MemoryError, naming the file, for faults of the environment, and SourceAway.
    """
    rows: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    unreadable = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's; what matters ends as a flag or a failure
        for candidate in candidates:
            try:
                rows.append(_patiently(roots, candidate, patient_key, 1 if unreadable else _TRIES))
            except Exception as e:
                # A few files may lie on bad blocks; if many cannot be read, it is not the files.
                failing = isinstance(e, OSError) and e.errno == errno.EIO
                unreadable += failing
                if not (failing and unreadable <= _MOST_UNREADABLE):
                    mounts.raise_environment(e, roots[candidate.root], candidate.path)
                outcome, reason = _outcome(e)
                rejects.append(
                    {
                        "root": candidate.root,
                        "path": candidate.path,
                        "outcome": outcome,
                        "stage": "header",
                        "reason": reason,
                    }
                )
    return pa.Table.from_pylist(rows, FILES), pa.Table.from_pylist(rejects, REJECTS)


def _patiently(
    roots: Sequence[str], candidate: Candidate, patient_key: bytes, tries: int
) -> dict[str, Any]:
    """`read_header`, which EIO fails only if it comes `tries` times; faults name the file."""
    while True:
        try:
            return read_header(roots, candidate, patient_key)
        except OSError as e:
            if e.filename is None:
                e.filename = os.path.join(roots[candidate.root], candidate.path)
            tries -= 1
            if e.errno != errno.EIO or tries <= 0:
                raise
            time.sleep(_PAUSE)
        except MemoryError as e:
            path = os.path.join(roots[candidate.root], candidate.path)
            raise MemoryError(f"{path}: {e}" if str(e) else path) from e


def _outcome(error: Exception) -> tuple[str, str]:
    if isinstance(error, NoPixels):
        return "no-pixels", str(error)
    if isinstance(error, NotDicom):
        return "not-dicom", str(error)
    if isinstance(error, Dicom2cacheError):
        return "failed", str(error)
    if isinstance(error, PermissionError):
        return "failed", "no permission to read the file; make it readable for the converting user"
    if isinstance(error, OSError):
        why = f"cannot read the file: {error.strerror or error}"
        return "failed", why + ("; its storage may be failing" if error.errno == errno.EIO else "")
    return "failed", f"the header cannot be read: {type(error).__name__}: {error}"


def read_header(
    roots: Sequence[str], candidate: Candidate, patient_key: bytes, scanned: bool = True
) -> dict[str, Any]:
    """One file's header as a row of FILES.

    The common header is scanned; pydicom reads what is unusual, or everything unless `scanned`.
    Raises NoPixels, NotDicom, FrameError or OSError.
    """
    path = os.path.join(roots[candidate.root], candidate.path)
    found = _by_scan(path, candidate) if scanned else None
    row, patient, accession = found or _by_pydicom(path, candidate)
    row["patient"] = keyed_hash(patient_key, patient)
    row["accession"] = keyed_hash(patient_key, accession)
    return row


_Row = tuple[dict[str, Any], str | None, str | None]
"""(row without its hashes, patient ID, accession number)"""


def _by_scan(path: str, candidate: Candidate) -> _Row | None:
    """None if pydicom shall judge the file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check_unchanged(descriptor, candidate)
        elements = scan(descriptor, _wanted())
    finally:
        os.close(descriptor)
    if elements is None:
        return None
    try:
        return row_of(elements, candidate, path)
    except MemoryError:
        raise
    except Exception:  # refused, or a value that provokes pydicom: then in the words of its way
        return None


def _by_pydicom(path: str, candidate: Candidate) -> _Row:
    claims = PurePosixPath(candidate.path).suffix.lower() in _CLAIMS_DICOM
    with BoundedFile(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check_unchanged(file.fileno(), candidate)
        _sniff(file, candidate, claims)
        ds, stream = _parse(file, claims)
        at = stream.tell()
        row = describe(ds, stream.read(12), at, candidate, path)
        return row, text(ds, "PatientID"), text(ds, "AccessionNumber")


def _check_unchanged(descriptor: int, candidate: Candidate) -> None:
    status = os.fstat(descriptor)
    if (status.st_size, status.st_mtime_ns) != (candidate.size, candidate.mtime_ns):
        raise FrameError("changed while it was being read; run again when it is at rest")


@cache
def _wanted() -> frozenset[int]:
    return frozenset(wanted_tags()) | {CHARSET}


def _sniff(file: IO[bytes], candidate: Candidate, claims: bool) -> None:
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
    if claims:
        raise FrameError(
            "not a DICOM file although its name says so: no DICM at byte 128 and no data element "
            "at byte 0; remove it or rename it"
        )
    raise NotDicom("no DICM at byte 128 and no data element at byte 0")


def _parse(file: IO[bytes], claims: bool) -> tuple[Any, IO[bytes]]:
    """(dataset without pixels, stream that stands at the pixel data)."""
    from pydicom import dcmread

    stream = file
    head = file.read(4096)  # where group 0002 lies
    _check_body(head)
    try:
        if codecs.DEFLATED.encode() in head and _syntax(file) == codecs.DEFLATED:
            ds, stream = deflated.parse(file, wanted_tags())
        else:
            file.seek(0)
            ds = dcmread(file, stop_before_pixels=True, force=True, specific_tags=wanted_tags())
    except FrameError:
        raise
    except (MemoryError, OSError) as e:
        # pydicom raises EOFError, which is no OSError; a real OSError has an errno
        if isinstance(e, MemoryError) or e.errno is not None:
            raise
        raise FrameError(f"the header cannot be read: {e}") from e
    except Exception as e:  # pydicom raises whatever the bytes provoke
        raise FrameError(
            f"the header cannot be read ({type(e).__name__}: {e}); the file is damaged or "
            "truncated, copy it again"
        ) from e
    part_10 = head[128:132] == b"DICM" and "TransferSyntaxUID" in ds.file_meta
    said = "SOPClassUID" in ds or "Rows" in ds or "MediaStorageSOPClassUID" in ds.file_meta
    if not said and not part_10:
        if claims:
            raise FrameError("not a DICOM file although its name says so; remove it or rename it")
        raise NotDicom("no SOP Class UID (0008,0016) and no Rows (0028,0010)")
    return ds, stream


def _syntax(file: IO[bytes]) -> str | None:
    """Transfer Syntax UID of a file with preamble."""
    found = deflated.file_meta(file).get("TransferSyntaxUID")
    return None if found is None else str(found)


def _check_body(head: bytes) -> None:
    """Refuse a plain little-endian dataset that is said to be deflated or big-endian.

    It begins with group 0008, least byte first; neither a deflated stream nor a big-endian dataset
    can begin so (RFC 1951 3.2.4; there is no group 0800).
    """
    if head[128:140] != b"DICM\x02\0\0\0UL\x04\0":
        return
    at = 144 + int.from_bytes(head[140:144], "little")
    if head[at : at + 2] != b"\x08\0" or head[at + 3 : at + 4] != b"\0":
        return
    for uid, what in ((codecs.DEFLATED, "deflated"), (codecs.EXPLICIT_BE, "big-endian")):
        said = uid.encode() + bytes(len(uid) % 2)
        if b"\x02\0\x10\0UI" + len(said).to_bytes(2, "little") + said in head[144:at]:
            raise FrameError(
                f"{name('TransferSyntaxUID')} is {uid}, {what}, but the dataset is plain and "
                "little-endian; the UID is wrong, correct it (1.2.840.10008.1.2.1 where elements "
                "have a VR, else 1.2.840.10008.1.2)"
            )
