"""What a file may ask for: weighed from its header, before anything is allocated for it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from dicom2cache.errors import RecipeError, meant


@dataclass(frozen=True)
class Limits:
    """The most that one file may ask for; what is above is a failure that names its setting.

    Raises RecipeError, when made, for a value that is not legal.
    """

    frame_pixels: int = 1 << 28
    """Rows x Columns, of the file and as stored"""
    frames: int = 1_000_000
    """of a file"""
    expansion: int = 2000
    """bytes of decoded pixels that each byte of a file with codestreams may claim"""
    inflate: int = 200
    """bytes that each byte of a file with a deflated dataset may inflate to"""
    inflate_mib: int = 4096
    """MiB that a deflated dataset may inflate to"""
    archive_members: int = 2_000_000
    """members of an archive"""
    header_mib: int = 256
    """MiB that may lie before the pixel data"""
    header_items: int = 2_000_000
    """items of all sequences of a header, those within items too"""
    frame_seconds: int = 120
    """for one frame, from its bytes to the chunk that is stored"""
    header_seconds: int = 60
    """for one header"""
    waveform_values: int = 1 << 30
    """channels x samples of a multiplex group: a day of 12 channels at 1,000 Hz, 4 bytes each"""

    def __post_init__(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 48:
                raise RecipeError(
                    f"recipe: limits.{name} = {value!r}; legal: a whole number from 1 to 2^48"
                )

    @classmethod
    def of(cls, said: Any, base: Limits | None = None) -> Limits:
        """The limits that a table, or texts NAME=NUMBER, say; the others as in `base`."""
        if isinstance(said, Limits):
            return said
        if isinstance(said, list | tuple):
            pairs = [str(text).partition("=") for text in said]
            said = {name: int(n) if n.isdecimal() else n for name, _, n in pairs}
        if not isinstance(said, dict):
            raise RecipeError(f"recipe: limits = {said!r} must be a table")
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(said) - set(names))
        if unknown:
            raise RecipeError(
                f"recipe: unknown {', '.join(unknown)} in limits; legal: {', '.join(names)}, each "
                f"with a whole number{meant(unknown[0], names)}"
            )
        return dataclasses.replace(base or cls(), **said)


_NAMES = tuple(field.name for field in dataclasses.fields(Limits))
