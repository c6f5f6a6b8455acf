"""DICOM files with a word of its own in every place that holds one, and the search for them."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import zarr
from PIL import Image
from pydicom import config, dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from dicom2cache.schema import KEYWORDS
from tests.privacy.canary_objects import objects
from tests.support.dicom_files import CT_IMAGE, pattern, write_dicom

WORD, UID_ROOT = "QXCNRYZW", "1.2.826.0.1.3680043.10.77777."
_WORDS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_BYTES = {"OB", "OW", "OB or OW", "UN", "OL", "OV", "OF", "OD"}
_STRUCTURE = {  # of the pixels, or of the file
    "BitsAllocated", "BitsStored", "Columns", "HighBit", "NumberOfFrames", "PixelRepresentation",
    "PhotometricInterpretation", "PlanarConfiguration", "Rows", "SamplesPerPixel", "SOPClassUID",
    "SpecificCharacterSet",
}  # fmt: skip


@dataclass
class Canaries:
    """What was put where: {canary: keyword or what else it is}."""

    places: dict[str, str] = field(default_factory=dict)

    def word(self, where: str) -> str:
        """A new word, 13 characters, legal in all texts of DICOM."""
        made = f"{WORD}{len(self.places):05}"
        self.places[made] = where
        return made

    def uid(self, where: str) -> str:
        """A new UID."""
        made = f"{UID_ROOT}{len(self.places) + 100000}"
        self.places[made] = where
        return made

    def number(self, where: str, kind: str) -> str:
        """A new date, time, or number in text."""
        n = len(self.places)
        made = {
            "DA": f"18{n // 300 % 100:02}{n // 25 % 12 + 1:02}{n % 25 + 1:02}",
            "TM": f"235959.7{n:05}", "DT": f"18990101235959.7{n:05}", "IS": f"7{n:05}39",
            "DS": f"6{n:05}.739",
        }[kind]  # fmt: skip
        self.places.setdefault(made, where)
        return made

    def of(self, vr: str, where: str) -> Any:
        """A value for an element of this VR; None for what holds none."""
        if vr in _WORDS:
            return self.word(where)
        if vr in _BYTES:
            return self.word(where).encode().ljust(16)
        if vr == "UI":
            return self.uid(where)
        if vr in ("DA", "TM", "DT", "IS", "DS"):
            return self.number(where, vr)
        if vr == "SQ":
            return Sequence([self.nested(where)])
        return None

    def nested(self, where: str) -> Dataset:
        """An item of a sequence, and one within, with words in all that items are read for."""
        inner, item = Dataset(), Dataset()
        for keyword in (
            "CodeValue", "CodingSchemeDesignator", "CodeMeaning", "LUTExplanation", "SegmentLabel",
            "SegmentDescription", "OpticalPathIdentifier", "OpticalPathDescription", "RescaleType",
            "StackID", "PatientName", "FrameComments", "ReferencedSOPInstanceUID",
            "FrameAcquisitionDateTime", "FrameType", "Radiopharmaceutical",
            "WindowCenterWidthExplanation", "TextValue", "PersonName", "RequestedProcedureID",
        ):  # fmt: skip
            for ds in (inner, item) if where in KEYWORDS else (item,):
                vr = DicomDictionary[tag_for_keyword(keyword) or 0][0]
                setattr(ds, keyword, self.of(vr, where))
        item.ConceptNameCodeSequence = Sequence([inner])
        item.MeasurementUnitsCodeSequence = Sequence([inner])
        return item


def make(folder: Path) -> Canaries:
    """A tree of files below `folder`, with names that are canaries too."""
    before = config.settings.writing_validation_mode, config.settings.reading_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    config.settings.reading_validation_mode = config.IGNORE
    try:
        return _make(folder)
    finally:
        config.settings.writing_validation_mode, config.settings.reading_validation_mode = before


def _make(folder: Path) -> Canaries:
    found = Canaries()

    def path(ending: str = ".dcm") -> Path:
        return folder / found.word("folder name") / f"{found.word('file name')}{ending}"

    _every_element(found, path())
    _read_elements(found, folder / found.word("folder name"))
    _enhanced(found, path())
    jpeg, j2k = _codestreams(found)
    grey = pattern("coded", (16, 16), "uint8", 256)
    write_dicom(path(), grey, syntax=JPEGBaseline8Bit, encoded=[jpeg])
    write_dicom(path(), grey, syntax=JPEGBaseline8Bit, encoded=[jpeg[: len(jpeg) // 2]])
    write_dicom(path(), grey, syntax=JPEG2000Lossless, encoded=[j2k])
    write_dicom(path(), grey, syntax=JPEG2000Lossless, encoded=[b"\xff\x4f\xff\x51" + j2k[60:]])
    profile = found.word("ICC profile").encode() * 40
    write_dicom(path(), pattern("rgb", (8, 8, 3), "uint8", 256), ICCProfile=profile)
    whole = write_dicom(path(), pattern("tail", (8, 8)))
    data = bytearray(whole.read_bytes())
    data[: len(WORD) + 5] = found.word("preamble").encode()
    whole.write_bytes(bytes(data) + found.word("trailing bytes").encode())
    path().parent.mkdir(parents=True)
    copy = path()
    copy.parent.mkdir()
    copy.write_bytes(bytes(data))  # a duplicate
    text = path(".txt")
    text.parent.mkdir()
    text.write_text(f"no image, {found.word('a text file')}\n" * 40)
    cut = path()
    cut.parent.mkdir()
    cut.write_bytes(data[:400])
    pipe = path()
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    pipe.with_name(found.word("file name")).symlink_to(found.word("target of a link"))
    meta = path()
    write_dicom(meta, pattern("meta", (8, 8)), SOPInstanceUID=found.uid("SOPInstanceUID"))
    _replace(meta, ExplicitVRLittleEndian.encode(), found.uid("TransferSyntaxUID").encode())
    objects(found, folder)
    return found


def _every_element(found: Canaries, path: Path) -> None:
    """A file that is stored, with all elements of the dictionary that are not read."""
    ds: dict[str, Any] = {}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if not keyword or keyword in KEYWORDS or group < 8 or group in (0x7FE0, 0xFFFE, 0x5200):
            continue
        value = found.of(vr, keyword)
        if value is not None:
            ds[keyword] = DataElement(tag, vr.split(" or ")[0], value)
    write_dicom(path, pattern("every", (16, 16)), **ds)

    whole = dcmread(path)
    private = whole.private_block(0x0029, found.word("private creator"), create=True)
    for k, vr in enumerate(("LO", "UN", "PN", "OB", "UT", "DA", "UI", "SQ", "IS")):
        private.add_new(0x10 + k, vr, found.of(vr, f"private {vr}"))
    for group in (0x6000, 0x6002):
        for element, vr in ((0x0022, "LO"), (0x1500, "LO"), (0x4000, "LT")):
            whole.add_new((group, element), vr, found.word("overlay"))
    whole.add_new((0x6000, 0x3000), "OW", found.word("overlay data").encode().ljust(32))
    whole.add_new((0x5000, 0x0030), "LO", found.word("curve"))
    whole.add_new((0x0041, 0x1001), "UN", found.word("private without creator").encode() + b" ")
    whole.file_meta.ImplementationVersionName = found.word("ImplementationVersionName")
    whole.file_meta.SourceApplicationEntityTitle = found.word("SourceApplicationEntityTitle")
    whole.file_meta.PrivateInformationCreatorUID = found.uid("PrivateInformationCreatorUID")
    whole.file_meta.PrivateInformation = found.word("PrivateInformation").encode().ljust(12)
    whole.save_as(path)


def _read_elements(found: Canaries, folder: Path) -> None:
    """A file for each element that is read, with a canary there; most of them fail for it."""
    for keyword in KEYWORDS:
        tag = tag_for_keyword(keyword) or 0
        vr = DicomDictionary[tag][0]
        if vr == "SQ":
            values = [found.of("SQ", keyword)]
        elif vr == "UI":
            values = [found.uid(keyword), found.word(keyword)]
        elif vr in ("DA", "TM", "DT"):
            values = [found.number(keyword, vr), found.word(keyword)]
        else:  # where a number belongs, too
            values = [found.word(keyword)]
        for k, value in enumerate(values):
            kind = vr if vr == "SQ" else "LO"  # an implicit VR is what the dictionary says
            elements: dict[str, Any] = {
                "PatientID": found.word("PatientID"), "Modality": "CT", "SOPClassUID": CT_IMAGE,
                "SOPInstanceUID": found.uid("SOPInstanceUID"),
                keyword: DataElement(tag, kind, value),
            }  # fmt: skip
            write_dicom(
                folder / f"{found.word('file name')}_{k}.dcm",
                pattern(f"{keyword}{k}", (8, 8)),
                syntax=ImplicitVRLittleEndian,
                **elements,
            )


def _enhanced(found: Canaries, path: Path) -> None:
    """Two frames with functional groups."""
    groups = []
    for z in (0.0, 1.0):
        group = Dataset()
        group.FrameContentSequence = Sequence([found.nested("FrameContentSequence")])
        group.FrameContentSequence[0].FrameReferenceDateTime = found.number("frame", "DT")
        group.FrameContentSequence[0].FrameLabel = found.word("FrameLabel")
        place = Dataset()
        place.ImagePositionPatient = [0.0, 0.0, z]
        group.PlanePositionSequence = Sequence([place])
        rescale = Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = 2, 0
        rescale.RescaleType = found.word("RescaleType of a frame")
        group.PixelValueTransformationSequence = Sequence([rescale])
        window = Dataset()
        window.WindowCenter, window.WindowWidth = 40, 400
        window.WindowCenterWidthExplanation = found.word("explanation of a frame")
        group.FrameVOILUTSequence = Sequence([window])
        groups.append(group)
    write_dicom(
        path, pattern("enhanced", (2, 8, 8)), SOPClassUID=f"{CT_IMAGE}.1", Modality="CT",
        FrameOfReferenceUID=found.uid("FrameOfReferenceUID"),
        PerFrameFunctionalGroupsSequence=Sequence(groups),
        SharedFunctionalGroupsSequence=Sequence([found.nested("SharedFunctionalGroupsSequence")]),
    )  # fmt: skip


def _codestreams(found: Canaries) -> tuple[bytes, bytes]:
    """(JPEG, JPEG 2000) of 16 x 16 with comments and application data."""
    pixels, out = pattern("coded", (16, 16), "uint8", 256), io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = found.word("Exif description")
    Image.fromarray(pixels).save(
        out, "JPEG", comment=found.word("JPEG comment").encode(), exif=exif.tobytes(),
        icc_profile=found.word("ICC profile of a JPEG").encode() * 20,
    )  # fmt: skip
    j2k = imagecodecs.jpeg2k_encode(np.ascontiguousarray(pixels), level=0, codecformat="j2k")
    text = found.word("JPEG 2000 comment").encode()
    at = bytes(j2k).index(b"\xff\x52")
    comment = b"\xff\x64" + (len(text) + 4).to_bytes(2, "big") + b"\x00\x01" + text
    return out.getvalue(), bytes(j2k)[:at] + comment + bytes(j2k)[at:]


def _replace(path: Path, old: bytes, new: bytes) -> None:
    """Another value of an element of the file meta group, whose lengths follow."""
    data = path.read_bytes()
    at = data.index(old + b"\0")
    new += bytes(len(new) % 2)
    grown = len(new) - int.from_bytes(data[at - 2 : at], "little")
    head = data[: at - 2] + len(new).to_bytes(2, "little") + new
    rest = data[at + int.from_bytes(data[at - 2 : at], "little") :]
    whole = int.from_bytes(data[140:144], "little") + grown
    path.write_bytes(head[:140] + whole.to_bytes(4, "little") + head[144:] + rest)


def texts_of(cache: Path) -> Iterator[tuple[str, bytes]]:
    """(what it is, bytes) of a cache: files as they are, and what is compressed in them."""
    for path in sorted(cache.rglob("*")):
        name = path.relative_to(cache).as_posix()
        yield f"name {name}", name.encode()
        if not path.is_file():
            continue
        yield name, path.read_bytes()
        if path.suffix == ".parquet":
            yield f"values of {name}", repr(pq.read_table(path).to_pylist()).encode()
            yield f"metadata of {name}", repr(pq.read_metadata(path).to_dict()).encode()
        if path.name == "zarr.json" and path.parent != cache and ".spare" not in name:
            values: Any = zarr.open_array(path.parent, mode="r")[:]
            yield f"values of {name}", np.ascontiguousarray(values).tobytes()


def found_in(blobs: Iterable[tuple[str, bytes]], canaries: Canaries) -> dict[str, set[str]]:
    """{canary: where it is}; `form: ...` for one in another form than plain."""
    numbers = {c.encode() for c in canaries.places if not c.startswith((WORD, UID_ROOT))}
    plain = re.compile(rf"{WORD}\d{{5}}|{re.escape(UID_ROOT)}\d{{6}}".encode())
    result: dict[str, set[str]] = {}
    for name, data in blobs:
        seen = set(plain.findall(data)) | (set(re.findall(rb"\d[0-9.]{6,}", data)) & numbers)
        for canary in seen:
            result.setdefault(canary.decode(), set()).add(name)
        lower = data.lower()
        for form, prefix in FORMS:
            if prefix in (lower if form == "hex" else data):
                result.setdefault(f"form: {form}", set()).add(name)
    return result


def _forms() -> Iterator[tuple[str, bytes]]:
    for prefix in (WORD, UID_ROOT):
        yield "UTF-16", prefix.encode("utf-16-le")
        yield "UTF-16", prefix.encode("utf-16-be")
        yield "hex", prefix.encode().hex().encode()
        for shift in range(3):  # whole groups of three bytes, which do not hang on what is around
            coded = base64.b64encode(bytes(shift) + prefix.encode())
            yield "base64", coded[4 if shift else 0 : (shift + len(prefix)) // 3 * 4]


FORMS = tuple(_forms())
