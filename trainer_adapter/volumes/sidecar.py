"""What an exported file is told by: words of BIDS where there are, b-values and directions of FSL.

Nothing but columns of frames/ comes here (FORMAT.md: no patient data beyond the allowlist); of
these no UID, no path and no text that names a segment's maker.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.volumes.convert import Floats, fsl_directions
from trainer_adapter.volumes.placed import said
from trainer_adapter.volumes.stacks import Stacks

# word of BIDS 1.10, column of frames/, factor to BIDS's unit (s for ms); None: as it is
_WORDS: tuple[tuple[str, str, float | None], ...] = (
    ("Modality", "modality", None),
    ("Manufacturer", "manufacturer", None),
    ("ManufacturersModelName", "model", None),
    ("BodyPart", "body_part", None),
    ("ImageType", "image_type", None),
    ("SliceThickness", "thickness", 1.0),
    ("EchoTime", "echo_time", 1e-3),
    ("RepetitionTime", "repetition_time", 1e-3),
    ("InversionTime", "inversion_time", 1e-3),
    ("FlipAngle", "flip_angle", 1.0),
    ("XRayTubeVoltage", "kvp", 1.0),
    ("ReconFilterType", "kernel", None),
    ("AcquisitionNumber", "acquisition", None),
)
_UNITS = {"BQML": "Bq/mL", "SUVbw": "g/mL"}


def words(stacks: Stacks, parts: list[int]) -> dict[str, Any]:
    """What the files of these parts say of one export file."""
    first = stacks.first[parts[:1]]
    found: dict[str, Any] = {}
    for word, column, factor in _WORDS:
        (value,) = said(stacks.core, column, first)
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            continue
        found[word] = value if factor is None else round(value * factor, 9)
    if "ImageType" in found:
        found["ImageType"] = found["ImageType"].split("\\")
    (unit,) = said(stacks.core, "unit", first)
    if unit is not None:
        found["Units"] = _UNITS.get(unit, unit)
    if len(parts) > 1:
        found |= _over_time(stacks, parts)
    return found


def _over_time(stacks: Stacks, parts: list[int]) -> dict[str, Any]:
    """Times and other numbers that tell the volumes of a 4-D file apart, one for each."""
    found: dict[str, Any] = {}
    times = least(stacks, parts, "time")
    if not np.isnan(times).any():
        found["FrameTimesStart"] = np.round((times - times[0]) / 1000, 6).tolist()  # s
    for word, column, factor in (
        ("TriggerDelayTime", "trigger_time", 1.0),  # ms, as BIDS has it
        ("NominalPercentageOfPhase", "phase", 1.0),
        ("DiffusionBValue", "b_value", 1.0),
    ):
        values = least(stacks, parts, column)
        if not np.isnan(values).any():
            found[word] = (values * factor).tolist()
    return found


def least(stacks: Stacks, parts: list[int], column: str) -> Floats:
    """(t,) least value of a column over the frames of each part; NaN where none is there."""
    found = np.full(len(parts), np.nan)
    for n, k in enumerate(parts):
        values = [v for v in said(stacks.core, column, stacks.frames(k)) if v is not None]
        if values and all(map(math.isfinite, values)):
            found[n] = min(values)
    return found


def time_step(stacks: Stacks, parts: list[int]) -> float | None:
    """Seconds from volume to volume: even times of the files, else MR's TR; None: not known."""
    times = least(stacks, parts, "time")
    if not np.isnan(times).any():
        steps = np.diff(times)
        even = steps[0] > 0 and np.abs(steps - steps[0]).max() <= 0.02 * steps[0]
        return float(np.median(steps)) / 1000 if even else None
    first = stacks.first[parts[:1]]
    (tr,) = said(stacks.core, "repetition_time", first)
    (modality,) = said(stacks.core, "modality", first)
    return tr / 1000 if tr and modality == "MR" else None


def fsl(stacks: Stacks, parts: list[int], affine: Floats) -> dict[str, str]:
    """{".bval": text, ".bvec": text} of volumes that all have a b-value, and a direction or b = 0.

    The directions only where all that need one have it: half of a table is worse than none.
    """
    b = least(stacks, parts, "b_value")
    if np.isnan(b).any() or not (b > 0).any():
        return {}
    said_so = said(stacks.core, "gradient", stacks.first[parts])
    found = {".bval": _row(b)}
    if all(g is not None or v == 0 for g, v in zip(said_so, b, strict=True)):
        along = np.array([g if g is not None and v > 0 else (0.0, 0.0, 0.0)
                          for g, v in zip(said_so, b, strict=True)])  # fmt: skip
        vectors = fsl_directions(along, affine) + 0.0  # no -0
        found[".bvec"] = "".join(_row(axis) for axis in vectors.T)
    return found


def _row(values: NDArray[np.float64]) -> str:
    return " ".join(f"{v:.6g}" for v in values) + "\n"
