"""What dcm2niix and SimpleITK cannot judge: in which series, and how far it then counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.oracles.pairs import slices
from tests.oracles.programs import Volume


@dataclass(frozen=True)
class Header:
    """What a limit may look at: a few elements of one file, read by pydicom."""

    path: str
    position: tuple[float, ...] | None
    plane: tuple[float, ...] | None
    size: tuple[int, int]
    kind: str
    """first value of Image Type"""
    patient: str
    acquisition: str
    instance: str
    frames: int
    concatenated: bool
    located: bool
    scaled: bool
    """Philips' precise scale slope is there"""
    by_row: bool
    """In-plane Phase Encoding Direction is ROW"""
    vendor: str
    frame_of_reference: str
    sop: str
    shown_as: str
    """Photometric Interpretation"""
    bits: int
    lossy: bool
    table: bool
    """there is a Modality LUT Sequence"""
    dose: bool
    old_csa: bool
    stack_ids: int
    """how many there are in the functional groups"""
    labelled: bool
    """frames of arterial spin labelling"""


LOSSY = {f"1.2.840.10008.1.2.4.{n}" for n in ("50", "51", "81", "91", "203")}
WANTED = [
    "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "Rows", "Columns",
    "ImageType", "PatientID", "AcquisitionNumber", "InstanceNumber", "NumberOfFrames",
    "PhotometricInterpretation", "ConcatenationUID", "SliceLocation", 0x2005100E,
    "InPlanePhaseEncodingDirection", "Manufacturer", "SOPInstanceUID", "ModalityLUTSequence",
    "Modality", "BitsAllocated", "FrameOfReferenceUID", "PerFrameFunctionalGroupsSequence",
    0x00291010,
]  # fmt: skip


def read_headers(folder: Path) -> dict[str, list[Header]]:
    """{series UID: files}, of the files with rows that pydicom can read."""
    found = defaultdict(list)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            ds = dcmread(path, stop_before_pixels=True, specific_tags=WANTED, force=True)
            if "Rows" in ds:
                header = _header(ds, str(path.relative_to(folder)))
                found[str(ds.get("SeriesInstanceUID") or "")].append(header)
        except Exception as e:  # whatever pydicom raises: then no limit is known by this file
            print(f"pydicom cannot read {path.name}: {e}")
    return found


def _header(ds: Dataset, path: str) -> Header:
    return Header(
        path, _numbers(ds.get("ImagePositionPatient")), _numbers(ds.get("ImageOrientationPatient")),
        (ds.Rows, ds.Columns), str((ds.get("ImageType") or [""])[0]),
        str(ds.get("PatientID") or ""), str(ds.get("AcquisitionNumber") or ""),
        str(ds.get("InstanceNumber") or ""),
        int(ds.get("NumberOfFrames") or 1), "ConcatenationUID" in ds,
        ds.get("SliceLocation") is not None, 0x2005100E in ds,
        str(ds.get("InPlanePhaseEncodingDirection") or "").startswith("R"),
        str(ds.get("Manufacturer") or ""), str(ds.get("FrameOfReferenceUID") or ""),
        str(ds.get("SOPInstanceUID") or ""),
        str(ds.get("PhotometricInterpretation") or ""), ds.get("BitsAllocated") or 0,
        str(ds.file_meta.get("TransferSyntaxUID", "")) in LOSSY, "ModalityLUTSequence" in ds,
        ds.get("Modality") == "RTDOSE",
        0x00291010 in ds and ds[0x00291010].value[:4] != b"SV10",
        _stack_ids(ds),
        any("MRArterialSpinLabelingSequence" in g
            for g in ds.get("PerFrameFunctionalGroupsSequence", [])),
    )  # fmt: skip


def _stack_ids(ds: Dataset) -> int:
    groups = ds.get("PerFrameFunctionalGroupsSequence", [])
    content = [item for g in groups for item in g.get("FrameContentSequence", [])]
    return len({item.get("StackID") for item in content})


def _numbers(value: Any) -> tuple[float, ...] | None:
    return tuple(float(v) for v in value) if value else None


Test = Callable[[Sequence[Header]], bool]


def _several(what: Callable[[Header], Any]) -> Test:
    return lambda headers: len({what(h) for h in headers}) > 1


def _places_repeat_unevenly(headers: Sequence[Header]) -> bool:
    return len(set(Counter(h.position for h in headers).values())) > 1


def copied(headers: Sequence[Header]) -> bool:
    """One SOP Instance UID stands in several files."""
    return len({h.sop for h in headers}) < len(headers)


def _each_place_once(headers: Sequence[Header]) -> bool:
    return len({h.position for h in headers}) == len(headers)


@dataclass(frozen=True)
class Limit:
    """How the volumes of a program that found no partner stand to ours, and in which series."""

    program: str
    relation: str
    """a function of RELATIONS"""
    holds: Test
    reason: str


LIMITS = (
    Limit("dcm2niix", "pieces", _several(lambda h: h.kind), "keeps DERIVED slices apart"),
    Limit(
        "dcm2niix", "pieces", lambda hs: any(h.concatenated for h in hs),
        "does not join concatenations",
    ),
    Limit(
        "dcm2niix", "pieces",
        lambda hs: hs[0].position is not None and len({h.position for h in hs}) == 1,
        "makes a volume of each slice at one place",
    ),
    Limit(
        "dcm2niix", "union", _several(lambda h: h.frame_of_reference),
        "does not look at Frame of Reference",
    ),
    Limit(
        "SimpleITK", "union", _several(lambda h: h.frame_of_reference),
        "does not look at Frame of Reference",
    ),
    Limit(
        "dcm2niix", "union", lambda hs: any(h.stack_ids > 1 for h in hs),
        "does not look at Stack ID",
    ),
    Limit(
        "dcm2niix", "union", lambda hs: any(h.labelled for h in hs),
        "puts label and control of enhanced images into one volume",
    ),
    Limit("dcm2niix", "union", _several(lambda h: h.patient), "does not look at Patient ID"),
    Limit("SimpleITK", "union", _several(lambda h: h.patient), "does not look at Patient ID"),
    Limit(
        "dcm2niix", "union",
        lambda hs: _several(lambda h: h.acquisition)(hs) and _each_place_once(hs),
        "looks at Acquisition Number only where places repeat",
    ),
    Limit(
        "SimpleITK", "union", _several(lambda h: h.acquisition),
        "does not look at Acquisition Number",
    ),
    Limit("dcm2niix", "doubled", _places_repeat_unevenly, "keeps slices that were sent twice"),
    Limit(
        "dcm2niix", "shuffled", lambda hs: all(h.position is None and h.located for h in hs),
        "does not order by Slice Location",
    ),
    Limit("dcm2niix", "dealt", _places_repeat_unevenly, "deals the slices to volumes of a length"),
    Limit(
        "dcm2niix", "dealt", lambda hs: len({h.instance for h in hs}) < len(hs),
        "orders by Instance Number, which repeats here",
    ),
    Limit("dcm2niix", "dealt", copied, "looks at UIDs and times, not at pixels"),
    Limit(
        "dcm2niix", "scaled", lambda hs: all(h.scaled for h in hs),
        "applies Philips' scale slope (2005,100E)",
    ),
)  # fmt: skip


def limit_of(
    program: str, headers: Sequence[Header], ours: list[Volume], theirs: list[Volume]
) -> str | None:
    """Why volumes that found no partner are no fault of ours; None if they are."""
    for limit in LIMITS:
        if limit.program == program and limit.holds(headers):
            if not ours or (not theirs and limit.relation != "dealt"):
                continue
            if len({v.pixels.shape[1:] for v in (*ours, *theirs)}) > 1:
                continue
            if RELATIONS[limit.relation](ours, theirs):
                return limit.reason
    return None


def dcm2niix_limit(headers: Sequence[Header]) -> str | None:
    """Why dcm2niix is no judge of a series with these values; None: it is one."""
    if any(h.shown_as == "PALETTE COLOR" for h in headers):
        return "does not apply palettes"
    if any(h.table for h in headers):
        return "does not apply modality LUTs"
    if any(h.old_csa for h in headers):
        return "does not read CSA headers of version 1"
    if any(h.dose for h in headers):
        return "does not read RT Dose"
    if any(h.lossy and not h.shown_as.startswith("MONOCHROME") for h in headers):
        return "has its own way with the colours of JPEG"
    if any(h.bits > 8 and not h.shown_as.startswith("MONOCHROME") for h in headers):
        return "reads colour of 8 bits"
    return None


def simpleitk_limit(headers: Sequence[Header]) -> str | None:
    """Why SimpleITK's series reader, which makes one volume, is no judge; None: it is one."""
    if len(headers) < 2 or any(h.frames > 1 for h in headers):
        return "reads series of single frames"
    if any(h.shown_as != "MONOCHROME2" for h in headers):
        return "judges MONOCHROME2"
    if any(h.position is None for h in headers):
        return "orders by position"
    if len({h.size for h in headers}) > 1:
        return "reads one size of frames"
    planes = np.array([h.plane for h in headers if h.plane])
    if len(planes) and np.ptp(planes, axis=0).max() > 1e-3:
        return "makes one volume, also of several planes"
    places = {tuple(round(v, 2) for v in h.position or ()) for h in headers}
    if len(places) < len(headers):
        return "makes one volume, also where places repeat"
    return None


def direction_limit(headers: Sequence[Header]) -> bool:
    """True where dcm2niix itself is not sure of GE's directions: they may be null."""
    return any(
        h.vendor.startswith("GE") and (h.by_row or h.plane is None or not _axial(h.plane))
        for h in headers
    )


def _axial(plane: tuple[float, ...]) -> bool:
    return abs(np.cross(plane[:3], plane[3:])[2]) > 0.999


def _pieces(ours: list[Volume], theirs: list[Volume]) -> bool:
    """Theirs are pieces of ours, in order, and all of them."""
    mine, found = [slices(v) for v in ours], [slices(v) for v in theirs]
    return _together(mine) == _together(found) and all(
        any(_within(f, m) for m in mine) for f in found
    )


def _union(ours: list[Volume], theirs: list[Volume]) -> bool:
    """Theirs is several of ours put together, each in order."""
    return _pieces(theirs, ours)


def _doubled(ours: list[Volume], theirs: list[Volume]) -> bool:
    """Theirs is one of ours, with slices twice."""
    mine = [slices(v) for v in ours]
    once = [list(dict.fromkeys(slices(v))) for v in theirs]
    return all(any(f in (m, m[::-1]) for m in mine) for f in once)


def _shuffled(ours: list[Volume], theirs: list[Volume]) -> bool:
    """Theirs is ours in another order."""
    mine, found = [slices(v) for v in ours], [slices(v) for v in theirs]
    return len(mine) == len(found) == 1 and sorted(mine[0]) == sorted(found[0])


def _dealt(ours: list[Volume], theirs: list[Volume]) -> bool:
    """Theirs have the slices of ours, dealt in another way."""
    mine, found = (Counter(_together([slices(v) for v in some])) for some in (ours, theirs))
    return found <= mine


def _scaled(ours: list[Volume], theirs: list[Volume]) -> bool:
    """Each of theirs is one of ours, times one number and plus another."""
    for v in theirs:
        flat = v.pixels.ravel()
        for m in ours:
            if m.pixels.shape != v.pixels.shape:
                continue
            for there in (m.pixels, m.pixels[::-1]):
                basis = np.stack([there.ravel(), np.ones(there.size)], axis=1)
                fit = basis @ np.linalg.lstsq(basis, flat, rcond=None)[0]
                if np.allclose(fit, flat, rtol=1e-4, atol=1e-4 * np.ptp(flat)):
                    break
            else:
                continue
            break
        else:
            return False
    return True


RELATIONS = {
    "pieces": _pieces, "union": _union, "doubled": _doubled, "shuffled": _shuffled,
    "dealt": _dealt, "scaled": _scaled,
}  # fmt: skip


def _together(volumes: list[list[tuple[float, ...]]]) -> list[tuple[float, ...]]:
    return sorted(s for v in volumes for s in v)


def _within(small: list[Any], large: list[Any]) -> bool:
    """The slices are in `large`, in the same order or in the opposite."""
    if not set(small) <= set(large):
        return False
    places = [large.index(s) for s in small]
    return places in (sorted(places), sorted(places, reverse=True))
