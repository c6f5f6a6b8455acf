"""Files to headers: sniffed, parsed without pixels, described or refused with a reason."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from dicom2cache.errors import Dicom2cacheError, NoPixels, NotDicom, unforeseen
from dicom2cache.headers.by_pydicom import Row, by_pydicom, check_unchanged, wanted
from dicom2cache.headers.patient import keyed_hash
from dicom2cache.headers.scan import scan
from dicom2cache.headers.series import row_of
from dicom2cache.records import Candidate
from dicom2cache.schema import FILES, REJECTS
from dicom2cache.sources import mounts

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
    return "failed", f"the header cannot be read: {unforeseen(error)}"


def read_header(
    roots: Sequence[str], candidate: Candidate, patient_key: bytes, scanned: bool = True
) -> dict[str, Any]:
    """One file's header as a row of FILES.

    The common header is scanned; pydicom reads what is unusual, or everything unless `scanned`.
    Raises NoPixels, NotDicom, FrameError or OSError.
    """
    path = os.path.join(roots[candidate.root], candidate.path)
    found = _by_scan(path, candidate) if scanned else None
    row, patient, accession = found or by_pydicom(path, candidate)
    row["patient"] = keyed_hash(patient_key, patient)
    row["accession"] = keyed_hash(patient_key, accession)
    return row


def _by_scan(path: str, candidate: Candidate) -> Row | None:
    """None if pydicom shall judge the file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check_unchanged(descriptor, candidate)
        elements = scan(descriptor, wanted())
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
