"""Values of a pydicom Dataset, as plain Python: None where the header does not say.

pydicom raises on access for a value that is not legal: whatever the bytes provoke, of its own types
too. Where the value only describes, it is as good as absent; where decoding hangs on it, `required`
names the tag and what it holds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol, cast

from dicom2cache.errors import FrameError


class Dataset(Protocol):
    """What is read of a pydicom Dataset, of an item of a sequence, or of a Scan."""

    def get(self, key: Any, /) -> Any:
        """The value of an element, by keyword; None if absent. Raises if it is illegal."""

    def __contains__(self, key: Any, /) -> bool:
        """True if the element is there, by keyword or (group, element)."""

    def __getitem__(self, key: Any, /) -> Any:
        """The element, with its `value`, by (group, element)."""

    @property
    def original_encoding(self) -> tuple[bool | None, bool | None]:
        """(implicit VR, little endian) of the file."""

    @property
    def file_meta(self) -> Any:
        """Group 0002, of the dataset of a file."""


def value(ds: Dataset, keyword: str) -> Any:
    """The element's value; None if absent, empty or illegal."""
    try:
        found = ds.get(keyword)
    except MemoryError:
        raise
    except Exception:
        return None
    if found is None or type(found) is str:  # most
        return found or None
    return None if hasattr(found, "__len__") and len(found) == 0 else found


def is_many(found: Any) -> bool:
    """True for an element with several values; a person's name has a length, and is one."""
    if isinstance(found, str | bytes) or hasattr(found, "family_name"):
        return False
    return hasattr(found, "__len__")


def numbers(ds: Dataset, keyword: str) -> list[float]:
    """All values as finite floats; empty if one of them is not."""
    found = value(ds, keyword)
    if found is None:
        return []
    if type(found) is int:
        return [float(found)]
    if type(found) is float:
        return [found] if math.isfinite(found) else []
    try:
        result = [float(v) for v in (found if is_many(found) else [found])]
    except (ValueError, TypeError, OverflowError):
        return []
    return result if all(math.isfinite(v) for v in result) else []


def has_content(ds: Dataset, keyword: str) -> bool:
    """True if the element is there and not empty, be its value legal or not."""
    try:
        found = ds.get(keyword)
    except MemoryError:
        raise
    except Exception:
        return True
    return found is not None and (not hasattr(found, "__len__") or len(found) > 0)


def number(ds: Dataset, keyword: str) -> float | None:
    """The first value as a finite float."""
    found = numbers(ds, keyword)
    return found[0] if found else None


def decimal(ds: Dataset, keyword: str) -> float | None:
    """The one number of an element that pixel values hang on; None if absent or empty.

    Raises FrameError naming the tag and what it holds, if that is not one finite number.
    """
    try:
        found = ds.get(keyword)
        if found is None or (is_many(found) and not len(found)):
            return None
        if isinstance(found, str) and not found.strip(" \0"):
            return None
        made = float(found)
        if math.isfinite(made):
            return made
    except MemoryError:
        raise
    except Exception:
        pass
    raise FrameError(
        f"{name(keyword)} is {raw(ds, keyword)}; legal: one finite decimal number, such as -1024 "
        "or 1.5E-2 (PS3.5 6.2); correct it"
    )


def whole(ds: Dataset, keyword: str) -> int | None:
    """The first value as an int that fits 32 bits."""
    found = number(ds, keyword)
    if found is None or not found.is_integer() or abs(found) >= 1 << 31:
        return None
    return int(found)


def vector(ds: Dataset, keyword: str, length: int) -> list[float] | None:
    """Exactly `length` finite values."""
    found = numbers(ds, keyword)
    return found if len(found) == length else None


def has_items(found: Any) -> bool:
    """True for the value of a sequence, which any element may say that it is."""
    return is_many(found) and any(hasattr(v, "original_encoding") for v in found)


LONGEST = 1024
"""characters of a text: DICOM's have 64 mostly (PS3.5 6.2), and each frame of a file bears it"""


def text(ds: Dataset, keyword: str) -> str | None:
    """The value as text, several joined by a backslash, without padding; None for a sequence, and
    for what is longer than LONGEST."""
    found = value(ds, keyword)
    if type(found) is str:
        joined = found.strip(" \0")
    elif found is None or has_items(found):  # what is in its items is not for us to show
        return None
    elif is_many(found):
        joined = "\\".join(str(v).strip(" \0") for v in found)
    else:
        joined = str(found).strip(" \0")
    if len(joined) > LONGEST:
        return None
    if joined.isascii():
        return joined or None
    # A surrogate would not survive the way to Parquet.
    return joined.encode("utf-8", "replace").decode("utf-8") or None


def items(ds: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; empty if absent or not a sequence."""
    found = value(ds, keyword)
    return list(found) if has_items(found) else []


_BLOCKS = range(0x10, 0x100)


def private(
    ds: Dataset, creator: str, group: int, element: int, blocks: Sequence[int] = _BLOCKS
) -> Any:
    """The value of a private element, in whichever block its creator has (PS3.5 7.8.1); or None.

    Bytes where the file gives its VR as UN.
    """
    for block in blocks:
        if (group, block) in ds and _plain(ds, (group, block)).strip(" \0") == creator:
            tag = group, block << 8 | element
            try:
                return ds[tag].value if tag in ds else None
            except Exception:  # whatever pydicom raises for an illegal value: as good as absent
                return None
    return None


def _plain(ds: Dataset, tag: tuple[int, int]) -> str:
    try:
        found = ds[tag].value
    except Exception:  # as above
        return ""
    return found.decode("latin-1") if isinstance(found, bytes) else str(found)


def private_tags(group: int, *elements: int, blocks: Sequence[int] = _BLOCKS) -> set[int]:
    """Tags that a private element can have, with those of the creators of its group."""
    own = {group << 16 | block << 8 | element for block in blocks for element in elements}
    return own | {group << 16 | block for block in blocks}


def decimal_of(found: Any) -> float | None:
    """A private decimal as a finite float, text of VR UN too; None if it is none."""
    try:
        said = found.decode("ascii") if isinstance(found, bytes) else found
        made = float(said.strip(" \0") if isinstance(said, str) else said)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None
    return made if math.isfinite(made) else None


@lru_cache(maxsize=256)
def charset_is_unknown(said: str | None) -> bool:
    """True for a Specific Character Set that pydicom reads as its default instead."""
    if not said or said in ("ISO_IR 100", "ISO_IR 192"):  # most
        return False
    from pydicom.charset import convert_encodings

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            convert_encodings(said.split("\\") if said else [])
        except LookupError:
            return True
    return any("Unknown encoding" in str(warning.message) for warning in told)


def required(ds: Dataset, keyword: str, legal: str) -> int:
    """A whole number that decoding hangs on.

    Raises FrameError naming the tag, its value and what is legal.
    """
    found = whole(ds, keyword)
    if found is None:
        raise FrameError(f"{name(keyword)} is {raw(ds, keyword)}; legal: {legal}")
    return found


def name(keyword: str) -> str:
    """Keyword with its tag, such as Rows (0028,0010)."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    return keyword if tag is None else f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def raw(ds: Dataset, keyword: str) -> str:
    """What the element holds, for a message."""
    if keyword not in ds:
        return "absent"
    try:
        try:
            found = ds[keyword].value
        except Exception:  # whatever pydicom cannot read: the message must still be made
            found = cast(Any, ds).get_item(keyword).value  # as it lies in the file
    except Exception:
        return "not readable"
    if has_items(found):
        return "a sequence"
    if isinstance(found, bytes):
        found = found.decode("utf-8", "backslashreplace")
    return repr(found)[:80]
