"""The Siemens CSA header, pure: bytes of (0029,xx10) to values. There is no standard for it.

After nibabel's nicom/csareader.py (MIT) and "Siemens format DICOM with CSA header" in nibabel's
documentation. The bytes are whatever a file holds: each length is checked, and a header that does
not add up gives nothing at all, since what came before the fault may be as wrong.
"""

from __future__ import annotations

import math
import re
from struct import Struct
from typing import NamedTuple

Vector = tuple[float, ...]

_MOST_TAGS = _MOST_ITEMS = 1000
"""real headers have about 100 tags of up to 30 items"""
_counts = Struct("<II").unpack_from
_tag = Struct("<64si4siii")
_item = Struct("<iiii")
_is_name = re.compile(rb"[A-Za-z_][\w.\- ]{0,63}").fullmatch


class Csa(NamedTuple):
    """What is used of an image's CSA header; None where it does not say."""

    images_in_mosaic: int | None
    slice_normal: Vector | None
    """(3,) unit vector in patient coordinates (LPS), the way in which slices follow each other"""
    b_value: float | None
    """s/mm2"""
    gradient: Vector | None
    """(3,) Diffusion Gradient Direction, in patient coordinates (LPS)"""


def read_csa(data: bytes) -> Csa | None:
    """An image's CSA header (version 1 or 2); None if it is none, or contradicts itself."""
    values = csa_values(data)
    if values is None:
        return None

    def numbers(name: str, count: int) -> Vector | None:
        found = _numbers(values.get(name, ()))
        return found if len(found) == count else None

    images = numbers("NumberOfImagesInMosaic", 1)
    b_value = numbers("B_value", 1)
    return Csa(
        int(images[0]) if images and images[0] > 0 and images[0].is_integer() else None,
        numbers("SliceNormalVector", 3),
        b_value[0] if b_value and b_value[0] >= 0 else None,
        numbers("DiffusionGradientDirection", 3),
    )


def csa_values(data: bytes) -> dict[str, tuple[str, ...]] | None:
    """{name: its values as text} of a CSA header; None if it is none, or contradicts itself."""
    second = data.startswith(b"SV10")
    at = 8 if second else 0  # after the mark, 4 bytes that nobody has explained
    if len(data) < at + 8:
        return None
    tags, _ = _counts(data, at)
    if not 0 < tags <= _MOST_TAGS:
        return None
    at += 8
    values: dict[str, tuple[str, ...]] = {}
    surplus = 0
    for number in range(tags):
        if at + _tag.size > len(data):
            return None
        name, multiplicity, _, _, items, _ = _tag.unpack_from(data, at)
        name, at = name.split(b"\0")[0], at + _tag.size
        if not (_is_name(name) and 0 <= items <= _MOST_ITEMS):
            return None
        if number == 0:
            surplus = items  # of version 1, whose lengths are too large by that
        texts: list[str] = []
        for _ in range(items):
            if at + _item.size > len(data):
                return None
            short, long, _, _ = _item.unpack_from(data, at)
            length, at = long if second else short - surplus, at + _item.size
            if length < 0 or at + length > len(data):
                if second:
                    return None
                break  # of version 1: no more items; the next tag follows
            texts.append(data[at : at + length].split(b"\0")[0].decode("latin-1").strip())
            at += length + -length % 4
        count = multiplicity if multiplicity > 0 else len(texts)
        values.setdefault(name.decode(), tuple(texts[:count]))
    return values


def _numbers(texts: tuple[str, ...]) -> Vector:
    """The finite numbers up to the first empty text; none if a text is no number."""
    found = []
    for text in texts:
        if not text:
            break
        try:
            found.append(float(text))
        except ValueError:
            return ()
    return tuple(found) if all(map(math.isfinite, found)) else ()
