"""Columns of frames/ that a user names by their DICOM elements: which, and of which type.

An element is a keyword (`SeriesDescription`), a tag (`(0018,1030)`), or a private one with its
creator (`(0019,"SIEMENS MR HEADER",0C)`, as PS3.15 writes it, or `SIEMENS MR HEADER (0019,xx0C)`);
a VR behind it says what a private element has that the dictionary does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from dicom2cache.errors import RecipeError, meant
from dicom2cache.recipes.limits import Limits
from dicom2cache.schema import COLUMNS

REALS = frozenset({"DS", "FD", "FL"})
WHOLES = frozenset({"IS", "US", "SS", "UL", "SL", "UV", "SV"})
TEXTS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI",
                    "UR", "UT"})  # fmt: skip
_SAYS_LITTLE = REALS | WHOLES | {"CS"}
"""VRs that hold numbers, or words that the standard lists"""
_MOST = 100
"""columns"""
_NAMES_NOBODY = frozenset({
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel",
    "SequenceName", "PulseSequenceName", "ReceiveCoilName", "TransmitCoilName", "FilterType",
    "RescaleType", "SOPClassUID", "ImagedNucleus", "WindowCenterWidthExplanation",
})  # fmt: skip
"""texts and UIDs of a machine and of what it does: not in the profile of PS3.15 E.1"""
_OF_A_PERSON = frozenset({
    "PatientSex", "PatientSize", "PatientWeight", "PatientSexNeutered", "PregnancyStatus",
    "SmokingStatus", "PatientBodyMassIndex", "MeasuredAPDimension", "MeasuredLateralDimension",
    "ResponsiblePersonRole", "TypeOfPatientID", "NumberOfPatientRelatedStudies",
    "LensSpecification", "ModifyingDeviceID", "ReasonForTheAttributeModification",
    "InstanceOriginStatus",
})  # fmt: skip
"""numbers and codes about one: in the profile, or as telling"""
_TELLING = (range(0x00160070, 0x00160090), range(0x00720000, 0x00730000))
"""where a photograph was taken (GPS), and values of any element that a selector repeats"""
_ABOUT_ONE = re.compile(r"(?i)patient|physician|operator|\bids?\b|date|time stamp|serial|accession")
"""what private dictionaries call numbers that may tell of a person, or of a visit"""
_TAG = r"\(?\s*([0-9A-Fa-f]{4})\s*,\s*"
_PLAIN = re.compile(rf"{_TAG}([0-9A-Fa-f]{{4}})\s*\)?")
_QUOTED = re.compile(rf'{_TAG}["\']([^"\']+)["\']\s*,\s*(?:xx)?([0-9A-Fa-f]{{2}})\s*\)?')
_BEFORE = re.compile(rf"([^(]+?)\s*[:,]?\s*{_TAG}xx([0-9A-Fa-f]{{2}})\s*\)?")
_BEHIND = re.compile(rf"{_TAG}xx([0-9A-Fa-f]{{2}})\s*\)?\s*[:,]?\s*(.+)")


@dataclass(frozen=True)
class Own:
    """A column of the user's."""

    name: str
    """of the column"""
    keyword: str
    """of the element; empty for one that has none"""
    tag: int
    """of a private element with a creator, of its block 00"""
    creator: str
    vr: str
    many: bool
    """a list, since the dictionary says that it may have several values"""
    identifying: bool
    """it may tell who a person is"""

    @property
    def tags(self) -> frozenset[int]:
        """Where it may lie: of a private one, with its creator, in each block (PS3.5 7.8.1)."""
        if not self.creator:
            return frozenset({self.tag})
        group = self.tag & 0xFFFF0000
        blocks = range(0x10, 0x100)
        return frozenset(group | b for b in blocks) | {self.tag | b << 8 for b in blocks}


@dataclass(frozen=True)
class Reading(Limits):
    """What is read of a header: limits, and the elements of the user's columns."""

    own: tuple[Own, ...] = ()
    agreed: bool = False
    """that these may hold what tells who a person is"""


@cache
def own_of(said: tuple[str, ...]) -> tuple[Own, ...]:
    """The columns that texts name. Raises RecipeError for what names none, or two alike."""
    if len(said) > _MOST:
        raise RecipeError(f"recipe: columns: {len(said)}; legal: up to {_MOST}")
    found = tuple(map(_own, said))
    known = {c.name.lower() for c in COLUMNS}
    for k, one in enumerate(found):
        if one.name.lower() in known:
            raise RecipeError(
                f"recipe: columns has {said[k]!r}: there is a column {one.name} already; leave it "
                "out"
            )
        known.add(one.name.lower())
    return found


def check_columns(columns: Any, identifying: Any) -> tuple[str, ...]:
    """The columns as a recipe records them.

    Raises RecipeError for what is no list of elements, and for those that may tell who a person is
    unless `identifying` says that they are wanted all the same.
    """
    if not isinstance(identifying, bool):
        raise RecipeError(f"recipe: identifying = {identifying!r}; legal: true or false")
    if not isinstance(columns, list | tuple) or not all(isinstance(c, str) for c in columns):
        raise RecipeError(
            f'recipe: columns = {columns!r}; legal: a list of elements, such as ["SeriesDescription'
            '", "(0018,1030)"]'
        )
    said = tuple(c.strip() for c in columns)
    telling = [text for text, one in zip(said, own_of(said), strict=True) if one.identifying]
    if telling and not identifying:
        raise RecipeError(
            f"recipe: columns has {', '.join(telling)}, which may tell who a person is (PS3.15 "
            "E.1: names, dates, UIDs, free text; a private element, unless its creator is said and "
            "the dictionary knows that it is a number); leave them out or say identifying = true "
            "(--identifying) if the cache may hold that"
        )
    return said


def _own(said: str) -> Own:
    text, vr = said.strip(), ""
    if word := re.fullmatch(r"(.*\S)[\s:]+([A-Z]{2})", text):
        text, vr = word[1], word[2]
        if vr not in REALS | WHOLES | TEXTS:
            raise RecipeError(f"recipe: columns has {said!r}: {vr} is no VR of a number or a text")
    if found := _PLAIN.fullmatch(text):
        return _of_tag(said, int(found[1] + found[2], 16), vr)
    if found := _QUOTED.fullmatch(text):
        return _private(said, found[1], found[2], found[3], vr)
    if found := _BEFORE.fullmatch(text):
        return _private(said, found[2], found[1], found[3], vr)
    if found := _BEHIND.fullmatch(text):
        return _private(said, found[1], found[3], found[2], vr)
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(text) if text else None
    if tag is None:
        raise RecipeError(
            f"recipe: columns has {said!r}, which is no element; legal: a keyword such as "
            'SeriesDescription, a tag such as (0018,1030), or (0019,"SIEMENS MR HEADER",0C)'
            f"{meant(text, _keywords())}"
        )
    return _of_tag(said, int(tag), vr)


@cache
def _keywords() -> tuple[str, ...]:
    from pydicom.datadict import keyword_dict

    return tuple(keyword_dict)


def _of_tag(said: str, tag: int, vr: str) -> Own:
    """One of the dictionary, or a private one in a certain block, of whichever creator."""
    from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag

    group = tag >> 16
    if group < 8 or group in (0x7FE0, 0xFFFA, 0xFFFC, 0xFFFE) or 0x5000 <= group < 0x5100:
        raise RecipeError(
            f"recipe: columns has {said!r}; legal: elements of a header, from (0008,xxxx)"
        )
    if group % 2:
        # of whichever creator: nobody knows what it holds
        name = f"tag_{group:04x}_{tag & 0xFFFF:04x}"
        return Own(name, "", tag, "", vr or "UN", False, True)
    try:
        known, many = dictionary_VR(tag), dictionary_VM(tag) != "1"
    except KeyError:
        raise RecipeError(
            f"recipe: columns has {said!r}, which the standard does not have"
        ) from None
    vr = "US" if known.startswith("US or") and "OW" not in known else known
    if vr not in REALS | WHOLES | TEXTS:
        raise RecipeError(
            f"recipe: columns has {said!r}, of VR {known}; legal: elements that hold numbers or "
            "text, and no sequences or bytes"
        )
    keyword = keyword_for_tag(tag)
    tells = (vr not in _SAYS_LITTLE and keyword not in _NAMES_NOBODY) or keyword in _OF_A_PERSON
    tells = tells or any(tag in some for some in _TELLING)
    return Own(keyword, keyword, tag, "", vr, many, tells)


def _private(said: str, group: str, creator: str, element: str, vr: str) -> Own:
    from pydicom.datadict import private_dictionary_VR

    number, low, creator = int(group, 16), int(element, 16), creator.strip(" \"'")
    if number % 2 == 0 or number < 9 or not 0 < len(creator) <= 64:
        raise RecipeError(f"recipe: columns has {said!r}; legal: a private group is odd, from 0009")
    tag = number << 16 | low
    try:
        known = private_dictionary_VR(tag | 0x1000, creator)
    except KeyError:
        known = "UN"
    tells = (
        known not in REALS | WHOLES or _ABOUT_ONE.search(_private_name(tag, creator)) is not None
    )
    if not vr:
        vr = known if known in REALS | WHOLES | TEXTS else "UN"
    words = re.sub(r"[^a-z0-9]+", "_", creator.lower()).strip("_")
    name = f"tag_{number:04x}_xx{low:02x}_{words}"
    return Own(name, "", tag, creator, vr, False, tells or vr not in REALS | WHOLES)


def _private_name(tag: int, creator: str) -> str:
    from pydicom.datadict import private_dictionary_description

    try:
        return str(private_dictionary_description(tag | 0x1000, creator))
    except KeyError:
        return ""
