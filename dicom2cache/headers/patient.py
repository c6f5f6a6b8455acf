"""What of a patient is kept as it is: the age in years."""

from __future__ import annotations


def age_in_years(said: str | None) -> float | None:
    """Years from an Age String such as 034Y, 018M, 006W, 003D (PS3.5 6.2)."""
    per_year = {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}
    if not said or not 2 <= len(said) <= 16 or not said[:-1].isdecimal():
        return None
    unit = per_year.get(said[-1].upper())
    return None if unit is None else int(said[:-1]) / unit
