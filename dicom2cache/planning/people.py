"""Whose the files of a series are, where their Patient ID does not say it: pure, on columns."""

from __future__ import annotations

import numpy as np

from dicom2cache.arrow import combine
from dicom2cache.planning.clusters import Codes


def people(series: Codes, patient: Codes, name: Codes, born: Codes) -> Codes:
    """Code of the person of each file, to compare within a series and a Patient ID; -1 is null.

    Under one Patient ID, which may be a constant, birth dates decide where both are said: names
    have variants. A file without one is of who has its name; one without a name too is of whoever
    is alone there. Without a Patient ID, files are of one person if both are the same.
    """
    group = combine([series, patient])
    of_name = combine([group, name])
    known = np.where((born < 0) & (name >= 0), _only(born, of_name), born)
    person = combine([known, np.where(known < 0, name, -1)])
    nobody = (known < 0) & (name < 0)
    alone = _only(np.where(nobody, -1, person), group)
    person = np.where(nobody & (alone >= 0), alone, person)
    return np.asarray(np.where(patient < 0, combine([name, born]), person))


def _only(codes: Codes, group: Codes) -> Codes:
    """The code that the members of a dense group say, if they say one alone; else -1."""
    low = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    high = np.full(len(low), -1)
    said = codes >= 0
    np.minimum.at(low, group[said], codes[said])
    np.maximum.at(high, group[said], codes[said])
    return np.asarray(np.where(low == high, high, -1)[group])
