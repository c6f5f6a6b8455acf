"""How and when a frame was acquired: what tells the volumes of a series apart. Pure."""

from __future__ import annotations

import math
import re
import struct
import unicodedata
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any

from dicom2cache.headers.tags import (
    Dataset,
    items,
    number,
    private,
    private_tags,
    text,
    vector,
)


def acquired_of(ds: Dataset, keyword: str = "AcquisitionDateTime") -> float | None:
    """Acquisition DateTime, or Date and Time, in ms since the year 0; offsets from UTC left out.

    It only tells the frames of one series apart, and is stored nowhere.
    """
    said = text(ds, keyword)
    if said is not None:
        return moment(said, None, None)
    clock = text(ds, "AcquisitionTime")
    return None if clock is None else moment(None, text(ds, "AcquisitionDate"), clock)


def moment(both: str | None, day: str | None, clock: str | None) -> float | None:
    """The same of the values of a DateTime, or of a Date and a Time, as text."""
    if both is not None:
        day, clock = both[:8], re.split("[+-]", both[8:])[0]
    elif clock is None:
        return None
    return since_year_0(day, _clock(clock))


def since_year_0(day: str | None, after: float | None) -> float | None:
    """ms of a moment so many ms after the midnight of a day, YYYYMMDD, or of no day."""
    begin = _midnight(day or "00010101")
    return None if begin is None or after is None else begin + after


@lru_cache(maxsize=256)
def _midnight(day: str) -> float | None:
    """ms of the first moment of a day, YYYYMMDD (PS3.5 6.2)."""
    try:
        return date(int(day[:4]), int(day[4:6]), int(day[6:])).toordinal() * 86_400_000.0
    except (ValueError, OverflowError):
        return None


def _clock(said: str) -> float | None:
    """ms of HH[MM[SS[.F]]] since midnight."""
    whole, _, fraction = said.strip().partition(".")
    whole = whole.ljust(6, "0")
    if len(whole) != 6 or not (whole + fraction).isdecimal():
        return None
    seconds = (int(whole[:2]) * 60 + int(whole[2:4])) * 60 + int(whole[4:])
    return 1000 * (seconds + float(f"0.{fraction or 0}"))


def phase_of(ds: Dataset) -> float | None:
    """Percent of the heart's cycle, else of the breath's (PS3.3 C.7.6.16.2.7, C.7.6.16.2.17)."""
    cardiac = number(ds, "NominalPercentageOfCardiacPhase")
    return number(ds, "NominalPercentageOfRespiratoryPhase") if cardiac is None else cardiac


def person_of(ds: Dataset) -> str | None:
    """Patient's Name without what varies: case, width, blanks, punctuation, empty components."""
    said = unicodedata.normalize("NFKC", text(ds, "PatientName") or "").casefold()
    return " ".join(re.findall(r"\w+", said)) or None


def born_of(ds: Dataset) -> str | None:
    """Patient's Birth Date, in plain text; its digits, if it has some."""
    said = text(ds, "PatientBirthDate") or ""
    return re.sub(r"\D", "", said) or said or None


def gradient_of(ds: Dataset) -> list[float] | None:
    """Unit vector of the diffusion gradient, in patient coordinates (PS3.3 C.8.13.5.9)."""
    for source in (*items(ds, "DiffusionGradientDirectionSequence")[:1], ds):
        found = vector(source, "DiffusionGradientOrientation", 3)
        if found:
            return _unit(found)
    return None


Diffusion = tuple[float | None, list[float] | None, list[float] | None]
"""(b-value in s/mm², unit vector in patient coordinates, vector in axes that are not known)"""


def diffusion_of(ds: Dataset) -> Diffusion:
    """b-value and gradient: as the standard has them, else as the scanner's maker has."""
    b_value, gradient = number(ds, "DiffusionBValue"), gradient_of(ds)
    if text(ds, "Modality") != "MR" or (b_value is not None and gradient is not None):
        return b_value, gradient, None
    maker = (text(ds, "Manufacturer") or "").upper()
    for word, read in _MAKERS.items():
        if maker.startswith(word):
            own_b_value, own_gradient, said = read(ds)
            if b_value is None:
                b_value = own_b_value
            return (b_value, own_gradient, said) if gradient is None else (b_value, gradient, None)
    return b_value, gradient, None


_BLOCKS = range(0x10, 0x20)  # of private elements that are looked at
_SIEMENS, _GE, _GE_PARAMETERS = "SIEMENS MR HEADER", "GEMS_ACQU_01", "GEMS_PARM_01"
_PHILIPS, _PHILIPS_MR = "Philips Imaging DD 001", "Philips MR Imaging DD 001"


def diffusion_tags() -> set[int]:
    """The private elements that `diffusion_of` looks at."""
    return {
        *private_tags(0x0019, 0x0C, 0x0E, 0xBB, 0xBC, 0xBD, blocks=_BLOCKS),
        *private_tags(0x0043, 0x39, blocks=_BLOCKS),
        *private_tags(0x2001, 0x03, blocks=_BLOCKS),
        *private_tags(0x2005, 0xB0, 0xB1, 0xB2, blocks=_BLOCKS),
        0x00651009,
        0x00651037,
    }


def _siemens(ds: Dataset) -> Diffusion:
    b_values = _numbers(ds, _SIEMENS, 0x0019, 0x0C)
    return _first(b_values), _unit(_numbers(ds, _SIEMENS, 0x0019, 0x0E, "d")), None


def _philips(ds: Dataset) -> Diffusion:
    b_values = _numbers(ds, _PHILIPS, 0x2001, 0x03, "f")
    # right to left, anterior to posterior, feet to head: as in patient coordinates
    parts = [_numbers(ds, _PHILIPS_MR, 0x2005, element, "f") for element in (0xB0, 0xB1, 0xB2)]
    return _first(b_values), _unit([v for part in parts for v in part]), None


def _uih(ds: Dataset) -> Diffusion:
    """UIH's blocks do not move."""
    b_values = _plain(ds, 0x1009, "d")
    return _first(b_values), _unit(_plain(ds, 0x1037, "d")), None


def _plain(ds: Dataset, element: int, kind: str) -> list[float]:
    tag = 0x0065, element
    try:
        return _floats(ds[tag].value, kind) if tag in ds else []
    except Exception:  # whatever pydicom raises for an illegal value: as good as absent
        return []


def _ge(ds: Dataset) -> Diffusion:
    """GE counts directions along its own axes, relative to the image: known for axial slices of
    patients who lie head first and supine, as dcm2niix turns them; else there is none."""
    found = _numbers(ds, _GE_PARAMETERS, 0x0043, 0x39)
    if not found:
        return None, None, None
    b_value = math.fmod(found[0], 1e9)  # 1000000750 is 750
    parts = [_numbers(ds, _GE, 0x0019, element) for element in (0xBB, 0xBC, 0xBD)]
    said = [v for part in parts for v in part]
    if len(said) != 3:
        return b_value, None, None
    length = math.sqrt(sum(v * v for v in said))
    if 0.03 < length < 0.97:  # several b-values in one series are written as shorter vectors
        b_value = 5 * round(b_value * length * length / 5)
    x, y, z = said
    turned = {"COL": (-x, -y, z), "ROW": (-y, x, z)}.get(
        text(ds, "InPlanePhaseEncodingDirection") or ""
    )
    axes = vector(ds, "ImageOrientationPatient", 6)
    if turned is None or axes is None or text(ds, "PatientPosition") != "HFS":
        return b_value, None, said
    row, column = axes[:3], axes[3:]
    normal = [
        row[1] * column[2] - row[2] * column[1],
        row[2] * column[0] - row[0] * column[2],
        row[0] * column[1] - row[1] * column[0],
    ]
    if min(row[0], column[1], normal[2]) < _AXIAL:
        return b_value, None, said
    gradient = _unit(
        [sum(v * axis[k] for v, axis in zip(turned, (row, column, normal), strict=True))
         for k in range(3)]
    )  # fmt: skip
    return b_value, gradient, None


_AXIAL = 0.8
"""cosine of the angle to the patient's axes from which on slices count as axial"""
_MAKERS: dict[str, Callable[[Dataset], Diffusion]] = {
    "SIEMENS": _siemens, "GE": _ge, "PHILIPS": _philips, "UIH": _uih, "UNITED IMAGING": _uih,
}  # fmt: skip


def _first(values: list[float]) -> float | None:
    return values[0] if values else None


def _unit(found: list[float]) -> list[float] | None:
    """The vector at length 1; None for none, which is written as zeros."""
    length = math.sqrt(sum(v * v for v in found))
    return [v / length for v in found] if len(found) == 3 and 1e-3 < length < math.inf else None


def _numbers(ds: Dataset, creator: str, group: int, element: int, kind: str = "") -> list[float]:
    """Values of a private element; `kind` is the struct code of binary ones."""
    return _floats(private(ds, creator, group, element, _BLOCKS), kind)


def _floats(found: Any, kind: str) -> list[float]:
    """Values as floats, of VR UN too; empty if one is none."""
    try:
        if isinstance(found, bytes) and kind:
            count = len(found) // struct.calcsize(kind)
            found = list(struct.unpack(f"<{count}{kind}", found))
        elif isinstance(found, bytes | str):
            said = found.decode("ascii") if isinstance(found, bytes) else found
            found = [v.strip(" \0") for v in said.split("\\")]
        several = found if hasattr(found, "__len__") else [] if found is None else [found]
        made = [float(v) for v in several]
    except (ValueError, TypeError, OverflowError, struct.error):
        return []
    return made if all(map(math.isfinite, made)) else []
