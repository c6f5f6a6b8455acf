"""SUV by body weight: the factor of a PET file, or why it has none. Pure, Dataset to values.

SUV = activity concentration (Bq/ml) * weight (g) / injected activity at the time that the image is
decay-corrected to (Bq). The rules follow QIBA's "SUV vendor-neutral pseudo-code"; where it guesses,
we refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import exp, log
from typing import Any

from dicom2cache.headers.tags import is_many, items, name, number, text, value

_LEGAL = {
    "PatientWeight": (0.5, 500.0, "0.5 to 500 kg"),
    "RadionuclideTotalDose": (1e5, 1e11, "0.1 to 100,000 MBq, in Bq"),
    "RadionuclideHalfLife": (30.0, 1e6, "30 to 1,000,000 s"),
}
_MOST_HALF_LIVES = 10


@dataclass(frozen=True)
class Suv:
    """SUV = factor * value, or why not."""

    factor: float | None
    refusal: str | None = None


class _Refused(Exception):
    pass


def suv_of(ds: Any) -> Suv | None:
    """The factor from the file's values to SUV by body weight (g/ml); None for what is not PET."""
    if text(ds, "Modality") != "PT":
        return None
    try:
        return Suv(_factor(ds))
    except _Refused as e:
        return Suv(None, f"recipe: intensity suv: {e}")


def _factor(ds: Any) -> float:
    units = text(ds, "Units")
    if units == "GML":
        kind = text(ds, "SUVType") or "BW"  # absent: body weight (PS3.3 C.8.9.1)
        if kind != "BW":
            raise _Refused(f"{name('SUVType')} is {kind}; legal: BW")
        return 1.0
    if units != "BQML":
        raise _Refused(f"{name('Units')} is {units}; legal: BQML, or GML with SUV Type BW")
    _check_corrections(ds)
    injected = items(ds, "RadiopharmaceuticalInformationSequence")
    if len(injected) != 1:
        raise _Refused(
            f"{name('RadiopharmaceuticalInformationSequence')} has {len(injected)} items; legal: 1"
        )
    weight = _in_range(ds, "PatientWeight")
    dose = _in_range(injected[0], "RadionuclideTotalDose")
    if text(ds, "DecayCorrection") == "ADMIN":  # corrected to the injection itself
        return weight * 1000 / dose
    half_life = _in_range(injected[0], "RadionuclideHalfLife")
    seconds = (_scan_start(ds) - _injection(ds, injected[0])).total_seconds()
    if not 0 <= seconds <= _MOST_HALF_LIVES * half_life:
        raise _Refused(
            f"{name('RadiopharmaceuticalStartTime')} is {seconds:g} s before the scan; legal: from "
            f"0 to {_MOST_HALF_LIVES} half-lives ({_MOST_HALF_LIVES * half_life:g} s)"
        )
    return float(weight * 1000 / (dose * 2 ** (-seconds / half_life)))


def _check_corrections(ds: Any) -> None:
    said = value(ds, "CorrectedImage")
    corrected = {str(v) for v in (said if is_many(said) else [said])}
    if not {"ATTN", "DECY"} <= corrected:
        raise _Refused(
            f"{name('CorrectedImage')} is {said}; legal: with ATTN and DECY (PS3.3 C.8.9.1)"
        )
    if text(ds, "DecayCorrection") not in ("START", "ADMIN"):
        raise _Refused(
            f"{name('DecayCorrection')} is {text(ds, 'DecayCorrection')}; legal: START, ADMIN"
        )


def _in_range(ds: Any, keyword: str) -> float:
    low, high, legal = _LEGAL[keyword]
    found = number(ds, keyword)
    if found is None or not low <= found <= high:
        raise _Refused(f"{name(keyword)} is {found}; legal: {legal}")
    return found


def _scan_start(ds: Any) -> datetime:
    """What START means: Series Date and Time, unless they are after the acquisition.

    Then they tell when a later series was made, and the start is computed back from the frame:
    Frame Reference Time is the moment, counted from the start, of its average count rate.
    """
    series, acquisition = _moment(ds, "Series"), _moment(ds, "Acquisition")
    if series is None or acquisition is None:
        raise _Refused("Series or Acquisition Date and Time (0008,0021-0032) are missing")
    if series <= acquisition:
        return series
    reference, duration = number(ds, "FrameReferenceTime"), number(ds, "ActualFrameDuration")
    injected = items(ds, "RadiopharmaceuticalInformationSequence")[0]
    if not reference or not duration or reference <= 0 or duration <= 0:
        raise _Refused(
            f"{name('SeriesTime')} {series.time()} is after {name('AcquisitionTime')} "
            f"{acquisition.time()}, and there is no {name('FrameReferenceTime')} with "
            f"{name('ActualFrameDuration')} to tell when the scan began"
        )
    decay = log(2) / _in_range(injected, "RadionuclideHalfLife") * duration / 1000
    average = duration / 1000 / decay * log(decay / (1 - exp(-decay)))
    return acquisition + timedelta(seconds=average - reference / 1000)


def _injection(ds: Any, injected: Any) -> datetime:
    if whole := _parse(text(injected, "RadiopharmaceuticalStartDateTime") or ""):
        return whole
    clock = text(injected, "RadiopharmaceuticalStartTime")
    start = _scan_start(ds)
    moment = _parse(f"{start:%Y%m%d}{clock}") if clock else None
    if moment is None:
        raise _Refused(
            f"{name('RadiopharmaceuticalStartTime')} is {clock}; legal: the time of injection"
        )
    # A time without a date: the day of the scan, or the one before, when it ran past midnight.
    return moment if moment <= start else moment - timedelta(days=1)


def _moment(ds: Any, what: str) -> datetime | None:
    return _parse(f"{text(ds, f'{what}Date') or ''}{text(ds, f'{what}Time') or ''}")


def _parse(said: str) -> datetime | None:
    """A DICOM date and time, YYYYMMDDHHMM[SS[.F]] (PS3.5 6.2); an offset from UTC is left out."""
    said = said.split("+")[0].split("-")[0].strip()
    whole, _, fraction = said.partition(".")
    whole = whole.ljust(14, "0") if len(whole) >= 12 else whole
    try:
        moment = datetime.strptime(whole, "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return moment + timedelta(seconds=float(f"0.{fraction}" if fraction.isdigit() else 0))
