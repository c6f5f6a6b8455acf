"""DICOM's own names for columns of frames/ that hold an element's value (FORMAT.md)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

KEYWORDS = {
    "PatientID": "patient", "AccessionNumber": "accession", "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid", "SOPInstanceUID": "sop_uid", "SOPClassUID": "sop_class_uid",
    "FrameOfReferenceUID": "frame_of_reference_uid", "PatientSex": "sex", "PatientAge": "age",
    "Modality": "modality", "Manufacturer": "manufacturer", "ManufacturerModelName": "model",
    "BodyPartExamined": "body_part", "ImageLaterality": "laterality", "Laterality": "laterality",
    "ViewPosition": "view_position", "ImageType": "image_type",
    "PresentationIntentType": "presentation_intent", "KVP": "kvp", "ConvolutionKernel": "kernel",
    "SliceThickness": "thickness", "EchoTime": "echo_time", "RepetitionTime": "repetition_time",
    "DiffusionBValue": "b_value", "TemporalPositionIdentifier": "temporal_index",
    "AcquisitionNumber": "acquisition", "InstanceNumber": "instance", "DoseType": "dose_type",
    "PhotometricInterpretation": "photometric", "BitsStored": "bits_stored",
    "FlipAngle": "flip_angle", "InversionTime": "inversion_time", "TriggerTime": "trigger_time",
}  # fmt: skip
"""keyword: column; of the first two the column has a keyed hash"""


def nearest(name: str, legal: Iterable[str]) -> str:
    """The legal names that are most like one that is not, for an error; else all of them."""
    names = list(dict.fromkeys(legal))
    return alike(name, names).rstrip() or f"legal: {', '.join(names)}"


def alike(name: str, legal: Iterable[str]) -> str:
    """The question whether a name that is most like this one is meant, and a blank; or nothing."""
    lower = {n.lower(): n for n in reversed(list(legal))}
    if name in KEYWORDS and KEYWORDS[name] in lower:
        return f"did you mean {KEYWORDS[name]}? "
    close = get_close_matches(name.lower(), lower, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(lower[c] for c in close)}? " if close else ""
