"""File to header: everything that the plan and the decoder need, and no pixels."""

from __future__ import annotations

import hashlib
import hmac
import os
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa

from dicom2cache import codecs
from dicom2cache.errors import Dicom2cacheError, FrameError, NoPixels, NotDicom, is_environment
from dicom2cache.lut import modality_lut_range, palette_bits
from dicom2cache.meaning import (
    dose_positions,
    functional_groups,
    kind_of,
    rescale_of,
    spacing_of,
    windows_of,
)
from dicom2cache.records import FILES, PER_FRAME_FIELDS, REJECTS, Candidate
from dicom2cache.tags import items, name, number, raw, required, text, value, vector, whole

_CLAIMS_DICOM = {".dcm", ".dicom", ".dic", ".ima"}
_PIXELS = {
    0x7FE00010: "PixelData",
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
}
_LONG_VRS = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN"}
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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what matters of it ends as a flag or a failure
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
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (candidate.size, candidate.mtime_ns):
            raise FrameError("changed while it was being read; run again when it is at rest")
        _sniff(file, candidate, claims)
        ds = _parse(file, claims)
        row = _describe(ds, file, candidate, path)
    row["patient"] = keyed_hash(patient_key, text(ds, "PatientID"))
    row["accession"] = keyed_hash(patient_key, text(ds, "AccessionNumber"))
    return row


def keyed_hash(key: bytes, plain: str | None) -> str | None:
    """HMAC-SHA-256 (RFC 2104) of a name, first 32 hex digits; None stays None."""
    if not plain:
        return None
    return hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()[:32]


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
        *(
            "PatientID AccessionNumber PatientAge ImageLaterality Laterality PixelPresentation "
            "SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored "
            "HighBit PixelRepresentation PlanarConfiguration NumberOfFrames SpectroscopyData "
            "RescaleSlope RescaleIntercept RescaleType Units DoseGridScaling DoseUnits DoseType "
            "GridFrameOffsetVector ModalityLUTSequence PresentationLUTShape PixelPaddingValue "
            "PixelPaddingRangeLimit WindowCenter WindowWidth WindowCenterWidthExplanation "
            "VOILUTFunction PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing "
            "SequenceOfUltrasoundRegions ImagePositionPatient ImageOrientationPatient "
            "LossyImageCompression BurnedInAnnotation ContrastBolusAgent StackID "
            "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence "
            "RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor "
            "BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData "
            "GreenPaletteColorLookupTableData BluePaletteColorLookupTableData "
            "SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData "
            "SegmentedBluePaletteColorLookupTableData"
        ).split(),
    }
    tags = (tag_for_keyword(keyword) for keyword in keywords)
    return sorted(tag for tag in tags if tag is not None)


def _pixel_element(
    ds: Any, file: IO[bytes], syntax: str, path: str
) -> tuple[str, str, int | None, int | None]:
    """(keyword, VR, offset of the value or None, length or None if undefined)."""
    if syntax == codecs.DEFLATED:  # the stream has no offsets that a reader could use
        from pydicom import dcmread

        whole_ds = dcmread(path, force=True)
        for keyword in _PIXELS.values():
            if keyword in whole_ds:
                return keyword, whole_ds[keyword].VR, None, len(whole_ds[keyword].value)
        raise _without_pixels(ds)
    implicit, little = ds.original_encoding
    order = "little" if little else "big"
    head = file.read(12)
    if len(head) < 8:
        raise _without_pixels(ds)
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag not in _PIXELS:
        raise _without_pixels(ds)
    # The header may say explicit where the body is implicit: a VR is two capital letters.
    if implicit or not (head[4:6].isalpha() and head[4:6].isupper()):
        vr, length, offset = "OW", int.from_bytes(head[4:8], order), file.tell() - len(head) + 8
    elif head[4:6] in _LONG_VRS:
        vr, length, offset = head[4:6].decode(), int.from_bytes(head[8:12], order), file.tell()
    else:
        raise FrameError(f"pixel data element has VR {head[4:6]!r}; legal: OB, OW, OF, OD")
    return _PIXELS[tag], vr, offset, None if length == 0xFFFFFFFF else length


def _without_pixels(ds: Any) -> Dicom2cacheError:
    sop = value(ds, "SOPClassUID") or value(ds.file_meta, "MediaStorageSOPClassUID")
    kind = getattr(sop, "name", None) or text(ds, "Modality") or "this object"
    if "Rows" in ds and "SpectroscopyData" not in ds:
        return FrameError(f"{kind} has Rows (0028,0010) but no pixel data; the file is truncated")
    return NoPixels(f"{kind} has no pixel data")


def _describe(ds: Any, file: IO[bytes], candidate: Candidate, path: str) -> dict[str, Any]:
    syntax = str(value(ds.file_meta, "TransferSyntaxUID") or "")
    if not syntax:
        implicit, little = ds.original_encoding
        little_syntax = codecs.IMPLICIT_LE if implicit else codecs.EXPLICIT_LE
        syntax = little_syntax if little else codecs.EXPLICIT_BE
    keyword, vr, offset, length = _pixel_element(ds, file, syntax, path)
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
        **_pixel_layout(ds, keyword),
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
    }
    row["spacing_y"], row["spacing_x"], row["spacing_tag"] = spacing_of(ds)
    _add_values(row, ds, frames)
    _check_length(row)
    return row


def frame_bits(row: dict[str, Any]) -> int:
    """Bits of one native frame (PS3.5 8.2); 4:2:2 halves the chroma (PS3.3 C.7.6.3.1.2)."""
    samples = 2 if row["photometric"] == "YBR_FULL_422" else row["samples"]
    return int(row["height"] * row["width"] * samples * row["bits_allocated"])


def _check_length(row: dict[str, Any]) -> None:
    """Native pixel data must be as long as the header says; more is flagged, less refused."""
    if row["transfer_syntax"] not in codecs.NATIVE:
        return
    have, want = row["pixel_length"], (frame_bits(row) * row["frames"] + 7) // 8
    if have is None:
        raise FrameError(
            f"{row['pixel_keyword']} has undefined length, legal only in a compressed transfer syntax, "
            f"but {name('TransferSyntaxUID')} is {row['transfer_syntax']}"
        )
    if row["pixel_offset"] is not None:
        have = min(have, row["size"] - row["pixel_offset"])
    if have < want:
        raise FrameError(
            f"pixel data is truncated: {have} bytes, {want} expected for {row['frames']} frames of "
            f"{row['height']} x {row['width']}; copy the file again"
        )
    full = row["height"] * row["width"] * 3 * row["bits_allocated"] // 8 * row["frames"]
    if row["photometric"] == "YBR_FULL_422" and have >= full:
        raise FrameError(
            f"{name('PhotometricInterpretation')} is YBR_FULL_422 but {have} bytes are there, as for "
            "three full samples; the label or the data is wrong (PS3.3 C.7.6.3.1.2)"
        )
    if have > want + want % 2:
        row["flags"] = [*(row["flags"] or []), "excess-pixel-data"]


def _pixel_layout(ds: Any, keyword: str) -> dict[str, Any]:
    """Size and bits of a frame, checked against each other (PS3.3 C.7.6.3, PS3.5 8.1.1)."""
    rows, columns = (required(ds, k, "1 to 65535") for k in ("Rows", "Columns"))
    if not (0 < rows <= 65535 and 0 < columns <= 65535):
        raise FrameError(f"Rows x Columns is {rows} x {columns}; legal: 1 to 65535 each")
    photometric = text(ds, "PhotometricInterpretation") or ""
    samples = whole(ds, "SamplesPerPixel") or 1
    grey = photometric in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    colour = photometric == "RGB" or photometric.startswith("YBR")
    if not (grey and samples == 1) and not (colour and samples == 3):
        raise FrameError(
            f"{name('PhotometricInterpretation')} {photometric!r} with "
            f"{name('SamplesPerPixel')} {samples}; legal: MONOCHROME1, MONOCHROME2 or PALETTE "
            "COLOR with 1, RGB or YBR with 3"
        )
    allocated = required(ds, "BitsAllocated", "1, 8, 16, 32 or 64")
    layout = {
        "height": rows,
        "width": columns,
        "samples": samples,
        "planar": (whole(ds, "PlanarConfiguration") or 0) & 1,
        "photometric": photometric,
        "bits_allocated": allocated,
        "inverted": photometric == "MONOCHROME1" or text(ds, "PresentationLUTShape") == "INVERSE",
    }
    if keyword != "PixelData":
        need = 32 if keyword == "FloatPixelData" else 64
        if allocated != need:
            raise FrameError(f"{name('BitsAllocated')} {allocated} with {keyword}; legal: {need}")
        return {**layout, "bits_stored": need, "high_bit": need - 1, "signed": True}
    if allocated not in (1, 8, 16, 32):
        raise FrameError(f"{name('BitsAllocated')} {allocated}; legal: 1, 8, 16 or 32")
    stored = whole(ds, "BitsStored") or allocated
    high = whole(ds, "HighBit")
    high = stored - 1 if high is None else high
    if not (1 <= stored <= allocated and stored - 1 <= high < allocated):
        raise FrameError(
            f"{name('BitsStored')} {stored} and {name('HighBit')} {high} do not fit "
            f"{name('BitsAllocated')} {allocated}; legal: BitsStored - 1 <= HighBit < BitsAllocated"
        )
    signed = (whole(ds, "PixelRepresentation") or 0) == 1
    return {**layout, "bits_stored": stored, "high_bit": high, "signed": signed}


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


def age_in_years(said: str | None) -> float | None:
    """Years from an Age String such as 034Y, 018M, 006W, 003D (PS3.5 6.2)."""
    per_year = {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}
    if not said or len(said) < 2 or not said[:-1].isdigit():
        return None
    unit = per_year.get(said[-1].upper())
    return None if unit is None else int(said[:-1]) / unit


def patient_key(path: Path | None) -> bytes:
    """The key of the patient hashes: from `path`, else this user's own, made at first use (0600).

    Raises OSError if it cannot be read or made, ValueError if it is shorter than 16 bytes.
    """
    if path is None:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        path = home / "dicom2cache" / "patient.key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.{os.getpid()}")
            with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as f:
                f.write(os.urandom(32))
            try:
                os.link(fresh, path)  # no replace: of two processes, one makes the key
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
    key = path.read_bytes()
    if len(key) < 16:
        raise ValueError(f"{path}: a patient key has at least 16 bytes, this has {len(key)}")
    return key
