"""File to header: everything that the plan and the decoder need, and no pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa

from dicom2cache import codecs
from dicom2cache.errors import Dicom2cacheError, FrameError, NoPixels, NotDicom, is_environment
from dicom2cache.image_pixel import check_length, pixel_element, pixel_layout
from dicom2cache.lut import modality_lut_range, palette_bits
from dicom2cache.meaning import (
    dose_positions,
    functional_groups,
    kind_of,
    rescale_of,
    spacing_of,
    windows_of,
)
from dicom2cache.patient import age_in_years, keyed_hash
from dicom2cache.records import FILES, PER_FRAME_FIELDS, REJECTS, Candidate
from dicom2cache.tags import items, name, number, raw, text, value, vector, whole

_CLAIMS_DICOM = {".dcm", ".dicom", ".dic", ".ima"}
_MODEL = {
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "sop_uid": "SOPInstanceUID",
    "frame_of_reference_uid": "FrameOfReferenceUID",
    "sop_class_uid": "SOPClassUID",
    "sex": "PatientSex",
    "modality": "Modality",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "body_part": "BodyPartExamined",
    "view_position": "ViewPosition",
    "image_type": "ImageType",
    "presentation_intent": "PresentationIntentType",
    "kernel": "ConvolutionKernel",
}
_NUMBERS = {
    "kvp": "KVP",
    "thickness": "SliceThickness",
    "echo_time": "EchoTime",
    "repetition_time": "RepetitionTime",
    "b_value": "DiffusionBValue",
    "trigger_time": "TriggerTime",
}
_WHOLES = {
    "temporal_index": "TemporalPositionIdentifier",
    "acquisition": "AcquisitionNumber",
    "instance": "InstanceNumber",
}

# fmt: off
_OTHERS = (
    "PatientID", "AccessionNumber", "PatientAge", "ImageLaterality", "Laterality",
    "PixelPresentation", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration",
    "NumberOfFrames", "SpectroscopyData", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "Units", "DoseGridScaling", "DoseUnits", "DoseType", "GridFrameOffsetVector",
    "ModalityLUTSequence", "VOILUTSequence", "PresentationLUTShape", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation",
    "VOILUTFunction", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing",
    "SequenceOfUltrasoundRegions", "ImagePositionPatient", "ImageOrientationPatient",
    "LossyImageCompression", "BurnedInAnnotation", "ContrastBolusAgent", "StackID",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
)
# fmt: on


def read_headers(
    roots: Sequence[str], candidates: Iterable[Candidate], patient_key: bytes
) -> tuple[pa.Table, pa.Table]:
    """Headers of the candidates: (FILES, REJECTS), in their order.

    A file that cannot be read or is no image becomes a row of REJECTS. Raises OSError or
    MemoryError for faults of the environment.
    """
    rows: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    for candidate in candidates:
        try:
            rows.append(read_header(roots, candidate, patient_key))
        except Exception as e:
            if is_environment(e):
                raise
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
        return "failed", f"cannot read the file: {error.strerror or error}"
    return "failed", f"the header cannot be read: {type(error).__name__}: {error}"


def read_header(roots: Sequence[str], candidate: Candidate, patient_key: bytes) -> dict[str, Any]:
    """One file's header as a row of FILES.

    Raises NoPixels, NotDicom, FrameError or OSError.
    """
    path = os.path.join(roots[candidate.root], candidate.path)
    claims = PurePosixPath(candidate.path).suffix.lower() in _CLAIMS_DICOM
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's; what matters ends as a flag or a failure
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (candidate.size, candidate.mtime_ns):
            raise FrameError("changed while it was being read; run again when it is at rest")
        _sniff(file, candidate, claims)
        ds = _parse(file, claims)
        row = _describe(ds, file, candidate, path)
    row = {**dict.fromkeys(FILES.names), **row}
    row["patient"] = keyed_hash(patient_key, text(ds, "PatientID"))
    row["accession"] = keyed_hash(patient_key, text(ds, "AccessionNumber"))
    return row


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


def _parse(file: IO[bytes], claims: bool) -> Any:
    from pydicom import dcmread

    try:
        ds = dcmread(file, stop_before_pixels=True, force=True, specific_tags=_wanted())
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
    if (
        "SOPClassUID" not in ds
        and "Rows" not in ds
        and "MediaStorageSOPClassUID" not in ds.file_meta
    ):
        if claims:
            raise FrameError("not a DICOM file although its name says so; remove it or rename it")
        raise NotDicom("no SOP Class UID (0008,0016) and no Rows (0028,0010)")
    return ds


@cache
def _wanted() -> list[int]:
    from pydicom.datadict import tag_for_keyword

    keywords = {
        *_MODEL.values(),
        *_NUMBERS.values(),
        *_WHOLES.values(),
        *_OTHERS,
    }
    tags = (tag_for_keyword(keyword) for keyword in keywords)
    return sorted(tag for tag in tags if tag is not None)


def _describe(ds: Any, file: IO[bytes], candidate: Candidate, path: str) -> dict[str, Any]:
    syntax = str(value(ds.file_meta, "TransferSyntaxUID") or "")
    if not syntax:
        implicit, little = ds.original_encoding
        little_syntax = codecs.IMPLICIT_LE if implicit else codecs.EXPLICIT_LE
        syntax = little_syntax if little else codecs.EXPLICIT_BE
    keyword, vr, offset, length = pixel_element(ds, file, syntax, path)
    frames = whole(ds, "NumberOfFrames") if value(ds, "NumberOfFrames") is not None else 1
    if frames is None or frames < 0:
        raise FrameError(
            f"{name('NumberOfFrames')} is {raw(ds, 'NumberOfFrames')}; legal: from 1 to 2^31-1"
        )
    frames = frames or 1  # 0 is written by some exporters for single-frame files
    row = {
        "root": candidate.root,
        "path": candidate.path,
        "size": candidate.size,
        "mtime_ns": candidate.mtime_ns,
        "transfer_syntax": syntax,
        "pixel_keyword": keyword,
        "pixel_vr": vr,
        "pixel_offset": offset,
        "pixel_length": length,
        "frames": frames,
        "kind": kind_of(ds),
        **pixel_layout(ds, keyword),
        **{column: text(ds, key) for column, key in _MODEL.items()},
        **{column: number(ds, key) for column, key in _NUMBERS.items()},
        **{column: whole(ds, key) for column, key in _WHOLES.items()},
        "age": age_in_years(text(ds, "PatientAge")),
        "laterality": text(ds, "ImageLaterality") or text(ds, "Laterality"),
        "contrast": text(ds, "ContrastBolusAgent") is not None,
        "lossy": text(ds, "LossyImageCompression") == "01" or syntax in codecs.ALWAYS_LOSSY,
        "burned_in": {"YES": True, "NO": False}.get(text(ds, "BurnedInAnnotation") or ""),
        "position": vector(ds, "ImagePositionPatient", 3),
        "orientation": vector(ds, "ImageOrientationPatient", 6),
        "stack_name": text(ds, "StackID"),
        "windows": windows_of(ds),
        "voi_lut": bool(items(ds, "VOILUTSequence")),
    }
    row["spacing_y"], row["spacing_x"], row["spacing_tag"] = spacing_of(ds)
    _add_values(row, ds, frames)
    check_length(row)
    return row


def _add_values(row: dict[str, Any], ds: Any, frames: int) -> None:
    """Slope, intercept, unit, palette, padding, and what single frames say."""
    flags: list[str] = []
    row["padding_value"] = whole(ds, "PixelPaddingValue")
    row["padding_limit"] = whole(ds, "PixelPaddingRangeLimit")
    if row["samples"] > 1 or row["photometric"] == "PALETTE COLOR":
        if row["photometric"] == "PALETTE COLOR":
            row["palette_bits"] = palette_bits(ds)
        row["padding_value"] = row["padding_limit"] = row["inverted"] = None
        row["flags"] = None
        return
    meant = rescale_of(ds)
    flags += meant.flags
    row["slope"], row["intercept"], row["unit"] = meant.slope, meant.intercept, meant.unit
    shared, per_frame = functional_groups(ds, frames)
    if row["kind"] == "dose" and per_frame is None:
        per_frame = dose_positions(ds, frames)
    units = {g["unit"] for g in [shared, *(per_frame or [])] if "unit" in g}
    if len(units) > 1:
        raise FrameError(f"frames of several units ({', '.join(sorted(units))}) in one file")
    row["unit"] = units.pop() if units else row["unit"]
    row.update({k: v for k, v in shared.items() if k in row or k in FILES.names})
    if per_frame and row["windows"] is None:
        row["windows"] = per_frame[0].get("windows")
    if per_frame:
        row["per_frame"] = [{k: g.get(k) for k in PER_FRAME_FIELDS} for g in per_frame]
    if items(ds, "ModalityLUTSequence"):
        if "RescaleSlope" in ds:
            flags.append("lut-and-rescale")  # illegal together (PS3.3 C.11.1): the LUT wins
        row["lut_low"], row["lut_high"] = modality_lut_range(ds)
        row["unit"] = text(items(ds, "ModalityLUTSequence")[0], "ModalityLUTType") or "US"
    if row["slope"] == 0:
        flags.append("slope-zero")
    row["flags"] = flags or None
