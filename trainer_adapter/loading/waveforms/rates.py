"""A stretch of a recording at another sampling rate, as if all of it had been resampled."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import MissingLibraryError

_REACH = 10
"""samples of the lower rate that the filter of scipy.signal.resample_poly sees on each side"""
_FINEST = 10_000
"""the greatest number that a ratio of two rates is made of"""
_OFF = 1e-4
"""relative, that a ratio of smaller numbers may be off where the true one is of greater ones"""


def ratio_of(rate: float, wanted: float) -> Fraction:
    """wanted / rate, in Hz, or what is within 1e-4 of it where that is no ratio of small numbers.

    So a recording at 499.99 Hz counts as one at 500: after 10,000 samples it is one off, at most.
    Raises ValueError where no ratio of small whole numbers is so near.
    """
    for what, value in (("rate", wanted), ("sampling_rate of the cache", rate)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{what} {value:g}; legal: a number of Hz above 0")
    exact, inexact = (Fraction(v).limit_denominator(_FINEST) for v in (wanted, rate))
    ratios = [exact / inexact] if inexact else []
    if 1 / _FINEST <= wanted / rate <= _FINEST:
        ratios += [Fraction(wanted / rate).limit_denominator(10**k) for k in range(5)]
    for found in ratios:
        off = abs(found * Fraction(rate) / Fraction(wanted) - 1)
        if 0 < max(found.numerator, found.denominator) <= _FINEST and off <= _OFF:
            return found
    raise ValueError(
        f"rate {wanted:g}: no ratio of whole numbers up to {_FINEST} is near that to {rate:g} Hz; "
        "give one nearer to it, or leave these recordings out by select(sampling_rate=...)"
    )


def resampled(
    values: NDArray[np.float32], start: int, count: int, ratio: Fraction
) -> NDArray[np.float32]:
    """(k, count) samples from `start` on, of (k, samples) at `ratio` times their rate.

    Through a polyphase low pass (scipy.signal.resample_poly), whose ends are held; NaN where the
    nearest sample is NaN, over which the filter sees a straight line. Beyond the end NaN. Raises
    MissingLibraryError.
    """
    try:
        from scipy.signal import resample_poly
    except ImportError as e:
        raise MissingLibraryError("scipy", "resampled waveforms") from e
    up, down = ratio.numerator, ratio.denominator
    total = values.shape[1]
    reach = -(-_REACH * max(up, down) // up) + 1
    # From a sample that is one at the other rate too, so that the phase is that of the whole.
    first = max(0, start * down // up - reach) // down * down
    last = min(total, -(-(start + count) * down // up) + reach + 1)
    out = np.full((len(values), count), np.nan, np.float32)
    made = min(start + count, -(-total * up // down)) - start
    if made <= 0:
        return out
    part = values[:, first:last].astype(np.float64)
    nearest = np.minimum((np.arange(start, start + made) * down + up // 2) // up, total - 1) - first
    for row, samples in enumerate(part):
        known = np.isfinite(samples)
        if not known.any():
            continue
        if not known.all():
            at = np.arange(len(samples))
            samples = np.interp(at, at[known], samples[known])
        skip = start - first * up // down
        # "line" and the like would make the ends of a stretch other than those of the whole.
        found = resample_poly(samples, up, down, padtype="edge")[skip : skip + made]
        out[row, :made] = np.where(known[nearest], found, np.nan)
    return out
