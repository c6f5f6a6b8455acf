"""SUV by body weight: the factor of a PET file, or why it has none. Pure, Dataset to values.

SUV = activity concentration (Bq/ml) * weight (g) / injected activity at the time that the image is
decay-corrected to (Bq). The rules follow QIBA's "SUV vendor-neutral pseudo-code"; where it guesses,
we refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import exp, log

from dicom2cache.errors import counting
from dicom2cache.headers.tags import (
    Dataset,
    decimal_of,
    items,
    name,
    number,
    private,
    text,
)

_LEGAL = {
    "PatientWeight": (0.5, 500.0, "0.5 to 500 kg"),
    "RadionuclideTotalDose": (1e5, 1e11, "0.1 to 100,000 MBq, in Bq"),
    "RadionuclideHalfLife": (30.0, 1e6, "30 to 1,000,000 s"),
}
_ENHANCED = {"1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128.1"}
"""Enhanced PET Image Storage, and its legacy converted kind"""
_MOST_HALF_LIVES = 10
_ALMOST_A_DAY = timedelta(days=1, seconds=-1)
"""between times of day that are within a second of each other, on both sides of midnight"""
PHILIPS, PHILIPS_GROUP = "Philips PET Private Group", 0x7053
PHILIPS_SUV, PHILIPS_ACTIVITY = 0x00, 0x09
"""SUV Scale Factor, Activity Concentration Scale Factor; below the creator's block"""
_INJECTIONS = "RadiopharmaceuticalInformationSequence"


@dataclass(frozen=True)
class Suv:
    """SUV = factor * value, or why not."""

    factor: float | None
    refusal: str | None = None
    flag: str | None = None
    """what a frame that is stored as SUV is flagged with: whose factor it was"""


class _Refused(Exception):
    pass


def suv_of(ds: Dataset) -> Suv | None:
    """The factor from the file's values to SUV by body weight (g/ml); None for what is not PET."""
    if text(ds, "Modality") != "PT":
        return None
    try:
        return _suv(ds)
    except _Refused as e:
        return Suv(None, f"recipe: intensity suv: {e}")


def _suv(ds: Dataset) -> Suv:
    units = text(ds, "Units")
    if units == "GML":
        kind = text(ds, "SUVType") or "BW"  # absent: body weight (PS3.3 C.8.9.1)
        if kind != "BW":
            raise _Refused(f"{name('SUVType')} is {kind}; legal: BW")
        return Suv(1.0)
    if units == "BQML":
        return Suv(_factor(ds))
    if units == "CNTS":
        return _philips(ds)
    sop = text(ds, "SOPClassUID")
    if units is None and sop in _ENHANCED:
        raise _Refused(
            f"{name('SOPClassUID')} is {sop}, an enhanced PET, which has its unit and corrections "
            "frame by frame, and not in the modules that SUV is computed from (PS3.3 C.8.9.1); "
            "legal: PET Image Storage, or intensity modality in a rule for such files"
        )
    raise _Refused(f"{name('Units')} is {units or 'absent'}; legal: BQML, GML with SUV Type BW, or "
                   "CNTS with the factors of Philips")  # fmt: skip


def _philips(ds: Dataset) -> Suv:
    """Counts, whose factors Philips writes into private elements; 0 is written for none."""
    direct, activity = (
        _scale(ds, element) for element in (PHILIPS_SUV, PHILIPS_ACTIVITY)
    )  # fmt: skip
    if direct:
        return Suv(direct, flag="suv-factor-philips")
    if activity:
        return Suv(activity * _factor(ds), flag="activity-factor-philips")
    raise _Refused(
        f"{name('Units')} is CNTS, and there is neither a SUV Scale Factor (7053,xx00) nor an "
        f"Activity Concentration Scale Factor (7053,xx09) of {PHILIPS!r} above 0"
    )


def _scale(ds: Dataset, element: int) -> float | None:
    """A factor above 0; None for 0, and where there is none."""
    found = decimal_of(private(ds, PHILIPS, PHILIPS_GROUP, element))
    return found if found is not None and found > 0 else None


def _factor(ds: Dataset) -> float:
    """SUV of 1 Bq/ml."""
    _check_corrections(ds)
    injected = items(ds, _INJECTIONS)
    if len(injected) != 1:
        raise _Refused(f"{name(_INJECTIONS)} has {counting(len(injected), 'item')}; legal: 1")
    weight = _in_range(ds, "PatientWeight")
    dose = _in_range(injected[0], "RadionuclideTotalDose")
    if text(ds, "DecayCorrection") == "ADMIN":  # corrected to the injection itself
        return weight * 1000 / dose
    half_life = _in_range(injected[0], "RadionuclideHalfLife")
    clock = _Clock.of(ds)
    start = _scan_start(ds, injected[0], clock)
    said, injection = _injection(injected[0], start, clock)
    seconds = (start - injection).total_seconds()
    if not 0 <= seconds <= _MOST_HALF_LIVES * half_life:
        raise _Refused(
            f"{name(said)} is {seconds:g} s before the scan; legal: from 0 to {_MOST_HALF_LIVES} "
            f"half-lives ({_MOST_HALF_LIVES * half_life:g} s)"
        )
    return float(weight * 1000 / (dose * 2 ** (-seconds / half_life)))


def _check_corrections(ds: Dataset) -> None:
    said = text(ds, "CorrectedImage")
    if not {"ATTN", "DECY"} <= set((said or "").split("\\")):
        raise _Refused(
            f"{name('CorrectedImage')} is {'absent' if said is None else said}; legal: with ATTN "
            "and DECY (PS3.3 C.8.9.1)"
        )
    if text(ds, "DecayCorrection") not in ("START", "ADMIN"):
        raise _Refused(
            f"{name('DecayCorrection')} is {text(ds, 'DecayCorrection') or 'absent'}; legal: "
            "START, ADMIN"
        )


def _in_range(ds: Dataset, keyword: str) -> float:
    low, high, legal = _LEGAL[keyword]
    found = number(ds, keyword)
    if found is None or not low <= found <= high:
        said = "absent" if found is None else f"{found:g}"
        raise _Refused(f"{name(keyword)} is {said}; legal: {legal}")
    return found


@dataclass(frozen=True)
class _Clock:
    """How moments of the file compare: all at the offset from UTC that its local times have."""

    zone: timedelta | None
    """of dates and times without an offset of their own; None: the file does not say"""

    @classmethod
    def of(cls, ds: Dataset) -> _Clock:
        """By Timezone Offset From UTC (PS3.3 C.12.1.1.8), else by an Acquisition DateTime that
        says with an offset what Acquisition Date and Time say without."""
        said = text(ds, "TimezoneOffsetFromUTC")
        if said is not None:
            zone = _offset(said)
            if zone is None:
                raise _Refused(
                    f"{name('TimezoneOffsetFromUTC')} is {said}; legal: -1200 to +1400, as +0100"
                )
            return cls(zone)
        moment, zone = _parse(text(ds, "AcquisitionDateTime") or "")
        local, _ = _parse(f"{text(ds, 'AcquisitionDate') or ''}{text(ds, 'AcquisitionTime') or ''}")
        return cls(zone if moment is not None and moment == local else None)

    def local(self, keyword: str, said: str) -> datetime | None:
        """A DateTime on the clock of the file's local times; None if it is no moment.

        Raises _Refused if it has an offset, and the local times are of no known zone.
        """
        moment, offset = _parse(said)
        if moment is None or offset is None or offset == self.zone:
            return moment
        if self.zone is None:
            raise _Refused(
                f"{name(keyword)} is {said}, with an offset from UTC, and without "
                f"{name('TimezoneOffsetFromUTC')} nothing says in which zone the series times are"
            )
        return moment - offset + self.zone


def _scan_start(ds: Dataset, injected: Dataset, clock: _Clock) -> datetime:
    """What START means: Series Date and Time, unless they are after the acquisition.

    Then they tell when a later series was made, and the start is computed back from the frame:
    Frame Reference Time is the moment, counted from the start, of its average count rate.
    """
    series, acquisition = _moment(ds, "Series", clock), _moment(ds, "Acquisition", clock)
    if series <= acquisition:
        return series
    spans = {k: number(ds, k) for k in ("FrameReferenceTime", "ActualFrameDuration")}
    missing = [name(k) for k, ms in spans.items() if not ms or ms <= 0]
    if missing:
        later = series.date() > acquisition.date()
        what = "Date" if later else "Time"
        begun, acquired = (m.date() if later else m.time() for m in (series, acquisition))
        raise _Refused(
            f"{name(f'Series{what}')} {begun} is after {name(f'Acquisition{what}')} "
            f"{acquired}, and there is no {' and no '.join(missing)} above 0 to tell "
            "when the scan began"
        )
    reference, duration = (float(ms or 0) / 1000 for ms in spans.values())
    decay = log(2) / _in_range(injected, "RadionuclideHalfLife") * duration
    average = duration / decay * log(decay / (1 - exp(-decay)))
    return acquisition + timedelta(seconds=average - reference)


def _injection(injected: Dataset, start: datetime, clock: _Clock) -> tuple[str, datetime]:
    """(keyword of the element that says it, moment of the injection)."""
    keyword, alone = "RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime"
    whole, time = text(injected, keyword), text(injected, alone)
    if whole and (moment := clock.local(keyword, whole)):
        again = _parse(f"{moment:%Y%m%d}{time}")[0] if time else None
        if again is not None and timedelta(seconds=1) < abs(again - moment) < _ALMOST_A_DAY:
            raise _Refused(
                f"{name(keyword)} is {whole} and {name(alone)} is {time}; legal: the same time of "
                "day; correct the one that is wrong"
            )
        return keyword, moment
    moment = _parse(f"{start:%Y%m%d}{time}")[0] if time else None
    if moment is None:
        raise _Refused(
            f"{name(keyword)} is {whole or 'absent'} and {name(alone)} is {time or 'absent'}; "
            "legal: one of them with the time of injection"
        )
    # A time without a date: the day of the scan, or the one before, when it ran past midnight.
    return alone, moment if moment <= start else moment - timedelta(days=1)


def _moment(ds: Dataset, what: str, clock: _Clock) -> datetime:
    """Series or Acquisition Date and Time; the DateTime of the acquisition instead of these."""
    date, time = text(ds, f"{what}Date"), text(ds, f"{what}Time")
    moment = _parse(f"{date}{time}")[0] if date and time else None
    whole = text(ds, "AcquisitionDateTime") if what == "Acquisition" else None
    if moment is None and whole:
        moment = clock.local("AcquisitionDateTime", whole)
    if moment is None:
        wrong = [
            f"{name(f'{what}{part}')} is {said or 'absent'}"
            for part, said, other in (("Date", date, time), ("Time", time, date))
            if not said or other
        ]
        raise _Refused(f"{' and '.join(wrong)}; legal: a date and a time")
    return moment


_MOMENT = re.compile(r"(\d{10})(\d\d)?(\d\d)?(?:\.(\d{1,6}))?([+-]\d{4})?").fullmatch
_OFFSET = re.compile(r"([+-])(\d\d)([0-5]\d)").fullmatch


def _parse(said: str) -> tuple[datetime | None, timedelta | None]:
    """(moment by its own clock, offset from UTC) of YYYYMMDDHH[MM[SS[.F]]][&ZZXX] (PS3.5 6.2)."""
    found = _MOMENT(said.strip())
    if found is None:
        return None, None
    whole, minutes, seconds, fraction, zone = found.groups()
    try:
        # A leap second, 60, counts as the one before it.
        moment = datetime.strptime(f"{whole}{minutes or '00'}", "%Y%m%d%H%M")
        moment += timedelta(seconds=min(int(seconds or 0), 59) + float(f"0.{fraction or 0}"))
    except ValueError:
        return None, None
    offset = _offset(zone) if zone else None
    return (None, None) if zone and offset is None else (moment, offset)


def _offset(said: str) -> timedelta | None:
    found = _OFFSET(said.strip())
    if found is None:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    offset = timedelta(minutes=minutes if found[1] == "+" else -minutes)
    return offset if timedelta(hours=-12) <= offset <= timedelta(hours=14) else None
