"""Files that planning fails for, told apart from the others by planning less and less; pure.

Planning is columnar: what it raises says not for which file. By halves, along series, a culprit
among n files costs about as long as two plans of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import codes
from dicom2cache.errors import Dicom2cacheError, Fault, fault_of, reason_of
from dicom2cache.schema import REJECTS

T = TypeVar("T")
Rows = NDArray[np.int64]

_MOST = 1000  # culprits; with more it is not the files
_MOST_ADDED = 16  # of those that fail with other series only, each of them as many plans


def apart(
    files: pa.Table, attempt: Callable[[pa.Table], T]
) -> tuple[T | None, pa.Table, list[Fault]]:
    """(what `attempt` makes of the files, REJECTS of those that it fails for, the errors).

    None if it fails for each. Raises errors that are foreseen, those of the machine, and what goes
    on without a few files that others cannot be planned with.
    """
    try:
        with np.errstate(all="ignore"):  # infinite ends of a range fit no dtype but floats
            return attempt(files), REJECTS.empty_table(), []
    except (Dicom2cacheError, OSError, MemoryError):
        raise
    except Exception as e:
        first = e
    series = codes(files["series_uid"])
    rejects, faults = [], list[Fault]()
    keep = np.ones(files.num_rows, bool)
    for rows, error in _culprits(files, series, np.argsort(series, kind="stable"), attempt, first):
        keep[rows] = False
        mine = files.select(["root", "path"]).take(pa.array(np.sort(rows))).to_pylist()
        why = {"outcome": "failed", "stage": "plan", "reason": reason_of(error)}
        rejects += [{**row, **why} for row in mine]
        fault = fault_of(error, f"planning of {mine[0]['path']}")
        faults += [fault] if fault else []
        if len(rejects) > _MOST:
            raise first
    with np.errstate(all="ignore"):
        made = attempt(files.filter(pa.array(keep))) if keep.any() else None
    return made, pa.Table.from_pylist(rejects, REJECTS), faults


def _culprits(
    files: pa.Table,
    series: NDArray[np.int64],
    rows: Rows,
    attempt: Callable[[pa.Table], object],
    error: Exception,
) -> Iterator[tuple[Rows, Exception]]:
    """Least groups of `rows`, for which `attempt` raises `error`, that it fails for by itself."""
    if len(rows) == 1:
        yield rows, error
        return
    innocent = True
    for part in _halves(series, rows):
        mine = _error(attempt, files.take(pa.array(np.sort(part))))
        if mine is not None:
            innocent = False
            yield from _culprits(files, series, part, attempt, mine)
    if innocent and series[rows[0]] == series[rows[-1]]:  # only together do they provoke it
        yield rows, error
    elif innocent:
        yield from _added(files, rows, attempt, error)


def _added(
    files: pa.Table, rows: Rows, attempt: Callable[[pa.Table], object], error: Exception
) -> Iterator[tuple[Rows, Exception]]:
    """Single files of several series without which it no longer fails: the last of those that it
    fails for when they are added one by one."""
    for _ in range(_MOST_ADDED):
        low, high = 0, len(rows)
        while high - low > 1:
            middle = (low + high) // 2
            mine = _error(attempt, files.take(pa.array(np.sort(rows[:middle]))))
            low, high, error = (middle, high, error) if mine is None else (low, middle, mine)
        yield rows[low:high], error
        rows = np.delete(rows, low)
        again = _error(attempt, files.take(pa.array(np.sort(rows))))
        if again is None:
            return
        error = again
    raise error


def _error(attempt: Callable[[pa.Table], object], files: pa.Table) -> Exception | None:
    try:
        with np.errstate(all="ignore"):
            attempt(files)
    except (Dicom2cacheError, OSError, MemoryError):
        raise
    except Exception as e:
        return e
    return None


def _halves(series: NDArray[np.int64], rows: Rows) -> tuple[Rows, Rows]:
    """About half of the rows and the rest; between two series if there are several."""
    middle = len(rows) // 2
    bounds = np.flatnonzero(np.diff(series[rows])) + 1
    if len(bounds):
        middle = int(bounds[np.abs(bounds - middle).argmin()])
    return rows[:middle], rows[middle:]
