"""Labels of a stack as a DICOM segmentation (PS3.3 A.51, A.101), which highdicom writes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.errors import VolumeError
from trainer_adapter.reading.masks.joined import joined
from trainer_adapter.reading.opened import Core
from trainer_adapter.volumes import convert
from trainer_adapter.volumes.stacks import Ints

KINDS = ("binary", "labelmap")
_NIFTI = "write NIfTI: cache.prediction(stack, labels).to_nifti(path)"
_TISSUE = ("SCT:85756007", "Tissue")
"""what a class is, where nobody said: category and type of Slicer's default segment"""
_CATEGORIES = {
    "SCT:85756007": "Tissue", "SCT:123037004": "Anatomical Structure",
    "SCT:49755003": "Morphologically Altered Structure", "SCT:260787004": "Physical object",
    "SCT:91720002": "Body Substance", "SCT:91723000": "Anatomical Structure",
    "SRT:T-D0050": "Tissue", "SRT:T-D000A": "Anatomical Structure",
    "SRT:M-01000": "Morphologically Altered Structure",
}  # fmt: skip
"""meanings of the codes of CID 7150, of which frames/ has the codes only"""
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""type 2 of PS3.3 C.7.1.1 and C.7.2.1: files leave them out, and highdicom copies them"""
Coded = tuple[str, str]
"""SCHEME:CODE, and its meaning"""


def segmentation(
    core: Core,
    frames: Ints,
    labels: NDArray[Any],
    headers: list[Any],
    numbers: Mapping[str, int],
    kind: str,
    codes: Mapping[str, tuple[Coded, Coded]],
    algorithm: tuple[str, str],
    name: str,
) -> Any:
    """A highdicom.seg.Segmentation of labels (d, h, w) of the sources of these frames.

    `headers`: of the file of each. Raises VolumeError for what the standard, or highdicom, cannot
    say; ValueError for labels that are no class.
    """
    highdicom = convert.library("highdicom", "DICOM segmentations", "seg")
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}; legal: {', '.join(KINDS)}")
    names, labels = _segments(labels, numbers, name)
    images, pixels = _images(core, frames, labels, headers, name)
    known = coded_of(core) | dict(codes)
    identification = highdicom.AlgorithmIdentificationSequence(
        algorithm[0], _code("DCM:123109", "Artificial Intelligence"), algorithm[1]
    )
    described = [
        highdicom.seg.SegmentDescription(
            number, label, *(_code(*c) for c in known.get(label, (_TISSUE, _TISSUE))),
            "AUTOMATIC", identification,
        )
        for number, label in enumerate(names, 1)
    ]  # fmt: skip
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    told = [str(images[0].get("SeriesInstanceUID")), kind, digest, *names, *algorithm]
    uids = [_uid([*told, what]) for what in ("series", "instance")]
    try:
        return highdicom.seg.Segmentation(
            images, pixels, kind.upper(), described, uids[0], 1, uids[1], 1, "dicom2cache",
            "trainer_adapter", _version(), "1", omit_empty_frames=bool(pixels.any()),
        )  # fmt: skip
    except (ValueError, TypeError, AttributeError, KeyError) as e:
        raise VolumeError(f"{name}: highdicom cannot write a segmentation of it: {e}") from e


def _segments(
    labels: NDArray[Any], numbers: Mapping[str, int], name: str
) -> tuple[list[str], NDArray[Any]]:
    """(names in the order of their numbers, labels as places in them from 1)."""
    first: dict[int, str] = {}
    for label, number in numbers.items():
        if number:
            first.setdefault(number, label)
    known = sorted(first)
    if not known:
        raise ValueError(f"{name}: no classes; give classes=[...], the names of the labels from 1")
    there = np.unique(labels)
    if unknown := sorted(set(there.tolist()) - {0, *known}):
        raise ValueError(
            f"{name}: labels {unknown[:5]} are no class; legal: 0, and {known} for "
            f"{', '.join(first[k] for k in known)}"
        )
    table = np.zeros(int(there.max(initial=0)) + 1, np.uint8 if len(known) < 256 else np.uint16)
    for place, number in enumerate(known, 1):
        if number < len(table):
            table[number] = place
    return [first[k] for k in known], table[labels]


def _images(
    core: Core, frames: Ints, labels: NDArray[Any], headers: list[Any], name: str
) -> tuple[list[Any], NDArray[Any]]:
    """(the instances that are drawn on, and labels of all of their frames).

    Raises VolumeError for slices of mosaics, and several instances of several frames.
    """
    if core.said("part_of_frame", frames).fill_null(0).to_numpy(zero_copy_only=False).any():
        raise VolumeError(
            f"{name}: its frames were cut out of mosaics, and a segmentation refers to a mosaic "
            f"only as a whole; {_NIFTI}"
        )
    rows, columns = ({int(ds.get(n, 0)) for ds in headers} for n in ("Rows", "Columns"))
    if (rows, columns) != ({labels.shape[1]}, {labels.shape[2]}):
        raise VolumeError(
            f"{name}: its files have Rows (0028,0010) {sorted(rows)} and Columns (0028,0011) "
            f"{sorted(columns)} now, and had {labels.shape[1:]}: build the cache again"
        )
    files = {id(ds): ds for ds in headers}
    for ds in files.values():
        for keyword in _MAY_BE_EMPTY:
            if keyword not in ds:
                setattr(ds, keyword, None)
    number = core.said("frame", frames).to_numpy(zero_copy_only=False).astype(np.int64)
    if len(files) == len(headers) and not number.any():
        return list(files.values()), labels
    if len(files) > 1:
        raise VolumeError(
            f"{name}: its frames are of {len(files)} instances of several frames each, and a "
            "segmentation refers to one of these only: give each its own, with its part of the "
            f"labels, by cache.select(sop_uid=...).to_seg, or {_NIFTI}"
        )
    image = headers[0]
    whole = np.zeros((int(image.get("NumberOfFrames", 1)), *labels.shape[1:]), labels.dtype)
    whole[number] = labels
    return [image], whole


def coded_of(core: Core) -> dict[str, tuple[Coded, Coded]]:
    """{label: (category, type)} of the masks that the cache has."""
    masks = joined(core).masks
    listed = core.said("segments", masks).flatten()
    found: dict[str, tuple[Coded, Coded]] = {}
    names = ["label", "category", "type", "type_meaning"]
    if not len(listed) or not {f.name for f in listed.type} >= set(names):
        return found
    table = pa.table({name: pc.struct_field(listed, name) for name in names})
    rows = table.group_by(names, use_threads=False).aggregate([]).to_pylist()
    for label, category, kind, meaning in (tuple(row[n] for n in names) for row in rows):
        if label and category and kind and ":" in category and ":" in kind:
            known = (category, _CATEGORIES.get(category, category)), (kind, meaning or label)
            found.setdefault(label, known)
    return found


def _code(code: str, meaning: str) -> Any:
    coding = convert.library("pydicom.sr.coding", "DICOM segmentations", "seg")
    scheme, _, value = code.partition(":")
    return coding.Code(value, scheme, meaning[:64])


def _uid(told: list[str]) -> str:
    """The same for the same: whoever draws again what is there gives it the same name."""
    number = int.from_bytes(hashlib.sha256("\0".join(told).encode()).digest()[:16], "big")
    return f"2.25.{number}"  # PS3.5 B.2


def _version() -> str:
    for name in ("trainer-adapter", "dicom2cache"):  # a clone is one distribution
        with suppress(PackageNotFoundError):
            return version(name)
    return "unknown"
