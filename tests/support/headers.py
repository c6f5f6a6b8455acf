"""Which way headers are read."""

from __future__ import annotations

from pathlib import Path

from dicom2cache.headers.read import _by_scan
from dicom2cache.headers.series import asked_by
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate
from dicom2cache.sources.place import Place


def is_scanned(path: Path, candidate: Candidate) -> bool:
    """True if pydicom is not needed for its header."""
    key = PatientKey(bytes(16))
    return _by_scan(Place(str(path)), candidate, asked_by(Limits()), key) is not None
